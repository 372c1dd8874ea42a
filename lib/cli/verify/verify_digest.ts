/** The digest of a database's history, for two sites to compare without a connection: `zrs verify --digest`. */

import { UsageError } from "../../errors.ts";
import { digestHistory, type HistoryDigest, spokenDigest, startOf } from "../../filestorage/mod.ts";
import type { Host } from "../../host/mod.ts";
import { pauser } from "../../replica/mod.ts";
import { describeTid, formatTid, NO_TID } from "../../zodb/mod.ts";
import { openHistory } from "../open_history.ts";
import { ProgressLine } from "../progress_line.ts";

export interface VerifyDigestOptions {
  readonly dataFs: string;
  /** From this tid, or the next one that there is, on; default: from the first transaction. */
  readonly since?: bigint | undefined;
  /** Up to this transaction, which must be there; default: the last one. */
  readonly to?: bigint | undefined;
  readonly json?: boolean | undefined;
}

/**
 * Writes the digest to standard output, with the stretch that it covers and what it can be compared with.
 * @throws UsageError where there is no such transaction; CorruptError, DiskError
 */
export async function verifyDigest(options: VerifyDigestOptions, host: Host): Promise<HistoryDigest> {
  const { dataFs, since, to, json } = options;
  using history = await openHistory(host, dataFs);
  if (history.damage !== undefined && (to === undefined || to > history.lastTid)) throw history.damage;
  const through = to ?? history.lastTid;
  const from = await startOf(history, since);
  using line = new ProgressLine(host, { digest: "digesting" });
  const letOthersRun = pauser(host.clock);
  const found = await digestHistory(history, { from, through }, async (position) => {
    line.show({ doing: "digest", done: position, total: history.end });
    await letOthersRun();
  });
  line.hide();
  if (to !== undefined && found.lastTid !== to) {
    throw new UsageError(
      `Cannot digest ${dataFs} up to ${describeTid(to)}: it has no such transaction there`,
      {
        hint:
          `zrs log ${dataFs} shows which there are; a copy that lags gets it later, a pack may have removed it`,
      },
    );
  }
  host.out(json ? `${JSON.stringify(factsOf(found))}\n` : linesOf(found, since));
  return found;
}

function factsOf({ digest, transactions, firstTid, lastTid, isPacked, unpackedSince }: HistoryDigest) {
  return {
    digest,
    spoken: spokenDigest(digest),
    transactions,
    firstTid: tidOrNull(firstTid),
    lastTid: tidOrNull(lastTid),
    packed: isPacked,
    unpackedSince: tidOrNull(unpackedSince),
  };
}

function tidOrNull(tid: bigint): string | null {
  return tid === NO_TID ? null : formatTid(tid);
}

function linesOf(found: HistoryDigest, since: bigint | undefined): string {
  const { digest, transactions, firstTid, lastTid, isPacked, unpackedSince } = found;
  const lines = [
    `digest        ${spokenDigest(digest)}`,
    `up to         ${describeTid(lastTid)}`,
    `from          ${since === undefined ? "the beginning, " : ""}${describeTid(firstTid)}`,
    `transactions  ${transactions}`,
    `SHA-256       ${digest}`,
  ];
  if (isPacked) {
    lines.push(
      "This stretch has been packed: another copy has the same digest only if it was packed likewise. " +
        (unpackedSince === NO_TID
          ? "Nothing behind the pack can be compared yet"
          : `What follows the pack can be compared with any copy: --since ${formatTid(unpackedSince)}`),
    );
  }
  return `${lines.join("\n")}\n`;
}
