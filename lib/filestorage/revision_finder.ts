/**
 * Finding the revision of an object that a given transaction wrote, and its data.
 *
 * The way leads along the object's own chain of previous records, newest first, which holds exactly the last
 * record of the object in each transaction. Only pack breaks the chain: what it copied is unlinked. There the
 * transaction is searched by its tid.
 */
import { equalBytes } from "../bytes/mod.ts";
import type { ObjectIndex } from "./index/object_index.ts";
import { NOTE_SPACING, PackedRecords } from "./packed_records.ts";
import { RecordReader } from "./revision.ts";
import type { ByteSource } from "./window.ts";

const COMPARE_BYTES = 64 * 1024;

export class RevisionFinder {
  readonly #source: ByteSource;
  readonly #index: ObjectIndex;
  readonly #record: RecordReader;
  readonly #packed: PackedRecords;
  #one: Uint8Array | undefined;
  #other: Uint8Array | undefined;

  /** @param noteSpacing the fewest bytes between two packed transactions that are noted */
  constructor(source: ByteSource, index: ObjectIndex, noteSpacing = NOTE_SPACING) {
    this.#source = source;
    this.#index = index;
    this.#record = new RecordReader(source);
    this.#packed = new PackedRecords(source, noteSpacing);
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
    return this.#packed.find(oidHigh, oidLow, tid, end);
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
}
