/**
 * Comparing a copy with a source that speaks zrs2 only, as a primary of zc.zrs: it cannot be asked, so all that it
 * has is received, blobs included, up to the copy's last transaction; then the connection is closed. Nothing of it
 * is kept but the digests of one transaction's records, some 200 bytes each.
 *
 * What zrs2 does not tell: where the source ends. One that sends nothing more for a while is taken to have sent all.
 */
import { createHash, type Hash } from "node:crypto";
import { UnavailableError, ZrsError } from "../../errors.ts";
import {
  type Comparison,
  ContentDigester,
  type Difference,
  nothingCompared,
  type Readable,
  startOf,
} from "../../filestorage/mod.ts";
import { type Address, type Clock, type Connection, formatAddress, type Network } from "../../ports/mod.ts";
import { describeTid, formatTid, NO_TID, STATUS, type TransactionHead } from "../../zodb/mod.ts";
import { encodeGreeting, KEEP_ALIVE, StreamDecoder, type StreamHandler } from "../../zrs/mod.ts";
import { Beats } from "../beats.ts";
import { DEFAULT_BUFFER_SIZES } from "../buffers.ts";
import { beginningOf, DIGEST_DIGITS } from "./compare_answers.ts";
import { EntryMerge } from "./compare_merge.ts";
import type { RecordEntry } from "./compare_messages.ts";
import { PairComparison, type SourceTransaction } from "./compare_pair.ts";
import { readWithin } from "../receiving/intake.ts";
import { Speaker } from "../speaker.ts";

/** It looks up where to begin, and reads that far, before it sends anything. */
const FIRST_SILENCE_MS = 60_000;
const SILENCE_MS = 10_000;
const KEEP_ALIVE_MS = 10_000;

export interface StreamComparisonOptions {
  readonly since?: bigint | undefined;
  readonly pause: () => Promise<void>;
  readonly progress?: ((position: number) => void) | undefined;
}

export class StreamComparison {
  readonly #clock: Clock;
  readonly #connection: Connection;
  readonly #name: string;
  readonly #log: Readable;
  readonly #options: StreamComparisonOptions;
  readonly #facts = nothingCompared();

  private constructor(
    clock: Clock,
    connection: Connection,
    name: string,
    log: Readable,
    options: StreamComparisonOptions,
  ) {
    this.#clock = clock;
    this.#connection = connection;
    this.#name = name;
    this.#log = log;
    this.#options = options;
  }

  /** @throws UnavailableError where it cannot be reached */
  static async connect(
    { network, clock }: { readonly network: Network; readonly clock: Clock },
    source: Address,
    log: Readable,
    options: StreamComparisonOptions,
  ): Promise<StreamComparison> {
    return new StreamComparison(clock, await network.connect(source), formatAddress(source), log, options);
  }

