/**
 * `zrs secondary`: keeps a Data.fs equal to a source's, transaction by transaction, and serves it on to
 * chained secondaries. Owns its file; connects again whenever the connection ends, for as long as it runs.
 */
import type { Storage } from "../filestorage/mod.ts";
import { DiskFullError, RefusedError, UnavailableError, UsageError, ZrsError } from "../errors.ts";
import { type Address, type Connection, formatAddress } from "../ports/mod.ts";
import { describeTid, formatTid } from "../zodb/mod.ts";
import { Approach, NotConnected, type Protocol } from "./approach.ts";
import { attend } from "./attend.ts";
import { AutoRewind } from "./auto_rewind.ts";
import { openBlobs, supplyOf } from "./blob_reception.ts";
import { type BlobOptions, type BlobReception, contentsOf } from "./blob_use.ts";
import { type BufferSizes, DEFAULT_BUFFER_SIZES } from "./buffers.ts";
import { sentence } from "./feed.ts";
import { whyFruitless } from "./fruitless.ts";
import { isDivergence } from "./histories.ts";
import { IdleEnd, type Intake, type IntakeContext } from "./intake.ts";
import { AgainError } from "./native_intake.ts";
import { type Secret, SecretError } from "../native/mod.ts";
import type { Compress } from "./pace.ts";
import type { Ports } from "./ports.ts";
import { DEFAULT_PEER_TIMEOUT_MS, DEFAULT_SOFTWARE } from "./primary.ts";
import { type Promotion, ReplicaFile } from "./replica_file.ts";
import { RetryDelay } from "./retry_delay.ts";
import { Server } from "./server.ts";
import { Sink } from "./sink.ts";
import { SourceWatch } from "./source_watch.ts";
import type { NodeStatus } from "./status.ts";
import { pauser, sleep } from "./waiting.ts";

export interface SecondaryOptions extends BlobOptions {
  readonly path: string;
  readonly replicateFrom: Address;
  /** Where chained secondaries connect to. */
  readonly replicateTo?: Address;
  /** So many of them are served at once; default: 100. */
  readonly maxSecondaries?: number;
  /** Whether content is compressed between nodes of ours; `auto` on slow links; default: `auto`. */
  readonly compress?: Compress;
  /** All secondaries together are sent no more than so many bytes a second. */
  readonly bytesPerSecond?: number | undefined;
  /** Name and version of this program, for the other end's log. */
  readonly software?: string;
  /** How often to tell the source that we are still here. */
  readonly keepAliveMs?: number;
  /** The longest wait between two attempts to connect. */
  readonly retryMaxMs?: number;
  /** How often to save the index when it has changed. */
  readonly indexSaveMs?: number;
  /**
   * What is received is applied to the file when it is so old, by the time of day; until then it waits beside the
   * file, on disk. Default: 0, at once.
   */
  readonly applyDelayMs?: number;
  /** From so many bytes on a file of what waits is followed by another; default: 64 MiB. */
  readonly segmentBytes?: number;
  /** A source that stops in the middle of a transaction, or takes nothing, for so long is dropped. */
  readonly peerTimeoutMs?: number;
  readonly buffers?: BufferSizes;
  /** `auto`: the native stream where the source speaks it, else zrs2. */
  readonly protocol?: Protocol;
  /**
   * Where the source has no file for a blob's record: `mark` takes the record alone, by the native stream, and puts
   * the blob on a list beside the file; default: fail, the stream ends before it.
   */
  readonly missingBlobs?: "fail" | "mark" | undefined;
  /**
   * Where the source refuses this replica as ahead or forked, by the native stream, so many transactions may be
   * taken back to go on with it; default: 0, never.
   */
  readonly rewindLimit?: number;
  /** The source, and secondaries of this one, must prove that they have it: then zrs2 is not spoken. */
  readonly secret?: Secret | undefined;
  /** Ends {@link Secondary.open} while it scans the file, which may take long without an index. */
  readonly signal?: AbortSignal;
}

