/**
 * Where each object's current record is: a map from 64-bit oids to positions, made for millions of entries.
 *
 * Objects of 256 neighbouring oids share a page (index_page.ts), a hash table finds the pages
 * (index_directory.ts), and all pages lie in a few large slabs (index_arena.ts): 6.2 bytes an object when oids
 * are given out one after the other as ZODB does, about 33 when each oid is a page of its own. Nothing here is
 * an object for the garbage collector to walk.
 */
import { commonLength } from "../../bytes/mod.ts";
import { IndexArena, offsetOf, slabOf } from "./index_arena.ts";
import { addBucket, type BucketDamage, IndexBucket, type PackedBucket } from "./index_bucket.ts";
import { PageDirectory } from "./index_directory.ts";
import {
  BLOCK_BYTES,
  CAPACITY,
  CLASS_FOR,
  clearDense,
  copyBytes,
  DENSE,
  DENSE_COUNT,
  findSuffix,
  insertAt,
  MAX_POSITION,
  POSITION_BYTES,
  readCount,
  readPosition,
  removeAt,
  suffixesOf,
  visitPage,
  writeCount,
  writePosition,
} from "./index_page.ts";

/** Where each object's current record is. Positions are 1 … 2^48-1 bytes; 0 means absent. */
export class ObjectIndex {
  readonly #arena = new IndexArena(BLOCK_BYTES);
  readonly #directory = new PageDirectory();
  #count = 0;
  /** The greatest oid's halves; -1 when the index is empty, undefined when it has to be searched for. */
  #greatestHigh: number | undefined = -1;
  #greatestLow = 0;

  /** How many objects have a position. */
  get count(): number {
    return this.#count;
  }

  /** What its storage takes, in bytes. */
  get memoryBytes(): number {
    return this.#arena.memoryBytes + this.#directory.memoryBytes;
  }

  /** The position of an object's current record; 0 when absent. The oid's halves are unsigned. */
  get(oidHigh: number, oidLow: number): number {
    const slot = this.#directory.find(oidHigh, oidLow >>> 8);
    if (slot < 0) return 0;
    const address = this.#directory.addressAt(slot);
    const sizeClass = this.#directory.classAt(slot);
    const view = this.#arena.views[slabOf(address)]!;
    const page = offsetOf(address);
    const suffix = oidLow & 0xff;
    if (sizeClass === DENSE) return readPosition(view, page + suffix * POSITION_BYTES);
    const bytes = this.#arena.bytes[slabOf(address)]!;
    const count = readCount(view, page, sizeClass);
    const rank = findSuffix(bytes, suffixesOf(page, sizeClass), count, suffix);
    return rank < 0 ? 0 : readPosition(view, page + rank * POSITION_BYTES);
  }

  /**
   * Gives an object its position, in place of an earlier one.
   * @returns the earlier one; 0 when the object was absent
   * @throws RangeError for a position that is not 1 … 2^48-1: a bug of the caller, who checks the file's size
   */
  set(oidHigh: number, oidLow: number, position: number): number {
    if (!(position >= 1 && position <= MAX_POSITION)) {
      throw new RangeError(`Cannot index position ${position}: expected 1 to ${MAX_POSITION}`);
    }
    const slot = this.#directory.find(oidHigh, oidLow >>> 8);
    if (slot < 0) {
      this.#insertPage(oidHigh, oidLow, position);
      return 0;
    }
    const address = this.#directory.addressAt(slot);
    const sizeClass = this.#directory.classAt(slot);
    const view = this.#arena.views[slabOf(address)]!;
    const page = offsetOf(address);
    const suffix = oidLow & 0xff;
    if (sizeClass === DENSE) {
      const at = page + suffix * POSITION_BYTES;
      const before = readPosition(view, at);
      if (before === 0) {
        writeCount(view, page, DENSE, readCount(view, page, DENSE) + 1);
        this.#added(oidHigh, oidLow);
      }
      writePosition(view, at, position);
      return before;
    }
    const bytes = this.#arena.bytes[slabOf(address)]!;
    const count = readCount(view, page, sizeClass);
    const rank = findSuffix(bytes, suffixesOf(page, sizeClass), count, suffix);
    if (rank >= 0) {
      const before = readPosition(view, page + rank * POSITION_BYTES);
      writePosition(view, page + rank * POSITION_BYTES, position);
      return before;
    }
    if (count === CAPACITY[sizeClass]) {
      this.#resize(slot, CLASS_FOR[count + 1]!);
      return this.set(oidHigh, oidLow, position);
    }
    insertAt(bytes, page, sizeClass, count, -1 - rank, suffix);
    writePosition(view, page + (-1 - rank) * POSITION_BYTES, position);
    writeCount(view, page, sizeClass, count + 1);
    this.#added(oidHigh, oidLow);
    return 0;
  }

