/**
 * The log that administrators read: a line per message, written at once, so that the last line before a crash
 * is there. A log that cannot be written stops nobody: its lines go to standard error.
 */

import { compareLogLevel, getTextFormatter, type LogRecord } from "@logtape/logtape";
import fs from "node:fs";
import type { LogFacts } from "../ports/mod.ts";
import { ZrsError } from "../errors.ts";
import { diskFailure, wordsOf } from "./failure.ts";
import type { LogLevel, LogOptions, SystemLog } from "./host.ts";
import { writeTalk, writeText } from "./output.ts";

/** `2026-01-31T12:00:00.000Z INFO Secondary is up to date peer=db1:5000 tid=03f0a1b2c3d4e5f6` */
const formatLine = getTextFormatter({
  timestamp: "rfc3339",
  level: "FULL",
  // A peer's words must neither start a line of their own nor talk to the terminal.
  sanitize: { newlines: "escape", sgr: "escape" },
  format: ({ timestamp, level, message, record }) =>
    `${timestamp} ${level} ${message}${formatFacts(record.properties)}`,
});

/** @throws UsageError, NotFoundError, DiskError when the file cannot be opened */
export function systemLog(options: LogOptions): SystemLog {
  return new LineLog(options);
}

class LineLog implements SystemLog {
  readonly #level: LogLevel;
  readonly #path: string | undefined;
  #descriptor: number | undefined;

  constructor({ level, file }: LogOptions) {
    this.#level = level;
    this.#path = file;
    if (file !== undefined) this.#descriptor = openLogFile(file);
  }

  debug(message: string, facts?: LogFacts): void {
    this.#log("debug", message, facts);
  }

  info(message: string, facts?: LogFacts): void {
    this.#log("info", message, facts);
  }

  warning(message: string, facts?: LogFacts): void {
    this.#log("warning", message, facts);
  }

  error(message: string, facts?: LogFacts): void {
    this.#log("error", message, facts);
  }

  reopen(): void {
    if (this.#path === undefined || this.#descriptor === undefined) return;
    const old = this.#descriptor;
    try {
      this.#descriptor = openLogFile(this.#path);
    } catch (error) {
      this.error("Cannot reopen the log file: going on in the old one", { error });
      return;
    }
    fs.closeSync(old);
  }

  close(): void {
    if (this.#descriptor === undefined) return;
    fs.closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #log(level: LogLevel, message: string, facts: LogFacts = {}): void {
    if (compareLogLevel(level, this.#level) < 0) return;
    const record: LogRecord = {
      category: ["zrs"],
      level,
      // Not a template: braces in a message are braces.
      message: [message],
      rawMessage: message,
      timestamp: Date.now(),
      properties: facts,
    };
    this.#write(formatLine(record));
  }

  #write(line: string): void {
    if (this.#descriptor === undefined || this.#path === undefined) return writeTalk(line);
    try {
      writeText(this.#descriptor, this.#path, line);
    } catch {
      writeTalk(line);
    }
  }
}

/** Lines are appended, so several processes may share a file, and rotation may cut it. */
function openLogFile(path: string): number {
  try {
    return fs.openSync(path, "a");
  } catch (error) {
    throw diskFailure(`Cannot open log file ${path}`, path, error);
  }
}

/** ` name=value` for each fact that there is, in the given order. */
function formatFacts(facts: LogFacts): string {
  let text = "";
  for (const [name, value] of Object.entries(facts)) {
    if (value !== undefined) text += ` ${name}=${formatValue(value)}`;
  }
  return text;
}

function formatValue(value: unknown): string {
  switch (typeof value) {
    case "bigint": // tids and oids; lengths and positions are numbers
      return value.toString(16).padStart(16, "0");
    case "number":
    case "boolean":
      return String(value);
    case "string":
      return quoteIfNeeded(value);
    default:
      return quoteIfNeeded(value instanceof Error ? formatError(value) : toJson(value));
  }
}

/** Our own errors say all in their message; for any other the place it came from matters. */
function formatError(error: Error): string {
  if (error instanceof ZrsError) return error.message;
  const own = error.stack ?? `${error.name}: ${error.message}`;
  return error.cause === undefined ? own : `${own} (because of: ${wordsOf(error.cause)})`;
}

function toJson(value: unknown): string {
  try {
    return JSON.stringify(value, (_, part) => typeof part === "bigint" ? formatValue(part) : part) ?? "";
  } catch {
    return "(cyclic)";
  }
}

/** Anything but plain printable text is quoted, with what a terminal might obey escaped. */
function quoteIfNeeded(text: string): string {
  if (/^[!#-<>-~]+$/.test(text)) return text;
  return JSON.stringify(text).replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
