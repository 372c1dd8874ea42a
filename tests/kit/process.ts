/** Child processes of tests: started, listened to, and ended by their own process id. */
import { basename, dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeDeadline, Feed } from "./feed.ts";
import { eachLine } from "./lines.ts";

const PROJECT = fileURLToPath(new URL("../../", import.meta.url));

export interface ProcessOptions {
  readonly cwd?: string;
  /** Added to our own environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Takes the lines of standard output in place of {@link ChildProcess.stdout}. */
  readonly onLine?: (line: string) => void;
  /** Starts it in a process group of its own: it is killed with all that it has started. */
  readonly ownGroup?: boolean;
}

/** A child process; `await using` kills it (SIGKILL) if it still runs. */
export class ChildProcess implements AsyncDisposable {
  /** The lines of its standard output, without their ends. */
  readonly stdout = new Feed<string>();
  /** The lines of its standard error. */
  readonly stderr = new Feed<string>();
  /** Settles when the process has ended and all its output has been read. */
  readonly exited: Promise<Deno.CommandStatus>;
  readonly #child: Deno.ChildProcess;
  readonly #name: string;
  readonly #hasGroup: boolean;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #encoder = new TextEncoder();
  #running = true;

  private constructor(child: Deno.ChildProcess, name: string, { onLine, ownGroup }: ProcessOptions) {
    this.#child = child;
    this.#name = name;
    this.#hasGroup = ownGroup ?? false;
    this.#stdin = child.stdin.getWriter();
    this.exited = this.#run(onLine ?? ((line) => this.stdout.push(line)));
  }

  static start(command: string, args: readonly string[], options: ProcessOptions = {}): ChildProcess {
    const { cwd, env, ownGroup } = options;
    const child = new Deno.Command(command, {
      args: [...args],
      ...cwd !== undefined && { cwd },
      ...env !== undefined && { env },
      detached: ownGroup ?? false,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    return new ChildProcess(child, basename(command), options);
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Writes to its standard input. */
  async write(text: string): Promise<void> {
    await this.#stdin.write(this.#encoder.encode(text));
  }

  /** Sends a signal, to its whole group if it has one; a process that has ended gets none. */
  kill(signal: Deno.Signal = "SIGKILL"): void {
    if (!this.#running) return;
    if (this.#hasGroup) Deno.kill(-this.pid, signal);
    else this.#child.kill(signal);
  }

  /** Sends a signal and waits for the end. */
  async stop(signal: Deno.Signal = "SIGTERM"): Promise<Deno.CommandStatus> {
    this.kill(signal);
    return await beforeDeadline(`the end of process ${this.pid} after ${signal}`, this.exited);
  }

  /** Rejects when the process ends, with what it said last; to be raced against what is hoped for. */
  async endedEarly(): Promise<never> {
    throw new Error(this.#describeEnd(await this.exited));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill("SIGKILL");
    await this.exited;
  }

  async #run(onLine: (line: string) => void): Promise<Deno.CommandStatus> {
    const read = [
      eachLine(this.#child.stdout, onLine),
      eachLine(this.#child.stderr, (line) => this.stderr.push(line)),
    ];
    const status = await this.#child.status;
    this.#running = false;
    await Promise.all(read);
    // Fails where the process closed its end first; there is nothing left to tell it.
    await this.#stdin.close().catch(() => {});
    this.stdout.end(this.#describeEnd(status));
    this.stderr.end(this.#describeEnd(status));
    return status;
  }

  #describeEnd(status: Deno.CommandStatus): string {
    const how = status.signal === null ? `exit code ${status.code}` : status.signal;
    const said = this.stderr.items.slice(-20).join("\n");
    return `${this.#name} (process ${this.pid}) ended with ${how}${said === "" ? "" : `:\n${said}`}`;
  }
}

/** Starts a command of ours, as from a checkout: `startZrs(["primary", path, …])`. */
export function startZrs(args: readonly string[], options: ProcessOptions = {}): ChildProcess {
  return ChildProcess.start(Deno.execPath(), ["run", "--allow-all", `${PROJECT}main.ts`, ...args], options);
}

/** What a command has come to. */
export interface Ended {
  readonly code: number;
  /** The lines of its standard output, and of its standard error. */
  readonly out: string;
  readonly err: string;
}

/** Waits for the end of a process. */
export async function endOf(process: ChildProcess): Promise<Ended> {
  const { code } = await process.exited;
  return { code, out: process.stdout.items.join("\n"), err: process.stderr.items.join("\n") };
}

/** Runs a command of ours to its end. */
export async function runZrs(...args: string[]): Promise<Ended> {
  await using process = startZrs(args);
  return await endOf(process);
}

/**
 * Waits until a process has written its ready file (`--ready-file`).
 * @returns what the file says, a JSON object
 * @throws Error when the process ends first, with what it said
 */
export async function waitForReadyFile(
  path: string,
  process: ChildProcess,
): Promise<Readonly<Record<string, unknown>>> {
  // Watching starts before the first look, so that nothing falls between them.
  using watcher = Deno.watchFs(dirname(path), { recursive: false });
  return await beforeDeadline(
    `ready file ${path}`,
    Promise.race([readWhenWritten(path, watcher), process.endedEarly()]),
  );
}

async function readWhenWritten(path: string, watcher: Deno.FsWatcher): Promise<Record<string, unknown>> {
  const found = readJson(path);
  if (found !== undefined) return found;
  for await (const _ of watcher) {
    const written = readJson(path);
    if (written !== undefined) return written;
  }
  throw new Error(`Stopped watching for ready file ${path}`);
}

/** The object in a JSON file; undefined while the file is missing or half written. */
function readJson(path: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(Deno.readTextFileSync(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** A TCP port of this machine that nobody listened on a moment ago. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
