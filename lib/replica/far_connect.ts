/**
 * Reaching a database on another machine through a program that starts a shell there, such as ssh. Where zrs is
 * installed there, the connection carries its native stream; where it is not, a shell answers for the file.
 */
import { UnavailableError } from "../errors.ts";
import type { Clock, Connection, Log, Processes, Random } from "../ports/mod.ts";
import { FarFile } from "./far_file.ts";
import { FarShell } from "./far_shell.ts";
import { ProcessConnection } from "./process_connection.ts";

/** Where the database is, and what leads there. */
export interface FarPlace {
  /** The machine, for messages: `zope@db1`. */
  readonly host: string;
  /** File and machine, for messages: `zope@db1:/srv/Data.fs`. */
  readonly name: string;
  /** The file there, relative to the home directory unless it begins with a `/`. */
  readonly path: string;
  /** The program to start, and its arguments, which make it run `sh` there with our standard input and output. */
  readonly command: readonly [program: string, ...args: string[]];
}

export interface FarOptions {
  /** `zrs` and `tools` insist on one; `auto` takes zrs where it is. */
  readonly by: "auto" | "zrs" | "tools";
  /** The name or path of zrs there; default: `zrs`. */
  readonly zrs?: string;
  /** What zrs there is to leave out, as here. */
  readonly blobs: "refuse" | "none";
  /** Somebody may have to type a password first, so that no time limit makes sense. */
  readonly mayAsk: boolean;
  /** How long it may take until a shell has started there; default: a minute. */
  readonly startTimeoutMs?: number;
  /** Ends all of it, at any time: whoever reads or writes is told. */
  readonly signal?: AbortSignal;
}

export interface FarPorts {
  readonly processes: Processes;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** What answers there. Whoever has it disposes of it. */
export type Far =
  & Disposable
  & (
    /** The native stream of a primary that follows the file. */
    | { readonly kind: "zrs"; readonly version: string; readonly connection: Connection }
    | { readonly kind: "tools"; readonly file: FarFile }
  );

const START_TIMEOUT_MS = 60_000;

/**
 * Connects, and looks at the file.
 * @throws NotFoundError, UsageError (a directory, no permission there, no such program here), UnavailableError,
 * which says what the program complained of
 */
export async function connectFar(ports: FarPorts, place: FarPlace, options: FarOptions): Promise<Far> {
  using owned = new DisposableStack();
  const [program, ...args] = place.command;
  options.signal?.throwIfAborted();
  const connection = owned.use(
    new ProcessConnection(ports.processes.spawn(program, args), place.host),
  );
  const end = () => connection.close();
  options.signal?.addEventListener("abort", end);
  owned.defer(() => options.signal?.removeEventListener("abort", end));
  const shell = await FarShell.start(ports, connection, {
    name: place.name,
    path: place.path,
    zrs: options.zrs ?? "zrs",
    zrsArguments: ["--quiet", ...(options.blobs === "none" ? ["--blobs", "none"] : [])],
    startTimeoutMs: options.mayAsk ? undefined : options.startTimeoutMs ?? START_TIMEOUT_MS,
  });
  const file = await FarFile.open(shell); // whether it can be read is told in better words than zrs there could
  const { version } = shell;
  if (options.by === "zrs" && version === undefined) {
    throw new UnavailableError(
      `Cannot use zrs on ${place.host}: there is no ${options.zrs ?? "zrs"} on its PATH`,
      {
        hint: "Install it there, or name it by its whole path",
      },
    );
  }
  if (version === undefined || options.by === "tools") {
    ports.log.debug(`${place.name}: read with the tools that are there`);
    return { kind: "tools", file, [Symbol.dispose]: disposerOf(owned) };
  }
  ports.log.debug(`${place.name}: served by zrs ${version} there`);
  await shell.beginZrs();
  return { kind: "zrs", version, connection, [Symbol.dispose]: disposerOf(owned) };
}

function disposerOf(owned: DisposableStack): () => void {
  const kept = owned.move();
  return () => kept.dispose();
}
