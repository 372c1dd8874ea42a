/**
 * `zrs secondary`: keeps a Data.fs equal to a source's, transaction by transaction, and serves it on to
 * chained secondaries. Owns its file; connects again whenever the connection ends, for as long as it runs.
 */
import { BlobDirectory, MissingBlobs, type OpenReport, Storage } from "../filestorage/mod.ts";
import { DiskFullError, RefusedError, UnavailableError, UsageError, ZrsError } from "../errors.ts";
import { type Address, type Connection, formatAddress, isThisMachineOnly } from "../ports/mod.ts";
import { describeTid, formatTid, NO_TID } from "../zodb/mod.ts";
import { AutoRewind } from "./auto_rewind.ts";
import { type BlobOptions, type BlobReception, type BlobSupply, WITHOUT_BLOBS } from "./blob_use.ts";
import { type BufferSizes, DEFAULT_BUFFER_SIZES } from "./buffers.ts";
import { sentence } from "./feed.ts";
import { isDivergence } from "./histories.ts";
import { UnwantedError } from "./incoming.ts";
import { IncomingBlobs } from "./incoming_blobs.ts";
import { IdleEnd, type Intake, type IntakeContext } from "./intake.ts";
import { AgainError, MisfitError, NativeIntake, NoNativeError } from "./native_intake.ts";
import { type Begun, type Secret, SecretError } from "../native/mod.ts";
import type { Compress } from "./pace.ts";
import type { Ports } from "./ports.ts";
import { DEFAULT_PEER_TIMEOUT_MS, DEFAULT_SOFTWARE } from "./primary.ts";
import { HistoryRefusedError } from "./refusal.ts";
import { RetryDelay } from "./retry_delay.ts";
import { Server } from "./server.ts";
import { Sink } from "./sink.ts";
import { SourceWatch } from "./source_watch.ts";
import type { NodeStatus } from "./status.ts";
import { pauser, sleep } from "./waiting.ts";
import { ZrsIntake } from "./zrs_intake.ts";

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
  /** A source that stops in the middle of a transaction, or takes nothing, for so long is dropped. */
  readonly peerTimeoutMs?: number;
  readonly buffers?: BufferSizes;
  /** `auto`: the native stream where the source speaks it, else zrs2. */
  readonly protocol?: "auto" | "native" | "zrs2";
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
/** A source that spoke no native stream is asked for zrs2 so long; it may be another program by then. */
const ZRS2_MEMORY_MS = 600_000;
/** A source that has spoken it before must be silent in so many connections to be asked for zrs2. */
const UNHEARD_COUNT = 3;

export class Secondary {
  readonly #ports: Ports;
  readonly #options: SecondaryOptions;
  readonly #storage: Storage;
  readonly #server: Server | undefined;
  readonly #blobs: BlobReception;
  readonly #source: SourceWatch;
  readonly #rewinding: AutoRewind;
  /** While replicating. */
  #sink: Sink | undefined;
  /** While connected. */
  #current: Intake | undefined;
  #nextSaveMs: number;
  /** Until then the source is taken for one that speaks zrs2 only. */
  #zrs2UntilMs = -Infinity;
  /** How many connections in a row ended without a word of the native stream, and whether there was ever one. */
  #unheard = 0;
  #hasHeard = false;
  /** Whether the source has said that it has no files of blobs. */
  #isWithoutBlobs = false;
  /**
   * Our last transaction when what follows in the source's file did not fit behind it. That comes record by record;
   * once it has, the files may agree again, and every run is checked whatever has been before.
   */
  #misfitAfter: bigint | undefined;

