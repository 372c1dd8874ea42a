/**
 * One secondary of ours attached to a log by the native stream, the conversation: its hello, comparing the histories,
 * the welcome, behind which a `NativeStream` sends, and why it ends.
 */
import type { BlobDirectory, Generation, LogView, TransactionLog } from "../../filestorage/mod.ts";
import { DivergedError, ProtocolError, UnavailableError } from "../../errors.ts";
import {
  type Acknowledgement,
  type Control,
  encodeControl,
  type HandshakeReply,
  type Hello,
  NativeDecoder,
  type NativeHandler,
  NONCE_BYTES,
  type RefusalCode,
  SourceHandshake,
  VERSION,
} from "../../native/mod.ts";
import { describeTid, formatTid } from "../../zodb/mod.ts";
import {
  type FeedOptions,
  type Line,
  PeerLeft,
  type Progress,
  type Service,
  type Shared,
} from "./service.ts";
import { agreedBeatMs, Beats, wantedBeatMs } from "../beats.ts";
import { WITHOUT_BLOBS } from "../blob_use.ts";
import { CompareFeed } from "../compare/compare_feed.ts";
import type { Question } from "../lineage/lineage.ts";
import { findStart, type Start } from "./native_start.ts";
import { NativeStream } from "./native_stream.ts";
import type { Ports } from "../ports.ts";
import { findResumption, type Resumption } from "./raw_start.ts";
import type { Remembered } from "./secondary_memory.ts";
import { isGoalWithinPack, viewUntil } from "../sync/until.ts";
import { sleep } from "../waiting.ts";

/** What this end can do. */
const CAPABILITIES: readonly string[] = ["raw", "zstd", "compare", "once"];

export class NativeFeed implements Service, NativeHandler {
  readonly farewell = encodeControl({ type: "bye", code: "stopping", reason: "this source stops" });
  readonly #ports: Ports;
  readonly #log: TransactionLog;
  readonly #line: Line;
  readonly #options: FeedOptions;
  readonly #shared: Shared;
  readonly #decoder = new NativeDecoder();
  readonly #handshake: SourceHandshake;
  /** What the handshake has us say, oldest first. */
  readonly #replies: HandshakeReply[] = [];
  #hello: Hello | undefined;
  #answer: { readonly value: unknown } | undefined;
  #asking = false;
  /** Whoever only compares may ask. */
  #comparison: CompareFeed | undefined;
  /** Of a secondary that has been given a place, until it is welcome. */
  #greeted: Progress | undefined;
  #stream: NativeStream | undefined;
  #remembered: Remembered | undefined;
  #heardMs: number;

  constructor(ports: Ports, log: TransactionLog, line: Line, options: FeedOptions, shared: Shared) {
    this.#ports = ports;
    this.#log = log;
    this.#line = line;
    this.#options = options;
    this.#shared = shared;
    this.#heardMs = ports.clock.monotonic();
    this.#handshake = new SourceHandshake(options.secret, () => ports.random.bytes(NONCE_BYTES));
  }

  readonly protocol = "native";

  get progress(): Progress | undefined {
    return this.#stream?.progress ?? this.#greeted;
  }

  complaint(reason: string): Uint8Array {
    return encodeControl({ type: "bye", code: "trouble", reason });
  }

  /** Takes what the secondary says. @throws ProtocolError, UnavailableError when it says goodbye */
  push(chunk: Uint8Array, from: number, to: number): void {
    this.#heardMs = this.#ports.clock.monotonic();
    this.#decoder.push(chunk, from, to, this);
  }

