/**
 * Reaching a database on another machine through a program that starts a shell there, such as ssh. Where zrs is
 * installed there, the connection carries its native stream; where it is not, a shell answers for the file.
 */
import { UnavailableError } from "../../errors.ts";
import type { Clock, Connection, Log, Processes, Random } from "../../ports/mod.ts";
import type { BlobOptions } from "../blob_use.ts";
import { checkMagic } from "./far_compare.ts";
import { FarFile } from "./far_file.ts";
import { FAR_PATH, type ZrsArguments } from "./far_program.ts";
import { FarShell } from "./far_shell.ts";
import { ProcessConnection } from "./process_connection.ts";
import { limitedConnection, type Throttle } from "../sending/throttle.ts";

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

/** `blobDir` is the directory there: relative to the home directory unless it begins with a `/`. */
export interface ReachOptions extends BlobOptions {
  /** The name or path of zrs there; default: `zrs`. */
  readonly zrs?: string;
  /** Somebody may have to type a password first, so that no time limit makes sense. */
  readonly mayAsk: boolean;
  /** How long it may take until a shell has started there; default: a minute. */
  readonly startTimeoutMs?: number;
  /** Limits how fast is read from there. */
  readonly throttle?: Throttle | undefined;
  /** Ends all of it, at any time: whoever reads or writes is told. */
  readonly signal?: AbortSignal;
}

export interface FarOptions extends ReachOptions {
  /** `zrs` and `tools` insist on one; `auto` takes zrs where it is. */
  readonly by: "auto" | "zrs" | "tools";
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

/** A shell there that has found the file. Whoever has it disposes of it. */
export interface FarDoor extends Disposable {
  /** The file, read with the tools that are there. */
  readonly file: FarFile;
  /** The version of zrs that is to be used there; undefined where it is the tools. */
  readonly version: string | undefined;
  /** Lets zrs take the shell's place. @returns its native stream, of a primary that follows the file */
  beginZrs(): Promise<Connection>;
}

/** A shell there that runs our program. */
export interface FarReached extends Disposable {
  readonly shell: FarShell;
  /** What to speak over; `program` is what carries it. */
  readonly connection: Connection;
  readonly program: ProcessConnection;
}

const START_TIMEOUT_MS = 60_000;

/**
 * Connects, looks at the file, and has zrs serve it where it is to.
 * @throws as {@link reachFile}
 */
export async function connectFar(ports: FarPorts, place: FarPlace, options: FarOptions): Promise<Far> {
  using owned = new DisposableStack();
  const { file, version, beginZrs } = owned.use(await reachFile(ports, place, options));
  if (version === undefined) return { kind: "tools", file, [Symbol.dispose]: disposerOf(owned) };
  return { kind: "zrs", version, connection: await beginZrs(), [Symbol.dispose]: disposerOf(owned) };
}

/**
 * Connects, and looks at the file; nothing is read yet.
 * @throws NotFoundError, UsageError (a directory, no permission there, no such program here), UnavailableError,
 * which says what the program complained of
 */
export async function reachFile(ports: FarPorts, place: FarPlace, options: FarOptions): Promise<FarDoor> {
  const zrsArguments: ZrsArguments = [
    "primary",
    FAR_PATH,
    "--replicate-to",
    "-",
    ...commonArguments(options),
  ];
  using owned = new DisposableStack();
  const { shell, connection } = owned.use(await reachFar(ports, place, options, zrsArguments));
  const file = await FarFile.open(shell); // whether it can be read is told in better words than zrs there could
  if (options.by === "zrs" && shell.version === undefined) throw noZrsThere(place, options, shell);
  const version = options.by === "tools" ? undefined : shell.version;
  if (version !== undefined) await checkMagic(file, { python2: true });
  if (shell.hasOther) ports.log.info(`${noZrsThere(place, options, shell).message}; its tools do`);
  ports.log.debug(
    version === undefined
      ? `${place.name}: read with the tools that are there`
      : `${place.name}: served by zrs ${version} there`,
  );
  return {
    file,
    version,
    beginZrs: async () => {
      await shell.beginZrs();
      return connection;
    },
    [Symbol.dispose]: disposerOf(owned),
  };
}

/**
 * Starts our program in a shell there.
 * @param zrsArguments with which zrs takes its place when it is told to
 * @throws UsageError where there is no such program here; UnavailableError, ProtocolError
 */
export async function reachFar(
  ports: FarPorts,
  place: FarPlace,
  options: ReachOptions,
  zrsArguments: ZrsArguments,
): Promise<FarReached> {
  using owned = new DisposableStack();
  const { signal, mayAsk, startTimeoutMs = START_TIMEOUT_MS } = options;
  const [program, ...args] = place.command;
  signal?.throwIfAborted();
  const carrier = owned.use(new ProcessConnection(ports.processes.spawn(program, args), place.host));
  const { throttle } = options;
  const connection = throttle === undefined
    ? carrier
    : limitedConnection(ports.clock, carrier, throttle, signal);
  const end = () => carrier.close();
  signal?.addEventListener("abort", end);
  owned.defer(() => signal?.removeEventListener("abort", end));
  const shell = await FarShell.start(ports, connection, {
    name: place.name,
    path: place.path,
    zrs: zrsOf(options),
    blobs: options.blobDir,
    zrsArguments,
    startTimeoutMs: mayAsk ? undefined : startTimeoutMs,
  });
  return { shell, connection, program: carrier, [Symbol.dispose]: disposerOf(owned) };
}

/** What both ends of a stream must be told alike, and where the blobs are there. */
export function commonArguments({ blobs, blobDir }: ReachOptions): ZrsArguments {
  return [
    "--quiet",
    ...(blobs === "refuse" ? [] : ["--blobs", blobs]),
    ...(blobDir === undefined ? [] : ["--blob-dir", { path: blobDir }]),
  ];
}

export function noZrsThere(
  { host }: FarPlace,
  options: ReachOptions,
  { hasOther }: FarShell,
): UnavailableError {
  if (hasOther) {
    return new UnavailableError(
      `Cannot use zrs on ${host}: ${zrsOf(options)} --version must print its version there and nothing else`,
      { hint: "if it is another program, or a script that prints more, name zrs itself with --far-zrs" },
    );
  }
  return new UnavailableError(`Cannot use zrs on ${host}: there is no ${zrsOf(options)} on its PATH`, {
    hint: "install it there, or name it by its whole path with --far-zrs",
  });
}

function zrsOf({ zrs = "zrs" }: ReachOptions): string {
  return zrs;
}

function disposerOf(owned: DisposableStack): () => void {
  const kept = owned.move();
  return () => kept.dispose();
}
