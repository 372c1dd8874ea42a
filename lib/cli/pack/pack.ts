/** `zrs pack`: drops history and garbage from a database, or has the node that has it open do so. */

import { object } from "@optique/core/constructs";
import { commandLine, lineBreak, message } from "@optique/core/message";
import { optional, withDefault } from "@optique/core/modifiers";
import { command, constant, option } from "@optique/core/primitives";
import { LockedError, NotFoundError, UsageError } from "../../errors.ts";
import {
  BlobDirectory,
  keepForSecondaries,
  MissingBlobs,
  type PackProgress,
  type PackReport,
  packStorage,
  readKnownSecondaries,
  Storage,
} from "../../filestorage/mod.ts";
import type { Host } from "../../host/mod.ts";
import { politePauser } from "../../replica/mod.ts";
import { describeTid, formatTidTime, NO_TID, tidOfTime, timeOfTid } from "../../zodb/mod.ts";
import { UnreachableError } from "../control/control_client.ts";
import { findSocket } from "../control/control_place.ts";
import type { ExitCode } from "../exit_codes.ts";
import { interruptible } from "../interruptible.ts";
import { askedControlOption, dataFsArgument, toggle, usageLine } from "../options.ts";
import { findReferences } from "./pack_references.ts";
import { askToPack, factsOf, type PackListener, type PackPlan } from "./pack_request.ts";
import { ProgressLine } from "../progress_line.ts";
import { formatBytes } from "../quantities.ts";
import { days, file, moment } from "../values.ts";

export interface PackCommand {
  readonly command: "pack";
  readonly dataFs: string;
  /** History of so many days is left as it is. */
  readonly days?: number | undefined;
  /** The tid that history is packed up to. */
  readonly to?: bigint | undefined;
  readonly noGc: boolean;
  readonly noKeepOld: boolean;
  /** Where the database's blobs lie. */
  readonly blobDir?: string | undefined;
  /** Who was not heard of for so many days is not regarded. */
  readonly keepFor: number;
  readonly ignoreSecondaries: boolean;
  /** Where the node that has the database open listens; undefined: where it does unless told otherwise. */
  readonly control?: string | undefined;
  readonly json: boolean;
  readonly quiet: boolean;
}

const DAY_MS = 86_400_000;

const DOING = {
  reading: "reading history",
  searching: "searching what is reachable",
  copying: "copying",
  clearing: "clearing blobs away",
} as const;

export const packParser = command(
  "pack",
  object({
    command: constant("pack"),
    dataFs: dataFsArgument(
      "database",
      message`The database. Nobody but a zrs node may have it open for writing; a node packs it while it goes on.`,
    ),
    days: optional(option("--days", days(), {
      description: message`Keep the history of the last N days (default: none).`,
    })),
    to: optional(option("--to", moment(), {
      description:
        message`Keep the history behind this time: ISO 8601, local time without a zone; or behind this tid.`,
    })),
    noGc: toggle("--no-gc", message`Drop old revisions only, and no object, even if nothing refers to it.`),
    noKeepOld: toggle("--no-keep-old", message`Do not keep the unpacked file as DATA_FS.old.`),
    blobDir: optional(option("--blob-dir", file("DIR"), {
      description:
        message`The blob directory: files of dropped revisions go, or are kept in DIR.old beside the unpacked file. A node that packs knows its own.`,
    })),
    keepFor: withDefault(
      option("--keep-for", days(), {
        description:
          message`Keep what secondaries still need that were heard of in the last N days; they are remembered in DATA_FS.secondaries.`,
      }),
      7,
      { message: message`7` },
    ),
    ignoreSecondaries: toggle("--ignore-secondaries", message`Pack whatever secondaries still need.`),
    control: askedControlOption(),
    json: toggle("--json", message`Write the result as one JSON object.`),
    quiet: toggle(["-q", "--quiet"], message`Write nothing unless it fails.`),
  }),
  {
    brief: message`Drop old revisions and garbage from a database.`,
    description:
      message`Keeps of the history of DATA_FS, up to now or to the given moment, only what was current then and could be reached from the root object; what is later stays as it is. The packed file is made beside DATA_FS and takes its place in one step. What later transactions undo or refer to again is kept.`,
    footer: message`Example:${lineBreak()}  ${commandLine("zrs pack /srv/zope/var/Data.fs --days 7")}`,
    usageLine: usageLine(),
  },
);

/**
 * Packs, and says what that changed; where a node has the file open, the node does it.
 * @throws ZrsError: the database is as it was then
 */
