/**
 * A limit on what a node sends to all its secondaries together, in bytes a second. Whoever wants to send takes
 * leave for so many bytes, and waits as long as it takes for those before to be paid for.
 */
import type { Clock, Connection } from "../../ports/mod.ts";
import { sleep } from "../waiting.ts";

/** A piece takes no longer than this, so that signs of life come between. */
const PIECE_MS = 250;
const LEAST_PIECE_BYTES = 1024;

export class Throttle {
  readonly #clock: Clock;
  readonly #bytesPerSecond: number;
  /** When all that was granted so far has been paid for. */
  #paidMs: number;

  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
    this.#paidMs = clock.monotonic();
  }

  /** The most that is to be sent at once. */
  get pieceBytes(): number {
    return Math.max(LEAST_PIECE_BYTES, Math.floor(this.#bytesPerSecond * PIECE_MS / 1000));
  }

  /**
   * Grants so many bytes.
   * @returns how long to wait before sending them, in milliseconds
   */
  take(bytes: number): number {
    const nowMs = this.#clock.monotonic();
    const startMs = Math.max(nowMs, this.#paidMs);
    this.#paidMs = startMs + bytes * 1000 / this.#bytesPerSecond;
    return startMs - nowMs;
  }
}

/** A connection from which no more is read than the throttle grants. @param signal ends the waiting for that */
export function limitedConnection(
  clock: Clock,
  connection: Connection,
  throttle: Throttle,
  signal?: AbortSignal,
): Connection {
  return {
    peer: connection.peer,
    get written() {
      return connection.written;
    },
    async read(into) {
      const count = await connection.read(into.subarray(0, throttle.pieceBytes));
      if (count !== null) await sleep(clock, throttle.take(count), signal);
      return count;
    },
    write: (bytes) => connection.write(bytes),
    close: () => connection.close(),
    [Symbol.dispose]: () => connection.close(),
  };
}
