/** Our commands as processes of their own, for tests that kill them. */
import assert from "node:assert/strict";
import { type ChildProcess, type Ended, runZrs, startZrs, waitForReadyFile } from "../kit/process.ts";
import type { TempDirectory } from "../kit/temp.ts";
import { beforeDeadline } from "../kit/feed.ts";

let started = 0;

/** A command that has opened its file and, if it was told to, listens. */
export class ZrsProcess implements AsyncDisposable {
  readonly process: ChildProcess;
  /** Where secondaries connect; empty when the command does not listen. */
  readonly address: string;

  private constructor(process: ChildProcess, address: string) {
    this.process = process;
    this.address = address;
  }

  /** Starts `zrs` with these arguments, and waits until it is ready. @throws Error when it ends before */
  static async start(directory: TempDirectory, ...args: string[]): Promise<ZrsProcess> {
    const readyFile = directory.join(`ready-${++started}`);
    const process = startZrs([...args, "--ready-file", readyFile]);
    try {
      const ready = await waitForReadyFile(readyFile, process);
      return new ZrsProcess(process, typeof ready["replicateTo"] === "string" ? ready["replicateTo"] : "");
    } catch (error) {
      await process[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** What it has logged so far. */
  get log(): readonly string[] {
    return this.process.stderr.items;
  }

  /** Ends it at once, as a crash would. */
  async kill(): Promise<void> {
    await this.process.stop("SIGKILL");
  }

  /** Ends it in order. @returns its exit code */
  async stop(): Promise<number> {
    return (await this.process.stop("SIGTERM")).code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
  }
}

/** Runs `zrs replica-sync` to its end. */
export async function sync(...args: string[]): Promise<Ended> {
  return await runZrs("replica-sync", ...args);
}

/** Runs it, and expects a complete copy. @returns the object that it writes */
export async function syncWell(...args: string[]) {
  const { code, out, err } = await sync(...args, "--json");
  assert.deepEqual([code, err], [0, ""], out);
  return JSON.parse(out);
}

/** Waits until files in the directory have changed so many times, or hold what is asked for. */
export async function waitForChanges(
  what: string,
  directory: string,
  done: (changes: number) => boolean,
  enough?: Promise<void>,
): Promise<void> {
  using watcher = Deno.watchFs(directory, { recursive: false });
  if (done(0)) return;
  const watching = async () => {
    let changes = 0;
    for await (const _ of watcher) {
      if (done(++changes)) return;
    }
  };
  await beforeDeadline(what, enough === undefined ? watching() : Promise.race([watching(), enough]));
}

/** A file's size; 0 while there is none. */
export function sizeOf(path: string): number {
  try {
    return Deno.statSync(path).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}
