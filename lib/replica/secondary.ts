/**
 * `zrs secondary`: keeps a Data.fs equal to a source's, transaction by transaction, and serves it on to
 * chained secondaries. Owns its file; connects again whenever the connection ends, for as long as it runs.
 */
import { type OpenReport, Storage } from "../filestorage/mod.ts";
import {
  DiskFullError,
  ProtocolError,
  RefusedError,
  UnavailableError,
  UsageError,
  ZrsError,
} from "../errors.ts";
import { type Address, type Connection, formatAddress, isThisMachineOnly } from "../ports/mod.ts";
import { describeTid, formatTid, NO_TID } from "../zodb/mod.ts";
import { encodeGreeting, KEEP_ALIVE, StreamDecoder } from "../zrs/mod.ts";
import { type BufferSizes, DEFAULT_BUFFER_SIZES } from "./buffers.ts";
import { sentence } from "./feed.ts";
import { isDivergence } from "./histories.ts";
import { Incoming, UnwantedError } from "./incoming.ts";
import type { Ports } from "./ports.ts";
import { DEFAULT_PEER_TIMEOUT_MS } from "./primary.ts";
import { RetryDelay } from "./retry_delay.ts";
import { Server } from "./server.ts";
import { Sink } from "./sink.ts";
import { pauser, sleep, withDeadline } from "./waiting.ts";

export interface SecondaryOptions {
  readonly path: string;
  readonly replicateFrom: Address;
  /** Where chained secondaries connect to. */
  readonly replicateTo?: Address;
  /** So many of them are served at once; default: 100. */
  readonly maxSecondaries?: number;
  /** How often to tell the source that we are still here. */
  readonly keepAliveMs?: number;
  /** The longest wait between two attempts to connect. */
  readonly retryMaxMs?: number;
  /** How often to save the index when it has changed. */
  readonly indexSaveMs?: number;
  /** `refuse` ends the stream at the first blob; `none` keeps records without the blobs' files. */
  readonly blobs: "refuse" | "none";
  /** A source that stops in the middle of a transaction, or takes nothing, for so long is dropped. */
  readonly peerTimeoutMs?: number;
  readonly buffers?: BufferSizes;
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
/** A source that refuses us, or cannot send what comes next, ends a connection much sooner. */
const IDLE_MS = 2_000;
/** After so much silence the source has most likely sent all it has. */
const CALM_MS = 1_000;

export class Secondary {
  readonly #ports: Ports;
  readonly #options: SecondaryOptions;
  readonly #storage: Storage;
  readonly #server: Server | undefined;
  #nextSaveMs: number;
  /** Whether it has been told that this connection has brought all there was. */
  #calmTold = false;

  private constructor(ports: Ports, options: SecondaryOptions, storage: Storage, server: Server | undefined) {
    this.#ports = ports;
    this.#options = options;
    this.#storage = storage;
    this.#server = server;
    this.#nextSaveMs = ports.clock.monotonic() + this.#indexSaveMs;
  }

