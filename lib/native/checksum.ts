/**
 * The digest that runs through a stream from the welcome on: CRC-32 over the content of all transactions, however
 * it was cut into frames or compressed. It is there against mistakes and broken machines; against people there
 * is TLS.
 */
import { crc32 } from "node:zlib";

export class Checksum {
  /** Over all bytes so far. */
  value = 0;
  /** How many these are. */
  bytes = 0;

  update(bytes: Uint8Array, from: number, to: number): void {
    this.value = crc32(from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to), this.value);
    this.bytes += to - from;
  }
}
