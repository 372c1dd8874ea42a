/** Work that a person or the system may want stopped before it is done. */

import type { Host, Signal } from "../host/mod.ts";
import { EXIT, type ExitCode, originOf } from "./exit_codes.ts";

const STOP_SIGNALS: readonly (readonly [Signal, ExitCode])[] = [
  ["SIGTERM", EXIT.terminated],
  ["SIGINT", EXIT.interrupted],
];

/** Not a failure: somebody wanted it. */
class Stopped extends Error {}

/**
 * Does the work, which a first signal ends in good order, and a second one at once.
 * @param words what is said of work that was stopped, by then
 * @param work gives up with the signal's reason once it is aborted
 * @returns the exit code: that of the signal where it ended the work
 * @throws what the work throws for another reason
 */
export async function interruptible(
  host: Host,
  words: string | (() => string),
  work: (signal: AbortSignal) => Promise<void>,
): Promise<ExitCode> {
  const stop = new AbortController();
  let code: ExitCode = EXIT.ok;
  using signals = new DisposableStack();
  for (const [signal, codeOfSignal] of STOP_SIGNALS) {
    signals.use(host.onSignal(signal, () => {
      if (stop.signal.aborted) host.exit(codeOfSignal);
      code = codeOfSignal;
      stop.abort(new Stopped(typeof words === "string" ? words : words()));
    }));
  }
  try {
    await work(stop.signal);
    return EXIT.ok;
  } catch (error) {
    if (!stop.signal.aborted || originOf(error) !== stop.signal.reason) throw error;
    host.err(`${stop.signal.reason.message}\n`);
    return code;
  }
}
