/** Where a file ends for whoever only reads it: behind its last whole transaction. */
import { readU64, viewOf } from "../bytes/mod.ts";
import type { Disk, ReadableFile } from "../ports/mod.ts";
import { NO_TID, STATUS } from "../zodb/mod.ts";
import { MAX_RUN_BYTES } from "./appender.ts";
import { readIndexPosition } from "./index/index_position.ts";
import { FIRST_POSITION, TRAILER_SIZE } from "./layout.ts";
import { hasUnfinishedBefore, lastTidAt, walkingReader } from "./locate.ts";
import { TransactionReader } from "./transaction.ts";

/** After so many transactions a walk lets others run. */
const STEPS_BETWEEN_PAUSES = 20_000;

export interface FileEnd {
  /** The end of the last whole transaction. */
  readonly end: number;
  /** Its tid; NO_TID when there is none. */
  readonly lastTid: bigint;
}

/**
 * The end of a file that ends with a whole transaction, by its trailer.
 * @returns undefined when something else stands there, such as a commit under way
 * @throws DiskError
 */
export function findWholeEnd(file: ReadableFile): FileEnd | undefined {
  const size = file.size();
  return wholeEndOf(walkingReader(file, size), size);
}

function wholeEndOf(reader: TransactionReader, size: number): FileEnd | undefined {
  if (size <= FIRST_POSITION) return { end: FIRST_POSITION, lastTid: NO_TID };
  const lastTid = lastTidAt(reader, size);
  if (lastTid === undefined || hasUnfinishedBefore(reader, size, MAX_RUN_BYTES)) return undefined;
  return { end: size, lastTid };
}

/**
 * The end of the last whole transaction in a file of which nothing more is known, sought backwards from its end.
 * @param reach how far, in bytes: what a writer has not finished may be longer
 * @returns undefined where there is none so near
 * @throws DiskError
 */
export function findEndBackwards(file: ReadableFile, reach: number): FileEnd | undefined {
  const found = findWholeEnd(file);
  if (found !== undefined) return found;
  const size = file.size();
  const start = Math.max(FIRST_POSITION, size - reach);
  const bytes = new Uint8Array(size - start);
  const view = viewOf(bytes);
  const count = file.readAt(bytes, start);
  const reader = walkingReader(file, size);
  for (let end = start + count; end > start; end--) {
    // A transaction's last 8 bytes are its length; the first of them are zeros in every file there is.
    const at = end - TRAILER_SIZE - start;
    if (at < 0 || view.getUint16(at) !== 0 || readU64(view, at) > end) continue;
    const lastTid = lastTidAt(reader, end);
    if (lastTid !== undefined && !hasUnfinishedBefore(reader, end, MAX_RUN_BYTES)) return { end, lastTid };
  }
  return start === FIRST_POSITION ? { end: FIRST_POSITION, lastTid: NO_TID } : undefined;
}

/**
 * The last whole transaction's end and tid, by the shortest way that can be trusted.
 * @param path where the index file stands beside
 * @param pause lets other work run during a long walk through the file
 * @throws DiskError
 */
export async function findEnd(
  disk: Disk,
  path: string,
  file: ReadableFile,
  pause: () => Promise<void>,
): Promise<FileEnd> {
  const size = file.size();
  const reader = walkingReader(file, size);
  const found = wholeEndOf(reader, size);
  if (found !== undefined) return found;
  // A transaction under way, or a torn end: walk up to it from where the index was saved, or from the start.
  const saved = readIndexPosition(disk, path);
  const savedTid = saved !== undefined && saved <= size ? lastTidAt(reader, saved) : undefined;
  let end = saved !== undefined && savedTid !== undefined ? saved : FIRST_POSITION;
  let lastTid = savedTid ?? NO_TID;
  for (let steps = 1; reader.read(end) === "whole"; steps++) {
    end = reader.end;
    if (reader.status !== STATUS.undone) lastTid = reader.tid;
    if (steps % STEPS_BETWEEN_PAUSES === 0) await pause();
  }
  return { end, lastTid };
}
