/** Goes through a copy and what a source tells of its transactions, oldest first, side by side. */
import { CorruptError } from "../../errors.ts";
import {
  ComparedFile,
  type Comparison,
  countedBefore,
  type Difference,
  mayLack,
  type Neighbour,
  type Readable,
} from "../../filestorage/mod.ts";
import { parseTid, STATUS } from "../../zodb/mod.ts";
import { ownUser, type PairComparison, type SourceTransaction } from "./compare_pair.ts";

export class EntryMerge {
  readonly #log: Readable;
  readonly #file: ComparedFile;
  readonly #sourceLastTid: bigint;
  readonly #pair: PairComparison;
  readonly #facts: { -readonly [Name in keyof Comparison]: Comparison[Name] };
  /** The source's transaction before the next one. */
  before: Neighbour | undefined;
  /** How many differences have been found. */
  found = 0;
  /** The copy goes on behind the source's end. */
  isAhead = false;

  /**
   * @param from where to begin in the copy
   * @param facts are kept up to date
   */
  constructor(
    log: Readable,
    from: number,
    sourceLastTid: bigint,
    pair: PairComparison,
    facts: { -readonly [Name in keyof Comparison]: Comparison[Name] },
  ) {
    this.#log = log;
    this.#file = new ComparedFile(log, from);
    this.#sourceLastTid = sourceLastTid;
    this.#pair = pair;
    this.#facts = facts;
    const place = countedBefore(this.#file.reader, from);
    this.#file.before = place && { isPacked: place.status === STATUS.packed };
  }

  /** How far the copy has been compared, in bytes. */
  get position(): number {
    return this.#file.place;
  }

  /** Takes the source's next transaction. @throws ProtocolError, DiskError */
  async *push(entry: SourceTransaction): AsyncGenerator<Difference> {
    const file = this.#file;
    const tid = parseTid(entry.tid);
    const there = { isPacked: entry.packed };
    while (file.read() && file.reader.tid < tid) {
      yield* this.#found(this.#extra(there, entry.position));
      file.leave();
    }
    const isBoth = file.isPresent && file.reader.tid === tid;
    yield* this.#found(isBoth ? await this.#both(entry) : this.#missing(entry));
    this.before = there;
  }

  /**
   * The source has no more transactions up to this tid.
   * @param after its next one
   */
  *finish(through: bigint, after: Neighbour | undefined): Generator<Difference> {
    const file = this.#file;
    while (file.read() && file.reader.tid <= through) {
      yield* this.#found(this.#extra(after, undefined));
      if (this.isAhead) return;
      file.leave();
    }
  }

  *#found(difference: Difference | undefined): Generator<Difference> {
    if (difference === undefined) return;
    this.found++;
    yield difference;
  }

  async #both(entry: SourceTransaction): Promise<Difference | undefined> {
    const file = this.#file;
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
    this.#facts.rewritten = this.#pair.rewritten;
    if (difference === undefined) {
      this.#facts.same++;
      this.#facts.lastSame = tid;
    }
    file.leave();
    return difference;
  }

  #extra(after: Neighbour | undefined, there: number | undefined): Difference | undefined {
    const file = this.#file;
    if (mayLack(this.before, after, file.hasRecords)) {
      this.#facts.packedThere++;
      return undefined;
    }
    const { tid } = file.reader;
    const where = { ...ownUser(file), tid, here: file.reader.position, there };
    if (after !== undefined) return { ...where, kind: "extra" };
    this.isAhead = true;
    return { ...where, kind: "ahead", lastTid: this.#log.lastTid, lastTidThere: this.#sourceLastTid };
  }

  #missing(entry: SourceTransaction): Difference | undefined {
    const file = this.#file;
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
}
