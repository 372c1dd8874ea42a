/**
 * Comparing a copy with a source that answers questions (compare_answers.ts), without copying anything: digests of
 * one stretch after the other, computed at both ends at the same time. Where they differ, the stretch is halved
 * until few transactions are left, and these are compared one by one; where a pack has been, at once, and by their
 * records. What is the same and what is allowed is as in filestorage/compare/compare.ts.
 *
 * The source is not trusted: a digest that differs where all it covers is the same is a broken protocol.
 */
import { ProtocolError } from "../../errors.ts";
import {
  ComparedFile,
  type Comparison,
  ContentDigester,
  type Difference,
  digestHistory,
  FIRST_POSITION,
  type HistoryDigest,
  type Neighbour,
  nothingCompared,
  type Readable,
  startOf,
} from "../../filestorage/mod.ts";
import { formatTid, NO_TID, parseTid } from "../../zodb/mod.ts";
import {
  checkContentAnswer,
  checkDigestAnswer,
  type CompareQuestion,
  type ContentAnswer,
  type ContentQuestion,
  type DigestQuestion,
} from "./compare_messages.ts";
import { EntryMerge } from "./compare_merge.ts";
import { PairComparison } from "./compare_pair.ts";

/** Digests are compared of so many bytes of the copy at once. */
const STRETCH_BYTES = 32 * 1024 * 1024;
/** No more than so many transactions are compared one by one without halving. */
const FEW = 32;
/** A source with which comparing needs more questions does not mean to end: as many, and one for so many bytes. */
const MIN_QUESTIONS = 10_000;
const BYTES_PER_QUESTION = 4096;

export interface SourceEnd {
  readonly lastTid: bigint;
  /** The end of its file. */
  readonly end: number;
}

export interface SourceComparisonOptions {
  /** Only transactions with this tid or a later one. */
  readonly since?: bigint | undefined;
  /** Lets other work run. @throws to end the comparison */
  readonly pause: () => Promise<void>;
  readonly progress?: ((position: number) => void) | undefined;
}

interface Range {
  readonly after: bigint | undefined;
  /** Where it begins in the copy. */
  readonly from: number;
  readonly through: bigint;
}

export class SourceComparison {
  readonly #log: Readable;
  readonly #source: SourceEnd;
  readonly #put: (question: CompareQuestion) => Promise<unknown>;
  readonly #options: SourceComparisonOptions;
  readonly #pair: PairComparison;
  readonly #facts = nothingCompared();
  #questions = 0;
  #isAhead = false;

  /**
   * @param log the copy
   * @param source as it said of itself
   * @param ask puts a question to it and resolves with the answer, whatever it is
   */
  constructor(
    log: Readable,
    source: SourceEnd,
    ask: (question: CompareQuestion) => Promise<unknown>,
    options: SourceComparisonOptions,
  ) {
    this.#log = log;
    this.#source = source;
    this.#put = ask;
    this.#options = options;
    const digester = new ContentDigester(log.file, options.pause);
    this.#pair = new PairComparison(log, digester, (question) => this.#content(question));
  }

