/**
 * Asking a source what it has in common with a file, without replicating: a conversation of the native stream as
 * a secondary begins it, which ends with a goodbye as soon as the source has judged. Writes nothing.
 */
import type { LogView } from "../../filestorage/mod.ts";
import { ProtocolError, type RefusedError, UnavailableError } from "../../errors.ts";
import { type Control, type Fit, type Hello, VERSION, type Welcome } from "../../native/mod.ts";
import type { Clock, Connection } from "../../ports/mod.ts";
import { describeTid } from "../../zodb/mod.ts";
import { DEFAULT_BUFFER_SIZES } from "../buffers.ts";
import { answerQuestion, lastDigest } from "./lineage.ts";
import { comparisonRefused, HistoryRefusedError, refusalOf } from "./refusal.ts";
import { type QueryOptions, type QueryPorts, SourceQuery } from "../source_query.ts";
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

class Conversation {
  readonly #clock: Clock;
  readonly #source: string;
  readonly #query: SourceQuery;
  readonly #view: LogView;
  readonly #options: QueryOptions;
  /** Since the last question, from a source that ends earlier than the file. */
  #beats = 0;
  #question: { readonly value: unknown } | undefined;
  #verdict: Verdict | undefined;

  constructor(
    ports: QueryPorts,
    source: string,
    connection: Connection,
    view: LogView,
    options: QueryOptions,
  ) {
    this.#clock = ports.clock;
    this.#source = source;
    this.#view = view;
    this.#options = options;
    this.#query = new SourceQuery(ports, source, connection, options, {
      hello: () => this.#hello(),
      take: (message) => this.#take(message),
      notNative: (cause) => this.#notNative(cause),
    });
  }

  async hold(): Promise<Verdict> {
    let failure: unknown;
    try {
      return await this.#untilJudged();
    } catch (error) {
      failure = error;
      throw error;
    } finally {
      await this.#query.bye("only the histories were to be compared", failure);
    }
  }

  async #untilJudged(): Promise<Verdict> {
    while (this.#verdict === undefined) {
      await this.#query.advance();
      if (this.#question === undefined) continue;
      const answer = await answerQuestion(this.#view, this.#question.value, pauser(this.#clock));
      this.#question = undefined;
      await this.#query.say({ type: "answer", answer });
    }
    return this.#verdict;
  }

  async #hello(): Promise<Hello> {
    const { lastTid, end } = this.#view;
    return {
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
    };
  }

  #take(message: Control): boolean {
    switch (message.type) {
      case "ask":
        if (this.#question !== undefined) return false;
        this.#question = { value: message.question };
        this.#beats = 0;
        return true;
      case "welcome":
        this.#welcomed(message);
        return true;
      case "refused":
        this.#refused(refusalOf(message));
        return true;
      case "beat":
        if (message.lastTid >= this.#view.lastTid || ++this.#beats < MOST_BEATS) return true;
        throw new UnavailableError(
          `Cannot compare with ${this.#source}: it is most likely a replica that lags behind this file, ` +
            `ending with ${describeTid(message.lastTid)}`,
          { hint: "Ask the source from which it replicates, or try again when it has caught up" },
        );
    }
    return false;
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
    this.#query.halt(); // what follows is not for us
  }

  #refused(refusal: RefusedError): void {
    if (this.#query.isUnproved || !(refusal instanceof HistoryRefusedError)) {
      throw comparisonRefused(this.#source, refusal);
    }
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
    this.#query.halt();
  }
}
