/** An encrypted stream of bytes, once both ends have proved who they are. */

import { setImmediate } from "node:timers";
import type { TLSSocket } from "node:tls";
import { UnavailableError } from "../errors.ts";
import type { Connection } from "../ports/mod.ts";
import type { Carrier } from "./tls_carrier.ts";
import { isRefusal, tlsWords } from "./tls_words.ts";

/** So much is encrypted at once: what a slow peer keeps us holding, besides the caller's buffer. */
const WRITE_BYTES = 48 * 1024;

export interface TlsEnd {
  readonly connection: Connection;
  readonly carrier: Carrier;
  readonly socket: TLSSocket;
  /**
   * Whether the other end may yet refuse us: a client of TLS 1.3 is through before its certificate has been
   * looked at.
   */
  readonly isOnProbation: boolean;
}

export class TlsConnection implements Connection {
  readonly peer: string;
  readonly #connection: Connection;
  readonly #carrier: Carrier;
  readonly #socket: TLSSocket;
  /** What has been decrypted and not yet read, in order. */
  readonly #arrived: Uint8Array[] = [];
  #isOnProbation: boolean;
  #ended = false;
  #closed = false;
  /** Why nothing more comes or goes. */
  #failure: { readonly words: string; readonly cause?: unknown } | undefined;
  /** Ends the waiting of a reader: something has arrived, or nothing more will. */
  #wakeReader: (() => void) | undefined;
  #wakeWriter: (() => void) | undefined;

  /** Takes over both, in the turn in which the handshake has ended. */
  constructor({ connection, carrier, socket, isOnProbation }: TlsEnd) {
    this.peer = connection.peer;
    this.#connection = connection;
    this.#carrier = carrier;
    this.#socket = socket;
    this.#isOnProbation = isOnProbation;
    carrier.want(false);
    socket.on("data", (bytes: Uint8Array) => this.#receive(bytes));
    socket.on("end", () => this.#end());
    socket.on("error", (error) => this.#fail(error));
    socket.on("close", () => this.#fail(carrier.failure));
    if (carrier.destroyed) this.#fail(carrier.failure);
  }

  /** Of what goes over the wire, encrypted: that is what tells a slow peer from a dead one. */
  get written(): number {
    return this.#connection.written;
  }

  async read(into: Uint8Array): Promise<number | null> {
    for (;;) {
      if (this.#closed) throw this.#failureTo("read from");
      const [bytes] = this.#arrived;
      if (bytes !== undefined) return this.#take(bytes, into);
      if (this.#ended) return null;
      if (this.#failure !== undefined) throw this.#failureTo("read from");
      const arrival = Promise.withResolvers<void>();
      this.#wakeReader = arrival.resolve;
      this.#carrier.want(true);
      await arrival.promise;
    }
  }

  /** One writer at a time: the pieces of two would mix. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; done += WRITE_BYTES) {
      await this.#writeOne(bytes.subarray(done, done + WRITE_BYTES));
      if (this.#closed || this.#failure !== undefined) throw this.#failureTo("write to");
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const isWriting = this.#wakeWriter !== undefined;
    this.#wakeReader?.();
    this.#wakeWriter?.();
    this.#arrived.length = 0;
    // Saying goodbye is civil where nothing is in its way, and takes one turn.
    if (isWriting || this.#failure !== undefined) return void this.#socket.destroy();
    this.#socket.end();
    setImmediate(() => this.#socket.destroy());
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #take(bytes: Uint8Array, into: Uint8Array): number {
    const part = bytes.subarray(0, into.length);
    into.set(part);
    if (part.length === bytes.length) this.#arrived.shift();
    else this.#arrived[0] = bytes.subarray(part.length);
    return part.length;
  }

  #receive(bytes: Uint8Array): void {
    if (this.#closed || bytes.length === 0) return;
    this.#isOnProbation = false;
    this.#arrived.push(bytes);
    this.#carrier.want(false);
    this.#wakeReader?.();
  }

  #end(): void {
    if (this.#isOnProbation) return this.#fail(undefined);
    this.#ended = true;
    this.#wakeReader?.();
  }

  /** Settles when the system has taken it, or when nothing more can be written; {@link write} looks why. */
  #writeOne(bytes: Uint8Array): Promise<void> {
    if (this.#closed || this.#failure !== undefined) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wakeWriter = resolve;
    this.#socket.write(bytes, (error) => {
      // The runtime does not tell a failed write of what it has encrypted from one that was done.
      const cause = this.#carrier.failure ?? error;
      if (cause) this.#fail(cause);
      resolve();
    });
    return promise.finally(() => this.#wakeWriter = undefined);
  }

  /** The first reason is the one that counts. */
  #fail(cause: unknown): void {
    this.#failure ??= { words: this.#wordsOf(cause), cause };
    this.#wakeReader?.();
    this.#wakeWriter?.();
    this.#socket.destroy();
  }

  #wordsOf(cause: unknown): string {
    const words = cause === undefined ? "it closed the connection" : tlsWords(cause);
    if (!this.#isOnProbation || isRefusal(cause)) return words;
    return `${words} at once: it may not accept our certificate, which its log tells`;
  }

  #failureTo(action: string): UnavailableError {
    const { words, cause } = this.#closed
      ? { words: "the connection was closed at this end" }
      : this.#failure!;
    return new UnavailableError(`Cannot ${action} ${this.peer}: ${words}`, { peer: this.peer, cause });
  }
}
