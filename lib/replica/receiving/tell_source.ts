/** What a secondary's log says of a source that does not send it what it wants. */
import type { ZrsError } from "../../errors.ts";
import { SecretError } from "../../native/mod.ts";
import type { Log } from "../../ports/mod.ts";
import { describeTid, formatTid } from "../../zodb/mod.ts";
import { sentence } from "../sending/feed.ts";
import { isDivergence } from "../lineage/histories.ts";

/** @param lastTid the replica's last transaction */
export function tellRefusal(log: Log, source: string, lastTid: bigint, failure: ZrsError): void {
  const message = sentence(failure);
  if (failure instanceof SecretError) return log.error(`${source}: ${message}`);
  log.error(
    isDivergence(message)
      ? `${source} refuses this replica: ${message}; nothing was changed. ` +
        `Compare the last transactions of both files (zrs log); zrs rewind takes back those that the source ` +
        `lacks, or begin anew with an empty replica`
      : `${source} cannot go on behind ${describeTid(lastTid)}: ${message}`,
    { tid: formatTid(lastTid) },
  );
}

/** @param tid up to where the source has packed its file */
export function tellPacked(log: Log, source: string, tid: bigint): void {
  log.info(
    `${source} has packed its file up to ${describeTid(tid)}; this replica keeps what it has until it is ` +
      `packed itself`,
    { tid: formatTid(tid) },
  );
}

/**
 * @param count so many connections in a row have brought nothing
 * @param why a sentence without its end
 */
export function tellFruitless(
  log: Log,
  source: string,
  lastTid: bigint,
  count: number,
  why: string,
): void {
  log.error(
    `${source} has ended ${count} connections in a row without sending a transaction after ` +
      `${describeTid(lastTid)}. ${why}. Look into the log of the source`,
    { tid: formatTid(lastTid), count },
  );
}
