/**
 * A conversation of the native stream in which a source is only asked about its history, to compare a copy with it:
 * a hello that wants no transactions, and then question and answer. Writes nothing.
 */
import { ProtocolError, UnavailableError } from "../../errors.ts";
import {
  type Control,
  encodeControl,
  NativeDecoder,
  type NativeHandler,
  NONCE_BYTES,
  SecondaryHandshake,
  type Secret,
  VERSION,
  type Welcome,
} from "../../native/mod.ts";
import type { Address, Clock, Connection, Network } from "../../ports/mod.ts";
import { formatOidDigits, formatTid, NO_TID } from "../../zodb/mod.ts";
import { Beats } from "../beats.ts";
import { DEFAULT_BUFFER_SIZES } from "../buffers.ts";
import type { BlobKey, FoundBlob } from "../../filestorage/mod.ts";
import { checkBlobsAnswer, type CompareQuestion } from "./compare_messages.ts";
import type { SourceEnd } from "./compare_source.ts";
import { readWithin } from "../receiving/intake.ts";
import type { QueryOptions, QueryPorts } from "../lineage/lineage_query.ts";
import { DEFAULT_PEER_TIMEOUT_MS } from "../primary.ts";
import { refusalOf, refused } from "../lineage/refusal.ts";
import { Speaker } from "../speaker.ts";
import { networkSource, type SyncSource } from "../sync/sync_source.ts";

const BEAT_MS = 5_000;
/** The source must be able to do this. */
const COMPARE = "compare";
/** Where it can do this, it tells the digests of blobs, too. */
const BLOBS = "blobs";

/** A source that has agreed to answer. */
export class ComparedSource implements NativeHandler, AsyncDisposable {
  readonly #clock: Clock;
  readonly #name: string;
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #speaker: Speaker;
  readonly #decoder = new NativeDecoder();
  readonly #handshake: SecondaryHandshake | undefined;
  readonly #chunk = new Uint8Array(DEFAULT_BUFFER_SIZES.readBytes);
  readonly #hello: Uint8Array;
  #next: Uint8Array | undefined;
  #heard = false;
  #welcome: Welcome | undefined;
  #isAsking = false;
  #answer: { readonly value: unknown } | undefined;
  #beats: Beats | undefined;
  #trouble: string | undefined;

