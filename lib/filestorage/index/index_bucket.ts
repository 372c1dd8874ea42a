/**
 * Buckets: how the index file packs the objects of 65,536 neighbouring oids (docs/filestorage_format.md, "Index
 * file"). n objects are n suffixes of 2 bytes, ascending, then n positions of 6 bytes. A bucket covers up to 256
 * pages of the object index, and its bytes are copied from and to them in runs.
 */
import { type IndexArena, offsetOf, slabOf } from "./index_arena.ts";
import type { PageDirectory } from "./index_directory.ts";
import {
  CLASS_FOR,
  fillPage,
  packPage,
  PAGE_OIDS,
  POSITION_BYTES,
  readCount,
  readPosition,
  writeCount,
} from "./index_page.ts";

const SUFFIX_BYTES = 2;
/** Bytes of an object in a bucket. */
export const BUCKET_ENTRY_BYTES = SUFFIX_BYTES + POSITION_BYTES;
/** A full bucket, in bytes. */
export const MAX_BUCKET_BYTES = 0x1_0000 * BUCKET_ENTRY_BYTES;

/** What can be wrong with a bucket. */
export type BucketDamage =
  | "its length is not that of 0 to 65,536 objects"
  | "its suffixes do not ascend"
  | "it has a position outside the indexed part of the file"
  | "it comes twice";

/** A bucket of an index file, where it lies in a buffer. */
export interface PackedBucket {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly at: number;
  readonly length: number;
}

/** One bucket of an index, on its way to the file. */
export class IndexBucket {
  /** The upper 32 bits of its oids. */
  oidHigh = 0;
  /** Bits 16 to 31 of its oids. */
  middle = 0;
  /** How many objects it has: 1 to 65,536. */
  count = 0;
  readonly #arena: IndexArena;
  readonly #directory: PageDirectory;
  readonly #slots = new Uint32Array(PAGE_OIDS);
  #pages = 0;

  constructor(arena: IndexArena, directory: PageDirectory) {
    this.#arena = arena;
    this.#directory = directory;
  }

  /**
   * Becomes the bucket that begins with the page at `first`.
   * @param pages as {@link PageDirectory.sorted}
   * @returns where the next bucket begins
   */
  collect(pages: Uint32Array, first: number): number {
    this.oidHigh = pages[first]!;
    this.middle = pages[first + 1]! >>> 8;
    this.count = 0;
    this.#pages = 0;
    let next = first;
    while (next < pages.length && pages[next] === this.oidHigh && pages[next + 1]! >>> 8 === this.middle) {
      const slot = this.#directory.find(this.oidHigh, pages[next + 1]!);
      this.#slots[this.#pages++] = slot;
      this.count += this.#countAt(slot);
      next += 2;
    }
    return next;
  }

  /** Writes the packed bucket, `count * 8` bytes, to `into` from `at`. */
  pack(into: Uint8Array, at: number): void {
    let suffixesAt = at;
    let positionsAt = at + this.count * SUFFIX_BYTES;
    for (let i = 0; i < this.#pages; i++) {
      const slot = this.#slots[i]!;
      const address = this.#directory.addressAt(slot);
      const count = this.#countAt(slot);
      packPage(
        this.#arena.bytes[slabOf(address)]!,
        offsetOf(address),
        this.#directory.classAt(slot),
        count,
        this.#directory.pageAt(slot) & 0xff,
        into,
        suffixesAt,
        positionsAt,
      );
      suffixesAt += count * SUFFIX_BYTES;
      positionsAt += count * POSITION_BYTES;
    }
  }

  #countAt(slot: number): number {
    const address = this.#directory.addressAt(slot);
    const view = this.#arena.views[slabOf(address)]!;
    return readCount(view, offsetOf(address), this.#directory.classAt(slot));
  }
}

/**
 * Puts a packed bucket into pages that are not there yet.
 * @param middle bits 16 to 31 of the oids
 * @param end what positions must be less than
 * @returns how many objects it had, or what is wrong with it; a wrong one may have been added in part
 */
export function addBucket(
  arena: IndexArena,
  directory: PageDirectory,
  oidHigh: number,
  middle: number,
  packed: PackedBucket,
  end: number,
): number | BucketDamage {
  const total = packed.length / BUCKET_ENTRY_BYTES;
  if (total !== Math.floor(total) || total > 0x1_0000) return "its length is not that of 0 to 65,536 objects";
  const suffixesEnd = packed.at + total * SUFFIX_BYTES;
  let positionsAt = suffixesEnd;
  let previousPage = -1;
  for (let suffixesAt = packed.at; suffixesAt < suffixesEnd;) {
    const pageOfBucket = packed.bytes[suffixesAt]!;
    const count = countPage(packed.view, suffixesAt, suffixesEnd);
    if (pageOfBucket <= previousPage || count < 0) return "its suffixes do not ascend";
    previousPage = pageOfBucket;
    if (!positionsLieWithin(packed.view, positionsAt, count, end)) {
      return "it has a position outside the indexed part of the file";
    }
    const page = (middle << 8) | pageOfBucket;
    if (directory.find(oidHigh, page) >= 0) return "it comes twice";
    const sizeClass = CLASS_FOR[count]!;
    const address = arena.allocate(sizeClass);
    const slab = slabOf(address);
    const at = offsetOf(address);
    fillPage(packed.bytes, suffixesAt, positionsAt, count, arena.bytes[slab]!, at, sizeClass);
    writeCount(arena.views[slab]!, at, sizeClass, count);
    directory.insert(oidHigh, page, sizeClass, address);
    suffixesAt += count * SUFFIX_BYTES;
    positionsAt += count * POSITION_BYTES;
  }
  return total;
}

/** How many suffixes from `start` are of the same page, whose number is their first byte; -1 if they descend. */
function countPage(view: DataView, start: number, end: number): number {
  if (isFullPage(view, start, end)) return PAGE_OIDS;
  let previous = view.getUint16(start);
  const pageEnd = previous | 0xff;
  let at = start + SUFFIX_BYTES;
  for (; at < end; at += SUFFIX_BYTES) {
    const suffix = view.getUint16(at);
    if (suffix > pageEnd) break;
    if (suffix <= previous) return -1;
    previous = suffix;
  }
  return (at - start) / SUFFIX_BYTES;
}

/** Whether all of a page's suffixes are there: most pages of most databases are full. Two are read at a time. */
function isFullPage(view: DataView, start: number, end: number): boolean {
  if (start + PAGE_OIDS * SUFFIX_BYTES > end) return false;
  const first = view.getUint16(start);
  if ((first & 0xff) !== 0) return false;
  const stop = start + PAGE_OIDS * SUFFIX_BYTES;
  for (let at = start, pair = (first << 16) | first | 1; at < stop; at += 2 * SUFFIX_BYTES) {
    if (view.getInt32(at) !== pair) return false;
    pair = (pair + 0x2_0002) | 0;
  }
  return true;
}

/**
 * Whether positions are neither 0 nor at or beyond `end`. The upper 32 bits of most settle it; they are read with
 * a sign because that is quicker, and what looks negative is looked at again.
 */
function positionsLieWithin(view: DataView, start: number, count: number, end: number): boolean {
  const endUpper = Math.min(Math.floor(end / 0x1_0000), 0x7fff_ffff);
  const stop = start + count * POSITION_BYTES;
  for (let at = start; at < stop; at += POSITION_BYTES) {
    const upper = view.getInt32(at);
    if (upper > 0 && upper < endUpper) continue;
    const position = readPosition(view, at);
    if (position === 0 || position >= end) return false;
  }
  return true;
}
