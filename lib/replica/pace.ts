/**
 * How fast a peer takes what it is sent, and whether compressing is worth the time: on a link that is slower than
 * compressing is.
 */
import type { Clock } from "../ports/mod.ts";

/** Less says more of the system's buffers than of the link. */
const LEAST_BYTES = 64 * 1024;
/** Zstd's fastest level makes several times as much of a core; a receiver's disk is faster as a rule. */
const SLOW_BYTES_PER_MS = 20 * 1000;
/** How much the newest measurement counts. */
const NEWEST_PART = 0.25;

export type Compress = "auto" | "on" | "off";

export class Pace {
  readonly #clock: Clock;
  readonly #compress: Compress;
  #bytesPerMs = Infinity;

  constructor(clock: Clock, compress: Compress) {
    this.#clock = clock;
    this.#compress = compress;
  }

  get isCompressing(): boolean {
    if (this.#compress !== "auto") return this.#compress === "on";
    return this.#bytesPerMs < SLOW_BYTES_PER_MS;
  }

  /** Measures a write. */
  async measure(bytes: number, write: Promise<void>): Promise<void> {
    const sinceMs = this.#clock.monotonic();
    await write;
    if (bytes < LEAST_BYTES) return;
    const rate = bytes / Math.max(0.01, this.#clock.monotonic() - sinceMs);
    this.#bytesPerMs = this.#bytesPerMs === Infinity
      ? rate
      : this.#bytesPerMs * (1 - NEWEST_PART) + rate * NEWEST_PART;
  }
}
