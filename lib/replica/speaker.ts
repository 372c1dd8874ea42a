/**
 * Says things to a peer one after another, for callers that do not wait. A peer that takes nothing for too long is
 * left: whoever reads from the connection meets its end, and tells. To one that has closed it nothing more is said:
 * what it said before, such as why, is still there to be read.
 */
import { ZrsError } from "../errors.ts";
import type { Clock, Connection } from "../ports/mod.ts";
import { withDeadline } from "./waiting.ts";

/** More than so many bytes are never kept for a peer that does not take them. */
const MAX_WAITING_BYTES = 1024 * 1024;

export class Speaker {
  readonly #clock: Clock;
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  #waitingBytes = 0;
  #said: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor({ clock }: { readonly clock: Clock }, connection: Connection, timeoutMs: number) {
    this.#clock = clock;
    this.#connection = connection;
    this.#timeoutMs = timeoutMs;
  }

  /** Whether something waits to be taken. */
  get isBusy(): boolean {
    return this.#waitingBytes > 0;
  }

  /** Resolves when it has been taken, or the connection has ended. Never rejects for a lost peer. */
  say(bytes: Uint8Array): Promise<void> {
    if (this.#waitingBytes > MAX_WAITING_BYTES) this.#connection.close();
    this.#waitingBytes += bytes.length;
    return this.#said = this.#said.then(() => this.#write(bytes));
  }

  /** Nothing more is said. */
  stop(): void {
    this.#stopped = true;
  }

  async #write(bytes: Uint8Array): Promise<void> {
    try {
      if (this.#stopped) return;
      await withDeadline(
        this.#clock,
        this.#timeoutMs,
        () => this.#connection.close(),
        this.#connection.write(bytes),
      );
    } catch (error) {
      if (!(error instanceof ZrsError)) throw error;
      this.#stopped = true;
    } finally {
      this.#waitingBytes -= bytes.length;
    }
  }
}