  /** Forgets an object; one that is absent is no error. */
  delete(oidHigh: number, oidLow: number): void {
    const slot = this.#directory.find(oidHigh, oidLow >>> 8);
    if (slot < 0) return;
    const address = this.#directory.addressAt(slot);
    const sizeClass = this.#directory.classAt(slot);
    const view = this.#arena.views[slabOf(address)]!;
    const bytes = this.#arena.bytes[slabOf(address)]!;
    const page = offsetOf(address);
    const suffix = oidLow & 0xff;
    const count = readCount(view, page, sizeClass);
    if (sizeClass === DENSE) {
      const at = page + suffix * POSITION_BYTES;
      if (readPosition(view, at) === 0) return;
      writePosition(view, at, 0);
    } else {
      const rank = findSuffix(bytes, suffixesOf(page, sizeClass), count, suffix);
      if (rank < 0) return;
      removeAt(bytes, page, sizeClass, count, rank);
    }
    writeCount(view, page, sizeClass, count - 1);
    this.#count--;
    if (oidHigh === this.#greatestHigh && oidLow === this.#greatestLow) this.#greatestHigh = undefined;
    if (count === 1) {
      this.#directory.remove(slot);
      this.#release(address, sizeClass);
    } else if (CLASS_FOR[count - 1]! < sizeClass - 1) {
      this.#resize(slot, CLASS_FOR[count - 1]!); // two classes too large: the next set does not undo it
    }
  }

  /** Visits all objects by ascending oid. The index must not be changed meanwhile. */
  forEach(visit: (oidHigh: number, oidLow: number, position: number) => void): void {
    this.forEachUnlike(undefined, visit);
  }

  /**
   * As {@link forEach}, but passes over whole pages that another index has, too: most of two that are nearly the
   * same. The other must not be changed meanwhile, either.
   * @returns how many objects were passed over
   */
  forEachUnlike(
    other: ObjectIndex | undefined,
    visit: (oidHigh: number, oidLow: number, position: number) => void,
  ): number {
    let passed = 0;
    const pages = this.#directory.sorted();
    for (let i = 0; i < pages.length; i += 2) {
      const high = pages[i]!;
      const low = (pages[i + 1]! << 8) >>> 0;
      const slot = this.#directory.find(high, pages[i + 1]!);
      const address = this.#directory.addressAt(slot);
      const sizeClass = this.#directory.classAt(slot);
      const view = this.#arena.views[slabOf(address)]!;
      if (other !== undefined && other.#hasPage(high, pages[i + 1]!, view, offsetOf(address), sizeClass)) {
        passed += readCount(view, offsetOf(address), sizeClass);
        continue;
      }
      visitPage(view, offsetOf(address), sizeClass, (suffix, position) => {
        visit(high, low + suffix, position);
      });
    }
    return passed;
  }

  /** The greatest oid, or undefined when the index is empty. */
  get greatest(): bigint | undefined {
    if (this.#greatestHigh === undefined) this.#searchGreatest();
    if (this.#greatestHigh === undefined || this.#greatestHigh < 0) return undefined;
    return (BigInt(this.#greatestHigh) << 32n) | BigInt(this.#greatestLow);
  }

  /**
   * Visits the buckets of the index file by ascending prefix. The bucket is valid during the call only, and the
   * index must not be changed meanwhile.
   */
  forEachBucket(visit: (bucket: IndexBucket) => void): void {
    const bucket = new IndexBucket(this.#arena, this.#directory);
    const pages = this.#directory.sorted();
    for (let next = 0; next < pages.length;) {
      next = bucket.collect(pages, next);
      visit(bucket);
    }
  }

  /**
   * Adds the objects of a bucket of the index file; none of its pages may be there yet.
   * @param middle bits 16 to 31 of the oids
   * @param end what positions must be less than
   * @returns what is wrong with the bucket, or undefined; a wrong one may have been added in part
   */
  addBucket(oidHigh: number, middle: number, packed: PackedBucket, end: number): BucketDamage | undefined {
    const result = addBucket(this.#arena, this.#directory, oidHigh, middle, packed, end);
    if (typeof result === "string") return result;
    this.#count += result;
    this.#greatestHigh = undefined;
    return undefined;
  }

  /** Whether it has the same page in the same form. */
  #hasPage(high: number, page: number, view: DataView, at: number, sizeClass: number): boolean {
    const slot = this.#directory.find(high, page);
    if (slot < 0 || this.#directory.classAt(slot) !== sizeClass) return false;
    const address = this.#directory.addressAt(slot);
    const ownView = this.#arena.views[slabOf(address)]!;
    const ownAt = offsetOf(address);
    const count = readCount(view, at, sizeClass);
    if (readCount(ownView, ownAt, sizeClass) !== count) return false;
    const length = sizeClass === DENSE ? DENSE_COUNT : count * POSITION_BYTES;
    if (commonLength(ownView, ownAt, view, at, length) < length) return false;
    return sizeClass === DENSE ||
      commonLength(ownView, suffixesOf(ownAt, sizeClass), view, suffixesOf(at, sizeClass), count) === count;
  }

  #added(oidHigh: number, oidLow: number): void {
    this.#count++;
    if (this.#greatestHigh === undefined || oidHigh < this.#greatestHigh) return;
    if (oidHigh === this.#greatestHigh && oidLow < this.#greatestLow) return;
    this.#greatestHigh = oidHigh;
    this.#greatestLow = oidLow;
  }

  #insertPage(oidHigh: number, oidLow: number, position: number): void {
    const sizeClass = CLASS_FOR[1]!;
    const address = this.#arena.allocate(sizeClass);
    const view = this.#arena.views[slabOf(address)]!;
    const page = offsetOf(address);
    writePosition(view, page, position);
    view.setUint8(suffixesOf(page, sizeClass), oidLow & 0xff);
    writeCount(view, page, sizeClass, 1);
    this.#directory.insert(oidHigh, oidLow >>> 8, sizeClass, address);
    this.#added(oidHigh, oidLow);
  }

  /** Moves a page to a block of another size class, which must have room for its objects. */
  #resize(slot: number, toClass: number): void {
    const fromClass = this.#directory.classAt(slot);
    const fromAddress = this.#directory.addressAt(slot);
    const toAddress = this.#arena.allocate(toClass); // replaces slabs: look them up only now
    const from = this.#arena.bytes[slabOf(fromAddress)]!;
    const fromView = this.#arena.views[slabOf(fromAddress)]!;
    const fromPage = offsetOf(fromAddress);
    const to = this.#arena.bytes[slabOf(toAddress)]!;
    const toView = this.#arena.views[slabOf(toAddress)]!;
    const toPage = offsetOf(toAddress);
    const count = readCount(fromView, fromPage, fromClass);
    if (toClass === DENSE) {
      clearDense(to, toPage);
      visitPage(fromView, fromPage, fromClass, (suffix, position) => {
        writePosition(toView, toPage + suffix * POSITION_BYTES, position);
      });
    } else if (fromClass === DENSE) {
      let rank = 0;
      visitPage(fromView, fromPage, fromClass, (suffix, position) => {
        writePosition(toView, toPage + rank * POSITION_BYTES, position);
        to[suffixesOf(toPage, toClass) + rank++] = suffix;
      });
    } else {
      copyBytes(from, fromPage, to, toPage, count * POSITION_BYTES);
      copyBytes(from, suffixesOf(fromPage, fromClass), to, suffixesOf(toPage, toClass), count);
    }
    writeCount(toView, toPage, toClass, count);
    this.#directory.move(slot, toClass, toAddress);
    this.#release(fromAddress, fromClass);
  }

  #release(address: number, sizeClass: number): void {
    this.#arena.release(address, sizeClass);
    if (this.#arena.isWasteful) this.#arena.compact(this.#directory.byAddress(), this.#directory);
  }

  #searchGreatest(): void {
    this.#greatestHigh = -1;
    const slot = this.#directory.greatest();
    if (slot < 0) return;
    const address = this.#directory.addressAt(slot);
    const view = this.#arena.views[slabOf(address)]!;
    const low = (this.#directory.pageAt(slot) << 8) >>> 0;
    this.#greatestHigh = this.#directory.highAt(slot);
    visitPage(view, offsetOf(address), this.#directory.classAt(slot), (suffix) => {
      this.#greatestLow = low + suffix;
    });
  }
}
