/** One connection to a source, from what is first said to its end. */
import type { ZrsError } from "../errors.ts";
import type { Connection } from "../ports/mod.ts";
import type { Intake } from "./intake.ts";
import type { Sink } from "./sink.ts";

/**
 * Receives until the connection ends, or is ended by the signal. What is whole then is durable.
 * @returns why it ended
 * @throws DiskError final, and what the intake throws
 */
export async function attend(
  intake: Intake,
  sink: Sink,
  connection: Connection,
  signal: AbortSignal,
): Promise<ZrsError> {
  const stop = () => intake.stop();
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop();
  sink.onFailure = () => connection.close(); // an idle source would let it go unnoticed for ever
  try {
    return await intake.receive();
  } finally {
    sink.onFailure = () => {};
    signal.removeEventListener("abort", stop);
    connection.close();
    await sink.abort();
  }
}
