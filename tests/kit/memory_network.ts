/**
 * A network in memory, without time or chance: connections hold a bounded number of bytes that are under way,
 * and a writer waits until the reader has made room. The test sees how many bytes that is.
 */
import { UnavailableError, UsageError } from "../../lib/errors.ts";
import {
  type Address,
  type Connection,
  formatAddress,
  type Listener,
  type Network,
} from "../../lib/ports/mod.ts";
import { Feed } from "./feed.ts";

/** One direction of a connection. */
class Pipe {
  readonly #capacity: number;
  #chunks: Uint8Array[] = [];
  /** Bytes that were taken from the writer and not by the reader. */
  length = 0;
  ended = false;
  broken = false;
  /** Called whenever any of the above has changed. */
  #changed = Promise.withResolvers<void>();

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  async write(bytes: Uint8Array, took: (count: number) => void): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const count = Math.min(bytes.length - done, this.#capacity - this.length);
      if (this.broken || this.ended) throw new UnavailableError("The connection is closed");
      if (count === 0) {
        await this.#changed.promise;
        continue;
      }
      this.#chunks.push(bytes.slice(done, done + count));
      this.length += count;
      done += count;
      took(count);
      this.change();
    }
  }

  async read(into: Uint8Array): Promise<number | null> {
    for (;;) {
      if (this.broken) throw new UnavailableError("The connection is closed");
      const first = this.#chunks[0];
      if (first !== undefined) {
        const count = Math.min(first.length, into.length);
        into.set(first.subarray(0, count));
        if (count === first.length) this.#chunks.shift();
        else this.#chunks[0] = first.subarray(count);
        this.length -= count;
        this.change();
        return count;
      }
      if (this.ended) return null;
      await this.#changed.promise;
    }
  }

  change(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

export class MemoryConnection implements Connection {
  readonly peer: string;
  written = 0;
  readonly #incoming: Pipe;
  readonly #outgoing: Pipe;

  constructor(peer: string, incoming: Pipe, outgoing: Pipe) {
    this.peer = peer;
    this.#incoming = incoming;
    this.#outgoing = outgoing;
  }

  /** Bytes on their way to here that nobody has read. */
  get unread(): number {
    return this.#incoming.length;
  }

  async read(into: Uint8Array): Promise<number | null> {
    return await this.#incoming.read(into);
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#outgoing.write(bytes, (count) => this.written += count);
  }

  close(): void {
    this.#outgoing.ended = true; // the other end reads what is under way, and then the end
    this.#incoming.broken = true;
    this.#outgoing.change();
    this.#incoming.change();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

class MemoryListener implements Listener {
  readonly address: Address;
  readonly #waiting: MemoryConnection[] = [];
  readonly #closed: () => void;
  #changed = Promise.withResolvers<void>();
  #open = true;

  constructor(address: Address, closed: () => void) {
    this.address = address;
    this.#closed = closed;
  }

  offer(connection: MemoryConnection): void {
    this.#waiting.push(connection);
    this.#changed.resolve();
  }

  async accept(): Promise<MemoryConnection | null> {
    for (;;) {
      if (!this.#open) return null;
      const connection = this.#waiting.shift();
      if (connection !== undefined) return connection;
      await this.#changed.promise;
      this.#changed = Promise.withResolvers();
    }
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    for (const connection of this.#waiting) connection.close();
    this.#changed.resolve();
    this.#closed();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export class MemoryNetwork implements Network {
  /** The addresses that somebody tried to connect to, also in vain. */
  readonly attempts = new Feed<string>();
  readonly #capacity: number;
  readonly #listeners = new Map<string, MemoryListener>();
  #lastPort = 0;

  /** @param capacity how many bytes may be under way in each direction of a connection */
  constructor(capacity = 64 * 1024) {
    this.#capacity = capacity;
  }

  async connect(address: Address): Promise<MemoryConnection> {
    await Promise.resolve();
    const name = formatAddress(address);
    const listener = this.#listeners.get(name);
    this.attempts.push(name);
    if (listener === undefined) throw new UnavailableError(`Cannot connect to ${name}: nobody listens there`);
    const [there, back] = [new Pipe(this.#capacity), new Pipe(this.#capacity)];
    listener.offer(new MemoryConnection(`client:${++this.#lastPort}`, there, back));
    return new MemoryConnection(name, back, there);
  }

  async listen(address: Address): Promise<MemoryListener> {
    await Promise.resolve();
    const own: Address = address.transport === "tcp" && address.port === 0
      ? { ...address, port: ++this.#lastPort }
      : address;
    const name = formatAddress(own);
    if (this.#listeners.has(name)) throw new UsageError(`Cannot listen on ${name}: the address is in use`);
    const listener = new MemoryListener(own, () => this.#listeners.delete(name));
    this.#listeners.set(name, listener);
    return listener;
  }
}
