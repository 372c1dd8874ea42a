/**
 * Objects that a transaction holds more than once (several undos in one transaction make them). A ZODB 5.5
 * secondary takes the first of such records where the last counts, so what refers to one is sent with its
 * data instead (docs/zrs_protocol.md, "Records made by undo").
 *
 * A bulk undo refers to a few large transactions in any order, so what was found is remembered: of nearly all
 * transactions no more than that there is nothing.
 */
import { type ByteSource, TransactionReader, Window } from "../../filestorage/mod.ts";

/** Oids sorted at once: 8 MiB. A transaction with more is gone through several times. */
const OIDS_AT_ONCE = 1 << 20;
/** Transactions without duplicates that are remembered at least; at most twice as many. */
const CLEAN_REMEMBERED = 1 << 15;
/** Duplicates that are remembered, over all transactions but the one last examined. */
const DUPLICATES_REMEMBERED = 1 << 16;
/** After so many records a walk lets others run. */
const RECORDS_BETWEEN_PAUSES = 20_000;

export class DuplicateFinder {
  readonly #reader: TransactionReader;
  readonly #pause: () => Promise<void>;
  readonly #oidsAtOnce: number;
  /** Positions of transactions without duplicates: those found lately, and those before them. */
  #clean = new Set<number>();
  #cleanBefore = new Set<number>();
  /** The others by position, the one needed last at the end. */
  readonly #found = new Map<number, ReadonlySet<bigint>>();
  #foundCount = 0;
  #steps = 0;

  /**
   * @param pause lets other work run during a long walk
   * @param oidsAtOnce bounds the memory of an examination, 8 bytes each
   */
  constructor(source: ByteSource, pause: () => Promise<void>, oidsAtOnce = OIDS_AT_ONCE) {
    this.#reader = new TransactionReader(new Window(source, 0, 16 * 1024));
    this.#pause = pause;
    this.#oidsAtOnce = oidsAtOnce;
  }

  /** Whether {@link hasSeveral} can answer for the transaction at `position`. */
  knows(position: number): boolean {
    return this.#clean.has(position) || this.#cleanBefore.has(position) || this.#found.has(position);
  }

  /**
   * Goes through the transaction at `position`, so that {@link hasSeveral} can answer until other ones have
   * been examined.
   * @param limit the end of what may be read
   * @throws CorruptError
   */
  async examine(position: number, limit: number): Promise<void> {
    const duplicates = await this.#find(position, limit);
    if (duplicates.size === 0) return this.#rememberClean(position);
    this.#found.set(position, duplicates);
    this.#foundCount += duplicates.size;
    for (const [oldest, { size }] of this.#found) {
      if (this.#foundCount <= DUPLICATES_REMEMBERED || oldest === position) break;
      this.#found.delete(oldest);
      this.#foundCount -= size;
    }
  }

  /** Whether the transaction at `position`, which has been examined, has several records of the object. */
  hasSeveral(position: number, oidHigh: number, oidLow: number): boolean {
    const duplicates = this.#found.get(position);
    if (duplicates === undefined) return false;
    this.#found.delete(position);
    this.#found.set(position, duplicates);
    return duplicates.has((BigInt(oidHigh) << 32n) | BigInt(oidLow));
  }

  #rememberClean(position: number): void {
    if (this.#clean.size >= CLEAN_REMEMBERED) {
      this.#cleanBefore = this.#clean;
      this.#clean = new Set();
    }
    this.#clean.add(position);
  }

  async #find(position: number, limit: number): Promise<Set<bigint>> {
    const reader = this.#reader;
    reader.window.limit = limit;
    if (reader.read(position) !== "whole") throw reader.corrupt("a back pointer leads into it");
    let count = 0;
    for (; reader.nextRecord() >= 0; count++) if (this.#isTimeToPause()) await this.#pause();
    const duplicates = new Set<bigint>();
    if (count < 2) return duplicates;
    // Half full on average, so that a pass with some more than its share has room.
    const passes = count <= this.#oidsAtOnce ? 1 : Math.ceil(count / (this.#oidsAtOnce / 2));
    let oids = new BigUint64Array(Math.min(count, this.#oidsAtOnce));
    for (let pass = 0; pass < passes; pass++) {
      let taken = 0;
      reader.rewindRecords();
      while (reader.nextRecord() >= 0) {
        if (this.#isTimeToPause()) await this.#pause();
        if (passes > 1 && passOf(reader.oidHigh, reader.oidLow, passes) !== pass) continue;
        if (taken === oids.length) {
          taken = takeDuplicates(oids, taken, duplicates);
          if (taken > oids.length / 2) oids = grown(oids); // oids made to meet in one pass
        }
        oids[taken++] = reader.oid;
      }
      takeDuplicates(oids, taken, duplicates);
    }
    return duplicates;
  }

  #isTimeToPause(): boolean {
    return ++this.#steps % RECORDS_BETWEEN_PAUSES === 0;
  }
}

/** The pass that an object is looked at in: all its bits count, for applications give out oids by many rules. */
export function passOf(oidHigh: number, oidLow: number, passes: number): number {
  let mixed = Math.imul(oidLow ^ Math.imul(oidHigh, 0x85eb_ca6b), 0x9e37_79b1);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85eb_ca6b);
  return ((mixed ^ (mixed >>> 13)) >>> 0) % passes;
}

/** Sorts the first `taken` oids and leaves each once, in front. @returns how many are left */
function takeDuplicates(oids: BigUint64Array, taken: number, duplicates: Set<bigint>): number {
  if (taken === 0) return 0;
  oids.subarray(0, taken).sort();
  let left = 1;
  for (let i = 1; i < taken; i++) {
    const oid = oids[i]!;
    if (oid === oids[left - 1]) duplicates.add(oid);
    else oids[left++] = oid;
  }
  return left;
}

function grown(oids: BigUint64Array<ArrayBuffer>): BigUint64Array<ArrayBuffer> {
  const larger = new BigUint64Array(2 * oids.length);
  larger.set(oids);
  return larger;
}
