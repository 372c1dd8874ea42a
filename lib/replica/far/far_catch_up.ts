/**
 * Bringing one file up to date, once, from a file on another machine that is read with the tools that are there: what
 * `CatchUp` does with a stream. What has come whole is durable, whatever happens.
 */
import { directoryOf, type Storage } from "../../filestorage/mod.ts";
import {
  DiskError,
  DiskFullError,
  DivergedError,
  NotFoundError,
  UnavailableError,
  UsageError,
  ZrsError,
} from "../../errors.ts";
import { describeTid } from "../../zodb/mod.ts";
import { type CatchUpOptions, type Demand, MOST_AGAIN, PackedAwayError } from "../sync/catch_up.ts";
import { divergenceFound } from "../sync/divergence.ts";
import type { FarDifference } from "./far_compare.ts";
import type { FarFile } from "./far_file.ts";
import { FarReplacedError } from "./far_shell.ts";
import type { FarFileSource } from "./far_source.ts";
import { syncFarFile } from "./far_sync.ts";
import { UnwantedError } from "../receiving/incoming.ts";
import { IndexKeeper } from "../index_keeper.ts";
import type { Completeness } from "../receiving/intake.ts";
import type { Ports } from "../ports.ts";
import { sleep } from "../waiting.ts";

/** A pack renames in two steps: so long after the first, the second has been made. */
const ABSENCE_MS = 100;

/** The failure where all of a replica was to be compared with a file that has other bytes, as a pack leaves them. */
export function notComparable(source: string, path: string): UsageError {
  return new UsageError(
    `Cannot compare all of ${path} with ${source}: that has been packed, or changed, and its machine's own tools ` +
      `tell bytes only, which lie elsewhere now; nothing was written`,
    { path, hint: "install zrs there, or give --repack to make a complete new copy" },
  );
}

export class FarCatchUp {
  readonly protocol = "tools";
  readonly #ports: Ports;
  readonly #source: FarFileSource;
  readonly #storage: Storage;
  readonly #options: CatchUpOptions;
  readonly #demand: Demand;
  readonly #index: IndexKeeper;
  readonly #startEnd: number;
  #goalEnd: number | undefined;
  /** Transactions that have come and are durable, cancelled ones included. */
  transactions = 0;
  /** Whether what has come was on disk there before; false where nothing there could see to that. */
  isDurableThere = true;

  constructor(
    ports: Ports,
    source: FarFileSource,
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
    this.#index = new IndexKeeper(ports, storage);
  }

  /**
   * Copies until all is there, and saves the index.
   * @returns on what it rests that this is all
   * @throws PackedAwayError; DivergedError; UnavailableError where the machine is not there, is lost half way, or has
   * a damaged file; UsageError where its tools do not suffice; DiskError; the signal's reason
   */
  async run(signal: AbortSignal): Promise<Completeness> {
    using _growing = this.#storage.subscribe(() => this.#tellProgress());
    try {
      await this.#copyAll(signal);
    } catch (error) {
      // What could not be written is in the index nevertheless.
      await this.#index.leaveInOrder(!(error instanceof DiskError));
      signal.throwIfAborted(); // the connection was closed for it
      throw error instanceof ZrsError ? this.#explain(error) : error;
    }
    await this.#index.leaveInOrder(true);
    return "said";
  }

  async #copyAll(signal: AbortSignal): Promise<void> {
    for (let again = 0;;) {
      signal.throwIfAborted();
      try {
        return await this.#copy(await this.#source.look(), signal);
      } catch (error) {
        const isGone = error instanceof NotFoundError && error.facts.path === this.#source.name;
        if (!(isGone || error instanceof FarReplacedError)) throw error;
        if (again++ >= MOST_AGAIN) throw isGone ? this.#gone(error) : error;
        this.#ports.log.info(`${error.message}; looking at it again`);
        if (isGone) await sleep(this.#ports.clock, ABSENCE_MS, signal);
      }
    }
  }

