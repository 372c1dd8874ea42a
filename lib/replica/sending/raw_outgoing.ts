/**
 * Sending a Data.fs as it lies, to a secondary whose file is a prefix of it: whole transactions in runs, copied
 * from the file into one of two buffers while the other is being written (docs/native_protocol.md, "Runs").
 */
import {
  BlobFinder,
  type BlobKey,
  blobKeyOf,
  DEFAULT_WINDOW_BYTES,
  type Generation,
  TransactionReader,
  Window,
} from "../../filestorage/mod.ts";
import { ZrsError } from "../../errors.ts";
import { MAX_HEAD_FRAME, type NativeEncoder } from "../../native/mod.ts";
import type { Clock } from "../../ports/mod.ts";
import { describeTid, STATUS } from "../../zodb/mod.ts";
import type { OutgoingBlobs } from "./outgoing_blobs.ts";
import type { Resumption } from "./raw_start.ts";
import { SendBuffers } from "./send_buffers.ts";
import { checkStillThere, type Stretch } from "../still_there.ts";

export interface RawOutgoingOptions {
  readonly blobs: OutgoingBlobs;
  /** The size of each of the two buffers. */
  readonly bufferBytes: number;
  /** Writes to the peer; the bytes are lent until the promise resolves. */
  readonly write: (bytes: Uint8Array) => Promise<void>;
  /** A run of several transactions has at most so many bytes. */
  readonly runBytes: number;
  readonly clock: Clock;
}

/**
 * A run counts for the secondary when it is whole, and is lost with the connection before. On a slow link it ends
 * after so long, however few bytes it has: else a link that breaks more often than a run takes would bring nothing.
 */
const RUN_MS = 1_000;

export class RawOutgoing {
  readonly #encoder: NativeEncoder;
  readonly #generation: Generation;
  readonly #reader: TransactionReader;
  readonly #buffers: SendBuffers;
  readonly #runBytes: number;
  readonly #clock: Clock;
  readonly #blobs: OutgoingBlobs;
  readonly #finder: BlobFinder;
  #block: Uint8Array | undefined;
  /** The transaction copied last. */
  #copied: Stretch | undefined;
  #lastTid: bigint;

  /** @param generation held by the caller */
  constructor(
    generation: Generation,
    startTid: bigint,
    encoder: NativeEncoder,
    options: RawOutgoingOptions,
  ) {
    this.#generation = generation;
    this.#lastTid = startTid;
    this.#encoder = encoder;
    this.#runBytes = options.runBytes;
    this.#clock = options.clock;
    this.#blobs = options.blobs;
    this.#finder = new BlobFinder(generation.file);
    this.#reader = new TransactionReader(new Window(generation.file, 0, DEFAULT_WINDOW_BYTES));
    this.#buffers = new SendBuffers(encoder, options.bufferBytes, options.write);
  }

  /** The last transaction encoded. */
  get lastTid(): bigint {
    return this.#lastTid;
  }

