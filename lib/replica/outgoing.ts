/**
 * Sending transactions of a Data.fs as a zrs2 stream: read in place, encoded into one of two buffers, the
 * other being written meanwhile. Memory does not depend on the transactions: a record larger than a buffer
 * goes through it in parts.
 */
import {
  DEFAULT_WINDOW_BYTES,
  type Generation,
  RECORD,
  RecordReader,
  TRAILER_SIZE,
  TRANSACTION,
  TransactionReader,
  Window,
} from "../filestorage/mod.ts";
import { readU64 } from "../bytes/mod.ts";
import { UnavailableError } from "../errors.ts";
import type { Log } from "../ports/mod.ts";
import { BLOB_SNIFF_BYTES, describeTid, formatOid, formatTid, isBlobRecord, STATUS } from "../zodb/mod.ts";
import { MAX_RECORD_HEAD, StreamEncoder, transactionMessageRoom } from "../zrs/mod.ts";
import { DuplicateFinder } from "./duplicates.ts";

/** The length in front of a message has 32 bits. */
const MAX_DATA_LENGTH = 0xffff_ffff;
const DATA_BLOCK_BYTES = 64 * 1024;
/** Room for any message but a transaction's head, and for some data. */
const LEAST_BUFFER_BYTES = 2 * MAX_RECORD_HEAD;

export interface OutgoingOptions {
  readonly blobs: "refuse" | "none";
  /** The size of each of the two buffers; one grows where a transaction's head needs more. */
  readonly bufferBytes: number;
  /** Writes to the peer; the bytes are lent until the promise resolves. */
  readonly write: (bytes: Uint8Array) => Promise<void>;
  readonly log: Log;
  /** Lets other work run during a long walk through the file. */
  readonly pause: () => Promise<void>;
}

/** The file was rolled back under what was being sent: the peer is to ask again. */
export class ChangedError extends UnavailableError {}

/** One secondary's way through one generation of the file. */
export class Outgoing {
  readonly #encoder: StreamEncoder;
  readonly #options: OutgoingOptions;
  readonly #reader: TransactionReader;
  #generation: Generation;
  #target: RecordReader;
  #duplicates: DuplicateFinder;
  /** Both are made when there is something to put into them: most secondaries have all there is. */
  #filling: Uint8Array = new Uint8Array();
  #idle: Uint8Array = new Uint8Array();
  #writing: Promise<void> = Promise.resolve();
  #dataBlock: Uint8Array | undefined;
  #withinData = false;
  readonly #targetTid = new Uint8Array(8);
  #lastTid: bigint;

  /**
   * @param startTid what the secondary has, as it said
   * @param generation held by the caller
   */
  constructor(generation: Generation, startTid: bigint, options: OutgoingOptions) {
    this.#options = options;
    this.#lastTid = startTid;
    this.#encoder = new StreamEncoder(startTid);
    this.#encoder.attach(this.#filling);
    this.#generation = generation;
    const { file } = generation;
    this.#reader = new TransactionReader(new Window(file, 0, DEFAULT_WINDOW_BYTES));
    this.#target = new RecordReader(file);
    this.#duplicates = new DuplicateFinder(file, options.pause);
  }

  /** The last transaction encoded. */
  get lastTid(): bigint {
    return this.#lastTid;
  }

  /** Goes on in another file. Only between two transactions. */
  switchTo(generation: Generation): void {
    this.#generation = generation;
    this.#reader.window.reset(generation.file, 0);
    this.#target = new RecordReader(generation.file);
    this.#duplicates = new DuplicateFinder(generation.file, this.#options.pause);
  }

