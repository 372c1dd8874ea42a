/** `zrs replica-sync --dry-run`: both ends are compared, and nothing is written, not even a lock. */

import { DivergedError, UnavailableError, UsageError } from "../errors.ts";
import { FIRST_POSITION, Generation, type History, type LogView } from "../filestorage/mod.ts";
import type { Host } from "../host/mod.ts";
import type { ReadableFile } from "../ports/mod.ts";
import {
  compareFarFile,
  FarFileSource,
  FarSource,
  findFarEnd,
  queryLineage,
  type Secret,
  type SyncSource,
  type Verdict,
} from "../replica/mod.ts";
import { describeTid, formatTid, NO_TID } from "../zodb/mod.ts";
import { openHistory } from "./listing.ts";
import { formatBytes } from "./quantities.ts";
import { SOFTWARE } from "./version.ts";

interface Asked {
  readonly dataFs: string;
  readonly until?: bigint | undefined;
  readonly repack: boolean;
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
  host: Host,
  say: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const { dataFs } = options;
  const { clock, random } = host;
  using history = host.disk.status(dataFs) === undefined ? undefined : await openHistory(host, dataFs);
  if (history?.damage !== undefined) throw history.damage;
  const { lastTid, end, file } = history ?? EMPTY;
  const view = { generation: new Generation(0, file), lastTid, end };
  const reached = source instanceof FarSource ? await source.reach(signal) : source;
  const verdict = reached instanceof FarFileSource
    ? await compareByTools(options, reached, view, host)
    : await compareByStream(options, reached, view, secret, { clock, random });
  tell(options, source, verdict, plan(options, verdict, lastTid, end), say);
}

/** What a source would send. */
type Offer = Pick<Extract<Verdict, { kind: "welcome" }>, "fit" | "lastTid" | "end"> & {
  /** Whether only bytes can be appended, as they lie there. */
  readonly isBytes: boolean;
};

/** @throws DivergedError, and as `queryLineage` */
async function compareByStream(
  { dataFs }: Asked,
  source: SyncSource,
  view: LogView,
  secret: Secret | undefined,
  ports: Parameters<typeof queryLineage>[0],
): Promise<Offer> {
  const verdict = await queryLineage(ports, source, view, { software: SOFTWARE, secret });
  if (verdict.kind === "differs") {
    throw differing(source.name, dataFs, verdict.refusal.message, verdict.refusal);
  }
  return { ...verdict, isBytes: false };
}

/** @throws DivergedError, and as `compareFarFile` */
async function compareByTools(
  { dataFs }: Asked,
  source: FarFileSource,
  view: LogView,
  { clock }: Host,
): Promise<Offer> {
  const file = await source.look();
  const comparison = await compareFarFile({ clock }, view, file, { full: false });
  if (comparison.kind === "diverged") throw differing(source.name, dataFs, comparison.words);
  const found = comparison.kind === "incomparable" ? undefined : await findFarEnd(file);
  if (comparison.kind === "incomparable" || found === undefined) {
    const words = comparison.kind === "incomparable" ? comparison.words : "its end cannot be told";
    throw new UnavailableError(`Cannot compare with ${source.name}: ${words}`, {
      hint: "try again; if that does not help, install zrs there",
    });
  }
  return { ...found, fit: comparison.kind === "packed" ? comparison.fit : "prefix", isBytes: true };
}

function differing(source: string, dataFs: string, words: string, cause?: unknown): DivergedError {
  return new DivergedError(`Cannot copy from ${source}: the histories differ. It says: ${words}`, {
    path: dataFs,
    cause,
    hint: "compare both by zrs log; nothing was written",
  });
}

function plan(
  { dataFs, until, repack }: Asked,
  { fit, lastTid: sourceTid, end: sourceEnd, isBytes }: Offer,
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
  { lastTid }: Offer,
  plan: Plan,
  say: (text: string) => void,
): void {
  const goal = until !== undefined && until < lastTid ? formatTid(until) : formatTid(lastTid);
  if (json) {
    const bytes = plan.kind === "nothing" ? 0 : plan.bytes ?? null;
    say(
      `${JSON.stringify({ dryRun: true, source: name, dataFs, would: plan.kind, until: goal, bytes })}\n`,
    );
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
