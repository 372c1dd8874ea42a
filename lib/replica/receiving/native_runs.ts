/**
 * Taking transactions and blobs from the native stream: runs of the source's bytes, which are checked before they
 * count, or transactions record by record. Remembers what of them is to be acknowledged.
 */
import { type BlobKey, type ExamineRecord, missingBlobsPath, type Restorer } from "../../filestorage/mod.ts";
import { CorruptError, ProtocolError, UnavailableError } from "../../errors.ts";
import {
  type Acknowledgement,
  type Begun,
  Milestones,
  type NativeContent,
  type NativeDecoder,
  type Whole,
} from "../../native/mod.ts";
import { describeTid, formatOid, formatOidDigits, formatTid, type TransactionHead } from "../../zodb/mod.ts";
import { Incoming } from "./incoming.ts";
import type { IncomingBlobs } from "./incoming_blobs.ts";
import type { IntakeContext } from "./intake.ts";
import { pauser } from "../waiting.ts";

/** What the source's file holds does not fit behind ours, byte by byte: to be asked for record by record. */
export class MisfitError extends UnavailableError {}

export interface NativeRunsOptions {
  /** Whether the source may send bytes as they lie in its file. */
  readonly raw: boolean;
  /** Nothing later is taken; undefined: whatever comes. */
  readonly until: bigint | undefined;
}

export class NativeRuns implements NativeContent {
  readonly #context: IntakeContext;
  readonly #options: NativeRunsOptions;
  /** Whoever drives it takes the bytes up again when what halted it has been seen to ({@link settle}). */
  readonly #decoder: NativeDecoder;
  readonly #incoming: Incoming;
  readonly #examine: ExamineRecord;
  readonly #milestones: Milestones;
  #lastTid: bigint;
  #isOpen = false;
  #isRaw = false;
  /** The source does not go on behind what the sink has of the next transaction. */
  #isToForget = false;
  /** The end of a large transaction, which is still to be checked. */
  #largeEnd: Whole | undefined;

  constructor(context: IntakeContext, decoder: NativeDecoder, options: NativeRunsOptions) {
    const { ports, storage, sink } = context;
    this.#context = context;
    this.#options = options;
    this.#decoder = decoder;
    this.#incoming = new Incoming(sink.restorer, { blobs: context.options.blobs, log: ports.log });
    this.#examine = (reader) => this.#incoming.examine(reader);
    this.#lastTid = storage.lastTid;
    this.#milestones = new Milestones(storage.lastTid);
  }

  /** The last transaction that has come whole. */
  get lastTid(): bigint {
    return this.#lastTid;
  }

  /** Whether runs come as bytes of the source's file, so that its positions are ours. */
  get isRaw(): boolean {
    return this.#isRaw;
  }

