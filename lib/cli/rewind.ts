/**
 * `zrs rewind`: makes a transaction the last one of a database again, and keeps what came after it. Which one is
 * said by whoever calls, or by a source of which the database is to be a replica.
 */

import { object } from "@optique/core/constructs";
import { commandLine, lineBreak, message } from "@optique/core/message";
import { optional } from "@optique/core/modifiers";
import { command, constant, option } from "@optique/core/primitives";
import { UsageError } from "../errors.ts";
import {
  checkNotWithinPack,
  checkRoomForRewind,
  listTransactions,
  planRewind,
  type Readable,
  refusePending,
  type RewindPlan,
  rewindStorage,
  Storage,
} from "../filestorage/mod.ts";
import type { Host } from "../host/mod.ts";
import type { Address } from "../ports/mod.ts";
import { countOf } from "../replica/mod.ts";
import { describeTid, NO_TID } from "../zodb/mod.ts";
import { Listing } from "./listing.ts";
import { openHistory } from "./open_history.ts";
import { askingOptions, dataFsArgument, type TlsOptions, toggle } from "./options.ts";
import { askSource } from "./rewind_source.ts";
import { address, tid } from "./values.ts";

export interface RewindCommand extends TlsOptions {
  readonly command: "rewind";
  readonly dataFs: string;
  /** What shall be the last transaction. */
  readonly to?: bigint | undefined;
  /** Who knows. */
  readonly from?: Address | undefined;
  /** Holds the secret of all nodes. */
  readonly authFile?: string | undefined;
  readonly dryRun: boolean;
  readonly yes: boolean;
}

/** So many of the transactions that go are shown, the newest. */
const SHOWN = 20;

export const rewindParser = command(
  "rewind",
  object({
    command: constant("rewind"),
    dataFs: dataFsArgument("database", message`The database, which nobody may have open for writing.`),
    to: optional(option("--to", tid(), {
      description:
        message`The transaction that shall be the last: 16 hexadecimal digits, or 0 to leave none.`,
    })),
    from: optional(option("--from", address("connect"), {
      description:
        message`Ask this primary or secondary, of zrs, for the last transaction that both have, and rewind to that.`,
    })),
    dryRun: toggle("--dry-run", message`Show what would go, and change nothing.`),
    yes: toggle("--yes", message`Do not ask; needed where nobody is at a terminal to answer.`),
    ...askingOptions("source"),
  }),
  {
    brief: message`Take back the last transactions of a database.`,
    description:
      message`Makes an earlier transaction the last one of DATA_FS again, as for a replica that its primary refuses as ahead or forked. What goes is shown first, and kept in DATA_FS.rewound-TID, a database file of its own.`,
    footer: message`Example:${lineBreak()}  ${
      commandLine("zrs rewind /srv/replica/Data.fs --to 03f5945817777777")
    }${lineBreak()}  ${
      commandLine("zrs rewind /srv/replica/Data.fs --from db1.example.com:5000")
    }${lineBreak()}${commandLine("zrs log DATA_FS")} shows the transactions that there are.`,
    usageLine: [{
      type: "sequence",
      terms: [
        { type: "argument", metavar: "DATA_FS" },
        {
          type: "exclusive",
          terms: [
            [{ type: "option", names: ["--to"], metavar: "TID" }],
            [{ type: "option", names: ["--from"], metavar: "ADDR" }],
          ],
        },
        { type: "multiple", min: 0, terms: [{ type: "argument", metavar: "OPTION" }] },
      ],
    }],
  },
);

/** Shows, asks and rewinds. @throws ZrsError */
export async function runRewind(options: RewindCommand, host: Host): Promise<void> {
  const { disk } = host;
  const { dataFs, dryRun, yes } = options;
  checkTarget(options);
  let to: bigint | undefined;
  {
    // Whoever only looks, or asked for what cannot be done, touches nothing: not even the lock.
    using history = await openHistory(host, dataFs);
    if (history.damage !== undefined) throw history.damage;
    refusePending(disk, dataFs);
    to = options.to ?? await askSource(options.from!, history, options, host);
    if (to === undefined) return;
    const plan = await planRewind(disk, history, to);
    checkNotWithinPack(history, plan);
    if (dryRun) return await showPlan(host, history, plan, "would");
  }
  await using storage = await Storage.open(disk, dataFs);
  const { cut } = storage.report;
  if (cut?.savedTo !== undefined) {
    host.err(`Cut off ${cut.bytes} bytes behind the last whole transaction, saved in ${cut.savedTo}\n`);
  }
  const plan = await planRewind(disk, storage, to);
  checkNotWithinPack(storage, plan);
  await showPlan(host, storage, plan, "will");
  if (plan.transactions === 0) return;
  checkRoomForRewind(disk, plan);
  if (!yes) askFor(host, dataFs);
  const { savedTo, transactions, tid } = await rewindStorage(disk, storage, to);
  const now = tid === NO_TID ? "has no transactions any more" : `ends with ${describeTid(tid)}`;
  host.out(`${dataFs} ${now}; ${countOf(transactions)} saved in ${savedTo}\n`);
}

/** @throws UsageError unless there is one thing that says where to rewind to */
function checkTarget({ to, from, authFile, tlsCert, tlsKey, tlsCa, tlsName }: RewindCommand): void {
  if ((to === undefined) === (from === undefined)) {
    throw new UsageError(
      to === undefined ? "Missing option --to or --from" : "Cannot use both --to and --from",
      {
        hint: "Give the transaction that shall be the last, or the source that knows",
      },
    );
  }
  const isSecured = [authFile, tlsCert, tlsKey, tlsCa, tlsName].some((each) => each !== undefined);
  if (from === undefined && isSecured) {
    throw new UsageError("Cannot use --auth-file or --tls-… with --to: there is no connection", {
      hint: "Give them with --from only",
    });
  }
}

async function showPlan(host: Host, log: Readable, plan: RewindPlan, mode: "will" | "would"): Promise<void> {
  const { path } = log;
  const { tid, transactions, bytes, firstTid, lastTid, savedTo } = plan;
  if (transactions === 0) {
    host.out(`${path} ends with ${describeTid(tid)} already: there is nothing to take back\n`);
    return;
  }
  const target = tid === NO_TID ? "its beginning" : describeTid(tid);
  const range = transactions === 1
    ? describeTid(firstTid)
    : `${describeTid(firstTid)} to ${describeTid(lastTid)}`;
  host.out(
    `Rewinding ${path} to ${target} ${mode === "will" ? "takes" : "would take"} back ` +
      `${countOf(transactions)}, ${bytes} bytes: ${range}\n`,
  );
  const listing = new Listing(host, log, { records: false, json: false });
  const last = Math.min(SHOWN, transactions);
  if (transactions > last) host.out(`The last ${last} of them:\n`);
  try {
    for await (const entry of listTransactions(log, { since: firstTid, last })) listing.add(entry);
  } finally {
    listing.flush();
  }
  host.out(`They ${mode} be saved in ${savedTo}\n`);
}

/** @throws UsageError unless the answer is yes */
function askFor(host: Host, dataFs: string): void {
  const answer = host.ask(`Rewind ${dataFs}? [y/N] `);
  if (answer === undefined) {
    throw new UsageError(`Cannot ask whether to rewind ${dataFs}: nobody is at a terminal`, {
      hint: "Give --yes to rewind it as shown",
    });
  }
  if (/^y(es)?$/i.test(answer)) return;
  throw new UsageError(`Did not rewind ${dataFs}: the answer was no, and nothing has been changed`);
}
