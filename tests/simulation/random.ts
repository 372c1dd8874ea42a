/**
 * Chance from a seed. Every consumer gets a generator of its own with {@link SeededRandom.fork}, which depends
 * on the parent's name only and not on what the parent has drawn: a new consumer does not shift the others,
 * so that a seed keeps telling nearly the same story while the simulation grows.
 *
 *     const random = new SeededRandom(42);
 *     const diskRandom = random.fork("disk of primary");
 *     diskRandom.int(6);                 // 0 to 5
 *     diskRandom.between(1, 6);          // 1 to 6
 *     diskRandom.chance(0.1);            // true one time in ten
 *     diskRandom.pick(["lost", "kept"]);
 */
import type { Random } from "../../lib/ports/mod.ts";

/** A generator (sfc32) with 128 bits of state. */
export class SeededRandom implements Random {
  /** The seed and the names that lead here. */
  readonly name: string;
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number | string) {
    this.name = String(seed);
    this.#a = hashText(this.name, 0x9e3779b9);
    this.#b = hashText(this.name, 0x243f6a88);
    this.#c = hashText(this.name, 0xb7e15162);
    for (let i = 0; i < 12; i++) this.uint32();
  }

  /** A generator of its own, the same however much this one has been used. */
  fork(name: string): SeededRandom {
    return new SeededRandom(`${this.name}/${name}`);
  }

  /** 32 random bits. */
  uint32(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum | 0;
    return sum >>> 0;
  }

  unit(): number {
    return this.uint32() / 0x1_0000_0000;
  }

  /** A whole number at least 0 and less than `limit`, which is at least 1. */
  int(limit: number): number {
    return Math.floor(this.unit() * limit);
  }

  /** A whole number from `least` to `most`, both included. */
  between(least: number, most: number): number {
    return least + this.int(most - least + 1);
  }

  chance(probability: number): boolean {
    return this.unit() < probability;
  }

  /** One of the items, of which there is at least one. */
  pick<T>(items: readonly T[]): T {
    const item = items[this.int(items.length)];
    if (item === undefined && items.length === 0) throw new RangeError("Cannot pick from no items");
    return item as T;
  }

  bytes(length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length);
    let word = 0;
    for (let i = 0; i < length; i++) {
      if (i % 4 === 0) word = this.uint32();
      bytes[i] = word >>> (i % 4) * 8;
    }
    return bytes;
  }
}

/** FNV-1a with a final mix, so that similar names give unrelated streams. */
function hashText(text: string, basis: number): number {
  let hash = basis;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
