/** A file of the memory disk: bytes that grow. */
export class MemoryFile {
  /** Tells it from any other file, whatever their paths. */
  readonly identity: string;
  #bytes: Uint8Array;
  #size: number;

  constructor(identity: string, bytes: Uint8Array) {
    this.identity = identity;
    this.#bytes = bytes.slice();
    this.#size = bytes.length;
  }

  get size(): number {
    return this.#size;
  }

  /** @returns the count of bytes read: fewer than asked only at the end */
  read(into: Uint8Array, position: number): number {
    const found = this.#bytes.subarray(
      Math.min(position, this.#size),
      Math.min(position + into.length, this.#size),
    );
    into.set(found);
    return found.length;
  }

  /** Beyond the end, what lies between becomes zeros. */
  write(bytes: Uint8Array, position: number): void {
    this.#grow(position + bytes.length);
    this.#bytes.set(bytes, position);
    this.#size = Math.max(this.#size, position + bytes.length);
  }

  /** Cuts off, or appends zeros. */
  truncate(size: number): void {
    this.#grow(size);
    this.#bytes.fill(0, Math.min(size, this.#size));
    this.#size = size;
  }

  replace(bytes: Uint8Array): void {
    this.#bytes = bytes.slice();
    this.#size = bytes.length;
  }

  copy(): Uint8Array {
    return this.#bytes.slice(0, this.#size);
  }

  #grow(size: number): void {
    if (size <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(size, this.#bytes.length * 2));
    grown.set(this.#bytes.subarray(0, this.#size));
    this.#bytes = grown;
  }
}
