/**
 * Comparing a copy ("here") with the file that it should be a copy of ("there"), transaction by transaction. The
 * same is what replication calls so: tid, user, description, extension, and each record's object, tid and data,
 * wherever they lie, whether behind a back pointer or not. Allowed is that the other file has newer transactions,
 * and what a pack at either end explains: see {@link mayLack} and compare_records.ts.
 *
 * Where both files have been the same byte for byte from the beginning on, blocks are compared and only the
 * lengths of transactions are read: a back pointer leads to the same place in both then, so equal bytes are equal
 * content. Behind a difference in content or in positions, records are compared one by one.
 *
 * Memory is bounded, but for 9 bytes or so per record of a transaction that both ends have packed differently.
 */
import { equalAt } from "../../bytes/mod.ts";
import { CorruptError, PickleError } from "../../errors.ts";
import { decodePickle, encodePickle, PyDict } from "../../pickle/mod.ts";
import { MAX_METADATA_LENGTH, NO_TID } from "../../zodb/mod.ts";
import { BlockComparison } from "./compare_blocks.ts";
import { RecordComparison } from "./compare_records.ts";
import { ComparedFile, mayLack } from "./compare_side.ts";
import type { Difference, MetadataField, RecordDifference, Side, Whereabouts } from "./difference.ts";
import { type Readable, startOf } from "../history.ts";
import { FIRST_POSITION, TRANSACTION } from "../layout.ts";

/** What was compared, besides the differences found. */
export interface Comparison {
  /** How many transactions were found the same at both ends, as far as packs have left them. */
  readonly same: number;
  /** The last of them; NO_TID for none. */
  readonly lastSame: bigint;
  /** How many only the copy has, and only the other end, as a pack of the other one explains. */
  readonly packedThere: number;
  readonly packedHere: number;
  /** How many were written anew with an extension that says the same in other bytes. */
  readonly rewritten: number;
  /** Whether the other end is known to have transactions behind the copy's last. */
  readonly hasNewer: boolean;
}

/** Where every comparison begins. */
export function nothingCompared(): { -readonly [Fact in keyof Comparison]: Comparison[Fact] } {
  return { same: 0, lastSame: NO_TID, packedThere: 0, packedHere: 0, rewritten: 0, hasNewer: false };
}

export interface ComparisonOptions {
  /** Only transactions with this tid or a later one. */
  readonly since?: bigint | undefined;
  /** Every byte must be the same, as far as the copy reaches; what a pack or copying anew changes is a difference. */
  readonly bytes?: boolean | undefined;
  /** Lets other work run. @throws to end the comparison */
  readonly pause: () => Promise<void>;
  /** Called now and then with how far the copy has been compared, in bytes. */
  readonly progress?: ((position: number) => void) | undefined;
}

/** After so many bytes others run. */
const BYTES_BETWEEN_PAUSES = 32 * 1024 * 1024;
/** What a transaction costs that is compared record by record, in bytes beside its own. */
const STEP_COST = 256;
/** So many transactions are compared one by one, at most, before blocks are tried again. */
const MAX_PATIENCE = 256;

export class FileComparison {
  readonly #here: Readable;
  readonly #there: Readable;
  readonly #options: ComparisonOptions;
  readonly #facts = nothingCompared();

  /** Both must stay open until all is compared. */
  constructor(here: Readable, there: Readable, options: ComparisonOptions) {
    this.#here = here;
    this.#there = there;
    this.#options = options;
  }