  close(): void {
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Of what has been compared so far. */
  get result(): Comparison {
    return { ...this.#facts };
  }

  /**
   * Every difference, in the order of the transactions; at most one of each transaction.
   * @throws UnavailableError, RefusedError, ProtocolError, CorruptError, DiskError; what `pause` throws
   */
  async *differences(): AsyncGenerator<Difference> {
    const { since, pause, progress } = this.#options;
    const { lastTid } = this.#log;
    if (lastTid === NO_TID) return;
    const pair = new PairComparison(this.#log, new ContentDigester(this.#log.file, pause), () => {
      throw new RangeError("All records have come with the transaction");
    });
    const from = await startOf(this.#log, since);
    const after = since === undefined || since === NO_TID ? NO_TID : since - 1n;
    const speaker = new Speaker({ clock: this.#clock }, this.#connection, FIRST_SILENCE_MS);
    using _keepAlive = new Beats(this.#clock, KEEP_ALIVE_MS, () => {
      if (!speaker.isBusy) void speaker.say(KEEP_ALIVE.slice());
    });
    await speaker.say(encodeGreeting("zrs2.1", after));
    const decoder = new StreamDecoder(after);
    const received = new Received();
    const chunk = new Uint8Array(DEFAULT_BUFFER_SIZES.readBytes);
    let merge: EntryMerge | undefined;
    for (;;) {
      const count = await this.#read(chunk, decoder, after);
      if (count === undefined) break;
      decoder.push(chunk, 0, count, received);
      for (const entry of received.take()) {
        merge ??= new EntryMerge(this.#log, from, NO_TID, pair, this.#facts);
        if (entry.tid > formatTid(lastTid)) {
          this.#facts.hasNewer = true;
          return yield* merge.finish(lastTid, { isPacked: entry.packed });
        }
        yield* merge.push(entry);
        progress?.(merge.position);
        if (entry.tid === formatTid(lastTid)) return;
      }
      await pause();
    }
    // It has sent all it has, and less than the copy has.
    merge ??= new EntryMerge(this.#log, from, NO_TID, pair, this.#facts);
    for (const difference of merge.finish(lastTid, undefined)) {
      yield difference.kind === "ahead" ? { ...difference, lastTidThere: decoder.lastTid } : difference;
    }
  }

  /** @returns undefined where nothing more comes between two transactions */
  async #read(chunk: Uint8Array, decoder: StreamDecoder, after: bigint): Promise<number | undefined> {
    const isFirst = decoder.lastTid === after;
    const timeoutMs = isFirst || !decoder.idle ? FIRST_SILENCE_MS : SILENCE_MS;
    const sinceMs = this.#clock.monotonic();
    try {
      return await readWithin(
        this.#clock,
        this.#connection,
        chunk,
        timeoutMs,
        `${this.#name} has been silent`,
      );
    } catch (error) {
      const isSilent = this.#clock.monotonic() - sinceMs >= timeoutMs;
      if (error instanceof UnavailableError && decoder.idle && !isFirst && isSilent) return undefined;
      if (!(error instanceof ZrsError)) throw error;
      throw new UnavailableError(
        `Cannot compare with ${this.#name}: the stream ended behind ${
          describeTid(decoder.lastTid)
        }: ${error.message}`,
        { cause: error, hint: "zc.zrs closes without a word on a tid that it does not have; its log tells" },
      );
    }
  }
}

/** Makes of a stream what a source of ours would have answered. */
class Received implements StreamHandler {
  #entries: SourceTransaction[] = [];
  #head: TransactionHead | undefined;
  #whole: Hash = createHash("sha256");
  #record: Hash = createHash("sha256");
  #records: RecordEntry[] = [];
  #oid = "";
  #length = 0;

  /** What is whole. */
  take(): SourceTransaction[] {
    const entries = this.#entries;
    this.#entries = [];
    return entries;
  }

  transaction(head: TransactionHead): void {
    const tid = new Uint8Array(8);
    new DataView(tid.buffer).setBigUint64(0, head.tid);
    this.#whole = createHash("sha256").update(tid);
    for (const part of textsOf(head)) this.#whole.update(part);
    this.#head = head;
    this.#records = [];
  }

  record(
    oidHigh: number,
    oidLow: number,
    _tid: bigint,
    _dataTxn: bigint | undefined,
    dataLength: number,
  ): void {
    const front = new Uint8Array(16);
    const view = new DataView(front.buffer);
    view.setUint32(0, oidHigh);
    view.setUint32(4, oidLow);
    view.setBigUint64(8, dataLength === 0 ? 0xffff_ffff_ffff_ffffn : BigInt(dataLength));
    this.#whole.update(front);
    this.#record = createHash("sha256").update(front);
    this.#oid = formatTid(view.getBigUint64(0));
    this.#length = dataLength;
  }

  data(source: Uint8Array, from: number, to: number): void {
    const part = source.subarray(from, to);
    this.#whole.update(part);
    this.#record.update(part);
  }

  blobBlock(): void {}

  recordEnd(): void {
    const digest = this.#record.digest("hex").slice(0, DIGEST_DIGITS);
    this.#records.push([this.#oid, digest, this.#length === 0 ? null : this.#length]);
  }

  commit(): void {
    const head = this.#head!;
    const texts = createHash("sha256");
    for (const part of textsOf(head)) texts.update(part);
    this.#entries.push({
      tid: formatTid(head.tid),
      position: undefined,
      packed: head.status === STATUS.packed,
      digest: this.#whole.digest("hex").slice(0, DIGEST_DIGITS),
      texts: texts.digest("hex").slice(0, DIGEST_DIGITS),
      user: beginningOf(head.user),
      description: beginningOf(head.description),
      count: this.#records.length,
      records: this.#records,
      head,
    });
    this.#records = [];
  }
}

/** The three lengths and the three texts as they lie side by side in a file. */
function textsOf({ user, description, extension }: TransactionHead): Uint8Array[] {
  const lengths = new Uint8Array(6);
  const view = new DataView(lengths.buffer);
  [user, description, extension].forEach((text, at) => view.setUint16(2 * at, text.length));
  return [lengths, user, description, extension];
}