const DEFAULT_KEEP_ALIVE_MS = 30_000;
const DEFAULT_RETRY_MAX_MS = 60_000;
const DEFAULT_INDEX_SAVE_MS = 60_000;
/** A scan of more transactions than these is worth saving the index for at once. */
const MANY_SCANNED = 1000;
/** After so many connections that end without a transaction at the same tid, something is wrong there. */
const POISON_COUNT = 3;

export class Secondary {
  readonly #ports: Ports;
  readonly #options: SecondaryOptions;
  readonly #file: ReplicaFile;
  readonly #storage: Storage;
  readonly #server: Server | undefined;
  readonly #blobs: BlobReception;
  readonly #source: SourceWatch;
  readonly #rewinding: AutoRewind;
  readonly #approach: Approach;
  /** While replicating. */
  #sink: Sink | undefined;
  /** While running. */
  #ending: AbortController | undefined;
  /** What is to become of the file at the end, if it is not to be gone on with. */
  #promotion:
    | { readonly before: bigint | undefined; readonly done: PromiseWithResolvers<Promotion> }
    | undefined;
  /** While connected. */
  #current: Intake | undefined;
  #nextSaveMs: number;

  private constructor(
    ports: Ports,
    options: SecondaryOptions,
    file: ReplicaFile,
    blobs: BlobReception,
    server: Server | undefined,
  ) {
    this.#blobs = blobs;
    this.#ports = ports;
    this.#options = options;
    this.#file = file;
    this.#storage = file.storage;
    this.#server = server;
    this.#source = new SourceWatch(ports.clock, options.replicateFrom);
    this.#rewinding = new AutoRewind(ports, file.storage, options.rewindLimit ?? 0, file.applying);
    // zrs2 knows no secrets.
    const protocol = options.secret === undefined ? options.protocol ?? "auto" : "native";
    this.#approach = new Approach(
      ports.clock,
      ports.log,
      formatAddress(options.replicateFrom),
      protocol,
      options.blobs,
    );
    this.#nextSaveMs = ports.clock.monotonic() + this.#indexSaveMs;
  }

  /**
   * Opens the file, creating it when there is none, and the listener for chained secondaries.
   * @throws LockedError, UsageError, CorruptError, DivergedError (something else has written to the file while
   * transactions waited), DiskError, and the signal's reason
   */
  static async open(ports: Ports, options: SecondaryOptions): Promise<Secondary> {
    await using owned = new AsyncDisposableStack();
    const file = owned.use(
      await ReplicaFile.open(ports, {
        path: options.path,
        replicateFrom: options.replicateFrom,
        applyDelayMs: options.applyDelayMs ?? 0,
        segmentBytes: options.segmentBytes,
        indexSaveMs: options.indexSaveMs ?? DEFAULT_INDEX_SAVE_MS,
        pause: pauser(ports.clock),
        signal: options.signal,
      }),
    );
    const blobs = await openBlobs(ports, options, file.storage.lastTid);
    const server = options.replicateTo === undefined
      ? undefined
      : await Server.listen(ports, options.replicateTo, file.storage, {
        blobs: supplyOf(blobs),
        peerTimeoutMs: options.peerTimeoutMs ?? DEFAULT_PEER_TIMEOUT_MS,
        sendBytes: (options.buffers ?? DEFAULT_BUFFER_SIZES).sendBytes,
        chained: true,
        software: options.software ?? DEFAULT_SOFTWARE,
        compress: options.compress ?? "auto",
        bytesPerSecond: options.bytesPerSecond,
        secret: options.secret,
        ...(options.maxSecondaries !== undefined && { maxSecondaries: options.maxSecondaries }),
      });
    owned.move();
    if (options.blobs === "none") {
      ports.log.warning(
        `Blobs are left out (--blobs none): ${options.path} will have the records of blobs, not their files`,
      );
    }
    const secondary = new Secondary(ports, options, file, blobs, server);
    // Should we be killed before it is due, the next start does not have to scan again.
    if (file.scanned > MANY_SCANNED) await secondary.#saveIndex();
    return secondary;
  }

  /** The address chained secondaries connect to. */
  get address(): Address | undefined {
    return this.#server?.address;
  }

  /** The last transaction that is durable here. */
  get lastTid(): bigint {
    return this.#storage.lastTid;
  }

  /** Calls back after the replica has grown. */
  subscribe(changed: () => void): Disposable {
    return this.#storage.subscribe(changed);
  }

  status(): NodeStatus {
    const { path, blobs } = this.#options;
    const { lastTid, end } = this.#storage.view;
    const durable = { tid: lastTid, end };
    const restorer = this.#sink?.restorer;
    const received = restorer === undefined ? durable : { tid: restorer.lastTid, end: restorer.end };
    return {
      role: "secondary",
      path,
      lastTid,
      bytes: end,
      blobs,
      missingBlobs: this.#blobs.choice === "replicate"
        ? this.#blobs.incoming.missing.count(this.#blobs.incoming.directory)
        : undefined,
      delay: this.#file.applying?.status(),
      problem: this.#sink?.problem ?? this.#file.applying?.problem,
      source: this.#source.status(received, durable, this.#current?.source),
      peers: this.#server?.peers ?? [],
    };
  }

  /**
   * Replicates until the signal aborts, or the file is promoted; then saves the index.
   * @throws DiskError a failure that trying again does not mend
   */
  async run(signal: AbortSignal): Promise<void> {
    try {
      const drained = await this.#work(signal);
      await this.#storage.cut(); // so that nothing but whole transactions is left behind
      if (drained) await this.#saveIndex();
      if (this.#promotion === undefined) await this.#file.tidy();
      else this.#promotion.done.resolve(await this.#promoteNow(this.#promotion.before));
    } catch (error) {
      this.#promotion?.done.reject(error);
      throw error;
    }
  }

  /**
   * Ends {@link run}, and makes the file ready for whoever takes it over: what has been received is applied, all of
   * it or up to just before a transaction, and the rest is kept beside the file. Resolves when that is done, and the file let go.
   * @throws UsageError (what is not to be applied has been; it is ending already): all goes on as before;
   * DiskError: the node has ended, and what waits is still there
   */
  async promote(before: bigint | undefined): Promise<Promotion> {
    const { path } = this.#options;
    const { disk, clock, log } = this.#ports;
    const promotion = { before, done: Promise.withResolvers<Promotion>() };
    {
      using _held = await this.#file.applying?.hold();
      this.#endingToBegin();
      await this.#file.planPromotion(disk, before, { pause: pauser(clock) });
      const ending = this.#endingToBegin(); // others have run since
      this.#promotion = promotion;
      log.info(`Stopping, to promote ${path}`);
      ending.abort();
    }
    return await promotion.done.promise;
  }

  /** @throws UsageError when the end has begun, or nothing runs */
  #endingToBegin(): AbortController {
    if (this.#ending !== undefined && !this.#ending.signal.aborted) return this.#ending;
    const { path } = this.#options;
    throw new UsageError(`Cannot promote ${path}: the node that keeps it is stopping, or being promoted`, {
      path,
      hint: "promote it when the node has stopped",
    });
  }

  async #promoteNow(before: bigint | undefined): Promise<Promotion> {
    const { disk, clock, log } = this.#ports;
    const promotion = await this.#file.promote(disk, before, { pause: pauser(clock) });
    const { lastTid, savedTo } = promotion;
    const rest = savedTo === undefined ? "" : `; what came after it is saved in ${savedTo}`;
    log.info(`${this.#options.path} is promoted: it ends with ${describeTid(lastTid)}${rest}`);
    return promotion;
  }

  /** @returns as {@link #replicate} */
  async #work(signal: AbortSignal): Promise<boolean> {
    const serving = this.#server?.run();
    const ending = this.#ending = new AbortController();
    const end = () => ending.abort(signal.reason);
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
    const applying = this.#apply(ending);
    applying.catch(() => {}); // told below, unless something else fails
    let drained: boolean;
    try {
      drained = await this.#replicate(ending.signal);
    } finally {
      signal.removeEventListener("abort", end);
      end();
      this.#server?.close();
      await serving;
      await applying.catch(() => {});
    }
    await applying;
    return drained;
  }

  /** Applies what is due, where that is not at once. A failure ends the node. */
  async #apply(ending: AbortController): Promise<void> {
    try {
      await this.#file.applying?.run(ending.signal);
    } catch (error) {
      ending.abort();
      throw error;
    }
  }

  /** Closing twice is harmless. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#server?.close();
    await this.#file[Symbol.asyncDispose]();
  }

  get #indexSaveMs(): number {
    return this.#options.indexSaveMs ?? DEFAULT_INDEX_SAVE_MS;
  }

  /** @returns false when something whole could not be written before the signal: the index is ahead of the file */
  async #replicate(signal: AbortSignal): Promise<boolean> {
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
        failure = await this.#attend(sink, signal);
      } catch (error) {
        if (signal.aborted && error instanceof DiskFullError) return false;
        throw error;
      }
      if (signal.aborted) break;
      if (this.#approach.learn(failure, this.#storage.lastTid)) continue;
      const { lastTid } = this.#storage;
      if (lastTid !== before) this.#rewinding.grown();
      if (await this.#rewinding.heed(failure, source, signal)) {
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
        this.#tellRefusal(source, failure);
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
        if (fruitless > 0 && fruitless % POISON_COUNT === 0) this.#tellFruitless(source, fruitless, failure);
      }
      await this.#saveIndexWhenDue();
      this.#source.waiting(waitMs);
      await sleep(clock, waitMs, signal);
    }
    return true;
  }

  #newSink(signal: AbortSignal): Sink {
    const buffers = this.#options.buffers ?? DEFAULT_BUFFER_SIZES;
    return this.#sink = new Sink(this.#ports, this.#storage, buffers, signal, {
      blobs: contentsOf(this.#blobs),
    });
  }

  #tellRefusal(source: string, failure: ZrsError): void {
    const { lastTid } = this.#storage;
    const message = sentence(failure);
    if (failure instanceof SecretError) return this.#ports.log.error(`${source}: ${message}`);
    this.#ports.log.error(
      isDivergence(message)
        ? `${source} refuses this replica: ${message}; nothing was changed. ` +
          `Compare the last transactions of both files (zrs log); zrs rewind takes back those that the source ` +
          `lacks, or begin anew with an empty replica`
        : `${source} cannot go on behind ${describeTid(lastTid)}: ${message}`,
      { tid: formatTid(lastTid) },
    );
  }

  #tellFruitless(source: string, count: number, failure: ZrsError): void {
    const { lastTid } = this.#storage;
    const why = whyFruitless(failure, this.#approach.protocol, lastTid);
    this.#ports.log.error(
      `${source} has ended ${count} connections in a row without sending a transaction after ` +
        `${describeTid(lastTid)}. ${why}. Look into the log of the source`,
      { tid: formatTid(lastTid), count },
    );
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
    this.#source.connecting();
    try {
      connection = await network.connect(this.#options.replicateFrom, { signal });
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      this.#source.ended(error);
      return new NotConnected(error.message, error.facts);
    }
    const intake = this.#current = this.#approach.intake(this.#contextOf(sink, connection), begun);
    this.#source.connected(intake.protocol);
    try {
      const failure = await attend(intake, sink, connection, signal, "keep");
      this.#source.ended(failure);
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
        compress: options.compress ?? "auto",
        secret: options.secret,
      },
      saveIndexWhenDue: () => this.#saveIndexWhenDue(sink),
    };
  }

  async #saveIndexWhenDue(sink?: Sink): Promise<void> {
    if (this.#ports.clock.monotonic() < this.#nextSaveMs) return;
    await sink?.drain(); // the index holds what is whole: it must be in the file before
    await this.#saveIndex();
  }

  /** A replica without a saved index is as good, it only opens more slowly: failing is told, not fatal. */
  async #saveIndex(): Promise<void> {
    this.#nextSaveMs = this.#ports.clock.monotonic() + this.#indexSaveMs;
    try {
      await this.#storage.saveIndex();
    } catch (error) {
      if (!(error instanceof ZrsError)) throw error;
      this.#ports.log.warning(`Cannot save the index of ${this.#options.path}: ${error.message}`);
    }
  }
}
