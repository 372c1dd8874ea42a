/** A far machine that is this one: a shell started here, with the tools that the test leaves it. */
import { systemHost } from "../../lib/host/mod.ts";
import { Storage } from "../../lib/filestorage/mod.ts";
import type { Connection } from "../../lib/ports/mod.ts";
import { FarFile } from "../../lib/replica/far/far_file.ts";
import { FarShell } from "../../lib/replica/far/far_shell.ts";
import { type FarSyncOptions, type FarSyncResult, syncFarFile } from "../../lib/replica/far/far_sync.ts";
import { ProcessConnection } from "../../lib/replica/far/process_connection.ts";
import { CollectedLog } from "../kit/collected_log.ts";
import { beforeDeadline } from "../kit/feed.ts";

const host = systemHost();

/** The shells of this machine. */
export const SHELLS = ["sh", "dash", "bash", "bash --posix", "busybox sh", "ksh", "mksh", "zsh --emulate sh"]
  .map((line) => line.split(" ") as [string, ...string[]])
  .filter(([program, ...args]) => {
    try {
      return new Deno.Command(program, { args: [...args, "-c", "true"] }).outputSync().success;
    } catch {
      return false;
    }
  });

export interface Reached extends AsyncDisposable {
  readonly shell: FarShell;
  readonly connection: Connection;
}

export interface ReachOptions {
  readonly command?: readonly [string, ...string[]];
  readonly startTimeoutMs?: number;
  /** The blob directory. */
  readonly blobDir?: string;
  /** Puts something between the two ends. */
  readonly between?: (connection: Connection) => Connection;
}

/** Starts our program in a shell. */
export async function reach(path: string, options: ReachOptions = {}): Promise<Reached> {
  const [program, ...args] = options.command ?? ["sh"];
  const child = host.processes.spawn(program, args);
  const plain = new ProcessConnection(child, "there");
  const connection = options.between?.(plain) ?? plain;
  const close = async () => {
    connection.close();
    await beforeDeadline("the shell's end", child.ended);
  };
  try {
    const shell = await FarShell.start(host, connection, {
      name: `there:${path}`,
      path,
      zrs: "no-zrs-here",
      blobs: options.blobDir,
      zrsArguments: [],
      startTimeoutMs: options.startTimeoutMs,
    });
    return { shell, connection, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Brings a copy up to date, once, and closes it. */
export async function sync(
  path: string,
  copy: string,
  options: Partial<FarSyncOptions> & ReachOptions & {
    readonly log?: CollectedLog;
    /** Done when the far file has been looked at. */
    readonly onOpened?: () => void;
  } = {},
): Promise<FarSyncResult> {
  await using reached = await reach(path, options);
  const far = await FarFile.open(reached.shell);
  options.onOpened?.();
  const { disk, network, clock, random } = host;
  await using storage = await Storage.open(disk, copy);
  const ports = { disk, network, clock, random, log: options.log ?? new CollectedLog() };
  const never = new AbortController().signal;
  try {
    return await syncFarFile(
      ports,
      storage,
      far,
      { blobs: { choice: "refuse" }, full: false, ...options },
      never,
    );
  } finally {
    await storage.cut();
    await storage.saveIndex();
  }
}

/** A connection that breaks after so many bytes have come. */
export function breakingAfter(bytes: number): (connection: Connection) => Connection {
  return (connection) => {
    let left = bytes;
    return {
      peer: connection.peer,
      get written() {
        return connection.written;
      },
      async read(into) {
        const count = left === 0 ? null : await connection.read(into.subarray(0, left));
        left -= count ?? 0;
        return count;
      },
      write: (bytes) => connection.write(bytes),
      close: () => connection.close(),
      [Symbol.dispose]: () => connection.close(),
    };
  };
}
