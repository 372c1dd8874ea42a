/** Oids that wait to be looked at: a stack of their halves, without an object for each. */
export class OidStack {
  #halves = new Uint32Array(2 * 1024);
  #length = 0;

  /** How many there are. */
  get length(): number {
    return this.#length;
  }

  push(oidHigh: number, oidLow: number): void {
    const at = 2 * this.#length++;
    if (at === this.#halves.length) {
      const larger = new Uint32Array(2 * at);
      larger.set(this.#halves);
      this.#halves = larger;
    }
    this.#halves[at] = oidHigh;
    this.#halves[at + 1] = oidLow;
  }

  /** The one pushed last. @throws RangeError when there is none */
  pop(): [oidHigh: number, oidLow: number] {
    if (this.#length === 0) throw new RangeError("The stack is empty");
    const at = 2 * --this.#length;
    return [this.#halves[at]!, this.#halves[at + 1]!];
  }
}