  private constructor(
    ports: Ports,
    options: SecondaryOptions,
    storage: Storage,
    blobs: BlobReception,
    server: Server | undefined,
  ) {
    this.#blobs = blobs;
    this.#ports = ports;
    this.#options = options;
    this.#storage = storage;
    this.#server = server;
    this.#source = new SourceWatch(ports.clock, options.replicateFrom);
    this.#rewinding = new AutoRewind(ports, storage, options.rewindLimit ?? 0);
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
    const blobs = await openBlobs(ports, options, storage.lastTid);
    const server = options.replicateTo === undefined
      ? undefined
      : await Server.listen(ports, options.replicateTo, storage, {
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
    const secondary = new Secondary(ports, options, storage, blobs, server);
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
      problem: this.#sink?.problem,
      source: this.#source.status(received, durable, this.#current?.source),
      peers: this.#server?.peers ?? [],
    };
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

  get #protocol(): "auto" | "native" | "zrs2" {
    return this.#options.secret === undefined ? this.#options.protocol ?? "auto" : "native";
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
      if (this.#learn(failure)) continue;
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
      if (!isFruitful) this.#zrs2UntilMs = -Infinity; // whatever is wrong there may hide the native stream
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
    const blobs = this.#blobs.choice === "replicate" ? this.#blobs.incoming : undefined;
    return this.#sink = new Sink(this.#ports, this.#storage, buffers, signal, blobs);
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
    const isZrs2 = this.#isZrs2;
    if (this.#blobs.choice === "replicate") this.#blobs.incoming.forget(this.#storage.lastTid);
    let begun: Begun | undefined;
    if (!isZrs2 && this.#mayBeRaw) begun = await sink.begun();
    else await sink.abort(); // nobody could go on behind what is kept
    let connection: Connection;
    this.#source.connecting();
    try {
      connection = await network.connect(this.#options.replicateFrom, { signal });
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      this.#source.ended(error);
      return new NotConnected(error.message, error.facts);
    }
    const context = this.#contextOf(sink, connection);
    const intake: Intake = this.#current = isZrs2
      ? new ZrsIntake(context, this.#zrsVersion)
      : new NativeIntake(context, this.#mayBeRaw, begun);
    this.#source.connected(intake.protocol);
    const stop = () => intake.stop();
    signal.addEventListener("abort", stop);
    if (signal.aborted) stop(); // while it was being connected
    sink.onFailure = () => connection.close(); // an idle source would let it go unnoticed for ever
    let isOnlyLost = false;
    try {
      const failure = await intake.receive();
      this.#source.ended(failure);
      isOnlyLost = saysNothingAgainst(failure);
      return failure;
    } finally {
      this.#current = undefined;
      this.#hasHeard ||= intake instanceof NativeIntake && intake.hasHeard;
      sink.onFailure = () => {};
      signal.removeEventListener("abort", stop);
      connection.close();
      if (isOnlyLost) await sink.interrupt();
      else await sink.abort();
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

  get #isZrs2(): boolean {
    const protocol = this.#protocol;
    return protocol === "zrs2" ||
      protocol === "auto" && this.#ports.clock.monotonic() < this.#zrs2UntilMs;
  }

  /** A source without blobs refuses, in words, whoever says that it takes some; one with blobs whoever says it does not. */
  get #zrsVersion(): "zrs2.0" | "zrs2.1" {
    return this.#blobs.choice === "none" && this.#isWithoutBlobs ? "zrs2.0" : "zrs2.1";
  }

  /** Whether the source may send bytes as they lie in its file. */
  get #mayBeRaw(): boolean {
    return this.#misfitAfter === undefined || this.#storage.lastTid > this.#misfitAfter;
  }

  /**
   * Learns from the end of a connection in what way to ask next time.
   * @returns whether to ask at once
   */
  #learn(failure: ZrsError): boolean {
    const { clock, log } = this.#ports;
    const source = formatAddress(this.#options.replicateFrom);
    if (failure instanceof MisfitError) {
      this.#misfitAfter = this.#storage.lastTid;
      log.info(`${failure.message}; asking ${source} for it record by record`);
      return true;
    }
    if (failure instanceof RefusedError && this.#zrsVersion === "zrs2.1" && this.#blobs.choice === "none") {
      this.#isWithoutBlobs = failure.message.includes(WITHOUT_BLOBS);
      if (this.#isWithoutBlobs) return true;
    } else if (!(failure instanceof NotConnected)) {
      this.#isWithoutBlobs &&= failure instanceof IdleEnd; // it may be another source by now
    }
    if (this.#protocol !== "auto") return false;
    if (!(failure instanceof NoNativeError)) {
      this.#unheard = 0;
      return false;
    }
    // A source of ours that is just going away looks the same.
    if (++this.#unheard < UNHEARD_COUNT && this.#hasHeard) return false;
    this.#unheard = 0;
    this.#zrs2UntilMs = clock.monotonic() + ZRS2_MEMORY_MS;
    log.info(`${source} does not speak zrs's native stream: going on with zrs2`);
    return true;
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

/** Whether what came before a connection ended may be right all the same. */
function saysNothingAgainst(failure: ZrsError): boolean {
  return failure instanceof UnavailableError && !(failure instanceof MisfitError) &&
    !(failure instanceof UnwantedError) && !(failure instanceof HistoryRefusedError);
}

/** There was nobody to connect to: no judgement on what the source sends. */
class NotConnected extends UnavailableError {}

/** @throws UsageError about the directory; DiskError */
async function openBlobs(
  { disk }: Ports,
  { path, blobs, blobDir, missingBlobs }: SecondaryOptions,
  lastTid: bigint,
): Promise<BlobReception> {
  if (blobs === "refuse" || blobs === "none") return { choice: blobs };
  if (blobDir === undefined) throw new RangeError(`Blobs cannot be ${blobs} without a directory`);
  if (blobs === "shared") return { choice: blobs, directory: BlobDirectory.open(disk, blobDir) };
  const directory = await BlobDirectory.prepare(disk, blobDir);
  const missing = await MissingBlobs.open(disk, path, directory, lastTid);
  const options = { missing, marksMissing: missingBlobs === "mark" };
  return { choice: blobs, incoming: IncomingBlobs.open(directory, lastTid, options) };
}

/** What this node can serve of what it receives. */
function supplyOf(blobs: BlobReception): BlobSupply {
  switch (blobs.choice) {
    case "shared":
      return blobs.directory;
    case "replicate":
      return blobs.incoming.directory;
    default:
      return blobs.choice;
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
