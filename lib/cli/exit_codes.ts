/** What the exit codes of every command mean, and which failure gives which. Scripts and cron rely on them. */

import {
  CorruptError,
  DiskError,
  DivergedError,
  LockedError,
  ProtocolError,
  UnavailableError,
  UsageError,
} from "../errors.ts";

export const EXIT = {
  /** Done. A server that was asked to stop and did. */
  ok: 0,
  /** A check failed: damage was found, replicas differ, a limit was passed. */
  checkFailed: 1,
  /** Usage or configuration: also no such file, not a FileStorage, no permission, port in use. */
  usage: 2,
  /** The replica has transactions that the source does not have. Nothing was written. */
  diverged: 3,
  /** The source or peer is unavailable, or broke the protocol. What was already whole has been kept. */
  unavailable: 4,
  /** Another process holds the lock. */
  locked: 5,
  /** The disk is full, or failed. */
  disk: 6,
  /** The local file is damaged. */
  corrupt: 7,
  /** A bug of ours. */
  bug: 70,
  /** Stopped by SIGINT with the work not done. */
  interrupted: 130,
  /** Stopped by SIGTERM with the work not done. */
  terminated: 143,
} as const;

export type ExitCode = typeof EXIT[keyof typeof EXIT];

/** The exit code for what ended a command; anything that is not one of our own failures is a bug of ours. */
export function exitCodeOf(error: unknown): ExitCode {
  const origin = originOf(error);
  if (origin instanceof UsageError) return EXIT.usage;
  if (origin instanceof DivergedError) return EXIT.diverged;
  if (origin instanceof UnavailableError || origin instanceof ProtocolError) return EXIT.unavailable;
  if (origin instanceof LockedError) return EXIT.locked;
  if (origin instanceof DiskError) return EXIT.disk;
  if (origin instanceof CorruptError) return EXIT.corrupt;
  return EXIT.bug;
}

/** What went wrong first, where closing down after it failed as well. */
export function originOf(error: unknown): unknown {
  return error instanceof SuppressedError ? originOf(error.suppressed) : error;
}
