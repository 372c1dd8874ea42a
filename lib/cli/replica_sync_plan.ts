/** `zrs replica-sync --dry-run`: both ends are compared, and nothing is written, not even a lock. */

import { DivergedError } from "../errors.ts";
import { FIRST_POSITION, Generation, type History } from "../filestorage/mod.ts";
import type { Host } from "../host/mod.ts";
import type { ReadableFile } from "../ports/mod.ts";
import {
  checkHistory,
  divergenceOf,
  type HistoryCheck,
  type Ports,
  queryLineage,
  type Secret,
  type SyncSource,
  type Verdict,
} from "../replica/mod.ts";
import { describeTid, formatTid, NO_TID } from "../zodb/mod.ts";
import { openHistory } from "./listing.ts";
import { formatBytes } from "./quantities.ts";
import { checkFacts } from "./replica_sync_report.ts";
import { SOFTWARE } from "./version.ts";

interface Asked {
  readonly dataFs: string;
  readonly until?: bigint | undefined;
  readonly repack: boolean;
  readonly check: HistoryCheck["kind"];
  readonly json: boolean;
  readonly quiet: boolean;
}

/** What would be done. */
type Plan =
  | { readonly kind: "nothing" }
  /** @param bytes undefined where the files lie differently */
  | { readonly kind: "append"; readonly bytes: number | undefined }
  | { readonly kind: "new copy"; readonly bytes: number };

/** Shows what would be done. @throws DivergedError, and as `queryLineage` */
export async function planSync(
  options: Asked,
  source: SyncSource,
  secret: Secret | undefined,
  ports: Ports & { readonly host: Host },
  signal: AbortSignal,
): Promise<void> {
  const { dataFs } = options;
  const { host } = ports;
  using history = host.disk.status(dataFs) === undefined ? undefined : await openHistory(host, dataFs);
  if (history?.damage !== undefined) throw history.damage;
  const { lastTid, end, file } = history ?? EMPTY;
  const view = { generation: new Generation(0, file), lastTid, end };
  const copy = { path: dataFs, file, end, lastTid, view };
  const how = { software: SOFTWARE, secret };
  const check = await checkHistory(ports, source, copy, { ...how, kind: options.check }, signal);
  const verdict = await queryLineage(ports, source, view, how);
  if (verdict.kind === "differs") {
    throw await divergenceOf(ports, source, copy, verdict.refusal, how, signal);
  }
  tell(options, source, verdict, plan(options, verdict, lastTid, end), check, host);
}

function plan(
  { dataFs, until, repack }: Asked,
  { fit, lastTid: sourceTid, end: sourceEnd }: Extract<Verdict, { kind: "welcome" }>,
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
    if (until !== undefined && lastTid >= until) return { kind: "nothing" };
    if (fit !== "prefix" && (repack || fit === "gap")) return { kind: "new copy", bytes: sourceEnd };
  }
  if (lastTid >= sourceTid) return { kind: "nothing" };
  return { kind: "append", bytes: fit === "prefix" && until === undefined ? sourceEnd - end : undefined };
}

function tell(
  { dataFs, until, json, quiet }: Asked,
  { name }: SyncSource,
  { lastTid }: Extract<Verdict, { kind: "welcome" }>,
  plan: Plan,
  check: HistoryCheck,
  host: Host,
): void {
  const goal = until !== undefined && until < lastTid ? formatTid(until) : formatTid(lastTid);
  if (json) {
    const bytes = plan.kind === "nothing" ? 0 : plan.bytes ?? null;
    const facts = { dryRun: true, source: name, dataFs, would: plan.kind, until: goal, bytes };
    host.out(`${JSON.stringify({ ...facts, check: checkFacts(check) })}\n`);
  } else if (!quiet) {
    host.out(`${describePlan(plan, dataFs, name, goal)}\n`);
  }
}

function describePlan(plan: Plan, dataFs: string, source: string, goal: string): string {
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
