/** The arguments of opcodes: numbers and texts in the notations that pickles use. */
import { PickleError } from "../errors.ts";
import { MAX_DECIMAL_DIGITS, MAX_INT_BYTES, PickleLimitError } from "./limits.ts";

const BACKSLASH = 0x5c;

/** An unsigned little-endian number of 1 to 6 bytes. */
export function readUnsigned(bytes: Uint8Array, from: number, to: number): number {
  let value = 0;
  for (let at = to - 1; at >= from; at--) value = value * 256 + bytes[at]!;
  return value;
}

/** A little-endian number in two's complement, as LONG1 and LONG4 hold it; no bytes mean 0. @throws PickleLimitError */
export function readTwosComplement(bytes: Uint8Array, from: number, to: number): bigint {
  if (from === to) return 0n;
  if (to - from > MAX_INT_BYTES) {
    throw new PickleLimitError(`Cannot read pickle: a number has more than ${MAX_INT_BYTES} bytes`);
  }
  let digits = "";
  for (let at = to - 1; at >= from; at--) digits += bytes[at]!.toString(16).padStart(2, "0");
  return BigInt.asIntN((to - from) * 8, BigInt(`0x${digits}`));
}

/** The argument of INT, LONG, GET and PUT. @throws PickleError for anything but a plain decimal number */
export function readDecimal(bytes: Uint8Array, from: number, to: number): bigint {
  if (to - from > MAX_DECIMAL_DIGITS + 2) throw badLiteral("a decimal number is too long", from);
  const text = latin1(bytes, from, to);
  const match = /^([+-]?)(0|[1-9][0-9]*)L?$/.exec(text);
  if (match === null || match[2]!.length > MAX_DECIMAL_DIGITS) {
    throw badLiteral("expected a decimal number", from);
  }
  const value = BigInt(match[2]!);
  return match[1] === "-" ? -value : value;
}

/** The argument of FLOAT. @throws PickleError */
export function readFloat(bytes: Uint8Array, from: number, to: number): number {
  const text = latin1(bytes, from, Math.min(to, from + 1000));
  if (/^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?$/i.test(text)) return Number(text);
  const special = /^([+-]?)(inf|nan)$/i.exec(text);
  if (special === null) throw badLiteral("expected a floating-point number", from);
  if (special[2]!.toLowerCase() === "nan") return NaN;
  return special[1] === "-" ? -Infinity : Infinity;
}

/** The argument of STRING: a quoted literal with Python's escapes. @throws PickleError */
export function readQuoted(bytes: Uint8Array, from: number, to: number): Uint8Array {
  while (to > from && bytes[to - 1]! <= 0x20) to--;
  const quote = bytes[from];
  if (to - from < 2 || (quote !== 0x27 && quote !== 0x22) || bytes[to - 1] !== quote) {
    throw badLiteral("expected a string in quotes", from);
  }
  const text = new Uint8Array(to - from);
  let length = 0;
  for (let at = from + 1; at < to - 1; at++) {
    const byte = bytes[at]!;
    if (byte !== BACKSLASH) {
      text[length++] = byte;
      continue;
    }
    if (++at >= to - 1) throw badLiteral("a string ends within an escape", from);
    const escape = bytes[at]!;
    const simple = SIMPLE_ESCAPES.get(escape);
    if (simple !== undefined) {
      text[length++] = simple;
    } else if (escape === 0x78) {
      text[length++] = readHex(bytes, at + 1, at + 3, to - 1);
      at += 2;
    } else if (escape >= 0x30 && escape <= 0x37) {
      let value = 0;
      const last = Math.min(at + 3, to - 1);
      for (; at < last && bytes[at]! >= 0x30 && bytes[at]! <= 0x37; at++) {
        value = value * 8 + bytes[at]! - 0x30;
      }
      at--;
      text[length++] = value;
    } else {
      text[length++] = BACKSLASH;
      text[length++] = escape;
    }
  }
  return text.subarray(0, length);
}

const SIMPLE_ESCAPES: ReadonlyMap<number, number> = new Map([
  [BACKSLASH, BACKSLASH],
  [0x27, 0x27],
  [0x22, 0x22],
  [0x61, 7],
  [0x62, 8],
  [0x66, 12],
  [0x6e, 10],
  [0x72, 13],
  [0x74, 9],
  [0x76, 11],
]);

