/**
 * `zrs promote`: makes a replica with a delay ready to be opened by whoever takes it over. What waits is applied, all
 * of it or up to just before a transaction, and the rest is kept beside it.
 */

import { object } from "@optique/core/constructs";
import { commandLine, lineBreak, message, text } from "@optique/core/message";
import { optional } from "@optique/core/modifiers";
import { command, constant, option } from "@optique/core/primitives";
import { LockedError, ProtocolError, UsageError, type ZrsError } from "../errors.ts";
import {
  DelayedStorage,
  listTransactions,
  openWithPending,
  planPromotion,
  promote,
  type PromotionPlan,
  type Readable,
} from "../filestorage/mod.ts";
import type { Host } from "../host/mod.ts";
import { countOf } from "../replica/mod.ts";
import { describeTid, formatTid, NO_TID } from "../zodb/mod.ts";
import { ask, UnreachableError } from "./control/control_client.ts";
import { controlPathOf } from "./control/control_place.ts";
import { isObject } from "./control/control_protocol.ts";
import { Listing } from "./listing.ts";
import { openHistory } from "./open_history.ts";
import { askedControlOption, dataFsArgument, toggle, usageLine } from "./options.ts";
import { moment } from "./values.ts";

export interface PromoteCommand {
  readonly command: "promote";
  readonly dataFs: string;
  /** The tid from which on nothing is applied. */
  readonly before?: bigint | undefined;
  readonly all: boolean;
  /** Where the secondary that keeps the copy listens; undefined: where it does unless told otherwise. */
  readonly control?: string | undefined;
  readonly dryRun: boolean;
  readonly yes: boolean;
}

/** So many of the transactions that are not applied are shown, the oldest: there the mistake is. */
const SHOWN = 20;

export const promoteParser = command(
  "promote",
  object({
    command: constant("promote"),
    dataFs: dataFsArgument(
      "copy",
      message`The copy. A secondary that keeps it is asked to promote it, and stops.`,
    ),
    before: optional(option("--before", moment(), {
      description:
        message`Apply what comes before this transaction, or before this time (ISO 8601, local without a zone).`,
    })),
    all: toggle("--all", message`Apply all that has been received.`),
    control: askedControlOption(),
    dryRun: toggle("--dry-run", message`Show what would be done, and change nothing.`),
    yes: toggle("--yes", message`Do not ask; without ${text("--before")} all is applied.`),
  }),
  {
    brief: message`Make a copy ready to be opened in place of the original.`,
    description: message`Applies to DATA_FS what a secondary with ${
      text("--apply-delay")
    } has received and not applied yet: all of it, or what came before a mistake. The rest is kept in DATA_FS.rewound-TID, a database file of its own. Then the index is saved, and ZODB, ZEO or zrs can open DATA_FS. A secondary that is running does that itself, and stops.`,
    footer: message`Example:${lineBreak()}  ${
      commandLine("zrs promote /srv/replica/Data.fs --before 2026-01-31T10:00")
    }${lineBreak()}${commandLine("zrs log DATA_FS --pending")} shows the transactions that there are.`,
    usageLine: usageLine(),
  },
);

/** Shows, asks where nothing was said, and promotes. @throws ZrsError */
export async function runPromote(options: PromoteCommand, host: Host): Promise<void> {
  const { disk } = host;
  const { dataFs, before, all, dryRun, yes } = options;
  if (before !== undefined && all) {
    throw new UsageError("Cannot use both --before and --all", { hint: "Give one of them" });
  }
  {
    // Whoever only looks, or asked for what cannot be done, touches nothing: not even the lock.
    using applied = await openHistory(host, dataFs);
    using received = await openWithPending(disk, dataFs);
    const damage = applied.damage ?? received.damage;
    if (damage !== undefined) throw damage;
    const plan = await planPromotion(disk, received, applied.end, before);
    if (dryRun) return await showPlan(host, received, plan, "would");
  }
  await using storage = await open(host, options);
  if (storage === undefined) return await promoteRunning(options, host);
  const { received, applied } = storage;
  const plan = await planPromotion(disk, received, applied.end, before);
  await showPlan(host, received, plan, "will");
  if (plan.applied.bytes > 0 && before === undefined && !all && !yes) askFor(host, dataFs);
  await promote(disk, storage, plan);
  tellDone(host, dataFs, applied.lastTid, plan.kept.transactions, plan.savedTo);
}

function tellDone(
  host: Host,
  dataFs: string,
  lastTid: bigint,
  keptTransactions: number,
  savedTo: string,
): void {
  const kept = keptTransactions === 0 ? "" : `; ${countOf(keptTransactions)} saved in ${savedTo}`;
  const end = lastTid === NO_TID ? "has no transactions" : `ends with ${describeTid(lastTid)}`;
  host.out(`${dataFs} ${end}, and is ready to be opened${kept}\n`);
}

