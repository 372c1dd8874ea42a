/** What `zrs replica-sync` says at its end: for people, and as JSON (docs/cron_copies.md, "Copies from cron"). */

import { ZrsError } from "../../errors.ts";
import { missingBlobsPath } from "../../filestorage/mod.ts";
import {
  type Divergence,
  HistoriesDifferError,
  type HistoryCheck,
  type NamedTransaction,
  OnceError,
  PackedAwayError,
  type SyncedBlobs,
  type SyncEnd,
  type SyncReport,
} from "../../replica/mod.ts";
import { describeTid, formatTid, formatTidTime, NO_TID, parseTid } from "../../zodb/mod.ts";
import type { ExitCode } from "../exit_codes.ts";
import { textOf } from "../listing.ts";
import { formatBytes, formatDuration, oneLine } from "../quantities.ts";

/** What both ends are called, and what was asked for. */
interface Asked {
  readonly source: string;
  readonly dataFs: string;
  readonly settle: number;
  readonly until?: bigint | undefined;
}

export function describeReport(asked: Asked, report: SyncReport): string {
  const { source, dataFs, until } = asked;
  const { after, transactions, bytes, newCopy, keptAs } = report;
  const copied = transactions === 0
    ? "nothing was missing"
    : `${countOf(transactions)}, ${formatBytes(bytes)}${blobsOf(report)}${
      newCopy === undefined ? "" : ", as a complete new copy"
    }`;
  const holes = report.blobs === undefined || report.blobs.missing === 0
    ? ""
    : `; ${countOf(report.blobs.missing, "blob")} missing, for the source had no files: see ${
      missingBlobsPath(dataFs)
    }`;
  const all = until !== undefined ? `all of ${source} up to ${formatTid(until)}` : `all of ${source}`;
  const last = after.lastTid === NO_TID
    ? "it has no transactions"
    : `the last is ${describeTid(after.lastTid)}`;
  const kept = keptAs === undefined ? "" : `; the one before is kept as ${keptAs}`;
  const durable = report.isDurableThere
    ? ""
    : "; nothing there could write the file to disk before: after a power loss there, it may lack the last of this";
  return oneLine(
    `Replica complete: ${dataFs} has ${all}${basisOf(asked, report)}, ${last}; ${copied}${holes}${kept}${
      comparedOf(report)
    }${durable}`,
  );
}

function blobsOf({ blobs }: SyncReport): string {
  if (blobs === undefined || blobs.copied === 0) return "";
  return `, and ${countOf(blobs.copied, "blob")}, ${formatBytes(blobs.bytes)}`;
}

/** On what it rests that this is all, where the source has not said so. */
function basisOf({ settle }: Asked, { restsOn }: SyncReport): string {
  switch (restsOn) {
    case "said":
      return "";
    case "reached":
      return " that was asked for";
    case "quiet":
      return `, as far as can be told (it does not say when it has sent all, and was silent for ${
        formatDuration(settle)
      })`;
  }
}

/** What was looked at of what the copy had before; nothing is said of the little that is looked at always. */
function comparedOf({ check: { kind, transactions, obstacle }, before }: SyncReport): string {
  if (kind === "quick" || before.lastTid === NO_TID) return "";
  if (obstacle !== undefined) return "; before, all of its bytes were compared";
  return `; before, all of it was compared: ${countOf(transactions)} the same`;
}

/** The object of `--json`. */
export function reportFacts({ source, dataFs }: Asked, report: SyncReport): Record<string, unknown> {
  const { created, newCopy, keptAs, before, after, transactions, bytes } = report;
  const { protocol, restsOn, isDurableThere, check, blobs } = report;
  return {
    complete: true,
    source,
    dataFs,
    created,
    newCopy: newCopy !== undefined,
    keptAs: keptAs ?? null,
    protocol,
    restsOn,
    durableThere: isDurableThere,
    before: endFacts(before),
    after: endFacts(after),
    transactions,
    bytes,
    blobs: blobs ?? null,
    check: checkFacts(check),
  };
}

