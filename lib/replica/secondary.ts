/**
 * `zrs secondary`: keeps a Data.fs equal to a source's, transaction by transaction, and serves it on to
 * chained secondaries. Owns its file; connects again whenever the connection ends, for as long as it runs.
 */
import { UnavailableError, UsageError } from "../errors.ts";
import type { PackReport, Storage } from "../filestorage/mod.ts";
import type { Address } from "../ports/mod.ts";
import { describeTid } from "../zodb/mod.ts";
import { openBlobs, packedWith, supplyOf } from "./receiving/blob_reception.ts";
import type { BlobReception } from "./blob_use.ts";
import { DEFAULT_BUFFER_SIZES } from "./buffers.ts";
import { LivePack, type PackRequest } from "./live_pack.ts";
import type { Ports } from "./ports.ts";
import { DEFAULT_PEER_TIMEOUT_MS, DEFAULT_SOFTWARE } from "./primary.ts";
import { Reception } from "./receiving/reception.ts";
import { type Promotion, ReplicaFile } from "./replica_file.ts";
import { DEFAULT_INDEX_SAVE_MS } from "./index_keeper.ts";
import type { SecondaryOptions } from "./secondary_options.ts";
import { Server } from "./sending/server.ts";
import type { NodeStatus } from "./status.ts";
import { Turn } from "./turn.ts";
import { pauser } from "./waiting.ts";

/** Ends the node by making its file ready for whoever takes it over. */
interface Promoting {
  /** Only what has an earlier tid is applied; undefined for all. */
  readonly before: bigint | undefined;
  /** For whoever has asked for it. */
  readonly done: PromiseWithResolvers<Promotion>;
}

/** A scan of more transactions than these is worth saving the index for at once. */
const MANY_SCANNED = 1000;

export class Secondary {
  readonly #ports: Ports;
  readonly #options: SecondaryOptions;
  readonly #file: ReplicaFile;
  readonly #storage: Storage;
  readonly #server: Server | undefined;
  readonly #blobs: BlobReception;
  readonly #reception: Reception;
  /** For work that nothing may be received during. */
  readonly #turn = new Turn();
  readonly #packing: LivePack;
  /** While running. */
  #ending: AbortController | undefined;
  /** What is to become of the file at the end, if it is not to be gone on with. */
  #promotion: Promoting | undefined;

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
    this.#packing = new LivePack(ports, file.storage, this.#turn, () => this.#reception.problem);
    this.#reception = new Reception(ports, options, file, blobs, this.#turn);
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
        rememberFor: options.remember === true ? options.path : undefined,
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
    if (file.scanned > MANY_SCANNED) await secondary.#reception.index.save();
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
      problem: this.#reception.problem ?? this.#file.applying?.problem ??
        (this.#packing.isRunning ? undefined : this.#storage.displacement),
      source: this.#reception.source,
      peers: this.#server?.peers ?? [],
    };
  }

  /**
   * Packs the file, while this goes on.
   * @throws UsageError with a delay, and as {@link LivePack.pack}
   */
  async pack(request: PackRequest): Promise<PackReport> {
    if (this.#file.applying === undefined) {
      return await this.#packing.pack({ ...packedWith(this.#blobs), ...request }, this.#server?.known);
    }
    const { path } = this.#options;
    throw new UsageError(`Cannot pack ${path}: transactions wait beside it, for it runs with --apply-delay`, {
      path,
      hint:
        "stop the node, apply what waits with zrs promote, and then pack; or run it without the delay first",
    });
  }

  /**
   * Replicates until the signal aborts, or the file is promoted; then saves the index.
   * @throws DiskError a failure that trying again does not mend
   */
  async run(signal: AbortSignal): Promise<void> {
    try {
      const drained = await this.#work(signal);
      await this.#storage.cut(); // so that nothing but whole transactions is left behind
      if (drained) await this.#reception.index.save();
      if (this.#promotion === undefined) await this.#file.tidy();
      else await this.#promoteNow(this.#promotion, signal);
    } catch (error) {
      this.#promotion?.done.reject(error);
      throw error;
    }
  }

  /**
   * Ends {@link run}, and makes the file ready for whoever takes it over: what has been received is applied, all of
   * it or up to just before a transaction, and the rest is kept beside the file. Resolves when that is done, and the file let go.
   * @throws UsageError (what is not to be applied has been; it is ending already): all goes on as before;
   * UnavailableError (it is to stop before that is done), DiskError: the node has ended, and what waits is still there
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

  /** Tells whoever has asked, also that the signal has ended it. @throws DiskError, CorruptError */
  async #promoteNow({ before, done }: Promoting, signal: AbortSignal): Promise<void> {
    const { disk, clock, log } = this.#ports;
    const { path } = this.#options;
    const othersMayRun = pauser(clock);
    const pause = async () => {
      signal.throwIfAborted();
      await othersMayRun();
    };
    let promotion: Promotion;
    try {
      promotion = await this.#file.promote(disk, before, { pause, signal });
    } catch (error) {
      if (!signal.aborted || error !== signal.reason) throw error;
      log.warning(`${path} is not promoted: the node stops; what waits is still there`);
      const hint = "what waits is still there, so promote it once more";
      return done.reject(
        new UnavailableError(`Cannot promote ${path}: the node stops before that is done`, { path, hint }),
      );
    }
    const { lastTid, savedTo } = promotion;
    const rest = savedTo === undefined ? "" : `; what came after it is saved in ${savedTo}`;
    log.info(`${path} is promoted: it ends with ${describeTid(lastTid)}${rest}`);
    done.resolve(promotion);
  }

  /** @returns as {@link Reception.run} */
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
      drained = await this.#reception.run(ending.signal);
    } finally {
      signal.removeEventListener("abort", end);
      end();
      await this.#packing.stop();
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
    await this.#packing.stop();
    await this.#file[Symbol.asyncDispose]();
  }
}
