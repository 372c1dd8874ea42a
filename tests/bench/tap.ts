/** A proxy that passes everything on at once, and lets somebody look at what passes. */

const PIECE_BYTES = 64 * 1024;

export interface Watcher {
  /** A secondary has connected. */
  connected?(): void;
  /** Bytes that pass; a view, valid during the call. @param fromSource else to it */
  passing(bytes: Uint8Array, fromSource: boolean): void;
}

export class Tap implements Disposable {
  readonly address: string;
  readonly #listener: Deno.TcpListener;
  readonly #connections: Deno.TcpConn[] = [];

  /** @param to where it leads, as host:port */
  constructor(to: string, watcher: Watcher) {
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.address = `127.0.0.1:${this.#listener.addr.port}`;
    void this.#serve(Number(to.slice(to.lastIndexOf(":") + 1)), watcher);
  }

  [Symbol.dispose](): void {
    this.#listener.close();
    for (const each of this.#connections) each.close();
  }

  async #serve(port: number, watcher: Watcher): Promise<void> {
    try {
      for await (const near of this.#listener) {
        watcher.connected?.();
        const far = await Deno.connect({ hostname: "127.0.0.1", port });
        this.#connections.push(near, far);
        for (const each of [near, far]) each.setNoDelay(true);
        void pass(far, near, (bytes) => watcher.passing(bytes, true));
        void pass(near, far, (bytes) => watcher.passing(bytes, false));
      }
    } catch {
      // An end has gone: so has what was measured.
    }
  }
}

async function pass(from: Deno.Conn, to: Deno.Conn, look: (bytes: Uint8Array) => void): Promise<void> {
  const piece = new Uint8Array(PIECE_BYTES);
  try {
    for (let count; (count = await from.read(piece)) !== null;) {
      look(piece.subarray(0, count));
      for (let done = 0; done < count;) done += await to.write(piece.subarray(done, count));
    }
    await to.closeWrite();
  } catch {
    // Closed at this end or at the other.
  }
}
