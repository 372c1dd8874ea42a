/**
 * Records of the transaction under way, to be entered in the index once it is whole: of one that fits into a
 * buffer. What is larger is read back instead, so that memory does not grow with it.
 */
import type { ObjectIndex } from "./index/object_index.ts";

const FIRST_CAPACITY = 128;
/** Arrays of more are given up when they are empty again. */
const KEPT_CAPACITY = 16 * 1024;

export class PendingRecords {
  #oids = new Uint32Array(2 * FIRST_CAPACITY);
  #positions = new Float64Array(FIRST_CAPACITY);
  #count = 0;

  /** What the arrays take, in bytes. */
  get memoryBytes(): number {
    return this.#oids.byteLength + this.#positions.byteLength;
  }

  add(oidHigh: number, oidLow: number, position: number): void {
    if (this.#count === this.#positions.length) {
      this.#oids = grown(this.#oids, Uint32Array);
      this.#positions = grown(this.#positions, Float64Array);
    }
    this.#oids[this.#count * 2] = oidHigh;
    this.#oids[this.#count * 2 + 1] = oidLow;
    this.#positions[this.#count++] = position;
  }

  enterInto(index: ObjectIndex): void {
    for (let i = 0; i < this.#count; i++) {
      index.set(this.#oids[i * 2]!, this.#oids[i * 2 + 1]!, this.#positions[i]!);
    }
    this.clear();
  }

  clear(): void {
    this.#count = 0;
    if (this.#positions.length <= KEPT_CAPACITY) return;
    this.#oids = new Uint32Array(2 * FIRST_CAPACITY);
    this.#positions = new Float64Array(FIRST_CAPACITY);
  }
}

function grown<T extends Uint32Array | Float64Array>(array: T, type: new (length: number) => T): T {
  const larger = new type(array.length * 2);
  larger.set(array);
  return larger;
}
