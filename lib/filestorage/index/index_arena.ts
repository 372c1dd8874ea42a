/**
 * Memory of the object index: blocks of a few sizes, carved out of large slabs. A typed array for each page of
 * the index would cost more than what most pages hold; a block costs its bytes and nothing else.
 *
 * A block is named by its address: a count of 8-byte units, the slab in the upper bits. What a block holds is
 * not this file's subject; index_page.ts lays it out.
 */

/** One unit of addressing, as a shift: a block starts at a multiple of 8 bytes. */
const UNIT_SHIFT = 3;
/** Units in a slab, as a shift: 2^15 units are 256 KiB, of which the last slab wastes half on average. */
const SLAB_SHIFT = 15;
const SLAB_BYTES = 1 << (SLAB_SHIFT + UNIT_SHIFT);
const SLAB_MASK = (1 << SLAB_SHIFT) - 1;
/** Addresses have 32 bits: 32 GiB, an index of some five thousand million objects. */
const MAX_SLABS = 1 << (32 - SLAB_SHIFT);
/** The only slab of a small index starts this small, and doubles. */
const FIRST_SLAB_BYTES = 4096;
/** Less than this is not worth gathering. */
const MIN_WASTE_BYTES = 16 * 1024;

/** The slab of an address: an index into {@link IndexArena.bytes} and {@link IndexArena.views}. */
export function slabOf(address: number): number {
  return address >>> SLAB_SHIFT;
}

/** Where the block begins in its slab, in bytes. */
export function offsetOf(address: number): number {
  return (address & SLAB_MASK) << UNIT_SHIFT;
}

function addressOf(slab: number, offset: number): number {
  return ((slab << SLAB_SHIFT) | (offset >>> UNIT_SHIFT)) >>> 0;
}

/** Who knows where the blocks are. */
export interface BlockTable {
  addressAt(slot: number): number;
  classAt(slot: number): number;
  move(slot: number, sizeClass: number, address: number): void;
}

export class IndexArena {
  /** The slabs, as bytes and as views of the same memory. An allocation may replace the first of them. */
  readonly bytes: Uint8Array[] = [];
  readonly views: DataView[] = [];
  readonly #sizes: ArrayLike<number>;
  /** By size class: the address of the first free block plus one. A free block begins with the next one's. */
  readonly #free: Uint32Array;
  /** The first byte of the last slab that no block has. */
  #unused = 0;
  #memoryBytes = 0;
  #freeBytes = 0;

  /** @param sizes the bytes of a block by size class: multiples of 8, none greater than a first slab */
  constructor(sizes: ArrayLike<number>) {
    this.#sizes = sizes;
    this.#free = new Uint32Array(sizes.length);
  }

  /** What all slabs take, in bytes. */
  get memoryBytes(): number {
    return this.#memoryBytes;
  }

  /** Whether blocks given back have come to a quarter of all, so that {@link compact} is worth its time. */
  get isWasteful(): boolean {
    return this.#freeBytes > MIN_WASTE_BYTES && this.#freeBytes > this.#memoryBytes / 4;
  }

  /**
   * Hands out a block; what it holds is left from earlier use. Slabs that the caller has looked up are stale.
   * @returns its address
   */
  allocate(sizeClass: number): number {
    const size = this.#sizes[sizeClass]!;
    const free = this.#free[sizeClass]!;
    if (free !== 0) {
      const address = free - 1;
      this.#free[sizeClass] = this.views[slabOf(address)]!.getUint32(offsetOf(address));
      this.#freeBytes -= size;
      return address;
    }
    while (this.bytes.length === 0 || this.#unused + size > this.bytes[this.bytes.length - 1]!.length) {
      this.#grow();
    }
    const address = addressOf(this.bytes.length - 1, this.#unused);
    this.#unused += size;
    return address;
  }

  /** Takes a block back; the caller forgets its address. */
  release(address: number, sizeClass: number): void {
    this.views[slabOf(address)]!.setUint32(offsetOf(address), this.#free[sizeClass]!);
    this.#free[sizeClass] = address + 1;
    this.#freeBytes += this.#sizes[sizeClass]!;
  }

  /**
   * Closes all gaps: moves every block towards the front, and drops the slabs that become free at the end.
   * @param slots of all blocks that are in use, by ascending address
   * @param table where the slots are, and the new addresses go
   */
  compact(slots: Uint32Array, table: BlockTable): void {
    let slab = 0;
    let offset = 0;
    for (const slot of slots) {
      const address = table.addressAt(slot);
      const sizeClass = table.classAt(slot);
      const size = this.#sizes[sizeClass]!;
      if (offset + size > this.bytes[slab]!.length) {
        slab++; // the block lies there or behind: where it lies there is room for it
        offset = 0;
      }
      const from = this.bytes[slabOf(address)]!;
      const at = offsetOf(address);
      // A block lands on itself or before, never on one that is still to be moved.
      if (slabOf(address) === slab) from.copyWithin(offset, at, at + size);
      else this.bytes[slab]!.set(from.subarray(at, at + size), offset);
      table.move(slot, sizeClass, addressOf(slab, offset));
      offset += size;
    }
    this.bytes.length = Math.min(this.bytes.length, slab + 1);
    this.views.length = this.bytes.length;
    this.#memoryBytes = this.bytes.reduce((sum, bytes) => sum + bytes.length, 0);
    this.#unused = offset;
    this.#free.fill(0);
    this.#freeBytes = 0;
  }

  #grow(): void {
    const only = this.bytes.length === 1 ? this.bytes[0]! : undefined;
    if (this.bytes.length === 0 || (only !== undefined && only.length < SLAB_BYTES)) {
      const slab = new Uint8Array(only === undefined ? FIRST_SLAB_BYTES : only.length * 2);
      if (only !== undefined) slab.set(only);
      this.#place(0, slab);
      this.#memoryBytes = slab.length;
      return;
    }
    if (this.bytes.length === MAX_SLABS) throw new RangeError("Cannot hold more objects: the index is full");
    this.#place(this.bytes.length, new Uint8Array(SLAB_BYTES));
    this.#memoryBytes += SLAB_BYTES;
    this.#unused = 0;
  }

  #place(slab: number, bytes: Uint8Array): void {
    this.bytes[slab] = bytes;
    this.views[slab] = new DataView(bytes.buffer);
  }
}
