/**
 * The control socket of a node: takes requests, one at a time from each client. Whatever a client does harms
 * neither the node nor other clients for long: how many there may be, how long a request and its sending and the
 * taking of its answer may be, all is bounded, and beyond it the connection is closed.
 */
import { UnavailableError, ZrsError } from "../errors.ts";
import type { Clock, Connection, Listener, Log, Network } from "../ports/mod.ts";
import {
  type Answer,
  answerTo,
  type Handlers,
  LineDecoder,
  MAX_REQUEST_BYTES,
  nextLine,
  refusal,
} from "./control_protocol.ts";

/** More connections than these are closed at once. */
const MAX_CLIENTS = 16;
/** A client is to have sent its next request whole by then. */
const REQUEST_TIMEOUT_MS = 60_000;
/** And to have taken the answer. */
const ANSWER_TIMEOUT_MS = 10_000;
const CHUNK_BYTES = 4096;

/** Only the user who runs the node may connect. */
const OWNER_ONLY = 0o600;

export interface ControlPorts {
  readonly network: Network;
  readonly clock: Clock;
  readonly log: Log;
}

export class ControlServer implements AsyncDisposable {
  readonly path: string;
  readonly #ports: ControlPorts;
  readonly #listener: Listener;
  readonly #handlers: Handlers;
  readonly #clients = new Map<Connection, Promise<void>>();
  /** Those that are being answered. */
  readonly #answering = new Set<Connection>();
  #isClosing = false;
  readonly #accepting: Promise<void>;

  private constructor(ports: ControlPorts, path: string, listener: Listener, handlers: Handlers) {
    this.#ports = ports;
    this.path = path;
    this.#listener = listener;
    this.#handlers = handlers;
    this.#accepting = this.#accept();
  }

  /**
   * Listens, and answers until disposed of.
   * @throws UsageError (in use, not a socket, path too long, no permission), NotFoundError, DiskError
   */
  static async listen(ports: ControlPorts, path: string, handlers: Handlers): Promise<ControlServer> {
    const listener = await ports.network.listen({ transport: "unix", path }, { mode: OWNER_ONLY });
    return new ControlServer(ports, path, listener, handlers);
  }

  /** Whoever is being answered gets the answer first. Closing twice is harmless. The socket's file is removed. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    this.#isClosing = true;
    for (const client of this.#clients.keys()) {
      if (!this.#answering.has(client)) client.close();
    }
    await Promise.all([this.#accepting, ...this.#clients.values()]);
  }

  async #accept(): Promise<void> {
    const { log } = this.#ports;
    for (let told = false;;) {
      let client: Connection | null;
      try {
        client = await this.#listener.accept();
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        if (!told) log.warning(error.message);
        told = true;
        continue;
      }
      told = false;
      if (client === null) return;
      if (this.#clients.size >= MAX_CLIENTS) {
        client.close();
        log.debug(`Closed a connection to ${this.path} at once: ${MAX_CLIENTS} are open already`);
      } else this.#clients.set(client, this.#attend(client));
    }
  }

  async #attend(client: Connection): Promise<void> {
    try {
      await this.#converse(client);
    } catch (error) {
      if (!(error instanceof ZrsError)) throw error;
      this.#ports.log.debug(`Dropped a client of ${this.path}: ${error.message}`);
    } finally {
      client.close();
      this.#answering.delete(client);
      this.#clients.delete(client);
    }
  }

  async #converse(client: Connection): Promise<void> {
    const lines = new LineDecoder(MAX_REQUEST_BYTES);
    const chunk = new Uint8Array(CHUNK_BYTES);
    for (;;) {
      let answer: Answer;
      try {
        const line = await this.#within(REQUEST_TIMEOUT_MS, client, nextLine(client, lines, chunk));
        if (line === undefined) return;
        this.#answering.add(client);
        answer = await answerTo(line, this.#handlers, this.#ports.log);
      } catch (error) {
        answer = refusal(error);
      }
      await this.#within(ANSWER_TIMEOUT_MS, client, client.write(answer.line));
      if (answer.last || this.#isClosing) return;
      this.#answering.delete(client);
    }
  }

  /** Closes the connection, which ends the work, unless it is done in time. */
  async #within<T>(timeoutMs: number, client: Connection, work: Promise<T>): Promise<T> {
    using _timer = this.#ports.clock.schedule(timeoutMs, () => client.close());
    return await work;
  }
}
