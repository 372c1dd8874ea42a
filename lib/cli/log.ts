/** `zrs log`: the transactions of a database, newest last. */

import { object } from "@optique/core/constructs";
import { commandLine, lineBreak, message, text } from "@optique/core/message";
import { optional } from "@optique/core/modifiers";
import { command, constant, option } from "@optique/core/primitives";
import { UnavailableError } from "../errors.ts";
import { listTransactions, openWithPending } from "../filestorage/mod.ts";
import type { Host } from "../host/mod.ts";
import { Listing } from "./listing.ts";
import { openHistory } from "./open_history.ts";
import { readDataFs, toggle, usageLine } from "./options.ts";
import { moment, oid, wholeNumber } from "./values.ts";
import { tellWaiting } from "./waiting_note.ts";

export interface LogCommand {
  readonly command: "log";
  readonly dataFs: string;
  readonly last?: number | undefined;
  /** The tid at which the list begins. */
  readonly since?: bigint | undefined;
  readonly oid?: bigint | undefined;
  /** Also what waits beside the database to be applied. */
  readonly pending: boolean;
  readonly records: boolean;
  readonly json: boolean;
}

/** What fits on one screen. */
const DEFAULT_LAST = 20;

export const logParser = command(
  "log",
  object({
    command: constant("log"),
    dataFs: readDataFs,
    last: optional(option("--last", wholeNumber(), {
      description: message`Show only the newest N (default: 20, or all with --since).`,
    })),
    since: optional(option("--since", moment(), {
      description:
        message`Show those from this time on: ISO 8601, local time without a zone; or from this tid on.`,
    })),
    oid: optional(option("--oid", oid(), {
      description: message`Show those that touch this object: 16 hexadecimal digits, or a decimal number.`,
    })),
    pending: toggle(
      "--pending",
      message`Show also what a secondary with ${text("--apply-delay")} has received and not applied yet.`,
    ),
    records: toggle("--records", message`Show each record: its object, class, and length of data.`),
    json: toggle("--json", message`Write one JSON object per transaction, a line each.`),
  }),
  {
    brief: message`Show the transactions of a database.`,
    description:
      message`Shows the transactions of DATA_FS, newest last: tid, time, how many records and bytes, user and description. Reads only, takes no lock, and can stand beside whoever writes the database.`,
    footer: message`Example:${lineBreak()}  ${
      commandLine("zrs log /srv/zope/var/Data.fs --since 2026-01-31T18:00 --records")
    }`,
    usageLine: usageLine(),
  },
);

/** Writes the list. @throws ZrsError; CorruptError after what could be read */
export async function runLog(options: LogCommand, host: Host): Promise<void> {
  const { dataFs, since, oid, records, json } = options;
  const last = options.last ?? (since === undefined ? DEFAULT_LAST : undefined);
  using history = options.pending
    ? await openWithPending(host.disk, dataFs)
    : await openHistory(host, dataFs);
  const listing = new Listing(host, history, { records, json });
  let count = 0;
  try {
    try {
      for await (const entry of listTransactions(history, { last, since, oid })) {
        listing.add(entry);
        count++;
      }
    } finally {
      listing.flush();
    }
  } catch (error) {
    if (error instanceof UnavailableError) return; // whoever reads the list has seen enough, as in `| head`
    throw error;
  }
  if (history.damage !== undefined) throw history.damage;
  if (!options.pending) tellWaiting(host, dataFs, history.end, "--pending shows them");
  if (count === 0 && !json) {
    const none = since === undefined && oid === undefined ? "has no transactions" : "has no such transaction";
    host.err(`${dataFs} ${none}\n`);
  }
}
