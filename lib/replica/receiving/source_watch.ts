/** What a secondary has seen of its source, for whoever asks how it is. */
import { RefusedError, type ZrsError } from "../../errors.ts";
import { type Address, type Clock, formatAddress } from "../../ports/mod.ts";
import { sentence } from "../sending/feed.ts";
import type { SourceState } from "./intake.ts";
import { type Lag, secondsBehind, type SourceStatus } from "../status.ts";

/** Up to where transactions have come: a tid, and a position in the file. */
export interface Mark {
  readonly tid: bigint;
  readonly end: number;
}

export class SourceWatch {
  readonly #clock: Clock;
  readonly #address: Address;
  #sinceMs: number;
  #protocol: string | undefined;
  #lastError: SourceStatus["lastError"];
  #nextAttemptMs: number | undefined;
  /** Up to where the source has packed its file, as it has last said. */
  packedTo: bigint | undefined;

  constructor(clock: Clock, address: Address) {
    this.#clock = clock;
    this.#address = address;
    this.#sinceMs = clock.now();
  }

  /** An attempt to connect is under way. */
  connecting(): void {
    this.#nextAttemptMs = undefined;
  }

  connected(protocol: string): void {
    this.#protocol = protocol;
    this.#sinceMs = this.#clock.now();
  }

  /** The connection, or the attempt at one, has ended. @param why undefined: this end wanted it, nothing is wrong */
  ended(why: ZrsError | undefined): void {
    const nowMs = this.#clock.now();
    if (this.#protocol !== undefined) this.#sinceMs = nowMs;
    this.#protocol = undefined;
    if (why === undefined) return;
    const words = why instanceof RefusedError ? `refused: ${why.message}` : sentence(why);
    this.#lastError = { words, atMs: nowMs };
  }

  /** @param waitMs until the next attempt */
  waiting(waitMs: number): void {
    this.#nextAttemptMs = this.#clock.now() + waitMs;
  }

  /**
   * @param received the end of what has come, a transaction under way included, and the last whole one's tid
   * @param durable the same of what is on disk
   * @param source what the source has said that it has
   */
  status(received: Mark, durable: Mark, source: SourceState | undefined): SourceStatus {
    return {
      address: formatAddress(this.#address),
      connected: this.#protocol !== undefined,
      sinceMs: this.#sinceMs,
      protocol: this.#protocol,
      receivedTid: received.tid,
      durableTid: durable.tid,
      lag: source === undefined
        ? { ...lagBehind(durable, received.tid, received.end), against: "received" }
        : { ...lagBehind(durable, source.lastTid, source.end), against: "source" },
      lastTid: source?.lastTid,
      lastError: this.#lastError,
      nextAttemptMs: this.#nextAttemptMs,
      packedTo: this.packedTo,
    };
  }
}

function lagBehind(durable: Mark, tid: bigint, end: number | undefined): Lag {
  const bytes = durable.tid >= tid ? 0 : end === undefined ? undefined : Math.max(0, end - durable.end);
  return { bytes, seconds: secondsBehind(durable.tid, tid) };
}
