/** Object ids: 64 bits. On hot paths an oid travels as two 32-bit halves, elsewhere as a bigint. */
import { UsageError } from "../errors.ts";

/** The oid as ZODB prints it: `0x` and hexadecimal digits, leading zero bytes left out. */
export function formatOid(oid: bigint): string {
  const digits = oid.toString(16);
  return `0x${digits.padStart(Math.max(2, digits.length + digits.length % 2), "0")}`;
}

/** The oid in 16 hexadecimal digits, as programs and tables want it. */
export function formatOidDigits(oid: bigint): string {
  return oid.toString(16).padStart(16, "0");
}

/** Reads 16 hexadecimal digits, fewer behind `0x` as ZODB prints them, or a decimal number. @throws UsageError */
export function parseOid(text: string): bigint {
  if (/^[0-9a-f]{16}$/i.test(text)) return BigInt(`0x${text}`);
  if (/^0x[0-9a-f]{1,16}$/i.test(text)) return BigInt(text);
  if (/^\d{1,20}$/.test(text) && BigInt(text) < 1n << 64n) return BigInt(text);
  throw new UsageError(
    `Cannot read oid ${JSON.stringify(text)}: expected 16 hexadecimal digits, or a decimal number`,
  );
}
