/** Writing text to a descriptor whole and at once: standard output, standard error, a log file. */

import fs from "node:fs";
import { UnavailableError } from "../errors.ts";
import { codeOf, diskFailure } from "./failure.ts";

export const STDOUT = 1;
const STDERR = 2;

/** How long to wait before offering text again to a pipe that is full and does not block. */
const FULL_PIPE_PAUSE_MS = 2;

/**
 * Writes all of the text, however long the reader takes.
 * @param name what the descriptor is, for the message
 * @throws UnavailableError when the reader has gone, DiskFullError, DiskError
 */
export function writeText(descriptor: number, name: string, text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let done = 0; done < bytes.length;) {
    try {
      done += fs.writeSync(descriptor, bytes, done, bytes.length - done);
    } catch (cause) {
      const code = codeOf(cause);
      if (code === "EAGAIN") {
        // Another process that shares the pipe made it non-blocking; nothing else can go on before the text.
        pause(FULL_PIPE_PAUSE_MS);
        continue;
      }
      if (code === "EPIPE") {
        throw new UnavailableError(`Cannot write to ${name}: its reader has gone`, { path: name, cause });
      }
      throw diskFailure(`Cannot write to ${name}`, name, cause);
    }
  }
}

/** Writes to standard error, where there is nobody left to tell of a failure. */
export function writeTalk(text: string): void {
  try {
    writeText(STDERR, "standard error", text);
  } catch {
    // Closed or full: the text is lost, the work goes on.
  }
}

function pause(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}
