/** `zrs replica-sync --dry-run`: both ends are compared, and nothing is written, not even a lock. */

import { DivergedError, UnavailableError, UsageError } from "../../errors.ts";
import {
  FIRST_POSITION,
  Generation,
  type History,
  type LogView,
  type Readable,
} from "../../filestorage/mod.ts";
import type { Host } from "../../host/mod.ts";
import type { ReadableFile } from "../../ports/mod.ts";
import {
  checkHistory,
  compareFarFile,
  divergenceFound,
  divergenceOf,
  FAR_CHECK_OBSTACLE,
  FarFileSource,
  FarSource,
  findFarEnd,
  type HistoryCheck,
  notComparable,
  type Ports,
  queryLineage,
  type Secret,
  type SyncSource,
  type Verdict,
} from "../../replica/mod.ts";
import { describeTid, formatTid, NO_TID } from "../../zodb/mod.ts";
import { openHistory } from "../open_history.ts";
import { formatBytes } from "../quantities.ts";
import { checkFacts } from "./replica_sync_report.ts";
import { SOFTWARE } from "../version.ts";

interface Asked {
  readonly dataFs: string;
  readonly until?: bigint | undefined;
  readonly repack: boolean;
  readonly check: HistoryCheck["kind"];
  readonly json: boolean;
  readonly quiet: boolean;
}

/** What would be done. */
export type Plan =
  | { readonly kind: "nothing" }
  /** @param bytes undefined where the files lie differently */
  | { readonly kind: "append"; readonly bytes: number | undefined }
  | { readonly kind: "new copy"; readonly bytes: number };

/** Shows what would be done. @throws DivergedError, UsageError, and as `queryLineage` or `compareFarFile` */
export async function planSync(
  options: Asked,
  source: SyncSource | FarSource,
  secret: Secret | undefined,
  ports: Ports & { readonly host: Host },
  say: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const { dataFs } = options;
  const { host } = ports;
  using history = await openCopy(dataFs, host);
  const copy = copyOf(dataFs, history);
  const { lastTid, end } = copy;
  const reached = source instanceof FarSource ? await source.reach(signal) : source;
  const offer = reached instanceof FarFileSource
    ? await compareByTools(options, reached, copy, ports)
    : await compareByStream(options, reached, copy, secret, ports, signal);
  tell(options, source, offer, plan(options, source, offer, lastTid, end), say);
}

/** `--step check`: compares, and tells what was compared. @throws as `checkHistory` */
export async function tellCheck(
  { dataFs, check: kind }: Asked,
  source: SyncSource,
  ports: Ports & { readonly host: Host },
  say: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  using history = await openCopy(dataFs, ports.host);
  const how = { software: SOFTWARE, kind };
  const check = await checkHistory(ports, source, copyOf(dataFs, history), how, signal);
  say(`${JSON.stringify({ check: checkFacts(check) })}\n`);
}

/** A replica as it is compared. */
type Copy = Readable & { readonly view: LogView };

/** @returns undefined where there is none */
async function openCopy(dataFs: string, host: Host): Promise<History | undefined> {
  if (host.disk.status(dataFs) === undefined) return undefined;
  const history = await openHistory(host, dataFs);
  if (history.damage === undefined) return history;
  history[Symbol.dispose]();
  throw history.damage;
}

function copyOf(path: string, history: History | undefined): Copy {
  const { lastTid, end, file } = history ?? EMPTY;
  return { path, file, end, lastTid, view: { generation: new Generation(0, file), lastTid, end } };
}

/** What a source would send. */
type Offer = Pick<Extract<Verdict, { kind: "welcome" }>, "fit" | "lastTid" | "end"> & {
  /** Whether only bytes can be appended, as they lie there. */
  readonly isBytes: boolean;
  readonly check: HistoryCheck;
};

/** @throws DivergedError, and as `queryLineage` */
async function compareByStream(
  { check: kind }: Asked,
  source: SyncSource,
  copy: Copy,
  secret: Secret | undefined,
  ports: Ports,
  signal: AbortSignal,
): Promise<Offer> {
  const how = { software: SOFTWARE, secret };
  const check = source.isOnce === true
    ? { kind, transactions: 0, obstacle: undefined } // which has been done
    : await checkHistory(ports, source, copy, { ...how, kind }, signal);
  const verdict = await queryLineage(ports, source, copy.view, how);
  if (verdict.kind === "differs") {
    throw await divergenceOf(ports, source, copy, verdict.refusal, how, signal);
  }
  return { ...verdict, isBytes: false, check };
}

