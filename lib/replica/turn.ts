/** The connection to the source ends for somebody's turn. */
export class TurnWanted extends Error {}

/**
 * Work that needs a replica's file for itself. Whoever receives into the file is asked for a turn, ends what it is
 * doing in good order, and lets the work be done before it goes on.
 */
export class Turn {
  /** Why the signal is aborted, and what the source is told. */
  static readonly WANTED = new TurnWanted("this secondary needs its file for itself, for a moment");

  #wanted = new AbortController();
  #work: (() => Promise<void>) | undefined;
  #refuse: ((reason: unknown) => void) | undefined;
  /** Why there are no turns any more. */
  #over: { readonly reason: unknown } | undefined;

  /** Aborted while somebody waits for a turn. */
  get signal(): AbortSignal {
    return this.#wanted.signal;
  }

  /** Whether somebody waits for a turn. */
  get isWanted(): boolean {
    return this.#work !== undefined;
  }

  /**
   * Does the work when it is its turn; one at a time.
   * @param signal ends the waiting
   * @throws what the work throws, the signal's reason, and why there are no turns any more
   */
  async take(work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    if (this.isWanted) throw new RangeError("Somebody waits for a turn already");
    signal.throwIfAborted();
    if (this.#over !== undefined) throw this.#over.reason;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const withdraw = () => this.#end(signal.reason);
    signal.addEventListener("abort", withdraw);
    this.#refuse = reject;
    this.#work = async () => {
      signal.removeEventListener("abort", withdraw); // the work looks at it for itself
      await work().then(resolve, reject);
    };
    this.#wanted.abort(Turn.WANTED);
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", withdraw);
    }
  }

  /** Does what waits. What becomes of it is the concern of whoever has asked. */
  async give(): Promise<void> {
    const work = this.#work;
    this.#forget();
    await work?.();
  }

  /** There are no turns any more. */
  close(reason: unknown): void {
    this.#over ??= { reason };
    this.#end(reason);
  }

  #end(reason: unknown): void {
    const refuse = this.#refuse;
    this.#forget();
    refuse?.(reason);
  }

  #forget(): void {
    this.#work = undefined;
    this.#refuse = undefined;
    if (this.#wanted.signal.aborted) this.#wanted = new AbortController();
  }
}
