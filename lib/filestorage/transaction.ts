/**
 * Reading one transaction where it lies: its header, what state it is in, and its records in place.
 *
 * A transaction at the end of a file may be anything: absent, half-written, voted but not finished, cut off,
 * or garbage that a crash left. {@link TransactionReader.read} tells these apart and never throws for them;
 * what a follower, an owner and a reader make of each is theirs to decide.
 */
import { readU64 } from "../bytes/mod.ts";
import { CorruptError } from "../errors.ts";
import { describeTid, NO_TID, STATUS, type TransactionHead } from "../zodb/mod.ts";
import { BACK_POINTER_SIZE, FIRST_POSITION, RECORD, TRAILER_SIZE, TRANSACTION } from "./layout.ts";
import { Window } from "./window.ts";

/**
 * What stands at a position:
 * - `whole`: a finished transaction, header and trailer agree and lie below the limit
 * - `end`: nothing; the limit is here
 * - `short`: fewer bytes than a header
 * - `voted`: status 'c': the writer has not finished it, or died
 * - `beyond`: it claims to end beyond the limit
 * - `damaged`: lengths that cannot be; see {@link TransactionReader.damage}
 */
export type TransactionState = "whole" | "end" | "short" | "voted" | "beyond" | "damaged";

/** True for the statuses of finished transactions; any other byte is damage. */
export function isFinalStatus(status: number): boolean {
  return status === STATUS.committed || status === STATUS.packed || status === STATUS.undone;
}

/** A reader of transactions and, inside one, of its records. One object serves a whole walk through a file. */
export class TransactionReader {
  readonly window: Window;

  /** The transaction last read. */
  position = 0;
  /** Its length field: the whole record's length minus 8. */
  length = 0;
  status = 0;
  /** The header's length with user, description and extension: the first data record's offset. */
  headLength = 0;
  /** Why the state is `damaged`, in words that follow "Cannot read transaction: ". */
  damage = "";

  /** The record last read by {@link nextRecord}. */
  recordPosition = 0;
  oidHigh = 0;
  oidLow = 0;
  /** Position of the object's previous record as the file has it, 0 for none. */
  previous = 0;
  /** Length of the record's own data; 0 when it has a back pointer instead. */
  dataLength = 0;
  /** Position of the record that has the data, 0 when the object does not exist any more. */
  backPointer = 0;

  #tid = 0n;
  #next = 0;

  constructor(window: Window) {
    this.window = window;
  }

  get tid(): bigint {
    return this.#tid;
  }

  /** The position behind the transaction. */
  get end(): number {
    return this.position + this.length + TRAILER_SIZE;
  }

  /** The position of the records' end, where the trailer stands. */
  get recordsEnd(): number {
    return this.position + this.length;
  }

  /** Reads the header at `position`, and the trailer where there should be one. */
  read(position: number): TransactionState {
    const window = this.window;
    this.position = position;
    if (position >= window.limit) return "end";
    const at = window.locate(position, TRANSACTION.size);
    if (at < 0) return "short";
    const { view } = window;
    this.#tid = view.getBigUint64(at + TRANSACTION.tid);
    this.length = readU64(view, at + TRANSACTION.length);
    this.status = view.getUint8(at + TRANSACTION.status);
    this.headLength = TRANSACTION.size + view.getUint16(at + TRANSACTION.userLength) +
      view.getUint16(at + TRANSACTION.descriptionLength) + view.getUint16(at + TRANSACTION.extensionLength);
    this.#next = position + this.headLength;
    if (this.status === STATUS.voted) return "voted";
    if (this.end > window.limit) return "beyond";
    if (!isFinalStatus(this.status)) {
      return this.#damaged(
        `its status must be ' ', 'p', 'u' or 'c', found byte 0x${this.status.toString(16)}`,
      );
    }
    if (this.#tid === NO_TID) return this.#damaged("its tid must be greater than 0");
    if (this.length < this.headLength) {
      return this.#damaged(`its length must be at least ${this.headLength}, found ${this.length}`);
    }
    const trailerAt = window.peek(this.recordsEnd, TRAILER_SIZE);
    const trailer = trailerAt < 0 ? this.#farTrailer() : readU64(view, trailerAt);
    if (trailer !== this.length) {
      return this.#damaged(`its trailing length must be ${this.length}, found ${trailer}`);
    }
    return "whole";
  }

