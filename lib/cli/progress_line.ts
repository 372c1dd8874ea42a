/** How far long work is, drawn in one line of the terminal; nothing anywhere else. */

import type { Host } from "../host/mod.ts";
import { formatBytes, formatDuration } from "./quantities.ts";

/** Work that takes less shows nothing. */
const PATIENCE_MS = 1000;
const REDRAW_MS = 200;
/** Back to the line's beginning, and clear it. */
const CLEAR = "\r\x1b[K";

/** What is being done, and how far it is. */
export interface Progress<Doing extends string> {
  readonly doing: Doing;
  /** Bytes; or anything else, where nobody knows how many there are. */
  readonly done: number;
  readonly total: number | undefined;
}

export class ProgressLine<Doing extends string> {
  readonly #host: Host;
  readonly #words: Readonly<Record<Doing, string>>;
  readonly #isSeen: boolean;
  #doing: Doing | undefined;
  readonly #start: number;
  #phaseStart: number;
  #drawnAt = -Infinity;
  #isDrawn = false;

  /** @param words what the kinds of work are called */
  constructor(host: Host, words: Readonly<Record<Doing, string>>) {
    this.#host = host;
    this.#words = words;
    this.#isSeen = host.isTerminal("err");
    this.#start = this.#phaseStart = host.clock.monotonic();
  }

  show(progress: Progress<Doing>): void {
    if (!this.#isSeen) return;
    const now = this.#host.clock.monotonic();
    if (progress.doing !== this.#doing) {
      this.#doing = progress.doing;
      this.#phaseStart = now;
    }
    if (now - this.#start < PATIENCE_MS || now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    this.#isDrawn = true;
    this.#host.err(
      `${CLEAR}${this.#words[progress.doing]}: ${amountOf(progress, (now - this.#phaseStart) / 1000)}`,
    );
  }

  /** Takes the line away, before anything else is written. */
  hide(): void {
    if (this.#isDrawn) this.#host.err(CLEAR);
    this.#isDrawn = false;
  }
}

/** @param seconds since this kind of work began */
function amountOf({ done, total }: Progress<string>, seconds: number): string {
  if (total === undefined) return String(done);
  const percent = total === 0 ? 100 : Math.floor(done * 100 / total);
  const rate = seconds > 0 ? done / seconds : 0;
  const left = rate > 0 ? `, ${formatDuration((total - done) / rate)} left` : "";
  return `${percent} %, ${formatBytes(Math.round(rate))}/s${left}`;
}
