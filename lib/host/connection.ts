/** One stream of bytes to another process, over Deno's sockets. */

import type { Connection } from "../ports/mod.ts";
import { UnavailableError } from "../errors.ts";
import { networkWords } from "./network_failure.ts";

export class HostConnection implements Connection {
  readonly peer: string;
  written = 0;
  readonly #conn: Deno.Conn;
  #closed = false;

  /** Takes over a connected socket. */
  constructor(conn: Deno.Conn, peer: string) {
    this.#conn = conn;
    this.peer = peer;
    // Messages are written whole, so waiting for more to send with them only costs time.
    if (isTcp(conn)) setNoDelay(conn);
  }

  async read(into: Uint8Array): Promise<number | null> {
    try {
      return await this.#conn.read(into);
    } catch (error) {
      throw this.#failure(`Cannot read from ${this.peer}`, error);
    }
  }

  /** One writer at a time: the pieces of two would mix. */
  async write(bytes: Uint8Array): Promise<void> {
    try {
      for (let done = 0; done < bytes.length;) {
        const count = await this.#conn.write(bytes.subarray(done));
        done += count;
        this.written += count;
      }
    } catch (error) {
      throw this.#failure(`Cannot write to ${this.peer}`, error);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#conn.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #failure(action: string, cause: unknown): UnavailableError {
    const words = this.#closed ? "the connection was closed at this end" : networkWords(cause);
    return new UnavailableError(`${action}: ${words}`, { peer: this.peer, cause });
  }
}

function isTcp(conn: Deno.Conn): conn is Deno.TcpConn {
  return conn.localAddr.transport === "tcp";
}

/** A peer that has already reset the connection makes this fail; the first read or write will tell. */
function setNoDelay(conn: Deno.TcpConn): void {
  try {
    conn.setNoDelay(true);
  } catch {
    // Only speed is lost.
  }
}
