/**
 * Looking at a copy's past before it is gone on with (`zrs replica-sync --check`). That its last transaction is the
 * source's says nothing about those before where one of the files was damaged or changed by hand, so some of them are
 * compared, spread over the file, or all. Writes nothing.
 */
import { CorruptError, DivergedError, RefusedError, UnavailableError } from "../../errors.ts";
import {
  describeDifference,
  type Difference,
  FileComparison,
  History,
  type LogView,
  type Readable,
} from "../../filestorage/mod.ts";
import type { Secret } from "../../native/mod.ts";
import { NO_TID } from "../../zodb/mod.ts";
import { ComparedSource, NotNativeError } from "../compare/compare_query.ts";
import { SourceComparison } from "../compare/compare_source.ts";
import { MarkedHistory } from "../lineage/lineage_marks.ts";
import { queryLineage } from "../lineage/lineage_query.ts";
import type { Ports } from "../ports.ts";
import type { SyncSource } from "./sync_source.ts";
import { describeWords } from "../transaction_words.ts";
import { pauser } from "../waiting.ts";

export interface HistoryCheckOptions {
  /** `quick`: some transactions, spread over the file; `full`: all of them. */
  readonly kind: "quick" | "full";
  readonly software: string;
  readonly secret?: Secret | undefined;
  /** The source is to be asked by zrs2 only, by which it tells nothing. */
  readonly isZrs2?: boolean;
  readonly peerTimeoutMs?: number | undefined;
  /** Is told how much of the copy has been compared in full, in bytes. */
  readonly onProgress?: ((position: number) => void) | undefined;
}

/** What was compared, and found the same. */
export interface HistoryCheck {
  readonly kind: "quick" | "full";
  /** How many transactions. */
  readonly transactions: number;
  /** Why none could be; undefined where they were, or there are none. */
  readonly obstacle: string | undefined;
}

/** So many transactions are looked at by the quick check. */
const SPOTS = 16;
/** One that is larger is passed over by the quick check. */
const MAX_SPOT_BYTES = 4 * 1024 * 1024;

/**
 * Compares a copy with its source, as far as the copy goes. Where the histories have parted, whoever goes on with it is
 * left to find that.
 * @param copy which nobody changes meanwhile
 * @throws DivergedError where the past differs and their ends do not tell it; CorruptError where the copy cannot be
 * read; UnavailableError, ProtocolError about the source; DiskError; the signal's reason
 */
export async function checkHistory(
  ports: Ports,
  source: SyncSource,
  copy: Readable & { readonly view: LogView },
  options: HistoryCheckOptions,
  signal: AbortSignal,
): Promise<HistoryCheck> {
  const { kind } = options;
  if (copy.lastTid === NO_TID) return { kind, transactions: 0, obstacle: undefined };
  const check = new Check(ports, source, copy, options, signal);
  let difference: Difference | undefined;
  try {
    difference = kind === "full" ? await check.full() : await check.quick();
  } catch (error) {
    signal.throwIfAborted();
    if (kind === "full" || !isMute(error)) throw error;
    ports.log.info(`${error.message}; only the ends of the histories are compared`);
    return { kind, transactions: 0, obstacle: error.message };
  }
  if (difference !== undefined && !await check.isRefused()) throw check.differs(difference);
  return { kind, transactions: check.same, obstacle: undefined };
}

/** Whether a source only does not answer such questions, or not now. */
function isMute(error: unknown): error is UnavailableError {
  return error instanceof NotNativeError || error instanceof RefusedError ||
    error instanceof UnavailableError && error.cause instanceof RefusedError;
}

class Check {
  readonly #ports: Ports;
  readonly #source: SyncSource;
  readonly #copy: Readable & { readonly view: LogView };
  readonly #options: HistoryCheckOptions;
  readonly #signal: AbortSignal;
  readonly #pause: () => Promise<void>;
  same = 0;

