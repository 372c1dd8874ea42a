/**
 * What the runtime's TLS runs on: a connection, as the stream that `node:tls` asks for. Over a socket of its
 * own, the runtime would go on reading (Deno 2.9 cannot stop it), and a peer that sends much while nobody
 * reads would fill the memory; here nothing is read that nobody has asked for.
 */

import { Duplex } from "node:stream";
import { setImmediate } from "node:timers";
import type { Connection } from "../ports/mod.ts";

/** More than a TLS record, which has at most 16 KiB and a little. */
const READ_BYTES = 64 * 1024;

export class Carrier extends Duplex {
  /** What broke the connection, if anything did. */
  failure: unknown;
  readonly #connection: Connection;
  readonly #buffer = new Uint8Array(READ_BYTES);
  /** Whether the stream has room: it always has, but waits for its turn. */
  #hasRoom = false;
  #isWanted = true;
  #isReading = false;

  /** Takes over the connection; reads freely until told otherwise by {@link want}. */
  constructor(connection: Connection) {
    super({ allowHalfOpen: true });
    this.#connection = connection;
  }

  /** Whether somebody waits for bytes. One piece that is under way may still come after nobody does. */
  want(isWanted: boolean): void {
    this.#isWanted = isWanted;
    this.#readOne();
  }

  override _read(): void {
    this.#hasRoom = true;
    this.#readOne();
  }

  override _write(chunk: Uint8Array, _encoding: unknown, done: (error?: Error | null) => void): void {
    this.#connection.write(chunk).then(() => done(), (error) => {
      this.failure ??= error;
      done(error);
    });
  }

  /** Ends it after this turn, in which the runtime may yet have to tell the other end why. */
  override destroy(error?: Error): this {
    setImmediate(() => super.destroy(error));
    return this;
  }

  override _destroy(_error: Error | null, done: (error?: Error | null) => void): void {
    this.#connection.close();
    done();
  }

  #readOne(): void {
    if (!this.#hasRoom || !this.#isWanted || this.#isReading || this.destroyed) return;
    this.#isReading = true;
    this.#connection.read(this.#buffer).then((count) => {
      this.#isReading = false;
      this.#hasRoom = false;
      this.push(count === null ? null : this.#buffer.slice(0, count));
    }, (error) => {
      this.failure ??= error;
      this.destroy();
    });
  }
}
