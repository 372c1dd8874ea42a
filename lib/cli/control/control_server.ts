/**
 * The control socket of a node: takes requests, one at a time from each client. Whatever a client does harms
 * neither the node nor other clients for long: how many there may be, how long a request and its sending and the
 * taking of its answer may be, all is bounded, and beyond it the connection is closed.
 */
import { UnavailableError, ZrsError } from "../../errors.ts";
import type { Clock, Connection, Listener, Log, Network } from "../../ports/mod.ts";
import {
  type Answer,
  answerTo,
  type Asker,
  encodeLine,
  type Handlers,
  type JsonObject,
  refusal,
} from "./control_protocol.ts";
import { ClientLines } from "./control_lines.ts";

/** More connections than these are closed at once. */
const MAX_CLIENTS = 16;
/** A client is to have sent its next request whole by then. */
const REQUEST_TIMEOUT_MS = 60_000;
/** And to have taken the answer. */
const ANSWER_TIMEOUT_MS = 10_000;

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
    const lines = new ClientLines(client);
    for (;;) {
      let answer: Answer;
      using asker = new AttendedAsker(
        lines,
        (bytes) => this.#within(ANSWER_TIMEOUT_MS, client, client.write(bytes)),
      );
      try {
        const line = await this.#within(REQUEST_TIMEOUT_MS, client, lines.next());
        if (line === undefined) return;
        this.#answering.add(client);
        answer = await answerTo(line, this.#handlers, this.#ports.log, asker);
      } catch (error) {
        answer = refusal(error);
      }
      await asker.told;
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

class AttendedAsker implements Asker, Disposable {
  /** Resolves when what it has been told is on its way. */
  told: Promise<void> | undefined;
  readonly #lines: ClientLines;
  readonly #write: (bytes: Uint8Array) => Promise<void>;
  #gone: AbortController | undefined;

  constructor(lines: ClientLines, write: (bytes: Uint8Array) => Promise<void>) {
    this.#lines = lines;
    this.#write = write;
  }

  get gone(): AbortSignal {
    if (this.#gone === undefined) {
      const gone = this.#gone = new AbortController();
      this.#lines.watch(gone.signal, () => gone.abort(new UnavailableError("The client has gone")));
    }
    return this.#gone.signal;
  }

  tell(line: JsonObject): void {
    this.told ??= this.#write(encodeLine(line)).catch(() => {}).finally(() => this.told = undefined);
  }

  /** The answer is ready: whether the client goes is of no interest any more. */
  [Symbol.dispose](): void {
    this.#gone?.abort();
  }
}
