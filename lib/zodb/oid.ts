/** Object ids: 64 bits. On hot paths an oid travels as two 32-bit halves, elsewhere as a bigint. */

/** The oid as ZODB prints it: `0x` and hexadecimal digits, leading zero bytes left out. */
export function formatOid(oid: bigint): string {
  const digits = oid.toString(16);
  return `0x${digits.padStart(Math.max(2, digits.length + digits.length % 2), "0")}`;
}
