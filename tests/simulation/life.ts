/**
 * The life of a simulated process. Every port of the process holds it: once it has ended, synchronous calls
 * throw {@link ProcessDead} and promises stay pending for ever, so that old code cannot act any more. What
 * waits is not rejected: a killed process does not run its `finally` blocks either.
 */

/** Thrown into code whose process has been killed or whose machine has crashed; never a failure of the run. */
export class ProcessDead extends Error {
  constructor(name: string) {
    super(`Process ${name} is dead`);
    this.name = "ProcessDead";
  }
}

export class Life {
  /** Tells this life from others in messages: "primary/zrs#2". */
  readonly name: string;
  /** What the process is on its machine, the same after a restart: "zrs". */
  readonly process: string;
  readonly pid: number;
  #alive = true;
  readonly #endings = new Set<() => void>();

  constructor(name: string, process: string = name, pid = 1000) {
    this.name = name;
    this.process = process;
    this.pid = pid;
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** @throws ProcessDead */
  check(): void {
    if (!this.#alive) throw new ProcessDead(this.name);
  }

  /** Calls back once at the end of this life; the result takes it back. */
  onEnd(callback: () => void): () => void {
    this.#endings.add(callback);
    return () => this.#endings.delete(callback);
  }

  /** The process is no more. Ending twice is harmless. */
  end(): void {
    if (!this.#alive) return;
    this.#alive = false;
    for (const callback of [...this.#endings]) callback();
    this.#endings.clear();
  }
}

/** What an asynchronous call of a dead process gets. */
export function never<T>(): Promise<T> {
  return new Promise<T>(() => {});
}
