/**
 * What has happened in a run: a hash over everything, to compare two runs, and the last steps, to print when
 * one fails. Steps are formatted only when they are printed.
 */

export interface Step {
  readonly timeMs: number;
  readonly subject: string;
  readonly action: string;
  readonly value: number;
}

export class Trace {
  /** Hears of every step; for printing a whole run. */
  listener: ((step: Step) => void) | undefined;
  readonly #kept: Step[] = [];
  readonly #limit: number;
  #next = 0;
  #hash = 0x811c9dc5;
  #count = 0;

  /** @param limit how many of the last steps are kept */
  constructor(limit = 200) {
    this.#limit = limit;
  }

  /** How many steps there have been. */
  get count(): number {
    return this.#count;
  }

  /** Two runs that did the same in the same order at the same times have the same hash. */
  get hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, "0");
  }

  add(timeMs: number, subject: string, action: string, value: number): void {
    this.#count++;
    let hash = this.#hash;
    hash = Math.imul(hash ^ Math.floor(timeMs * 1000), 0x01000193);
    hash = Math.imul(hash ^ subject.length ^ (value << 8), 0x01000193);
    for (let i = 0; i < action.length; i++) hash = Math.imul(hash ^ action.charCodeAt(i), 0x01000193);
    for (let i = 0; i < subject.length; i++) hash = Math.imul(hash ^ subject.charCodeAt(i), 0x01000193);
    this.#hash = hash ^ (hash >>> 15);
    const step = { timeMs, subject, action, value };
    this.listener?.(step);
    this.#kept[this.#next] = step;
    this.#next = (this.#next + 1) % this.#limit;
  }

  /** The last steps, oldest first, one a line. */
  format(): string {
    const ordered = [...this.#kept.slice(this.#next), ...this.#kept.slice(0, this.#next)];
    return ordered.map(formatStep).join("\n");
  }
}

export function formatStep(step: Step): string {
  return `${step.timeMs.toFixed(3).padStart(14)}  ${step.subject}: ${step.action} ${step.value}`;
}