  /** Of what has been compared so far. */
  get result(): Comparison {
    return { ...this.#facts };
  }

  /**
   * Every difference, in the order of the transactions; at most one of each transaction.
   * @throws DiskError; what `pause` throws
   */
  async *differences(): AsyncGenerator<Difference> {
    const { since } = this.#options;
    let side: Side = "here";
    let from: { here: number; there: number };
    try {
      const here = await startOf(this.#here, since);
      side = "there";
      from = { here, there: await startOf(this.#there, since) };
    } catch (error) {
      if (!(error instanceof CorruptError)) throw error;
      yield damaged(side, error, undefined, undefined);
      return;
    }
    const walk = new Walk(this.#here, this.#there, from, this.#options, this.#facts);
    yield* walk.differences();
  }
}

type Counted = { -readonly [Name in keyof Comparison]: Comparison[Name] };

class Walk {
  readonly #here: ComparedFile;
  readonly #there: ComparedFile;
  readonly #records: RecordComparison;
  readonly #options: ComparisonOptions;
  readonly #facts: Counted;
  /** Both files are the same so far in content and positions, from the beginning on. */
  #isAligned: boolean;
  readonly #blocks: BlockComparison;
  #patience = 0;
  #rest = 0;
  #sincePause = 0;

  constructor(
    here: Readable,
    there: Readable,
    from: { readonly here: number; readonly there: number },
    options: ComparisonOptions,
    facts: Counted,
  ) {
    this.#here = new ComparedFile(here, from.here);
    this.#there = new ComparedFile(there, from.there);
    this.#records = new RecordComparison(this.#here, this.#there);
    this.#options = options;
    this.#facts = facts;
    this.#blocks = new BlockComparison(here, there, {
      passed: (tid, isPacked) => this.#passed(tid, isPacked),
      pauseAfter: (bytes, position) => this.#pauseAfter(bytes, position),
    });
    // What lies before may differ, and back pointers lead there.
    this.#isAligned = from.here === FIRST_POSITION && from.there === FIRST_POSITION;
  }

  async *differences(): AsyncGenerator<Difference> {
    if (this.#options.bytes) return yield* this.#byteDifference();
    for (;;) {
      if (this.#isAligned && this.#rest-- <= 0) await this.#passSame();
      let side: Side = "here";
      try {
        this.#here.read();
        side = "there";
        this.#there.read();
      } catch (error) {
        if (!(error instanceof CorruptError)) throw error;
        yield damaged(side, error, this.#here.place, this.#there.place);
        return;
      }
      if (!this.#here.isPresent) {
        this.#facts.hasNewer = this.#there.isPresent;
        return;
      }
      const difference = this.#step();
      if (difference !== undefined) yield difference;
      if (difference?.kind === "ahead") return;
      await this.#pauseAfter(STEP_COST + this.#here.reader.length, this.#here.position);
    }
  }

  /** Compares what is current at both ends, and leaves it at one or both. */
  #step(): Difference | undefined {
    const here = this.#here;
    const there = this.#there;
    const facts = this.#facts;
    const tid = here.reader.tid;
    if (!there.isPresent || tid < there.reader.tid) {
      this.#isAligned = false;
      const explained = mayLack(there.before, there.current, here.hasRecords);
      const difference = explained
        ? undefined
        : there.isPresent
        ? { ...this.#whereabouts(here), kind: "extra" as const }
        : this.#ahead();
      if (explained) facts.packedThere++;
      here.leave();
      return difference;
    }
    if (tid > there.reader.tid) {
      this.#isAligned = false;
      const explained = mayLack(here.before, here.current, there.hasRecords);
      const difference = explained ? undefined : { ...this.#whereabouts(there), kind: "missing" as const };
      if (explained) facts.packedHere++;
      there.leave();
      return difference;
    }
    const difference = this.#pair();
    if (difference === undefined) {
      facts.same++;
      facts.lastSame = tid;
    }
    here.leave();
    there.leave();
    return difference;
  }

  #ahead(): Difference {
    const { lastTid } = this.#here.log;
    const lastTidThere = this.#there.log.lastTid;
    return { ...this.#whereabouts(this.#here), kind: "ahead", lastTid, lastTidThere };
  }

  /** The same tid at both ends. */
  #pair(): Difference | undefined {
    const here = this.#here;
    const there = this.#there;
    const isMoved = here.reader.position !== there.reader.position || here.reader.end !== there.reader.end;
    let found: { kind: "metadata"; fields: readonly MetadataField[] } | RecordDifference | undefined;
    try {
      const fields = this.#differingFields();
      found = fields.length > 0 ? { kind: "metadata", fields } : this.#records.compare();
    } catch (error) {
      if (!(error instanceof CorruptError)) throw error;
      this.#isAligned = false;
      const side = this.#damagedSide();
      return { ...this.#whereabouts(here), kind: "damaged", side, problem: error.message, final: false };
    }
    if (isMoved || found !== undefined || !this.#records.isAligned) this.#isAligned = false;
    if (found === undefined) return undefined;
    return { ...this.#whereabouts(here), ...found } as Difference;
  }

  /** Which of the two cannot be read: the one that fails by itself. */
  #damagedSide(): Side {
    try {
      const { reader } = this.#here;
      reader.rewindRecords();
      while (reader.nextRecord() >= 0) this.#here.resolve();
      return "there";
    } catch (error) {
      if (error instanceof CorruptError) return "here";
      throw error;
    }
  }

  #differingFields(): MetadataField[] {
    const a = this.#here;
    const b = this.#there;
    const aAt = a.locateTexts();
    const bAt = b.locateTexts();
    const aBytes = a.reader.window.bytes;
    const bBytes = b.reader.window.bytes;
    const lengths = aAt - TRANSACTION.size + TRANSACTION.userLength;
    const otherLengths = bAt - TRANSACTION.size + TRANSACTION.userLength;
    const length = a.reader.headLength - TRANSACTION.userLength;
    // The three lengths and the three texts lie side by side.
    if (
      a.reader.headLength === b.reader.headLength && equalAt(aBytes, lengths, bBytes, otherLengths, length)
    ) return [];
    const own = a.reader.head();
    const others = b.reader.head();
    const fields: MetadataField[] = [];
    if (!isSame(own.user, others.user)) fields.push("user");
    if (!isSame(own.description, others.description)) fields.push("description");
    if (!isSame(own.extension, others.extension)) {
      if (saysTheSame(own.extension, others.extension)) this.#facts.rewritten++;
      else fields.push("extension");
    }
    return fields;
  }

  #whereabouts(owner: ComparedFile): Whereabouts {
    const { tid, user, description } = owner.reader.head();
    return { tid, user, description, here: this.#here.place, there: this.#there.place };
  }

  /** Passes transactions that are the same byte by byte, in both at the same positions. */
  async #passSame(): Promise<void> {
    const here = this.#here;
    const start = here.position;
    if (here.isPresent || this.#there.isPresent || start !== this.#there.position) return;
    const at = await this.#blocks.sameUntil(start);
    here.position = at;
    this.#there.position = at;
    // Where transaction after transaction differs in its status only, trying again each time would cost the most.
    this.#patience = at > start ? 0 : Math.min(MAX_PATIENCE, this.#patience * 2 + 1);
    this.#rest = this.#patience;
  }

  /** A transaction lies in both at the same position, and is the same. */
  #passed(tid: bigint, isPacked: boolean): void {
    this.#facts.same++;
    this.#facts.lastSame = tid;
    this.#here.before = this.#there.before = { isPacked };
  }

  async *#byteDifference(): AsyncGenerator<Difference> {
    const { end } = this.#here.log;
    const isComparable = end === 0 || this.#blocks.hasSameMagic();
    const at = isComparable ? await this.#blocks.sameUntil(FIRST_POSITION) : 0;
    if (at >= end) {
      this.#facts.hasNewer = this.#there.log.end > end;
      return;
    }
    const { reader } = this.#here;
    const known = end >= at + TRANSACTION.size && at > 0 && reader.read(at) === "whole"
      ? reader.head()
      : { tid: NO_TID, user: new Uint8Array(), description: new Uint8Array() };
    const { tid, user, description } = known;
    const difference = await this.#blocks.differenceBehind(at);
    yield { tid, user, description, here: at, there: at, kind: "bytes", ...difference };
  }

  async #pauseAfter(bytes: number, position: number): Promise<void> {
    this.#sincePause += bytes;
    if (this.#sincePause < BYTES_BETWEEN_PAUSES) return;
    this.#sincePause = 0;
    this.#options.progress?.(position);
    await this.#options.pause();
  }
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && equalAt(a, 0, b, 0, a.length);
}

/** Whether two extensions are the same dict: copies made by ZODB before 5.6 have it pickled anew. */
export function saysTheSame(a: Uint8Array, b: Uint8Array): boolean {
  try {
    return isSame(pickledAnew(a), pickledAnew(b));
  } catch (error) {
    if (error instanceof PickleError) return false;
    throw error;
  }
}

function pickledAnew(extension: Uint8Array): Uint8Array {
  const value = extension.length === 0 ? new PyDict() : decodePickle(extension);
  return encodePickle(value, 4 * MAX_METADATA_LENGTH);
}

function damaged(
  side: Side,
  error: CorruptError,
  here: number | undefined,
  there: number | undefined,
): Difference {
  return {
    tid: error.facts.tid ?? NO_TID,
    user: new Uint8Array(),
    description: new Uint8Array(),
    here,
    there,
    kind: "damaged",
    side,
    problem: error.message,
    final: true,
  };
}
