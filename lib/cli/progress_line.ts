/** How far long work is, drawn in one line of the terminal over and over; nothing anywhere else. */

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
  /** Bytes, or things of a kind that the line counts. */
  readonly done: number;
  /** Undefined where nobody knows. */
  readonly total: number | undefined;
}

export class ProgressLine<Doing extends string> implements Disposable {
  readonly #host: Host;
  readonly #words: Readonly<Record<Doing, string>>;
  readonly #counted: readonly Doing[];
  readonly #isSeen: boolean;
  readonly #startMs: number;
  /** When this kind of work was first shown, and how far it was then: it need not begin with the file. */
  #phase: { readonly doing: Doing; readonly startMs: number; readonly done: number } | undefined;
  #drawnMs = -Infinity;
  #isDrawn = false;

  /**
   * Draws nothing where standard error is no terminal.
   * @param words what the kinds of work are called
   * @param counted those that are not measured in bytes
   */
  constructor(host: Host, words: Readonly<Record<Doing, string>>, counted: readonly NoInfer<Doing>[] = []) {
    this.#host = host;
    this.#words = words;
    this.#counted = counted;
    this.#isSeen = host.isTerminal("err");
    this.#startMs = host.clock.monotonic();
  }

  show(progress: Progress<Doing>): void {
    if (!this.#isSeen) return;
    const { doing, done } = progress;
    const nowMs = this.#host.clock.monotonic();
    if (doing !== this.#phase?.doing) this.#phase = { doing, done, startMs: nowMs };
    if (nowMs - this.#startMs < PATIENCE_MS || nowMs - this.#drawnMs < REDRAW_MS) return;
    this.#drawnMs = nowMs;
    this.#isDrawn = true;
    const rate = rateOf(done - this.#phase.done, nowMs - this.#phase.startMs);
    const amount = this.#counted.includes(doing) ? String(done) : amountOf(progress, rate);
    this.#host.err(`${CLEAR}${this.#words[doing]}: ${amount}`);
  }

  /** Takes the line away, before anything else is written. */
  hide(): void {
    if (this.#isDrawn) this.#host.err(CLEAR);
    this.#isDrawn = false;
  }

  [Symbol.dispose](): void {
    this.hide();
  }
}

/** @returns bytes a second; 0 where it is not known yet */
function rateOf(bytes: number, ms: number): number {
  return ms > 0 ? bytes * 1000 / ms : 0;
}

/** `1.2 GiB of 4.0 GiB, 210.0 MiB/s, 14 s left`; without what is not known. */
function amountOf({ done, total }: Progress<string>, rate: number): string {
  const of = total === undefined ? "" : ` of ${formatBytes(total)}`;
  const speed = rate > 0 ? `, ${formatBytes(Math.round(rate))}/s` : "";
  const left = total === undefined || rate <= 0 ? "" : `, ${formatDuration((total - done) / rate)} left`;
  return `${formatBytes(done)}${of}${speed}${left}`;
}
