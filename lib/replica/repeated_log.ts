/**
 * A log for what peers cause, who may come again a thousand times a second: the same message about the same
 * host is told once a minute, with the count of those that were left out since.
 */
import type { Clock, Log, LogFacts } from "../ports/mod.ts";

const TOLD_AGAIN_AFTER_MS = 60_000;
/** Different messages that are remembered; beyond that the oldest may be told again sooner. */
const MESSAGES_REMEMBERED = 1_000;

interface Told {
  readonly atMs: number;
  /** The time of day. */
  readonly at: string;
  leftOut: number;
}

export class RepeatedLog {
  readonly #clock: Clock;
  readonly #log: Log;
  /** By host and message, the one told longest ago first. */
  readonly #told = new Map<string, Told>();

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  /**
   * @param about "host:port" of the peer, or whatever the message is about; ports do not tell peers apart, since
   * each connection has another
   */
  tell(level: "warning" | "error", about: string, message: string, facts?: LogFacts): void {
    const host = about.replace(/:\d+$/, "");
    const key = `${host} ${message.replaceAll(about, host)}`;
    const nowMs = this.#clock.monotonic();
    const before = this.#told.get(key);
    if (before !== undefined && nowMs - before.atMs < TOLD_AGAIN_AFTER_MS) {
      before.leftOut++;
      return;
    }
    this.#told.delete(key);
    this.#told.set(key, { atMs: nowMs, at: new Date(this.#clock.now()).toISOString(), leftOut: 0 });
    if (this.#told.size > MESSAGES_REMEMBERED) this.#told.delete(this.#told.keys().next().value!);
    const leftOut = before?.leftOut ?? 0;
    const more = leftOut === 0 ? "" : ` (and ${leftOut} times since ${before!.at})`;
    this.#log[level](`${about}: ${message}${more}`, facts);
  }
}
