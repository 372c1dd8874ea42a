/**
 * Transaction ids: 64 bits that name a transaction and tell when it was begun (ZODB's TimeStamp). The upper
 * half counts minutes since 1900 in months of 31 days, the lower half is the fraction of a minute in 2^32nds,
 * 13.97 ns each. Any 64 bits are a legal tid. See docs/filestorage_format.md, "Transaction ids".
 */
import { UsageError } from "../errors.ts";

/** The tid of an empty database: before every transaction. */
export const NO_TID = 0n;

const MINUTE_MS = 60_000;
const FRACTIONS = 0x1_0000_0000;

/** The tid as a person and a program write it: 16 hexadecimal digits. */
export function formatTid(tid: bigint): string {
  return tid.toString(16).padStart(16, "0");
}

/** Reads 16 hexadecimal digits, `0x` allowed in front. @throws UsageError */
export function parseTid(text: string): bigint {
  if (!/^(0x)?[0-9a-f]{16}$/i.test(text)) {
    throw new UsageError(`Cannot read tid ${JSON.stringify(text)}: expected 16 hexadecimal digits`);
  }
  return BigInt(text.startsWith("0x") || text.startsWith("0X") ? text : `0x${text}`);
}

/**
 * The tid of a moment.
 * @param ms milliseconds since 1970 UTC; a fraction counts as far as a double holds it
 */
export function tidOfTime(ms: number): bigint {
  const minuteStart = Math.floor(ms / MINUTE_MS) * MINUTE_MS;
  const date = new Date(minuteStart);
  const months = (date.getUTCFullYear() - 1900) * 12 + date.getUTCMonth();
  const minutes = ((months * 31 + date.getUTCDate() - 1) * 24 + date.getUTCHours()) * 60 +
    date.getUTCMinutes();
  const fraction = Math.floor(((ms - minuteStart) / 1000) * FRACTIONS / 60);
  return (BigInt(minutes) << 32n) | BigInt(fraction);
}

/** The moment of a tid in milliseconds since 1970 UTC. Days beyond a month's end roll over. */
export function timeOfTid(tid: bigint): number {
  const minutes = Number(tid >> 32n);
  const seconds = Number(tid & 0xffff_ffffn) * 60 / FRACTIONS;
  const day = Math.floor(minutes / 1440) % 31 + 1;
  const month = Math.floor(minutes / 44640) % 12;
  const year = Math.floor(minutes / 535_680) + 1900;
  return Date.UTC(year, month, day, Math.floor(minutes / 60) % 24, minutes % 60) + seconds * 1000;
}

/** The moment of a tid as ISO 8601 UTC with milliseconds; "never" for {@link NO_TID}. */
export function formatTidTime(tid: bigint): string {
  if (tid === NO_TID) return "never";
  const date = new Date(timeOfTid(tid));
  return Number.isNaN(date.getTime()) ? "a time beyond the calendar" : date.toISOString();
}

/** Tid and time together, as messages name a transaction: `03f5945817777777 (2024-01-02T03:04:05.500Z)`. */
export function describeTid(tid: bigint): string {
  return tid === NO_TID ? "nothing" : `${formatTid(tid)} (${formatTidTime(tid)})`;
}

/** The least tid for a moment that is greater than `last` (ZODB's TimeStamp.laterThan). */
export function laterThan(tid: bigint, last: bigint): bigint {
  if (tid > last) return tid;
  if ((last & 0xffff_ffffn) !== 0xffff_ffffn) return last + 1n;
  // The fraction is left out: in milliseconds its last unit rounds up into the next minute.
  return tidOfTime(timeOfTid(last & ~0xffff_ffffn) + MINUTE_MS);
}