/** The report that an object of {@link reportFacts} tells of; undefined where it is none. */
export function readReport(facts: Readonly<Record<string, unknown>>): SyncReport | undefined {
  const { created, newCopy, keptAs, protocol, restsOn, durableThere, transactions, bytes } = facts;
  const [before, after] = [readEnd(facts["before"]), readEnd(facts["after"])];
  if (facts["complete"] !== true || before === undefined || after === undefined) return undefined;
  if (typeof transactions !== "number" || typeof bytes !== "number") return undefined;
  return {
    created: created === true,
    newCopy: newCopy === true ? "told by the other end" : undefined,
    keptAs: typeof keptAs === "string" ? keptAs : undefined,
    before,
    after,
    transactions,
    bytes,
    blobs: readBlobs(facts["blobs"]),
    protocol: typeof protocol === "string" ? protocol : "",
    isDurableThere: durableThere === true,
    restsOn: restsOn === "reached" || restsOn === "quiet" ? restsOn : "said",
    check: readCheck(facts["check"]),
  };
}

/** As {@link checkFacts} tells it. */
function readCheck(facts: unknown): HistoryCheck {
  const { kind, transactions, obstacle } = (facts ?? {}) as Record<string, unknown>;
  return {
    kind: kind === "full" ? "full" : "quick",
    transactions: typeof transactions === "number" ? transactions : 0,
    obstacle: typeof obstacle === "string" ? obstacle : undefined,
  };
}

function readBlobs(facts: unknown): SyncedBlobs | undefined {
  if (typeof facts !== "object" || facts === null) return undefined;
  const { copied, bytes, missing } = facts as Partial<Record<keyof SyncedBlobs, unknown>>;
  if (typeof copied !== "number" || typeof bytes !== "number" || typeof missing !== "number") {
    return undefined;
  }
  return { copied, bytes, missing };
}

function readEnd(facts: unknown): SyncEnd | undefined {
  if (typeof facts !== "object" || facts === null) return undefined;
  const { tid, bytes } = facts as { tid?: unknown; bytes?: unknown };
  if (typeof bytes !== "number") return undefined;
  if (tid === null) return { lastTid: NO_TID, end: bytes };
  return typeof tid === "string" && /^[0-9a-f]{16}$/.test(tid)
    ? { lastTid: parseTid(tid), end: bytes }
    : undefined;
}

/** The object of `--json` where the copy is not complete. */
export function failureFacts(
  { source, dataFs }: Asked,
  error: Error,
  exitCode: ExitCode,
): Record<string, unknown> {
  const hint = error instanceof ZrsError ? error.hint : undefined;
  const facts = {
    complete: false,
    source,
    dataFs,
    exitCode,
    error: error.message,
    hint: hint ?? null,
    ...(error instanceof HistoriesDifferError && { divergence: divergenceFacts(error.divergence) }),
  };
  if (source !== "-") return facts;
  // For zrs at the other end, which then starts this one once more.
  if (error instanceof PackedAwayError) return { ...facts, again: "anew" };
  if (!(error instanceof OnceError)) return facts;
  return { ...facts, again: error.isMisfit ? "records" : "copy" };
}

export function checkFacts({ kind, transactions, obstacle }: HistoryCheck): Record<string, unknown> {
  return { kind, transactions, obstacle: obstacle ?? null };
}

function divergenceFacts({ common, here, there }: Divergence): Record<string, unknown> {
  return { common: transactionFacts(common), here: transactionFacts(here), there: transactionFacts(there) };
}

/** As the object of a failure tells it; undefined where that tells of none. */
export function readDivergence(facts: unknown): Divergence | undefined {
  if (typeof facts !== "object" || facts === null) return undefined;
  const { common, here, there } = facts as Record<string, unknown>;
  return { common: readTransaction(common), here: readTransaction(here), there: readTransaction(there) };
}

function readTransaction(facts: unknown): NamedTransaction | undefined {
  const { tid, user, description } = (facts ?? {}) as Record<string, unknown>;
  if (typeof tid !== "string" || !/^[0-9a-f]{16}$/.test(tid)) return undefined;
  const encoder = new TextEncoder();
  return {
    tid: parseTid(tid),
    user: encoder.encode(String(user)),
    description: encoder.encode(String(description)),
  };
}

function transactionFacts(transaction: NamedTransaction | undefined): Record<string, unknown> | null {
  if (transaction === undefined) return null;
  const { tid, user, description } = transaction;
  return {
    tid: formatTid(tid),
    time: formatTidTime(tid),
    user: textOf(user),
    description: textOf(description),
  };
}

function endFacts({ lastTid, end }: SyncEnd): Record<string, unknown> {
  if (lastTid === NO_TID) return { tid: null, time: null, bytes: end };
  return { tid: formatTid(lastTid), time: formatTidTime(lastTid), bytes: end };
}

function countOf(count: number, what = "transaction"): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}
