/**
 * The lock beside a FileStorage that keeps a second writer out, shared with Python's zc.lockfile
 * (docs/filestorage_format.md, "The lock file"). The system ends it with the process, however that dies.
 */

import type { FileLock } from "../ports/mod.ts";
import { LockedError } from "../errors.ts";
import { diskFailure } from "./failure.ts";

/** Enough for " <pid>\n"; what else might be in the file is not read. */
const PID_BYTES = 64;

/**
 * Takes the lock, or fails at once.
 * @throws LockedError, naming the process that the file names; UsageError, DiskError
 */
export function lockFile(path: string): FileLock {
  const action = `Cannot lock ${path}`;
  let file: Deno.FsFile | undefined;
  try {
    file = Deno.openSync(path, { read: true, write: true, create: true });
    if (!file.tryLockSync(true) || !isNamed(file, path)) throw heldByAnother(action, path, file);
    // Only now: until the lock is ours, the content belongs to the process that holds it.
    const content = new TextEncoder().encode(` ${Deno.pid}\n`);
    for (let done = 0; done < content.length;) done += file.writeSync(content.subarray(done));
    file.truncateSync(content.length);
    return new HostLock(file);
  } catch (error) {
    file?.close();
    if (error instanceof LockedError) throw error;
    throw diskFailure(action, path, error);
  }
}

/**
 * Whether the path still leads to the file that was opened: who gives up a database that it has only just begun
 * takes the lock file away with it, and another may have locked a new one since.
 */
function isNamed(file: Deno.FsFile, path: string): boolean {
  const opened = file.statSync();
  try {
    const named = Deno.statSync(path);
    return opened.dev === named.dev && opened.ino === named.ino;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/**
 * Marks a file by a flock on the file itself: shared for those who follow it, exclusive for its owner. Python
 * locks the file beside it only.
 * @returns undefined when another process's mark is in the way
 */
export function markFile(path: string, use: "followed" | "owned"): FileLock | undefined {
  let file: Deno.FsFile | undefined;
  try {
    file = Deno.openSync(path, { read: true });
    if (file.tryLockSync(use === "owned")) return new HostLock(file);
    file.close();
    return undefined;
  } catch (error) {
    file?.close();
    throw diskFailure(`Cannot mark ${path} as ${use}`, path, error);
  }
}

function heldByAnother(action: string, path: string, file: Deno.FsFile): LockedError {
  const bytes = new Uint8Array(PID_BYTES);
  const text = new TextDecoder().decode(bytes.subarray(0, file.readSync(bytes) ?? 0)).trim();
  // The holder may be about to write its number, so this is what the file says, not what we know.
  const holder = /^\d+$/.test(text) ? `process ${text} holds it` : "another process holds it";
  return new LockedError(`${action}: ${holder}`, {
    path,
    hint: "Stop the other process; the file itself may stay",
  });
}

class HostLock implements FileLock {
  #file: Deno.FsFile | undefined;

  constructor(file: Deno.FsFile) {
    this.#file = file;
  }

  close(): void {
    this.#file?.close();
    this.#file = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
