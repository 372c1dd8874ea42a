/** Chance, from the system's generator. */

import type { Random } from "../ports/mod.ts";

export class HostRandom implements Random {
  readonly #words = new Uint32Array(2);

  /** 53 random bits: as many as a number between 0 and 1 holds evenly. */
  unit(): number {
    crypto.getRandomValues(this.#words);
    return ((this.#words[0]! >>> 5) * 2 ** 26 + (this.#words[1]! >>> 6)) / 2 ** 53;
  }

  bytes(count: number): Uint8Array {
    return crypto.getRandomValues(new Uint8Array(count));
  }
}
