/**
 * Simulated time. Everything that happens in a world is an event here; events run one at a time in the order
 * of their times, events of the same time in an order drawn from the seed. After each event all promises that
 * it settled run to their end before the next event.
 *
 *     await using scheduler = new Scheduler(new SeededRandom(seed));
 *     scheduler.after(10, () => …);                    // a Timer
 *     await scheduler.delay(10);                       // for the scenario's own code
 *     await scheduler.runUntil(() => done, { events: 10_000, durationMs: 60_000 });
 *     await scheduler.runFor(5_000);
 *     scheduler.fail(new Error("…"));                  // a check that failed, from anywhere
 *
 * A run fails with {@link SimulationFailure}, which names the seed and shows the last steps, when a check
 * fails, a promise is rejected and nobody handles it, nothing is left to happen while the condition is not
 * met (deadlock), or a limit is passed (livelock). {@link ProcessDead} is never a failure.
 *
 * Measured on Deno 2.9.6: letting the promises run by setImmediate costs 0.8 µs, by MessageChannel 1.3 µs, by
 * setTimeout 2 ms; process.nextTick costs 0.15 µs but does not let them run when called from a callback of
 * the event loop.
 */
import { setImmediate } from "node:timers";
import type { Timer } from "../../lib/ports/mod.ts";
import { EventQueue, type QueuedEvent } from "./event_queue.ts";
import { ProcessDead } from "./life.ts";
import type { SeededRandom } from "./random.ts";
import { Trace } from "./trace.ts";

/** The run went wrong; the message names the seed with which it goes wrong again. */
export class SimulationFailure extends Error {
  readonly seed: string;

  constructor(seed: string, what: string, trace: Trace, cause?: unknown) {
    super(`${what} (seed ${seed}); the last steps were:\n${trace.format()}`, { cause });
    this.name = "SimulationFailure";
    this.seed = seed;
  }
}

export interface RunLimits {
  /** More events than this count as a livelock; 1,000,000 unless given. */
  readonly events?: number;
  /** Longer in simulated milliseconds than this is a failure; a day unless given. */
  readonly durationMs?: number;
}

const DEFAULT_EVENTS = 1_000_000;
const DEFAULT_DURATION_MS = 86_400_000;

export class Scheduler implements AsyncDisposable {
  readonly seed: string;
  readonly trace = new Trace();
  /** Says of a rejection that nobody handles whether only a dead process would have. */
  isOfTheDead: (reason: unknown) => boolean = () => false;
  readonly #queue = new EventQueue();
  readonly #random: SeededRandom;
  #nowMs = 0;
  #sequence = 0;
  #eventCount = 0;
  #failure: SimulationFailure | undefined;

  constructor(random: SeededRandom) {
    this.seed = random.name;
    this.#random = random.fork("scheduler");
    globalThis.addEventListener("unhandledrejection", this.#onUnhandled);
  }

  /** Simulated milliseconds since the world began. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** How many events have run. */
  get eventCount(): number {
    return this.#eventCount;
  }

  /** Calls back once when `delayMs` have passed; 0 is later than everything that runs now. */
  after(delayMs: number, action: () => void): Timer {
    if (!(delayMs >= 0)) throw new RangeError(`Cannot schedule: the delay must be at least 0, is ${delayMs}`);
    const event: QueuedEvent = {
      timeMs: this.#nowMs + delayMs,
      tieBreak: this.#random.uint32(),
      sequence: this.#sequence++,
      action,
    };
    this.#queue.push(event);
    const cancel = () => {
      event.action = null;
    };
    return { cancel, [Symbol.dispose]: cancel };
  }

  /** Waits in simulated time; only for code that runs while the scheduler runs. */
  delay(delayMs: number): Promise<void> {
    return new Promise((resolve) => void this.after(delayMs, resolve));
  }

  /** Notes a step for the trace: who, what, and a number that tells it from others. */
  note(subject: string, action: string, value = 0): void {
    this.trace.add(this.#nowMs, subject, action, value);
  }

  /** Fails the run at the end of the present event; the first failure is the one that counts. */
  fail(cause: unknown): void {
    if (cause instanceof ProcessDead) return;
    const what = cause instanceof Error ? cause.message : String(cause);
    this.#failure ??= new SimulationFailure(this.seed, what, this.trace, cause);
  }

  /** The failure of a run that a check has found wrong: to be thrown. */
  broken(cause: Error): SimulationFailure {
    return this.#failure = new SimulationFailure(this.seed, cause.message, this.trace, cause);
  }

  /**
   * Runs events until the condition holds after one of them, or at once when it holds already.
   * @throws SimulationFailure
   */
  async runUntil(condition: () => boolean, limits: RunLimits = {}): Promise<void> {
    const lastEvent = this.#eventCount + (limits.events ?? DEFAULT_EVENTS);
    const end = this.#nowMs + (limits.durationMs ?? DEFAULT_DURATION_MS);
    await this.#settle();
    while (!condition()) {
      const next = this.#queue.peek();
      if (next === undefined) throw this.#fatal("Nothing is left to happen, and the condition is not met");
      if (next.timeMs > end) throw this.#fatal(`The condition is not met after ${end} simulated ms`);
      if (this.#eventCount >= lastEvent) {
        throw this.#fatal(`The condition is not met after ${lastEvent} events`);
      }
      await this.#step();
    }
  }

  /** Runs all events of the next `durationMs`, and leaves the time there. @throws SimulationFailure */
  async runFor(durationMs: number, limits: Pick<RunLimits, "events"> = {}): Promise<void> {
    const lastEvent = this.#eventCount + (limits.events ?? DEFAULT_EVENTS);
    const end = this.#nowMs + durationMs;
    await this.#settle();
    for (let next = this.#queue.peek(); next !== undefined && next.timeMs <= end; next = this.#queue.peek()) {
      if (this.#eventCount >= lastEvent) {
        throw this.#fatal(`Time does not pass: ${lastEvent} events have run`);
      }
      await this.#step();
    }
    this.#nowMs = end;
  }

  /** Stops listening for rejections. Nothing that was to happen happens any more. */
  [Symbol.asyncDispose](): Promise<void> {
    return hop().then(() => globalThis.removeEventListener("unhandledrejection", this.#onUnhandled));
  }

  async #step(): Promise<void> {
    const event = this.#queue.pop()!;
    this.#nowMs = event.timeMs;
    this.#eventCount++;
    const action = event.action!;
    event.action = null;
    try {
      action();
    } catch (error) {
      this.fail(error);
    }
    await this.#settle();
  }

  /** Lets all promises that can go on go on. */
  async #settle(): Promise<void> {
    await hop();
    if (this.#failure !== undefined) throw this.#failure;
  }

  #fatal(what: string): SimulationFailure {
    return this.#failure ??= new SimulationFailure(this.seed, what, this.trace);
  }

  readonly #onUnhandled = (event: PromiseRejectionEvent): void => {
    event.preventDefault();
    if (event.reason instanceof ProcessDead || this.isOfTheDead(event.reason)) return;
    this.note("unhandled rejection", String(event.reason));
    this.fail(event.reason);
  };
}

/** One turn of the event loop: all microtasks run before it ends, and unhandled rejections are reported. */
function hop(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
