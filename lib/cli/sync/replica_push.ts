/**
 * `zrs replica-sync --push DATA_FS [USER@]HOST:PATH`: a copy on another machine is brought up to date from here, by
 * zrs there, over ssh. What zrs there says of it is what is said here.
 */

import {
  CorruptError,
  DiskError,
  DivergedError,
  type Facts,
  LockedError,
  UnavailableError,
  UsageError,
  type ZrsError,
} from "../../errors.ts";
import type { Host, SystemLog } from "../../host/mod.ts";
import {
  HistoriesDifferError,
  inOneLine,
  lowerFirst,
  type PushEnd,
  pushFar,
  STDIO_NAME,
} from "../../replica/mod.ts";
import { formatTid } from "../../zodb/mod.ts";
import { EXIT } from "../exit_codes.ts";
import { escapeControls } from "../listing.ts";
import { blobOptions } from "../options.ts";
import { ProgressLine } from "../progress_line.ts";
import type { ReplicaSyncCommand, Step } from "./replica_sync.ts";
import { describePlan, type Plan } from "./replica_sync_plan.ts";
import { describeReport, readDivergence, readReport, reportFacts } from "./replica_sync_report.ts";
import { mayAsk } from "./ssh_place.ts";
import { readFarPlace, sourceBlobs } from "./sync_source_option.ts";
import { SOFTWARE } from "../version.ts";

/** A source that is packed again and again while it is copied is given up after so many conversations. */
const MOST_CONVERSATIONS = 5;

/** What zrs there writes to standard error for programs, as one line. */
type Told = Readonly<Record<string, unknown>>;

/**
 * Pushes until the copy there is complete, and says so.
 * @throws ZrsError of the kind that zrs there has ended with; the signal's reason
 */
export async function pushReplica(
  options: ReplicaSyncCommand,
  host: Host,
  log: SystemLog,
  signal: AbortSignal,
): Promise<void> {
  using progress = new ProgressLine(host, { push: "pushing" });
  const converse = converser(options, host, log, progress, signal);
  const check = await compare(options, converse);
  let step: Step = "copy";
  for (let conversations = 1;; conversations++) {
    const { end, told } = await converse(step);
    if (end.code === EXIT.ok) {
      if (end.problem === undefined) return tell(options, host, { ...told, check });
      throw new UnavailableError(
        `Cannot push all of ${options.source}: ${end.problem}; all before that has been pushed`,
        { path: options.source, hint: "look at the source: zrs verify tells more about a damaged file" },
      );
    }
    const again = told?.["again"];
    if (!isStep(again) || conversations >= MOST_CONVERSATIONS) throw failureOf(options, end, told);
    if (again === "anew") {
      log.warning(`${options.dataFs}: ${wordsOf(options, told)}; making a complete new copy`);
    }
    step = again;
  }
}

/** A conversation with zrs there: how that has ended, and what it has told. */
interface Answer {
  readonly end: PushEnd;
  readonly told: Told | undefined;
}

/** @param isDry whether nothing is to be written there, whatever was asked for */
type Converse = (step: Step, isDry?: boolean) => Promise<Answer>;

function converser(
  options: ReplicaSyncCommand,
  host: Host,
  log: SystemLog,
  progress: ProgressLine<"push">,
  signal: AbortSignal,
): Converse {
  const place = readFarPlace(options.dataFs, options.ssh, host);
  const { disk, network, clock, random, processes } = host;
  const ports = { disk, network, clock, random, processes, log };
  return async (step, isDry = options.dryRun) => {
    const end = await pushFar(ports, place, {
      path: options.source,
      ...blobOptions(options),
      sourceBlobDir: sourceBlobs(options.source, options).blobDir,
      mayAsk: mayAsk(host),
      farArguments: farArgumentsOf({ ...options, step, dryRun: isDry }),
      compress: options.compress,
      bytesPerSecond: options.bwlimit,
      software: SOFTWARE,
      signal,
      onWritten: (bytes) => progress.show({ doing: "push", done: bytes, total: undefined }),
      ...(options.farZrs !== undefined && { zrs: options.farZrs }),
    });
    progress.hide();
    for (const line of end.lines.filter(isWarning)) host.err(`${escapeControls(line)}\n`);
    return { end, told: toldBy(end) };
  };
}

/**
 * Lets zrs there compare the copy's past with the file here.
 * @returns what it tells of that
 * @throws ZrsError of the kind that it has ended with
 */
