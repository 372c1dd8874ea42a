/**
 * Bytes of another file that follow the end of ours, cut into transactions as they come and appended. What is not
 * finished there is left, and so is everything behind it.
 */
import { readU64, viewOf } from "../../bytes/mod.ts";
import { CorruptError, UnavailableError } from "../../errors.ts";
import { type ExamineRecord, isFinalStatus, TRAILER_SIZE, TRANSACTION } from "../../filestorage/mod.ts";
import { describeTid, STATUS } from "../../zodb/mod.ts";
import { type Incoming, UnwantedError } from "../receiving/incoming.ts";
import type { Sink } from "../receiving/sink.ts";

/** Transactions that fill so much together are checked, and handed on for writing; less where buffers are smaller. */
const STRETCH_BYTES = 1024 * 1024;

/** The other file is damaged, or its bytes do not fit behind ours. */
export class FarDamagedError extends UnavailableError {}

export class FarRuns {
  readonly #name: string;
  readonly #sink: Sink;
  readonly #stretchBytes: number;
  readonly #limit: number;
  readonly #incoming: Incoming;
  readonly #pause: () => Promise<void>;
  readonly #until: bigint | undefined;
  readonly #fetchBlobs: (() => Promise<void>) | undefined;
  /** A header whose last bytes have not come yet. */
  readonly #head = new Uint8Array(TRANSACTION.size);
  readonly #headView = viewOf(this.#head);
  #headFilled = 0;
  /** Bytes of the transaction under way that have not come yet. */
  #left = 0;
  /** Bytes of the transactions that have not been checked, the one under way included. */
  #stretch = 0;
  /** Where the transaction under way begins, or the next one. */
  #position: number;
  #transactions = 0;
  #damage: FarDamagedError | undefined;
  #hasStopped = false;

  /**
   * @param name of the other file, for messages
   * @param runBytes from so many on the sink takes what comes for a single transaction
   * @param limit where the other file ended when it was looked at: nothing behind it is taken
   * @param pause lets other work run while a large transaction is checked
   * @param incoming looks at every record
   * @param until nothing later is taken
   * @param fetchBlobs fetches the blobs of what has come and has not been checked; nothing else may be read from there
   * meanwhile, so a large transaction must have been read to its end
   */
  constructor(
    name: string,
    sink: Sink,
    runBytes: number,
    limit: number,
    incoming: Incoming,
    pause: () => Promise<void>,
    until?: bigint,
    fetchBlobs?: () => Promise<void>,
  ) {
    this.#pause = pause;
    this.#until = until;
    this.#name = name;
    this.#sink = sink;
    this.#stretchBytes = Math.min(STRETCH_BYTES, runBytes - 1);
    this.#limit = limit;
    this.#incoming = incoming;
    this.#fetchBlobs = fetchBlobs;
    this.#position = sink.restorer.end;
  }

  /** Whole transactions that have been taken, cancelled ones included. */
  get transactions(): number {
    return this.#transactions;
  }

  /** Whether nothing that comes is taken any more: it is not finished, damaged, or later than what is wanted. */
  get hasStopped(): boolean {
    return this.#hasStopped;
  }

  /** The end of the last of them. */
  get end(): number {
    return this.#sink.restorer.end;
  }

  /**
   * Takes what comes next.
   * @throws FarDamagedError, UnwantedError; DiskError final
   */
  async take(bytes: Uint8Array, from: number, to: number): Promise<void> {
    const { restorer } = this.#sink;
    for (let at = from; at < to && !this.#hasStopped;) {
      if (this.#left === 0) {
        const count = Math.min(TRANSACTION.size - this.#headFilled, to - at);
        this.#head.set(bytes.subarray(at, at + count), this.#headFilled);
        this.#headFilled += count;
        at += count;
        if (this.#headFilled === TRANSACTION.size) await this.#begin();
        continue;
      }
      const count = Math.min(this.#left, to - at);
      restorer.data(bytes, at, at + count);
      this.#left -= count;
      this.#stretch += count;
      at += count;
    }
    await this.#sink.settle();
  }

  /**
   * Checks all that has come, which must be whole transactions.
   * @throws as {@link take}, and what `fetchBlobs` throws
   */
  async settle(): Promise<void> {
    if (this.#stretch > 0) await this.#check();
    await this.#sink.settle();
  }

  /**
   * Nothing more comes. What is whole is durable afterwards.
   * @throws FarDamagedError, UnwantedError; DiskError final
   */
  async finish(): Promise<void> {
    try {
      const isCutOff = this.#left > 0 && this.#sink.restorer.begun !== undefined;
      if (this.#stretch > 0 && !isCutOff) await this.#judge();
    } catch (error) {
      // What has failed before tells why a blob has not come.
      if (this.#fetchBlobs !== undefined && error instanceof UnwantedError) return;
      // A transaction of which the end has not come is found damaged where it breaks off.
      if (!(error instanceof FarDamagedError) || this.#left === 0) throw error;
    } finally {
      await this.#sink.abort();
    }
    if (this.#damage !== undefined) throw this.#damage;
  }

  /** A header has come. */
  async #begin(): Promise<void> {
    this.#headFilled = 0;
    const view = this.#headView;
    const length = readU64(view, TRANSACTION.length);
    const status = this.#head[TRANSACTION.status]!;
    const size = length + TRAILER_SIZE;
    if (status === STATUS.voted || this.#position + size > this.#limit) {
      this.#hasStopped = true; // its writer has not finished it, or never will
      return;
    }
    if (this.#until !== undefined && view.getBigUint64(TRANSACTION.tid) > this.#until) {
      this.#hasStopped = true;
      return;
    }
    if (!isFinalStatus(status) || length < TRANSACTION.size) {
      this.#hasStopped = true;
      this.#damage = this.#damaged(
        `transaction ${
          describeTid(view.getBigUint64(TRANSACTION.tid))
        } at ${this.#position} has status byte ` +
          `0x${status.toString(16)} and length ${length}`,
      );
      return;
    }
    // One that is too large for a buffer must be alone.
    if (this.#stretch > 0 && this.#stretch + size > this.#stretchBytes) await this.#check();
    const { restorer } = this.#sink;
    if (!restorer.isOpen) restorer.beginRaw();
    restorer.data(this.#head, 0, TRANSACTION.size);
    this.#stretch += TRANSACTION.size;
    this.#left = size - TRANSACTION.size;
    this.#position += size;
  }

  async #check(): Promise<void> {
    await this.#fetchBlobs?.();
    await this.#judge();
  }

  async #judge(): Promise<void> {
    const { restorer } = this.#sink;
    const incoming = this.#incoming;
    const examine: ExamineRecord = (reader) => incoming.examine(reader);
    this.#stretch = 0;
    try {
      if (restorer.begun !== undefined) {
        await restorer.endLargeRaw(examine, this.#pause);
        this.#transactions++;
      } else {
        this.#transactions += restorer.endRaw(examine);
      }
    } catch (error) {
      if (!(error instanceof CorruptError)) throw error;
      throw this.#damaged(error.message, error);
    } finally {
      incoming.keepBlobs(); // what is whole counts, also before one that is refused
    }
  }

  #damaged(what: string, cause?: unknown): FarDamagedError {
    return new FarDamagedError(`What ${this.#name} has next cannot be taken: ${what}`, {
      cause,
      hint: "Test the file there with ZODB's fstest, and this copy too",
    });
  }
}
