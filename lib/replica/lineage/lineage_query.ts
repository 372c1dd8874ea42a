/**
 * Asking a source what it has in common with a file, without replicating: a conversation of the native stream as
 * a secondary begins it, which ends with a goodbye as soon as the source has judged. Writes nothing.
 */
import type { LogView } from "../../filestorage/mod.ts";
import { ProtocolError, type RefusedError, UnavailableError } from "../../errors.ts";
import {
  type Control,
  encodeControl,
  type Fit,
  NativeDecoder,
  type NativeHandler,
  NONCE_BYTES,
  SecondaryHandshake,
  type Secret,
  VERSION,
  type Welcome,
} from "../../native/mod.ts";
import type { Clock, Connection, Random } from "../../ports/mod.ts";
import { describeTid } from "../../zodb/mod.ts";
import { DEFAULT_BUFFER_SIZES } from "../buffers.ts";
import { readWithin } from "../receiving/intake.ts";
import { answerQuestion, lastDigest } from "./lineage.ts";
import { DEFAULT_PEER_TIMEOUT_MS } from "../primary.ts";
import { HistoryRefusedError, refusalOf, refused } from "./refusal.ts";
import { Speaker } from "../speaker.ts";
import type { SyncSource } from "../sync/sync_source.ts";
import { pauser } from "../waiting.ts";

/** What a source says of a file's history. */
export type Verdict =
  /** It would go on behind the file's last transaction. */
  | {
    readonly kind: "welcome";
    /** What the administrator should know all the same. */
    readonly notice: string | undefined;
    /** The source's last transaction, and the end of its file. */
    readonly lastTid: bigint;
    readonly end: number;
    readonly fit: Fit;
  }
  | { readonly kind: "differs"; readonly refusal: HistoryRefusedError };

export interface QueryPorts {
  readonly clock: Clock;
  readonly random: Random;
}

export interface QueryOptions {
  /** Name and version of this program, for the source's log. */
  readonly software: string;
  /** A source that says nothing for so long is given up. */
  readonly peerTimeoutMs?: number | undefined;
  /** The source must prove that it has it, too. */
  readonly secret?: Secret | undefined;
  /** What a person can do where the source cannot tell. */
  readonly hint?: string;
}

const BEAT_MS = 1_000;
/** A source that asks nothing for so many beats, and has less than we have, waits until it has caught up itself. */
const MOST_BEATS = 30;

/**
 * Lets a source compare the history of a file with its own.
 * @param view of the file, whose generation the caller holds
 * @throws UnavailableError where it cannot be reached, speaks no native stream, or lags; RefusedError where it
 * refuses for another reason; ProtocolError, CorruptError, DiskError
 */
export async function queryLineage(
  ports: QueryPorts,
  source: Pick<SyncSource, "name" | "connect">,
  view: LogView,
  options: QueryOptions,
): Promise<Verdict> {
  using connection = await source.connect(new AbortController().signal);
  return await new Conversation(ports, source.name, connection, view, options).hold();
}

class Conversation implements NativeHandler {
  readonly #clock: Clock;
  readonly #source: string;
  readonly #connection: Connection;
  readonly #view: LogView;
  readonly #options: QueryOptions;
  readonly #timeoutMs: number;
  readonly #speaker: Speaker;
  readonly #decoder = new NativeDecoder();
  readonly #handshake: SecondaryHandshake | undefined;
  /** What is to be said next, before anything is read. */
  #next: Uint8Array | "hello" | undefined;
  #heard = false;
  /** Since the last question, from a source that ends earlier than the file. */
  #beats = 0;
  #question: { readonly value: unknown } | undefined;
  #verdict: Verdict | undefined;

  constructor(
    { clock, random }: QueryPorts,
    source: string,
    connection: Connection,
    view: LogView,
    options: QueryOptions,
  ) {
    this.#clock = clock;
    this.#source = source;
    this.#connection = connection;
    this.#view = view;
    this.#options = options;
    this.#timeoutMs = options.peerTimeoutMs ?? DEFAULT_PEER_TIMEOUT_MS;
    this.#speaker = new Speaker({ clock }, connection, this.#timeoutMs);
    const { secret } = options;
    this.#handshake = secret && new SecondaryHandshake(secret, random.bytes(NONCE_BYTES));
    this.#next = this.#handshake?.introduction ?? "hello";
  }

  async hold(): Promise<Verdict> {
    let bye = { code: "stopping", reason: "only the histories were to be compared" };
    try {
      return await this.#untilJudged();
    } catch (error) {
      if (error instanceof ProtocolError) bye = { code: "trouble", reason: error.message };
      throw error;
    } finally {
      await this.#speaker.say(encodeControl({ type: "bye", ...bye }));
    }
  }

