/** Moments as people write them on the command line. */
import { UsageError } from "../errors.ts";
import { parseTid, tidOfTime } from "../zodb/mod.ts";

const ISO = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(\.\d{1,9})?)?(Z|[+-]\d\d(?::?\d\d)?)?)?$/i;

/**
 * The tid at which a moment begins, which is also that of the first transaction that counts.
 * @param text ISO 8601, as local time when it names no zone; or a tid
 * @throws UsageError
 */
export function parseMoment(text: string): bigint {
  if (/^(0x)?[0-9a-f]{16}$/i.test(text)) return parseTid(text);
  const ms = parseTime(text);
  if (ms !== undefined) return ms < tidEraMs ? 0n : tidOfTime(ms);
  throw new UsageError(`Cannot read time ${JSON.stringify(text)}`, {
    hint: "Write 2024-01-31, 2024-01-31T18:05 or 2024-01-31T18:05:00Z (local time without a zone), " +
      "or a tid of 16 hexadecimal digits",
  });
}

/** Tids begin with 1900. */
const tidEraMs = Date.UTC(1900, 0, 1);

/** Milliseconds since 1970 UTC; undefined for what is no time, or on no calendar. */
function parseTime(text: string): number | undefined {
  const found = ISO.exec(text);
  if (found === null) return undefined;
  const [year, month, day, hour, minute, second] = found.slice(1, 7).map((digits) => Number(digits ?? 0));
  const fractionMs = Number(found[7] ?? 0) * 1000;
  const zone = found[8]?.toUpperCase();
  const utc = new Date(Date.UTC(year!, month! - 1, day, hour, minute, second));
  const isOnCalendar = utc.getUTCMonth() === month! - 1 && utc.getUTCDate() === day &&
    utc.getUTCHours() === hour && utc.getUTCMinutes() === minute && utc.getUTCSeconds() === second;
  if (!isOnCalendar) return undefined;
  if (zone === undefined) {
    return new Date(year!, month! - 1, day, hour, minute, second).getTime() + fractionMs;
  }
  return utc.getTime() - offsetMs(zone) + fractionMs;
}

/** How far a zone is before UTC: `Z`, `+01`, `+0100`, `+01:00`. */
function offsetMs(zone: string): number {
  if (zone === "Z") return 0;
  const digits = zone.slice(1).replace(":", "");
  const minutes = Number(digits.slice(0, 2)) * 60 + Number(digits.slice(2));
  return (zone.startsWith("-") ? -1 : 1) * minutes * 60_000;
}
