/** Acknowledgements: what has been sent or received, and how far that is durable at the secondary. */
import { frame, viewOf, writeU64 } from "../bytes/mod.ts";
import { ProtocolError } from "../errors.ts";
import { describeTid } from "../zodb/mod.ts";
import type { Checksum } from "./checksum.ts";
import type { Acknowledgement } from "./decoder.ts";
import { ACKNOWLEDGEMENT, KIND } from "./frames.ts";

/** @returns the whole frame */
export function encodeAcknowledgement(acknowledgement: Acknowledgement): Uint8Array {
  const body = new Uint8Array(ACKNOWLEDGEMENT.size);
  const view = viewOf(body);
  body[0] = KIND.acknowledgement;
  view.setBigUint64(ACKNOWLEDGEMENT.received, acknowledgement.received);
  view.setBigUint64(ACKNOWLEDGEMENT.durable, acknowledgement.durable);
  writeU64(view, ACKNOWLEDGEMENT.bytes, acknowledgement.bytes);
  view.setUint32(ACKNOWLEDGEMENT.checksum, acknowledgement.checksum);
  return frame(body);
}

interface Milestone {
  readonly tid: bigint;
  readonly bytes: number;
  readonly checksum: number;
  /** Where its end lies in the source's file; undefined at a secondary. */
  readonly position: number | undefined;
}

/** The ends of runs that have passed by, until they are acknowledged. Both ends keep such an account. */
export class Milestones {
  #waiting: Milestone[] = [];
  #durable: Milestone;
  #last: bigint;
  #received: bigint;

  /** @param startTid what the secondary had at the welcome */
  constructor(startTid: bigint) {
    this.#durable = { tid: startTid, bytes: 0, checksum: 0, position: undefined };
    this.#last = this.#received = startTid;
  }

  /** How many have passed and are not acknowledged. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** The last transaction that is durable at the secondary. */
  get durable(): bigint {
    return this.#durable.tid;
  }

  /** Where {@link durable} ends in the source's file; undefined where that was not said. */
  get durablePosition(): number | undefined {
    return this.#durable.position;
  }

  /** At the source: the last transaction that the secondary says has come. */
  get received(): bigint {
    return this.#received;
  }

  /**
   * A run, or a transaction, has passed by whole.
   * @param position at the source: where it ends in the file
   */
  pass(tid: bigint, { bytes, value }: Readonly<Checksum>, position?: number): void {
    this.#waiting.push({ tid, bytes, checksum: value, position });
    this.#last = tid;
  }

  /**
   * What the secondary can acknowledge now that `durable` is on its disk.
   * @returns undefined when that is nothing new
   */
  reach(durable: bigint): Acknowledgement | undefined {
    let reached = 0;
    while (reached < this.#waiting.length && this.#waiting[reached]!.tid <= durable) reached++;
    if (reached === 0) return undefined;
    const { tid, bytes, checksum } = this.#durable = this.#waiting[reached - 1]!;
    this.#waiting = this.#waiting.slice(reached);
    return { received: this.#last, durable: tid, bytes, checksum };
  }

  /**
   * Takes what the secondary has acknowledged.
   * @throws ProtocolError when that was never sent, or is not what was sent
   */
  take({ received, durable, bytes, checksum }: Acknowledgement): void {
    const at = this.#waiting.findIndex(({ tid }) => tid === durable);
    if (at < 0 || received > this.#last || received < durable) {
      throw new ProtocolError(
        `Cannot take acknowledgement of ${describeTid(durable)}: what was sent ends with ` +
          `${describeTid(this.#last)}, and up to ${describeTid(this.#durable.tid)} is acknowledged`,
        { tid: durable },
      );
    }
    const sent = this.#waiting[at]!;
    if (sent.bytes !== bytes || sent.checksum !== checksum) {
      throw new ProtocolError(
        `Cannot take acknowledgement of ${
          describeTid(durable)
        }: the secondary has other bytes than were sent`,
        { tid: durable },
      );
    }
    this.#durable = sent;
    this.#received = received;
    this.#waiting = this.#waiting.slice(at + 1);
  }
}
