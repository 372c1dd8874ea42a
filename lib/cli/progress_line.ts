/** How far long work is, drawn in one line of the terminal; nothing anywhere else. */

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
  comparison: "comparing",
  digest: "digesting",
} as const;

/** How far it is. */
export interface WorkProgress {
  readonly doing: keyof typeof WORDS;
  /** Bytes of the file, or blobs. */
  readonly done: number;
  /** Undefined where nobody knows. */
  readonly total: number | undefined;
}

export class ProgressLine implements Disposable {
  readonly #host: Host;
  readonly #isSeen: boolean;
  #doing: WorkProgress["doing"] | undefined;
  readonly #start: number;
  /** When this kind of work was first shown, and how far it was then: it need not begin with the file. */
  #phaseStart: number;
  #phaseDone = 0;
  #drawnAt = -Infinity;
  #isDrawn = false;

  constructor(host: Host) {
    this.#host = host;
    this.#isSeen = host.isTerminal("err");
    this.#start = this.#phaseStart = host.clock.monotonic();
  }

  show(progress: WorkProgress): void {
    if (!this.#isSeen) return;
    const now = this.#host.clock.monotonic();
    if (progress.doing !== this.#doing) {
      this.#doing = progress.doing;
      this.#phaseStart = now;
      this.#phaseDone = progress.done;
    }
    if (now - this.#start < PATIENCE_MS || now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    this.#isDrawn = true;
    const seconds = (now - this.#phaseStart) / 1000;
    const rate = seconds > 0 ? (progress.done - this.#phaseDone) / seconds : 0;
    this.#host.err(`${CLEAR}${lineOf(progress, rate)}`);
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

/** @param rate in bytes a second; 0 where it is not known yet */
function lineOf({ doing, done, total }: WorkProgress, rate: number): string {
  if (total === undefined) return `${WORDS[doing]}: ${done}`;
  const percent = total === 0 ? 100 : Math.floor(done * 100 / total);
  if (rate <= 0) return `${WORDS[doing]}: ${percent} %`;
  const left = formatDuration((total - done) / rate);
  return `${WORDS[doing]}: ${percent} %, ${formatBytes(Math.round(rate))}/s, ${left} left`;
}
