/** Waiting without losing a wake-up, with deadlines from the Clock port. */
import type { Clock } from "../ports/mod.ts";

/** So long others are kept waiting by long work. */
const WORK_MS = 5;

/** A bell that remembers one ring until somebody has waited for it. One waiter at a time. */
export class Bell {
  #rung = false;
  #wake: (() => void) | undefined;

  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /** Resolves at the next ring, or at once when it has rung since the last wait. */
  async wait(): Promise<void> {
    if (!this.#rung) await new Promise<void>((resolve) => this.#wake = resolve);
    this.#wake = undefined;
    this.#rung = false;
  }
}

/** Resolves after `delayMs`, or at once when the signal aborts. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      timer.cancel();
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = clock.schedule(delayMs, done);
    signal?.addEventListener("abort", done);
  });
}

/** Calls `expired` unless `work` settles within the time. */
export async function withDeadline<T>(
  clock: Clock,
  delayMs: number,
  expired: () => void,
  work: Promise<T>,
): Promise<T> {
  using _timer = clock.schedule(delayMs, expired);
  return await work;
}

/** As {@link withDeadline}, but the time begins anew whenever `progress` has another value at its end. */
export async function withProgress<T>(
  clock: Clock,
  delayMs: number,
  progress: () => number,
  expired: () => void,
  work: Promise<T>,
): Promise<T> {
  let last = progress();
  let timer = clock.schedule(delayMs, check);
  function check(): void {
    const now = progress();
    if (now === last) return expired();
    last = now;
    timer = clock.schedule(delayMs, check);
  }
  try {
    return await work;
  } finally {
    timer.cancel();
  }
}

/** Lets other work run; for long walks through a file. */
export function pauser(clock: Clock): () => Promise<void> {
  return () => sleep(clock, 0);
}

/** As {@link pauser}, for long work of which a step takes no time: pauses only after some milliseconds of it. */
export function politePauser(clock: Clock): () => Promise<void> {
  let sinceMs = clock.monotonic();
  return async () => {
    if (clock.monotonic() - sinceMs < WORK_MS) return;
    await sleep(clock, 0);
    sinceMs = clock.monotonic();
  };
}
