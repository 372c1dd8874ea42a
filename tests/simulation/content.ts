/** The bytes of a simulated file, growing as they are written. What lies beyond the size is zero. */

export class Content {
  #bytes: Uint8Array<ArrayBuffer>;
  #size = 0;

  constructor(bytes: Uint8Array = new Uint8Array(0)) {
    this.#bytes = new Uint8Array(bytes);
    this.#size = bytes.length;
  }

  get size(): number {
    return this.#size;
  }

  /** The present bytes; a view, valid until the next change. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.#size);
  }

  /** @returns the bytes read, fewer than asked only at the end */
  read(into: Uint8Array, position: number): number {
    const length = Math.max(0, Math.min(into.length, this.#size - position));
    if (length > 0) into.set(this.#bytes.subarray(position, position + length));
    return length;
  }

  write(bytes: Uint8Array, position: number): void {
    if (bytes.length === 0) return;
    const end = position + bytes.length;
    this.#reserve(end);
    this.#bytes.set(bytes, position);
    this.#size = Math.max(this.#size, end);
  }

  /** Cuts, or extends with zeros. */
  resize(size: number): void {
    this.#reserve(size);
    if (size < this.#size) this.#bytes.fill(0, size, this.#size);
    this.#size = size;
  }

  /** Puts zeros from `start` to `end`, as far as that lies within the file. */
  clear(start: number, end: number): void {
    if (start < this.#size) this.#bytes.fill(0, start, Math.min(end, this.#size));
  }

  #reserve(size: number): void {
    if (size <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(size, 2 * this.#bytes.length, 256));
    larger.set(this.#bytes.subarray(0, this.#size));
    this.#bytes = larger;
  }
}
