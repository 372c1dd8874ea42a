/** The two ends of a stream, ours or Python's, as processes behind one face. */
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { ZrsPrimary, ZrsSecondary } from "../kit/peers.ts";
import { ChildProcess, waitForReadyFile } from "../kit/process.ts";
import { removeIfThere } from "./data_files.ts";
import type { Maker } from "./options.ts";

const PROGRAM = fileURLToPath(new URL("../../main.ts", import.meta.url));

/** A process at one end. Disposing of it ends it in whatever state it is. */
export interface End extends AsyncDisposable {
  readonly pid: number;
  /** Where secondaries connect; undefined when none can. */
  readonly address: string | undefined;
  /** Ends it in order. */
  close(): Promise<void>;
}

export interface Start {
  readonly path: string;
  /** For what lies beside the files: ready files. */
  readonly directory: string;
  /** Where our process leaves a CPU profile. */
  readonly profile: string | undefined;
  /** What our secondary speaks; undefined: what it would by itself. */
  readonly protocol?: Protocol;
  /** Its blobs, if it has some. */
  readonly blobDir?: string;
  /** Further options of our program. */
  readonly options?: readonly string[];
}

/** What two ends of ours can speak with each other. */
export type Protocol = "native" | "zrs2";

const ANY_PORT = "127.0.0.1:0";

/** Processes of ours that may still run. Python's end by themselves when we do. */
const running = new Set<ChildProcess>();

/** Ends what still runs, at once: for when we are interrupted. */
export function killAll(): void {
  for (const process of running) process.kill("SIGKILL");
}

/** A primary that serves the file. */
export async function startPrimary(maker: Maker, start: Start): Promise<End> {
  if (maker === "ours") return await startOurs("primary", start, ["--replicate-to", ANY_PORT]);
  const { path, blobDir } = start;
  return new PythonEnd(await ZrsPrimary.start({ path, blobDir, replicateTo: ANY_PORT, fsync: true }));
}

/**
 * A secondary that writes the file. When it is there it has begun to connect.
 * @param chained whether it serves further secondaries
 */
export async function startSecondary(
  maker: Maker,
  from: string,
  chained: boolean,
  start: Start,
): Promise<End> {
  if (maker === "ours") {
    const chain = chained ? ["--replicate-to", ANY_PORT] : [];
    const protocol = start.protocol === undefined ? [] : ["--protocol", start.protocol];
    return await startOurs("secondary", start, ["--replicate-from", from, ...chain, ...protocol]);
  }
  const { path, blobDir } = start;
  const chain = chained ? { replicateTo: ANY_PORT } : {};
  return new PythonEnd(
    await ZrsSecondary.start({ path, blobDir, replicateFrom: from, ...chain, fsync: true }),
  );
}

async function startOurs(command: string, start: Start, options: readonly string[]): Promise<End> {
  const { path, directory, profile } = start;
  const readyFile = join(directory, `${command}.ready`);
  await removeIfThere(readyFile);
  const profiling = profile === undefined ? [] : [
    "--cpu-prof",
    `--cpu-prof-dir=${profile}`,
    `--cpu-prof-name=${command}-${crypto.randomUUID()}.cpuprofile`,
  ];
  const process = ChildProcess.start(Deno.execPath(), [
    "run",
    "--allow-all",
    ...profiling,
    PROGRAM,
    command,
    path,
    ...options,
    ...(start.blobDir === undefined ? [] : ["--blob-dir", start.blobDir]),
    ...start.options ?? [],
    "--ready-file",
    readyFile,
  ]);
  running.add(process);
  void process.exited.then(() => running.delete(process));
  try {
    const { replicateTo } = await waitForReadyFile(readyFile, process);
    return new OurEnd(process, typeof replicateTo === "string" ? replicateTo : undefined);
  } catch (error) {
    await process[Symbol.asyncDispose]();
    throw error;
  }
}

class OurEnd implements End {
  readonly address: string | undefined;
  readonly #process: ChildProcess;

  constructor(process: ChildProcess, address: string | undefined) {
    this.#process = process;
    this.address = address;
  }

  get pid(): number {
    return this.#process.pid;
  }

  async close(): Promise<void> {
    const { code } = await this.#process.stop();
    if (code === 0) return;
    throw new Error(
      `Process ${this.pid} ended with exit code ${code}:\n${this.#process.stderr.items.join("\n")}`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
  }
}

class PythonEnd implements End {
  readonly #peer: ZrsPrimary | ZrsSecondary;

  constructor(peer: ZrsPrimary | ZrsSecondary) {
    this.#peer = peer;
  }

  get pid(): number {
    return this.#peer.process.pid;
  }

  get address(): string | undefined {
    return this.#peer.ready.replicateTo ?? undefined;
  }

  async close(): Promise<void> {
    await this.#peer.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#peer[Symbol.asyncDispose]();
  }
}