  private constructor(
    { clock, random }: QueryPorts,
    name: string,
    connection: Connection,
    { software, secret, peerTimeoutMs }: QueryOptions,
  ) {
    this.#clock = clock;
    this.#name = name;
    this.#connection = connection;
    this.#timeoutMs = peerTimeoutMs ?? DEFAULT_PEER_TIMEOUT_MS;
    this.#speaker = new Speaker({ clock }, connection, this.#timeoutMs);
    this.#hello = encodeControl({
      type: "hello",
      version: VERSION,
      software,
      lastTid: NO_TID,
      digest: undefined,
      end: 0,
      runBytes: DEFAULT_BUFFER_SIZES.runBytes,
      beatMs: BEAT_MS,
      capabilities: [COMPARE, BLOBS],
      required: [COMPARE],
    });
    this.#handshake = secret && new SecondaryHandshake(secret satisfies Secret, random.bytes(NONCE_BYTES));
    this.#next = this.#handshake?.introduction ?? this.#hello;
  }

  /**
   * Connects and waits until the source has agreed.
   * @throws UnavailableError where it cannot be reached or speaks no native stream; RefusedError; ProtocolError
   */
  static async connect(
    ports: QueryPorts & { readonly network: Network },
    source: Address,
    options: QueryOptions,
  ): Promise<ComparedSource> {
    return await ComparedSource.over(ports, networkSource(ports, source), options);
  }

  /**
   * As {@link connect}, of whatever a copy is made from.
   * @param signal ends the conversation, and whoever waits for an answer gets an UnavailableError
   */
  static async over(
    ports: QueryPorts,
    { name, connect }: Pick<SyncSource, "name" | "connect">,
    options: QueryOptions,
    signal: AbortSignal = new AbortController().signal,
  ): Promise<ComparedSource> {
    const connection = await connect(signal);
    signal.addEventListener("abort", () => connection.close(), { once: true });
    const found = new ComparedSource(ports, name, connection, options);
    try {
      while (found.#welcome === undefined) {
        const next = found.#next;
        found.#next = undefined;
        if (next !== undefined) await found.#speaker.say(next);
        await found.#read();
      }
    } catch (error) {
      connection.close();
      throw error;
    }
    found.#beats = new Beats(ports.clock, BEAT_MS, () => found.#beat());
    return found;
  }

  /** Whether it tells of blobs. */
  get hasBlobs(): boolean {
    return this.#welcome!.capabilities.includes(BLOBS);
  }

  /** What the source has of blobs; to be asked for in the order of tids, then oids. @throws as {@link ask} */
  async blobs(keys: readonly BlobKey[]): Promise<FoundBlob[]> {
    const found: FoundBlob[] = [];
    while (found.length < keys.length) {
      const rest = keys.slice(found.length).map(({ oid, tid }) =>
        [formatOidDigits(oid), formatTid(tid)] as const
      );
      const question = { kind: "blobs", blobs: rest } as const;
      const { blobs } = checkBlobsAnswer(await this.ask(question), question);
      for (const each of blobs) found.push(each === null ? "missing" : { bytes: each[0], digest: each[1] });
    }
    return found;
  }

  /** What the source has. */
  get end(): SourceEnd {
    const { lastTid, end } = this.#welcome!;
    return { lastTid, end };
  }

  /**
   * Asks, and resolves with the answer, whatever it is. One question at a time.
   * @throws UnavailableError, ProtocolError
   */
  async ask(question: CompareQuestion): Promise<unknown> {
    this.#isAsking = true;
    await this.#speaker.say(encodeControl({ type: "ask", question }));
    while (this.#answer === undefined) await this.#read();
    const { value } = this.#answer;
    this.#answer = undefined;
    return value;
  }

  /** Says goodbye. Closing twice is harmless. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#beats?.[Symbol.dispose]();
    const [code, reason] = this.#trouble === undefined
      ? ["stopping", "the copy has been compared"]
      : ["trouble", this.#trouble];
    if (!this.#speaker.isBusy) await this.#speaker.say(encodeControl({ type: "bye", code, reason }));
    this.#speaker.stop();
    this.#connection.close();
  }

  control(message: Control, body: Uint8Array): void {
    this.#heard = true;
    const isUnproved = this.#handshake !== undefined && !this.#handshake.isDone;
    if (isUnproved && message.type !== "refused" && message.type !== "bye") {
      this.#next = this.#handshake!.take(message, body) ?? this.#hello;
      return;
    }
    switch (message.type) {
      case "welcome":
        if (this.#welcome !== undefined) break;
        if (!message.capabilities.includes(COMPARE)) break;
        this.#welcome = message;
        return;
      case "answer":
        if (!this.#isAsking) break;
        this.#isAsking = false;
        this.#answer = { value: message.answer };
        return;
      case "beat":
        return;
      case "refused":
        throw this.#refused(message);
      case "bye":
        throw new UnavailableError(`Cannot compare with ${this.#name}: it says goodbye: ${message.reason}`);
    }
    throw new ProtocolError(`Cannot take message ${message.type}: no source says that here`);
  }

  #refused(message: Extract<Control, { type: "refused" }>): Error {
    const refusal = refusalOf(message);
    if (message.code !== "capability") return refused(this.#name, refusal);
    return new UnavailableError(`Cannot compare with ${this.#name}: ${message.reason}`, {
      cause: refusal,
      hint: "Its zrs is too old to be asked: compare the files themselves, or copy one",
    });
  }

  async #read(): Promise<void> {
    const silence = `${this.#name} has said nothing`;
    try {
      const count = await readWithin(this.#clock, this.#connection, this.#chunk, this.#timeoutMs, silence);
      this.#decoder.push(this.#chunk, 0, count, this);
    } catch (error) {
      if (error instanceof ProtocolError) this.#trouble = error.message;
      const isOther = error instanceof UnavailableError || error instanceof ProtocolError;
      throw this.#heard || !isOther ? error : this.#notNative(error);
    }
  }

  #notNative(cause: Error): NotNativeError {
    return new NotNativeError(
      `Cannot compare with ${this.#name}: it does not answer in zrs's native stream: ${cause.message}`,
      {
        cause,
        hint: "If it is zc.zrs, copy the file or replicate it to this machine, and compare the two files",
      },
    );
  }

  #beat(): void {
    if (this.#speaker.isBusy) return;
    const beat = { lastTid: NO_TID, end: 0, time: this.#clock.now() };
    void this.#speaker.say(encodeControl({ type: "beat", ...beat }));
  }
}

/** What answers is most likely no zrs. */
export class NotNativeError extends UnavailableError {}