/** The argument of UNICODE (raw-unicode-escape) as UTF-8. @throws PickleError */
export function readRawUnicode(bytes: Uint8Array, from: number, to: number): Uint8Array {
  const text = new Uint8Array((to - from) * 2);
  let length = 0;
  for (let at = from; at < to; at++) {
    const byte = bytes[at]!;
    const escape = byte === BACKSLASH && at + 1 < to ? bytes[at + 1]! : 0;
    if (escape === 0x75 || escape === 0x55) {
      const digits = escape === 0x75 ? 4 : 8;
      const codePoint = readHex(bytes, at + 2, at + 2 + digits, to);
      if (codePoint > 0x10ffff) throw badLiteral("a character is beyond Unicode", at);
      length = putCodePoint(text, length, codePoint);
      at += 1 + digits;
    } else {
      length = putCodePoint(text, length, byte);
      // A backslash and what follows it stand for themselves, so that `\\u0041` is no escape.
      if (escape !== 0) length = putCodePoint(text, length, bytes[++at]!);
    }
  }
  return text.subarray(0, length);
}

/** Writes a code point as UTF-8, surrogates as three bytes. @returns the offset behind it */
function putCodePoint(target: Uint8Array, at: number, codePoint: number): number {
  if (codePoint < 0x80) {
    target[at++] = codePoint;
  } else if (codePoint < 0x800) {
    target[at++] = 0xc0 | codePoint >> 6;
    target[at++] = 0x80 | codePoint & 0x3f;
  } else if (codePoint < 0x1_0000) {
    target[at++] = 0xe0 | codePoint >> 12;
    target[at++] = 0x80 | codePoint >> 6 & 0x3f;
    target[at++] = 0x80 | codePoint & 0x3f;
  } else {
    target[at++] = 0xf0 | codePoint >> 18;
    target[at++] = 0x80 | codePoint >> 12 & 0x3f;
    target[at++] = 0x80 | codePoint >> 6 & 0x3f;
    target[at++] = 0x80 | codePoint & 0x3f;
  }
  return at;
}

/** Checks UTF-8 as Python's "surrogatepass" does: lone surrogates are legal. @throws PickleError */
export function checkUtf8(bytes: Uint8Array, from: number, to: number): void {
  for (let at = from; at < to;) {
    const byte = bytes[at]!;
    if (byte < 0x80) {
      at++;
      continue;
    }
    const length = byte >= 0xc2 && byte < 0xe0
      ? 2
      : byte >= 0xe0 && byte < 0xf0
      ? 3
      : byte >= 0xf0 && byte < 0xf5
      ? 4
      : 0;
    let good = length > 0 && at + length <= to;
    for (let next = at + 1; good && next < at + length; next++) good = (bytes[next]! & 0xc0) === 0x80;
    if (good && length > 2) {
      const second = bytes[at + 1]!;
      if (byte === 0xe0) good = second >= 0xa0;
      else if (byte === 0xf0) good = second >= 0x90;
      else if (byte === 0xf4) good = second < 0x90;
    }
    if (!good) throw badLiteral("a text is not UTF-8", at);
    at += length;
  }
}

/** Whether every byte is below 0x80. */
export function isAscii(bytes: Uint8Array, from = 0, to = bytes.length): boolean {
  for (let at = from; at < to; at++) {
    if (bytes[at]! >= 0x80) return false;
  }
  return true;
}

function readHex(bytes: Uint8Array, from: number, to: number, end: number): number {
  const text = to <= end ? latin1(bytes, from, to) : "";
  if (!/^[0-9a-f]+$/i.test(text)) throw badLiteral("an escape lacks hexadecimal digits", from);
  return parseInt(text, 16);
}

function latin1(bytes: Uint8Array, from: number, to: number): string {
  let text = "";
  for (let at = from; at < to; at++) text += String.fromCharCode(bytes[at]!);
  return text;
}

function badLiteral(what: string, position: number): PickleError {
  return new PickleError(`Cannot read pickle: ${what}`, { position });
}
