/**
 * Walks through a whole file once and checks its structure: transactions from end to end, lengths at both ends,
 * tids rising, statuses, and in each transaction its records (record_check.ts). Damage is told and gone on
 * behind; nothing in the file makes the walk fail, and what it holds in memory is the index of objects.
 *
 * Of a record only its header is looked at: a FileStorage has no checksum over data.
 */
import { NO_TID, STATUS } from "../../zodb/mod.ts";
import { MAX_RUN_BYTES } from "../appender.ts";
import type { Finding } from "./finding.ts";
import { FIRST_POSITION, RECORD, TRAILER_SIZE, TRANSACTION } from "../layout.ts";
import { walkingReader } from "../locate.ts";
import { LostRanges } from "./lost_ranges.ts";
import { ObjectIndex } from "../index/object_index.ts";
import { hasRecords, RecordCheck } from "./record_check.ts";
import { isTornEnd } from "../recover.ts";
import { Resync } from "./resync.ts";
import { isFinalStatus, TransactionReader, type TransactionState } from "../transaction.ts";
import { type FileRange, RangeList } from "./verify_ranges.ts";
import { Window, windowBytesFor } from "../window.ts";
import type { ReadableFile } from "../../ports/mod.ts";

/** After so many transactions, or bytes, a walk lets others run. */
const STEPS_BETWEEN_PAUSES = 10_000;
const BYTES_BETWEEN_PAUSES = 16 * 1024 * 1024;

/** A transaction whose end was found in spite of damage. */
interface Repaired {
  readonly recordsEnd: number;
  readonly headLength: number;
}

/** What the walk hands over: what it found; nothing, where others may have their turn; where it has come to. */
export type Step = Finding | undefined | "boundary";

export class StructureCheck {
  /** Where each object's current record is, as far as the walk has come. */
  readonly index = new ObjectIndex();
  readonly lost = new LostRanges();
  /** How far the walk has come, in bytes. */
  position = FIRST_POSITION;
  /** Transactions passed that count. */
  transactions = 0;
  lastTid = NO_TID;
  /** The end of the last whole transaction. */
  end = FIRST_POSITION;

  readonly #file: ReadableFile;
  readonly #limit: number;
  readonly #reader: TransactionReader;
  readonly #peek: TransactionReader;
  readonly #resync: Resync;
  readonly #records: RecordCheck;
  readonly #ranges = new RangeList();
  readonly #found: Finding[] = [];
  #isPackedBeginning = true;
  /** Of the transaction that is being checked. */
  #recordsEnd = 0;
  #hasRecords = false;

  /** @param limit what lies at or behind this position is not looked at, in bytes */
  constructor(file: ReadableFile, limit: number) {
    this.#file = file;
    this.#limit = limit;
    this.#reader = new TransactionReader(new Window(file, limit, windowBytesFor(limit)));
    this.#peek = walkingReader(file, limit);
    this.#resync = new Resync(file, limit);
    this.#records = new RecordCheck(this.#reader.window, this.index, this.#resync, this.lost, this.#found);
  }

  /** Records of transactions that count. */
  get records(): number {
    return this.#records.records;
  }

  /** Stretches of sound transactions, for looking into their records. */
  get ranges(): readonly FileRange[] {
    return this.#ranges.all;
  }

  /**
   * The walk. Does a bounded amount of work from one step to the next.
   * @param stopAt a position: "boundary" is handed over where a transaction begins or the file ends just there
   * @throws DiskError
   */
  *run(stopAt: number | undefined): Generator<Step> {
    const reader = this.#reader;
    let pausedAt = this.position;
    let steps = 0;
    for (;;) {
      const { position } = this;
      if (position === stopAt) yield "boundary";
      if (position - pausedAt >= BYTES_BETWEEN_PAUSES || ++steps >= STEPS_BETWEEN_PAUSES) {
        pausedAt = position;
        steps = 0;
        yield undefined;
      }
      const state = reader.read(position);
      if (state === "whole") {
        this.#begin(reader.headLength, reader.recordsEnd);
        this.#ranges.add(position, reader.end);
      } else {
        const repaired = state === "end" ? undefined : yield* this.#repair(state);
        if (repaired === "lost") continue;
        if (repaired === undefined) return;
        this.#begin(repaired.headLength, repaired.recordsEnd);
      }
      const end = this.#recordsEnd + TRAILER_SIZE;
      if (this.#hasRecords) { while (!this.#records.run()) yield* this.#takeFindings(); }
      if (this.#found.length > 0) yield* this.#takeFindings();
      this.position = this.end = end;
    }
  }

  #begin(headLength: number, recordsEnd: number): void {
    const { position, tid, status } = this.#reader;
    this.#recordsEnd = recordsEnd;
    this.#hasRecords = hasRecords(status);
    if (!this.#hasRecords) return;
    if (tid <= this.lastTid) this.#found.push({ kind: "tid-order", position, tid, before: this.lastTid });
    // What a pack copies is the beginning of a file.
    if (status !== STATUS.packed) this.#isPackedBeginning = false;
    this.lastTid = tid;
    this.transactions++;
    const isPackedBeginning = this.#isPackedBeginning;
    this.#records.begin({
      position,
      tid,
      status,
      records: position + headLength,
      recordsEnd,
      isPackedBeginning,
    });
  }

