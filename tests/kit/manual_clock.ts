/** A clock that stands still until the test moves it. */
import type { Clock, Timer } from "../../lib/ports/mod.ts";
import { Feed } from "./feed.ts";

interface Pending {
  readonly dueMs: number;
  readonly delayMs: number;
  readonly callback: () => void;
}

export class ManualClock implements Clock {
  readonly #pending = new Set<Pending>();
  readonly #scheduled = new Feed<Pending>();
  #nowMs = Date.UTC(2024, 0, 2, 3, 4, 5);

  now(): number {
    return this.#nowMs;
  }

  monotonic(): number {
    return this.#nowMs;
  }

  /** A delay of 0 is no time: it is over at once, without the test. */
  schedule(delayMs: number, callback: () => void): Timer {
    const pending = { dueMs: this.#nowMs + delayMs, delayMs, callback };
    this.#pending.add(pending);
    this.#scheduled.push(pending);
    const cancel = () => void this.#pending.delete(pending);
    if (delayMs <= 0) setTimeout(() => this.#fire(pending), 0);
    return { cancel, [Symbol.dispose]: cancel };
  }

  /** The delays, in milliseconds, of all timers that run. */
  get delays(): number[] {
    return [...this.#pending].map(({ delayMs }) => delayMs).filter((delayMs) => delayMs > 0);
  }

  /** Waits until a timer runs whose delay is in the range, both ends included. @returns its delay */
  async waitForTimer(leastMs: number, mostMs: number = leastMs): Promise<number> {
    const { delayMs } = await this.#scheduled.waitFor(
      `a timer of ${leastMs} to ${mostMs} ms`,
      (each) => each.delayMs >= leastMs && each.delayMs <= mostMs && this.#pending.has(each),
    );
    return delayMs;
  }

  /** Lets time pass; what is due by then is called, in order. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      const due = [...this.#pending].filter(({ dueMs, delayMs }) => delayMs > 0 && dueMs <= untilMs);
      if (due.length === 0) break;
      const next = due.reduce((first, each) => each.dueMs < first.dueMs ? each : first);
      this.#nowMs = next.dueMs;
      this.#fire(next);
    }
    this.#nowMs = untilMs;
  }

  #fire(pending: Pending): void {
    if (this.#pending.delete(pending)) pending.callback();
  }
}

/** Lets everything go on that waits for nothing but its turn, so that a clock moved then meets no half-done step. */
export function othersHaveRun(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