/** @throws DivergedError, and as `compareFarFile` */
async function compareByTools(
  { check: kind }: Asked,
  source: FarFileSource,
  copy: Copy,
  { clock }: Ports,
): Promise<Offer> {
  const file = await source.look();
  const comparison = await compareFarFile({ clock }, copy.view, file, { full: kind === "full" });
  if (comparison.kind === "diverged") throw await divergenceFound(source, copy, comparison);
  const found = comparison.kind === "incomparable" ? undefined : await findFarEnd(file);
  if (comparison.kind === "incomparable" || found === undefined) {
    const words = comparison.kind === "incomparable" ? comparison.words : "its end cannot be told";
    throw new UnavailableError(`Cannot compare with ${source.name}: ${words}`, {
      hint: "try again; if that does not help, install zrs there",
    });
  }
  const check = { kind, transactions: 0, obstacle: copy.lastTid === NO_TID ? undefined : FAR_CHECK_OBSTACLE };
  return { ...found, fit: comparison.kind === "packed" ? comparison.fit : "prefix", isBytes: true, check };
}

function plan(
  { dataFs, until, repack }: Asked,
  { name }: Pick<SyncSource, "name">,
  { fit, lastTid: sourceTid, end: sourceEnd, isBytes, check }: Offer,
  lastTid: bigint,
  end: number,
): Plan {
  if (lastTid !== NO_TID) {
    if (fit === "unknown" && !repack) {
      throw new DivergedError(
        `Cannot go on behind ${
          describeTid(lastTid)
        } in ${dataFs}: the source has packed away all that could tell ` +
          `whether both have the same history`,
        { path: dataFs, hint: "if it is the right source, --repack would make a complete new copy" },
      );
    }
    const isAnew = fit !== "prefix" && (repack || fit === "gap");
    if (isBytes && fit !== "prefix" && check.kind === "full" && !isAnew) throw notComparable(name, dataFs);
    if (until !== undefined && lastTid >= until) return { kind: "nothing" };
    if (isAnew) return { kind: "new copy", bytes: sourceEnd };
  }
  if (lastTid >= sourceTid) return { kind: "nothing" };
  if (isBytes && fit !== "prefix") {
    throw new UsageError(
      `Cannot append to ${dataFs} what it lacks: the source has been packed, and its machine's own tools tell ` +
        `bytes only, which lie elsewhere now`,
      {
        path: dataFs,
        hint: "--repack would make a complete new copy; with zrs installed there it could be appended",
      },
    );
  }
  return { kind: "append", bytes: fit === "prefix" && until === undefined ? sourceEnd - end : undefined };
}

function tell(
  { dataFs, until, json, quiet }: Asked,
  { name }: Pick<SyncSource, "name">,
  { lastTid, check }: Offer,
  plan: Plan,
  say: (text: string) => void,
): void {
  const goal = until !== undefined && until < lastTid ? formatTid(until) : formatTid(lastTid);
  if (json) {
    const bytes = plan.kind === "nothing" ? 0 : plan.bytes ?? null;
    const facts = { dryRun: true, source: name, dataFs, would: plan.kind, until: goal, bytes };
    say(`${JSON.stringify({ ...facts, check: checkFacts(check) })}\n`);
  } else if (!quiet) {
    say(`${describePlan(plan, dataFs, name, goal)}\n`);
  }
}

export function describePlan(plan: Plan, dataFs: string, source: string, goal: string): string {
  switch (plan.kind) {
    case "nothing":
      return `${dataFs} has all of ${source}, up to ${goal}: nothing would be copied`;
    case "append":
      return `Would append to ${dataFs} what it lacks of ${source}, up to ${goal}` +
        (plan.bytes === undefined ? "" : `: ${formatBytes(plan.bytes)}`);
    case "new copy":
      return `Would make ${dataFs} a complete new copy of ${source}, up to ${goal}, ${
        formatBytes(plan.bytes)
      } at ` +
        `most: it has been packed`;
  }
}

/** A replica that is not there yet. */
const EMPTY: Pick<History, "file" | "end" | "lastTid"> = {
  lastTid: NO_TID,
  end: FIRST_POSITION,
  file: {
    path: "",
    readAt: () => 0,
    size: () => 0,
    identity: () => "",
    sync: () => Promise.resolve(),
    close: () => {},
    [Symbol.dispose]: () => {},
  } satisfies ReadableFile,
};
