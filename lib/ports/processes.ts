/** Programs that this one starts and talks with over their standard input and output. */

/** How a program ended; `signal` is set where one ended it, and the code says nothing then. */
export interface ProcessEnd {
  readonly code: number;
  readonly signal: string | null;
}

export interface ChildProcess extends Disposable {
  /** What was started, for messages. */
  readonly command: string;
  /**
   * Waits for bytes of its standard output and puts what has come into `into`.
   * @returns their count, or null when it has closed its standard output
   * @throws UnavailableError after {@link kill}
   */
  read(into: Uint8Array): Promise<number | null>;
  /** Bytes of all writes that the system has taken so far. */
  readonly written: number;
  /**
   * Writes all of it to its standard input. The buffer must not be touched until the promise resolves.
   * @throws UnavailableError when it takes nothing any more
   */
  write(bytes: Uint8Array): Promise<void>;
  /** The last lines of its standard error so far, a few. */
  readonly complaints: readonly string[];
  /** Settles when it has ended and what it complained of has been read. Never rejects. */
  readonly ended: Promise<ProcessEnd>;
  /** Closes its standard input: most programs end then in their own time. Doing so twice is harmless. */
  closeInput(): void;
  /** Closes its standard input, and asks it to end (SIGTERM). Doing so twice is harmless. */
  kill(): void;
}

export interface Processes {
  /**
   * Starts a program, found as the system finds commands, with our environment and directory.
   * @param args as they are: no shell reads them
   * @throws UsageError when there is no such program, or it must not be run
   */
  spawn(command: string, args: readonly string[]): ChildProcess;
}