  /**
   * Sends one run: transactions from `position` on, as many as fit into one, or a single one that is larger. The
   * contents of blobs go before the run, so only its first transaction has some. It may still be in a buffer
   * afterwards: see {@link flush}. Where one cannot be read, the run ends before it.
   * @param end the end of what may be read
   * @returns the position behind the run
   * @throws CorruptError, DiskError when the first transaction cannot be read; UnavailableError when it has a blob
   * that is not to be sent, or has no file; ChangedError
   */
  async send(position: number, end: number): Promise<number> {
    const reader = this.#reader;
    reader.window.limit = end;
    let at = position;
    let last = position;
    let transactions = 0;
    const untilMs = this.#clock.monotonic() + RUN_MS;
    while (at < end && this.#load(at, transactions === 0)) {
      const length = reader.end - at;
      const isLarge = this.#isLarge;
      const isFull = isLarge || at + length - position > this.#runBytes || this.#clock.monotonic() >= untilMs;
      if (transactions > 0 && isFull) break;
      const blobs = this.#findBlobs(transactions === 0);
      if (blobs === undefined || blobs.length > 0 && transactions > 0) break;
      if (blobs.length > 0) {
        await this.#sendBlobs(blobs);
        this.#load(at, true); // the window may have moved on
      }
      if (reader.status !== STATUS.undone) this.#lastTid = reader.tid;
      // What was read meanwhile may belong to another history, if this one has been rolled back.
      const isFresh = isLarge || reader.window.locate(at, length) === 0;
      if (isFresh && this.#copied !== undefined) checkStillThere(this.#generation.file, this.#copied);
      this.#copied = { position: at, length: reader.length, recordsEnd: reader.recordsEnd, tid: reader.tid };
      if (isLarge) await this.#copyLarge(at, length);
      else await this.#copy(at, length);
      last = at;
      at += length;
      transactions++;
      if (isLarge) break;
    }
    reader.read(last);
    checkStillThere(this.#generation.file, reader);
    this.#encoder.whole(this.#lastTid, at - position, transactions);
    return at;
  }

  /**
   * Sends the rest of a transaction whose beginning the secondary has, as a run. See {@link send}.
   * @param end the end of what may be read
   * @returns the position behind it
   */
  async resume({ stretch, from }: Resumption, end: number): Promise<number> {
    const { position } = stretch;
    const reader = this.#reader;
    reader.window.limit = end;
    this.#load(position, true);
    const length = reader.end - position;
    if (reader.status !== STATUS.undone) this.#lastTid = reader.tid;
    this.#copied = stretch;
    await this.#copyLarge(position, length, from);
    checkStillThere(this.#generation.file, stretch);
    if (this.#encoder.room === 0) await this.#buffers.turn(); // nothing but the end was missing, say
    this.#encoder.whole(this.#lastTid, length - from, 1);
    return position + length;
  }

  /** Waits until all that has been encoded is on its way. */
  async flush(): Promise<void> {
    await this.#buffers.flush();
  }

  /**
   * Reads the transaction at a position, into memory where it fits.
   * @returns false when it cannot be read, and is not the run's first
   */
  #load(at: number, isFirst: boolean): boolean {
    const reader = this.#reader;
    const { window } = reader;
    try {
      const state = reader.read(at);
      if (state !== "whole") throw reader.notWhole(state);
      if (reader.status !== STATUS.undone && reader.tid <= this.#lastTid) {
        throw reader.corrupt(`its tid must be greater than the one before, ${describeTid(this.#lastTid)}`);
      }
      if (this.#isLarge) return true;
      if (window.locate(at, reader.end - at) < 0) throw reader.corrupt("the file ends within it");
      return true;
    } catch (error) {
      if (isFirst || !(error instanceof ZrsError)) throw error;
      return false;
    }
  }

  /** Whether the transaction last read has no room in the window. */
  get #isLarge(): boolean {
    const reader = this.#reader;
    return reader.end - reader.position > reader.window.bytes.length;
  }

  /**
   * The blobs of the transaction last read.
   * @returns undefined when it cannot be read, and is not the run's first
   */
  #findBlobs(isFirst: boolean): BlobKey[] | undefined {
    const reader = this.#reader;
    if (this.#blobs.isOff || reader.status === STATUS.undone) return [];
    const found: BlobKey[] = [];
    try {
      while (reader.nextRecord() >= 0) {
        if (this.#finder.isBlob(reader)) found.push(blobKeyOf(reader));
      }
      return found;
    } catch (error) {
      if (isFirst || !(error instanceof ZrsError)) throw error;
      return undefined;
    }
  }

  /** An object may have several records in one transaction, and one file. */
  async #sendBlobs(keys: readonly BlobKey[]): Promise<void> {
    const sent = new Set<bigint>();
    for (const key of keys) {
      if (sent.has(key.oid)) continue;
      sent.add(key.oid);
      using content = await this.#blobs.open(key);
      if (content === undefined) continue;
      if (this.#encoder.room < MAX_HEAD_FRAME) await this.#buffers.turn();
      await this.#blobs.send(content, this.#encoder, this.#buffers);
    }
    if (this.#encoder.room === 0) await this.#buffers.turn();
  }

  async #copy(position: number, length: number): Promise<void> {
    const { window } = this.#reader;
    const from = window.locate(position, length);
    for (let done = 0; done < length;) {
      if (this.#encoder.room === 0) await this.#buffers.turn();
      const count = Math.min(this.#encoder.room, length - done);
      this.#encoder.raw(window.bytes, from + done, from + done + count);
      done += count;
    }
  }

  async #copyLarge(position: number, length: number, from = 0): Promise<void> {
    const block = this.#block ??= new Uint8Array(DEFAULT_WINDOW_BYTES);
    for (let done = from; done < length;) {
      if (this.#encoder.room === 0) await this.#buffers.turn();
      const part = block.subarray(0, Math.min(block.length, this.#encoder.room, length - done));
      if (this.#generation.file.readAt(part, position + done) < part.length) {
        throw this.#reader.corrupt("the file ends within it");
      }
      this.#encoder.raw(part, 0, part.length);
      done += part.length;
    }
  }
}
