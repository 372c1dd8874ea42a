/** Records of the transaction under way, to be entered in the index once it is whole. */
import type { ObjectIndex } from "./object_index.ts";

export class PendingRecords {
  #oids = new Uint32Array(256);
  #positions = new Float64Array(128);
  #count = 0;

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
  }
}

function grown<T extends Uint32Array | Float64Array>(array: T, type: new (length: number) => T): T {
  const larger = new type(array.length * 2);
  larger.set(array);
  return larger;
}
