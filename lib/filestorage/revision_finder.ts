/**
 * Finding the revision of an object that a given transaction wrote, and its data.
 *
 * The way leads along the object's own chain of previous records, newest first, which holds exactly the last
 * record of the object in each transaction. Only pack breaks the chain: what it copied is unlinked. There the
 * transaction is searched by its tid.
 */
import { equalBytes } from "../bytes/mod.ts";
import { STATUS } from "../zodb/mod.ts";
import { FIRST_POSITION } from "./layout.ts";
import type { ObjectIndex } from "./object_index.ts";
import { RecordReader } from "./revision.ts";
import { TransactionReader } from "./transaction.ts";
import { type ByteSource, Window } from "./window.ts";

const COMPARE_BYTES = 64 * 1024;

/** A search walks through so much at most; each note takes some 30 bytes of memory. */
const NOTE_SPACING = 1024 * 1024;

export class RevisionFinder {
  readonly #source: ByteSource;
  readonly #index: ObjectIndex;
  readonly #record: RecordReader;
  /** Starts and tids of packed transactions, every so many bytes; they never change while the file is open. */
  #packedTids: bigint[] = [];
  #packedPositions: number[] = [];
  #packedScanned = FIRST_POSITION;
  #packedEnded = false;
  readonly #noteSpacing: number;
  #one: Uint8Array | undefined;
  #other: Uint8Array | undefined;

  /** @param noteSpacing the fewest bytes between two packed transactions that are noted */
  constructor(source: ByteSource, index: ObjectIndex, noteSpacing = NOTE_SPACING) {
    this.#source = source;
    this.#index = index;
    this.#record = new RecordReader(source);
    this.#noteSpacing = noteSpacing;
  }

  /**
   * The position of the last record of the object in the transaction with that tid, below `end`; 0 when there
   * is none. A record's own tid counts.
   * @throws CorruptError
   */
  find(oidHigh: number, oidLow: number, tid: bigint, end: number): number {
    const record = this.#record;
    let position = this.#index.get(oidHigh, oidLow);
    while (position !== 0) {
      record.read(position, oidHigh, oidLow);
      const found = record.tid;
      if (found === tid) return position;
      if (found < tid) return 0;
      position = record.previous;
    }
    return this.#findPacked(oidHigh, oidLow, tid, end);
  }

  /** Where the data of the record at `position` is, at the end of its back pointers; undefined for none. */
  dataOf(
    position: number,
    oidHigh: number,
    oidLow: number,
  ): { position: number; length: number } | undefined {
    const record = this.#record;
    record.read(position, oidHigh, oidLow);
    if (!record.resolve(oidHigh, oidLow)) return undefined;
    return { position: record.dataPosition, length: record.dataLength };
  }

  /** Compares two stretches of the file. */
  isSame(one: number, other: number, length: number): boolean {
    this.#one ??= new Uint8Array(COMPARE_BYTES);
    this.#other ??= new Uint8Array(COMPARE_BYTES);
    for (let done = 0; done < length;) {
      const count = Math.min(COMPARE_BYTES, length - done);
      const a = this.#one.subarray(0, count);
      const b = this.#other.subarray(0, count);
      if (this.#source.readAt(a, one + done) < count || this.#source.readAt(b, other + done) < count) {
        return false;
      }
      if (!equalBytes(a, b)) return false;
      done += count;
    }
    return true;
  }

  #findPacked(oidHigh: number, oidLow: number, tid: bigint, end: number): number {
    const reader = new TransactionReader(new Window(this.#source, end, 16 * 1024));
    this.#scanPacked(reader, tid);
    let low = 0;
    let high = this.#packedTids.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#packedTids[middle]! <= tid) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return 0;
    for (let position = this.#packedPositions[low - 1]!; reader.read(position) === "whole";) {
      if (reader.tid > tid) return 0;
      if (reader.tid === tid) {
        let last = 0;
        while (reader.nextRecord() >= 0) {
          if (reader.oidHigh === oidHigh && reader.oidLow === oidLow) last = reader.recordPosition;
        }
        return last;
      }
      position = reader.end;
    }
    return 0;
  }

  /** Notes packed transactions until one is later than the tid. */
  #scanPacked(reader: TransactionReader, tid: bigint): void {
    let noted = this.#packedPositions.at(-1) ?? -Infinity;
    while (!this.#packedEnded && (this.#packedTids.at(-1) ?? -1n) <= tid) {
      if (reader.read(this.#packedScanned) !== "whole") return;
      if (reader.status !== STATUS.packed) {
        this.#packedEnded = true;
        return;
      }
      if (reader.position - noted >= this.#noteSpacing) {
        this.#packedTids.push(reader.tid);
        this.#packedPositions.push(reader.position);
        noted = reader.position;
      }
      this.#packedScanned = reader.end;
    }
  }
}
