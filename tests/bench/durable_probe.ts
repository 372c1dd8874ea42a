/**
 * Learns from a secondary itself when a transaction is durable there, by being its secondary: it sends on
 * nothing that is not on disk.
 */
import { encodeGreeting } from "../../lib/zrs/mod.ts";

/** A connection to the address where a secondary of ours serves others. */
export class DurableProbe implements Disposable {
  readonly #connection: Deno.TcpConn;

  private constructor(connection: Deno.TcpConn) {
    this.#connection = connection;
  }

  /** Connects as one that has all but the last transaction: it is made to wait until that one is there. */
  static async connect(address: string, beforeLast: bigint): Promise<DurableProbe> {
    const colon = address.lastIndexOf(":");
    const connection = await Deno.connect({
      hostname: address.slice(0, colon),
      port: Number(address.slice(colon + 1)),
    });
    await connection.write(encodeGreeting("zrs2.1", beforeLast));
    return new DurableProbe(connection);
  }

  /** Resolves when the last transaction begins to come: it is durable. @throws Error when the secondary ends */
  async waitForLast(): Promise<void> {
    if (await this.#connection.read(new Uint8Array(1024)) === null) {
      throw new Error("The secondary closed the connection before it had caught up");
    }
  }

  [Symbol.dispose](): void {
    this.#connection.close();
  }
}
