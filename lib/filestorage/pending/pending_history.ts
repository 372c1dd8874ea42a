/**
 * The past of a Data.fs together with what has been received and waits beside it to be applied
 * (delayed_storage.ts). Read-only, without a lock, beside the node that receives and applies.
 */
import { NotFoundError } from "../../errors.ts";
import type { Disk } from "../../ports/mod.ts";
import { History } from "../history.ts";
import { JoinedReader, Segment } from "./joined_reader.ts";
import { findSegments } from "./segment.ts";

/** A node removes a segment when all of it has been applied: as seldom as there is a new one. */
const ATTEMPTS = 5;

/**
 * As {@link History.open}, up to the last transaction that has been received. That what waits continues this very
 * file is found out where it is applied, not here.
 * @throws as {@link History.open}, CorruptError where a segment cannot be read
 */
export async function openWithPending(
  disk: Disk,
  path: string,
  wait?: () => Promise<void>,
): Promise<History> {
  for (let attempt = 1;; attempt++) {
    const applied = await History.open(disk, path, wait);
    let joined: JoinedReader | undefined;
    try {
      joined = joinedWith(disk, applied, attempt < ATTEMPTS);
    } catch (error) {
      applied.close();
      if (error instanceof NotFoundError && attempt < ATTEMPTS) continue;
      throw error;
    }
    if (joined === undefined) continue;
    return await History.over(disk, joined, wait);
  }
}

/**
 * @param mayHaveGone whether what is missing may be in the Data.fs by now
 * @returns undefined where that is so; `applied` is closed then
 */
function joinedWith(disk: Disk, applied: History, mayHaveGone: boolean): JoinedReader | undefined {
  const { segments } = findSegments(disk, applied.path);
  const waiting = segments.filter(({ base, length }) => base + length > applied.end);
  if (mayHaveGone && waiting.length > 0 && waiting[0]!.base > applied.end) {
    applied.close();
    return undefined;
  }
  const joined = new JoinedReader(disk, applied, waiting.map((each) => new Segment(each)), applied);
  try {
    joined.openAll();
  } catch (error) {
    joined.close();
    throw error;
  }
  return joined;
}
