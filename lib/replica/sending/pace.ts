/**
 * How fast a peer takes what it is sent, and whether compressing is worth the time: on a link that is slower than
 * compressing is.
 */
import type { Clock } from "../../ports/mod.ts";

/** Less says more of the system's buffers than of the link. */
const LEAST_BYTES = 64 * 1024;
/** Zstd's fastest level makes several times as much of a core; a receiver's disk is faster as a rule. */
const SLOW_BYTES_PER_MS = 20 * 1000;
/**
 * Over about so many bytes the time is averaged. Buffers on the way take some writes at once and then none for a
 * while: the mean of single rates would be that of the quick ones, however slow the link.
 */
const HORIZON_BYTES = 4 * 1024 * 1024;

export type Compress = "auto" | "on" | "off";

export class Pace {
  readonly #clock: Clock;
  readonly #compress: Compress;
  /** What a byte takes. */
  #msPerByte = 0;

  constructor(clock: Clock, compress: Compress) {
    this.#clock = clock;
    this.#compress = compress;
  }

  get isCompressing(): boolean {
    if (this.#compress !== "auto") return this.#compress === "on";
    return this.#msPerByte * SLOW_BYTES_PER_MS > 1;
  }

  /** Measures a write. */
  async measure(bytes: number, write: Promise<void>): Promise<void> {
    const sinceMs = this.#clock.monotonic();
    await write;
    if (bytes < LEAST_BYTES) return;
    const msPerByte = (this.#clock.monotonic() - sinceMs) / bytes;
    this.#msPerByte += (msPerByte - this.#msPerByte) * Math.min(1, bytes / HORIZON_BYTES);
  }
}
