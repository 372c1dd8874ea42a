/**
 * Applies what a secondary has received once it is older than the delay, by the time of day: each transaction when
 * the time in its tid, and then the delay, have passed. A clock that is set, or tids from the future, change when
 * that is, and nothing else: all stays in order.
 */
import { DiskFullError } from "../errors.ts";
import type { DelayedStorage } from "../filestorage/mod.ts";
import { timeOfTid } from "../zodb/mod.ts";
import { IndexKeeper } from "./index_keeper.ts";
import type { Ports } from "./ports.ts";
import { FULL_RETRY_MS } from "./receiving/sink.ts";
import type { DelayStatus } from "./status.ts";
import { Bell, sleep } from "./waiting.ts";

/** The clock may have been set: at the latest after so long it is looked at again. */
const LOOK_MS = 10_000;

export interface DelayOptions {
  readonly delayMs: number;
  /** How often to save the index of what has been applied. */
  readonly indexSaveMs: number;
}

export class DelayedApply {
  /** Why nothing can be applied for the time being. */
  problem: string | undefined;
  readonly #ports: Ports;
  readonly #storage: DelayedStorage;
  readonly #options: DelayOptions;
  readonly #index: IndexKeeper;
  readonly #bell = new Bell();
  /** Settles when whoever works on the files now is done with them. */
  #turn: Promise<void> = Promise.resolve();
  #isIdle = true;

  constructor(ports: Ports, storage: DelayedStorage, options: DelayOptions) {
    this.#ports = ports;
    this.#storage = storage;
    this.#options = options;
    this.#index = new IndexKeeper(ports, storage.applied, options.indexSaveMs);
  }

  status(): DelayStatus {
    const { applied, waitingBytes, nextTid } = this.#storage;
    return {
      delayMs: this.#options.delayMs,
      appliedTid: applied.lastTid,
      appliedBytes: applied.end,
      waitingBytes,
      nextDueMs: nextTid === undefined ? undefined : this.#dueMs(nextTid),
    };
  }

  /** Where the Data.fs ends: what lies before has been applied. */
  get appliedEnd(): number {
    return this.#storage.applied.end;
  }

  /** Nothing is applied until what this gives is disposed of: what has been received may be taken back meanwhile. */
  async hold(): Promise<Disposable> {
    const before = this.#turn;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turn = promise;
    await before;
    return { [Symbol.dispose]: resolve };
  }

  /**
   * Applies until the signal aborts; then leaves nothing in the Data.fs but whole transactions, and saves its index.
   * @throws DiskError that trying again does not mend, CorruptError
   */
  async run(signal: AbortSignal): Promise<void> {
    const { received } = this.#storage;
    using _received = received.subscribe(() => {
      if (this.#isIdle) this.#bell.ring();
    });
    const stop = () => this.#bell.ring();
    signal.addEventListener("abort", stop);
    try {
      while (!signal.aborted) {
        this.#isIdle = true;
        const outcome = await this.#applyNext(signal);
        if (outcome === "full") await sleep(this.#ports.clock, FULL_RETRY_MS, signal);
        else if (outcome === "nothing") await this.#waitForNext(signal);
        await this.#index.saveWhenDue();
      }
    } finally {
      signal.removeEventListener("abort", stop);
    }
    await this.#storage.applied.cut();
    await this.#index.save();
  }

  async #applyNext(signal: AbortSignal): Promise<"some" | "nothing" | "full"> {
    const { applied } = this.#storage;
    const { log } = this.#ports;
    using _turn = await this.hold();
    if (signal.aborted) return "nothing"; // whoever had the turn has decided what becomes of what waits
    try {
      const hasApplied = await this.#storage.applyNext((tid) => this.#dueMs(tid) <= this.#ports.clock.now());
      if (this.problem !== undefined) log.info(`There is room again for ${applied.path}`);
      this.problem = undefined;
      return hasApplied ? "some" : "nothing";
    } catch (error) {
      if (!(error instanceof DiskFullError)) throw error;
      if (this.problem === undefined) {
        log.error(
          `${error.message}; what is due is not applied, and waits until there is room. Nothing is lost`,
        );
      }
      this.problem = error.message;
      return "full";
    }
  }

  async #waitForNext(signal: AbortSignal): Promise<void> {
    const { nextTid } = this.#storage;
    this.#isIdle = nextTid === undefined;
    if (signal.aborted) return;
    if (nextTid === undefined) return await this.#bell.wait();
    const untilDueMs = this.#dueMs(nextTid) - this.#ports.clock.now();
    // What is beyond the calendar is never due.
    const waitMs = untilDueMs < LOOK_MS ? Math.max(1, Math.ceil(untilDueMs)) : LOOK_MS;
    using _timer = this.#ports.clock.schedule(waitMs, () => this.#bell.ring());
    await this.#bell.wait();
  }

  #dueMs(tid: bigint): number {
    return timeOfTid(tid) + this.#options.delayMs;
  }
}
