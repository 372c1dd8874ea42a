/**
 * Comparing a copy with a source that answers questions (compare_answers.ts), without copying anything: digests of
 * one stretch after the other, computed at both ends at the same time. Where they differ, the stretch is halved
 * until few transactions are left, and these are compared one by one; where a pack has been, at once, and by their
 * records. What is the same and what is allowed is as in filestorage/compare.ts.
 *
 * The source is not trusted: a digest that differs where all it covers is the same is a broken protocol.
 */
import { CorruptError, ProtocolError } from "../errors.ts";
import {
  ComparedFile,
  type Comparison,
  ContentDigester,
  countedBefore,
  type Difference,
  digestHistory,
  type HistoryDigest,
  mayLack,
  type Neighbour,
  type Readable,
  startOf,
} from "../filestorage/mod.ts";
import { formatTid, NO_TID, parseTid, STATUS } from "../zodb/mod.ts";
import {
  checkContentAnswer,
  checkDigestAnswer,
  type CompareQuestion,
  type ContentAnswer,
  type ContentEntry,
  type ContentQuestion,
  type DigestQuestion,
} from "./compare_messages.ts";
import { ownUser, PairComparison } from "./compare_pair.ts";

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
  readonly #facts = {
    same: 0,
    lastSame: NO_TID,
    packedThere: 0,
    packedHere: 0,
    rewritten: 0,
    hasNewer: false,
  };
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
    const facts = this.#facts;
    const file = new ComparedFile(this.#log, range.from);
    file.before = this.#neighbourBefore(range.from);
    const isExplained = () => facts.packedHere + facts.packedThere + this.#pair.explained;
    const explainedBefore = isExplained();
    let found = 0;
    let before: Neighbour | undefined;
    let after = range.after;
    for (let isFirst = true;; isFirst = false) {
      const question = { kind: "content", ...bounds(after, through), records: isPacked, skip: 0 } as const;
      const answer = await this.#content(question);
      if (isFirst) before = neighbour(answer.packedBefore);
      for (const entry of answer.transactions) {
        const tid = parseTid(entry.tid);
        const there = { isPacked: entry.packed };
        while (file.read() && file.reader.tid < tid) {
          const difference = this.#extra(file, before, there, entry.position);
          if (difference !== undefined) yield (found++, difference);
          file.leave();
        }
        const difference = file.isPresent && file.reader.tid === tid
          ? await this.#both(file, entry)
          : this.#missing(file, entry);
        if (difference !== undefined) yield (found++, difference);
        before = there;
        after = tid;
      }
      if (!answer.whole) continue;
      const next = neighbour(answer.packedAfter);
      while (file.read() && file.reader.tid <= through) {
        const difference = this.#extra(file, before, next, undefined);
        if (difference !== undefined) yield (found++, difference);
        if (this.#isAhead) return;
        file.leave();
      }
      break;
    }
    if (found === 0 && isExplained() === explainedBefore) {
      throw new ProtocolError(
        `Cannot compare with the source: the digest that it gives of what follows ${
          formatTid(range.after ?? NO_TID)
        } up to ${formatTid(through)} is not that of the transactions it shows`,
      );
    }
  }

  async #both(file: ComparedFile, entry: ContentEntry): Promise<Difference | undefined> {
    const { tid } = file.reader;
    let difference: Difference | undefined;
    try {
      difference = await this.#pair.compare(file, entry);
    } catch (error) {
      if (!(error instanceof CorruptError)) throw error;
      const places = { here: file.reader.position, there: entry.position };
      const problem = error.message;
      difference = { ...ownUser(file), tid, ...places, kind: "damaged", side: "here", problem, final: false };
    }
    if (difference === undefined) {
      this.#facts.same++;
      this.#facts.lastSame = tid;
    }
    file.leave();
    return difference;
  }

  #extra(
    file: ComparedFile,
    before: Neighbour | undefined,
    after: Neighbour | undefined,
    there: number | undefined,
  ): Difference | undefined {
    if (mayLack(before, after, file.hasRecords)) {
      this.#facts.packedThere++;
      return undefined;
    }
    const { tid } = file.reader;
    const where = { ...ownUser(file), tid, here: file.reader.position, there };
    if (after !== undefined) return { ...where, kind: "extra" };
    this.#isAhead = true;
    return { ...where, kind: "ahead", lastTid: this.#log.lastTid, lastTidThere: this.#source.lastTid };
  }

  #missing(file: ComparedFile, entry: ContentEntry): Difference | undefined {
    if (mayLack(file.before, file.current, entry.count > 0)) {
      this.#facts.packedHere++;
      return undefined;
    }
    const encoder = new TextEncoder();
    return {
      kind: "missing",
      tid: parseTid(entry.tid),
      user: encoder.encode(entry.user),
      description: encoder.encode(entry.description),
      here: file.place,
      there: entry.position,
    };
  }

  #neighbourBefore(position: number): Neighbour | undefined {
    const { reader } = new ComparedFile(this.#log, position);
    const place = countedBefore(reader, position);
    return place && { isPacked: place.status === STATUS.packed };
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
