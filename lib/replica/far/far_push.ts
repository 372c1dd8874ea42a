/**
 * Bringing a replica on another machine up to date from here, where only this machine may connect to the other:
 * zrs there is started as the replica's owner and speaks over its standard input and output with a primary here,
 * which follows the file for as long as that takes.
 */
import { UnavailableError } from "../../errors.ts";
import type { Address, Clock, Connection, Listener, Network, Timer } from "../../ports/mod.ts";
import {
  commonArguments,
  type FarPlace,
  type FarPorts,
  type FarReached,
  noZrsThere,
  reachFar,
  type ReachOptions,
} from "./far_connect.ts";
import { FAR_PATH, type ZrsArguments } from "./far_program.ts";
import type { Ports } from "../ports.ts";
import type { ProcessConnection } from "./process_connection.ts";
import { Primary, type PrimaryOptions } from "../primary.ts";
import { quieter } from "../sync/sync_source.ts";

export interface PushOptions extends ReachOptions {
  /** The database here. It is only ever read. */
  readonly path: string;
  /** The blob directory here; only read, too. */
  readonly sourceBlobDir?: string | undefined;
  /** Further arguments for `zrs replica-sync - PATH` there. */
  readonly farArguments?: readonly string[];
  readonly compress?: PrimaryOptions["compress"];
  readonly bytesPerSecond?: number | undefined;
  readonly software?: string;
  /** Told now and then how many bytes have gone there. */
  readonly onWritten?: (bytes: number) => void;
}

/** How zrs there has ended. */
export interface PushEnd {
  /** Its exit code, which means what it means here; undefined where it was ended by a signal. */
  readonly code: number | undefined;
  /** What it said last on standard error, a few lines; ssh's own words among them. */
  readonly lines: readonly string[];
  /** What has kept the file here from being read to its end; undefined for nothing. */
  readonly problem: string | undefined;
}

/** So long after nothing more is said to it, zrs there has ended: it may have to write all of an index before. */
const END_TIMEOUT_MS = 600_000;

const STDIO: Address = { transport: "stdio" };

/**
 * Pushes until the replica there has all, or cannot be brought further.
 * @throws NotFoundError, UsageError, DiskError about the file here; UnavailableError where zrs is not there, or
 * nothing could be reached; the signal's reason
 */
export async function pushFar(
  ports: Ports & FarPorts,
  place: FarPlace,
  options: PushOptions,
): Promise<PushEnd> {
  const zrsArguments: ZrsArguments = [
    "replica-sync",
    "-",
    FAR_PATH,
    ...commonArguments(options),
    ...(options.farArguments ?? []),
  ];
  const { path, blobs, sourceBlobDir, compress, bytesPerSecond, software } = options;
  const { signal = new AbortController().signal } = options;
  const network = new OneConnection();
  // First the file here: nobody is asked for a password for one that is not there.
  await using primary = await Primary.open({ ...ports, network, log: quieter(ports.log) }, {
    path,
    blobs,
    blobDir: sourceBlobDir,
    replicateTo: STDIO,
    bytesPerSecond,
    ...(compress !== undefined && { compress }),
    ...(software !== undefined && { software }),
  });
  using reached = await reachOrStopped(ports, place, options, zrsArguments, signal);
  const { shell, program } = reached;
  if (shell.version === undefined) throw noZrsThere(place, options, shell);
  await shell.beginZrs();
  using patience = new Patience(ports.clock, program);
  network.offer(inOwnTime(program, patience, options.onWritten));
  await primary.run(signal);
  signal.throwIfAborted();
  const code = await program.end();
  if (patience.isExhausted) {
    throw new UnavailableError(
      `Cannot push ${path} to ${place.name}: zrs there takes nothing, and has not ended within ` +
        `${END_TIMEOUT_MS / 1000} s`,
      { hint: "look whether the disk there answers" },
    );
  }
  return { code, lines: program.complaints, problem: primary.status().problem };
}

/** As {@link reachFar}, also throws the signal's reason. */
async function reachOrStopped(
  ports: FarPorts,
  place: FarPlace,
  options: ReachOptions,
  zrsArguments: ZrsArguments,
  signal: AbortSignal,
): Promise<FarReached> {
  try {
    return await reachFar(ports, place, options, zrsArguments);
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}

/** How long a program is left to come to its own end. */
class Patience implements Disposable {
  readonly #clock: Clock;
  readonly #program: ProcessConnection;
  #timer: Timer | undefined;
  /** Whether the program did not, and was stopped. */
  isExhausted = false;

  constructor(clock: Clock, program: ProcessConnection) {
    this.#clock = clock;
    this.#program = program;
  }

  begin(): void {
    this.#timer ??= this.#clock.schedule(END_TIMEOUT_MS, () => {
      this.isExhausted = true;
      this.#program.close();
    });
  }

  [Symbol.dispose](): void {
    this.#timer?.cancel();
  }
}

/** Closed here, the program still gets to its own end: how it ends is the answer. */
function inOwnTime(
  connection: ProcessConnection,
  patience: Patience,
  onWritten: (bytes: number) => void = () => {},
): Connection {
  const close = () => {
    connection.endInput();
    patience.begin();
  };
  return {
    peer: connection.peer,
    get written() {
      return connection.written;
    },
    read: (into) => connection.read(into),
    async write(bytes) {
      await connection.write(bytes);
      onWritten(connection.written);
    },
    close,
    [Symbol.dispose]: close,
  };
}

/** A network on which one connection comes, which is there already. */
class OneConnection implements Network {
  #connection: Connection | undefined;

  offer(connection: Connection): void {
    this.#connection = connection;
  }

  connect(): Promise<Connection> {
    return Promise.reject(new UnavailableError("Cannot connect: there is no network here"));
  }

  listen(address: Address): Promise<Listener> {
    const close = () => {};
    const accept = () => {
      const connection = this.#connection ?? null;
      this.#connection = undefined;
      return Promise.resolve(connection);
    };
    return Promise.resolve({ address, accept, close, [Symbol.dispose]: close });
  }
}
