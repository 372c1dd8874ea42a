/**
 * A conversation of the native stream in which a source is only asked about its history, to compare a copy with it:
 * a hello that wants no transactions, and then question and answer. Writes nothing.
 */
import { UnavailableError } from "../../errors.ts";
import { type Control, type Hello, type Refused, VERSION, type Welcome } from "../../native/mod.ts";
import type { Address, Clock, Connection, Network } from "../../ports/mod.ts";
import { formatOidDigits, formatTid, NO_TID } from "../../zodb/mod.ts";
import { Beats } from "../beats.ts";
import { DEFAULT_BUFFER_SIZES } from "../buffers.ts";
import type { BlobKey, FoundBlob } from "../../filestorage/mod.ts";
import { checkBlobsAnswer, type CompareQuestion } from "./compare_messages.ts";
import type { SourceEnd } from "./compare_source.ts";
import { comparisonRefused, refusalOf } from "../lineage/refusal.ts";
import { type QueryOptions, type QueryPorts, SourceQuery } from "../source_query.ts";
import { networkSource, type SyncSource } from "../sync/sync_source.ts";

const BEAT_MS = 5_000;
/** The source must be able to do this. */
const COMPARE = "compare";
/** Where it can do this, it tells the digests of blobs, too. */
const BLOBS = "blobs";

/** A source that has agreed to answer. */
export class ComparedSource implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #name: string;
  readonly #query: SourceQuery;
  #welcome: Welcome | undefined;
  #isAsking = false;
  #answer: { readonly value: unknown } | undefined;
  #beats: Beats | undefined;

  private constructor(ports: QueryPorts, name: string, connection: Connection, options: QueryOptions) {
    this.#clock = ports.clock;
    this.#name = name;
    this.#query = new SourceQuery(ports, name, connection, options, {
      hello: () => helloOf(options),
      take: (message) => this.#take(message),
      notNative: (cause) => this.#notNative(cause),
    });
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
      while (found.#welcome === undefined) await found.#query.advance();
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
    await this.#query.say({ type: "ask", question });
    while (this.#answer === undefined) await this.#query.advance();
    const { value } = this.#answer;
    this.#answer = undefined;
    return value;
  }

  /** Says goodbye. Closing twice is harmless. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#beats?.[Symbol.dispose]();
    if (!this.#query.isBusy) await this.#query.bye("the copy has been compared");
    this.#query[Symbol.dispose]();
  }

  #take(message: Control): boolean {
    switch (message.type) {
      case "welcome":
        if (this.#welcome !== undefined || !message.capabilities.includes(COMPARE)) return false;
        this.#welcome = message;
        return true;
      case "answer":
        if (!this.#isAsking) return false;
        this.#isAsking = false;
        this.#answer = { value: message.answer };
        return true;
      case "beat":
        return true;
      case "refused":
        throw this.#refused(message);
    }
    return false;
  }

  #refused(message: Refused): Error {
    const refusal = refusalOf(message);
    if (message.code !== "capability") return comparisonRefused(this.#name, refusal);
    return new UnavailableError(`Cannot compare with ${this.#name}: ${message.reason}`, {
      cause: refusal,
      hint: "Its zrs is too old to be asked: compare the files themselves, or copy one",
    });
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
    if (this.#query.isBusy) return;
    void this.#query.say({ type: "beat", lastTid: NO_TID, end: 0, time: this.#clock.now() });
  }
}

/** A hello that wants answers, and no transactions. */
function helloOf({ software }: QueryOptions): Hello {
  return {
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
  };
}

/** What answers is most likely no zrs. */
export class NotNativeError extends UnavailableError {}
