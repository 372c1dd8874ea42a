/** How far a copy is to come that is brought up to date once. */
import {
  FIRST_POSITION,
  isWithinPack,
  locateTid,
  type LogView,
  walkingReader,
} from "../../filestorage/mod.ts";
import { NO_TID } from "../../zodb/mod.ts";

/** Later than every transaction: all that there is. */
export const END_OF_TIME = 0xffff_ffff_ffff_ffffn;

/**
 * A view without what is later than a tid.
 * @param view whose generation the caller holds, as it does the one returned
 * @throws CorruptError, DiskError
 */
export async function viewUntil(view: LogView, tid: bigint, pause: () => Promise<void>): Promise<LogView> {
  const { generation, end, lastTid } = view;
  if (tid >= lastTid) return view;
  const reader = walkingReader(generation.file, end);
  const location = await locateTid(reader, end, tid, generation.map, pause);
  const last = location.kind === "found" ? location.place : location.before;
  return { generation, end: last?.end ?? FIRST_POSITION, lastTid: last?.tid ?? NO_TID };
}

/**
 * Whether a view that ends earlier lacks what was current at its end, for the whole was packed to a later time.
 * @param goal of `view`, by {@link viewUntil}
 */
export function isGoalWithinPack(goal: LogView, { generation, end }: LogView): boolean {
  return goal.end < end && isWithinPack(walkingReader(generation.file, end), goal.end, end);
}
