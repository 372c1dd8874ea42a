/**
 * Copying transactions of one Data.fs to the end of another that is being made: laid down as a replica lays them
 * down, with the data of each record resolved, whatever it was a back pointer to.
 */
import type { BlockFile } from "../ports/mod.ts";
import { NO_TID } from "../zodb/mod.ts";
import { FIRST_POSITION, MAGIC, RECORD } from "./layout.ts";
import { ObjectIndex } from "./index/object_index.ts";
import { Restorer } from "./restore.ts";
import { RecordReader } from "./revision.ts";
import type { TransactionReader } from "./transaction.ts";
import type { ByteSource } from "./window.ts";

const BUFFER_BYTES = 1024 * 1024;
const DATA_BLOCK_BYTES = 64 * 1024;

/** What becomes of a transaction in the copy. */
export interface CopyRules {
  /** The copy's status; default: the same. */
  readonly status?: number;
  /** Which records are copied; default: all. At least one must be. */
  readonly keeps?: (reader: TransactionReader) => boolean;
  /** Whether a record may share the data of the copy of the record at that position, if that is the same there. */
  readonly shares: (backPointer: number) => boolean;
}

export class TransactionCopier {
  /** Where each object's current record lies in the copy, as far as it is made. */
  readonly index = new ObjectIndex();
  readonly #target: BlockFile;
  readonly #source: ByteSource;
  readonly #pointed: RecordReader;
  readonly #restorer: Restorer;
  readonly #block = new Uint8Array(DATA_BLOCK_BYTES);

  /** @param target a new file, which gets the magic bytes */
  constructor(target: BlockFile, source: ByteSource) {
    this.#target = target;
    this.#source = source;
    this.#pointed = new RecordReader(source);
    this.#restorer = new Restorer(target, this.index, FIRST_POSITION, NO_TID, BUFFER_BYTES);
    target.writeAt(MAGIC, 0);
  }

  /** Where the copy ends, once everything is written. */
  get end(): number {
    return this.#restorer.end;
  }

  /** The last transaction copied. */
  get lastTid(): bigint {
    return this.#restorer.lastTid;
  }

  /** Whether a buffer's worth waits to be written: a moment to let others run. */
  get isFull(): boolean {
    return this.#restorer.length >= BUFFER_BYTES || this.#restorer.largeEnd !== undefined;
  }

  /**
   * Copies the transaction that the reader has just read. It may not be in the file yet: see {@link write}.
   * @throws CorruptError, DiskError
   */
  copy(reader: TransactionReader, { status, keeps, shares }: CopyRules): void {
    const head = reader.head();
    this.#restorer.begin(status === undefined ? head : { ...head, status });
    reader.rewindRecords();
    for (let at = reader.nextRecord(); at >= 0; at = reader.nextRecord()) {
      if (keeps === undefined || keeps(reader)) this.#copyRecord(reader, at, shares);
    }
    this.#restorer.commit();
  }

  /** Writes all that has been copied. @throws DiskError */
  write(): void {
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

  /** Writes the rest; nothing may be copied afterwards. @throws DiskError */
  finish(): void {
    this.write();
    // A large transaction may have been laid down in a longer form first.
    if (this.#target.size() > this.end) this.#target.truncate(this.end);
  }

  /** @param at the record's offset in the reader's window */
  #copyRecord(reader: TransactionReader, at: number, shares: CopyRules["shares"]): void {
    const pointed = this.#pointed;
    const { oidHigh, oidLow, backPointer, recordPosition } = reader;
    const tid = reader.window.view.getBigUint64(at + RECORD.tid);
    let { dataLength } = reader;
    let dataPosition = recordPosition + RECORD.size;
    let dataTid: bigint | undefined;
    if (backPointer !== 0) {
      pointed.read(backPointer, oidHigh, oidLow);
      if (shares(backPointer)) dataTid = pointed.tid;
      if (pointed.resolve(oidHigh, oidLow)) ({ dataLength, dataPosition } = pointed);
    }
    this.#restorer.record(oidHigh, oidLow, tid, dataTid, dataLength);
    if (backPointer === 0) this.#copyOwnData(reader, dataPosition, dataLength);
    else this.#copyData(reader, dataPosition, dataLength);
    this.#restorer.endRecord();
    this.#makeRoom();
  }

  /** Copies from the reader's window, where most of it lies already. */
  #copyOwnData(reader: TransactionReader, position: number, length: number): void {
    const { window } = reader;
    for (let done = 0; done < length; done += window.located) {
      const at = window.locateSome(position + done, length - done);
      if (at < 0) throw reader.corrupt("the file ends within a record");
      this.#restorer.data(window.bytes, at, at + window.located);
      this.#makeRoom();
    }
  }

  #copyData(reader: TransactionReader, position: number, length: number): void {
    for (let done = 0; done < length;) {
      const part = this.#block.subarray(0, Math.min(this.#block.length, length - done));
      if (this.#source.readAt(part, position + done) < part.length) {
        throw reader.corrupt("the file ends within a record");
      }
      this.#restorer.data(part, 0, part.length);
      done += part.length;
      this.#makeRoom();
    }
  }

  /** Keeps the buffer from growing with a large transaction. */
  #makeRoom(): void {
    const restorer = this.#restorer;
    if (restorer.length < BUFFER_BYTES) return;
    this.write();
    if (restorer.length >= BUFFER_BYTES) restorer.spill((bytes, position) => this.#put(bytes, position));
  }

  #put(bytes: Uint8Array, position: number): void {
    this.#target.writeAt(bytes, position);
  }
}
