/**
 * Receiving by the native stream: a hello, questions about our history, then runs. Acknowledges what is durable,
 * says now and then that we are there, and knows when it has all that the source has.
 */
import type { BlobKey, ExamineRecord } from "../filestorage/mod.ts";
import { CorruptError, ProtocolError, RefusedError, UnavailableError, type ZrsError } from "../errors.ts";
import {
  type Begun,
  type Control,
  encodeAcknowledgement,
  encodeControl,
  Milestones,
  NativeDecoder,
  type NativeHandler,
  NONCE_BYTES,
  SecondaryHandshake,
  SecretError,
  VERSION,
  type WantedBlobs,
  type Whole,
} from "../native/mod.ts";
import { describeTid, NO_TID, type TransactionHead } from "../zodb/mod.ts";
import type { BlobChoice } from "./blob_use.ts";
import { Incoming, UnwantedError } from "./incoming.ts";
import type { IncomingBlobs } from "./incoming_blobs.ts";
import {
  CompleteEnd,
  IdleEnd,
  type Intake,
  type IntakeContext,
  readWithin,
  type SourceState,
} from "./intake.ts";
import { agreedBeatMs, Beats, wantedBeatMs } from "./beats.ts";
import { answerQuestion, lastDigest } from "./lineage.ts";
import { refusalOf } from "./refusal.ts";
import { Speaker } from "./speaker.ts";
import { pauser, sleep } from "./waiting.ts";

/** The source closed the connection without a word of the native stream: it most likely speaks zrs2 only. */
export class NoNativeError extends UnavailableError {}

/** The source asks to be connected to again, now. */
export class AgainError extends IdleEnd {}

/** What the source's file holds does not fit behind ours, byte by byte: to be asked for record by record. */
export class MisfitError extends UnavailableError {}

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
/** A source that asks nothing for so many beats, and has less than we have, waits until it has caught up itself. */
const MOST_BEATS_BEHIND = 30;

export class NativeIntake implements Intake, NativeHandler {
  readonly protocol = "native";
  readonly #context: IntakeContext;
  readonly #raw: boolean;
  /** What the sink has of the next transaction, until the welcome says what becomes of it. */
  readonly #begun: Begun | undefined;
  /** The source does not go on behind that. */
  #isToForget = false;
  /** The end of a large transaction, which is still to be checked. */
  #largeEnd: Whole | undefined;
  readonly #speaker: Speaker;
  readonly #decoder: NativeDecoder;
  readonly #incoming: Incoming;
  readonly #examine: ExamineRecord;
  readonly #milestones: Milestones;
  readonly #start: bigint;
  /** Until it is done nothing is said of what we have, and nothing taken. */
  readonly #handshake: SecondaryHandshake | undefined;
  /** What is to be said next at the beginning of the connection: a frame, or the hello. */
  #next: "hello" | Uint8Array | undefined;
  #lastTid: bigint;
  #heard = false;
  #welcome = false;
  #question: { readonly value: unknown } | undefined;
  #source: { readonly lastTid: bigint; readonly end: number } | undefined;
  /** Whether runs come as bytes of the source's file, so that its positions are ours. */
  #isRaw = false;
  #beatMs: number | undefined;
  /** What the source had at the welcome. */
  #promisedTid = NO_TID;
  #clockTold = false;
  /** Since the last question, of a source that has less than we have. */
  #beatsBehind = 0;
  /** Said of the last transaction that was asked for, where that is not all. */
  #complete: { readonly lastTid: bigint } | undefined;
  #completeTold = false;
  #isStopping = false;

  /**
   * @param raw whether the source may send bytes as they lie in its file
   * @param begun what the sink has of the next transaction; only where `raw`
   */
  constructor(context: IntakeContext, raw: boolean, begun: Begun | undefined) {
    const { ports, storage, sink, connection, options } = context;
    this.#context = context;
    this.#raw = raw;
    this.#begun = begun;
    this.#start = this.#lastTid = storage.lastTid;
    this.#decoder = new NativeDecoder({ compressed: options.compress !== "off" });
    this.#milestones = new Milestones(storage.lastTid);
    this.#speaker = new Speaker(ports, connection, options.peerTimeoutMs);
    this.#incoming = new Incoming(sink.restorer, { blobs: options.blobs, log: ports.log });
    this.#examine = (reader) => this.#incoming.examine(reader);
    const { secret } = options;
    this.#handshake = secret && new SecondaryHandshake(secret, ports.random.bytes(NONCE_BYTES));
    this.#next = this.#handshake?.introduction ?? "hello";
  }

