/** Where a replica is brought up to date from: a node by the network, or a file of this machine. */
import { UnavailableError } from "../../errors.ts";
import {
  type Address,
  type Connection,
  formatAddress,
  isThisMachineOnly,
  type Log,
} from "../../ports/mod.ts";
import { LoopbackNetwork } from "./loopback.ts";
import type { Ports } from "../ports.ts";
import { Primary, type PrimaryOptions } from "../primary.ts";
import { limitedConnection, Throttle } from "../sending/throttle.ts";

/** What a replica can be brought up to date from. Whoever made it closes it. */
export interface SyncSource extends AsyncDisposable {
  /** As messages name it. */
  readonly name: string;
  /** Where it is a file of this machine. */
  readonly path?: string | undefined;
  /** Where it is a running node: as commands take it. */
  readonly url?: string | undefined;
  /** Whether only a process of this machine can be there. */
  readonly isThisMachine: boolean;
  /** Whether there is one conversation only: {@link connect} throws {@link OnceError} when it is called again. */
  readonly isOnce?: boolean;
  /** A new conversation, in which the source serves by the native stream or by zrs2. @throws UnavailableError */
  connect(signal: AbortSignal): Promise<Connection>;
  /** What keeps the source from being read any further, where that is known; undefined: nothing. */
  readonly problem: string | undefined;
}

/** All that can be said in the one conversation that there is has been said; another one goes on from there. */
export class OnceError extends UnavailableError {
  /** Whether the bytes that come next do not fit behind ours, so that they must come record by record. */
  readonly isMisfit: boolean;

  constructor(message: string, isMisfit: boolean) {
    super(message, { hint: "run it again" });
    this.isMisfit = isMisfit;
  }
}

/** How messages name what {@link stdioSource} makes. */
export const STDIO_NAME = "standard input";

/** Whoever has started this process, and holds the other end of its standard input and output. */
export function stdioSource({ network }: Pick<Ports, "network">): SyncSource {
  let isTaken = false;
  return {
    name: STDIO_NAME,
    isThisMachine: false,
    isOnce: true,
    problem: undefined,
    connect: (signal) => {
      if (isTaken) {
        throw new OnceError(
          "Cannot ask again over standard input and output: there is one connection",
          false,
        );
      }
      isTaken = true;
      return network.connect({ transport: "stdio" }, { signal });
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/**
 * A node that listens somewhere, ours or Python's. Makes no connection yet.
 * @param url how commands name it
 */
export function networkSource(
  { network }: Pick<Ports, "network">,
  address: Address,
  url?: string,
): SyncSource {
  return {
    name: formatAddress(address),
    url,
    isThisMachine: isThisMachineOnly(address),
    connect: (signal) => network.connect(address, { signal }),
    problem: undefined,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/**
 * A file of this machine, which another process may be writing: it is followed as a primary follows it, and sent
 * through this process's memory.
 * @throws NotFoundError, UsageError (not a FileStorage, a directory, no permission), DiskError
 */
export async function openFileSource(
  ports: Ports,
  options: Omit<PrimaryOptions, "replicateTo">,
): Promise<SyncSource> {
  const { path } = options;
  const network = new LoopbackNetwork(path);
  const primary = await Primary.open({ ...ports, network, log: quieter(ports.log) }, {
    ...options,
    replicateTo: { transport: "unix", path },
    compress: "off",
  });
  const stop = new AbortController();
  const running = primary.run(stop.signal);
  running.catch(() => {}); // told when it is closed
  return {
    name: path,
    path,
    isThisMachine: true,
    connect: () => network.connect(),
    get problem() {
      return primary.status().problem;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      try {
        await running;
      } finally {
        await primary[Symbol.asyncDispose]();
      }
    },
  };
}

/** A source that is read no faster than so many bytes a second. */
export function limitedSource(
  { clock }: Pick<Ports, "clock">,
  source: SyncSource,
  bytesPerSecond: number,
): SyncSource {
  const throttle = new Throttle(clock, bytesPerSecond);
  return {
    name: source.name,
    path: source.path,
    url: source.url,
    isThisMachine: source.isThisMachine,
    isOnce: source.isOnce === true,
    connect: async (signal) => limitedConnection(clock, await source.connect(signal), throttle, signal),
    get problem() {
      return source.problem;
    },
    [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
  };
}

/** What a primary within this process has to tell is told by what it serves. */
export function quieter(log: Log): Log {
  const debug: Log["debug"] = (message, facts) => log.debug(message, facts);
  return { debug, info: debug, warning: debug, error: debug };
}

/** @throws UnavailableError where the source has more than could be read of it */
export function checkReadToItsEnd({ name, problem }: SyncSource): void {
  if (problem === undefined) return;
  throw new UnavailableError(`Cannot copy all of ${name}: ${problem}; all before that has been copied`, {
    hint: "look at the source: zrs verify tells more about a damaged file",
  });
}
