/**
 * Where a data record's links must lead. `previous` must be the object's last record before this transaction,
 * which the index being built knows; a back pointer must lead to an earlier record of the object, which is read
 * there. Neither takes memory beside the index.
 */
import { readU64, viewOf } from "../../bytes/mod.ts";
import { FIRST_POSITION, RECORD, TRAILER_SIZE, TRANSACTION } from "../layout.ts";
import type { LostRanges } from "./lost_ranges.ts";
import type { ByteSource } from "../window.ts";

export class LinkCheck {
  readonly #source: ByteSource;
  readonly #lost: LostRanges;
  readonly #bytes = new Uint8Array(RECORD.size);
  readonly #view = viewOf(this.#bytes);

  /** @param lost what lies there cannot be expected to be in order */
  constructor(source: ByteSource, lost: LostRanges) {
    this.#source = source;
    this.#lost = lost;
  }

  /**
   * What `previous` of a record must be, or `found` where that may stand there.
   * @param known the object's last record that has been passed
   * @param transaction the position of the record's transaction
   * @param isPacked whether a pack may have written the record: it leaves 0
   */
  expectedPrevious(known: number, transaction: number, found: number, isPacked: boolean): number {
    if (isPacked && found === 0) return found;
    // A second record of the object in its transaction has the same `previous` as the first.
    const expected = known >= transaction ? this.#previousOf(known) : known;
    return found !== 0 && found < transaction && this.#lost.has(found) ? found : expected;
  }

  /** @returns what is wrong with a back pointer, or undefined */
  checkBackPointer(position: number, target: number, oidHigh: number, oidLow: number): string | undefined {
    if (target >= position) return "that is not before it";
    if (target < FIRST_POSITION + TRANSACTION.size) return "no record can be there";
    if (!this.#read(target, RECORD.size)) return "the file ends before it";
    if (this.#view.getUint32(RECORD.oid) !== oidHigh || this.#view.getUint32(RECORD.oid + 4) !== oidLow) {
      return "there is no record of this object";
    }
    const transaction = readU64(this.#view, RECORD.transaction);
    const tid = this.#view.getBigUint64(RECORD.tid);
    if (transaction + TRANSACTION.size > target) {
      return "what is there names no transaction that it could be in";
    }
    if (this.#lost.has(transaction)) return undefined;
    if (!this.#read(transaction, TRANSACTION.size)) return "its transaction cannot be read";
    const isItsTid = this.#view.getBigUint64(TRANSACTION.tid) === tid;
    const length = readU64(this.#view, TRANSACTION.length);
    // Either is enough: what is damaged about a transaction has been found there, and is not told again here.
    if (target + RECORD.size <= transaction + length && (isItsTid || this.#repeats(transaction, length))) {
      return undefined;
    }
    return "what is there is no record, but looks like one";
  }

  /** Whether a transaction's length stands at its end, too. */
  #repeats(transaction: number, length: number): boolean {
    return this.#read(transaction + length, TRAILER_SIZE) && readU64(this.#view, 0) === length;
  }

  #previousOf(record: number): number {
    return this.#read(record, RECORD.size) ? readU64(this.#view, RECORD.previous) : 0;
  }

  #read(position: number, length: number): boolean {
    return this.#source.readAt(this.#bytes.subarray(0, length), position) === length;
  }
}
