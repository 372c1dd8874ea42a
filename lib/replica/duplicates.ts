/**
 * Objects that a transaction holds more than once (several undos in one transaction make them). A ZODB 5.5
 * secondary takes the first of such records where the last counts, so what refers to one is sent with its
 * data instead (docs/zrs_protocol.md, "Records made by undo").
 */
import { type ByteSource, TransactionReader, Window } from "../filestorage/mod.ts";

/** Oids sorted at once: 8 MiB. A transaction with more is gone through several times. */
const OIDS_AT_ONCE = 1 << 20;

export class DuplicateFinder {
  readonly #reader: TransactionReader;
  #position = -1;
  #duplicates = new Set<bigint>();

  constructor(source: ByteSource) {
    this.#reader = new TransactionReader(new Window(source, 0, 16 * 1024));
  }

  /**
   * Whether the transaction at `position` has several records of the object. The answer for the transaction
   * last asked about is remembered.
   * @param limit the end of what may be read
   * @throws CorruptError
   */
  hasSeveral(position: number, oidHigh: number, oidLow: number, limit: number): boolean {
    if (position !== this.#position) {
      this.#duplicates = this.#find(position, limit);
      this.#position = position;
    }
    return this.#duplicates.size > 0 && this.#duplicates.has((BigInt(oidHigh) << 32n) | BigInt(oidLow));
  }

  #find(position: number, limit: number): Set<bigint> {
    const reader = this.#reader;
    reader.window.limit = limit;
    if (reader.read(position) !== "whole") throw reader.corrupt("a back pointer leads into it");
    let count = 0;
    while (reader.nextRecord() >= 0) count++;
    const passes = Math.ceil(count / OIDS_AT_ONCE);
    const duplicates = new Set<bigint>();
    for (let pass = 0; pass < passes; pass++) {
      const oids = new BigUint64Array(passes === 1 ? count : this.#countIn(pass, passes));
      let taken = 0;
      reader.rewindRecords();
      while (reader.nextRecord() >= 0) {
        if ((reader.oidLow % passes) === pass) oids[taken++] = reader.oid;
      }
      const sorted = oids.subarray(0, taken).sort();
      for (let i = 1; i < sorted.length; i++) if (sorted[i] === sorted[i - 1]) duplicates.add(sorted[i]!);
    }
    return duplicates;
  }

  /** Records whose oid falls into a pass. */
  #countIn(pass: number, passes: number): number {
    let count = 0;
    this.#reader.rewindRecords();
    while (this.#reader.nextRecord() >= 0) if (this.#reader.oidLow % passes === pass) count++;
    return count;
  }
}
