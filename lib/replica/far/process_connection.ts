/**
 * A program that was started as the other end of a connection, such as ssh: what it writes to its standard output
 * is read, and what is written goes to its standard input. When it ends badly, what it complained of is the reason.
 */
import { UnavailableError } from "../../errors.ts";
import type { ChildProcess, Connection } from "../../ports/mod.ts";

/** What is shown of a line. */
const SHOWN_LENGTH = 4000;

/** Lines that a program has written, for a message; undefined where it has none. */
export function inOneLine(lines: readonly string[]): string | undefined {
  return lines.map((line) => line.slice(0, SHOWN_LENGTH)).join("; ") || undefined;
}

export class ProcessConnection implements Connection {
  readonly peer: string;
  readonly #child: ChildProcess;
  #isClosed = false;
  /** How it was lost, where that was before it was closed here: whoever closes it does so for that reason. */
  #loss: UnavailableError | undefined;

  /** @param peer whom the program leads to, for messages */
  constructor(child: ChildProcess, peer: string) {
    this.#child = child;
    this.peer = peer;
  }

  /**
   * Waits for the program's end.
   * @returns its exit code; undefined where a signal ended it
   */
  async end(): Promise<number | undefined> {
    const { code, signal } = await this.#child.ended;
    return signal === null ? code : undefined;
  }

  /** Says nothing more, and lets the program end in its own time. */
  endInput(): void {
    this.#child.closeInput();
  }

  /** What it complained of last, a few lines. */
  get complaints(): readonly string[] {
    return this.#child.complaints;
  }

  /** What it complained of last, in one line; undefined where it has not. */
  get complaint(): string | undefined {
    return inOneLine(this.#child.complaints);
  }

  get written(): number {
    return this.#child.written;
  }

  async read(into: Uint8Array): Promise<number | null> {
    let count: number | null;
    try {
      count = await this.#child.read(into);
    } catch (error) {
      throw await this.#lost(error);
    }
    if (count !== null || this.#isClosed) return count;
    if (await this.end() === 0) return null;
    throw await this.#lost(undefined);
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      await this.#child.write(bytes);
    } catch (error) {
      throw await this.#lost(error);
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#child.kill();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** A program that takes nothing any more is about to end, and says why. */
  async #lost(cause: unknown): Promise<unknown> {
    if (cause !== undefined && !(cause instanceof UnavailableError)) return cause;
    const { peer } = this;
    if (this.#isClosed) {
      return this.#loss ??
        new UnavailableError(`The connection with ${peer} was closed at this end`, { peer, cause });
    }
    const { command, ended } = this.#child;
    const { code, signal } = await ended;
    const how = signal === null ? `exit code ${code}` : signal;
    const said = this.complaint === undefined ? "" : `: ${this.complaint}`;
    return this.#loss ??= new UnavailableError(`Lost ${peer}: ${command} ended with ${how}${said}`, {
      peer,
      cause,
    });
  }
}
