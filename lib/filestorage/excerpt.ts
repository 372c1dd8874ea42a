/**
 * A stretch of a Data.fs as a file of its own: the same transactions, with their tids, metadata and data, laid
 * down as a replica lays them down. Where a record has the data of one that is in the stretch, too, it has it in
 * the new file; data that lies before the stretch is copied.
 *
 * The file appears under its name when it is whole, has been read back, and is on disk. Transactions that were
 * cancelled ('u') are left out, for they do not count.
 */
import { CorruptError, DiskError } from "../errors.ts";
import type { BlockFile, Disk, ReadableFile } from "../ports/mod.ts";
import { NO_TID, STATUS } from "../zodb/mod.ts";
import { inFile } from "./history.ts";
import { FIRST_POSITION } from "./layout.ts";
import { ObjectIndex } from "./index/object_index.ts";
import { directoryOf } from "./open.ts";
import { type Patience, scan } from "./recover.ts";
import { likeDatabase } from "./replace_file.ts";
import { TransactionReader } from "./transaction.ts";
import { TransactionCopier } from "./transaction_copier.ts";
import { Window } from "./window.ts";

/** What is to be copied. */
export interface Stretch {
  readonly file: ReadableFile;
  /** Where its first transaction begins. */
  readonly from: number;
  /** Where its last one ends. */
  readonly to: number;
}

/**
 * Copies a stretch to `path`, where nothing may be.
 * @throws CorruptError where it cannot be read, DiskFullError, DiskError; nothing is left at `path` then
 */
export async function writeExcerpt(
  disk: Disk,
  stretch: Stretch,
  path: string,
  patience: Patience = {},
): Promise<void> {
  const temporary = `${path}.tmp`;
  disk.remove(temporary); // left by a process that died
  let name = temporary;
  try {
    using file = disk.create(temporary);
    likeDatabase(disk, stretch.file.path, temporary);
    const written = await copyStretch(file, stretch, patience);
    const size = file.size();
    const read = await scan(file, FIRST_POSITION, NO_TID, size, new ObjectIndex(), patience);
    if (read.end !== size || read.transactions !== written) {
      throw new DiskError(
        `Cannot read back ${temporary}: it must have ${written} transactions, found ${read.transactions}`,
        { path: temporary },
      );
    }
    await file.sync();
    disk.rename(temporary, path);
    name = path;
    await disk.syncDirectory(directoryOf(path));
  } catch (error) {
    try {
      disk.remove(name);
    } catch {
      // The first failure is the one worth telling.
    }
    throw error instanceof CorruptError ? inFile(stretch.file.path, error) : error;
  }
}

/** @returns how many transactions were written */
async function copyStretch(
  file: BlockFile,
  { file: source, from, to }: Stretch,
  { pause, signal }: Patience,
): Promise<number> {
  const reader = new TransactionReader(new Window(source, to));
  const copier = new TransactionCopier(file, source);
  const shares = (backPointer: number) => backPointer >= from;
  let count = 0;
  for (let position = from; position < to;) {
    const state = reader.read(position);
    if (state !== "whole") throw reader.notWhole(state);
    position = reader.end;
    if (reader.status === STATUS.undone) continue;
    copier.copy(reader, { shares });
    count++;
    if (!copier.isFull) continue;
    copier.write();
    await pause?.();
    signal?.throwIfAborted();
  }
  copier.finish();
  return count;
}
