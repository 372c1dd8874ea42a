/** What a child process says, line by line or message by message, kept and waited for without sleeping. */

/**
 * The overall limit for anything that a test waits for, in milliseconds. It only turns a hang into a failure
 * that says what was missing; nothing is ever expected to come near it.
 */
export const DEADLINE_MS = 120_000;

interface Waiter<T> {
  readonly matches: (item: T) => boolean;
  readonly resolve: (item: T) => void;
  readonly reject: (reason: Error) => void;
}

/** Everything that came so far, and a way to wait for what has not come yet. */
export class Feed<T> {
  readonly #items: T[] = [];
  readonly #waiters = new Set<Waiter<T>>();
  #end: string | undefined;

  /** All items so far, oldest first. */
  get items(): readonly T[] {
    return this.#items;
  }

  push(item: T): void {
    this.#items.push(item);
    for (const waiter of this.#waiters) {
      if (waiter.matches(item)) {
        this.#waiters.delete(waiter);
        waiter.resolve(item);
      }
    }
  }

  /** Nothing more will come: whoever waits learns why. */
  end(reason: string): void {
    this.#end ??= reason;
    for (const waiter of this.#waiters) waiter.reject(new Error(this.#end));
    this.#waiters.clear();
  }

  /**
   * The first item that matches, also one that came before.
   * @param from the count of older items to leave out, for waiting for something to come again
   * @throws Error when the feed ends without it, or at the deadline
   */
  async waitFor(
    what: string,
    matches: (item: T) => boolean,
    options: { from?: number; deadlineMs?: number } = {},
  ): Promise<T> {
    const found = this.#items.slice(options.from ?? 0).find(matches);
    if (found !== undefined) return found;
    if (this.#end !== undefined) throw new Error(`Waited for ${what}: ${this.#end}`);
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const waiter = { matches, resolve, reject };
    this.#waiters.add(waiter);
    try {
      return await beforeDeadline(what, promise, options.deadlineMs);
    } finally {
      this.#waiters.delete(waiter);
    }
  }
}

/** The promise's outcome, or an error that names what was waited for. */
export async function beforeDeadline<T>(
  what: string,
  promise: Promise<T>,
  deadlineMs: number = DEADLINE_MS,
): Promise<T> {
  const { promise: tooLate, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`Waited ${deadlineMs} ms for ${what}`)), deadlineMs);
  try {
    return await Promise.race([promise, tooLate]);
  } finally {
    clearTimeout(timer);
  }
}
