/**
 * Sending transactions of a Data.fs record by record, as zrs2 does and the native stream where the two files lie
 * differently: read in place, encoded into one of two buffers, the
 * other being written meanwhile. Memory does not depend on the transactions: a record larger than a buffer
 * goes through it in parts.
 */
import {
  BlobFinder,
  blobKeyOf,
  DEFAULT_WINDOW_BYTES,
  type Generation,
  RECORD,
  RecordReader,
  TransactionReader,
  Window,
} from "../../filestorage/mod.ts";
import { UnavailableError } from "../../errors.ts";
import type { Log } from "../../ports/mod.ts";
import {
  describeTid,
  formatOid,
  formatTid,
  isBlobRecord,
  STATUS,
  type TransactionHead,
} from "../../zodb/mod.ts";
import { MAX_RECORD_HEAD } from "../../zrs/mod.ts";
import { DuplicateFinder } from "./duplicates.ts";
import type { BlobContent, BlobEncoder, OutgoingBlobs } from "./outgoing_blobs.ts";
import { type FillableBuffer, SendBuffers } from "./send_buffers.ts";
import { checkStillThere } from "../still_there.ts";

/** The length in front of a message has 32 bits. */
const MAX_DATA_LENGTH = 0xffff_ffff;
const DATA_BLOCK_BYTES = 64 * 1024;

/** Writes transactions record by record; the stream of either protocol. */
export interface TransactionEncoder extends FillableBuffer, BlobEncoder {
  headRoom(head: TransactionHead): number;
  /** @returns how the extension travels */
  transaction(head: TransactionHead): string;
  record(
    source: Uint8Array,
    oidAt: number,
    tidAt: number,
    dataTidSource: Uint8Array | null,
    dataTidAt: number,
    dataLength: number,
  ): void;
  /** As `record`, of a blob: behind its data follow `beginBlob` and the content. */
  blobRecord(
    source: Uint8Array,
    oidAt: number,
    tidAt: number,
    dataTidSource: Uint8Array | null,
    dataTidAt: number,
    dataLength: number,
    blobLength: number,
  ): void;
  data(source: Uint8Array, from: number, to: number): void;
  commit(): void;
}

export interface OutgoingOptions {
  readonly blobs: OutgoingBlobs;
  /** The size of each of the two buffers; one grows where a transaction's head needs more. */
  readonly bufferBytes: number;
  /** Writes to the peer; the bytes are lent until the promise resolves. */
  readonly write: (bytes: Uint8Array) => Promise<void>;
  readonly log: Log;
  /** Lets other work run during a long walk through the file. */
  readonly pause: () => Promise<void>;
}

/** One secondary's way through one generation of the file. */
export class Outgoing {
  readonly #encoder: TransactionEncoder;
  readonly #buffers: SendBuffers;
  readonly #options: OutgoingOptions;
  readonly #reader: TransactionReader;
  #generation: Generation;
  #target: RecordReader;
  #duplicates: DuplicateFinder;
  #finder: BlobFinder;
  #dataBlock: Uint8Array | undefined;
  #withinData = false;
  readonly #targetTid = new Uint8Array(8);
  #lastTid: bigint;

