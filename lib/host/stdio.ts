/**
 * Our own standard input and output as a connection: how a node is spoken with that ssh has started.
 *
 * The runtime reads standard input in a thread that nothing can interrupt. So closing only lets go of whoever
 * waits here; the process itself must then be ended, for it would wait for a peer that may never say any more.
 */
import { UnavailableError, UsageError } from "../errors.ts";
import type { Address, Connection, Listener } from "../ports/mod.ts";
import { networkWords } from "./network_failure.ts";

const PEER = "standard input";

let isTaken = false;

export class StdioConnection implements Connection {
  readonly peer = PEER;
  written = 0;
  readonly #closed = Promise.withResolvers<never>();
  #isClosed = false;

  private constructor() {
    this.#closed.promise.catch(() => {}); // told to those who wait
  }

  /** @throws UsageError where it has been taken, or where a person types at the other end */
  static take(): StdioConnection {
    if (Deno.stdin.isTerminal() || Deno.stdout.isTerminal()) {
      throw new UsageError("Cannot speak over standard input and output: there is a terminal", {
        hint: "- is for a program that starts this one, such as ssh",
      });
    }
    if (isTaken) throw new UsageError("Cannot speak over standard input and output twice");
    isTaken = true;
    return new StdioConnection();
  }

  async read(into: Uint8Array): Promise<number | null> {
    return await this.#orClosed("read from", () => Deno.stdin.read(into));
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const count = await this.#orClosed("write to", () => Deno.stdout.write(bytes.subarray(done)));
      done += count;
      this.written += count;
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#closed.reject(
      new UnavailableError(`Cannot go on with ${PEER}: the connection was closed at this end`),
    );
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #orClosed<T>(action: string, work: () => Promise<T>): Promise<T> {
    if (this.#isClosed) return await this.#closed.promise;
    try {
      return await Promise.race([work(), this.#closed.promise]);
    } catch (cause) {
      if (cause instanceof UnavailableError) throw cause;
      throw new UnavailableError(`Cannot ${action} ${PEER}: ${networkWords(cause)}`, { peer: PEER, cause });
    }
  }
}

/** Gives the one connection that there is, and after it no other. */
export class StdioListener implements Listener {
  readonly address: Address = { transport: "stdio" };
  #connection: StdioConnection | undefined = StdioConnection.take();

  accept(): Promise<Connection | null> {
    const connection = this.#connection ?? null;
    this.#connection = undefined;
    return Promise.resolve(connection);
  }

  /** A connection that has been accepted stays open. */
  close(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