  /**
   * Sends the transaction at `position`, or passes over a cancelled one. It may still be in a buffer
   * afterwards: see {@link flush}.
   * @param end the end of what may be read
   * @returns the position behind it
   * @throws CorruptError, UnavailableError
   */
  async send(position: number, end: number): Promise<number> {
    const reader = this.#reader;
    const encoder = this.#encoder;
    reader.window.limit = end;
    const state = reader.read(position);
    if (state !== "whole") throw reader.notWhole(state);
    if (reader.status === STATUS.undone) return reader.end;
    if (reader.tid <= this.#lastTid) {
      throw reader.corrupt(`its tid must be greater than the one before, ${describeTid(this.#lastTid)}`);
    }
    const head = reader.head();
    const room = transactionMessageRoom(head);
    if (encoder.room < room) await this.#turn(room);
    const extension = encoder.transaction(head);
    if (extension !== "spliced") this.#noteExtension(extension, head.tid);
    for (let at = reader.nextRecord(); at >= 0; at = reader.nextRecord()) {
      const { dataLength, recordPosition } = reader;
      if (dataLength === 0) {
        await this.#sendBackPointer(at);
        continue;
      }
      if (dataLength > MAX_DATA_LENGTH) this.#refuseTooLong(dataLength);
      if (encoder.room < MAX_RECORD_HEAD + dataLength) await this.#turn();
      const length = RECORD.size + dataLength;
      if (length > DEFAULT_WINDOW_BYTES || encoder.room < MAX_RECORD_HEAD + dataLength) {
        const { bytes } = reader.window;
        this.#checkBlobAt(recordPosition + RECORD.size, dataLength);
        encoder.record(bytes, at + RECORD.oid, at + RECORD.tid, null, 0, dataLength);
        await this.#sendData(recordPosition + RECORD.size, dataLength);
        continue;
      }
      const loaded = reader.window.locate(recordPosition, length);
      if (loaded < 0) throw reader.corrupt("the file ends within a record");
      const { bytes } = reader.window;
      const from = loaded + RECORD.size;
      if (isBlobRecord(bytes, from, from + dataLength)) this.#meetBlob();
      encoder.record(bytes, loaded + RECORD.oid, loaded + RECORD.tid, null, 0, dataLength);
      encoder.data(bytes, from, from + dataLength);
    }
    if (encoder.room < MAX_RECORD_HEAD) await this.#turn();
    this.#checkStillThere(head.tid);
    encoder.commit();
    this.#lastTid = head.tid;
    return reader.end;
  }

  /** Waits until all that has been encoded is on its way. */
  async flush(): Promise<void> {
    await this.#turn(0);
    await this.#writing;
  }

  /**
   * After {@link send} has failed: waits until what was encoded before is on its way, for it may hold whole
   * transactions.
   * @returns whether another message may follow; not so within a record's data
   */
  async giveUp(): Promise<boolean> {
    await this.flush();
    return !this.#withinData;
  }

