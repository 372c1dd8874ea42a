/** `zrs pack`: drops history and garbage from a database that nobody has open. */

import { object } from "@optique/core/constructs";
import { commandLine, lineBreak, message } from "@optique/core/message";
import { optional, withDefault } from "@optique/core/modifiers";
import { argument, command, constant, flag, option } from "@optique/core/primitives";
import { NotFoundError, UsageError } from "../errors.ts";
import { type PackReport, packStorage, Storage } from "../filestorage/mod.ts";
import type { Host } from "../host/mod.ts";
import { ReferenceScanner } from "../pickle/mod.ts";
import { describeTid, formatTid, formatTidTime, NO_TID, tidOfTime } from "../zodb/mod.ts";
import type { ExitCode } from "./exit_codes.ts";
import { interruptible } from "./interruptible.ts";
import { usageLine } from "./options.ts";
import { ProgressLine } from "./progress_line.ts";
import { formatBytes } from "./quantities.ts";
import { days, file, moment } from "./values.ts";

export interface PackCommand {
  readonly command: "pack";
  readonly dataFs: string;
  /** History of so many days is left as it is. */
  readonly days?: number | undefined;
  /** The tid that history is packed up to. */
  readonly to?: bigint | undefined;
  readonly noGc: boolean;
  readonly noKeepOld: boolean;
  readonly json: boolean;
  readonly quiet: boolean;
}

const DAY_MS = 86_400_000;

const DOING = {
  reading: "reading history",
  searching: "searching what is reachable",
  copying: "copying",
} as const;

export const packParser = command(
  "pack",
  object({
    command: constant("pack"),
    dataFs: argument(file("DATA_FS"), {
      description: message`The database, which nobody may have open for writing.`,
      errors: { endOfInput: message`Missing DATA_FS, the path of the database` },
    }),
    days: optional(option("--days", days(), {
      description: message`Keep the history of the last N days (default: none).`,
    })),
    to: optional(option("--to", moment(), {
      description:
        message`Keep the history behind this time: ISO 8601, local time without a zone; or behind this tid.`,
    })),
    noGc: withDefault(
      flag("--no-gc", {
        description: message`Drop old revisions only, and no object, even if nothing refers to it.`,
      }),
      false,
    ),
    noKeepOld: withDefault(
      flag("--no-keep-old", { description: message`Do not keep the unpacked file as DATA_FS.old.` }),
      false,
    ),
    json: withDefault(flag("--json", { description: message`Write the result as one JSON object.` }), false),
    quiet: withDefault(
      flag("-q", "--quiet", { description: message`Write nothing unless it fails.` }),
      false,
    ),
  }),
  {
    brief: message`Drop old revisions and garbage from a database.`,
    description:
      message`Keeps of the history of DATA_FS, up to now or to the given moment, only what was current then and could be reached from the root object; what is later stays as it is. The packed file is made beside DATA_FS and takes its place in one step. What later transactions undo or refer to again is kept.`,
    footer: message`Example:${lineBreak()}  ${commandLine("zrs pack /srv/zope/var/Data.fs --days 7")}`,
    usageLine: usageLine(),
  },
);

/** Packs, and says what that changed. @throws ZrsError: the database is as it was then */
export async function runPack(options: PackCommand, host: Host): Promise<ExitCode> {
  const { dataFs } = options;
  const stop = stopOf(options, host);
  if (host.disk.status(dataFs) === undefined) {
    throw new NotFoundError(`Cannot pack ${dataFs}: there is no such file`, { path: dataFs });
  }
  return await interruptible(
    host,
    "zrs pack",
    `Stopped: ${dataFs} has not been packed, nor changed`,
    async (signal) => {
      const report = await pack(options, host, stop, signal);
      if (options.json) host.out(`${JSON.stringify(factsOf(dataFs, report))}\n`);
      else if (!options.quiet) host.out(`${describe(dataFs, report)}\n`);
    },
  );
}

async function pack(
  { dataFs, noGc, noKeepOld }: PackCommand,
  host: Host,
  stop: bigint,
  signal: AbortSignal,
): Promise<PackReport> {
  const pause = () => new Promise<void>((resolve) => void host.clock.schedule(0, resolve));
  await using storage = await Storage.open(host.disk, dataFs, { pause, signal });
  using progress = new ProgressLine(host, DOING, ["searching"]);
  return await packStorage(host.disk, storage, {
    stop,
    findReferences: noGc ? undefined : findReferences,
    keepOld: !noKeepOld,
    patience: { pause, signal },
    warn: (message) => host.err(`${message}\n`),
    progress: (done) => progress.show(done),
  });
}

function findReferences(data: Uint8Array, found: (oidHigh: number, oidLow: number) => void): void {
  SCANNER.scan(data, 0, data.length);
  const { references } = SCANNER;
  for (let i = 0; i < references.length; i += 2) found(references[i]!, references[i + 1]!);
}

const SCANNER = new ReferenceScanner();

/** @throws UsageError */
function stopOf({ days, to }: PackCommand, host: Host): bigint {
  const nowMs = host.clock.now();
  if (days !== undefined && to !== undefined) {
    throw new UsageError("Cannot use both --days and --to", { hint: "Say in one way up to when to pack" });
  }
  if (to === undefined) return tidOfTime(nowMs - (days ?? 0) * DAY_MS);
  if (to > tidOfTime(nowMs)) {
    throw new UsageError(`Cannot pack to ${formatTidTime(to)}: that is in the future`, {
      hint: "Name a time that has passed",
    });
  }
  return to;
}

function describe(dataFs: string, report: PackReport): string {
  const { isPacked, tid, bytesBefore, bytesAfter, keptAs } = report;
  if (!isPacked) return `${dataFs}: there is nothing to drop up to then; nothing has been changed`;
  const saved = bytesBefore === 0 ? 0 : Math.round((bytesBefore - bytesAfter) * 100 / bytesBefore);
  const old = keptAs === undefined ? "" : `; the unpacked file is kept as ${keptAs}`;
  return `${dataFs} is packed up to ${describeTid(tid)}: ${formatBytes(bytesAfter)} of ` +
    `${formatBytes(bytesBefore)} are left, ${saved} % less, in ${report.transactionsAfter} of ` +
    `${report.transactionsBefore} transactions${old}`;
}

function factsOf(dataFs: string, report: PackReport) {
  const { isPacked, tid, bytesBefore, bytesAfter, transactionsBefore, transactionsAfter, keptAs } = report;
  return {
    path: dataFs,
    packed: isPacked,
    tid: tid === NO_TID ? null : formatTid(tid),
    time: tid === NO_TID ? null : formatTidTime(tid),
    bytesBefore,
    bytesAfter,
    ...(isPacked && { transactionsBefore, transactionsAfter }),
    keptAs: keptAs ?? null,
  };
}