  /**
   * @param generation held by the caller
   * @param startTid what the secondary has, as it said
   */
  constructor(
    generation: Generation,
    startTid: bigint,
    encoder: TransactionEncoder,
    options: OutgoingOptions,
  ) {
    this.#options = options;
    this.#lastTid = startTid;
    this.#encoder = encoder;
    this.#buffers = new SendBuffers(encoder, options.bufferBytes, options.write);
    this.#generation = generation;
    const { file } = generation;
    this.#reader = new TransactionReader(new Window(file, 0, DEFAULT_WINDOW_BYTES));
    this.#target = new RecordReader(file);
    this.#duplicates = new DuplicateFinder(file, options.pause);
    this.#finder = new BlobFinder(file);
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
    this.#finder = new BlobFinder(generation.file);
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
    const room = encoder.headRoom(head);
    if (encoder.room < room) await this.#buffers.turn(room);
    const extension = encoder.transaction(head);
    if (extension !== "spliced") this.#noteExtension(extension, head.tid);
    for (let at = reader.nextRecord(); at >= 0; at = reader.nextRecord()) {
      const { dataLength, recordPosition } = reader;
      if (dataLength === 0) {
        await this.#sendBackPointer(at);
        continue;
      }
      if (dataLength > MAX_DATA_LENGTH) this.#refuseTooLong(dataLength);
      if (encoder.room < MAX_RECORD_HEAD + dataLength) await this.#buffers.turn();
      const length = RECORD.size + dataLength;
      if (length > DEFAULT_WINDOW_BYTES || encoder.room < MAX_RECORD_HEAD + dataLength) {
        await this.#sendFromFile(at, null, recordPosition + RECORD.size, dataLength);
        continue;
      }
      const loaded = reader.window.locate(recordPosition, length);
      if (loaded < 0) throw reader.corrupt("the file ends within a record");
      const { bytes } = reader.window;
      const from = loaded + RECORD.size;
      if (!this.#options.blobs.isOff && isBlobRecord(bytes, from, from + dataLength)) {
        await this.#sendFromFile(loaded, null, recordPosition + RECORD.size, dataLength);
        continue;
      }
      encoder.record(bytes, loaded + RECORD.oid, loaded + RECORD.tid, null, 0, dataLength);
      encoder.data(bytes, from, from + dataLength);
    }
    if (encoder.room < MAX_RECORD_HEAD) await this.#buffers.turn();
    checkStillThere(this.#generation.file, reader);
    encoder.commit();
    this.#lastTid = head.tid;
    return reader.end;
  }

  /** Waits until all that has been encoded is on its way. */
  async flush(): Promise<void> {
    await this.#buffers.flush();
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
    if (encoder.room < MAX_RECORD_HEAD) await this.#buffers.turn();
    const link = backPointer === 0 || several ? null : this.#targetTid;
    const length = exists ? target.dataLength : 0;
    if (length > MAX_DATA_LENGTH) this.#refuseTooLong(length);
    await this.#sendFromFile(at, link, target.dataPosition, length);
  }

  /**
   * Sends a record whose header is loaded, with data from any place in the file, and the content of a blob.
   * @param length of the data; 0 for none
   */
  async #sendFromFile(at: number, link: Uint8Array | null, position: number, length: number): Promise<void> {
    const { bytes } = this.#reader.window;
    const [oidAt, tidAt] = [at + RECORD.oid, at + RECORD.tid];
    using content = length > 0 ? await this.#contentAt(position, length) : undefined;
    if (content === undefined) {
      this.#encoder.record(bytes, oidAt, tidAt, link, 0, length);
    } else {
      this.#encoder.blobRecord(bytes, oidAt, tidAt, link, 0, length, content.length);
    }
    if (length > 0) await this.#sendData(position, length);
    if (content !== undefined) await this.#sendContent(content);
  }

  /** The content that goes with the record that the reader has moved to, if it is a blob's by its data. */
  async #contentAt(position: number, length: number): Promise<BlobContent | undefined> {
    const { blobs } = this.#options;
    if (blobs.isOff || !this.#finder.isBlobAt(position, length)) return undefined;
    return await blobs.open(blobKeyOf(this.#reader));
  }

  async #sendContent(content: BlobContent): Promise<void> {
    this.#withinData = true;
    if (this.#encoder.room < MAX_RECORD_HEAD) await this.#buffers.turn();
    await this.#options.blobs.send(content, this.#encoder, this.#buffers);
    this.#withinData = false;
  }

  /** Sends data that is not in the window, in as many parts as it takes. */
  async #sendData(position: number, length: number): Promise<void> {
    const block = this.#dataBlock ??= new Uint8Array(DATA_BLOCK_BYTES);
    this.#withinData = true;
    for (let done = 0; done < length;) {
      if (this.#encoder.room === 0) await this.#buffers.turn();
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

  #noteExtension(travelled: string, tid: bigint): void {
    if (travelled !== "left_out") return;
    this.#options.log.warning(
      `The extension of transaction ${describeTid(tid)} is not a pickled dict that Python could load: ` +
        `it is sent without one`,
      { tid: formatTid(tid) },
    );
  }
}
