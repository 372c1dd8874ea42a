/** Accepts secondaries on one address and feeds each from a log, for as long as it runs. */
import { UnavailableError } from "../../errors.ts";
import type { KnownSecondary, TransactionLog } from "../../filestorage/mod.ts";
import { type Address, type Connection, formatAddress, type Listener } from "../../ports/mod.ts";
import { Feed } from "./feed.ts";
import type { Ports } from "../ports.ts";
import { RepeatedLog } from "../repeated_log.ts";
import { SecondaryMemory } from "./secondary_memory.ts";
import type { FeedOptions, Shared } from "./service.ts";
import { SharedLook } from "./shared_look.ts";
import { Throttle } from "./throttle.ts";
import type { PeerStatus } from "../status.ts";

export interface ServerOptions extends FeedOptions {
  /** So many are served at once; whoever greets beyond that is refused in words. */
  readonly maxSecondaries?: number;
  /** All of them together get no more than so many bytes a second. */
  readonly bytesPerSecond?: number | undefined;
  /** Beside which database it is remembered how far secondaries are; undefined: nowhere. */
  readonly rememberFor?: string | undefined;
}

const DEFAULT_MAX_SECONDARIES = 100;
/** So many connections for each of them may be open, also of peers that have not greeted. */
const CONNECTIONS_PER_SECONDARY = 4;

export class Server {
  readonly #ports: Ports;
  readonly #listener: Listener;
  readonly #log: TransactionLog;
  readonly #options: ServerOptions;
  readonly #maxSecondaries: number;
  readonly #shared: Shared;
  #served = 0;
  #isCompared = false;
  readonly #feeds = new Map<Feed, Promise<void>>();

  private constructor(ports: Ports, listener: Listener, log: TransactionLog, options: ServerOptions) {
    this.#ports = ports;
    this.#listener = listener;
    this.#log = log;
    this.#options = options;
    this.#maxSecondaries = options.maxSecondaries ?? DEFAULT_MAX_SECONDARIES;
    this.#shared = {
      repeated: new RepeatedLog(ports.clock, ports.log),
      look: new SharedLook(log),
      throttle: options.bytesPerSecond === undefined
        ? undefined
        : new Throttle(ports.clock, options.bytesPerSecond),
      memory: options.rememberFor === undefined
        ? undefined
        : SecondaryMemory.open(ports, options.rememberFor),
      unreadableBlobs: new Set(),
      admit: () => this.#admit(),
      admitComparison: () => this.#admitComparison(),
    };
  }

  /** @throws UsageError when the address cannot be listened on */
  static async listen(
    ports: Ports,
    address: Address,
    log: TransactionLog,
    options: ServerOptions,
  ): Promise<Server> {
    return new Server(ports, await ports.network.listen(address), log, options);
  }

  /** The address really listened on. */
  get address(): Address {
    return this.#listener.address;
  }

  /** Those that are served now, the one that came first in front. */
  get peers(): PeerStatus[] {
    return [...this.#feeds.keys()].map((feed) => feed.status()).filter((status) => status !== undefined);
  }

  /** How far secondaries are, by their own word; undefined where that is not remembered. */
  get known(): KnownSecondary[] | undefined {
    return this.#shared.memory?.known;
  }

  /** Serves until {@link close}. */
  async run(): Promise<void> {
    for (;;) {
      let connection: Connection | null;
      try {
        connection = await this.#listener.accept();
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        this.#tell(error.message);
        continue;
      }
      if (connection === null) break;
      if (this.#feeds.size >= CONNECTIONS_PER_SECONDARY * this.#maxSecondaries) {
        connection.close();
        this.#tell(`Closed a connection at once: ${this.#feeds.size} are open already`);
        continue;
      }
      const feed = new Feed(this.#ports, this.#log, connection, this.#options, this.#shared);
      this.#feeds.set(feed, feed.run().finally(() => this.#feeds.delete(feed)));
    }
    await Promise.all(this.#feeds.values());
    await this.#shared.memory?.close();
  }

  #admit(): Disposable | undefined {
    if (this.#served >= this.#maxSecondaries) return undefined;
    this.#served++;
    return { [Symbol.dispose]: () => void this.#served-- };
  }

  #admitComparison(): Disposable | undefined {
    if (this.#isCompared) return undefined;
    this.#isCompared = true;
    return { [Symbol.dispose]: () => void (this.#isCompared = false) };
  }

  #tell(trouble: string): void {
    this.#shared.repeated.tell("warning", formatAddress(this.address), trouble);
  }

  /** Stops listening and lets all secondaries go. */
  close(): void {
    this.#listener.close();
    for (const feed of this.#feeds.keys()) feed.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
