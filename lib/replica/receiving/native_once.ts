/** What a source owes to a copy that catches up once, by the native stream: it must not wait for ever, nor send less. */
import { ProtocolError, UnavailableError } from "../../errors.ts";
import type { Welcome } from "../../native/mod.ts";
import { describeTid, NO_TID } from "../../zodb/mod.ts";
import type { Once } from "./intake.ts";

/** A source that asks nothing for so many beats, and has less than we have, waits until it has caught up itself. */
const MOST_BEATS_BEHIND = 30;

export class NativeOnce {
  readonly #once: Once;
  /** The copy's last transaction. */
  readonly #start: bigint;
  #promisedTid = NO_TID;
  #beatsBehind = 0;

  constructor(once: Once, start: bigint) {
    this.#once = once;
    this.#start = start;
  }

  /** The source compares histories: it does not wait. */
  asked(): void {
    this.#beatsBehind = 0;
  }

  /** The source is there, and has not welcomed us yet. @throws UnavailableError where it most likely lags */
  heard(sourceLastTid: bigint): void {
    if (sourceLastTid >= this.#start || ++this.#beatsBehind < MOST_BEATS_BEHIND) return;
    throw new UnavailableError(
      `The source is most likely a replica that lags behind this one: it ends with ${
        describeTid(sourceLastTid)
      }, and this one with ${describeTid(this.#start)}`,
      { hint: "try again when it has caught up, or take the source from which it replicates" },
    );
  }

  /** The source will send what it has now. @throws UnavailableError where nothing is to be taken */
  welcomed({ lastTid, end, fit = "unknown", withinPack }: Welcome): void {
    this.#promisedTid = lastTid;
    this.#once.judge({ lastTid, end, fit, isWithinPack: withinPack });
  }

  /**
   * The source says that it has sent all.
   * @param lastTid what it names as the last transaction
   * @param receivedTid what has come last
   * @throws ProtocolError where that cannot be
   */
  completed(lastTid: bigint, receivedTid: bigint): void {
    if (lastTid > receivedTid) {
      throw new ProtocolError(
        `Cannot take message complete: the source has not sent ${
          describeTid(lastTid)
        }, which it names as the last`,
      );
    }
    if (lastTid >= this.#promisedTid || this.#promisedTid > this.#once.until) return;
    throw new ProtocolError(
      `Cannot take message complete: the source ends with ${describeTid(lastTid)}, and it has promised all ` +
        `up to ${describeTid(this.#promisedTid)}`,
    );
  }
}
