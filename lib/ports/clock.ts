/** Time and chance. */

export interface Timer extends Disposable {
  /** The callback will not be called any more. Cancelling twice is harmless. */
  cancel(): void;
}

export interface Clock {
  /** The time of day in milliseconds since 1970 UTC, with a fraction; may jump either way. */
  now(): number;
  /** Milliseconds since some moment; never goes back. For deadlines and durations. */
  monotonic(): number;
  /** Calls back once, not before `delayMs` have passed. */
  schedule(delayMs: number, callback: () => void): Timer;
}

export interface Random {
  /** At least 0, less than 1. */
  unit(): number;
  /** So many bytes that nobody can foretell, fit for secrets; at most 65,536. */
  bytes(count: number): Uint8Array;
}
