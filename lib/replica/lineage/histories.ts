/**
 * Comparing a secondary's last transaction with a source's history by tids alone, which is all that zrs2
 * tells (docs/architecture.md, "When two histories are compared").
 */
import {
  FIRST_POSITION,
  locateTid,
  type LogView,
  type Place,
  TransactionReader,
} from "../../filestorage/mod.ts";
import { describeTid, NO_TID, STATUS } from "../../zodb/mod.ts";

export type Comparison =
  /** The secondary's last transaction is in the source: go on behind it. */
  | { readonly kind: "shared"; readonly position: number }
  /** It lies where the source has been packed: it may have been there. Go on with what is later. */
  | { readonly kind: "beyond the pack"; readonly position: number }
  /** It is later than the source's last. */
  | { readonly kind: "ahead" }
  /** It lies within the source's unpacked history, and is not there. */
  | { readonly kind: "forked"; readonly before: Place | undefined; readonly after: Place };

/**
 * Finds where a secondary whose last tid is `tid` goes on.
 * @param reader on the view's file
 * @throws CorruptError where the file is damaged on the way
 */
export async function compareHistories(
  reader: TransactionReader,
  view: LogView,
  tid: bigint,
  pause: () => Promise<void>,
): Promise<Comparison> {
  if (tid === NO_TID) return { kind: "shared", position: FIRST_POSITION };
  const location = await locateTid(reader, view.end, tid, view.generation.map, pause);
  if (location.kind === "found") return { kind: "shared", position: location.place.end };
  const { before, after } = location;
  // Only what is marked 'p', or lies before it, can have lost transactions to a pack.
  const packed = before === undefined ? after?.status === STATUS.packed : before.status === STATUS.packed;
  if (packed) return { kind: "beyond the pack", position: before?.end ?? FIRST_POSITION };
  if (after === undefined) return { kind: "ahead" };
  return { kind: "forked", before, after };
}

/** Why a secondary is refused, in one line for both ends. */
export function refusalReason(
  comparison: Extract<Comparison, { kind: "ahead" | "forked" }>,
  tid: bigint,
  lastTid: bigint,
): string {
  const yours = `your last transaction is ${describeTid(tid)}`;
  if (comparison.kind === "ahead") {
    return lastTid === NO_TID
      ? `ahead: ${yours}, this source is empty`
      : `ahead: ${yours}, this source ends with ${describeTid(lastTid)}`;
  }
  const { before, after } = comparison;
  const common = before === undefined
    ? "no transaction can be common to both"
    : `the last that can be common to both is ${describeTid(before.tid)}`;
  return `forked: ${yours}, which this source does not have; ${common}, here it is followed by ` +
    describeTid(after.tid);
}

/** Whether a source's reason is that the histories differ; others are troubles of its own. */
export function isDivergence(reason: string): boolean {
  return /^(ahead|forked):/.test(reason);
}
