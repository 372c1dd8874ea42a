/** One connection to a source, from what is first said to its end. */
import { UnavailableError, type ZrsError } from "../../errors.ts";
import type { Connection } from "../../ports/mod.ts";
import { UnwantedError } from "./incoming.ts";
import type { Intake } from "./intake.ts";
import { MisfitError } from "./native_runs.ts";
import { HistoryRefusedError } from "../lineage/refusal.ts";
import type { Sink } from "./sink.ts";
import { TurnWanted } from "../turn.ts";

/**
 * Receives until the connection ends, or is ended by the signal. What is whole then is durable.
 * @param rest whether to keep what has come of a large transaction, for the next connection to go on behind it
 * @returns why it ended
 * @throws DiskError final, and what the intake throws
 */
export async function attend(
  intake: Intake,
  sink: Sink,
  connection: Connection,
  signal: AbortSignal,
  rest: "keep" | "forget",
): Promise<ZrsError> {
  let isOnlyLost = false;
  const stop = () => intake.stop(signal.reason instanceof TurnWanted ? signal.reason.message : undefined);
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop();
  sink.onFailure = () => connection.close(); // an idle source would let it go unnoticed for ever
  try {
    const failure = await intake.receive();
    isOnlyLost = saysNothingAgainst(failure);
    return failure;
  } finally {
    sink.onFailure = () => {};
    signal.removeEventListener("abort", stop);
    connection.close();
    if (isOnlyLost && rest === "keep") await sink.interrupt();
    else await sink.abort();
  }
}

/** Whether what came before a connection ended may be right all the same. */
function saysNothingAgainst(failure: ZrsError): boolean {
  return failure instanceof UnavailableError && !(failure instanceof MisfitError) &&
    !(failure instanceof UnwantedError) && !(failure instanceof HistoryRefusedError);
}
