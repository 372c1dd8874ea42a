/**
 * A network within this process: whoever connects reaches whoever listens. Bytes go from the writer's buffer into
 * the reader's, copied once; a write is over when all of it has been read, so nothing piles up.
 */
import { UnavailableError, UsageError } from "../../errors.ts";
import type { Address, Connection, Listener, Network } from "../../ports/mod.ts";

interface PendingWrite {
  readonly bytes: Uint8Array;
  /** How much of it has been read. */
  at: number;
  readonly done: PromiseWithResolvers<void>;
}

interface PendingRead {
  readonly into: Uint8Array;
  readonly done: PromiseWithResolvers<number | null>;
}

/** One direction of a connection. */
class Pipe {
  #writes: PendingWrite[] = [];
  #read: PendingRead | undefined;
  #closed = false;
  /** Bytes read so far. */
  taken = 0;

  write(bytes: Uint8Array): Promise<void> {
    if (this.#closed) return Promise.reject(closedHere());
    if (bytes.length === 0) return Promise.resolve();
    const done = Promise.withResolvers<void>();
    this.#writes.push({ bytes, at: 0, done });
    this.#move();
    return done.promise;
  }

  read(into: Uint8Array): Promise<number | null> {
    if (this.#read !== undefined) throw new RangeError("Somebody else is reading");
    if (this.#closed) return Promise.resolve(null);
    const done = Promise.withResolvers<number | null>();
    this.#read = { into, done };
    this.#move();
    return done.promise;
  }

  /** @param side which end closes: its own pending work fails, the other's reading ends */
  close(side: "reader" | "writer"): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { done } of this.#writes) done.reject(side === "writer" ? closedHere() : closedThere());
    this.#writes = [];
    if (side === "writer") this.#read?.done.resolve(null);
    else this.#read?.done.reject(closedHere());
    this.#read = undefined;
  }

  #move(): void {
    if (this.#read === undefined || this.#writes.length === 0) return;
    const { into, done } = this.#read;
    let count = 0;
    while (count < into.length) {
      const write = this.#writes[0];
      if (write === undefined) break;
      const part = write.bytes.subarray(write.at, write.at + into.length - count);
      into.set(part, count);
      count += part.length;
      write.at += part.length;
      if (write.at < write.bytes.length) break;
      this.#writes.shift();
      write.done.resolve();
    }
    this.taken += count;
    this.#read = undefined;
    done.resolve(count);
  }
}

class LoopbackConnection implements Connection {
  readonly peer: string;
  readonly #incoming: Pipe;
  readonly #outgoing: Pipe;

  constructor(peer: string, incoming: Pipe, outgoing: Pipe) {
    this.peer = peer;
    this.#incoming = incoming;
    this.#outgoing = outgoing;
  }

  get written(): number {
    return this.#outgoing.taken;
  }

  read(into: Uint8Array): Promise<number | null> {
    return this.#incoming.read(into);
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#outgoing.write(bytes);
  }

  close(): void {
    this.#outgoing.close("writer");
    this.#incoming.close("reader");
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function closedHere(): UnavailableError {
  return new UnavailableError("The connection was closed here");
}

function closedThere(): UnavailableError {
  return new UnavailableError("The other end has closed the connection");
}

/** One listener, and whoever connects to it; addresses do not matter. */
export class LoopbackNetwork implements Network {
  readonly #name: string;
  #listener: LoopbackListener | undefined;

  /** @param name of both ends, for messages */
  constructor(name: string) {
    this.#name = name;
  }

  async connect(): Promise<Connection> {
    await Promise.resolve();
    if (this.#listener?.isOpen !== true) {
      throw new UnavailableError(`Cannot reach ${this.#name}: it is closed`);
    }
    const [there, back] = [new Pipe(), new Pipe()];
    this.#listener.offer(new LoopbackConnection(this.#name, there, back));
    return new LoopbackConnection(this.#name, back, there);
  }

  async listen(address: Address): Promise<Listener> {
    await Promise.resolve();
    if (this.#listener?.isOpen === true) throw new UsageError(`Cannot listen on ${this.#name}: it is in use`);
    return this.#listener = new LoopbackListener(address);
  }
}

class LoopbackListener implements Listener {
  readonly address: Address;
  readonly #waiting: Connection[] = [];
  #accepting: PromiseWithResolvers<Connection | null> | undefined;
  isOpen = true;

  constructor(address: Address) {
    this.address = address;
  }

  offer(connection: Connection): void {
    this.#waiting.push(connection);
    this.#hand();
  }

  accept(): Promise<Connection | null> {
    if (!this.isOpen) return Promise.resolve(null);
    this.#accepting = Promise.withResolvers();
    const { promise } = this.#accepting;
    this.#hand();
    return promise;
  }

  close(): void {
    this.isOpen = false;
    for (const connection of this.#waiting.splice(0)) connection.close();
    this.#accepting?.resolve(null);
    this.#accepting = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #hand(): void {
    if (this.#accepting === undefined || this.#waiting.length === 0) return;
    this.#accepting.resolve(this.#waiting.shift()!);
    this.#accepting = undefined;
  }
}
