/** Accepts secondaries on one address and feeds each from a log, for as long as it runs. */
import { UnavailableError } from "../errors.ts";
import type { TransactionLog } from "../filestorage/mod.ts";
import type { Address, Connection, Listener } from "../ports/mod.ts";
import { Feed, type FeedOptions } from "./feed.ts";
import type { Ports } from "./ports.ts";

export class Server {
  readonly #ports: Ports;
  readonly #listener: Listener;
  readonly #log: TransactionLog;
  readonly #options: FeedOptions;
  readonly #feeds = new Map<Feed, Promise<void>>();

  private constructor(ports: Ports, listener: Listener, log: TransactionLog, options: FeedOptions) {
    this.#ports = ports;
    this.#listener = listener;
    this.#log = log;
    this.#options = options;
  }

  /** @throws UsageError when the address cannot be listened on */
  static async listen(
    ports: Ports,
    address: Address,
    log: TransactionLog,
    options: FeedOptions,
  ): Promise<Server> {
    return new Server(ports, await ports.network.listen(address), log, options);
  }

  /** The address really listened on. */
  get address(): Address {
    return this.#listener.address;
  }

  /** Serves until {@link close}. */
  async run(): Promise<void> {
    for (;;) {
      let connection: Connection | null;
      try {
        connection = await this.#listener.accept();
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        this.#ports.log.warning(error.message);
        continue;
      }
      if (connection === null) break;
      const feed = new Feed(this.#ports, this.#log, connection, this.#options);
      this.#feeds.set(feed, feed.run().finally(() => this.#feeds.delete(feed)));
    }
    await Promise.all(this.#feeds.values());
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
