/** Programs started by this one, over the runtime's own means. */

import { UnavailableError, UsageError } from "../errors.ts";
import type { ChildProcess, ProcessEnd, Processes } from "../ports/mod.ts";
import { codeOf, wordsOf } from "./failure.ts";
import { networkWords } from "./network_failure.ts";

/**
 * So many lines of what it says last are kept, and so many characters: one of them may be an object for programs, with
 * what two transactions say of themselves.
 */
const KEPT_LINES = 8;
const KEPT_LENGTH = 2 * 1024 * 1024;

/** Written at once: by how much has been taken a slow peer is told from a dead one. */
const PIECE_BYTES = 64 * 1024;

/**
 * A program may leave another one behind that holds its standard error open (ssh with ControlPersist does):
 * what has not come so long after its end is not waited for.
 */
const LAST_WORDS_MS = 500;

export class HostProcesses implements Processes {
  spawn(command: string, args: readonly string[]): ChildProcess {
    try {
      const child = new Deno.Command(command, {
        args: [...args],
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      return new HostChildProcess(child, command);
    } catch (cause) {
      throw new UsageError(`Cannot run ${command}: ${reasonOf(cause)}`, {
        cause,
        hint: "Install it, or check the PATH",
      });
    }
  }
}

class HostChildProcess implements ChildProcess {
  readonly command: string;
  readonly ended: Promise<ProcessEnd>;
  written = 0;
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #output: ReadableStreamDefaultReader<Uint8Array>;
  readonly #complaints: string[] = [];
  /** What has come and was not asked for yet. */
  #rest: Uint8Array = new Uint8Array();
  #isKilled = false;
  #isRunning = true;

  constructor(child: Deno.ChildProcess, command: string) {
    this.#child = child;
    this.command = command;
    this.#input = child.stdin.getWriter();
    this.#input.closed.catch(() => {}); // whoever writes is told
    this.#output = child.stdout.getReader();
    this.ended = this.#end(this.#listen());
  }

  get complaints(): readonly string[] {
    return this.#complaints;
  }

  async read(into: Uint8Array): Promise<number | null> {
    if (this.#rest.length === 0) {
      let value: Uint8Array | undefined;
      try {
        ({ value } = await this.#output.read());
      } catch (cause) {
        if (!this.#isKilled) throw this.#failure("read from", cause);
      }
      if (this.#isKilled) throw this.#failure("read from", undefined);
      if (value === undefined) return null;
      this.#rest = value;
    }
    const count = Math.min(into.length, this.#rest.length);
    into.set(this.#rest.subarray(0, count));
    this.#rest = this.#rest.subarray(count);
    return count;
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      if (this.#isKilled) throw undefined;
      for (let done = 0; done < bytes.length; done += PIECE_BYTES) {
        const piece = bytes.subarray(done, done + PIECE_BYTES);
        await this.#input.write(piece);
        this.written += piece.length;
      }
    } catch (cause) {
      throw this.#failure("write to", cause);
    }
  }

  closeInput(): void {
    this.#input.abort().catch(() => {}); // a pending write ends at once
  }

  kill(): void {
    if (this.#isKilled) return;
    this.#isKilled = true;
    this.closeInput();
    this.#output.cancel().catch(() => {});
    if (!this.#isRunning) return;
    try {
      this.#child.kill("SIGTERM");
    } catch {
      // It has ended this very moment.
    }
  }

  [Symbol.dispose](): void {
    this.kill();
  }

  async #end(listened: Promise<void>): Promise<ProcessEnd> {
    const { code, signal } = await this.#child.status;
    this.#isRunning = false;
    const enough = Promise.withResolvers<void>();
    const timer = setTimeout(enough.resolve, LAST_WORDS_MS);
    await Promise.race([listened, enough.promise]);
    clearTimeout(timer);
    return { code, signal };
  }

  /** Keeps the last lines of standard error. */
  async #listen(): Promise<void> {
    const decoder = new TextDecoder();
    let line = "";
    try {
      for await (const chunk of this.#child.stderr) {
        for (const [at, piece] of decoder.decode(chunk, { stream: true }).split(/[\r\n]/).entries()) {
          if (at > 0) {
            this.#note(line);
            line = "";
          }
          line += piece.slice(0, KEPT_LENGTH - line.length);
        }
      }
    } catch {
      // What was said so far is all there is.
    }
    this.#note(line);
  }

  #note(line: string): void {
    const words = line.trim();
    if (words === "") return;
    const kept = this.#complaints;
    kept.push(words);
    let length = kept.reduce((sum, each) => sum + each.length, 0);
    while (kept.length > KEPT_LINES || length > KEPT_LENGTH) length -= kept.shift()!.length;
  }

  #failure(action: string, cause: unknown): UnavailableError {
    const words = this.#isKilled ? "it was stopped at this end" : networkWords(cause);
    return new UnavailableError(`Cannot ${action} ${this.command}: ${words}`, { cause });
  }
}

function reasonOf(cause: unknown): string {
  const code = codeOf(cause);
  if (cause instanceof Deno.errors.NotFound || code === "ENOENT") return "there is no such program";
  if (cause instanceof Deno.errors.PermissionDenied || code === "EACCES") return "permission denied";
  return wordsOf(cause);
}
