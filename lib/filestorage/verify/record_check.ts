/**
 * Checks the records of one transaction where they lie, and goes on behind damaged ones. What is found is
 * collected up to a bound, and handed over in between: a transaction may have millions of records.
 */
import { readU64 } from "../../bytes/mod.ts";
import { STATUS } from "../../zodb/mod.ts";
import type { Finding } from "./finding.ts";
import { BACK_POINTER_SIZE, RECORD, TRANSACTION } from "../layout.ts";
import { LinkCheck } from "./link_check.ts";
import type { LostRanges } from "./lost_ranges.ts";
import type { ObjectIndex } from "../index/object_index.ts";
import type { Resync } from "./resync.ts";
import type { Window } from "../window.ts";

/** So many findings, and then the transaction is gone on with later. */
const FINDINGS_AT_ONCE = 256;
/** Version fields between header and data, without the version's name. */
const VERSION_FIELDS = 16;

/** A transaction whose boundaries are known. */
export interface Bounds {
  readonly position: number;
  readonly tid: bigint;
  readonly status: number;
  /** Where its first record should begin. */
  readonly records: number;
  /** Where its trailer is. */
  readonly recordsEnd: number;
  /** Whether the file has only packed transactions up to here. */
  readonly isPackedBeginning: boolean;
}

export class RecordCheck {
  readonly #window: Window;
  readonly #index: ObjectIndex;
  readonly #resync: Resync;
  readonly #lost: LostRanges;
  readonly #links: LinkCheck;
  readonly #found: Finding[];

  /** Records passed, of all transactions that count. */
  records = 0;

  #bounds!: Bounds;
  #tidHigh = 0;
  #tidLow = 0;
  #next = 0;
  #end = 0;
  #recordsBefore = 0;
  /** The last record whose header was in order; 0 before the first. */
  #last = 0;
  #lastTid = 0n;
  #otherTids = 0;
  #otherTid: { readonly position: number; readonly oid: bigint; readonly found: bigint } | undefined;

  /** @param found where findings go; whoever takes them away empties it */
  constructor(window: Window, index: ObjectIndex, resync: Resync, lost: LostRanges, found: Finding[]) {
    this.#window = window;
    this.#index = index;
    this.#resync = resync;
    this.#lost = lost;
    this.#links = new LinkCheck(window.source, lost);
    this.#found = found;
  }

  /** How far the transaction has been checked. */
  get position(): number {
    return this.#next;
  }

  begin(bounds: Bounds): void {
    this.#bounds = bounds;
    this.#tidHigh = Number(bounds.tid >> 32n);
    this.#tidLow = Number(bounds.tid & 0xffff_ffffn);
    this.#next = bounds.records;
    this.#end = bounds.recordsEnd;
    this.#recordsBefore = this.records;
    this.#last = 0;
    this.#lastTid = bounds.tid;
    this.#otherTids = 0;
    this.#otherTid = undefined;
  }

  /** Checks on. @returns false when there is more to do, after the findings have been taken away */
  run(): boolean {
    const window = this.#window;
    const { view } = window;
    const index = this.#index;
    const { position: transaction, isPackedBeginning } = this.#bounds;
    const end = this.#end;
    let position = this.#next;
    while (position < end) {
      const at = end - position < RECORD.size
        ? -1
        : window.locate(position, Math.min(RECORD.size + BACK_POINTER_SIZE, end - position));
      const dataLength = at < 0 ? 0 : readU64(view, at + RECORD.dataLength);
      const next = position + RECORD.size + (dataLength === 0 ? BACK_POINTER_SIZE : dataLength);
      if (
        at < 0 || next > end || readU64(view, at + RECORD.transaction) !== transaction ||
        view.getUint16(at + RECORD.versionLength) !== 0
      ) {
        position = this.#goOnBehind(position, at);
      } else {
        this.records++;
        this.#last = position;
        const oidHigh = view.getUint32(at);
        const oidLow = view.getUint32(at + 4);
        if (
          view.getUint32(at + RECORD.tid) !== this.#tidHigh ||
          view.getUint32(at + RECORD.tid + 4) !== this.#tidLow
        ) this.#noteTid(position, at);
        const previous = readU64(view, at + RECORD.previous);
        const known = index.set(oidHigh, oidLow, position);
        if (previous !== known) {
          const expected = this.#links.expectedPrevious(known, transaction, previous, isPackedBeginning);
          if (expected !== previous) {
            this.#report(position, at, { kind: "previous", expected, found: previous });
          }
        }
        if (dataLength === 0) this.#checkBackPointer(position, at);
        position = next;
      }
      if (this.#found.length >= FINDINGS_AT_ONCE) {
        this.#next = position;
        return false;
      }
    }
    this.#next = position;
    this.#tellTids();
    return true;
  }