  /** What the source has, as far as it has said; undefined before that. */
  get source(): SourceState | undefined {
    if (this.#source === undefined) return undefined;
    const { lastTid, end } = this.#source;
    return { lastTid, end: this.#isRaw ? end : undefined };
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
    const { connection, sink, storage, options, ports: { clock, log } } = this.#context;
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
          if (this.#isToForget) await this.#forget();
          if (this.#largeEnd !== undefined) await this.#endLarge(this.#largeEnd);
          await sink.settle();
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
    if (this.#isUnproved && message.type !== "refused" && message.type !== "bye") {
      this.#next = this.#handshake!.take(message, body) ?? "hello";
      return;
    }
    switch (message.type) {
      case "ask":
        if (this.#welcome || this.#question !== undefined) break;
        this.#question = { value: message.question };
        this.#beatsBehind = 0;
        return;
      case "welcome":
        return this.#welcomed(message);
      case "refused":
        if (message.code === "unauthorised") throw new SecretError(`refused: ${message.reason}`);
        // Whoever has proved nothing cannot make us take back anything.
        throw this.#isUnproved ? new RefusedError(message.reason) : refusalOf(message);
      case "beat":
        this.#source = message;
        this.#checkLag(message.lastTid);
        return this.#compareClocks(message.time);
      case "complete":
        if (!this.#welcome) break;
        this.#source = message;
        if (this.#context.options.once !== undefined) this.#complete = message;
        return this.#tellComplete(message.lastTid);
      case "bye":
        if (message.code === "again") throw new AgainError(message.reason);
        throw message.code === "trouble"
          ? new RefusedError(message.reason)
          : new IdleEnd(`The source says goodbye: ${message.reason}`);
    }
    throw new ProtocolError(`Cannot take message ${message.type}: no source says that here`);
  }

  acknowledgement(): never {
    throw new ProtocolError("Cannot take acknowledgement: this end has sent no transaction");
  }

  raw(source: Uint8Array, from: number, to: number): void {
    const { restorer } = this.#context.sink;
    if (!this.#raw) throw new ProtocolError("Cannot take bytes of a file: they were not asked for");
    this.#mustBeWelcome();
    this.#isRaw = true;
    if (!restorer.isOpen) restorer.beginRaw();
    restorer.data(source, from, to);
  }

  whole(whole: Whole): void {
    const { restorer } = this.#context.sink;
    this.#mustBeWanted(whole.lastTid);
    if (restorer.begun !== undefined) {
      this.#largeEnd = whole;
      return this.#decoder.halt();
    }
    let count: number;
    try {
      count = restorer.endRaw(this.#examine);
    } catch (error) {
      throw misfitOf(error);
    } finally {
      this.#incoming.keepBlobs(); // what is whole counts, also before one that is refused
    }
    this.#ended(whole, count);
  }

  /** Checks a large transaction, which may take long. */
  async #endLarge(whole: Whole): Promise<void> {
    this.#largeEnd = undefined;
    const { sink, ports: { clock } } = this.#context;
    try {
      await sink.restorer.endLargeRaw(this.#examine, pauser(clock));
    } catch (error) {
      throw misfitOf(error);
    }
    this.#incoming.keepBlobs();
    this.#ended(whole, 1);
  }

  /** A run has come, and each of its transactions has been checked. */
  #ended({ lastTid, transactions }: Whole, count: number): void {
    const { restorer } = this.#context.sink;
    if (count !== transactions || restorer.lastTid !== lastTid) {
      throw new ProtocolError(
        `Cannot take run: it must have ${transactions} transactions and end with ${describeTid(lastTid)}, ` +
          `and has ${count} and ends with ${describeTid(restorer.lastTid)}`,
      );
    }
    this.#passed(lastTid);
  }

  transaction(head: TransactionHead): void {
    this.#mustBeWelcome();
    this.#mustBeWanted(head.tid);
    if (head.tid <= this.#lastTid) {
      throw new ProtocolError(
        `Cannot take transaction ${describeTid(head.tid)}: its tid must be greater than the last, ` +
          describeTid(this.#lastTid),
        { tid: head.tid },
      );
    }
    this.#incoming.transaction(head, { extension: "kept" });
  }

  record(
    oidHigh: number,
    oidLow: number,
    tid: bigint,
    dataTid: bigint | undefined,
    dataLength: number,
  ): void {
    this.#incoming.record(oidHigh, oidLow, tid, dataTid, dataLength, undefined);
  }

  data(source: Uint8Array, from: number, to: number): void {
    this.#incoming.data(source, from, to);
  }

  recordEnd(): void {
    this.#incoming.recordEnd();
  }

  blob(key: BlobKey, from: number | undefined): void {
    this.#mustBeWelcome();
    this.#contents.begin(key, from);
  }

  blobData(source: Uint8Array, from: number, to: number): void {
    this.#contents.data(source, from, to);
  }

  blobEnd(): void {
    this.#contents.end();
  }

  commit(): void {
    this.#incoming.commit();
    this.#passed(this.#context.sink.restorer.lastTid);
  }

  get #contents(): IncomingBlobs {
    const { blobs } = this.#context.options;
    if (blobs.choice === "replicate") return blobs.incoming;
    throw new ProtocolError("Cannot take blob: it was not asked for");
  }

  /** Whether the source has still to prove that it has our secret. */
  get #isUnproved(): boolean {
    return this.#handshake !== undefined && !this.#handshake.isDone;
  }

  /** Says what the beginning of the connection still wants. */
  async #introduce(): Promise<void> {
    const next = this.#next;
    if (next === undefined) return;
    this.#next = undefined;
    await this.#speaker.say(next === "hello" ? await this.#hello() : next);
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

  #welcomed(message: Extract<Control, { type: "welcome" }>): void {
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
    const { lastTid, end, fit = "unknown" } = message;
    this.#promisedTid = lastTid;
    this.#context.options.once?.judge({ lastTid, end, fit });
    if (message.notice !== undefined) log.warning(`${connection.peer}: ${message.notice}`);
    this.#resume(message.resumeAt);
  }

  #resume(resumeAt: number | undefined): void {
    const begun = this.#begun;
    if (resumeAt === undefined) {
      if (begun === undefined) return;
      this.#isToForget = true;
      return this.#decoder.halt();
    }
    if (resumeAt !== begun?.bytes) {
      throw new ProtocolError(
        `Cannot take welcome: it goes on behind ${resumeAt} bytes of a transaction, this end has ${
          begun?.bytes ?? 0
        }`,
      );
    }
    this.#isRaw = true;
    this.#decoder.resumeRun();
    const { log } = this.#context.ports;
    log.info(
      `Going on in the middle of transaction ${describeTid(begun.tid)}: ${begun.bytes} bytes are here`,
    );
  }

  /** The source begins the transaction anew. */
  async #forget(): Promise<void> {
    this.#isToForget = false;
    await this.#context.sink.abort();
  }

  /** All that was asked for has come: makes it durable, and says goodbye. */
  async #finish(lastTid: bigint): Promise<CompleteEnd> {
    if (lastTid > this.#lastTid) {
      throw new ProtocolError(
        `Cannot take message complete: the source has not sent ${
          describeTid(lastTid)
        }, which it names as the last`,
      );
    }
    if (lastTid < this.#promisedTid && this.#promisedTid <= this.#context.options.once!.until) {
      throw new ProtocolError(
        `Cannot take message complete: the source ends with ${
          describeTid(lastTid)
        }, and it has promised all ` +
          `up to ${describeTid(this.#promisedTid)}`,
      );
    }
    await this.#context.sink.drain();
    await this.#speaker.say(
      encodeControl({ type: "bye", code: "stopping", reason: "this copy is complete" }),
    );
    return new CompleteEnd("said");
  }

  /** Whoever stays waits as long as it takes; whoever comes once must not. @throws UnavailableError */
  #checkLag(sourceLastTid: bigint): void {
    if (this.#context.options.once === undefined || this.#welcome || sourceLastTid >= this.#start) return;
    if (++this.#beatsBehind < MOST_BEATS_BEHIND) return;
    throw new UnavailableError(
      `The source is most likely a replica that lags behind this one: it ends with ${
        describeTid(sourceLastTid)
      }, and this one with ${describeTid(this.#start)}`,
      { hint: "try again when it has caught up, or take the source from which it replicates" },
    );
  }

  #mustBeWelcome(): void {
    if (!this.#welcome) throw new ProtocolError("Cannot take transaction: it comes before the welcome");
  }

  /** A source that sends more than was asked for once has not understood. */
  #mustBeWanted(tid: bigint): void {
    const { once } = this.#context.options;
    if (once === undefined || tid <= once.until) return;
    throw new ProtocolError(
      `Cannot take transaction ${describeTid(tid)}: nothing later than ${
        describeTid(once.until)
      } was asked for`,
      { tid },
    );
  }

  #passed(tid: bigint): void {
    if (tid === this.#lastTid) return;
    this.#lastTid = tid;
    this.#milestones.pass(tid, this.#decoder.checksum);
  }

  /** Says what is durable now, unless it is said already. */
  #acknowledge(): void {
    const acknowledgement = this.#milestones.reach(this.#context.storage.lastTid);
    if (acknowledgement !== undefined) void this.#speaker.say(encodeAcknowledgement(acknowledgement));
  }

  #beat(): void {
    const { ports: { clock }, storage } = this.#context;
    if (this.#speaker.isBusy || this.#isUnproved) return;
    const { lastTid, end } = storage;
    void this.#speaker.say(encodeControl({ type: "beat", lastTid, end, time: clock.now() }));
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

  #tellComplete(tid: bigint): void {
    if (this.#completeTold || tid !== this.#lastTid) return;
    this.#completeTold = true;
    const { ports: { log }, options } = this.#context;
    log.info(`${options.path} has all that the source has, up to ${describeTid(tid)}`);
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

/** What becomes of an error in checking a run. */
function misfitOf(error: unknown): unknown {
  if (!(error instanceof CorruptError)) return error;
  return new MisfitError(`What the source's file has next does not fit behind this one: ${error.message}`, {
    cause: error,
  });
}