  /** Of what has been compared so far. */
  get result(): Comparison {
    return { ...this.#facts };
  }

  /**
   * Every difference, in the order of the transactions; at most one of each transaction.
   * @throws ProtocolError where the answers make no sense; CorruptError where the copy is damaged; DiskError; what
   * `ask` and `pause` throw
   */
  async *differences(): AsyncGenerator<Difference> {
    const { since, progress } = this.#options;
    const { lastTid } = this.#log;
    let from = await startOf(this.#log, since);
    let after = since === undefined || since === NO_TID ? undefined : since - 1n;
    while (from < this.#log.end && !this.#isAhead && (after === undefined || after < lastTid)) {
      const stretch = this.#nextStretch(from);
      if (stretch === undefined) break; // only cancelled ones are left
      yield* this.#compare({ after, from, through: stretch.through });
      after = stretch.through;
      from = stretch.end;
      progress?.(from);
    }
    this.#facts.hasNewer = this.#source.lastTid > lastTid;
  }

  /**
   * As {@link differences}, of single transactions only; and that nothing is missing before the first of the copy, where
   * no pack of the copy can have removed it.
   * @param spots tids of the copy, and where each transaction begins in it, rising
   */
  async *differencesAt(
    spots: Iterable<{ readonly tid: bigint; readonly position: number }>,
  ): AsyncGenerator<Difference> {
    for (const { tid, position } of spots) {
      if (this.#isAhead) return;
      const after = position === FIRST_POSITION && !this.#isPackedAt(position) ? undefined : tid - 1n;
      yield* this.#compare({ after, from: position, through: tid });
    }
  }

  #isPackedAt(position: number): boolean {
    const file = new ComparedFile(this.#log, position);
    return file.read() && file.isPacked;
  }

  /** Transactions from a position on that are worth a question. */
  #nextStretch(from: number): { through: bigint; end: number } | undefined {
    const file = new ComparedFile(this.#log, from);
    let found: { through: bigint; end: number } | undefined;
    while (file.read()) {
      if (found !== undefined && file.position - from > STRETCH_BYTES) break;
      found = { through: file.reader.tid, end: file.position };
      file.leave();
    }
    return found;
  }

  async *#compare(range: Range): AsyncGenerator<Difference> {
    let { after, from } = range;
    const { through } = range;
    while (!this.#isAhead) {
      const question = { kind: "digest", ...bounds(after, through) } as const;
      const [answer, all] = await Promise.all([this.#askDigest(question), this.#digest(from, through)]);
      const reached = parseTid(answer.through);
      const own = reached < through ? await this.#digest(from, reached) : all;
      if (own.digest.startsWith(answer.digest) && own.transactions === answer.transactions) {
        this.#facts.same += own.transactions;
        if (own.transactions > 0) this.#facts.lastSame = own.lastTid;
      } else {
        yield* this.#examine({ after, from, through: reached }, own, answer.packed);
      }
      if (reached >= through) return;
      after = reached;
      from = own.end;
    }
  }

  /** The digests differ. */
  async *#examine(range: Range, own: HistoryDigest, isPackedThere: boolean): AsyncGenerator<Difference> {
    const isPacked = own.isPacked || isPackedThere;
    if (isPacked || own.transactions <= FEW) return yield* this.#oneByOne(range, isPacked);
    const file = new ComparedFile(this.#log, range.from);
    let middle = NO_TID;
    for (let at = 0; at < own.transactions / 2 && file.read(); at++) {
      middle = file.reader.tid;
      file.leave();
    }
    const end = file.position;
    yield* this.#compare({ ...range, through: middle });
    if (middle < range.through) {
      yield* this.#compare({ after: middle, from: end, through: range.through });
    }
  }

  async *#oneByOne(range: Range, isPacked: boolean): AsyncGenerator<Difference> {
    const { through } = range;
    const merge = new EntryMerge(this.#log, range.from, this.#source.lastTid, this.#pair, this.#facts);
    const explainedBefore = this.#explained;
    let after = range.after;
    for (let isFirst = true;; isFirst = false) {
      const question = { kind: "content", ...bounds(after, through), records: isPacked, skip: 0 } as const;
      const answer = await this.#content(question);
      if (isFirst) merge.before = neighbour(answer.packedBefore);
      for (const entry of answer.transactions) {
        yield* merge.push(entry);
        after = parseTid(entry.tid);
      }
      if (!answer.whole) continue;
      yield* merge.finish(through, neighbour(answer.packedAfter));
      break;
    }
    this.#isAhead = merge.isAhead;
    if (merge.found === 0 && this.#explained === explainedBefore) {
      throw new ProtocolError(
        `Cannot compare with the source: the digest that it gives of what follows ${
          formatTid(range.after ?? NO_TID)
        } up to ${formatTid(through)} is not that of the transactions it shows`,
      );
    }
  }

  /** How many transactions a pack has explained. */
  get #explained(): number {
    return this.#facts.packedHere + this.#facts.packedThere + this.#pair.explained;
  }

  async #digest(from: number, through: bigint): Promise<HistoryDigest> {
    return await digestHistory(this.#log, { from, through }, this.#options.pause);
  }

  async #askDigest(question: DigestQuestion) {
    return checkDigestAnswer(await this.#ask(question), question);
  }

  async #content(question: ContentQuestion): Promise<ContentAnswer> {
    return checkContentAnswer(await this.#ask(question), question);
  }

  async #ask(question: CompareQuestion): Promise<unknown> {
    const limit = MIN_QUESTIONS + (this.#log.end + this.#source.end) / BYTES_PER_QUESTION;
    if (++this.#questions > limit) {
      throw new ProtocolError(`Cannot compare with the source: no end after ${this.#questions - 1} answers`);
    }
    return await this.#put(question);
  }
}

function bounds(after: bigint | undefined, through: bigint) {
  return { after: after === undefined ? null : formatTid(after), through: formatTid(through) };
}

function neighbour(isPacked: boolean | null): Neighbour | undefined {
  return isPacked === null ? undefined : { isPacked };
}
