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
    const at = this.#advance(1); // first: it may replace the buffer
    this.#view.setUint8(at, value);
  }

  u16(value: number): void {
    const at = this.#advance(2);
    this.#view.setUint16(at, value);
  }

  u64(value: bigint): void {
    const at = this.#advance(8);
    this.#view.setBigUint64(at, value);
  }

  bytes(value: Uint8Array): void {
    const at = this.#advance(value.length);
    this.#buffer.set(value, at);
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
