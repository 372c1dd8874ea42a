/**
 * A connection by the native stream that breaks off behind the beginning of a large transaction, of which some bytes
 * have come otherwise than they were sent: what is kept of it must not count.
 */
import { createHash } from "node:crypto";
import type { Connection } from "../../lib/ports/mod.ts";
import { type Frame, messageOf } from "./native_tap.ts";
import { ReframedConnection } from "./reframed.ts";

/** For all connections of a node. */
export interface BrokenOffRuns {
  /** Changes what comes of a run. @param offset where in the run it stands */
  readonly change: (content: Uint8Array, offset: number) => void;
  /** Whether the node says in its next hello that it has what was sent. */
  readonly claimsSame: boolean;
  /** Behind so many bytes of one run the connection ends. */
  readonly least: number;
  /** How many are still to be broken off. */
  left: number;
  /** What was sent of the run that was broken off last. */
  sent?: Uint8Array;
}

const CONTENT = 0x44;
const BYE = new TextEncoder().encode(JSON.stringify({ type: "bye", code: "stopping", reason: "broken off" }));

export class BrokenOffConnection extends ReframedConnection {
  readonly #runs: BrokenOffRuns;
  /** Of the run under way: only what is broken off may be changed, and that shows later. */
  readonly #held: Uint8Array[] = [];
  #heldBytes = 0;
  /** The end of a run comes whose beginning is there. */
  #isResumed = false;
  /** A transaction comes record by record. */
  #isByRecord = false;

  constructor(connection: Connection, runs: BrokenOffRuns) {
    super(connection);
    this.#runs = runs;
  }

  protected override onRead(frame: Frame): readonly Uint8Array[] {
    const { kind, body } = frame;
    if (messageOf(frame)?.resumeAt !== undefined) this.#isResumed = true;
    if (kind === "T" || kind === "C") this.#isByRecord = kind === "T";
    if (kind === "W") {
      this.#isResumed = false;
      return [...this.#release(), body];
    }
    if (kind !== "D" || this.#isByRecord || this.#isResumed || this.#runs.left === 0) return [body];
    this.#held.push(body.subarray(1));
    this.#heldBytes += body.length - 1;
    return this.#heldBytes < this.#runs.least ? [] : this.#breakOff();
  }

  protected override onWrite(frame: Frame): readonly Uint8Array[] {
    const { sent, claimsSame } = this.#runs;
    const message = messageOf(frame);
    const begun = message?.begun as { readonly bytes: number } | undefined;
    if (!claimsSame || message === undefined || begun?.bytes !== sent?.length || sent === undefined) {
      return [frame.body];
    }
    const digest = createHash("sha256").update(sent).digest("hex");
    return [new TextEncoder().encode(JSON.stringify({ ...message, begun: { ...begun, digest } }))];
  }

  #release(): Uint8Array[] {
    this.#heldBytes = 0;
    return this.#held.splice(0).map((content) => new Uint8Array([CONTENT, ...content]));
  }

  #breakOff(): Uint8Array[] {
    this.#runs.left--;
    this.#runs.sent = new Uint8Array(this.#held.flatMap((content) => [...content]));
    let offset = 0;
    const frames = this.#release();
    for (const frame of frames) {
      this.#runs.change(frame.subarray(1), offset);
      offset += frame.length - 1;
    }
    return [...frames, BYE];
  }
}