  /** The position of the transaction that ends at `end`, by its trailer; -1 when that cannot be. */
  startOf(end: number): number {
    const length = this.window.readU64Before(end);
    const start = end - TRAILER_SIZE - length;
    return length < TRANSACTION.size || start < FIRST_POSITION ? -1 : start;
  }

  /** The metadata as values of their own, copied out of the window. @throws CorruptError */
  head(): TransactionHead {
    const { window } = this;
    const at = window.locate(this.position, this.headLength);
    if (at < 0) throw this.corrupt("the file ends within its metadata");
    const { bytes, view } = window;
    const userLength = view.getUint16(at + TRANSACTION.userLength);
    const descriptionLength = view.getUint16(at + TRANSACTION.descriptionLength);
    const user = at + TRANSACTION.size;
    const description = user + userLength;
    const extension = description + descriptionLength;
    return {
      tid: this.#tid,
      status: this.status,
      user: bytes.slice(user, description),
      description: bytes.slice(description, extension),
      extension: bytes.slice(extension, at + this.headLength),
    };
  }

  /** Starts over with the first record of the transaction last read. */
  rewindRecords(): void {
    this.#next = this.position + this.headLength;
  }

  /**
   * Moves to the transaction's next record and reads its header.
   * @returns the header's offset in the window, or -1 after the last record
   * @throws CorruptError when the record does not fit into its transaction
   */
  nextRecord(): number {
    const position = this.#next;
    const recordsEnd = this.recordsEnd;
    if (position === recordsEnd) return -1;
    this.recordPosition = position;
    if (position + RECORD.size > recordsEnd) throw this.#corruptRecord("it reaches beyond the transaction");
    const wanted = Math.min(RECORD.size + BACK_POINTER_SIZE, recordsEnd - position);
    const at = this.window.locate(position, wanted);
    if (at < 0) throw this.#corruptRecord("the file ends within it");
    const { view } = this.window;
    this.oidHigh = view.getUint32(at);
    this.oidLow = view.getUint32(at + 4);
    this.previous = readU64(view, at + RECORD.previous);
    const transaction = readU64(view, at + RECORD.transaction);
    const versionLength = view.getUint16(at + RECORD.versionLength);
    this.dataLength = readU64(view, at + RECORD.dataLength);
    if (transaction !== this.position) {
      throw this.#corruptRecord(`its transaction must be at ${this.position}, found ${transaction}`);
    }
    if (versionLength !== 0) {
      throw this.#corruptRecord(
        `it belongs to a version (a feature of ZODB before 3.9), which is not supported`,
      );
    }
    this.#next = position + RECORD.size + (this.dataLength === 0 ? BACK_POINTER_SIZE : this.dataLength);
    if (this.#next > recordsEnd) {
      throw this.#corruptRecord(`its data of ${this.dataLength} bytes reaches beyond the transaction`);
    }
    if (this.dataLength === 0) {
      this.backPointer = readU64(view, at + RECORD.size);
      if (this.backPointer >= position) {
        throw this.#corruptRecord(`its back pointer must lead backwards, found ${this.backPointer}`);
      }
    } else {
      this.backPointer = 0;
    }
    return at;
  }

  /** The record's oid as one number. */
  get oid(): bigint {
    return (BigInt(this.oidHigh) << 32n) | BigInt(this.oidLow);
  }

  /** An error that says why the transaction last read is not whole. */
  notWhole(state: Exclude<TransactionState, "whole">): CorruptError {
    const problems = {
      end: "the file ends before it",
      short: "the file ends within its header",
      voted: "it was never finished",
      beyond: `it ends at ${this.end}, behind the end of the file`,
      damaged: this.damage,
    } as const;
    return this.corrupt(problems[state]);
  }

  /** An error about the transaction last read. */
  corrupt(problem: string): CorruptError {
    return new CorruptError(
      `Cannot read transaction ${describeTid(this.#tid)} at ${this.position}: ${problem}`,
      { position: this.position, tid: this.#tid },
    );
  }

  #corruptRecord(problem: string): CorruptError {
    return new CorruptError(
      `Cannot read data record at ${this.recordPosition} of transaction ${
        describeTid(this.#tid)
      }: ${problem}`,
      { position: this.recordPosition, tid: this.#tid },
    );
  }

  #damaged(problem: string): TransactionState {
    this.damage = problem;
    return "damaged";
  }

  #farTrailer(): number {
    const eight = new Uint8Array(TRAILER_SIZE);
    const count = this.window.source.readAt(eight, this.position + this.length);
    return count < TRAILER_SIZE ? -1 : readU64(new DataView(eight.buffer), 0);
  }
}
