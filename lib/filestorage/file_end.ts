/** Where a file ends for whoever only reads it: behind its last whole transaction. */
import type { Disk, ReadableFile } from "../ports/mod.ts";
import { NO_TID, STATUS } from "../zodb/mod.ts";
import { MAX_RUN_BYTES } from "./appender.ts";
import { readIndexPosition } from "./index_position.ts";
import { FIRST_POSITION } from "./layout.ts";
import { hasUnfinishedBefore, lastTidAt, LOCATE_WINDOW_BYTES } from "./locate.ts";
import { TransactionReader } from "./transaction.ts";
import { Window } from "./window.ts";

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
  return wholeEndOf(new TransactionReader(new Window(file, size, LOCATE_WINDOW_BYTES)), size);
}

function wholeEndOf(reader: TransactionReader, size: number): FileEnd | undefined {
  if (size <= FIRST_POSITION) return { end: FIRST_POSITION, lastTid: NO_TID };
  const lastTid = lastTidAt(reader, size);
  if (lastTid === undefined || hasUnfinishedBefore(reader, size, MAX_RUN_BYTES)) return undefined;
  return { end: size, lastTid };
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
  const reader = new TransactionReader(new Window(file, size, LOCATE_WINDOW_BYTES));
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
