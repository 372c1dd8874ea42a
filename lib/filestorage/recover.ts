/**
 * Opening a file that a writer may have left in the middle of something: scanning what is whole, and cutting
 * what is not (docs/filestorage_format.md, "The end of a file"). Only the owner of the lock cuts; what is cut
 * is saved beside the file as Python does, in the first free `.trN`.
 */
import { readU64, viewOf } from "../bytes/mod.ts";
import { CorruptError } from "../errors.ts";
import type { BlockFile, Disk, ReadableFile } from "../ports/mod.ts";
import { STATUS } from "../zodb/mod.ts";
import { MAX_RUN_BYTES } from "./appender.ts";
import { TRAILER_SIZE, TRANSACTION } from "./layout.ts";
import { lastTidAt, walkingReader } from "./locate.ts";
import { ObjectIndex } from "./index/object_index.ts";
import { directoryOf } from "./open.ts";
import { likeDatabase } from "./replace_file.ts";
import { TransactionReader } from "./transaction.ts";
import { Window } from "./window.ts";

export interface Scan {
  /** The end of the last whole transaction. */
  readonly end: number;
  readonly lastTid: bigint;
  /** Whole transactions passed, cancelled ones included. */
  readonly transactions: number;
}

/** How a long walk through the file leaves room for others. */
export interface Patience {
  /** Lets other work run, now and then; without it none does. */
  readonly pause?: () => Promise<void>;
  /** Looked at after each pause. */
  readonly signal?: AbortSignal | undefined;
}

/** For who has no patience: nothing else runs meanwhile. */
export async function noPause(): Promise<void> {}

/** After so many transactions, or bytes, a walk lets others run. */
const STEPS_BETWEEN_PAUSES = 20_000;
const BYTES_BETWEEN_PAUSES = 64 * 1024 * 1024;

/**
 * Walks over whole transactions from `position` on and notes their records in the index.
 * @param lastTid the tid before `position`
 * @param size the file's size
 * @param isRewound whether the transaction with that tid and all behind it have been saved to be taken back
 * @throws CorruptError where a transaction is damaged but more than a torn end; the signal's reason once it aborts
 */
export async function scan(
  file: BlockFile,
  position: number,
  lastTid: bigint,
  size: number,
  index: ObjectIndex,
  { pause, signal }: Patience,
  isRewound: (tid: bigint) => boolean = () => false,
): Promise<Scan> {
  const reader = new TransactionReader(new Window(file, size));
  let transactions = 0;
  let pausedAt = position;
  for (;;) {
    if (
      position - pausedAt >= BYTES_BETWEEN_PAUSES ||
      (transactions > 0 && transactions % STEPS_BETWEEN_PAUSES === 0)
    ) {
      await pause?.();
      signal?.throwIfAborted();
      pausedAt = position;
    }
    const state = reader.read(position);
    if (state === "damaged" && !isTornEnd(reader, file, size)) {
      throw cannotOpen(file, reader.corrupt(reader.damage));
    }
    if (state === "voted" && !isRewound(reader.tid)) refuseLostMiddle(reader, file, size);
    if (state === "beyond") refuseLostLength(reader, file, size);
    if (state !== "whole") return { end: position, lastTid, transactions };
    if (reader.status !== STATUS.undone) {
      try {
        while (reader.nextRecord() >= 0) index.set(reader.oidHigh, reader.oidLow, reader.recordPosition);
      } catch (error) {
        throw error instanceof CorruptError ? cannotOpen(file, error) : error;
      }
      lastTid = reader.tid;
    }
    transactions++;
    position = reader.end;
  }
}

function cannotOpen(file: BlockFile, { message, facts }: CorruptError): CorruptError {
  return new CorruptError(`Cannot open ${file.path}: ${message[0]!.toLowerCase()}${message.slice(1)}`, {
    ...facts,
    path: file.path,
  });
}

/**
 * A crash may leave anything behind the last transaction, zeros most often. What is too short for its own
 * header is a torn end when the file's last 8 bytes cannot be the trailer of a transaction that begins here or
 * later. Whatever else is wrong is damage to what was whole once, and nothing to be cut away.
 */
