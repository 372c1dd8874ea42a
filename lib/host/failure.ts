/**
 * What the operating system said, in words, and sorted by what happens next. Codes come from `node:fs` and
 * from `Deno` alike; a full disk arrives as a plain Error that only its code tells apart.
 */

import { DiskError, DiskFullError, NotFoundError, UsageError, type ZrsError } from "../errors.ts";

/** The system's name of an error ("ENOENT"), or "" where it gave none. */
export function codeOf(error: unknown): string {
  if (typeof error !== "object" || error === null || !("code" in error)) return "";
  return typeof error.code === "string" ? error.code : "";
}

/** The runtime's own refusal, or the system's, of something this process may not do. */
function isForbidden(error: unknown): boolean {
  return error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotCapable;
}

const FULL: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
};

const MISSING: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or directory",
  ENOTDIR: "part of the path is not a directory",
};

/** What the user asked for and can change: the words, and what to do. */
const REFUSED: Readonly<Record<string, readonly [words: string, hint: string]>> = {
  EACCES: ["permission denied", "Check the owner and mode of the file and of its directories"],
  EPERM: ["operation not permitted", "Check the owner, mode and attributes of the file"],
  EISDIR: ["it is a directory", "Name a file"],
  EEXIST: ["it exists already", "Name a path that is free"],
  ENOTEMPTY: ["it is a directory that is not empty", "Name a file"],
  EROFS: ["the file system is mounted read-only", "Use a path on a writable file system"],
  ELOOP: ["too many symbolic links", "Check the links on the way to the file"],
  ENAMETOOLONG: ["the name is too long", "Use a shorter path"],
  EXDEV: ["the two paths are on different file systems", "Use paths on one file system"],
  ETXTBSY: ["it is a program that is running", "Name another file"],
  ENXIO: ["it is not a regular file", "Name a file"],
};

const BROKEN: Readonly<Record<string, string>> = {
  EIO: "input/output error",
  EFBIG: "the file would be larger than the system allows",
  EMFILE: "this process has too many files open",
  ENFILE: "the system has too many files open",
  ENOLCK: "the file system cannot lock",
  ESTALE: "the network file system has lost the file",
};

/**
 * The error to throw after a failed call on a file.
 * @param action what was tried on what, as in "Cannot open /data/Data.fs"
 */
export function diskFailure(action: string, path: string, cause: unknown): ZrsError {
  const code = codeOf(cause);
  const full = FULL[code];
  if (full !== undefined) {
    return new DiskFullError(`${action}: ${full}`, { path, cause, hint: "Make room on the disk" });
  }
  const missing = MISSING[code];
  if (missing !== undefined) return new NotFoundError(`${action}: ${missing}`, { path, cause });
  const refused = REFUSED[code] ?? (isForbidden(cause) ? REFUSED["EACCES"] : undefined);
  if (refused !== undefined) {
    return new UsageError(`${action}: ${refused[0]}`, { path, cause, hint: refused[1] });
  }
  return new DiskError(`${action}: ${BROKEN[code] ?? wordsOf(cause)}`, { path, cause });
}

/**
 * As {@link diskFailure}, for a file that is open: what forbids going on with it (a file system that was
 * remounted read-only, an attribute set meanwhile) is nothing that was asked for wrongly.
 */
export function openFileFailure(action: string, path: string, cause: unknown): ZrsError {
  const failure = diskFailure(action, path, cause);
  return failure instanceof UsageError ? new DiskError(failure.message, failure.facts) : failure;
}

/** The first line of an error's own message, for codes that have no words here. */
export function wordsOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.split("\n", 1)[0]!;
}
