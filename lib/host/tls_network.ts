/**
 * A network on which every connection is encrypted and both ends prove who they are, over another network:
 * whoever uses it does not know. The certificates can be read anew at any time; connections that are open go on
 * as they are.
 */

import type { Address, Clock, Connection, Listener, Network } from "../ports/mod.ts";
import { UnavailableError } from "../errors.ts";
import type { SecureNetwork, TlsOptions } from "./host.ts";
import { type Credentials, readCredentials } from "./tls_files.ts";
import { checkUsable, secureAsClient, secureAsServer } from "./tls_handshake.ts";

/** So many may be in the middle of proving who they are; one more, and the one that began first is dropped. */
const MAX_HANDSHAKES = 128;

export class TlsNetwork implements SecureNetwork {
  readonly #network: Network;
  readonly #clock: Clock;
  readonly #options: TlsOptions;
  #credentials: Credentials;

  private constructor(network: Network, clock: Clock, options: TlsOptions, credentials: Credentials) {
    this.#network = network;
    this.#clock = clock;
    this.#options = options;
    this.#credentials = credentials;
  }

  /** @throws UsageError that says which file is wrong and why; DiskError */
  static async open(network: Network, clock: Clock, options: TlsOptions): Promise<TlsNetwork> {
    return new TlsNetwork(network, clock, options, await usableCredentials(options));
  }

  get warnings(): readonly string[] {
    return this.#credentials.warnings;
  }

  async reload(): Promise<void> {
    this.#credentials = await usableCredentials(this.#options);
  }

  async connect(address: Address, options: { signal?: AbortSignal } = {}): Promise<Connection> {
    const connection = await this.#network.connect(address, options);
    const name = this.#options.name ?? nameOf(address);
    try {
      return await secureAsClient(connection, name, {
        credentials: this.#credentials,
        clock: this.#clock,
        signal: options.signal,
      });
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      const { peer } = connection;
      throw new UnavailableError(`Cannot connect to ${peer} by TLS: ${error.message}`, {
        ...error.facts,
        peer,
      });
    }
  }

  async listen(address: Address): Promise<Listener> {
    return new TlsListener(
      await this.#network.listen(address),
      this.#options.onRefused,
      (connection, signal) => {
        return secureAsServer(connection, { credentials: this.#credentials, clock: this.#clock, signal });
      },
    );
  }
}

class TlsListener implements Listener {
  readonly #listener: Listener;
  readonly #handshake: (connection: Connection, signal: AbortSignal) => Promise<Connection>;
  readonly #onRefused: TlsOptions["onRefused"];
  /** Those under way, the one that began first at the front. */
  readonly #handshakes = new Set<AbortController>();
  readonly #ready: Connection[] = [];
  #isTaking = false;
  /** What {@link Listener.accept} below has thrown, for whoever accepts next. */
  #trouble: { readonly error: unknown } | undefined;
  #isClosed = false;
  #wake: (() => void) | undefined;

  constructor(
    listener: Listener,
    onRefused: TlsOptions["onRefused"],
    handshake: (connection: Connection, signal: AbortSignal) => Promise<Connection>,
  ) {
    this.#listener = listener;
    this.#onRefused = onRefused;
    this.#handshake = handshake;
  }

  get address(): Address {
    return this.#listener.address;
  }

  async accept(): Promise<Connection | null> {
    for (;;) {
      if (this.#isClosed) return null;
      const ready = this.#ready.shift();
      if (ready !== undefined) return ready;
      const trouble = this.#trouble;
      this.#trouble = undefined;
      if (trouble !== undefined) throw trouble.error;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      if (!this.#isTaking) void this.#takeOne();
      await promise;
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#listener.close();
    for (const handshake of this.#handshakes) handshake.abort();
    for (const connection of this.#ready) connection.close();
    this.#wake?.();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #takeOne(): Promise<void> {
    this.#isTaking = true;
    try {
      const connection = await this.#listener.accept();
      if (connection !== null) void this.#secure(connection);
    } catch (error) {
      this.#trouble = { error };
    }
    this.#isTaking = false;
    this.#wake?.();
  }

  async #secure(connection: Connection): Promise<void> {
    const handshake = new AbortController();
    if (this.#handshakes.size >= MAX_HANDSHAKES) {
      this.#handshakes.values().next().value?.abort("too many others came while it had not proved who it is");
    }
    this.#handshakes.add(handshake);
    try {
      const secured = await this.#handshake(connection, handshake.signal);
      if (this.#isClosed) return secured.close();
      this.#ready.push(secured);
      this.#wake?.();
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      if (!this.#isClosed) this.#onRefused(connection.peer, error.message);
    } finally {
      this.#handshakes.delete(handshake);
    }
  }
}

async function usableCredentials(options: TlsOptions): Promise<Credentials> {
  const credentials = readCredentials(options);
  await checkUsable(credentials, options);
  return credentials;
}

/** What the certificate of whoever listens there must name. A socket's path already says on which machine it is. */
function nameOf(address: Address): string | undefined {
  if (address.transport !== "tcp") return undefined;
  // The zone of an address, as in fe80::1%eth0, is this machine's business.
  return address.host.replace(/^\[|\]$/g, "").replace(/%.*$/, "");
}
