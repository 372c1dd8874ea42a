/** The three servers of the demo, each a process of its own, as an administrator would start them. */
import { ChildProcess, startZrs, waitForReadyFile } from "../kit/process.ts";

/** The end of what a server said that shows why it ended. */
const LAST_LINES = 8;

export class ServerProcess implements AsyncDisposable {
  readonly name: string;
  readonly #args: readonly string[];
  readonly #readyFile: string;
  readonly #failed: (error: Error) => void;
  #process: ChildProcess | undefined;
  #expectsEnd = false;

  /**
   * @param args the command line without `--ready-file`
   * @param failed is called when the process ends without having been told to
   */
  constructor(name: string, args: readonly string[], readyFile: string, failed: (error: Error) => void) {
    this.name = name;
    this.#args = args;
    this.#readyFile = readyFile;
    this.#failed = failed;
  }

  /** Its process id while it runs. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** What it has logged since its last start. */
  get said(): readonly string[] {
    return this.#process?.stderr.items ?? [];
  }

  /** Starts it and waits until it is ready. @returns where secondaries connect, if they can */
  async start(): Promise<string | undefined> {
    // That of a killed process would be taken for the new one's.
    await Deno.remove(this.#readyFile).catch(() => {});
    this.#expectsEnd = false;
    const process = startZrs([...this.#args, "--ready-file", this.#readyFile]);
    this.#process = process;
    process.exited.then(({ code, signal }) => {
      if (this.#expectsEnd || this.#process !== process) return;
      const said = process.stderr.items.slice(-LAST_LINES).join("\n");
      this.#failed(
        new Error(`The ${this.name} ended by itself with ${signal ?? `exit code ${code}`}:\n${said}`),
      );
    });
    const { replicateTo } = await waitForReadyFile(this.#readyFile, process);
    return typeof replicateTo === "string" ? replicateTo : undefined;
  }

  /** Kills it as a crash would: nothing in it gets another turn. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** Stops it in good order. @throws Error when it does not end so */
  async stop(): Promise<void> {
    const status = await this.#end("SIGTERM");
    if (status?.code !== 0) {
      throw new Error(`The ${this.name} did not stop cleanly: exit code ${status?.code}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end("SIGKILL");
  }

  async #end(signal: Deno.Signal): Promise<Deno.CommandStatus | undefined> {
    this.#expectsEnd = true;
    const process = this.#process;
    this.#process = undefined;
    return await process?.stop(signal);
  }
}