  /** It was there when the source was reached. */
  #gone(cause: NotFoundError): UnavailableError {
    const { name } = this.#source;
    return new UnavailableError(`Cannot copy all of ${name}: it is not there any more`, {
      cause,
      hint: "look what has become of it",
    });
  }

  async #copy(file: FarFile, signal: AbortSignal): Promise<void> {
    const { blobs, until, buffers } = this.#options;
    const result = await syncFarFile(this.#ports, this.#storage, file, {
      blobs,
      until,
      full: this.#options.check === "full",
      onPrefix: (end) => {
        if (until === undefined) this.#expect(end);
      },
      onAppended: (transactions) => this.transactions += transactions,
      saveIndexWhenDue: (drain) => this.#index.saveWhenDue(drain),
      ...(buffers !== undefined && { buffers }),
    }, signal);
    if (result.kind !== "complete") return await this.#judge(result, file);
    this.isDurableThere &&= result.isDurableThere;
  }

  /** Whether the replica is what is wanted although it is no beginning of the file there. @throws what it is not */
  async #judge(difference: FarDifference, { size }: FarFile): Promise<void> {
    const { name } = this.#source;
    const { path, lastTid } = this.#storage;
    const { until } = this.#options;
    const { kind, words } = difference;
    if (this.#demand === "copy") throw this.#packedAway(size);
    if (kind === "diverged") {
      throw await divergenceFound(this.#source, this.#storage, difference, this.transactions);
    }
    if (kind === "incomparable") {
      throw new UnavailableError(`Cannot copy from ${name}: ${words}`, {
        hint: "try again; if that does not help, install zrs there, or begin with an empty replica",
      });
    }
    const { fit } = difference;
    const hasAll = until !== undefined && lastTid >= until ||
      this.#demand === "later" && difference.lastTid <= lastTid;
    const isCompared = this.#options.check !== "full";
    if (hasAll && fit !== "unknown" && isCompared) return;
    if (this.#demand === "prefix") throw this.#packedAway(size);
    const last = describeTid(lastTid);
    if (fit === "unknown") {
      throw new DivergedError(
        `Cannot go on behind ${last} in ${path}: ${name} has packed away all that could tell whether both have ` +
          `the same history; nothing was written`,
        { hint: "if it is the right source, give --repack to make a complete new copy" },
      );
    }
    if (fit === "gap") {
      throw new PackedAwayError(
        `${name} has been packed since ${last}, the last transaction of ${path}, and may lack some of what came ` +
          `after it`,
        size,
      );
    }
    if (!isCompared) throw notComparable(name, path);
    throw new UsageError(
      `Cannot append to ${path} what it lacks of ${name}: that has been packed, and its machine's own tools tell ` +
        `bytes only, which lie elsewhere now; nothing was written`,
      { path, hint: "give --repack to make a complete new copy, or install zrs there" },
    );
  }

  #packedAway(sourceEnd: number): PackedAwayError {
    return new PackedAwayError(
      `${this.#source.name} has been packed, or lies differently from ${this.#storage.path}`,
      sourceEnd,
    );
  }

  /** @throws DiskFullError before anything is written */
  #expect(goalEnd: number): void {
    const { path, end } = this.#storage;
    const free = this.#ports.disk.freeBytes(directoryOf(path));
    const needed = goalEnd - end;
    if (needed > free) {
      throw new DiskFullError(
        `Cannot copy ${this.#source.name} to ${path}: ${needed} bytes are needed, ${free} are free`,
        { path, hint: "make room, or copy to another disk" },
      );
    }
    this.#goalEnd = goalEnd;
    this.#tellProgress();
  }

  /** A failure as the one who called is to read it. */
  #explain(failure: ZrsError): ZrsError {
    if (!(failure instanceof UnavailableError) || failure instanceof PackedAwayError) return failure;
    const { name } = this.#source;
    const what = failure instanceof UnwantedError ? `Cannot copy from ${name}: ` : "";
    const kept = this.transactions === 0
      ? ""
      : `; what had come is kept, up to ${describeTid(this.#storage.lastTid)}`;
    if (what === "" && kept === "") return failure;
    return new UnavailableError(`${what}${failure.message}${kept}`, { ...failure.facts, cause: failure });
  }

  #tellProgress(): void {
    const { end } = this.#storage;
    this.#options.onProgress?.({ end, startEnd: this.#startEnd, goalEnd: this.#goalEnd });
  }
}