  /**
   * What stands here is no whole transaction. Says what it is, and looks for its end; without one, for the next.
   * @returns undefined at the end of what counts; "lost" when the walk goes on elsewhere
   */
  *#repair(
    state: Exclude<TransactionState, "whole" | "end">,
  ): Generator<Step, Repaired | "lost" | undefined> {
    const { position, tid, status, length } = this.#reader;
    if (state === "short") {
      yield this.#tornTail("short", undefined);
      return undefined;
    }
    const repaired = this.#endOf(position);
    if (repaired === undefined) return yield* this.#searchOn(state);
    const end = repaired.recordsEnd + TRAILER_SIZE;
    if (status === STATUS.voted) {
      if (end === this.#limit || !this.#begins(end)) {
        yield this.#tornTail("voted", tid);
        return undefined;
      }
      yield { kind: "unfinished", position, tid, bytes: this.#limit - end };
    } else if (!isFinalStatus(status)) {
      yield { kind: "bad-status", position, tid, found: status };
    }
    const header = length;
    const trailer = this.#resync.readU64(repaired.recordsEnd);
    const actual = repaired.recordsEnd - position;
    if (header !== actual) {
      yield { kind: "length-mismatch", position, tid, header, trailer, right: "trailer" };
    } else if (trailer !== actual) {
      yield { kind: "length-mismatch", position, tid, header, trailer, right: "header" };
    }
    const { headLength } = this.#reader;
    if (headLength > actual) {
      yield { kind: "metadata-length", position, tid, expected: undefined, found: headLength };
    }
    return repaired;
  }

  /** The end of the transaction that begins at `position`, if anything still tells it. */
  #endOf(position: number): Repaired | undefined {
    const { length, headLength } = this.#reader;
    const resync = this.#resync;
    const isWithin = length >= TRANSACTION.size && position + length + TRAILER_SIZE <= this.#limit;
    // Records begin behind the header; where that cannot be, they are searched for.
    const records = Math.min(headLength, length >= TRANSACTION.size ? length : headLength);
    if (isWithin && resync.readU64(position + length) === length) {
      return {
        recordsEnd: position + length,
        headLength: headLength <= length ? headLength : TRANSACTION.size,
      };
    }
    const recordsEnd = resync.endOfRecords(position + headLength, position);
    const actual = recordsEnd - position;
    if (resync.readU64(recordsEnd) === actual) return { recordsEnd, headLength };
    // The trailer is damaged where the records end just there.
    if (isWithin && actual === length && actual > records) return { recordsEnd, headLength };
    return undefined;
  }

  /** Looks for the next transaction, and says what is lost until there. */
  *#searchOn(state: TransactionState): Generator<Step, "lost" | undefined> {
    const { position, tid } = this.#reader;
    let at = position + 1;
    for (;;) {
      const next = this.#resync.searchTransaction(at);
      at = next.position;
      if (next.found) break;
      this.position = at;
      if (at >= this.#limit) {
        this.position = position;
        return yield* this.#endHere(state);
      }
      yield undefined;
    }
    const begin = this.#firstBefore(at, position);
    yield state === "voted"
      ? { kind: "unfinished", position, tid, bytes: this.#limit - begin }
      : this.#damaged(state);
    yield this.#loseUpTo(begin);
    return "lost";
  }

  /** There is no transaction from here on: a torn end, or lost ones. */
  *#endHere(state: TransactionState): Generator<Step, undefined> {
    const reader = this.#reader;
    if (state === "voted" || (state === "beyond" && this.#mayBeCut())) {
      yield this.#tornTail(state, reader.tid);
    } else if (isTornEnd(reader, this.#file, this.#limit)) {
      yield this.#tornTail("garbage", undefined);
    } else {
      yield this.#damaged(state);
      yield this.#loseUpTo(this.#limit);
    }
    return undefined;
  }

  /**
   * Whether the file may have been cut within the transaction that begins here: it is not much, as a crash leaves
   * it, or really one, of which the first record names the position.
   */
  #mayBeCut(): boolean {
    const { position, headLength } = this.#reader;
    return mayBeRun(this.#limit - position) ||
      this.#resync.readU64(position + headLength + RECORD.transaction) === position;
  }

  #tornTail(why: "short" | "voted" | "beyond" | "garbage", tid: bigint | undefined): Finding {
    const { position } = this.#reader;
    return { kind: "torn-tail", position, tid, bytes: this.#limit - position, why };
  }

  /** What is wrong with the header last read, of a transaction whose end is not known. */
  #damaged(state: TransactionState): Finding {
    const { position, tid, status, length, headLength } = this.#reader;
    if (state === "damaged" && !isFinalStatus(status)) {
      return { kind: "bad-status", position, tid, found: status };
    }
    const trailer = this.#resync.readU64(position + length);
    if (trailer === length) {
      return { kind: "metadata-length", position, tid, expected: undefined, found: headLength };
    }
    return {
      kind: "length-mismatch",
      position,
      tid,
      header: length,
      trailer: trailer < 0 ? undefined : trailer,
      right: "neither",
    };
  }

  #loseUpTo(end: number): Finding {
    const { position } = this.#reader;
    this.lost.add(position, end);
    this.position = end;
    const behind = end < this.#limit && this.#peek.read(end) === "whole" ? this.#peek.tid : undefined;
    return { kind: "lost", position, end, before: this.lastTid, behind };
  }

  /** Whether a transaction begins there that is whole; of one without records only its lengths tell. */
  #begins(position: number): boolean {
    return this.#peek.read(position) === "whole";
  }

  /** A search finds transactions with records only: those without that stand right before are found by trailers. */
  #firstBefore(found: number, from: number): number {
    const peek = this.#peek;
    let begin = found;
    for (;;) {
      const start = peek.startOf(begin);
      if (start <= from || peek.read(start) !== "whole" || peek.end !== begin) return begin;
      begin = start;
    }
  }

  *#takeFindings(): Generator<Step> {
    this.position = this.#records.position;
    const found = this.#found.splice(0);
    yield* found;
    yield undefined;
  }
}

/** Whether a crash of ours may have left so much. */
function mayBeRun(bytes: number): boolean {
  return bytes <= MAX_RUN_BYTES;
}
