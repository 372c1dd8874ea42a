/** One of two files that are compared: which transaction it is at, and the data of its records. */
import { viewOf } from "../../bytes/mod.ts";
import { CorruptError } from "../../errors.ts";
import { STATUS } from "../../zodb/mod.ts";
import { RECORD, TRANSACTION } from "../layout.ts";
import { RecordReader } from "../revision.ts";
import { TransactionReader } from "../transaction.ts";
import { DEFAULT_WINDOW_BYTES, Window } from "../window.ts";
import type { Readable } from "../history.ts";
import type { RecordSpot } from "./difference.ts";

/** What tells whether a pack may have removed a transaction beside this one, or this one. */
export interface Neighbour {
  readonly isPacked: boolean;
}

/**
 * Whether a history may lack a transaction between two others without being another history: a pack removes what
 * nobody needs any more, and copies made by ZODB before 5.6 lack transactions without records.
 */
export function mayLack(
  before: Neighbour | undefined,
  after: Neighbour | undefined,
  hasRecords: boolean,
): boolean {
  return before?.isPacked === true || after?.isPacked === true || !hasRecords;
}

/** Data elsewhere in the file than where the walk is are read in pieces of this size. */
const FAR_BYTES = 64 * 1024;

/** Room for a piece of a file. */
export class Block {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  /** @param length in bytes */
  constructor(length: number) {
    this.bytes = new Uint8Array(length);
    this.view = viewOf(this.bytes);
  }
}

export class ComparedFile {
  readonly log: Readable;
  readonly reader: TransactionReader;
  /** Where the next transaction begins. */
  position: number;
  /** Whether there is a current transaction: {@link reader} has read it. */
  isPresent = false;
  /** The transaction before the current one. */
  before: Neighbour | undefined;
  readonly #target: RecordReader;
  #far: Block | undefined;

  /** The tid in the header of the record last resolved, in halves: its transaction's, unless there is damage. */
  tidHigh = 0;
  tidLow = 0;
  /** The data of the record last resolved; its position is 0 where the object does not exist any more. */
  dataPosition = 0;
  dataLength = 0;
  #isFar = false;
  /** Where the last chunk lies: `length` bytes at `offset` of `chunk`. */
  chunk: DataView;
  chunkOffset = 0;
  chunkLength = 0;

  constructor(log: Readable, position: number) {
    this.log = log;
    this.position = position;
    this.reader = new TransactionReader(new Window(log.file, log.end, DEFAULT_WINDOW_BYTES));
    this.#target = new RecordReader(log.file);
    this.chunk = this.reader.window.view;
  }

  /** Reads the next transaction that counts, unless one is current. @throws CorruptError, DiskError */
  read(): boolean {
    const { reader } = this;
    while (!this.isPresent && this.position < this.log.end) {
      const state = reader.read(this.position);
      if (state !== "whole") throw reader.notWhole(state);
      this.position = reader.end;
      this.isPresent = reader.status !== STATUS.undone;
    }
    return this.isPresent;
  }

  /** Leaves the current transaction. */
  leave(): void {
    this.before = { isPacked: this.isPacked };
    this.isPresent = false;
  }

  get isPacked(): boolean {
    return this.reader.status === STATUS.packed;
  }

  get hasRecords(): boolean {
    return this.reader.length > this.reader.headLength;
  }

  /** The current transaction; undefined at the end. */
  get current(): Neighbour | undefined {
    return this.isPresent ? this : undefined;
  }

  /** The position of the current transaction, or where the next one would stand. */
  get place(): number {
    return this.isPresent ? this.reader.position : this.position;
  }

  /** Where the current transaction's user begins in the window, with the other texts behind it. @throws CorruptError */
  locateTexts(): number {
    const { reader } = this;
    const at = reader.window.locate(reader.position, reader.headLength);
    if (at < 0) throw reader.corrupt("the file ends within its metadata");
    return at + TRANSACTION.size;
  }

  /** The tid in the header of the record last resolved. */
  get recordTid(): bigint {
    return (BigInt(this.tidHigh) << 32n) | BigInt(this.tidLow);
  }

  /** Finds the data of the record that the reader has moved to. @throws CorruptError, DiskError */
  resolve(): void {
    const { reader } = this;
    const { view } = reader.window;
    const at = reader.window.locate(reader.recordPosition, RECORD.size);
    if (at < 0) throw this.#short(reader.recordPosition);
    this.tidHigh = view.getUint32(at + RECORD.tid);
    this.tidLow = view.getUint32(at + RECORD.tid + 4);
    this.#isFar = reader.dataLength === 0;
    this.dataPosition = reader.recordPosition + RECORD.size;
    this.dataLength = reader.dataLength;
    if (reader.dataLength > 0) return;
    this.#follow(reader.backPointer, reader.recordPosition);
  }

  /** Finds the data of a record somewhere in the file. @throws CorruptError, DiskError */
  resolveAt(position: number, oidHigh: number, oidLow: number): void {
    const target = this.#target;
    target.read(position, oidHigh, oidLow);
    this.tidHigh = target.tidHigh;
    this.tidLow = target.tidLow;
    this.#isFar = true;
    this.dataPosition = target.dataPosition;
    this.dataLength = target.dataLength;
    if (target.dataLength === 0) this.#follow(target.backPointer, position, oidHigh, oidLow);
  }

  #follow(
    backPointer: number,
    from: number,
    oidHigh = this.reader.oidHigh,
    oidLow = this.reader.oidLow,
  ): void {
    const target = this.#target;
    this.dataPosition = 0;
    this.dataLength = 0;
    if (backPointer === 0) return;
    target.read(backPointer, oidHigh, oidLow);
    if (!target.resolve(oidHigh, oidLow)) return;
    this.dataPosition = target.dataPosition;
    this.dataLength = target.dataLength;
    if (this.dataPosition + this.dataLength > from) {
      throw new CorruptError(
        `Cannot read the data record at ${target.position}: its data of ${target.dataLength} bytes reach beyond the ` +
          `record at ${from} that has a back pointer to it`,
        { position: target.position },
      );
    }
  }

  /** A record of this file whose data were last resolved. */
  spot(position: number): RecordSpot {
    return { position, length: this.dataPosition === 0 ? undefined : this.dataLength };
  }

  /** Makes some of the data from `done` on readable in {@link chunk}. @throws CorruptError, DiskError */
  readChunk(done: number): void {
    const position = this.dataPosition + done;
    const left = this.dataLength - done;
    if (!this.#isFar) {
      const { window } = this.reader;
      const at = window.locateSome(position, left);
      if (at < 0) throw this.#short(position);
      this.chunk = window.view;
      this.chunkOffset = at;
      this.chunkLength = window.located;
      return;
    }
    this.#far ??= new Block(FAR_BYTES);
    const length = Math.min(FAR_BYTES, left);
    if (this.log.file.readAt(this.#far.bytes.subarray(0, length), position) < length) {
      throw this.#short(position);
    }
    this.chunk = this.#far.view;
    this.chunkOffset = 0;
    this.chunkLength = length;
  }

  #short(position: number): CorruptError {
    return new CorruptError(`Cannot read data at ${position}: the file ends before`, { position });
  }
}
