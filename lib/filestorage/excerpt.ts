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
import { FIRST_POSITION, MAGIC, RECORD } from "./layout.ts";
import { ObjectIndex } from "./object_index.ts";
import { directoryOf } from "./open.ts";
import { type Patience, scan } from "./recover.ts";
import { Restorer } from "./restore.ts";
import { RecordReader } from "./revision.ts";
import { TransactionReader } from "./transaction.ts";
import { Window } from "./window.ts";

const BUFFER_BYTES = 1024 * 1024;
const DATA_BLOCK_BYTES = 64 * 1024;

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
    const writer = new ExcerptWriter(file, stretch);
    const written = await writer.write(patience);
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

class ExcerptWriter {
  readonly #file: BlockFile;
  readonly #stretch: Stretch;
  readonly #reader: TransactionReader;
  readonly #target: RecordReader;
  readonly #restorer: Restorer;
  readonly #block = new Uint8Array(DATA_BLOCK_BYTES);

  constructor(file: BlockFile, stretch: Stretch) {
    this.#file = file;
    this.#stretch = stretch;
    this.#reader = new TransactionReader(new Window(stretch.file, stretch.to));
    this.#target = new RecordReader(stretch.file);
    this.#restorer = new Restorer(file, new ObjectIndex(), FIRST_POSITION, NO_TID, BUFFER_BYTES);
  }

  /** @returns how many transactions were written */
  async write({ pause, signal }: Patience): Promise<number> {
    const reader = this.#reader;
    this.#file.writeAt(MAGIC, 0);
    let count = 0;
    for (let position = this.#stretch.from; position < this.#stretch.to;) {
      const state = reader.read(position);
      if (state !== "whole") throw reader.notWhole(state);
      position = reader.end;
      if (reader.status === STATUS.undone) continue;
      this.#copyTransaction();
      count++;
      if (this.#restorer.length < BUFFER_BYTES && this.#restorer.largeEnd === undefined) continue;
      this.#writeWhole();
      await pause?.();
      signal?.throwIfAborted();
    }
    this.#writeWhole();
    // A large transaction may have been laid down in a longer form first.
    if (this.#file.size() > this.#restorer.end) this.#file.truncate(this.#restorer.end);
    return count;
  }

  #copyTransaction(): void {
    const reader = this.#reader;
    this.#restorer.begin(reader.head());
    reader.rewindRecords();
    for (let at = reader.nextRecord(); at >= 0; at = reader.nextRecord()) this.#copyRecord(at);
    this.#restorer.commit();
  }

  /** @param at the record's offset in the window */
  #copyRecord(at: number): void {
    const target = this.#target;
    const { oidHigh, oidLow, backPointer, recordPosition } = this.#reader;
    const tid = this.#reader.window.view.getBigUint64(at + RECORD.tid);
    let { dataLength } = this.#reader;
    let dataPosition = recordPosition + RECORD.size;
    let dataTid: bigint | undefined;
    if (backPointer !== 0) {
      target.read(backPointer, oidHigh, oidLow);
      if (backPointer >= this.#stretch.from) dataTid = target.tid;
      if (target.resolve(oidHigh, oidLow)) ({ dataLength, dataPosition } = target);
    }
    this.#restorer.record(oidHigh, oidLow, tid, dataTid, dataLength);
    for (let done = 0; done < dataLength;) {
      const part = this.#block.subarray(0, Math.min(this.#block.length, dataLength - done));
      if (this.#stretch.file.readAt(part, dataPosition + done) < part.length) {
        throw this.#reader.corrupt("the file ends within a record");
      }
      this.#restorer.data(part, 0, part.length);
      done += part.length;
      this.#makeRoom();
    }
    this.#restorer.endRecord();
    this.#makeRoom();
  }

  /** Keeps the buffer from growing with a large transaction. */
  #makeRoom(): void {
    const restorer = this.#restorer;
    if (restorer.length < BUFFER_BYTES) return;
    this.#writeWhole();
    if (restorer.length >= BUFFER_BYTES) restorer.spill((bytes, position) => this.#put(bytes, position));
  }

  #writeWhole(): void {
    const restorer = this.#restorer;
    const large = restorer.largeEnd;
    if (large !== undefined) {
      restorer.spillLast((bytes, position) => this.#put(bytes, position));
      this.#put(large.header, large.position);
      restorer.largeFinished();
    }
    if (!restorer.hasWhole) return;
    const run = restorer.take();
    this.#put(run.bytes, run.position);
    restorer.giveBack(run);
  }

  #put(bytes: Uint8Array, position: number): void {
    this.#file.writeAt(bytes, position);
  }
}
