/**
 * A machine's clock. The machine's time of day can be set, as an administrator or NTP does; its monotonic
 * time cannot. Each process sees it through {@link ProcessClock}, whose timers die with the process.
 */
import type { Clock, Timer } from "../../lib/ports/mod.ts";
import type { Life } from "./life.ts";
import type { Scheduler } from "./scheduler.ts";

/** The time of day at which worlds begin: 2026-11-21T04:00:00Z. */
export const BEGINNING_MS = Date.UTC(2026, 10, 21, 4);

export class MachineClock {
  readonly scheduler: Scheduler;
  readonly #ageMs: number;
  #offsetMs: number;
  /** What it was set from, and when in true time, the latest last. */
  readonly #before: { readonly offsetMs: number; readonly untilMs: number }[] = [];

  /**
   * @param ageMs what the monotonic time is when the world begins
   * @param offsetMs how much this machine's time of day differs from the true one
   */
  constructor(scheduler: Scheduler, ageMs = 0, offsetMs = 0) {
    this.scheduler = scheduler;
    this.#ageMs = ageMs;
    this.#offsetMs = offsetMs;
  }

  now(): number {
    return BEGINNING_MS + this.scheduler.nowMs + this.#offsetMs;
  }

  /** The latest time of day by which something can have been decided that is done now, so much later at most. */
  latest(withinMs: number): number {
    const sinceMs = this.scheduler.nowMs - withinMs;
    const lately = this.#before.filter(({ untilMs }) => untilMs >= sinceMs).map(({ offsetMs }) => offsetMs);
    return BEGINNING_MS + this.scheduler.nowMs + Math.max(this.#offsetMs, ...lately);
  }

  /** Milliseconds since the machine was bought: unlike the time of day, and unlike other machines'. */
  monotonic(): number {
    return this.#ageMs + this.scheduler.nowMs;
  }

  /** Sets the time of day forwards or, below 0, backwards. Timers and the monotonic time do not notice. */
  step(ms: number): void {
    this.#before.push({ offsetMs: this.#offsetMs, untilMs: this.scheduler.nowMs });
    this.#offsetMs += ms;
  }
}

export class ProcessClock implements Clock {
  readonly #clock: MachineClock;
  readonly #life: Life;

  constructor(clock: MachineClock, life: Life) {
    this.#clock = clock;
    this.#life = life;
  }

  now(): number {
    this.#life.check();
    return this.#clock.now();
  }

  monotonic(): number {
    this.#life.check();
    return this.#clock.monotonic();
  }

  schedule(delayMs: number, callback: () => void): Timer {
    this.#life.check();
    return this.#clock.scheduler.after(Math.max(0, delayMs), () => {
      if (this.#life.alive) callback();
    });
  }
}
