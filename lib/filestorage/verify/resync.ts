/**
 * Going on behind damage: finding the next place in a file where a transaction, or a record of a transaction,
 * really begins.
 *
 * What tells a transaction from bytes that merely look like one is that its first record names the transaction's
 * own position in the file, and its own tid. A Data.fs that is stored inside an object has whole transactions,
 * one after the other, but the positions in it count from its own beginning. A search looks at each byte a
 * bounded number of times, whatever the bytes are.
 */
import { readU64, viewOf } from "../../bytes/mod.ts";
import { BACK_POINTER_SIZE, RECORD, TRAILER_SIZE, TRANSACTION } from "../layout.ts";
import { isFinalStatus } from "../transaction.ts";
import type { ByteSource } from "../window.ts";

const BLOCK_BYTES = 256 * 1024;
/** The shortest transaction that has a record. */
const LEAST_LENGTH = TRANSACTION.size + RECORD.size + 1;

/** Searches in one file, up to a limit. */
export class Resync {
  readonly #source: ByteSource;
  readonly #limit: number;
  /** Made when it is needed: most files have no damage. */
  #block = new Uint8Array();
  #view = viewOf(this.#block);
  readonly #probe = new Uint8Array(RECORD.size);
  readonly #probeView = viewOf(this.#probe);
  #filled = 0;

  constructor(source: ByteSource, limit: number) {
    this.#source = source;
    this.#limit = limit;
  }

  /**
   * Looks for a transaction with records that begins at `from` or behind, within one block: call again with what
   * it returns until `found` or the limit.
   */
  searchTransaction(from: number): { readonly found: boolean; readonly position: number } {
    this.#fill(from);
    const { length } = TRANSACTION;
    const bytes = this.#block;
    const last = this.#filled - TRANSACTION.size;
    for (let at = 0; at <= last; at++) {
      // Nearly every byte is passed here: no file is so long that its lengths need these two.
      if (!isFinalStatus(bytes[at + TRANSACTION.status]!)) continue;
      if (bytes[at + length] !== 0 || bytes[at + length + 1] !== 0) continue;
      if (this.#isTransaction(from, at)) return { found: true, position: from + at };
    }
    return { found: false, position: last < 0 ? this.#limit : from + last + 1 };
  }

  /**
   * The first record of a transaction that lies whole from `from` on; -1 when there is none before `to`.
   * @param tids what it may name as its tid
   */
  searchRecord(from: number, to: number, transaction: number, tids: readonly bigint[]): number {
    const transactionLow = transaction % 0x1_0000_0000;
    for (let position = from; position + RECORD.size < to;) {
      this.#fill(position);
      const view = this.#view;
      const last = Math.min(this.#filled, to - position) - RECORD.size;
      for (let at = 0; at <= last; at++) {
        if (view.getUint32(at + RECORD.transaction + 4) !== transactionLow) continue;
        if (readU64(view, at + RECORD.transaction) !== transaction) continue;
        if (!tids.includes(view.getBigUint64(at + RECORD.tid))) continue;
        const dataLength = readU64(view, at + RECORD.dataLength);
        if (position + at + RECORD.size + (dataLength || BACK_POINTER_SIZE) <= to) return position + at;
      }
      if (last < 0) return -1;
      position += last + 1;
    }
    return -1;
  }

  /**
   * Walks over the records of the transaction at `transaction`, whose header cannot be trusted.
   * @param from where the first record begins
   * @returns where the last one ends: a trailer may stand there. Takes no step without a record's evidence
   */
  endOfRecords(from: number, transaction: number): number {
    let position = from;
    for (;;) {
      const next = this.endOfRecord(position, transaction);
      if (next < 0) return position;
      position = next;
    }
  }

  /** The end of the record at `position`; -1 when none of this transaction is there. */
  endOfRecord(position: number, transaction: number): number {
    if (!this.#read(position, RECORD.size)) return -1;
    if (readU64(this.#probeView, RECORD.transaction) !== transaction) return -1;
    const dataLength = readU64(this.#probeView, RECORD.dataLength);
    const end = position + RECORD.size + (dataLength || BACK_POINTER_SIZE);
    return end + TRAILER_SIZE <= this.#limit ? end : -1;
  }

  /** The 64-bit number at a position, or -1 where the file ends before. */
  readU64(position: number): number {
    return this.#read(position, 8) ? readU64(this.#probeView, 0) : -1;
  }

  /** Whether a transaction begins at offset `at` of the block, which begins at `start`. */
  #isTransaction(start: number, at: number): boolean {
    const view = this.#view;
    const position = start + at;
    const length = readU64(view, at + TRANSACTION.length);
    const headLength = TRANSACTION.size + view.getUint16(at + TRANSACTION.userLength) +
      view.getUint16(at + TRANSACTION.descriptionLength) + view.getUint16(at + TRANSACTION.extensionLength);
    if (length < LEAST_LENGTH || length < headLength + RECORD.size) return false;
    if (position + length + TRAILER_SIZE > this.#limit) return false;
    const tid = view.getBigUint64(at + TRANSACTION.tid);
    if (at + headLength + RECORD.size <= this.#filled) {
      if (readU64(view, at + headLength + RECORD.transaction) !== position) return false;
      if (view.getBigUint64(at + headLength + RECORD.tid) !== tid) return false;
    } else {
      if (!this.#read(position + headLength, RECORD.size)) return false;
      if (readU64(this.#probeView, RECORD.transaction) !== position) return false;
      if (this.#probeView.getBigUint64(RECORD.tid) !== tid) return false;
    }
    return this.readU64(position + length) === length;
  }

  #fill(position: number): void {
    const wanted = Math.max(0, Math.min(BLOCK_BYTES, this.#limit - position));
    if (this.#block.length < wanted) {
      this.#block = new Uint8Array(wanted);
      this.#view = viewOf(this.#block);
    }
    this.#filled = this.#source.readAt(this.#block.subarray(0, wanted), position);
  }

  #read(position: number, length: number): boolean {
    if (position < 0 || position + length > this.#limit) return false;
    return this.#source.readAt(this.#probe.subarray(0, length), position) === length;
  }
}
