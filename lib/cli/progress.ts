/** How far a long copy is, on a terminal: one line that is drawn over again, and gone at the end. */

import type { Host } from "../host/mod.ts";
import type { SyncProgress } from "../replica/mod.ts";
import { formatBytes, formatDuration } from "./quantities.ts";

/** What takes less needs no line. */
const FIRST_AFTER_MS = 1_000;
const DRAWN_EVERY_MS = 200;

type Doing = "comparing" | "copying";

const CLEAR_LINE = "\r\x1b[K";

export class ProgressLine implements Disposable {
  readonly #host: Host;
  #startMs: number;
  #doing: Doing | undefined;
  #nextMs: number;
  #isDrawn = false;

  /** Draws nothing where standard error is no terminal. */
  constructor(host: Host) {
    this.#host = host;
    this.#startMs = host.clock.monotonic();
    this.#nextMs = host.isTerminal("err") ? this.#startMs + FIRST_AFTER_MS : Infinity;
  }

  show(progress: SyncProgress, doing: Doing): void {
    const nowMs = this.#host.clock.monotonic();
    if (this.#doing !== doing) this.#startMs = this.#doing === undefined ? this.#startMs : nowMs;
    this.#doing = doing;
    if (nowMs < this.#nextMs) return;
    this.#nextMs = nowMs + DRAWN_EVERY_MS;
    this.#isDrawn = true;
    const line = describeProgress(progress, (nowMs - this.#startMs) / 1000);
    this.#host.err(`${CLEAR_LINE}${doing}: ${line}`);
  }

  [Symbol.dispose](): void {
    if (this.#isDrawn) this.#host.err(CLEAR_LINE);
    this.#isDrawn = false;
    this.#nextMs = Infinity;
  }
}

/**
 * `1.2 GiB of 4.0 GiB, 210.0 MiB/s, 14 s left`; without what is not known.
 * @param seconds that it has taken so far
 */
export function describeProgress({ end, startEnd, goalEnd }: SyncProgress, seconds: number): string {
  const done = end - startEnd;
  const rate = seconds === 0 ? 0 : done / seconds;
  const speed = `${formatBytes(Math.round(rate))}/s`;
  if (goalEnd === undefined) return `${formatBytes(done)}, ${speed}`;
  const of = `${formatBytes(done)} of ${formatBytes(goalEnd - startEnd)}, ${speed}`;
  return rate === 0 ? of : `${of}, ${formatDuration((goalEnd - end) / rate)} left`;
}
