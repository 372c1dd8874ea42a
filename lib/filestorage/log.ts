/**
 * A Data.fs as what stands downstream sees it: a log of transactions that grows. Whether this process writes
 * the file itself or follows one that another process writes makes no difference there.
 */
import type { ReadableFile } from "../ports/mod.ts";
import { TidMap } from "./locate.ts";

/**
 * One file behind the path. A pack or a restored backup puts another file there: a new generation, in which
 * every position is another. The old one stays readable for whoever holds it.
 */
export class Generation {
  readonly number: number;
  readonly file: ReadableFile;
  readonly map = new TidMap();
  #holders = 1;

  constructor(number: number, file: ReadableFile) {
    this.number = number;
    this.file = file;
  }

  /** Keeps the file open until {@link release}. */
  hold(): this {
    this.#holders++;
    return this;
  }

  release(): void {
    if (--this.#holders === 0) this.file.close();
  }
}

/** What may be read and sent on: it is whole, final, and on disk. */
export interface LogView {
  readonly generation: Generation;
  /** The end of the last whole transaction that is on disk. */
  readonly end: number;
  /** Its tid; NO_TID when there is none. */
  readonly lastTid: bigint;
  /** Up to where this process has packed it; undefined where it has not, or does not know. */
  readonly packedTo?: bigint | undefined;
}

export interface TransactionLog {
  readonly view: LogView;
  /** Calls back after the view has changed. */
  subscribe(changed: () => void): Disposable;
  /** Resolves once the view shows what is on disk now: a follower may be behind its file. Never rejects. */
  lookAgain(): Promise<void>;
}

/** The listeners of a log. */
export class Subscribers {
  readonly #callbacks = new Set<() => void>();

  add(callback: () => void): Disposable {
    const own = () => callback(); // the same function may subscribe twice
    this.#callbacks.add(own);
    return { [Symbol.dispose]: () => void this.#callbacks.delete(own) };
  }

  notify(): void {
    for (const callback of [...this.#callbacks]) callback();
  }
}
