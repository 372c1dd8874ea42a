/**
 * What a secondary does all the time: connects to its source, receives until the connection ends, and connects again.
 * Says in the log what keeps it from receiving.
 */
import type { Storage } from "../../filestorage/mod.ts";
import { DiskFullError, RefusedError, UnavailableError, type ZrsError } from "../../errors.ts";
import { type Connection, formatAddress } from "../../ports/mod.ts";
import { Approach, NotConnected } from "./approach.ts";
import { attend } from "./attend.ts";
import { AutoRewind } from "./auto_rewind.ts";
import { forgetMissing } from "./blob_reception.ts";
import { type BlobReception, contentsOf } from "../blob_use.ts";
import { DEFAULT_BUFFER_SIZES } from "../buffers.ts";
import { sentence } from "../sending/feed.ts";
import { whyFruitless } from "./fruitless.ts";
import { IdleEnd, type Intake, type IntakeContext } from "./intake.ts";
import { AgainError } from "./native_intake.ts";
import type { Ports } from "../ports.ts";
import { DEFAULT_PEER_TIMEOUT_MS, DEFAULT_SOFTWARE } from "../primary.ts";
import type { ReplicaFile } from "../replica_file.ts";
import { RetryDelay } from "./retry_delay.ts";
import { IndexKeeper } from "../index_keeper.ts";
import type { SecondaryOptions } from "../secondary_options.ts";
import { Sink } from "./sink.ts";
import { SourceWatch } from "./source_watch.ts";
import type { SourceStatus } from "../status.ts";
import { tellFruitless, tellPacked, tellRefusal } from "./tell_source.ts";
import type { Turn } from "../turn.ts";
import { sleep } from "../waiting.ts";

const DEFAULT_KEEP_ALIVE_MS = 30_000;
const DEFAULT_RETRY_MAX_MS = 60_000;
/** After so many connections that end without a transaction at the same tid, something is wrong there. */
const POISON_COUNT = 3;

export class Reception {
  readonly #ports: Ports;
  readonly #options: SecondaryOptions;
  readonly #storage: Storage;
  readonly #blobs: BlobReception;
  readonly #watch: SourceWatch;
  readonly #rewinding: AutoRewind;
  readonly #approach: Approach;
  readonly #turn: Turn;
  /** Saves the index of what has been received. */
  readonly index: IndexKeeper;
  /** While running. */
  #sink: Sink | undefined;
  /** While connected. */
  #current: Intake | undefined;

  /** @param turn for work that nothing may be received during */
  constructor(ports: Ports, options: SecondaryOptions, file: ReplicaFile, blobs: BlobReception, turn: Turn) {
    this.#ports = ports;
    this.#options = options;
    this.#storage = file.storage;
    this.#blobs = blobs;
    this.#turn = turn;
    this.#watch = new SourceWatch(ports.clock, options.replicateFrom);
    this.#rewinding = new AutoRewind(ports, file.storage, options.rewindLimit ?? 0, file.applying);
    // zrs2 knows no secrets.
    const protocol = options.secret === undefined ? options.protocol ?? "auto" : "native";
    const source = formatAddress(options.replicateFrom);
    this.#approach = new Approach(ports.clock, ports.log, source, protocol, options.blobs);
    this.index = new IndexKeeper(ports, file.storage, options.indexSaveMs);
  }

  /** How the source is, and how far we are behind it. */
  get source(): SourceStatus {
    const { lastTid, end } = this.#storage.view;
    const durable = { tid: lastTid, end };
    const restorer = this.#sink?.restorer;
    const received = restorer === undefined ? durable : { tid: restorer.lastTid, end: restorer.end };
    return this.#watch.status(received, durable, this.#current?.source);
  }

  /** Why what is received cannot be written now; undefined: it can. */
  get problem(): Sink["problem"] {
    return this.#sink?.problem;
  }