async function compare(options: ReplicaSyncCommand, converse: Converse): Promise<unknown> {
  const { end, told } = await converse("check");
  if (end.code === EXIT.ok) return told?.["check"];
  // Where the ends of the histories tell already that they differ, that says it better.
  const better = end.code === EXIT.diverged ? await converse("copy", true) : undefined;
  if (better?.end.code === EXIT.diverged) throw failureOf(options, better.end, better.told);
  throw failureOf(options, end, told);
}

function isStep(again: unknown): again is Step {
  return again === "copy" || again === "records" || again === "anew";
}

function farArgumentsOf(options: ReplicaSyncCommand): string[] {
  const { until, repack, keepOld, check, dryRun, step, missingBlobs } = options;
  return [
    "--json",
    ...["--check", check],
    ...(step === undefined ? [] : ["--step", step]),
    ...(until === undefined ? [] : ["--until", formatTid(until)]),
    ...(repack ? ["--repack"] : []),
    ...(keepOld ? ["--keep-old"] : []),
    ...(dryRun ? ["--dry-run"] : []),
    ...(missingBlobs === undefined ? [] : ["--missing-blobs", missingBlobs]),
  ];
}

/** Says what zrs there has said, with the names that both ends have here. */
function tell(options: ReplicaSyncCommand, host: Host, told: Told): void {
  const { source, dataFs, json, quiet } = options;
  if (options.dryRun) {
    if (json) host.out(`${JSON.stringify({ ...told, source, dataFs })}\n`);
    else if (!quiet) host.out(`${describePlan(planOf(told), dataFs, source, String(told["until"]))}\n`);
    return;
  }
  const report = readReport(told);
  if (report === undefined) {
    throw new UnavailableError(`Cannot tell what has become of ${dataFs}: zrs there says nothing of it`, {
      hint: "install the same version of zrs at both ends",
    });
  }
  if (json) host.out(`${JSON.stringify(reportFacts(options, report))}\n`);
  else if (!quiet) host.out(`${describeReport(options, report)}\n`);
}

function planOf({ would, bytes }: Told): Plan {
  const count = typeof bytes === "number" ? bytes : undefined;
  if (would === "append") return { kind: "append", bytes: count };
  return would === "new copy" ? { kind: "new copy", bytes: count ?? 0 } : { kind: "nothing" };
}

/** The object that zrs there has written; undefined where it has not. */
function toldBy({ lines }: PushEnd): Told | undefined {
  for (const line of lines.toReversed()) {
    if (!line.startsWith("{")) continue;
    try {
      return JSON.parse(line);
    } catch {
      // A line that only looks like one.
    }
  }
  return undefined;
}

/** Whether it is a line of the log there that matters to whoever reads only what is wrong. */
function isWarning(line: string): boolean {
  return /^\S+ (WARNING|ERROR) /.test(line);
}

/** What zrs there calls its failure; the source has its name here only. */
function wordsOf({ source }: ReplicaSyncCommand, told: Told | undefined): string | undefined {
  const error = told?.["error"];
  if (typeof error !== "string") return undefined;
  const words = error.replace(`Cannot copy from ${STDIO_NAME}: `, "").replaceAll(STDIO_NAME, source);
  return escapeControls(lowerFirst(words));
}

function failureOf(options: ReplicaSyncCommand, end: PushEnd, told: Told | undefined): ZrsError {
  const { dataFs, source } = options;
  const { hint } = told ?? {};
  const words = wordsOf(options, told) ?? inOneLine(end.lines) ?? "";
  const how = end.code === undefined ? "zrs there was stopped" : `zrs there ended with exit code ${end.code}`;
  const message = escapeControls(`Cannot push ${source} to ${dataFs}: ${words === "" ? how : words}`);
  const facts: Facts = typeof hint === "string"
    ? { hint: escapeControls(hint.replaceAll(STDIO_NAME, source)) }
    : {};
  switch (end.code) {
    case EXIT.usage:
      return new UsageError(message, facts);
    case EXIT.diverged: {
      const divergence = readDivergence(told?.["divergence"]);
      return divergence === undefined
        ? new DivergedError(message, facts)
        : new HistoriesDifferError(message, divergence, facts);
    }
    case EXIT.locked:
      return new LockedError(message, facts);
    case EXIT.disk:
      return new DiskError(message, facts);
    case EXIT.corrupt:
      return new CorruptError(message, facts);
    default:
      return new UnavailableError(message, facts);
  }
}