  /**
   * Opens the file, creating it when there is none, and the listener for chained secondaries.
   * @throws LockedError, UsageError, CorruptError, DiskError, and the signal's reason
   */
  static async open(ports: Ports, options: SecondaryOptions): Promise<Secondary> {
    await using owned = new AsyncDisposableStack();
    const storage = owned.use(
      await Storage.open(ports.disk, options.path, {
        pause: pauser(ports.clock),
        signal: options.signal,
      }),
    );
    refuseItself(storage, options.replicateFrom);
    tellOpened(ports, storage);
    const server = options.replicateTo === undefined
      ? undefined
      : await Server.listen(ports, options.replicateTo, storage, {
        blobs: options.blobs,
        peerTimeoutMs: options.peerTimeoutMs ?? DEFAULT_PEER_TIMEOUT_MS,
        sendBytes: (options.buffers ?? DEFAULT_BUFFER_SIZES).sendBytes,
        chained: true,
        ...(options.maxSecondaries !== undefined && { maxSecondaries: options.maxSecondaries }),
      });
    owned.move();
    if (options.blobs === "none") {
      ports.log.warning(
        `Blobs are left out (--blobs none): ${options.path} will have the records of blobs, not their files`,
      );
    }
    const secondary = new Secondary(ports, options, storage, server);
    // Should we be killed before it is due, the next start does not have to scan again.
    if (storage.report.scanned > MANY_SCANNED) await secondary.#saveIndex();
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

  /**
   * Replicates until the signal aborts; then saves the index.
   * @throws DiskError a failure that trying again does not mend
   */
  async run(signal: AbortSignal): Promise<void> {
    const serving = this.#server?.run();
    let drained: boolean;
    try {
      drained = await this.#replicate(signal);
    } finally {
      this.#server?.close();
      await serving;
    }
    await this.#storage.cut(); // so that nothing but whole transactions is left behind
    if (drained) await this.#saveIndex();
  }

  /** Closing twice is harmless. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#server?.close();
    await this.#storage[Symbol.asyncDispose]();
  }

  get #indexSaveMs(): number {
    return this.#options.indexSaveMs ?? DEFAULT_INDEX_SAVE_MS;
  }

  /** @returns false when something whole could not be written before the signal: the index is ahead of the file */
  async #replicate(signal: AbortSignal): Promise<boolean> {
    const { clock, log, random } = this.#ports;
    const sink = new Sink(this.#ports, this.#storage, this.#options.buffers ?? DEFAULT_BUFFER_SIZES, signal);
    const delay = new RetryDelay(random, this.#options.retryMaxMs ?? DEFAULT_RETRY_MAX_MS);
    const source = formatAddress(this.#options.replicateFrom);
    let fruitless = 0;
    while (!signal.aborted) {
      const before = this.#storage.lastTid;
      let failure: ZrsError;
      try {
        failure = await this.#attend(sink, signal);
      } catch (error) {
        if (signal.aborted && error instanceof DiskFullError) return false;
        throw error;
      }
      if (signal.aborted) break;
      const { lastTid } = this.#storage;
      if (lastTid !== before || failure instanceof IdleEnd) {
        fruitless = 0;
        delay.reset();
      } else if (!(failure instanceof NotConnected)) {
        fruitless++;
      }
      if (failure instanceof RefusedError) {
        delay.slowDown();
        this.#tellRefusal(source, failure);
      }
      const waitMs = delay.next();
      const again = `connecting again in ${(waitMs / 1000).toFixed(1)} s`;
      if (failure instanceof RefusedError) {
        log.debug(`${source}: ${again}`);
      } else {
        const what = failure instanceof NotConnected ? failure.message : `${source}: ${sentence(failure)}`;
        log.warning(`${what}; ${again}`);
        if (fruitless > 0 && fruitless % POISON_COUNT === 0) this.#tellFruitless(source, fruitless, failure);
      }
      await this.#saveIndexWhenDue();
      await sleep(clock, waitMs, signal);
    }
    return true;
  }

  #tellRefusal(source: string, { message }: RefusedError): void {
    const { lastTid } = this.#storage;
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
    const why = failure instanceof UnavailableError && !(failure instanceof UnwantedError)
      ? `It may not know that transaction (this replica is ahead or forked; its log may say TidTooHigh), or be ` +
        `unable to send the next one`
      : `What follows there cannot be taken`;
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
    let connection: Connection;
    try {
      connection = await network.connect(this.#options.replicateFrom, { signal });
    } catch (error) {
      if (error instanceof UnavailableError) return new NotConnected(error.message, error.facts);
      throw error;
    }
    const close = () => connection.close();
    signal.addEventListener("abort", close);
    sink.onFailure = close; // an idle source would let it go unnoticed for ever
    try {
      return await this.#receive(connection, sink);
    } finally {
      sink.onFailure = () => {};
      signal.removeEventListener("abort", close);
      connection.close();
      await sink.abort();
    }
  }

  async #receive(connection: Connection, sink: Sink): Promise<ZrsError> {
    const { clock, log } = this.#ports;
    const start = this.#storage.lastTid;
    const wanted = start === NO_TID ? "everything" : `what follows ${describeTid(start)}`;
    this.#calmTold = false;
    log.info(`Connected to ${connection.peer}, asking for ${wanted}`);
    const incoming = new Incoming(sink.restorer, { blobs: this.#options.blobs, log });
    const decoder = new StreamDecoder(start);
    const chunk = new Uint8Array((this.#options.buffers ?? DEFAULT_BUFFER_SIZES).readBytes);
    const keepAlive = new KeepAlive(
      this.#ports,
      connection,
      this.#options.keepAliveMs ?? DEFAULT_KEEP_ALIVE_MS,
    );
    try {
      await keepAlive.write(encodeGreeting("zrs2.1", start));
      keepAlive.start();
      for (;;) {
        const sinceMs = clock.monotonic();
        let count: number;
        using _calm = this.#tellOnceCalm(decoder, start);
        try {
          count = await this.#read(connection, chunk, decoder.idle);
        } catch (error) {
          const quiet = decoder.idle && clock.monotonic() - sinceMs >= IDLE_MS;
          throw quiet && error instanceof UnavailableError ? new IdleEnd(error.message, error.facts) : error;
        }
        decoder.push(chunk, 0, count, incoming);
        await sink.settle();
        await this.#saveIndexWhenDue(sink);
      }
    } catch (error) {
      if (error instanceof UnavailableError || error instanceof ProtocolError) return error;
      throw error;
    } finally {
      keepAlive.stop();
    }
  }

  /**
   * The source does not say when it has sent all that it has. Where nothing more comes for a moment, after
   * something has come, that is most likely so; it is told once for each connection.
   */
  #tellOnceCalm(decoder: StreamDecoder, start: bigint): Disposable | undefined {
    const { lastTid } = decoder;
    if (this.#calmTold || !decoder.idle || lastTid === start) return undefined;
    return this.#ports.clock.schedule(CALM_MS, () => {
      this.#calmTold = true;
      this.#ports.log.info(
        `${this.#options.path} has all that the source has sent, up to ${describeTid(lastTid)}`,
      );
    });
  }

  /**
   * The next bytes from the source.
   * @param idle no transaction is under way: it may be silent for as long as it likes
   * @throws UnavailableError when it has closed, is lost, or stops in the middle of a transaction
   */
  async #read(connection: Connection, chunk: Uint8Array, idle: boolean): Promise<number> {
    if (idle) return receivedOf(await connection.read(chunk));
    const timeoutMs = this.#options.peerTimeoutMs ?? DEFAULT_PEER_TIMEOUT_MS;
    let stalled = false;
    const stop = () => {
      stalled = true;
      connection.close();
    };
    try {
      return receivedOf(await withDeadline(this.#ports.clock, timeoutMs, stop, connection.read(chunk)));
    } catch (error) {
      if (!stalled) throw error;
      throw new UnavailableError(
        `Cannot receive: the source stopped in the middle of a transaction for ${timeoutMs / 1000} s`,
      );
    }
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

function receivedOf(count: number | null): number {
  if (count === null) throw new UnavailableError("The source has closed the connection");
  return count;
}

/** There was nobody to connect to: no judgement on what the source sends. */
class NotConnected extends UnavailableError {}

/** The connection ended while the source had nothing new for a while, which is nothing to wonder at. */
class IdleEnd extends UnavailableError {}

/** Writes the greeting and then empty messages, one at a time. */
class KeepAlive {
  readonly #ports: Ports;
  readonly #connection: Connection;
  readonly #everyMs: number;
  #stopped = false;
  #timer: Disposable | undefined;

  constructor(ports: Ports, connection: Connection, everyMs: number) {
    this.#ports = ports;
    this.#connection = connection;
    this.#everyMs = everyMs;
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#connection.write(bytes);
  }

  start(): void {
    if (this.#everyMs <= 0 || this.#stopped) return;
    this.#timer = this.#ports.clock.schedule(this.#everyMs, () => void this.#send());
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.[Symbol.dispose]();
  }

  async #send(): Promise<void> {
    try {
      await withDeadline(
        this.#ports.clock,
        DEFAULT_PEER_TIMEOUT_MS,
        () => this.#connection.close(),
        this.#connection.write(KEEP_ALIVE),
      );
      this.start();
    } catch (error) {
      if (!(error instanceof ZrsError)) throw error;
      this.#connection.close(); // the reader meets the same end, and tells
    }
  }
}

/** @throws UsageError when the file is most likely the one that the source follows */
function refuseItself(storage: Storage, from: Address): void {
  if (!storage.report.followed || !isThisMachineOnly(from)) return;
  throw new UsageError(
    `Cannot replicate from ${
      formatAddress(from)
    } to ${storage.path}: a zrs primary on this machine follows that ` +
      `very file, so source and copy would be the same`,
    { path: storage.path, hint: "name another file for the copy" },
  );
}

function tellOpened(ports: Ports, storage: Storage): void {
  const { log } = ports;
  const report: OpenReport = storage.report;
  const { path, lastTid } = storage;
  if (report.cut !== undefined) {
    const saved = report.cut.savedTo === undefined ? "" : `; they are saved in ${report.cut.savedTo}`;
    log.warning(`${path}: cut ${report.cut.bytes} bytes that were no whole transaction${saved}`);
  }
  if (report.indexReason !== undefined && !report.created && lastTid !== NO_TID) {
    log.info(`${path}: scanned ${report.scanned} transactions: ${report.indexReason}`);
  }
  const what = report.created ? "Created" : "Opened";
  log.info(`${what} ${path}, ${lastTid === NO_TID ? "empty" : `last transaction ${describeTid(lastTid)}`}`);
}
