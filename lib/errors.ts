/**
 * What can go wrong, sorted by what happens next. Every room may throw these; the command line turns each
 * class into its exit code, and a server decides by class whether to stop, to drop a peer, or to try again.
 *
 * A message says what was tried, on what, what was expected and found. `hint` says what a person can do.
 */

/** Details of a failure, also readable by programs: a tid is a bigint, a position or length is in bytes. */
export interface Facts {
  readonly path?: string;
  readonly position?: number;
  readonly tid?: bigint;
  readonly oid?: bigint;
  readonly peer?: string;
  readonly cause?: unknown;
  /** What the reader of the message can do next; a sentence without a full stop. */
  readonly hint?: string;
}

/** The root of all failures that are not bugs of ours. */
export abstract class ZrsError extends Error {
  readonly facts: Facts;
  /** What the reader of the message can do next. */
  readonly hint: string | undefined;

  constructor(message: string, facts: Facts = {}) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.name = new.target.name;
    this.facts = facts;
    this.hint = facts.hint;
  }
}

/** The command line or configuration asks for something that cannot be done as asked. */
export class UsageError extends ZrsError {}

/** There is no such file or directory. */
export class NotFoundError extends UsageError {}

const DAMAGE_HINT = "zrs verify tells more about the file; a replica or a backup may replace it";

/** The file on this machine is damaged: stop, touch nothing. */
export class CorruptError extends ZrsError {
  constructor(message: string, facts: Facts = {}) {
    super(message, { hint: DAMAGE_HINT, ...facts });
  }
}

/** The peer broke the protocol: drop it. */
export class ProtocolError extends ZrsError {}

/** The two histories differ: a person decides. */
export class DivergedError extends ZrsError {}

/** Bytes that are no pickle, or none that we read: who knows where they came from decides what that means. */
export class PickleError extends ZrsError {}

/** The peer cannot be reached, went away, or refused us: try again later. */
export class UnavailableError extends ZrsError {}

/** The peer refused us in words; the message holds them. */
export class RefusedError extends UnavailableError {}

/** Another process holds the lock. */
export class LockedError extends ZrsError {}

/** The disk refused: an I/O error. What was being written does not count as written. */
export class DiskError extends ZrsError {}

/** The disk, or the user's quota on it, is full: go on when there is room. */
export class DiskFullError extends DiskError {}
