/**
 * What a transaction says, whatever file it lies in, as bytes to be digested: a copy says the same at other
 * positions, with other links to earlier records, with a back pointer where the original has data or the other way
 * round. Integers are big-endian.
 *
 * | a transaction's                         | bytes                |
 * | --------------------------------------- | -------------------- |
 * | tid                                     | 8                    |
 * | lengths of user, description, extension | 2 each               |
 * | user, description, extension            | as they lie there    |
 * | then for each record, in order: oid     | 8                    |
 * | length of its data                      | 8, all ones for none |
 * | its data                                | as they lie there    |
 *
 * The data of a record with a back pointer are those that it leads to. A record has none where the object does
 * not exist any more: its creation was undone, or it was deleted. Not covered are the status, positions and
 * previous positions, and whether data lay behind a back pointer.
 *
 * Data are taken from the window in which the transaction is being read, as far as they lie there, and hashes get
 * large pieces: on small records a read or an update for each would cost several times what digesting does.
 */
import type { Hash } from "node:crypto";
import { viewOf, writeU64 } from "../../bytes/mod.ts";
import { CorruptError } from "../../errors.ts";
import { RECORD, TRANSACTION } from "../layout.ts";
import { RecordReader } from "../revision.ts";
import type { TransactionReader } from "../transaction.ts";
import type { ByteSource, Window } from "../window.ts";

/** A record whose header has been read: a TransactionReader has it, for one. */
export interface ReadRecord {
  readonly oidHigh: number;
  readonly oidLow: number;
  readonly recordPosition: number;
  readonly dataLength: number;
  readonly backPointer: number;
}

/** What is small is gathered in a buffer of this size, and data that lie elsewhere are read through it. */
const BUFFER_BYTES = 64 * 1024;

/** Pieces from this size on are digested where they lie. */
const MIN_DIRECT_BYTES = 8 * 1024;

/** After so many bytes others run. */
const BYTES_BETWEEN_PAUSES = 16 * 1024 * 1024;

/** What walking to a record costs, in bytes of digesting. */
const RECORD_COST = 128;

/** The length of data that do not exist, in either half. */
const NO_DATA = 0xffff_ffff;

/**
 * Puts transactions, or parts of them, into hashes: first what to put is said, and then {@link run} does it, in
 * pieces of bounded work.
 */
export class ContentFeed {
  /** How many bytes have been put so far. */
  length = 0;
  /** How many records of the transaction that was begun last. */
  records = 0;

  readonly #source: ByteSource;
  readonly #target: RecordReader;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  readonly #view = viewOf(this.#buffer);
  #filled = 0;
  #hashes: readonly Hash[] = [];
  /** Whose records are being put. */
  #reader: TransactionReader | undefined;
  /** What is left of the data being put, and where in the file it lies. */
  #position = 0;
  #left = 0;
  #sincePause = 0;

  constructor(source: ByteSource) {
    this.#source = source;
    this.#target = new RecordReader(source);
  }

  /** What is put from now on goes into these. */
  direct(...hashes: readonly Hash[]): void {
    this.flush();
    this.#hashes = hashes;
  }