  /**
   * A file that is cut and written anew while a transaction is being sent from it would otherwise give a mixture
   * of both, under a digest that is right. Whatever lies before the transaction can only have changed with it.
   * @throws ChangedError
   */
  #checkStillThere(tid: bigint): void {
    const { position, length, recordsEnd } = this.#reader;
    const { file } = this.#generation;
    const header = new DataView(new ArrayBuffer(TRANSACTION.size));
    const trailer = new DataView(new ArrayBuffer(TRAILER_SIZE));
    const isThere = file.readAt(new Uint8Array(header.buffer), position) === TRANSACTION.size &&
      file.readAt(new Uint8Array(trailer.buffer), recordsEnd) === TRAILER_SIZE &&
      header.getBigUint64(TRANSACTION.tid) === tid &&
      readU64(header, TRANSACTION.length) === length && readU64(trailer, 0) === length;
    if (isThere) return;
    throw new ChangedError(
      `Cannot send transaction ${describeTid(tid)}: it has been taken out of the file meanwhile`,
      { position, tid },
    );
  }

  /** Sends a record whose data another record has. */
  async #sendBackPointer(at: number): Promise<void> {
    const reader = this.#reader;
    const encoder = this.#encoder;
    const target = this.#target;
    const { oidHigh, oidLow, backPointer } = reader;
    const limit = reader.window.limit;
    let exists = false;
    let several = false;
    if (backPointer !== 0) {
      target.read(backPointer, oidHigh, oidLow);
      this.#targetTid.set(target.bytes.subarray(RECORD.tid, RECORD.tid + 8));
      const { transaction } = target;
      if (!this.#duplicates.knows(transaction)) await this.#duplicates.examine(transaction, limit);
      several = this.#duplicates.hasSeveral(transaction, oidHigh, oidLow);
      exists = target.resolve(oidHigh, oidLow);
    }
    if (encoder.room < MAX_RECORD_HEAD) await this.#turn();
    const { bytes } = reader.window;
    const link = backPointer === 0 || several ? null : this.#targetTid;
    const length = exists ? target.dataLength : 0;
    if (length > MAX_DATA_LENGTH) this.#refuseTooLong(length);
    if (length > 0) this.#checkBlobAt(target.dataPosition, length);
    encoder.record(bytes, at + RECORD.oid, at + RECORD.tid, link, 0, length);
    if (length > 0) await this.#sendData(target.dataPosition, length);
  }

  /** Sends data that is not in the window, in as many parts as it takes. */
  async #sendData(position: number, length: number): Promise<void> {
    const block = this.#dataBlock ??= new Uint8Array(DATA_BLOCK_BYTES);
    this.#withinData = true;
    for (let done = 0; done < length;) {
      if (this.#encoder.room === 0) await this.#turn();
      const wanted = Math.min(block.length, length - done, this.#encoder.room);
      const part = block.subarray(0, wanted);
      if (this.#generation.file.readAt(part, position + done) < wanted) {
        throw this.#reader.corrupt("the file ends within a record");
      }
      this.#encoder.data(part, 0, wanted);
      done += wanted;
    }
    this.#withinData = false;
  }

  /** Looks at data that is not in the window, before anything of its record is sent. */
  #checkBlobAt(position: number, length: number): void {
    if (this.#options.blobs === "none") return;
    const start = new Uint8Array(Math.min(length, BLOB_SNIFF_BYTES));
    const count = this.#generation.file.readAt(start, position);
    if (isBlobRecord(start, 0, count)) this.#meetBlob();
  }

  #refuseTooLong(length: number): never {
    const { oid, tid } = this.#reader;
    throw new UnavailableError(
      `Cannot send object ${formatOid(oid)} of transaction ${
        describeTid(tid)
      }: its data of ${length} bytes is ` +
        `longer than a message of zrs2 can be, ${MAX_DATA_LENGTH} bytes`,
      { oid, tid, hint: "copy the file by other means up to that transaction" },
    );
  }

  #meetBlob(): void {
    if (this.#options.blobs === "none") return;
    const { oid, tid } = this.#reader;
    throw new UnavailableError(
      `Cannot send object ${formatOid(oid)} of transaction ${describeTid(tid)}: it is a blob, ` +
        `and blobs are not replicated yet`,
      {
        oid,
        tid,
        hint: "start both ends with --blobs none to replicate the records without the blobs' files",
      },
    );
  }

  #noteExtension(travelled: ReturnType<StreamEncoder["transaction"]>, tid: bigint): void {
    if (travelled !== "left_out") return;
    this.#options.log.warning(
      `The extension of transaction ${describeTid(tid)} is not a pickled dict that Python could load: ` +
        `it is sent without one`,
      { tid: formatTid(tid) },
    );
  }

  /**
   * Starts writing what is encoded, and goes on in the other buffer once it is free.
   * @param room how much of it is needed
   */
  async #turn(room = 1): Promise<void> {
    const length = this.#encoder.length;
    if (length === 0 && room <= this.#filling.length) return;
    const full = this.#filling;
    await this.#writing; // the other buffer is free from here on
    this.#filling = room <= this.#idle.length
      ? this.#idle
      : new Uint8Array(Math.max(room, this.#options.bufferBytes, LEAST_BUFFER_BYTES));
    this.#idle = full;
    this.#encoder.attach(this.#filling);
    if (length === 0) return;
    this.#writing = this.#options.write(full.subarray(0, length));
    this.#writing.catch(() => {}); // told by the next await
  }
}
