/**
 * In what way a source is asked: by which protocol, and whether for the bytes of its file. Learnt from how
 * connections end, for the next one.
 */
import { ProtocolError, RefusedError, UnavailableError, type ZrsError } from "../../errors.ts";
import type { Begun } from "../../native/mod.ts";
import type { Clock, Log } from "../../ports/mod.ts";
import { type BlobChoice, WITHOUT_BLOBS } from "../blob_use.ts";
import { IdleEnd, type Intake, type IntakeContext } from "./intake.ts";
import { NativeIntake, NoNativeError } from "./native_intake.ts";
import { MisfitError } from "./native_runs.ts";
import type { Sink } from "./sink.ts";
import { ZrsIntake } from "./zrs_intake.ts";

/** `auto`: the native stream where the source speaks it, else zrs2. */
export type Protocol = "auto" | "native" | "zrs2";

/** A source that spoke no native stream is asked for zrs2 so long; it may be another program by then. */
const ZRS2_MEMORY_MS = 600_000;
/** A source that has spoken it before must be silent in so many connections to be asked for zrs2. */
const UNHEARD_COUNT = 3;

/** There was nobody to connect to: no judgement on what the source sends. */
export class NotConnected extends UnavailableError {}

export class Approach {
  readonly #clock: Clock;
  readonly #log: Log;
  /** As messages name it. */
  readonly #source: string;
  readonly #protocol: Protocol;
  readonly #blobs: BlobChoice;
  /** Whether the source has said that it has no files of blobs. */
  #isWithoutBlobs = false;
  /** What the connection that was prepared is to speak. */
  #isZrs2 = false;
  /** Until then the source is taken for one that speaks zrs2 only. */
  #zrs2UntilMs = -Infinity;
  /** How many connections in a row ended without a word of the native stream, and whether there was ever one. */
  #unheard = 0;
  #hasHeard = false;
  /**
   * Our last transaction when what follows in the source's file did not fit behind it. That comes record by record;
   * once it has, the files may agree again, and every run is checked whatever has been before.
   */
  #misfitAfter: bigint | undefined;

  /** @param misfitAfter the last transaction here, where it is known already that what follows does not fit */
  constructor(
    clock: Clock,
    log: Log,
    source: string,
    protocol: Protocol,
    blobs: BlobChoice,
    misfitAfter?: bigint,
  ) {
    this.#blobs = blobs;
    this.#clock = clock;
    this.#log = log;
    this.#source = source;
    this.#protocol = protocol;
    this.#misfitAfter = misfitAfter;
  }

  /** What the connection that was prepared last speaks. */
  get protocol(): "native" | "zrs2" {
    return this.#isZrs2 ? "zrs2" : "native";
  }

  /**
   * Gets ready for the next connection.
   * @param lastTid the last transaction that is durable here
   * @returns what the sink keeps of the next one; what nobody could go on behind is forgotten
   * @throws DiskError
   */
  async prepare(sink: Sink, lastTid: bigint): Promise<Begun | undefined> {
    this.#isZrs2 = this.#protocol === "zrs2" ||
      this.#protocol === "auto" && this.#clock.monotonic() < this.#zrs2UntilMs;
    if (!this.#isZrs2 && this.#mayBeRaw(lastTid)) return await sink.begun();
    await sink.abort();
    return undefined;
  }

  /** What is to receive from the connection that was prepared. */
  intake(context: IntakeContext, begun: Begun | undefined): Intake {
    if (this.#isZrs2) return new ZrsIntake(context, this.#zrsVersion);
    return new NativeIntake(context, this.#mayBeRaw(context.storage.lastTid), begun);
  }

  /** A source without blobs refuses, in words, whoever says that it takes some; one with blobs whoever says it does not. */
  get #zrsVersion(): "zrs2.0" | "zrs2.1" {
    return this.#blobs === "none" && this.#isWithoutBlobs ? "zrs2.0" : "zrs2.1";
  }

  /** Whether the source may send bytes as they lie in its file. */
  #mayBeRaw(lastTid: bigint): boolean {
    return this.#misfitAfter === undefined || lastTid > this.#misfitAfter;
  }

  /** A connection is over, whatever became of it. */
  ended(intake: Intake): void {
    this.#hasHeard ||= intake instanceof NativeIntake && intake.hasHeard;
  }

  /**
   * Learns from the end of a connection in what way to ask next time.
   * @param lastTid the last transaction that is durable here
   * @returns whether to ask at once
   */
  learn(failure: ZrsError, lastTid: bigint): boolean {
    if (failure instanceof MisfitError) {
      this.#misfitAfter = lastTid;
      this.#log.info(`${failure.message}; asking ${this.#source} for it record by record`);
      return true;
    }
    if (failure instanceof RefusedError && this.#zrsVersion === "zrs2.1" && this.#blobs === "none") {
      this.#isWithoutBlobs = failure.message.includes(WITHOUT_BLOBS);
      if (this.#isWithoutBlobs) return true;
    } else if (!(failure instanceof NotConnected)) {
      this.#isWithoutBlobs &&= failure instanceof IdleEnd; // it may be another source by now
    }
    if (this.#protocol !== "auto") return false;
    if (!(failure instanceof NoNativeError)) {
      this.#unheard = 0;
      return false;
    }
    // A source of ours that is just going away looks the same.
    if (++this.#unheard < UNHEARD_COUNT && this.#hasHeard) return false;
    this.#unheard = 0;
    this.#zrs2UntilMs = this.#clock.monotonic() + ZRS2_MEMORY_MS;
    // Who says something else entirely, TLS perhaps, has most likely no zrs2 for us either.
    const said = failure.cause instanceof ProtocolError ? ` (${failure.message})` : "";
    this.#log.info(`${this.#source} does not speak zrs's native stream: going on with zrs2${said}`);
    return true;
  }

  /** Whatever is wrong with the source may hide the native stream: it is to be asked for that again. */
  forgetZrs2(): void {
    this.#zrs2UntilMs = -Infinity;
  }
}