  /** Hands on what has been gathered. To be called before a digest is taken. */
  flush(): void {
    if (this.#filled === 0) return;
    this.#update(this.#buffer.subarray(0, this.#filled));
    this.#filled = 0;
  }

  /** @param reader has read the transaction. @throws CorruptError, DiskError */
  putTid(reader: TransactionReader): void {
    this.#putStretch(reader.window, reader.position + TRANSACTION.tid, 8);
  }

  /** The three lengths and the three texts, which lie side by side. @throws CorruptError, DiskError */
  putTexts(reader: TransactionReader): void {
    const position = reader.position + TRANSACTION.userLength;
    this.#putStretch(reader.window, position, reader.headLength - TRANSACTION.userLength);
  }

  putLength(length: number): void {
    this.#makeRoom(8);
    writeU64(this.#view, this.#filled, length);
    this.#filled += 8;
    this.length += 8;
  }

  /** All records of the transaction that the reader has read are put by {@link run}; it is moved through them. */
  beginRecords(reader: TransactionReader): void {
    reader.rewindRecords();
    this.#reader = reader;
    this.records = 0;
  }

  /** One record is put by {@link run}. @throws CorruptError, DiskError */
  beginRecord(record: ReadRecord): void {
    this.#reader = undefined;
    this.#putHeader(record);
  }

  /**
   * Puts what was begun.
   * @returns false where others should have their turn, before it is called again
   * @throws CorruptError, DiskError
   */
  run(): boolean {
    const reader = this.#reader;
    for (;;) {
      if (this.#sincePause >= BYTES_BETWEEN_PAUSES) {
        this.#sincePause = 0;
        return false;
      }
      if (this.#left > 0) {
        this.#putSome(reader?.window);
      } else {
        if (reader === undefined || reader.nextRecord() < 0) return true;
        this.records++;
        this.#putHeader(reader);
      }
    }
  }

  /** Puts a record's oid and length, and finds its data. */
  #putHeader({ oidHigh, oidLow, recordPosition, dataLength, backPointer }: ReadRecord): void {
    this.#position = recordPosition + RECORD.size;
    this.#left = dataLength;
    const exists = dataLength > 0 || this.#follow(backPointer, recordPosition, oidHigh, oidLow);
    this.#makeRoom(16);
    const view = this.#view;
    const at = this.#filled;
    view.setUint32(at, oidHigh);
    view.setUint32(at + 4, oidLow);
    if (exists) {
      writeU64(view, at + 8, this.#left);
    } else {
      view.setUint32(at + 8, NO_DATA);
      view.setUint32(at + 12, NO_DATA);
    }
    this.#filled += 16;
    this.length += 16;
    this.#sincePause += RECORD_COST;
  }

  /** @returns whether the object exists: then its data are found */
  #follow(backPointer: number, from: number, oidHigh: number, oidLow: number): boolean {
    if (backPointer === 0) return false;
    const target = this.#target;
    target.read(backPointer, oidHigh, oidLow);
    if (!target.resolve(oidHigh, oidLow)) return false;
    const { dataPosition, dataLength } = target;
    if (dataPosition + dataLength > from) {
      throw new CorruptError(
        `Cannot read the data record at ${target.position}: its data of ${dataLength} bytes reach beyond ` +
          `the record at ${from} that has a back pointer to it`,
        { position: target.position },
      );
    }
    this.#position = dataPosition;
    this.#left = dataLength;
    return true;
  }

  #putStretch(window: Window, position: number, length: number): void {
    this.#position = position;
    this.#left = length;
    while (this.#left > 0) this.#putSome(window);
  }

  /** Puts as much as is at hand at once. @param window where it may lie */
  #putSome(window: Window | undefined): void {
    const at = window?.peek(this.#position, this.#left) ?? -1;
    let count = this.#left;
    if (at < 0) {
      if (this.#filled === BUFFER_BYTES) this.flush();
      count = Math.min(BUFFER_BYTES - this.#filled, count);
      const into = this.#buffer.subarray(this.#filled, this.#filled + count);
      if (this.#source.readAt(into, this.#position) < count) {
        throw new CorruptError(
          `Cannot read ${this.#left} bytes at ${this.#position}: the file ends before`,
          { position: this.#position },
        );
      }
      this.#filled += count;
    } else if (count >= MIN_DIRECT_BYTES) {
      this.flush();
      this.#update(window!.bytes.subarray(at, at + count));
    } else {
      this.#makeRoom(count);
      this.#buffer.set(window!.bytes.subarray(at, at + count), this.#filled);
      this.#filled += count;
    }
    this.#position += count;
    this.#left -= count;
    this.length += count;
    this.#sincePause += count;
  }

  #makeRoom(count: number): void {
    if (this.#filled + count > BUFFER_BYTES) this.flush();
  }

  #update(bytes: Uint8Array): void {
    for (const hash of this.#hashes) hash.update(bytes);
  }
}
