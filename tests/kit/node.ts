/**
 * Our primaries and secondaries, run inside the test's own process: on the real machine unless the test hands
 * in other ports, with a log that the test reads.
 */
import assert from "node:assert/strict";
import { systemHost } from "../../lib/host/mod.ts";
import { type Address, formatAddress } from "../../lib/ports/mod.ts";
import {
  type Ports,
  Primary,
  type PrimaryOptions,
  Secondary,
  type SecondaryOptions,
} from "../../lib/replica/mod.ts";
import { parseTid } from "../../lib/zodb/mod.ts";
import { CollectedLog } from "./collected_log.ts";
import { beforeDeadline } from "./feed.ts";

/** What {@link Primary} and {@link Secondary} have in common. */
interface Node extends AsyncDisposable {
  readonly address: Address | undefined;
  readonly lastTid: bigint;
  subscribe(changed: () => void): Disposable;
  run(signal: AbortSignal): Promise<void>;
}

/** A port of this machine that the system chooses. */
export const ANY_PORT: Address = { transport: "tcp", host: "127.0.0.1", port: 0 };

/** `host:port`, or the path of a Unix socket, as the Python peers are told addresses. */
export function addressOf(text: string): Address {
  if (text.includes("/")) return { transport: "unix", path: text };
  const colon = text.lastIndexOf(":");
  return { transport: "tcp", host: text.slice(0, colon), port: Number(text.slice(colon + 1)) };
}

/** A node that runs until it is stopped or disposed of; `await using` stops it in order. */
export class RunningNode<Kind extends Node> implements AsyncDisposable {
  readonly node: Kind;
  readonly log: CollectedLog;
  /** Settles when the node has ended, also when it failed. */
  readonly ended: Promise<void>;
  readonly #stop = new AbortController();
  #failureSeen = false;

  constructor(node: Kind, log: CollectedLog) {
    this.node = node;
    this.log = log;
    this.ended = node.run(this.#stop.signal);
    this.ended.catch(() => {}); // told to whoever awaits it, at the latest by disposing
  }

  /** Where secondaries connect, as text. */
  get address(): string {
    const { address } = this.node;
    assert(address !== undefined, "Cannot give an address: the node was started without replicateTo");
    return formatAddress(address);
  }

  get lastTid(): bigint {
    return this.node.lastTid;
  }

  /** Waits until the transaction (16 hexadecimal digits, or the number), or a later one, is the node's last. */
  async waitForTid(tid: string | bigint): Promise<void> {
    const wanted = typeof tid === "string" ? parseTid(tid) : tid;
    const reached = Promise.withResolvers<void>();
    const look = () => {
      if (this.node.lastTid >= wanted) reached.resolve();
    };
    using _subscription = this.node.subscribe(look);
    look();
    const endedEarly = this.ended.then(() => {
      throw new Error(`The node ended before tid ${tid}`);
    });
    await beforeDeadline(`tid ${tid}`, Promise.race([reached.promise, endedEarly])).catch((error) => {
      throw new Error(`${error.message}; logged:\n${this.log}`, { cause: error });
    });
  }

  /** Waits for the failure that ends the node. */
  async failure(): Promise<unknown> {
    this.#failureSeen = true;
    return await beforeDeadline(
      "the node's failure",
      this.ended.then(() => assert.fail("The node ended without a failure"), (error) => error),
    );
  }

  /** Ends the node as a signal would. Stopping twice is harmless. @throws what the node failed with */
  async stop(): Promise<void> {
    this.#stop.abort();
    try {
      await beforeDeadline("the node's end", this.ended);
    } catch (error) {
      if (!this.#failureSeen) throw error;
    } finally {
      this.#failureSeen = true;
      await this.node[Symbol.asyncDispose]();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** Ports that replace those of the real machine. */
export type OtherPorts = Partial<Omit<Ports, "log">>;

function portsWith(other: OtherPorts, log: CollectedLog): Ports {
  const { disk, network, clock, random } = systemHost();
  return { disk, network, clock, random, ...other, log };
}

/** Follows a file; listens on a free port of this machine unless told otherwise. */
export async function startPrimary(
  options: Partial<PrimaryOptions> & Pick<PrimaryOptions, "path">,
  other: OtherPorts = {},
): Promise<RunningNode<Primary>> {
  const log = new CollectedLog();
  const all = { replicateTo: ANY_PORT, blobs: "refuse", ...options } as const;
  return new RunningNode(await Primary.open(portsWith(other, log), all), log);
}

/** Replicates from an address; tries again within 50 ms unless told otherwise. */
export async function startSecondary(
  options: Partial<Omit<SecondaryOptions, "replicateFrom">> & Pick<SecondaryOptions, "path"> & {
    readonly replicateFrom: Address | string;
  },
  other: OtherPorts = {},
): Promise<RunningNode<Secondary>> {
  const log = new CollectedLog();
  const { replicateFrom } = options;
  const all = {
    blobs: "refuse",
    retryMaxMs: 50,
    ...options,
    replicateFrom: typeof replicateFrom === "string" ? addressOf(replicateFrom) : replicateFrom,
  } as const;
  return new RunningNode(await Secondary.open(portsWith(other, log), all), log);
}
