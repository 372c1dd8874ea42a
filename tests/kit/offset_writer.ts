/** Big-endian fields one after the other, in a buffer that grows. */
export class OffsetWriter {
  #buffer = new Uint8Array(4096);
  #view = new DataView(this.#buffer.buffer);
  #position = 0;

  /** The count of bytes written. */
  get position(): number {
    return this.#position;
  }

  u8(value: number): void {
    this.#view.setUint8(this.#advance(1), value);
  }

  u16(value: number): void {
    this.#view.setUint16(this.#advance(2), value);
  }

  u64(value: bigint): void {
    this.#view.setBigUint64(this.#advance(8), value);
  }

  bytes(value: Uint8Array): void {
    this.#buffer.set(value, this.#advance(value.length));
  }

  /** A copy of what was written. */
  take(): Uint8Array {
    return this.#buffer.slice(0, this.#position);
  }

  /** Makes room. @returns where it begins */
  #advance(length: number): number {
    const start = this.#position;
    this.#position += length;
    if (this.#position > this.#buffer.length) {
      const grown = new Uint8Array(Math.max(this.#buffer.length * 2, this.#position));
      grown.set(this.#buffer);
      this.#buffer = grown;
      this.#view = new DataView(grown.buffer);
    }
    return start;
  }
}
