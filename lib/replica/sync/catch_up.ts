/**
 * Bringing one file up to date from a source, once: as many conversations as it takes, all up to the end that the
 * source had in the first. What has come whole is durable, whatever happens.
 */
import { directoryOf, type Storage } from "../../filestorage/mod.ts";
import {
  CorruptError,
  DiskError,
  DiskFullError,
  DivergedError,
  ProtocolError,
  RefusedError,
  UnavailableError,
  UsageError,
  ZrsError,
} from "../../errors.ts";
import type { Connection } from "../../ports/mod.ts";
import type { Secret } from "../../native/mod.ts";
import { describeTid, NO_TID } from "../../zodb/mod.ts";
import { Approach, type Protocol } from "../receiving/approach.ts";
import { attend } from "../receiving/attend.ts";
import { type BlobReception, contentsOf, endsAtBlob } from "../blob_use.ts";
import { type BufferSizes, DEFAULT_BUFFER_SIZES } from "../buffers.ts";
import { divergenceOf } from "./divergence.ts";
import { isDivergence } from "../lineage/histories.ts";
import { UnwantedError } from "../receiving/incoming.ts";
import { IndexKeeper } from "../index_keeper.ts";
import {
  CompleteEnd,
  type Completeness,
  type IntakeContext,
  type Promised,
  WithinPackError,
} from "../receiving/intake.ts";
import { lowerFirst } from "../lower_first.ts";
import { AgainError } from "../receiving/native_intake.ts";
import { MisfitError } from "../receiving/native_runs.ts";
import type { Compress } from "../sending/pace.ts";
import type { Ports } from "../ports.ts";
import { DEFAULT_PEER_TIMEOUT_MS, DEFAULT_SOFTWARE } from "../primary.ts";
import { HistoryRefusedError } from "../lineage/refusal.ts";
import { Sink } from "../receiving/sink.ts";
import { checkReadToItsEnd, OnceError, type SyncSource } from "./sync_source.ts";
import { END_OF_TIME } from "./until.ts";

export interface CatchUpOptions {
  readonly blobs: BlobReception;
  /** How much of the replica is compared with the source before anything is written; default: `quick`. */
  readonly check?: "quick" | "full";
  /** Nothing later is copied; default: all that the source has at the beginning. */
  readonly until?: bigint | undefined;
  /** What comes later is copied behind that, by somebody else: it need not be whole for itself. */
  readonly isStep?: boolean;
  /** A source that does not tell its last transaction has this one, and must send it. */
  readonly sourceLastTid?: bigint | undefined;
  /** Without that, it has sent all when it has been silent for so long. */
  readonly settleMs?: number;
  readonly protocol?: Protocol | undefined;
  readonly compress?: Compress;
  /** The source must prove that it has it, too. */
  readonly secret?: Secret | undefined;
  /** A source that is silent for so long is given up. */
  readonly peerTimeoutMs?: number;
  readonly buffers?: BufferSizes;
  readonly software?: string;
  /** What the source is to remember this replica by. */
  readonly name?: string | undefined;
  /** What comes next is asked for record by record: somebody has found that its bytes do not fit. */
  readonly byRecord?: boolean;
  /** Is told how far it is, each time that has changed. */
  readonly onProgress?: (progress: SyncProgress) => void;
}

/** How far a copy is. */
export interface SyncProgress {
  /** The end of what is durable here, in bytes. */
  readonly end: number;
  /** Where that was when it began. */
  readonly startEnd: number;
  /** Where it will be; undefined where that is not known. */
  readonly goalEnd: number | undefined;
}

/** What the file must be to the source's so that going on behind it makes a good copy. */
export type Demand =
  /** Everything later is there. */
  | "later"
  /** It becomes the same file, unless it has all that is wanted. */
  | "prefix"
  /** It becomes the same file. */
  | "copy";

/** The source has been packed, and what it has left does not make this file what is wanted: a new copy would. */
export class PackedAwayError extends UnavailableError {
  /** How many bytes the source's file has; undefined where it does not say. */
  readonly sourceEnd: number | undefined;

  constructor(message: string, sourceEnd: number | undefined) {
    super(message);
    this.sourceEnd = sourceEnd;
  }
}

const DEFAULT_SETTLE_MS = 3_000;
/** A source that is replaced more often than this in one copy has other troubles. */
export const MOST_AGAIN = 10;

export class CatchUp {
  readonly #ports: Ports;
  readonly #source: SyncSource;
  readonly #storage: Storage;
  readonly #options: CatchUpOptions;
  readonly #demand: Demand;
  readonly #approach: Approach;
  readonly #index: IndexKeeper;
  readonly #startEnd: number;
  /** The end that was fixed when the first conversation began, from then on. */
  #until: bigint;
  #goalEnd: number | undefined;
  /** Transactions that have come and are durable, cancelled ones included. */
  transactions = 0;
  /** By which protocol it came. */
  protocol = "";
  /** A source sends what is on its disk, and nothing else. */
  readonly isDurableThere = true;

