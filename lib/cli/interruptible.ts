/** Work that a person or the system may want stopped before it is done. */

import type { Host, Signal } from "../host/mod.ts";
import { EXIT, type ExitCode, originOf } from "./exit_codes.ts";

const STOP_SIGNALS: readonly (readonly [Signal, ExitCode])[] = [
  ["SIGTERM", EXIT.terminated],
  ["SIGINT", EXIT.interrupted],
];

/** Not a failure: somebody wanted it. */
export class Stopped extends Error {
  constructor(words: string, readonly exitCode: ExitCode) {
    super(words);
  }
}

/**
 * Does the work, which a first signal ends in good order, and a second one at once.
 * @param command as failures name it, such as `zrs pack`
 * @param words what is said of work that was stopped, by then
 * @param work gives up with the signal's reason, which is {@link Stopped}, once it is aborted
 * @returns the exit code: that of the signal where it ended the work
 * @throws what the work throws for another reason
 */
export async function interruptible(
  host: Host,
  command: string,
  words: string | (() => string),
  work: (signal: AbortSignal) => Promise<void>,
): Promise<ExitCode> {
  const stop = new AbortController();
  using signals = new DisposableStack();
  for (const [signal, codeOfSignal] of STOP_SIGNALS) {
    signals.use(host.onSignal(signal, () => {
      if (stop.signal.aborted) host.exit(codeOfSignal);
      stop.abort(new Stopped(typeof words === "string" ? words : words(), codeOfSignal));
    }));
  }
  try {
    await work(stop.signal);
    return EXIT.ok;
  } catch (error) {
    const origin = originOf(error);
    if (!(origin instanceof Stopped)) throw error;
    host.err(`${command}: ${origin.message}\n`);
    return origin.exitCode;
  }
}
