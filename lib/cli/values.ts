/** What the values of options are: how they are read from the command line, and what is said of bad ones. */

import { type Message, message, text } from "@optique/core/message";
import { float, integer, type ValueParser, type ValueParserResult } from "@optique/core/valueparser";
import { path } from "@optique/run/valueparser";
import { ZrsError } from "../errors.ts";
import { formatAddress } from "../ports/mod.ts";
import type { Address } from "../ports/mod.ts";
import { formatOidDigits, formatTid, NO_TID, parseOid, parseTid } from "../zodb/mod.ts";
import { type AddressUse, parseAddress } from "./address.ts";
import { withHint } from "./failure.ts";
import { parseMoment } from "./time.ts";

/** Shorter would be a busy loop. */
const MIN_SECONDS = 0.1;

/** Longer is a mistake: a day. */
const MAX_SECONDS = 86_400;

/** Longer is a mistake: a year. */
const MAX_DURATION_SECONDS = 366 * 86_400;

/** A value that a function reads, which says what is wrong by throwing. */
function parsedBy<T>(
  metavar: "ADDR" | "TIME" | "OID" | "TID",
  placeholder: T,
  parse: (input: string) => T,
  format: (value: T) => string,
): ValueParser<"sync", T> {
  return {
    mode: "sync",
    metavar,
    placeholder,
    parse(input): ValueParserResult<T> {
      try {
        return { success: true, value: parse(input) };
      } catch (error) {
        if (!(error instanceof ZrsError)) throw error;
        return { success: false, error: [text(withHint(error.message, error.hint))] };
      }
    },
    format,
  };
}

/** ADDR: an address to listen on or to connect to. */
export function address(use: AddressUse): ValueParser<"sync", Address> {
  const placeholder: Address = { transport: "tcp", host: "127.0.0.1", port: 0 };
  return parsedBy("ADDR", placeholder, (input) => parseAddress(input, use), formatAddress);
}

/** ADDR to listen on, or `-`: the one secondary that holds the other end of standard input and output. */
export function addressOrStdio(): ValueParser<"sync", Address> {
  const addresses = address("listen");
  return {
    ...addresses,
    parse: (input) =>
      input === "-" ? { success: true, value: { transport: "stdio" } } : addresses.parse(input),
  };
}

/** TIME: a moment, as the tid that it begins with. */
export function moment(): ValueParser<"sync", bigint> {
  return parsedBy("TIME", NO_TID, parseMoment, formatTid);
}

/** OID: an object's id. */
export function oid(): ValueParser<"sync", bigint> {
  return parsedBy("OID", 0n, parseOid, formatOidDigits);
}

/** TID: a transaction's id, or 0 for none. */
export function tid(): ValueParser<"sync", bigint> {
  return parsedBy("TID", NO_TID, (input) => input === "0" ? NO_TID : parseTid(input), formatTid);
}

/** A duration in seconds, fractions allowed. */
export function seconds(): ValueParser<"sync", number> {
  return float({
    metavar: "SECONDS",
    min: MIN_SECONDS,
    max: MAX_SECONDS,
    errors: {
      invalidNumber: secondsError,
      belowMinimum: (value) => secondsError(String(value)),
      aboveMaximum: (value) => secondsError(String(value)),
    },
  });
}

const DURATION_FACTORS: Readonly<Record<string, number>> = { "": 1, s: 1, m: 60, h: 3600, d: 86_400 };

/** DURATION: seconds, or with `s`, `m`, `h` or `d` behind the number that unit; in seconds. */
export function duration(): ValueParser<"sync", number> {
  return {
    mode: "sync",
    metavar: "DURATION",
    placeholder: 0,
    parse(input) {
      const [, digits, unit] = /^(\d{1,9}(?:\.\d{1,3})?)([smhd]?)$/.exec(input) ?? [];
      const value = Number(digits) * DURATION_FACTORS[unit ?? ""]!;
      if (value <= MAX_DURATION_SECONDS) return { success: true, value };
      return {
        success: false,
        error: message`Expected a duration of at most a year, such as 90s, 30m, 1h or 7d, but got ${input}`,
      };
    },
    format: String,
  };
}

/** How far behind a copy may be, in seconds, fractions allowed. */
export function lagSeconds(): ValueParser<"sync", number> {
  return float({
    metavar: "SECONDS",
    min: 0,
    errors: { invalidNumber: lagSecondsError, belowMinimum: (value) => lagSecondsError(String(value)) },
  });
}

function lagSecondsError(found: string): Message {
  return message`Expected a number of seconds from 0 on, but got ${found}`;
}

const SIZE_FACTORS: Readonly<Record<string, number>> = { "": 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 };

/** SIZE: bytes, or with `K`, `M` or `G` behind the number so many times 1024 of them. */
export function size(): ValueParser<"sync", number> {
  return {
    mode: "sync",
    metavar: "SIZE",
    placeholder: 0,
    parse(input) {
      const [, digits, unit] = /^(\d{1,15})([KMG]?)$/i.exec(input) ?? [];
      const value = Number(digits) * SIZE_FACTORS[unit?.toUpperCase() ?? ""]!;
      if (Number.isSafeInteger(value)) return { success: true, value };
      return {
        success: false,
        error: message`Expected a number of bytes, such as 65536, 64K, 10M or 1G, but got ${input}`,
      };
    },
    format: String,
  };
}

/** A rate in bytes a second: as {@link size}, but not 0. */
export function rate(): ValueParser<"sync", number> {
  const sizes = size();
  return {
    ...sizes,
    metavar: "RATE",
    parse(input) {
      const found = sizes.parse(input);
      if (found.success && found.value > 0) return found;
      return {
        success: false,
        error: message`Expected bytes a second, such as 65536, 500K or 10M, but got ${input}`,
      };
    },
  };
}

function secondsError(found: string): Message {
  return message`Expected a number of seconds from ${text(String(MIN_SECONDS))} to ${
    text(String(MAX_SECONDS))
  }, but got ${found}`;
}

/** N: how many of something, at least one. */
export function wholeNumber(): ValueParser<"sync", number> {
  return integer({
    metavar: "N",
    min: 1,
    errors: {
      invalidInteger: countError,
      belowMinimum: (value) => countError(String(value)),
    },
  });
}

/** A number of days, fractions allowed. */
export function days(): ValueParser<"sync", number> {
  return float({
    metavar: "N",
    min: 0,
    errors: { invalidNumber: daysError, belowMinimum: (value) => daysError(String(value)) },
  });
}

function daysError(found: string): Message {
  return message`Expected a number of days, 0 or more, but got ${found}`;
}

function countError(found: string): Message {
  return message`Expected a whole number from 1 on, but got ${found}`;
}

/** The path of a file; nothing looks at the file yet. */
export function file(
  metavar: "DATA_FS" | "DATA_FS|SOCKET" | "DIR" | "FILE" | "OTHER" | "PATH" | "SOURCE",
): ValueParser<"sync", string> {
  return path({ metavar, type: "file" });
}