  /**
   * Receives until the signal aborts.
   * @returns false when something whole could not be written before the signal: the index is ahead of the file
   * @throws DiskError a failure that trying again does not mend
   */
  async run(signal: AbortSignal): Promise<boolean> {
    const { clock, log, random } = this.#ports;
    let sink = this.#newSink(signal);
    const delay = new RetryDelay(random, this.#options.retryMaxMs ?? DEFAULT_RETRY_MAX_MS);
    const source = formatAddress(this.#options.replicateFrom);
    let fruitless = 0;
    while (!signal.aborted) {
      const before = this.#storage.lastTid;
      const hadBytes = sink.restorer.begun?.bytes ?? 0;
      let failure: ZrsError;
      try {
        failure = await this.#attend(sink, AbortSignal.any([signal, this.#turn.signal]));
      } catch (error) {
        if (signal.aborted && error instanceof DiskFullError) return false;
        throw error;
      }
      if (signal.aborted) break;
      if (this.#turn.isWanted) {
        if (this.#storage.lastTid !== before) this.#rewinding.grown();
        sink = await this.#giveTurn(sink, signal);
        continue;
      }
      if (this.#approach.learn(failure, this.#storage.lastTid)) continue;
      const { lastTid } = this.#storage;
      if (lastTid !== before) this.#rewinding.grown();
      if (await this.#rewinding.heed(failure, source, signal)) {
        await forgetMissing(log, this.#blobs, this.#storage.lastTid);
        sink = this.#newSink(signal); // the one before goes on behind what is gone
        continue;
      }
      if (signal.aborted) break;
      const isAgain = failure instanceof AgainError;
      // Coming again at once is worth it once: a source that says nothing else is waited for like any other.
      const hasMore = (sink.restorer.begun?.bytes ?? 0) > hadBytes;
      const isFruitful = lastTid !== before || hasMore || failure instanceof IdleEnd && !isAgain;
      if (!isFruitful) this.#approach.forgetZrs2();
      if (isFruitful) {
        fruitless = 0;
        delay.reset();
      } else if (!(failure instanceof NotConnected)) {
        fruitless++;
      }
      const isRefused = failure instanceof RefusedError;
      if (isRefused) {
        delay.slowDown();
        tellRefusal(log, source, this.#storage.lastTid, failure);
      }
      const waitMs = delay.next();
      const again = `connecting again in ${(waitMs / 1000).toFixed(1)} s`;
      if (isRefused) {
        log.debug(`${source}: ${again}`);
      } else if (isAgain && fruitless < POISON_COUNT) {
        log.info(`${source}: ${failure.message}; ${again}`);
      } else if (isAgain) {
        log.warning(
          `${source} has ended ${fruitless} connections in a row without sending a transaction: ${failure.message}; ` +
            again,
        );
      } else {
        const what = failure instanceof NotConnected ? failure.message : `${source}: ${sentence(failure)}`;
        log.warning(`${what}; ${again}`);
        if (fruitless > 0 && fruitless % POISON_COUNT === 0) {
          const why = whyFruitless(failure, this.#approach.protocol, lastTid);
          tellFruitless(log, source, lastTid, fruitless, why);
        }
      }
      await this.index.saveWhenDue();
      this.#watch.waiting(waitMs);
      await sleep(clock, waitMs, AbortSignal.any([signal, this.#turn.signal]));
      if (this.#turn.isWanted && !signal.aborted) sink = await this.#giveTurn(sink, signal);
    }
    return true;
  }

  /** Lets somebody work on the file alone. @returns what receives afterwards @throws DiskError final */
  async #giveTurn(sink: Sink, signal: AbortSignal): Promise<Sink> {
    await sink.abort(); // what has come of a transaction lies behind the end of the file
    await this.#turn.give();
    if (this.#storage.failure !== undefined) throw this.#storage.failure;
    return this.#newSink(signal);
  }

  #newSink(signal: AbortSignal): Sink {
    const buffers = this.#options.buffers ?? DEFAULT_BUFFER_SIZES;
    const blobs = contentsOf(this.#blobs);
    return this.#sink = new Sink(this.#ports, this.#storage, buffers, signal, { blobs });
  }

  /**
   * One connection, from the greeting to its end. What is whole then is durable.
   * @returns why it ended
   * @throws DiskError final
   */
  async #attend(sink: Sink, signal: AbortSignal): Promise<ZrsError> {
    const { network } = this.#ports;
    if (this.#blobs.choice === "replicate") this.#blobs.incoming.forget(this.#storage.lastTid);
    const begun = await this.#approach.prepare(sink, this.#storage.lastTid);
    let connection: Connection;
    this.#watch.connecting();
    try {
      connection = await network.connect(this.#options.replicateFrom, { signal });
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      this.#watch.ended(error);
      return new NotConnected(error.message, error.facts);
    }
    const intake = this.#current = this.#approach.intake(this.#contextOf(sink, connection), begun);
    this.#watch.connected(intake.protocol);
    try {
      const failure = await attend(intake, sink, connection, signal, "keep");
      this.#watch.ended(this.#turn.isWanted ? undefined : failure);
      return failure;
    } finally {
      this.#current = undefined;
      this.#approach.ended(intake);
    }
  }

  #contextOf(sink: Sink, connection: Connection): IntakeContext {
    const options = this.#options;
    return {
      ports: this.#ports,
      storage: this.#storage,
      sink,
      connection,
      options: {
        path: options.path,
        blobs: this.#blobs,
        keepAliveMs: options.keepAliveMs ?? DEFAULT_KEEP_ALIVE_MS,
        peerTimeoutMs: options.peerTimeoutMs ?? DEFAULT_PEER_TIMEOUT_MS,
        readBytes: (options.buffers ?? DEFAULT_BUFFER_SIZES).readBytes,
        runBytes: (options.buffers ?? DEFAULT_BUFFER_SIZES).runBytes,
        software: options.software ?? DEFAULT_SOFTWARE,
        name: options.name,
        compress: options.compress ?? "auto",
        secret: options.secret,
      },
      saveIndexWhenDue: () => this.index.saveWhenDue(() => sink.drain()),
      sourcePacked: (tid) => this.#heardPacked(tid),
    };
  }

  /** The source says so at each connection; it is told once. */
  #heardPacked(tid: bigint): void {
    if (tid === this.#watch.packedTo) return;
    this.#watch.packedTo = tid;
    tellPacked(this.#ports.log, formatAddress(this.#options.replicateFrom), tid);
  }
}
