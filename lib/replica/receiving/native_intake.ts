/**
 * Receiving by the native stream, the conversation: a hello, questions about our history, then transactions, which
 * `NativeRuns` takes. Acknowledges what is durable, says now and then that we are there, and knows when it has all
 * that the source has.
 */
import { ProtocolError, RefusedError, UnavailableError, type ZrsError } from "../../errors.ts";
import {
  type Begun,
  type Control,
  encodeAcknowledgement,
  encodeControl,
  NativeDecoder,
  type NativeHandler,
  NONCE_BYTES,
  SecondaryHandshake,
  SecretError,
  VERSION,
  type WantedBlobs,
  type Welcome,
} from "../../native/mod.ts";
import { describeTid, formatTid, NO_TID } from "../../zodb/mod.ts";
import type { BlobChoice } from "../blob_use.ts";
import { UnwantedError } from "./incoming.ts";
import {
  CompleteEnd,
  IdleEnd,
  type Intake,
  type IntakeContext,
  readWithin,
  type SourceState,
} from "./intake.ts";
import { agreedBeatMs, Beats, wantedBeatMs } from "../beats.ts";
import { answerQuestion, lastDigest } from "../lineage/lineage.ts";
import { NativeOnce } from "./native_once.ts";
import { MisfitError, NativeRuns } from "./native_runs.ts";
import { refusalOf } from "../lineage/refusal.ts";
import { Speaker } from "../speaker.ts";
import { sleep } from "../waiting.ts";

/** The source closed the connection without a word of the native stream: it most likely speaks zrs2 only. */
export class NoNativeError extends UnavailableError {}

/** The source asks to be connected to again, now. */
export class AgainError extends IdleEnd {}

/** Who refuses blobs says nothing of them: the source then ends the stream at the first, with the reason. */
const WANTED_BLOBS: Readonly<Record<BlobChoice, WantedBlobs | undefined>> = {
  refuse: undefined,
  none: "nothing",
  shared: "presence",
  replicate: "content",
};

/** Clocks that differ by more are worth a warning: lag in seconds and new tids depend on them. */
const CLOCK_TOLERANCE_MS = 60_000;

/**
 * A buffer that is written has several runs of the source in it, and little of the next one, which has to be moved:
 * more is written between two syncs than with one or two large runs.
 */
const RUNS_IN_A_BUFFER = 3;

/** How often one that catches up once wants to hear of the source. */
const ONCE_BEAT_MS = 1_000;

export class NativeIntake implements Intake, NativeHandler {
  readonly protocol = "native";
  readonly #context: IntakeContext;
  readonly #raw: boolean;
  /** What the sink has of the next transaction, until the welcome says what becomes of it. */
  readonly #begun: Begun | undefined;
  readonly #speaker: Speaker;
  readonly #decoder: NativeDecoder;
  readonly content: NativeRuns;
  /** Where this is to catch up once. */
  readonly #once: NativeOnce | undefined;
  readonly #start: bigint;
  /** Until it is done nothing is said of what we have, and nothing taken. */
  readonly #handshake: SecondaryHandshake;
  #heard = false;
  #welcome = false;
  #question: { readonly value: unknown } | undefined;
  #source: { readonly lastTid: bigint; readonly end: number } | undefined;
  #beatMs: number | undefined;
  #clockTold = false;
  #behindTold = false;
  /** Said of the last transaction that was asked for, where that is not all. */
  #complete: { readonly lastTid: bigint } | undefined;
  /** The last transaction of all that the source has, once it has come here. */
  #all: bigint | undefined;
  #completeTold = false;
  #isStopping = false;

