/**
 * Finds the pages of the object index: a hash table in one typed array, 12 bytes a slot, with linear probing.
 * A page is named by the upper 56 bits of its oids: `high` are the upper 32 of them and `page` the lower 24.
 */

/** The words of a slot: high; page in the lower 24 bits and the size class above them; address. */
const SLOT = { high: 0, pageAndClass: 1, address: 2, words: 3 } as const;

const PAGE_MASK = 0xff_ffff;
const CLASS_SHIFT = 24;
const FIRST_BITS = 4;
/** Linear probing stays short below this load, in 16ths. */
const MAX_LOAD_16THS = 12;
/** A table of more slots than this has too many words for a typed array's index to stay a small integer. */
const MAX_BITS = 29;

const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

export class PageDirectory {
  #slots = new Uint32Array(SLOT.words << FIRST_BITS);
  /** The table has 2^bits slots. A slot is free when its size class is 0. */
  #bits = FIRST_BITS;
  #used = 0;

  /** How many pages it knows. */
  get pages(): number {
    return this.#used;
  }

  /** What the table takes, in bytes. */
  get memoryBytes(): number {
    return this.#slots.byteLength;
  }

  /** The slot of a page, or -1. Inserting and removing make slots stale. */
  find(high: number, page: number): number {
    const slots = this.#slots;
    const mask = (1 << this.#bits) - 1;
    let slot = hash(high, page) >>> (32 - this.#bits);
    for (;;) {
      const at = slot * SLOT.words;
      const pageAndClass = slots[at + SLOT.pageAndClass]!;
      if (pageAndClass === 0) return -1;
      if ((pageAndClass & PAGE_MASK) === page && slots[at + SLOT.high] === high) return at;
      slot = (slot + 1) & mask;
    }
  }

  addressAt(slot: number): number {
    return this.#slots[slot + SLOT.address]!;
  }

  classAt(slot: number): number {
    return this.#slots[slot + SLOT.pageAndClass]! >>> CLASS_SHIFT;
  }

  /** The page was moved to another block. */
  move(slot: number, sizeClass: number, address: number): void {
    const page = this.#slots[slot + SLOT.pageAndClass]! & PAGE_MASK;
    this.#slots[slot + SLOT.pageAndClass] = (sizeClass << CLASS_SHIFT) | page;
    this.#slots[slot + SLOT.address] = address;
  }

  /** Adds a page that is not there yet. */
  insert(high: number, page: number, sizeClass: number, address: number): void {
    if ((this.#used + 1) * 16 > (MAX_LOAD_16THS << this.#bits)) this.#grow();
    this.#used++;
    this.#put(high, (sizeClass << CLASS_SHIFT) | page, address);
  }

  /** Forgets the page at a slot, and closes the gap so that no search ends too early. */
  remove(slot: number): void {
    const slots = this.#slots;
    const mask = (1 << this.#bits) - 1;
    let gap = slot / SLOT.words;
    for (let next = (gap + 1) & mask;; next = (next + 1) & mask) {
      const at = next * SLOT.words;
      const pageAndClass = slots[at + SLOT.pageAndClass]!;
      if (pageAndClass === 0) break;
      const home = hash(slots[at + SLOT.high]!, pageAndClass & PAGE_MASK) >>> (32 - this.#bits);
      // A page may move into the gap unless its search would start behind the gap.
      if (((next - home) & mask) < ((next - gap) & mask)) continue;
      slots.copyWithin(gap * SLOT.words, at, at + SLOT.words);
      gap = next;
    }
    slots.fill(0, gap * SLOT.words, (gap + 1) * SLOT.words);
    this.#used--;
  }

  /** All pages in ascending order: two words each, high and page. */
  sorted(): Uint32Array {
    const keys = new BigUint64Array(this.#used);
    const words = new Uint32Array(keys.buffer);
    const upper = LITTLE_ENDIAN ? 1 : 0;
    for (let at = 0, next = 0; at < this.#slots.length; at += SLOT.words) {
      const pageAndClass = this.#slots[at + SLOT.pageAndClass]!;
      if (pageAndClass === 0) continue;
      words[next + upper] = this.#slots[at + SLOT.high]!;
      words[next + 1 - upper] = pageAndClass & PAGE_MASK;
      next += 2;
    }
    keys.sort(); // natively: no BigInt is ever made
    if (!LITTLE_ENDIAN) return words;
    for (let at = 0; at < words.length; at += 2) {
      const page = words[at]!;
      words[at] = words[at + 1]!;
      words[at + 1] = page;
    }
    return words;
  }

  /** The slots of all pages by ascending address. */
  byAddress(): Uint32Array {
    const keys = new BigUint64Array(this.#used);
    const words = new Uint32Array(keys.buffer);
    const upper = LITTLE_ENDIAN ? 1 : 0;
    for (let at = 0, next = 0; at < this.#slots.length; at += SLOT.words) {
      if (this.#slots[at + SLOT.pageAndClass] === 0) continue;
      words[next + upper] = this.#slots[at + SLOT.address]!;
      words[next + 1 - upper] = at;
      next += 2;
    }
    keys.sort();
    return Uint32Array.from({ length: this.#used }, (_, i) => words[2 * i + 1 - upper]!);
  }

  /** The slot of the page with the greatest oids, or -1. Takes time in proportion to the table. */
  greatest(): number {
    let best = -1;
    for (let at = 0; at < this.#slots.length; at += SLOT.words) {
      if (this.#slots[at + SLOT.pageAndClass] === 0) continue;
      if (best < 0 || this.#isGreater(at, best)) best = at;
    }
    return best;
  }

  highAt(slot: number): number {
    return this.#slots[slot + SLOT.high]!;
  }

  pageAt(slot: number): number {
    return this.#slots[slot + SLOT.pageAndClass]! & PAGE_MASK;
  }

  #isGreater(slot: number, than: number): boolean {
    const difference = this.highAt(slot) - this.highAt(than);
    return difference > 0 || (difference === 0 && this.pageAt(slot) > this.pageAt(than));
  }

  #put(high: number, pageAndClass: number, address: number): void {
    const mask = (1 << this.#bits) - 1;
    let slot = hash(high, pageAndClass & PAGE_MASK) >>> (32 - this.#bits);
    while (this.#slots[slot * SLOT.words + SLOT.pageAndClass] !== 0) slot = (slot + 1) & mask;
    const at = slot * SLOT.words;
    this.#slots[at + SLOT.high] = high;
    this.#slots[at + SLOT.pageAndClass] = pageAndClass;
    this.#slots[at + SLOT.address] = address;
  }

  #grow(): void {
    if (this.#bits === MAX_BITS) throw new RangeError("Cannot hold more objects: the index is full");
    const old = this.#slots;
    this.#bits++;
    this.#slots = new Uint32Array(SLOT.words << this.#bits);
    for (let at = 0; at < old.length; at += SLOT.words) {
      const pageAndClass = old[at + SLOT.pageAndClass]!;
      if (pageAndClass !== 0) this.#put(old[at + SLOT.high]!, pageAndClass, old[at + SLOT.address]!);
    }
  }
}

/** 32 bits of which the upper ones are good: neighbouring pages lie far apart. */
function hash(high: number, page: number): number {
  const mixed = Math.imul(high, 0x85eb_ca6b) ^ page;
  return Math.imul(mixed ^ (mixed >>> 15), 0x9e37_79b1) >>> 0;
}
