/** How often two nodes tell each other that they are there. */
import type { Clock } from "../ports/mod.ts";

const USUAL_MS = 10_000;
const LEAST_MS = 100;

/** Several beats come before the other end would be given up. */
const BEATS_IN_TIMEOUT = 4;

/** How often an end wants to hear of the other one that it gives up after `peerTimeoutMs` of silence. */
export function wantedBeatMs(peerTimeoutMs: number): number {
  return Math.max(LEAST_MS, Math.min(USUAL_MS, Math.floor(peerTimeoutMs / BEATS_IN_TIMEOUT)));
}

/** What both ends keep to: what the more impatient one wants. */
export function agreedBeatMs(own: number, others: number): number {
  return Math.max(LEAST_MS, Math.min(own, others));
}

/** Calls back again and again; the time between may be changed on the way. */
export class Beats implements Disposable {
  everyMs: number;
  readonly #clock: Clock;
  readonly #beat: () => void;
  #timer: Disposable;

  constructor(clock: Clock, everyMs: number, beat: () => void) {
    this.#clock = clock;
    this.everyMs = everyMs;
    this.#beat = beat;
    this.#timer = this.#next();
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
  }

  #next(): Disposable {
    return this.#clock.schedule(this.everyMs, () => {
      this.#timer = this.#next();
      this.#beat();
    });
  }
}
