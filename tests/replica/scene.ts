/** One node of ours in a world that the test holds in its hands: disk, network, time and chance. */
import type { Address, Random } from "../../lib/ports/mod.ts";
import type { Primary, Secondary } from "../../lib/replica/mod.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { type MemoryConnection, MemoryNetwork } from "../kit/memory_network.ts";
import { beforeDeadline } from "../kit/feed.ts";
import { ManualClock } from "../kit/manual_clock.ts";
import { type RunningNode, startPrimary, startSecondary } from "../kit/node.ts";
import { NativeWire } from "../kit/native_wire.ts";
import { type ReadTransaction, transactionsOf } from "../kit/transactions_of.ts";
import { Wire } from "../kit/zrs_wire.ts";

/** Where a scripted primary listens. */
export const SOURCE: Address = { transport: "tcp", host: "source", port: 5000 };
/** Where a node of ours listens. */
export const HERE: Address = { transport: "tcp", host: "here", port: 5000 };

export const ORIGINAL = "/source/Data.fs";
export const COPY = "/copy/Data.fs";

type PrimaryOptions = Omit<Parameters<typeof startPrimary>[0], "path" | "replicateTo">;
type SecondaryOptions = Omit<Parameters<typeof startSecondary>[0], "path" | "replicateFrom">;

export class Scene {
  #nonces = 0;
  readonly disk: MemoryDisk;
  readonly network: MemoryNetwork;
  readonly clock = new ManualClock();
  /** Waits before connecting again are as short as they may be: half of the longest. */
  readonly random: Random = {
    unit: () => 0,
    bytes: (count) => new Uint8Array(count).fill(++this.#nonces),
  };

  /** @param options.capacity how many bytes may be under way in each direction of a connection */
  constructor(options: { capacity?: number; disk?: MemoryDisk } = {}) {
    this.disk = options.disk ?? new MemoryDisk();
    this.network = new MemoryNetwork(options.capacity);
    this.disk.addDirectory("/source");
    this.disk.addDirectory("/copy");
  }

  /** Our secondary, which replicates from {@link SOURCE} to {@link COPY}, by zrs2 unless told otherwise. */
  async startSecondary(options: SecondaryOptions = {}): Promise<RunningNode<Secondary>> {
    return await startSecondary({
      retryMaxMs: 60_000,
      protocol: "zrs2",
      ...options,
      path: COPY,
      replicateFrom: SOURCE,
    }, this);
  }

  /** Our primary, which follows {@link ORIGINAL} and listens at {@link HERE}. */
  async startPrimary(options: PrimaryOptions = {}): Promise<RunningNode<Primary>> {
    return await startPrimary({ ...options, path: ORIGINAL, replicateTo: HERE }, this);
  }

  /** A scripted primary for our secondary. */
  async listen(): Promise<ScriptedPrimary> {
    return new ScriptedPrimary(await this.network.listen(SOURCE));
  }

  /** A scripted secondary that has connected to our node. */
  async connect(): Promise<ScriptedSecondary> {
    return new ScriptedSecondary(await this.network.connect(HERE));
  }

  /** The same, by the native stream. */
  async connectNative(): Promise<NativeWire> {
    return new NativeWire(await this.network.connect(HERE));
  }

  /** The transactions in the copy. */
  copied(): ReadTransaction[] {
    return transactionsOf(this.disk.bytes(COPY));
  }
}

/** A connection whose unread bytes the test can count. */
export class ScriptedSecondary extends Wire {
  declare readonly connection: MemoryConnection;
}

export class ScriptedPrimary implements Disposable {
  readonly #listener: Awaited<ReturnType<MemoryNetwork["listen"]>>;

  constructor(listener: Awaited<ReturnType<MemoryNetwork["listen"]>>) {
    this.#listener = listener;
  }

  /** The secondary's next connection, by zrs2. */
  async accept(): Promise<Wire> {
    return new Wire(await this.#accept());
  }

  /** The secondary's next connection, by the native stream. */
  async acceptNative(): Promise<NativeWire> {
    return new NativeWire(await this.#accept());
  }

  async #accept(): Promise<MemoryConnection> {
    const connection = await beforeDeadline("a connection", this.#listener.accept());
    if (connection === null) throw new Error("Nobody can connect any more");
    return connection;
  }

  close(): void {
    this.#listener.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
