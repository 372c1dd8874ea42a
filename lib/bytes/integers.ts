/** Big-endian 64-bit integers as JavaScript numbers, without a BigInt on the way. */

/**
 * Reads a 64-bit length or position; the caller checks it against the file's size. Above 2^53 the result is
 * rounded, and stays above 2^53.
 */
export function readU64(view: DataView, at: number): number {
  return view.getUint32(at) * 0x1_0000_0000 + view.getUint32(at + 4);
}

/** Writes a length or position of at most 2^53 - 1. */
export function writeU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 0x1_0000_0000));
  view.setUint32(at + 4, value >>> 0);
}

/** A DataView of exactly the bytes of `bytes`. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