export async function runPack(options: PackCommand, host: Host): Promise<ExitCode> {
  const { dataFs, noGc, noKeepOld, blobDir, control } = options;
  const keepForMs = options.ignoreSecondaries ? undefined : options.keepFor * DAY_MS;
  const plan = { stop: stopOf(options, host), gc: !noGc, keepOld: !noKeepOld, keepForMs, blobDir, control };
  if (host.disk.status(dataFs) === undefined) {
    throw new NotFoundError(`Cannot pack ${dataFs}: there is no such file`, { path: dataFs });
  }
  let words = `Stopped: ${dataFs} has not been packed, nor changed`;
  return await interruptible(host, "zrs pack", () => words, async (signal) => {
    let report: PackReport;
    {
      using progress = new ProgressLine(host, DOING, ["searching"]);
      const listener = {
        signal,
        warn: (message: string) => host.err(`${message}\n`),
        progress: (done: PackProgress) => progress.show(done),
      };
      report = await pack(host, dataFs, plan, listener, () => {
        words =
          `Stopped: the node that has ${dataFs} open leaves it unpacked, unless that was done; its log says`;
      });
    }
    if (options.json) host.out(`${JSON.stringify(factsOf(dataFs, report))}\n`);
    else if (!options.quiet) host.out(`${describe(dataFs, report)}\n`);
  });
}

/** @param asking told when a node is to do it */
async function pack(
  host: Host,
  dataFs: string,
  plan: PackPlan & { readonly blobDir: string | undefined; readonly control: string | undefined },
  listener: PackListener,
  asking: () => void,
): Promise<PackReport> {
  if (host.disk.status(dataFs)?.kind === "socket") {
    asking();
    return await askToPack(host, dataFs, plan, listener);
  }
  try {
    return await packHere(host, dataFs, plan, listener);
  } catch (error) {
    if (!(error instanceof LockedError)) throw error;
    const socket = plan.control ?? findSocket(dataFs, host.disk);
    if (socket === undefined) {
      throw new LockedError(error.message, {
        ...error.facts,
        hint: "stop the other process, or give --control where the node that has it open was given that",
      });
    }
    asking();
    try {
      return await askToPack(host, socket, plan, listener);
    } catch (unreachable) {
      throw unreachable instanceof UnreachableError ? error : unreachable; // a killed node has left its socket
    }
  }
}

async function packHere(
  host: Host,
  dataFs: string,
  { stop: wanted, gc, keepOld, keepForMs, blobDir }: PackPlan & { readonly blobDir: string | undefined },
  { signal, warn, progress }: PackListener,
): Promise<PackReport> {
  const pause = politePauser(host.clock);
  const blobs = blobDir === undefined ? undefined : BlobDirectory.open(host.disk, blobDir);
  await using storage = await Storage.open(host.disk, dataFs, { pause, signal });
  const { stop, keptFor } = keepForMs === undefined
    ? { stop: wanted, keptFor: undefined }
    : keepForSecondaries(wanted, readKnownSecondaries(host.disk, dataFs), host.clock.now() - keepForMs);
  const report = await packStorage(host.disk, storage, {
    stop,
    findReferences: gc ? findReferences : undefined,
    keepOld,
    blobs,
    missing: blobs && await MissingBlobs.open(host.disk, dataFs, blobs, storage.lastTid),
    patience: { pause, signal },
    warn,
    progress,
  });
  return { ...report, keptFor };
}

/** @throws UsageError */
function stopOf({ days, to }: PackCommand, host: Host): bigint {
  const nowMs = host.clock.now();
  if (days !== undefined && to !== undefined) {
    throw new UsageError("Cannot use both --days and --to", { hint: "Say in one way up to when to pack" });
  }
  // However many days: before 1900 there is no tid.
  if (to === undefined) return tidOfTime(Math.max(nowMs - (days ?? 0) * DAY_MS, timeOfTid(NO_TID)));
  if (to > tidOfTime(nowMs)) {
    throw new UsageError(`Cannot pack to ${formatTidTime(to)}: that is in the future`, {
      hint: "Name a time that has passed",
    });
  }
  return to;
}

function describe(dataFs: string, report: PackReport): string {
  const { isPacked, tid, bytesBefore, bytesAfter, keptAs, keptFor, blobsDropped } = report;
  const blobs = blobsDropped === undefined
    ? ""
    : `; ${blobsDropped === 1 ? "1 blob" : `${blobsDropped} blobs`} dropped`;
  const kept = keptFor === undefined
    ? ""
    : `; kept from ${describeTid(keptFor.tid)} on for secondary ${
      printable(keptFor.name)
    }, which had no more by ` +
      `${new Date(keptFor.heardMs).toISOString()} (--ignore-secondaries)`;
  if (!isPacked) return `${dataFs}: there is nothing to drop up to then; nothing has been changed${kept}`;
  const saved = bytesBefore === 0 ? 0 : Math.round((bytesBefore - bytesAfter) * 100 / bytesBefore);
  const old = keptAs === undefined ? "" : `; the unpacked file is kept as ${keptAs}`;
  return `${dataFs} is packed up to ${describeTid(tid)}: ${formatBytes(bytesAfter)} of ` +
    `${formatBytes(bytesBefore)} are left, ${saved} % less, in ${report.transactionsAfter} of ` +
    `${report.transactionsBefore} transactions${blobs}${old}${kept}`;
}

/** What a peer calls itself cannot talk to the terminal. */
function printable(name: string): string {
  return name.slice(0, 200).replace(/\p{Cc}/gu, "?");
}