/**
 * Asks the node that keeps the copy to promote it. It may have received more by then than has been shown: so it is
 * asked also where nothing waits.
 * @throws LockedError when no node has it; UnavailableError where it does not, or goes before it has answered
 */
async function promoteRunning(options: PromoteCommand, host: Host): Promise<void> {
  const { dataFs, before, all, yes } = options;
  const { disk } = host;
  {
    using applied = await openHistory(host, dataFs);
    using received = await openWithPending(disk, dataFs);
    const plan = await planPromotion(disk, received, applied.end, before);
    await showPlan(host, received, plan, "will");
    if (before === undefined && !all && !yes) askFor(host, dataFs);
  }
  const socket = socketOf(host, options);
  host.err(`zrs promote: asking the node that keeps ${dataFs} to promote it, and to stop\n`);
  const request = { request: "promote", ...(before !== undefined && { before: formatTid(before) }) };
  const { lastTid, kept, savedTo } = await ask(host, socket, request, { timeoutMs: Infinity })
    .catch((error) => {
      throw error instanceof UnreachableError ? locked(dataFs, error) : error;
    });
  const transactions = isObject(kept) ? kept.transactions : undefined;
  if (typeof lastTid !== "string" || !/^[0-9a-f]{16}$/.test(lastTid) || typeof transactions !== "number") {
    throw new ProtocolError(`Cannot understand what answers at ${socket}: that is no answer to promote`, {
      path: socket,
      hint: "see the log of the node, and promote when it has stopped",
    });
  }
  tellDone(host, dataFs, BigInt(`0x${lastTid}`), transactions, String(savedTo));
}

/** Where a node that keeps the copy listens. */
function socketOf({ disk }: Host, { dataFs, control }: PromoteCommand): string {
  return control ?? controlPathOf(disk.realPath(dataFs));
}

/** @returns undefined where a node keeps it that can be asked */
async function open(host: Host, options: PromoteCommand): Promise<DelayedStorage | undefined> {
  const { disk } = host;
  const { dataFs } = options;
  try {
    return await DelayedStorage.open(disk, dataFs);
  } catch (error) {
    if (!(error instanceof LockedError)) throw error;
    if (disk.status(socketOf(host, options))?.kind === "socket") return undefined;
    throw locked(
      dataFs,
      error,
      "stop whoever has it, as a rule zrs secondary, or give --control where the node that has it open was given that",
    );
  }
}

function locked(
  dataFs: string,
  cause: ZrsError,
  hint = "stop whoever has it, as a rule zrs secondary, and promote it then; zrs status names the process",
): LockedError {
  return new LockedError(`Cannot promote ${dataFs}: ${cause.message}`, {
    path: dataFs,
    cause,
    hint,
  });
}

async function showPlan(
  host: Host,
  received: Readable,
  { applied, kept, savedTo }: PromotionPlan,
  mode: "will" | "would",
): Promise<void> {
  const { path } = received;
  if (applied.transactions + kept.transactions === 0) {
    host.out(`${path} has all that was received: nothing waits\n`);
    return;
  }
  const from = applied.transactions === 0 ? "" : `, from ${describeTid(applied.firstTid)} on`;
  host.out(`To be applied: ${countOf(applied.transactions)}, ${applied.bytes} bytes${from}\n`);
  if (kept.transactions === 0) return;
  host.out(`Not to be applied: ${countOf(kept.transactions)}, ${kept.bytes} bytes:\n`);
  const listing = new Listing(host, received, { records: false, json: false });
  let shown = 0;
  try {
    for await (const entry of listTransactions(received, { since: kept.firstTid })) {
      if (shown++ === SHOWN) break;
      listing.add(entry);
    }
  } finally {
    listing.flush();
  }
  if (kept.transactions > SHOWN) host.out(`and ${kept.transactions - SHOWN} more\n`);
  host.out(`They ${mode} be saved in ${savedTo}\n`);
}

/** @throws UsageError unless the answer is yes */
function askFor(host: Host, dataFs: string): void {
  const answer = host.ask(`Apply all of it to ${dataFs}? [y/N] `);
  if (answer === undefined) {
    throw new UsageError(`Cannot ask whether to apply all to ${dataFs}: nobody is at a terminal`, {
      hint: "Give --all, or --before the transaction that shall not be applied",
    });
  }
  if (/^y(es)?$/i.test(answer)) return;
  throw new UsageError(`Did not promote ${dataFs}: the answer was no, and nothing has been changed`, {
    hint: "Give --before the transaction that shall not be applied",
  });
}