  constructor(
    ports: Ports,
    source: SyncSource,
    copy: Readable & { readonly view: LogView },
    options: HistoryCheckOptions,
    signal: AbortSignal,
  ) {
    this.#ports = ports;
    this.#source = source;
    this.#copy = copy;
    this.#options = options;
    this.#signal = signal;
    const pause = pauser(ports.clock);
    this.#pause = async () => {
      signal.throwIfAborted();
      await pause();
    };
  }

  async full(): Promise<Difference | undefined> {
    const { path, name } = this.#source;
    const how = { pause: this.#pause, progress: this.#options.onProgress };
    if (path === undefined) {
      await using source = await this.#ask();
      const comparison = new SourceComparison(
        this.#copy,
        source.end,
        (question) => source.ask(question),
        how,
      );
      return await this.#first(comparison, comparison.differences());
    }
    using source = await History.open(this.#ports.disk, path, this.#pause);
    const comparison = new FileComparison(this.#copy, source, how);
    const difference = await this.#first(comparison, comparison.differences());
    if (source.damage === undefined || difference !== undefined) return difference;
    throw new UnavailableError(`Cannot compare with all of ${name}: ${source.damage.message}`, {
      cause: source.damage,
      hint: `zrs verify ${name} tells more`,
    });
  }

  async quick(): Promise<Difference | undefined> {
    const history = new MarkedHistory(this.#copy.view, this.#pause);
    const { places } = await history.places(undefined, undefined, SPOTS);
    const spots = places.filter(({ position, end }) => end - position <= MAX_SPOT_BYTES);
    await using source = await this.#ask();
    const ask = source.ask.bind(source);
    const comparison = new SourceComparison(this.#copy, source.end, ask, { pause: this.#pause });
    return await this.#first(comparison, comparison.differencesAt(spots));
  }

  /** Whether the ends of the histories tell already that they differ; who may ask once only has to ask for that. */
  async isRefused(): Promise<boolean> {
    if (this.#source.isOnce === true) return false;
    const { kind } = await queryLineage(this.#ports, this.#source, this.#copy.view, this.#options);
    return kind === "differs";
  }

  /** The failure that a difference is. */
  differs(difference: Difference): Error {
    const { name } = this.#source;
    const { path } = this.#copy;
    const { tid } = difference;
    const names = { here: path, there: name };
    if (difference.kind === "damaged") {
      const words = describeDifference(difference, names);
      const message = `Cannot compare ${path} with ${name}: ${words}; nothing was written`;
      return difference.side === "here"
        ? new CorruptError(message, { path, tid })
        : new UnavailableError(message, { tid, hint: "zrs verify tells more about the file that is copied" });
    }
    const words = describeDifference(difference, names, describeWords(difference));
    const { path: verifyName = this.#source.url } = this.#source;
    const all = verifyName === undefined ? "" : `zrs verify ${path} ${verifyName} shows all differences; `;
    return new DivergedError(
      `Cannot copy from ${name}: ${path} differs from it, nothing was written: ${words}`,
      { path, tid, hint: `${all}to copy anew, move ${path} away` },
    );
  }

  async #ask(): Promise<ComparedSource> {
    if (this.#options.isZrs2) {
      throw new NotNativeError(
        `Cannot compare with ${this.#source.name}: zrs2 does not tell what is in its transactions`,
        { hint: "leave out --protocol zrs2, or compare by zrs verify" },
      );
    }
    return await ComparedSource.over(this.#ports, this.#source, this.#options, this.#signal);
  }

  /** That the copy is ahead is for its end to tell: the source may only lag. */
  async #first(
    comparison: { readonly result: { readonly same: number } },
    differences: AsyncGenerator<Difference>,
  ): Promise<Difference | undefined> {
    let found: Difference | undefined;
    for await (const difference of differences) {
      if (difference.kind !== "ahead") found = difference;
      break;
    }
    this.same = comparison.result.same;
    return found;
  }
}
