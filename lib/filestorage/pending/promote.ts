/**
 * Making a replica with a delay ready for whoever takes it over: what waits is applied, all of it or up to just
 * before a transaction; the rest is kept in a file beside it, itself a Data.fs, as what is rewound is.
 *
 * A crash, or a failure, at any point leaves what waits where it is, so that it can be done again.
 */
import { CorruptError, UsageError } from "../../errors.ts";
import type { Disk } from "../../ports/mod.ts";
import { describeTid } from "../../zodb/mod.ts";
import type { DelayedStorage } from "./delayed_storage.ts";
import { writeExcerpt } from "../excerpt.ts";
import { inFile, type Readable } from "../history.ts";
import { isWithinPack, locateTid, TidMap, walkingReader } from "../locate.ts";
import { noPause, type Patience } from "../recover.ts";
import { countFrom } from "../rewind.ts";
import { rewoundPath } from "../rewound_path.ts";
import { missingSegment } from "./segment.ts";
import { removeIfPossible } from "../remove_if_possible.ts";

/** Some of the transactions that wait. */
export interface Waiting {
  readonly transactions: number;
  readonly bytes: number;
  /** NO_TID when there are none. */
  readonly firstTid: bigint;
}

/** What promoting means. */
export interface PromotionPlan {
  /** Only what has an earlier tid is applied; undefined for all. */
  readonly before: bigint | undefined;
  readonly applied: Waiting;
  readonly kept: Waiting;
  /** Where what is not applied goes. */
  readonly savedTo: string;
}

/**
 * Finds out what promoting means. Only reads.
 * @param received all that there is
 * @param appliedEnd where the Data.fs ends
 * @param before only what has an earlier tid is to be applied; undefined for all
 * @throws UsageError when what is not to be applied has been, or goes with what is; CorruptError, DiskError
 */
export async function planPromotion(
  disk: Disk,
  received: Readable,
  appliedEnd: number,
  before: bigint | undefined,
  { pause = noPause }: Patience = {},
): Promise<PromotionPlan> {
  const { path, end, file } = received;
  const reader = walkingReader(file, end);
  try {
    let to = end;
    if (before !== undefined) {
      const location = await locateTid(reader, end, before, new TidMap(), pause);
      const first = location.kind === "found" ? location.place : location.after;
      to = first?.position ?? end;
      if (first !== undefined && to < appliedEnd) {
        throw new UsageError(
          `Cannot promote ${path} to just before ${describeTid(before)}: ${
            describeTid(first.tid)
          } has been applied`,
          { path, tid: first.tid, hint: "promote with --all, and then take it back with zrs rewind" },
        );
      }
      if (first !== undefined && isWithinPack(reader, to, end)) {
        throw new UsageError(
          `Cannot promote ${path} to just before ${
            describeTid(before)
          }: its source had been packed to a later time ` +
            `when it came, and it lacks objects as they were then`,
          { path, tid: first.tid, hint: "promote it to a later time, or with --all" },
        );
      }
    }
    const applied = { bytes: to - appliedEnd, ...await countFrom(reader, appliedEnd, to, pause) };
    const kept = { bytes: end - to, ...await countFrom(reader, to, end, pause) };
    return { before, applied, kept, savedTo: rewoundPath(disk, path, kept.firstTid) };
  } catch (error) {
    throw error instanceof CorruptError ? missingSegment(disk, path, inFile(path, error)) : error;
  }
}

/**
 * Carries out a plan. Nothing may be received meanwhile; afterwards `storage` is good for nothing but disposal.
 * @throws DiskFullError, DiskError, what `patience` throws; what waits is still there then, and no more applied than
 * was planned
 */
export async function promote(
  disk: Disk,
  storage: DelayedStorage,
  plan: PromotionPlan,
  patience: Patience = {},
): Promise<void> {
  const { applied, received } = storage;
  const { before, kept, savedTo } = plan;
  const end = received.end - kept.bytes;
  const isKept = kept.transactions > 0;
  if (isKept) {
    await writeExcerpt(disk, { file: received.file, from: end, to: received.end }, savedTo, patience);
  }
  try {
    while (await storage.applyNext((tid) => before === undefined || tid < before)) await patience.pause?.();
    if (applied.end !== end) {
      throw new RangeError(`Applied up to ${applied.end}, though ${end} was planned: nothing is removed`);
    }
    await applied.saveIndex();
  } catch (error) {
    await applied.cut(); // parts of a large transaction, for which there was no room
    if (isKept) removeIfPossible(disk, savedTo);
    if (patience.signal?.aborted && error === patience.signal.reason) await applied.saveIndex();
    throw error;
  }
  await storage.discardWaiting();
}