  async greeted(): Promise<void> {
    for (;;) {
      for (let reply = this.#replies.shift(); reply !== undefined; reply = this.#replies.shift()) {
        if (reply.kind === "refusal") await this.#refuse("unauthorised", reply.reason);
        else await this.#line.write(reply.frame);
      }
      if (this.#hello !== undefined) return;
      await this.#line.wait();
    }
  }

  /**
   * Serves until the secondary goes, or must be let go.
   * @throws ZrsError
   */
  async serve(): Promise<void> {
    const hello = this.#hello!;
    const beatMs = agreedBeatMs(wantedBeatMs(this.#options.peerTimeoutMs), hello.beatMs);
    this.#line.beatMs = beatMs;
    using _beats = new Beats(this.#ports.clock, beatMs, () => this.#beat());
    await this.#checkUnderstands(hello);
    await this.#checkBlobs(hello);
    using place = this.#shared.admit();
    if (place === undefined) {
      return await this.#refuse("busy", "this source serves as many secondaries already as it may");
    }
    if (hello.required.includes("compare")) return await this.#answerQuestions(hello, beatMs);
    const { lastTid } = hello;
    const asGreeted = { sentTid: lastTid, receivedTid: lastTid, durableTid: lastTid };
    this.#greeted = { ...asGreeted, position: undefined, generation: undefined };
    using _changes = this.#log.subscribe(() => this.#line.ring());
    const { position, generation, compared, isPrefix, notice, fit } = await findStart(hello, {
      ports: this.#ports,
      log: this.#log,
      line: this.#line,
      repeated: this.#shared.repeated,
      chained: this.#options.chained,
      ask: (question) => this.#ask(question),
      pause: () => this.#pause(),
      refuse: (...reason) => this.#refuse(...reason),
    });
    try {
      const view = this.#log.view;
      const goal = await this.#goalOf(hello, view, generation);
      const withinPack = goal !== undefined && goal.end > position && isGoalWithinPack(goal, view) ||
        undefined;
      // The same transactions before, in as many bytes: that the links lead to the same places the secondary checks.
      const raw = isPrefix && hello.capabilities.includes("raw");
      const resumption = raw && hello.begun !== undefined
        ? await findResumption(compared, hello.end, hello.begun, () => this.#pause())
        : undefined;
      this.#ports.log.info(
        `${this.#line.peer}: connected with ${hello.software}, has ${describeTid(hello.lastTid)}`,
        { peer: this.#line.peer, tid: formatTid(hello.lastTid) },
      );
      await this.#welcome(hello, view, beatMs, { notice, fit, resumption, withinPack });
      this.#stream = new NativeStream({
        ports: this.#ports,
        log: this.#log,
        line: this.#line,
        options: this.#options,
        shared: this.#shared,
        pause: () => this.#pause(),
      }, { hello, generation, position: raw ? hello.end : position, raw, resumption, goal });
      const name = hello.name ?? this.#line.peer.replace(/:\d+$/, "");
      using remembered = this.#shared.memory?.enter(name);
      this.#remembered = remembered;
      this.#remember();
      await this.#stream.run();
    } finally {
      generation.release();
    }
  }

  control(message: Control, body: Uint8Array): void {
    switch (message.type) {
      case "introduction":
      case "proof":
      case "hello": {
        if (this.#hello !== undefined) break;
        const reply = this.#handshake.take(message, body);
        if (reply !== undefined) this.#replies.push(reply);
        else if (message.type === "hello" && this.#handshake.isDone) this.#hello = message;
        return this.#line.ring();
      }
      case "ask":
        if (this.#comparison?.take(message.question) !== true) break;
        return;
      case "answer":
        if (!this.#asking) break;
        this.#asking = false;
        this.#answer = { value: message.answer };
        return this.#line.ring();
      case "beat":
        return this.#remember();
      case "bye":
        if (message.code === "trouble") {
          this.#shared.repeated.tell("warning", this.#line.peer, `cannot go on: ${message.reason}`);
        }
        throw new PeerLeft(message.reason);
    }
    throw new ProtocolError(`Cannot take message ${message.type}: no secondary says that here`);
  }

  acknowledgement(acknowledgement: Acknowledgement): void {
    if (this.#stream === undefined) {
      throw new ProtocolError("Cannot take acknowledgement: nothing has been sent");
    }
    this.#stream.acknowledged(acknowledgement);
    this.#remember();
  }

  /** So that a pack keeps what it still needs. */
  #remember(): void {
    if (this.#stream !== undefined) this.#remembered?.heard(this.#stream.durable);
  }

  /** The blobs that there are, if they may be told of. */
  get #directory(): BlobDirectory | undefined {
    const { blobs } = this.#options;
    return typeof blobs === "string" ? undefined : blobs;
  }

  get #capabilities(): readonly string[] {
    const isPlain = this.#options.compress === "off";
    const able = isPlain ? CAPABILITIES.filter((each) => each !== "zstd") : CAPABILITIES;
    return this.#directory === undefined ? able : [...able, "blobs"];
  }

  async #checkUnderstands({ version, required, software }: Hello): Promise<void> {
    if (version !== VERSION) {
      await this.#refuse(
        "version",
        `this source speaks version ${VERSION} of the native stream, ${software} speaks ${version}`,
      );
    }
    const missing = required.filter((each) => !this.#capabilities.includes(each));
    if (missing.length > 0) {
      await this.#refuse("capability", `this source cannot do what is required: ${missing.join(", ")}`);
    }
  }

  /** Where the files of blobs are left out, holes are not to travel on unnoticed. */
  async #checkBlobs({ blobs, required }: Hello): Promise<void> {
    if (this.#options.blobs !== "none" || blobs === "nothing" || required.includes("compare")) return;
    await this.#refuse("blobs", WITHOUT_BLOBS);
  }

  async #refuse(code: RefusalCode, reason: string, commonTid?: bigint, exact?: boolean): Promise<never> {
    await this.#line.write(encodeControl({ type: "refused", code, reason, commonTid, exact }));
    throw code === "ahead" || code === "forked"
      ? new DivergedError(reason, { tid: this.#hello!.lastTid })
      : new UnavailableError(`Cannot serve ${this.#line.peer}: ${reason}`);
  }

  async #welcome(
    hello: Hello,
    view: LogView,
    beatMs: number,
    { notice, fit, resumption, withinPack }: Partial<Pick<Start, "notice" | "fit">> & {
      resumption?: Resumption | undefined;
      withinPack?: boolean | undefined;
    } = {},
  ): Promise<void> {
    await this.#line.write(encodeControl({
      type: "welcome",
      version: VERSION,
      software: this.#options.software,
      capabilities: this.#capabilities.filter((each) => hello.capabilities.includes(each)),
      lastTid: view.lastTid,
      end: view.end,
      beatMs,
      notice,
      fit: hello.capabilities.includes("once") ? fit : undefined,
      resumeAt: resumption?.from,
      packedTo: view.packedTo,
      withinPack,
    }));
  }

  /** The peer wants no transactions. */
  async #answerQuestions(hello: Hello, beatMs: number): Promise<never> {
    using place = this.#shared.admitComparison();
    if (place === undefined) {
      return await this.#refuse("busy", "this source is being compared with another copy already");
    }
    this.#ports.log.info(`${this.#line.peer}: connected with ${hello.software}, compares a copy`, {
      peer: this.#line.peer,
    });
    const comparison = new CompareFeed(this.#log, this.#line, () => this.#pause(), this.#directory);
    this.#comparison = comparison;
    return await comparison.serve((view) => this.#welcome(hello, view, beatMs));
  }

  async #ask(question: Question): Promise<unknown> {
    this.#asking = true;
    await this.#line.write(encodeControl({ type: "ask", question }));
    while (this.#answer === undefined) await this.#line.wait();
    const { value } = this.#answer;
    this.#answer = undefined;
    return value;
  }

  /** Lets others work during a long walk, which ends when the connection does: nobody waits for it any more. */
  async #pause(): Promise<void> {
    await sleep(this.#ports.clock, 0);
    this.#line.check();
  }

  /** How far a secondary that catches up once wants to come; undefined for one that stays. */
  async #goalOf({ until }: Hello, view: LogView, generation: Generation): Promise<LogView | undefined> {
    if (until === undefined) return undefined;
    // Where the file has been replaced since the comparison, nothing is sent of either.
    return view.generation === generation ? await viewUntil(view, until, () => this.#pause()) : view;
  }

  /** Says that we are there; ends the connection when the secondary has not been heard of for too long. */
  #beat(): void {
    const { clock } = this.#ports;
    const { peerTimeoutMs } = this.#options;
    if (clock.monotonic() - this.#heardMs >= peerTimeoutMs) {
      const words = `it has said nothing for ${peerTimeoutMs / 1000} s`;
      return this.#line.end(new UnavailableError(`Cannot serve ${this.#line.peer}: ${words}`));
    }
    if (this.#line.isWriting || this.#line.hasEnded) return; // what is being written says as much
    const { lastTid, end } = this.#log.view;
    const beat = encodeControl({ type: "beat", lastTid, end, time: clock.now() });
    this.#line.write(beat).catch(() => {}); // whoever serves meets the same end
  }
}