  constructor(
    ports: Ports,
    source: SyncSource,
    storage: Storage,
    options: CatchUpOptions,
    demand: Demand,
  ) {
    this.#ports = ports;
    this.#source = source;
    this.#storage = storage;
    this.#options = options;
    this.#demand = demand;
    this.#startEnd = storage.end;
    this.#until = options.until ?? END_OF_TIME;
    const protocol = options.secret === undefined ? options.protocol ?? "auto" : "native";
    const misfitAfter = options.byRecord === true ? storage.lastTid : undefined;
    this.#approach = new Approach(
      ports.clock,
      ports.log,
      source.name,
      protocol,
      options.blobs.choice,
      misfitAfter,
    );
    this.#index = new IndexKeeper(ports, storage);
  }

  /**
   * Receives until all has come, and saves the index.
   * @returns on what it rests that this is all
   * @throws PackedAwayError; DivergedError; UsageError where it has blobs, and nothing was said of them; UnavailableError, ProtocolError where the source is not there, is lost
   * half way, or breaks the protocol; DiskError; the signal's reason
   */
  async run(signal: AbortSignal): Promise<Completeness> {
    using _growing = this.#storage.subscribe(() => this.#tellProgress());
    let completeness: Completeness;
    try {
      completeness = await this.#receiveAll(signal);
    } catch (error) {
      // What could not be written, or read back, is in the index nevertheless.
      await this.#index.leaveInOrder(!(error instanceof DiskError || error instanceof CorruptError));
      throw error;
    }
    await this.#index.leaveInOrder(true);
    checkReadToItsEnd(this.#source);
    return completeness;
  }

  async #receiveAll(signal: AbortSignal): Promise<Completeness> {
    for (let again = 0;;) {
      signal.throwIfAborted();
      const failure = await this.#converse(signal);
      if (failure instanceof CompleteEnd) return failure.restsOn;
      signal.throwIfAborted();
      const isOnce = this.#source.isOnce === true;
      if (isOnce && (failure instanceof MisfitError || failure instanceof AgainError)) {
        throw new OnceError(failure.message, failure instanceof MisfitError);
      }
      if (this.#approach.learn(failure, this.#storage.lastTid)) continue;
      if (failure instanceof AgainError && again++ < MOST_AGAIN) {
        this.#ports.log.info(`${this.#source.name}: ${failure.message}; asking again`);
        this.#until = this.#options.until ?? END_OF_TIME; // by a pack the end that was fixed may have gone
        continue;
      }
      throw await this.#explain(failure, signal);
    }
  }

  async #converse(signal: AbortSignal): Promise<ZrsError> {
    const { buffers = DEFAULT_BUFFER_SIZES, blobs } = this.#options;
    const connection = await this.#source.connect(signal);
    const sink = new Sink(this.#ports, this.#storage, buffers, signal, {
      onFull: "fail",
      blobs: contentsOf(blobs),
    });
    const begun = await this.#approach.prepare(sink, this.#storage.lastTid);
    const intake = this.#approach.intake(this.#context(sink, connection), begun);
    this.protocol = intake.protocol;
    try {
      return await attend(intake, sink, connection, signal, "forget");
    } finally {
      this.transactions += sink.transactions;
      this.#approach.ended(intake);
    }
  }

  #context(sink: Sink, connection: Connection): IntakeContext {
    const options = this.#options;
    const { readBytes, runBytes } = options.buffers ?? DEFAULT_BUFFER_SIZES;
    return {
      ports: this.#ports,
      storage: this.#storage,
      sink,
      connection,
      options: {
        path: this.#storage.path,
        blobs: options.blobs,
        keepAliveMs: 30_000,
        peerTimeoutMs: options.peerTimeoutMs ?? DEFAULT_PEER_TIMEOUT_MS,
        readBytes,
        runBytes,
        compress: options.compress ?? "auto",
        software: options.software ?? DEFAULT_SOFTWARE,
        name: options.name,
        secret: options.secret,
        once: {
          until: this.#until,
          isStep: this.#options.isStep === true,
          judge: (promised) => this.#judge(promised),
          zrs2: { lastTid: options.sourceLastTid, settleMs: options.settleMs ?? DEFAULT_SETTLE_MS },
        },
      },
      saveIndexWhenDue: () => this.#index.saveWhenDue(() => sink.drain()),
    };
  }

  /** Whether to take what the source will send. */
  #judge({ fit, lastTid, end, isWithinPack }: Promised): void {
    const { lastTid: ownTid } = this.#storage;
    const { sourceLastTid } = this.#options;
    if (this.protocol !== "native" && sourceLastTid !== undefined && ownTid > sourceLastTid) {
      throw new DivergedError(
        `Cannot copy from ${this.#source.name}: ${this.#storage.path} is ahead of it: it ends with ${
          describeTid(sourceLastTid)
        }, and the copy with ${describeTid(ownTid)}; nothing was written`,
        { path: this.#storage.path, tid: ownTid, hint: "compare both by zrs log" },
      );
    }
    if (ownTid !== NO_TID) this.#checkFit(fit, end);
    if (isWithinPack === true && this.#options.isStep !== true) throw new WithinPackError(this.#until);
    const isAll = lastTid <= this.#until;
    if (lastTid !== NO_TID && isAll) this.#until = lastTid;
    this.#goalEnd = fit === "prefix" && isAll ? end : undefined;
    if (this.#goalEnd !== undefined) this.#checkRoom(this.#goalEnd);
    this.#tellProgress();
  }

  #checkFit(fit: Promised["fit"], sourceEnd: number | undefined): void {
    const { name } = this.#source;
    const last = describeTid(this.#storage.lastTid);
    const { until } = this.#options;
    const hasAll = this.#demand !== "copy" && until !== undefined && this.#storage.lastTid >= until;
    if (fit === "prefix" || hasAll && fit !== "unknown") return;
    if (this.#demand !== "later") {
      throw new PackedAwayError(
        `${name} has been packed, or lies differently from ${this.#storage.path}`,
        sourceEnd,
      );
    }
    if (fit === "gap") {
      throw new PackedAwayError(
        `${name} has been packed since ${last}, the last transaction of ${this.#storage.path}, and may lack some ` +
          `of what came after it`,
        sourceEnd,
      );
    }
    if (fit === "later") return;
    throw new DivergedError(
      `Cannot go on behind ${last} in ${this.#storage.path}: ${name} has packed away all that could tell whether ` +
        `both have the same history; nothing was written`,
      { hint: "if it is the right source, give --repack to make a complete new copy" },
    );
  }

  /** @throws DiskFullError before anything is written */
  #checkRoom(goalEnd: number): void {
    const { path, end } = this.#storage;
    const free = this.#ports.disk.freeBytes(directoryOf(path));
    const needed = goalEnd - end;
    if (needed <= free) return;
    throw new DiskFullError(
      `Cannot copy ${this.#source.name} to ${path}: ${needed} bytes are needed, ${free} are free`,
      {
        path,
        hint: "make room, or copy to another disk",
      },
    );
  }

  /** A failure as the one who called is to read it. */
  async #explain(failure: ZrsError, signal: AbortSignal): Promise<ZrsError> {
    if (failure instanceof PackedAwayError) return failure;
    const { name } = this.#source;
    const { lastTid } = this.#storage;
    if (
      failure instanceof HistoryRefusedError ||
      failure instanceof RefusedError && isDivergence(failure.message)
    ) {
      const software = this.#options.software ?? DEFAULT_SOFTWARE;
      const { secret } = this.#options;
      return await divergenceOf(
        this.#ports,
        this.#source,
        this.#storage,
        failure,
        { software, secret },
        signal,
        this.transactions,
      );
    }
    const kept = this.transactions === 0 ? "" : `; what had come is kept, up to ${describeTid(lastTid)}`;
    const message = `Cannot copy from ${name}: ${lowerFirst(failure.message)}${kept}`;
    const facts = { ...failure.facts, cause: failure };
    if (this.#options.blobs.choice === "refuse" && endsAtBlob(failure)) {
      return new UsageError(
        `Cannot copy from ${name}: it has blobs, and it has not been said what becomes of them${kept}`,
        {
          ...facts,
          hint: "give --blob-dir, and --source-blob-dir where the source is a file; " +
            "or --blobs none, for a copy without the blobs' files",
        },
      );
    }
    if (failure instanceof ProtocolError) return new ProtocolError(message, facts);
    if (failure instanceof UnwantedError || failure.hint !== undefined) {
      return new UnavailableError(message, facts);
    }
    // A Python source that refuses a replica closes the connection, and says why in its own log only.
    const isMute = this.protocol !== "native" && this.transactions === 0;
    return new UnavailableError(message, {
      ...facts,
      ...(isMute &&
        { hint: "look into the source's log: if it says TidTooHigh, this replica is ahead of it" }),
    });
  }

  #tellProgress(): void {
    const { end } = this.#storage;
    this.#options.onProgress?.({ end, startEnd: this.#startEnd, goalEnd: this.#goalEnd });
  }
}