  async #untilJudged(): Promise<Verdict> {
    const chunk = new Uint8Array(DEFAULT_BUFFER_SIZES.readBytes);
    while (this.#verdict === undefined) {
      await this.#introduce();
      this.#push(chunk, await this.#read(chunk));
      if (this.#question === undefined) continue;
      const answer = await answerQuestion(this.#view, this.#question.value, pauser(this.#clock));
      this.#question = undefined;
      await this.#speaker.say(encodeControl({ type: "answer", answer }));
    }
    return this.#verdict;
  }

  control(message: Control, body: Uint8Array): void {
    this.#heard = true;
    if (this.#isUnproved && message.type !== "refused" && message.type !== "bye") {
      this.#next = this.#handshake!.take(message, body) ?? "hello";
      return;
    }
    switch (message.type) {
      case "ask":
        if (this.#question !== undefined) break;
        this.#question = { value: message.question };
        this.#beats = 0;
        return;
      case "welcome":
        return this.#welcomed(message);
      case "refused":
        return this.#refused(refusalOf(message));
      case "beat":
        if (message.lastTid >= this.#view.lastTid || ++this.#beats < MOST_BEATS) return;
        throw new UnavailableError(
          `Cannot compare with ${this.#source}: it is most likely a replica that lags behind this file, ` +
            `ending with ${describeTid(message.lastTid)}`,
          { hint: "Ask the source from which it replicates, or try again when it has caught up" },
        );
      case "bye":
        throw new UnavailableError(`Cannot compare with ${this.#source}: it says goodbye: ${message.reason}`);
    }
    throw new ProtocolError(`Cannot take message ${message.type}: no source says that here`);
  }

  /** Whether the source has still to prove that it has our secret. */
  get #isUnproved(): boolean {
    return this.#handshake !== undefined && !this.#handshake.isDone;
  }

  /** Says what the beginning of the conversation still wants. */
  async #introduce(): Promise<void> {
    const next = this.#next;
    this.#next = undefined;
    if (next !== undefined) await this.#speaker.say(next === "hello" ? await this.#hello() : next);
  }

  async #hello(): Promise<Uint8Array> {
    const { lastTid, end } = this.#view;
    return encodeControl({
      type: "hello",
      version: VERSION,
      software: this.#options.software,
      lastTid,
      digest: await lastDigest(this.#view, pauser(this.#clock)),
      end,
      runBytes: DEFAULT_BUFFER_SIZES.runBytes,
      beatMs: BEAT_MS,
      capabilities: ["once"],
      required: [],
      blobs: "nothing", // nor anything else
    });
  }

  async #read(into: Uint8Array): Promise<number> {
    const silence = "the source has said nothing";
    try {
      return await readWithin(this.#clock, this.#connection, into, this.#timeoutMs, silence);
    } catch (error) {
      if (this.#heard || !(error instanceof UnavailableError)) throw error;
      throw this.#notNative(error);
    }
  }

  #push(chunk: Uint8Array, count: number): void {
    try {
      this.#decoder.push(chunk, 0, count, this);
    } catch (error) {
      if (this.#heard || !(error instanceof ProtocolError)) throw error;
      throw this.#notNative(error);
    }
  }

  #notNative(cause: Error): UnavailableError {
    return new UnavailableError(
      `Cannot compare with ${this.#source}: it does not answer in zrs's native stream, and zrs2 does not tell what ` +
        `two histories have in common: ${cause.message}`,
      { cause, hint: this.#options.hint ?? "If it is zc.zrs, zrs log shows the transactions of both files" },
    );
  }

  #welcomed({ notice, lastTid, end, fit = "unknown" }: Welcome): void {
    this.#verdict = { kind: "welcome", notice, lastTid, end, fit };
    this.#decoder.halt(); // what follows is not for us
  }

  #refused(refusal: RefusedError): void {
    if (this.#isUnproved || !(refusal instanceof HistoryRefusedError)) throw refused(this.#source, refusal);
    const { common } = refusal;
    const { lastTid } = this.#view;
    if (common !== undefined && common >= lastTid) {
      throw new ProtocolError(
        `Cannot use refusal: it names ${
          describeTid(common)
        } as the last common transaction, and this file ends ` +
          `with ${describeTid(lastTid)}`,
      );
    }
    this.#verdict = { kind: "differs", refusal };
    this.#decoder.halt();
  }
}
