/** How far long work is, drawn in one line of the terminal; nothing anywhere else. */

import type { Progress } from "../filestorage/mod.ts";
import type { Host } from "../host/mod.ts";
import { formatBytes, formatDuration } from "./quantities.ts";

/** Work that takes less shows nothing. */
const PATIENCE_MS = 1000;
const REDRAW_MS = 200;
/** Back to the line's beginning, and clear it. */
const CLEAR = "\r\x1b[K";

const WORDS = {
  structure: "checking structure",
  records: "looking into records",
  blobs: "comparing blobs",
} as const;

export class ProgressLine {
  readonly #host: Host;
  readonly #isSeen: boolean;
  #doing: Progress["doing"] | undefined;
  readonly #start: number;
  #phaseStart: number;
  #drawnAt = -Infinity;
  #isDrawn = false;

  constructor(host: Host) {
    this.#host = host;
    this.#isSeen = host.isTerminal("err");
    this.#start = this.#phaseStart = host.clock.monotonic();
  }

  show(progress: Progress): void {
    if (!this.#isSeen) return;
    const now = this.#host.clock.monotonic();
    if (progress.doing !== this.#doing) {
      this.#doing = progress.doing;
      this.#phaseStart = now;
    }
    if (now - this.#start < PATIENCE_MS || now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    this.#isDrawn = true;
    this.#host.err(`${CLEAR}${lineOf(progress, (now - this.#phaseStart) / 1000)}`);
  }

  /** Takes the line away, before anything else is written. */
  hide(): void {
    if (this.#isDrawn) this.#host.err(CLEAR);
    this.#isDrawn = false;
  }
}

/** @param seconds since this kind of work began */
function lineOf({ doing, done, total }: Progress, seconds: number): string {
  if (total === undefined) return `${WORDS[doing]}: ${done}`;
  const percent = total === 0 ? 100 : Math.floor(done * 100 / total);
  const rate = seconds > 0 ? done / seconds : 0;
  const left = rate > 0 ? `, ${formatDuration((total - done) / rate)} left` : "";
  return `${WORDS[doing]}: ${percent} %, ${formatBytes(Math.round(rate))}/s${left}`;
}
