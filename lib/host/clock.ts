/** The clocks of this machine. */

import type { Clock, Timer } from "../ports/mod.ts";

/** The longest delay that setTimeout takes; above it, it would fire at once. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** The largest fraction of a millisecond that is added to the time of day. */
const LAST_FRACTION = 0.999;

export class HostClock implements Clock {
  /** The time of day at monotonic time zero, as far as we know. */
  #offset = Date.now() - performance.now();

  /**
   * Date.now, which follows every correction of the system's clock but has whole milliseconds only, with a
   * fraction that the monotonic clock carries on.
   */
  now(): number {
    const wall = Date.now();
    const monotonic = performance.now();
    const time = Math.min(Math.max(this.#offset + monotonic, wall), wall + LAST_FRACTION);
    this.#offset = time - monotonic;
    return time;
  }

  monotonic(): number {
    return performance.now();
  }

  schedule(delayMs: number, callback: () => void): Timer {
    const due = performance.now() + delayMs;
    let timer: ReturnType<typeof setTimeout> | undefined;
    // The runtime's timers round, so one may fire a little early: then it waits for the rest. A delay beyond
    // what a timer takes is waited for in pieces by the same rule.
    function arm(): void {
      const rest = Math.max(0, Math.ceil(due - performance.now()));
      timer = setTimeout(fire, Math.min(rest, MAX_DELAY_MS));
    }
    function fire(): void {
      if (performance.now() < due) arm();
      else callback();
    }
    function cancel(): void {
      clearTimeout(timer);
    }
    arm();
    return { cancel, [Symbol.dispose]: cancel };
  }
}
