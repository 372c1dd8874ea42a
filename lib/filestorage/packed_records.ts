/**
 * Finding records in what a pack has copied: there no links lead from one revision of an object to the next, so
 * the transaction is searched by its tid, and its records for the object.
 *
 * A stream may ask for one transaction's objects one after the other, and for several transactions in turn. So
 * each transaction is walked once, and a table kept of its objects: of the last one always, which takes no more
 * than its objects do in the index, and of others as long as all of them are small.
 */
import { NO_TID, STATUS } from "../zodb/mod.ts";
import { FIRST_POSITION } from "./layout.ts";
import { ObjectIndex } from "./index/object_index.ts";
import { TransactionReader } from "./transaction.ts";
import { type ByteSource, Window } from "./window.ts";
import { countUpTo } from "./sorted.ts";

const WINDOW_BYTES = 16 * 1024;

/** A search for a transaction walks through so much at most; each note takes some 30 bytes of memory. */
export const NOTE_SPACING = 256 * 1024;

/** What the tables take together, in bytes, unless one alone takes more. */
const TABLES_BYTES = 8 * 1024 * 1024;
/** A table's own cost, beside what its objects take. */
const TABLE_OVERHEAD = 256;

export class PackedRecords {
  readonly #reader: TransactionReader;
  readonly #noteSpacing: number;
  /** Starts and tids of packed transactions, every so many bytes; they never change while the file is open. */
  #tids: bigint[] = [];
  #positions: number[] = [];
  /** Up to here all transactions are packed. */
  #scanned = FIRST_POSITION;
  #lastTid = NO_TID;
  #ended = false;
  /** By tid, where each object's last record in that transaction is; the one asked for last is the last. */
  readonly #tables = new Map<bigint, ObjectIndex>();
  #tablesBytes = 0;

  /**
   * @param source the file; what lies below the greatest `end` asked for must not change any more
   * @param noteSpacing the fewest bytes between two packed transactions that are noted
   */
  constructor(source: ByteSource, noteSpacing: number) {
    this.#reader = new TransactionReader(new Window(source, FIRST_POSITION, WINDOW_BYTES));
    this.#noteSpacing = noteSpacing;
  }

  /**
   * The position of the last record of the object in the packed transaction with that tid, below `end`; 0 when
   * there is none.
   * @throws CorruptError
   */
  find(oidHigh: number, oidLow: number, tid: bigint, end: number): number {
    return this.#tableOf(tid, end)?.get(oidHigh, oidLow) ?? 0;
  }

  #tableOf(tid: bigint, end: number): ObjectIndex | undefined {
    const known = this.#tables.get(tid);
    if (known !== undefined) {
      this.#tables.delete(tid);
      this.#tables.set(tid, known);
      return known;
    }
    this.#reader.window.limit = end;
    const table = new ObjectIndex();
    const reader = this.#reader;
    if (this.#readTransaction(tid)) {
      while (reader.nextRecord() >= 0) table.set(reader.oidHigh, reader.oidLow, reader.recordPosition);
    } else if (!this.#ended && this.#lastTid < tid) {
      return undefined; // it may still come
    }
    this.#keep(tid, table);
    return table;
  }

  #keep(tid: bigint, table: ObjectIndex): void {
    this.#tables.set(tid, table);
    this.#tablesBytes += table.memoryBytes + TABLE_OVERHEAD;
    for (const [other, { memoryBytes }] of this.#tables) {
      if (this.#tablesBytes <= TABLES_BYTES || other === tid) break;
      this.#tables.delete(other);
      this.#tablesBytes -= memoryBytes + TABLE_OVERHEAD;
    }
  }

  /** Moves the reader to the packed transaction with that tid, if there is one. */
  #readTransaction(tid: bigint): boolean {
    const reader = this.#reader;
    this.#scan(tid);
    const noted = countUpTo(this.#tids, tid);
    if (noted === 0 || tid > this.#lastTid) return false;
    for (
      let position = this.#positions[noted - 1]!;
      reader.read(position) === "whole";
      position = reader.end
    ) {
      if (reader.tid >= tid) return reader.tid === tid;
    }
    return false;
  }

  /** Notes packed transactions until one is later than the tid. */
  #scan(tid: bigint): void {
    const reader = this.#reader;
    let noted = this.#positions.at(-1) ?? -Infinity;
    while (!this.#ended && (this.#tids.at(-1) ?? -1n) <= tid) {
      if (reader.read(this.#scanned) !== "whole") return;
      if (reader.status !== STATUS.packed) {
        this.#ended = true;
        return;
      }
      if (reader.position - noted >= this.#noteSpacing) {
        this.#tids.push(reader.tid);
        this.#positions.push(reader.position);
        noted = reader.position;
      }
      this.#scanned = reader.end;
      this.#lastTid = reader.tid;
    }
  }
}