  #checkBackPointer(position: number, at: number): void {
    const { view } = this.#window;
    const target = readU64(view, at + RECORD.size);
    if (target === 0) return;
    const why = this.#links.checkBackPointer(position, target, view.getUint32(at), view.getUint32(at + 4));
    if (why !== undefined) this.#report(position, at, { kind: "back-pointer", found: target, why });
  }

  /**
   * What stands at `position` is no proper record: says why, and finds where to go on.
   * @param at its offset in the window; -1 where not even a header fits
   * @returns the position of the next record, or the transaction's end
   */
  #goOnBehind(position: number, at: number): number {
    const end = this.#end;
    if (at >= 0) {
      const next = this.#acceptOdd(position, at);
      if (next >= 0) return next;
    }
    const { view } = this.#window;
    const { position: transaction, tid } = this.#bounds;
    // As the search below takes it for one: else it would be found again here, for ever.
    const isNamed = at >= 0 && readU64(view, at + RECORD.transaction) === transaction &&
      this.#tids().includes(view.getBigUint64(at + RECORD.tid));
    if (isNamed) {
      // Everything is right but its length, or that it says to be of a version.
      const found = readU64(view, at + RECORD.dataLength);
      const next = this.#search(position + RECORD.size);
      const dataEnd = next < 0 ? end : next;
      this.records++;
      this.#last = position;
      this.#index.set(view.getUint32(at), view.getUint32(at + 4), position);
      const expected = dataEnd - position - RECORD.size;
      const isLengthRight = found === expected && view.getUint16(at + RECORD.versionLength) !== 0;
      this.#report(
        position,
        at,
        isLengthRight ? { kind: "version" } : { kind: "record-length", expected, found },
      );
      return dataEnd;
    }
    // Either this one is damaged, or the one before has another length than it says.
    const isFirst = this.#last === 0;
    const next = this.#search(isFirst ? transaction + TRANSACTION.size : this.#last + RECORD.size);
    const isTooShort = next < 0 && end - position < RECORD.size;
    if (isFirst && next >= 0 && next - position < RECORD.size) {
      const expected = next - transaction;
      this.#found.push({
        kind: "metadata-length",
        position: transaction,
        tid,
        expected,
        found: this.#bounds.records - transaction,
      });
      return next;
    }
    if (!isFirst && ((next >= 0 && next < position) || isTooShort)) {
      const dataEnd = next < 0 ? end : next;
      const lastAt = this.#window.locate(this.#last, RECORD.size);
      this.#report(this.#last, lastAt, {
        kind: "record-length",
        expected: dataEnd - this.#last - RECORD.size,
        found: readU64(view, lastAt + RECORD.dataLength),
      });
      return dataEnd;
    }
    const lostEnd = next < 0 ? end : next;
    this.#lost.add(position, lostEnd);
    this.#found.push({ kind: "lost-records", position, tid, end: lostEnd });
    return lostEnd;
  }

  /**
   * A record with one field that cannot be, and another one, or the end, just behind it.
   * @returns where it ends, or -1 when it is not such a one
   */
  #acceptOdd(position: number, at: number): number {
    const { view } = this.#window;
    const { position: transaction } = this.#bounds;
    const found = readU64(view, at + RECORD.transaction);
    const versionLength = view.getUint16(at + RECORD.versionLength);
    const dataLength = readU64(view, at + RECORD.dataLength);
    const next = position + RECORD.size + (dataLength || BACK_POINTER_SIZE) +
      (versionLength === 0 ? 0 : VERSION_FIELDS + versionLength);
    if (found !== transaction && versionLength !== 0) return -1;
    if (!this.#isBoundary(next)) return -1;
    this.records++;
    this.#last = position;
    this.#index.set(view.getUint32(at), view.getUint32(at + 4), position);
    if (versionLength !== 0) this.#report(position, at, { kind: "version" });
    else this.#report(position, at, { kind: "wrong-transaction", expected: transaction, found });
    return next;
  }

  /** Whether a record of this transaction begins there, or its trailer. */
  #isBoundary(position: number): boolean {
    return position === this.#end ||
      (position + RECORD.size < this.#end &&
        this.#resync.endOfRecord(position, this.#bounds.position) >= 0);
  }

  #search(from: number): number {
    return this.#resync.searchRecord(from, this.#end, this.#bounds.position, this.#tids());
  }

  /** What a record of this transaction may name as its tid. */
  #tids(): readonly bigint[] {
    return [this.#bounds.tid, this.#lastTid];
  }

  #noteTid(position: number, at: number): void {
    const { view } = this.#window;
    const found = view.getBigUint64(at + RECORD.tid);
    this.#lastTid = found;
    this.#otherTids++;
    this.#otherTid ??= { position, oid: view.getBigUint64(at), found };
  }

  /** All records that have another tid than the transaction are one finding: often it is the transaction's. */
  #tellTids(): void {
    if (this.#otherTid === undefined) return;
    const { tid } = this.#bounds;
    this.#found.push({
      kind: "tid-mismatch",
      ...this.#otherTid,
      tid,
      records: this.#otherTids,
      of: this.records - this.#recordsBefore,
    });
  }

  #report(
    position: number,
    at: number,
    facts:
      | { kind: "previous"; expected: number; found: number }
      | { kind: "back-pointer"; found: number; why: string }
      | { kind: "wrong-transaction"; expected: number; found: number }
      | { kind: "record-length"; expected: number | undefined; found: number }
      | { kind: "version" },
  ): void {
    const oid = this.#window.view.getBigUint64(at);
    this.#found.push({ ...facts, position, tid: this.#bounds.tid, oid });
  }
}

/** Whether records of a transaction count: not those that very old versions have cancelled. */
export function hasRecords(status: number): boolean {
  return status !== STATUS.undone;
}