export function isTornEnd(reader: TransactionReader, file: ReadableFile, size: number): boolean {
  if (reader.length >= reader.headLength) return false;
  // More than one run was never at stake in a crash of ours; of others' only zeros are left in such amounts.
  if (size - reader.position > MAX_RUN_BYTES && !isAllZero(file, reader.position, size)) return false;
  const last = new Uint8Array(TRAILER_SIZE);
  file.readAt(last, size - TRAILER_SIZE);
  const trailer = readU64(viewOf(last), 0);
  return trailer < TRANSACTION.size || size - trailer < reader.position;
}

/**
 * A transaction that was not finished ends what counts. But one crash leaves at most one run behind it: where
 * more follows, and is whole, the status byte is damaged, and cutting would throw history away.
 */
function refuseLostMiddle(reader: TransactionReader, file: BlockFile, size: number): void {
  const { position, end } = reader;
  if (size - position <= MAX_RUN_BYTES || end >= size) return;
  const problem = reader.corrupt(
    `its status says that it was not finished, but ${size - end} bytes of transactions follow`,
  );
  if (reader.read(end) === "whole") throw cannotOpen(file, problem);
}

/**
 * A transaction that would end behind the file's end ends what counts as well, and a crash may leave much behind
 * it. But every writer keeps status 'c' until all is there: where this one is final, and the file ends with a
 * whole transaction that began later, the length is damaged, and cutting would throw history away.
 */
function refuseLostLength(reader: TransactionReader, file: BlockFile, size: number): void {
  const { position, end } = reader;
  if (size - position <= MAX_RUN_BYTES) return;
  const problem = reader.corrupt(
    `it would end at ${end}, behind the end of the file at ${size}, but a whole transaction stands there`,
  );
  const last = walkingReader(file, size);
  if (last.startOf(size) > position && lastTidAt(last, size) !== undefined) throw cannotOpen(file, problem);
}

function isAllZero(file: ReadableFile, from: number, to: number): boolean {
  const block = new Uint8Array(64 * 1024);
  for (let position = from; position < to;) {
    const count = file.readAt(block.subarray(0, Math.min(block.length, to - position)), position);
    if (count === 0 || block.subarray(0, count).some((byte) => byte !== 0)) return false;
    position += count;
  }
  return true;
}

/** What became of a torn end. */
export interface Cut {
  readonly bytes: number;
  /** Where it was saved; undefined when there was nothing in it worth saving. */
  readonly savedTo: string | undefined;
}

/**
 * Cuts the file at `end`. More than a bare header is saved first, durably, to the first free `.trN`.
 * @throws DiskError
 */
export async function cutTornEnd(disk: Disk, file: BlockFile, end: number): Promise<Cut | undefined> {
  const size = file.size();
  if (size <= end) return undefined;
  const savedTo = size - end > TRANSACTION.size ? await save(disk, file, end, size) : undefined;
  await truncateSafely(file, end);
  return { bytes: size - end, savedTo };
}

/**
 * Cuts the file at `end`, durably. Cutting fills the rest of a block with zeros, and a crash may keep these and
 * the old size, with a sound end behind them: Python calls such a file damaged. So the first header behind `end`,
 * which says that nothing there counts, stays until the rest is gone for good. It is written as it is read: after a
 * sync that failed the system takes for written what may never have come to the disk.
 * @throws DiskError
 */
export async function truncateSafely(file: BlockFile, end: number): Promise<void> {
  if (file.size() > end + TRANSACTION.size) {
    const header = new Uint8Array(TRANSACTION.size);
    file.readAt(header, end);
    file.writeAt(header, end);
    await file.sync();
    file.truncate(end + TRANSACTION.size);
    await file.sync();
  }
  file.truncate(end);
  await file.sync();
}

async function save(disk: Disk, file: BlockFile, from: number, to: number): Promise<string> {
  let number = 0;
  while (disk.status(`${file.path}.tr${number}`) !== undefined) number++;
  const path = `${file.path}.tr${number}`;
  using copy = disk.create(path);
  try {
    likeDatabase(disk, file.path, path);
    const block = new Uint8Array(Math.min(1 << 20, to - from));
    for (let position = from; position < to;) {
      const part = block.subarray(0, Math.min(block.length, to - position));
      const count = file.readAt(part, position);
      if (count === 0) break;
      copy.writeAt(part.subarray(0, count), position - from);
      position += count;
    }
    await copy.sync();
    await disk.syncDirectory(directoryOf(path));
  } catch (error) {
    try {
      disk.remove(path);
    } catch {
      // The first failure is the one worth telling.
    }
    throw error;
  }
  return path;
}