  /**
   * The source has welcomed us: transactions may come.
   * @param begun what the sink has of the next one
   * @param resumeAt behind how many bytes of that the source goes on; undefined: it begins the transaction anew
   * @throws ProtocolError
   */
  open(begun: Begun | undefined, resumeAt: number | undefined): void {
    this.#isOpen = true;
    if (resumeAt === undefined) {
      if (begun === undefined) return;
      this.#isToForget = true;
      return this.#decoder.halt();
    }
    if (resumeAt !== begun?.bytes) {
      throw new ProtocolError(
        `Cannot take welcome: it goes on behind ${resumeAt} bytes of a transaction, this end has ${
          begun?.bytes ?? 0
        }`,
      );
    }
    this.#isRaw = true;
    this.#decoder.resumeRun();
    this.#context.ports.log.info(
      `Going on in the middle of transaction ${describeTid(begun.tid)}: ${begun.bytes} bytes are here`,
    );
  }

  /** Does what may take long, for which the decoder has been halted. @throws MisfitError, ProtocolError, DiskError */
  async settle(): Promise<void> {
    const { sink } = this.#context;
    if (this.#isToForget) {
      this.#isToForget = false;
      await sink.abort();
    }
    if (this.#largeEnd !== undefined) await this.#endLarge(this.#largeEnd);
    await sink.settle();
  }

  /** What is to be acknowledged, now that our file is durable up to a transaction; undefined: nothing new. */
  acknowledgement(durableTid: bigint): Acknowledgement | undefined {
    return this.#milestones.reach(durableTid);
  }

  raw(source: Uint8Array, from: number, to: number): void {
    if (!this.#options.raw) {
      throw new ProtocolError("Cannot take bytes of a file: they were not asked for");
    }
    this.#mustBeOpen();
    this.#isRaw = true;
    if (!this.#restorer.isOpen) this.#restorer.beginRaw();
    this.#restorer.data(source, from, to);
  }

  whole(whole: Whole): void {
    this.#mustBeWanted(whole.lastTid);
    if (this.#restorer.begun !== undefined) {
      this.#largeEnd = whole;
      return this.#decoder.halt();
    }
    let count: number;
    try {
      count = this.#restorer.endRaw(this.#examine);
    } catch (error) {
      throw misfitOf(error);
    } finally {
      this.#incoming.keepBlobs(); // what is whole counts, also before one that is refused
    }
    this.#ended(whole, count);
  }

  transaction(head: TransactionHead): void {
    this.#mustBeOpen();
    this.#mustBeWanted(head.tid);
    if (head.tid <= this.#lastTid) {
      throw new ProtocolError(
        `Cannot take transaction ${describeTid(head.tid)}: its tid must be greater than the last, ` +
          describeTid(this.#lastTid),
        { tid: head.tid },
      );
    }
    this.#incoming.transaction(head, { extension: "kept" });
  }

  record(
    oidHigh: number,
    oidLow: number,
    tid: bigint,
    dataTid: bigint | undefined,
    dataLength: number,
  ): void {
    this.#incoming.record(oidHigh, oidLow, tid, dataTid, dataLength, undefined);
  }

  data(source: Uint8Array, from: number, to: number): void {
    this.#incoming.data(source, from, to);
  }

  recordEnd(): void {
    this.#incoming.recordEnd();
  }

  blob(key: BlobKey, from: number | undefined): void {
    this.#mustBeOpen();
    this.#contents.begin(key, from);
    if (from === undefined) this.#tellMissing(key);
  }

  /** One that catches up once tells at its end how many there are. */
  #tellMissing({ oid, tid }: BlobKey): void {
    const { connection: { peer }, options: { path, once }, ports: { log } } = this.#context;
    if (once !== undefined) return;
    log.warning(
      `${peer} has no file for blob ${formatOid(oid)} of transaction ${
        describeTid(tid)
      }: ${path} gets the record ` +
        `alone, and ${missingBlobsPath(path)} lists the blob`,
      { oid: formatOidDigits(oid), tid: formatTid(tid) },
    );
  }

  blobData(source: Uint8Array, from: number, to: number): void {
    this.#contents.data(source, from, to);
  }

  blobEnd(): void {
    this.#contents.end();
  }

  commit(): void {
    this.#incoming.commit();
    this.#passed(this.#restorer.lastTid);
  }

  /** Checks a large transaction, which may take long. */
  async #endLarge(whole: Whole): Promise<void> {
    this.#largeEnd = undefined;
    try {
      await this.#restorer.endLargeRaw(this.#examine, pauser(this.#context.ports.clock));
    } catch (error) {
      throw misfitOf(error);
    }
    this.#incoming.keepBlobs();
    this.#ended(whole, 1);
  }

  /** A run has come, and each of its transactions has been checked. */
  #ended({ lastTid, transactions }: Whole, count: number): void {
    if (count !== transactions || this.#restorer.lastTid !== lastTid) {
      throw new ProtocolError(
        `Cannot take run: it must have ${transactions} transactions and end with ${describeTid(lastTid)}, ` +
          `and has ${count} and ends with ${describeTid(this.#restorer.lastTid)}`,
      );
    }
    this.#passed(lastTid);
  }

  #passed(tid: bigint): void {
    if (tid === this.#lastTid) return;
    this.#lastTid = tid;
    this.#milestones.pass(tid, this.#decoder.checksum);
  }

  get #restorer(): Restorer {
    return this.#context.sink.restorer;
  }

  get #contents(): IncomingBlobs {
    const { blobs } = this.#context.options;
    if (blobs.choice === "replicate") return blobs.incoming;
    throw new ProtocolError("Cannot take blob: it was not asked for");
  }

  #mustBeOpen(): void {
    if (!this.#isOpen) throw new ProtocolError("Cannot take transaction: it comes before the welcome");
  }

  /** A source that sends more than was asked for has not understood. */
  #mustBeWanted(tid: bigint): void {
    const { until } = this.#options;
    if (until === undefined || tid <= until) return;
    throw new ProtocolError(
      `Cannot take transaction ${describeTid(tid)}: nothing later than ${describeTid(until)} was asked for`,
      { tid },
    );
  }
}

/** What becomes of an error in checking a run. */
function misfitOf(error: unknown): unknown {
  if (!(error instanceof CorruptError)) return error;
  return new MisfitError(`What the source's file has next does not fit behind this one: ${error.message}`, {
    cause: error,
  });
}
