/**
 * Bytes as Python 3 writes them in protocol 1, which has no bytes: a call of `_codecs.encode` with a text of
 * one character per byte. Every tid, oid and digest of the zrs2 protocol travels so.
 */

const ascii = new TextEncoder();

/** All that stands in front of the text's length (4 bytes, little-endian). */
export const BYTES_FRONT: Readonly<Uint8Array> = ascii.encode("c_codecs\nencode\n(X");

/** All that stands behind the text. */
export const BYTES_BACK: Readonly<Uint8Array> = ascii.encode("X\x06\0\0\0latin1tR");

/** No bytes at all are another call. */
export const NO_BYTES: Readonly<Uint8Array> = ascii.encode("c__builtin__\nbytes\n)R");

/** The most bytes that `length` bytes become. */
export function bytesFormRoom(length: number): number {
  return BYTES_FRONT.length + 4 + 2 * length + BYTES_BACK.length;
}

/**
 * Writes bytes in this form; `target` has {@link bytesFormRoom} left.
 * @returns the offset behind it
 */
export function putBytesForm(
  target: Uint8Array,
  at: number,
  source: Uint8Array,
  from = 0,
  to = source.length,
): number {
  if (from === to) {
    target.set(NO_BYTES, at);
    return at + NO_BYTES.length;
  }
  target.set(BYTES_FRONT, at);
  const lengthAt = at + BYTES_FRONT.length;
  const end = putLatin1AsUtf8(target, lengthAt + 4, source, from, to);
  putU32(target, lengthAt, end - lengthAt - 4);
  target.set(BYTES_BACK, end);
  return end + BYTES_BACK.length;
}

/** Writes each byte as the character with its number. @returns the offset behind it */
export function putLatin1AsUtf8(
  target: Uint8Array,
  at: number,
  source: Uint8Array,
  from: number,
  to: number,
): number {
  for (let i = from; i < to; i++) {
    const byte = source[i]!;
    if (byte < 0x80) {
      target[at++] = byte;
    } else {
      target[at] = 0xc0 | byte >> 6;
      target[at + 1] = 0x80 | byte & 0x3f;
      at += 2;
    }
  }
  return at;
}

/** Writes a 32-bit length little-endian. */
export function putU32(target: Uint8Array, at: number, value: number): void {
  target[at] = value;
  target[at + 1] = value >>> 8;
  target[at + 2] = value >>> 16;
  target[at + 3] = value >>> 24;
}