  /**
   * @param raw whether the source may send bytes as they lie in its file
   * @param begun what the sink has of the next transaction; only where `raw`
   */
  constructor(context: IntakeContext, raw: boolean, begun: Begun | undefined) {
    const { ports, storage, connection, options } = context;
    this.#context = context;
    this.#raw = raw;
    this.#begun = begun;
    this.#start = storage.lastTid;
    this.#decoder = new NativeDecoder({ compressed: options.compress !== "off" });
    this.#speaker = new Speaker(ports, connection, options.peerTimeoutMs);
    const { secret, once } = options;
    this.content = new NativeRuns(context, this.#decoder, { raw, until: once?.until });
    this.#once = once && new NativeOnce(once, this.#start);
    this.#handshake = new SecondaryHandshake(secret, () => ports.random.bytes(NONCE_BYTES));
  }

  /** What the source has, as far as it has said; undefined before that. */
  get source(): SourceState | undefined {
    if (this.#source === undefined) return undefined;
    const { lastTid, end } = this.#source;
    return { lastTid, end: this.content.isRaw ? end : undefined };
  }

  /** Whether the source has said anything by the native stream. */
  get hasHeard(): boolean {
    return this.#heard;
  }

  stop(reason = "this secondary stops"): void {
    this.#isStopping = true;
    const { connection } = this.#context;
    void this.#speaker.say(encodeControl({ type: "bye", code: "stopping", reason }))
      .finally(() => connection.close());
  }

  async receive(): Promise<ZrsError> {
    const { connection, storage, options, ports: { clock, log } } = this.#context;
    const wanted = this.#start === NO_TID ? "everything" : `what follows ${describeTid(this.#start)}`;
    log.info(`Connected to ${connection.peer}, asking for ${wanted}`);
    const chunk = new Uint8Array(options.readBytes);
    using _acknowledging = storage.subscribe(() => this.#acknowledge());
    const wantedMs = options.once === undefined ? wantedBeatMs(options.peerTimeoutMs) : ONCE_BEAT_MS;
    using beats = new Beats(clock, wantedMs, () => this.#beat());
    try {
      for (;;) {
        await this.#introduce();
        const silence = "the source has said nothing";
        const count = await readWithin(clock, connection, chunk, options.peerTimeoutMs, silence);
        for (let at = 0; at < count;) {
          at = this.#push(chunk, at, count);
          if (this.#beatMs !== undefined) beats.everyMs = agreedBeatMs(wantedMs, this.#beatMs);
          if (this.#question !== undefined) await this.#answer();
          await this.content.settle();
        }
        if (this.#complete !== undefined) return await this.#finish(this.#complete.lastTid);
        await this.#context.saveIndexWhenDue();
      }
    } catch (error) {
      if (error instanceof ProtocolError || error instanceof UnwantedError || error instanceof MisfitError) {
        await this.#speaker.say(encodeControl({ type: "bye", code: "trouble", reason: error.message }));
        return error;
      }
      if (!(error instanceof UnavailableError)) throw error;
      if (this.#isUnproved) return unproved(error);
      if (this.#heard || error instanceof NoNativeError) return error;
      return new NoNativeError(error.message, error.facts);
    } finally {
      this.#speaker.stop();
    }
  }

  control(message: Control, body: Uint8Array): void {
    this.#heard = true;
    if (this.#handshake.take(message, body)) return;
    switch (message.type) {
      case "ask":
        if (this.#welcome || this.#question !== undefined) break;
        this.#question = { value: message.question };
        this.#once?.asked();
        return;
      case "welcome":
        return this.#welcomed(message);
      case "refused":
        if (message.code === "unauthorised") throw new SecretError(`refused: ${message.reason}`);
        // Whoever has proved nothing cannot make us take back anything.
        throw this.#isUnproved ? new RefusedError(message.reason) : refusalOf(message);
      case "beat":
        this.#source = message;
        if (!this.#welcome) this.#heardEnd(message.lastTid);
        return this.#compareClocks(message.time);
      case "complete":
        if (!this.#welcome) break;
        this.#source = message;
        if (this.#once !== undefined) this.#complete = message;
        if (message.lastTid === this.content.lastTid) this.#all = message.lastTid;
        return this.#tellComplete();
      case "bye":
        if (!this.#isUnproved) this.#heardPacked(message.packedTo);
        if (message.code === "again") throw new AgainError(message.reason);
        throw message.code === "trouble"
          ? new RefusedError(message.reason)
          : new IdleEnd(`The source says goodbye: ${message.reason}`);
    }
    throw new ProtocolError(`Cannot take message ${message.type}: no source says that here`);
  }

  /** Whether the source has still to prove that it has our secret. */
  get #isUnproved(): boolean {
    return !this.#handshake.isDone;
  }

  /** Says what the beginning of the connection still wants. */
  async #introduce(): Promise<void> {
    const next = this.#handshake.next();
    if (next !== undefined) await this.#speaker.say(next === "hello" ? await this.#hello() : next);
  }

  async #hello(): Promise<Uint8Array> {
    const { storage, options } = this.#context;
    const { once } = options;
    return encodeControl({
      type: "hello",
      version: VERSION,
      software: options.software,
      name: options.name,
      lastTid: this.#start,
      digest: await lastDigest(storage.view, () => this.#pause()),
      end: storage.end,
      begun: this.#begun,
      blobs: WANTED_BLOBS[options.blobs.choice],
      begunBlobs: options.blobs.choice === "replicate"
        ? await options.blobs.incoming.begun(() => this.#pause())
        : undefined,
      missingBlobs: options.blobs.choice === "replicate" && options.blobs.incoming.marksMissing
        ? "mark"
        : undefined,
      runBytes: Math.floor(options.runBytes / RUNS_IN_A_BUFFER),
      beatMs: once === undefined ? wantedBeatMs(options.peerTimeoutMs) : ONCE_BEAT_MS,
      capabilities: [
        ...(this.#raw ? ["raw"] : []),
        ...(options.compress === "off" ? [] : ["zstd"]),
        ...(once === undefined ? [] : ["once"]),
      ],
      required: once === undefined ? [] : ["once"],
      until: once?.until,
    });
  }

  /** @throws NoNativeError when the first that came is none of the native stream */
  #push(chunk: Uint8Array, from: number, to: number): number {
    try {
      return this.#decoder.push(chunk, from, to, this);
    } catch (error) {
      if (this.#heard || !(error instanceof ProtocolError)) throw error;
      throw new NoNativeError(error.message, { cause: error });
    }
  }

  async #answer(): Promise<void> {
    const { storage } = this.#context;
    const question = this.#question!.value;
    const answer = await answerQuestion(storage.view, question, () => this.#pause());
    this.#question = undefined;
    await this.#speaker.say(encodeControl({ type: "answer", answer }));
  }

  /** Lets others work during a long walk through our file, which ends when this end stops. */
  async #pause(): Promise<void> {
    await sleep(this.#context.ports.clock, 0);
    if (this.#isStopping) throw new IdleEnd("This secondary stops");
  }

  #welcomed(message: Welcome): void {
    const { ports: { log }, connection } = this.#context;
    if (this.#welcome) throw new ProtocolError("Cannot take welcome: it has been said");
    if (message.version !== VERSION) {
      throw new ProtocolError(
        `Cannot take welcome: this end speaks version ${VERSION} of the native stream, the source ${message.version}`,
      );
    }
    this.#welcome = true;
    this.#beatMs = message.beatMs;
    this.#source = message;
    this.#once?.welcomed(message);
    if (message.notice !== undefined) log.warning(`${connection.peer}: ${message.notice}`);
    this.#heardPacked(message.packedTo);
    this.content.open(this.#begun, message.resumeAt);
  }

  #heardPacked(tid: bigint | undefined): void {
    if (tid !== undefined) this.#context.sourcePacked?.(tid);
  }

  /** All that was asked for has come: makes it durable, and says goodbye. */
  async #finish(lastTid: bigint): Promise<CompleteEnd> {
    this.#once!.completed(lastTid, this.content.lastTid);
    await this.#context.sink.drain();
    await this.#speaker.say(
      encodeControl({ type: "bye", code: "stopping", reason: "this copy is complete" }),
    );
    return new CompleteEnd("said");
  }

  /** Says what is durable now, unless it is said already. */
  #acknowledge(): void {
    const acknowledgement = this.content.acknowledgement(this.#context.storage.lastTid);
    if (acknowledgement !== undefined) void this.#speaker.say(encodeAcknowledgement(acknowledgement));
    this.#tellComplete();
  }

  #beat(): void {
    const { ports: { clock }, storage } = this.#context;
    if (this.#speaker.isBusy || this.#isUnproved) return;
    const { lastTid, end } = storage;
    void this.#speaker.say(encodeControl({ type: "beat", lastTid, end, time: clock.now() }));
  }

  /** The source is there, and has neither welcomed nor refused us yet. @throws as {@link NativeOnce.heard} */
  #heardEnd(lastTid: bigint): void {
    this.#once?.heard(lastTid);
    if (this.#once !== undefined || this.#behindTold || lastTid >= this.#start) return;
    this.#behindTold = true;
    const { ports: { log }, connection: { peer }, options: { path } } = this.#context;
    const end = lastTid === NO_TID ? "has nothing yet" : `ends with ${describeTid(lastTid)}`;
    log.warning(
      `${peer} is behind this replica: it ${end}, and ${path} with ${
        describeTid(this.#start)
      }; nothing comes from it ` +
        `until it has caught up`,
      { tid: formatTid(lastTid) },
    );
  }

  #compareClocks(time: number): void {
    const { ports: { clock, log }, connection } = this.#context;
    const aheadMs = time - clock.now();
    if (this.#clockTold || Math.abs(aheadMs) < CLOCK_TOLERANCE_MS) return;
    this.#clockTold = true;
    log.warning(
      `The clock of ${connection.peer} is ${Math.round(Math.abs(aheadMs) / 1000)} s ` +
        `${aheadMs > 0 ? "ahead of" : "behind"} this machine's: times and lags in the log will mislead`,
    );
  }

  /** Says so once for each connection, when all is durable: on a full disk that may take long. */
  #tellComplete(): void {
    const { storage, ports: { log }, options } = this.#context;
    if (this.#completeTold || this.#all === undefined || storage.lastTid < this.#all) return;
    this.#completeTold = true;
    log.info(`${options.path} has all that the source has, up to ${describeTid(this.#all)}`);
  }
}

/** A source that ends the connection without a word may have no secret to prove. */
function unproved(error: UnavailableError): UnavailableError {
  if (error instanceof RefusedError || error instanceof IdleEnd) return error;
  return new UnavailableError(`${error.message}, before it has proved that it has our secret`, {
    ...error.facts,
    hint: "it may have none, or speak nothing but zrs2",
  });
}
