/**
 * Buckets: how the index file packs the objects of 65,536 neighbouring oids (docs/filestorage_format.md, "Index
 * file"). n objects are n suffixes of 2 bytes, ascending, then n positions of 6 bytes. A bucket covers up to 256
 * pages of the object index, and its bytes are copied from and to them in runs.
 */
import { type IndexArena, offsetOf, slabOf } from "./index_arena.ts";
import type { PageDirectory } from "./index_directory.ts";
import { viewOf } from "../bytes/mod.ts";
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

/** Puts a packed bucket into pages. @returns how many objects it had, or what is wrong with it */
export function addBucket(
  arena: IndexArena,
  directory: PageDirectory,
  oidHigh: number,
  middle: number,
  packed: Uint8Array,
  end: number,
): number | BucketDamage {
  const total = packed.length / BUCKET_ENTRY_BYTES;
  if (total !== Math.floor(total) || total > 0x1_0000) return "its length is not that of 0 to 65,536 objects";
  if (!positionsLieWithin(packed, total, end)) {
    return "it has a position outside the indexed part of the file";
  }
  for (let first = 0, previousPage = -1; first < total;) {
    const pageOfBucket = packed[SUFFIX_BYTES * first]!;
    if (pageOfBucket <= previousPage) return "its suffixes do not ascend";
    previousPage = pageOfBucket;
    let next = first;
    for (let previous = -1; next < total && packed[SUFFIX_BYTES * next] === pageOfBucket; next++) {
      const suffix = packed[SUFFIX_BYTES * next + 1]!;
      if (suffix <= previous) return "its suffixes do not ascend";
      previous = suffix;
    }
    const page = (middle << 8) | pageOfBucket;
    if (directory.find(oidHigh, page) >= 0) return "it comes twice";
    const count = next - first;
    const sizeClass = CLASS_FOR[count]!;
    const address = arena.allocate(sizeClass);
    const slab = slabOf(address);
    const at = offsetOf(address);
    const positionsAt = total * SUFFIX_BYTES + first * POSITION_BYTES;
    fillPage(packed, first * SUFFIX_BYTES, positionsAt, count, arena.bytes[slab]!, at, sizeClass);
    writeCount(arena.views[slab]!, at, sizeClass, count);
    directory.insert(oidHigh, page, sizeClass, address);
    first = next;
  }
  return total;
}

function positionsLieWithin(packed: Uint8Array, total: number, end: number): boolean {
  const view = viewOf(packed);
  for (let at = total * SUFFIX_BYTES; at < packed.length; at += POSITION_BYTES) {
    const position = readPosition(view, at);
    if (position === 0 || position >= end) return false;
  }
  return true;
}
