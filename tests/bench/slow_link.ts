/** A proxy that lets only so many bytes a second pass to whoever connects, and all that comes back. */

/** Short enough that the pace is even, long enough that the timer's grain does not count. */
const PIECE_BYTES = 64 * 1024;

export class SlowLink implements Disposable {
  readonly address: string;
  readonly #listener: Deno.TcpListener;
  readonly #connections: Deno.Conn[] = [];

  /** @param to where it leads, as host:port */
  constructor(to: string, bytesPerSecond: number) {
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.address = `127.0.0.1:${this.#listener.addr.port}`;
    void this.#serve(Number(to.slice(to.lastIndexOf(":") + 1)), bytesPerSecond);
  }

  [Symbol.dispose](): void {
    this.#listener.close();
    for (const each of this.#connections) each.close();
  }

  async #serve(port: number, bytesPerSecond: number): Promise<void> {
    try {
      for await (const near of this.#listener) {
        const far = await Deno.connect({ hostname: "127.0.0.1", port });
        this.#connections.push(near, far);
        void pass(far, near, bytesPerSecond);
        void pass(near, far, Infinity);
      }
    } catch {
      // An end has gone: so has what was measured.
    }
  }
}

async function pass(from: Deno.Conn, to: Deno.Conn, bytesPerSecond: number): Promise<void> {
  const piece = new Uint8Array(PIECE_BYTES);
  let freeMs = performance.now();
  try {
    for (let count; (count = await from.read(piece)) !== null;) {
      for (let done = 0; done < count;) done += await to.write(piece.subarray(done, count));
      freeMs = Math.max(freeMs, performance.now() - 100) + count / bytesPerSecond * 1000;
      const waitMs = freeMs - performance.now();
      if (waitMs > 1) await new Promise((resolve) => setTimeout(resolve, waitMs));
    }
    await to.closeWrite();
  } catch {
    // Closed at this end or at the other.
  }
}
