/** Waiting times between attempts: exponential from 0.1 s, with jitter so that many do not come at once. */
import type { Random } from "../../ports/mod.ts";

const FIRST_MS = 100;

export class RetryDelay {
  readonly #random: Random;
  readonly #maxMs: number;
  #nextMs: number;

  constructor(random: Random, maxMs: number) {
    this.#random = random;
    this.#maxMs = maxMs;
    this.#nextMs = Math.min(FIRST_MS, maxMs);
  }

  /** The next wait in milliseconds: between half the present step and all of it. */
  next(): number {
    const stepMs = this.#nextMs;
    this.#nextMs = Math.min(this.#maxMs, stepMs * 2);
    return stepMs * (0.5 + this.#random.unit() / 2);
  }

  /** After progress: begin with short waits again. */
  reset(): void {
    this.#nextMs = Math.min(FIRST_MS, this.#maxMs);
  }

  /** After a refusal, which asking again soon will not change. */
  slowDown(): void {
    this.#nextMs = this.#maxMs;
  }
}
