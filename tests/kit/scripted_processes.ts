/** Programs that do what the test says, in place of those of the machine. */
import { UnavailableError } from "../../lib/errors.ts";
import type { ChildProcess, ProcessEnd, Processes } from "../../lib/ports/mod.ts";

export class ScriptedChild implements ChildProcess {
  readonly command: string;
  readonly args: readonly string[];
  readonly ended: Promise<ProcessEnd>;
  readonly complaints: string[] = [];
  written = 0;
  /** What has come by its standard input, as text. */
  input = "";
  isInputClosed = false;
  isKilled = false;
  readonly #end = Promise.withResolvers<ProcessEnd>();
  #output: number[] = [];
  #isOutputClosed = false;
  #changed = Promise.withResolvers<void>();

  constructor(command: string, args: readonly string[]) {
    this.command = command;
    this.args = args;
    this.ended = this.#end.promise;
  }

  /** Writes to its standard output. */
  say(text: string): void {
    this.#output.push(...new TextEncoder().encode(text));
    this.#change();
  }

  /** Ends, having complained. */
  end(end: Partial<ProcessEnd> = {}, ...complaints: readonly string[]): void {
    this.complaints.push(...complaints);
    this.#isOutputClosed = true;
    this.isInputClosed = true;
    this.#end.resolve({ code: 0, signal: null, ...end });
    this.#change();
  }

  async read(into: Uint8Array): Promise<number | null> {
    for (;;) {
      if (this.isKilled) throw new UnavailableError("It was stopped at this end");
      const bytes = this.#output.splice(0, into.length);
      into.set(bytes);
      if (bytes.length > 0) return bytes.length;
      if (this.#isOutputClosed) return null;
      await this.#changed.promise;
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    await Promise.resolve();
    if (this.isInputClosed) throw new UnavailableError("It takes nothing any more");
    this.input += new TextDecoder().decode(bytes);
    this.written += bytes.length;
  }

  closeInput(): void {
    this.isInputClosed = true;
  }

  kill(): void {
    this.isKilled = true;
    this.end({ signal: "SIGTERM" });
  }

  [Symbol.dispose](): void {
    this.kill();
  }

  #change(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

export class ScriptedProcesses implements Processes {
  /** All that were started, the first in front. */
  readonly started: ScriptedChild[] = [];

  spawn(command: string, args: readonly string[]): ScriptedChild {
    const child = new ScriptedChild(command, args);
    this.started.push(child);
    return child;
  }
}
