/** Asking a running node over its control socket. */
import { ProtocolError, UnavailableError } from "../../errors.ts";
import type { Clock, Connection, Network } from "../../ports/mod.ts";
import { decodeLine, encodeLine, type JsonObject, LineDecoder, nextLine } from "./control_protocol.ts";

/** A node that runs answers at once; a longer wait is one for a process that is stopped, or a machine that swaps. */
const ANSWER_TIMEOUT_MS = 10_000;
/** Room for a status with some ten thousand secondaries. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

/** How long to wait for an answer. */
export interface Waiting {
  /** Infinity for what may take long; default: 10 s. */
  readonly timeoutMs?: number;
}

/** How to ask for what takes long. */
export interface LongQuestion {
  /** Ends the asking; the node gives up, too. */
  readonly signal: AbortSignal;
  /** Is told each line that comes before the answer, those with `progress` or `warning`. */
  readonly told: (line: JsonObject) => void;
}

/** Nobody listens there, or nobody whom we may ask: nothing has been asked. */
export class UnreachableError extends UnavailableError {}

/**
 * Sends one request and waits for its answer.
 * @param path the socket's
 * @throws UnreachableError; UnavailableError when there is no answer, or the node cannot do what is asked;
 * ProtocolError when something else listens there
 */
export async function ask(
  ports: { readonly network: Network; readonly clock: Clock },
  path: string,
  request: JsonObject & { readonly request: string },
  waiting: Waiting = {},
): Promise<JsonObject> {
  return accept(await askForAnswer(ports, path, request, waiting), path);
}

/**
 * As {@link ask}, but gives the answer also where it is an error. With a question that takes long the time is for the
 * first line.
 * @throws the signal's reason as well
 */
export async function askForAnswer(
  ports: { readonly network: Network; readonly clock: Clock },
  path: string,
  request: JsonObject & { readonly request: string },
  { timeoutMs = ANSWER_TIMEOUT_MS, ...long }: Waiting & Partial<LongQuestion> = {},
): Promise<JsonObject> {
  const giveUp = new AbortController();
  const stop = () => giveUp.abort();
  using stack = new DisposableStack();
  const timer = timeoutMs < Infinity ? stack.use(ports.clock.schedule(timeoutMs, stop)) : undefined;
  const { signal, told } = long;
  signal?.addEventListener("abort", stop);
  stack.defer(() => signal?.removeEventListener("abort", stop));
  if (signal?.aborted) stop();
  try {
    const connection = stack.use(await connect(ports.network, path, giveUp.signal));
    giveUp.signal.addEventListener("abort", () => connection.close());
    giveUp.signal.throwIfAborted();
    await connection.write(encodeLine(request));
    const lines = new LineDecoder(MAX_ANSWER_BYTES);
    const chunk = new Uint8Array(64 * 1024);
    for (;;) {
      const line = await nextLine(connection, lines, chunk);
      if (line === undefined) throw unanswered(path, "it closed the connection");
      const answer = decodeLine(line);
      if (told === undefined || answer.progress === undefined && answer.warning === undefined) return answer;
      timer?.cancel(); // it works: however long that takes
      told(answer);
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof ProtocolError) {
      throw new ProtocolError(`Cannot understand what answers at ${path}: ${error.message}`, {
        path,
        cause: error,
        hint: "name the control socket of a zrs node",
      });
    }
    if (giveUp.signal.aborted) throw unanswered(path, `it took more than ${timeoutMs / 1000} s`);
    throw error;
  }
}

/** @throws UnavailableError when the answer says that it cannot be given */
function accept(answer: JsonObject, path: string): JsonObject {
  const { error, hint } = answer;
  if (error === undefined) return answer;
  throw new UnavailableError(`The node at ${path} refuses: ${error}`, {
    path,
    ...(typeof hint === "string" && { hint }),
  });
}

async function connect(network: Network, path: string, signal: AbortSignal): Promise<Connection> {
  try {
    return await network.connect({ transport: "unix", path }, { signal });
  } catch (error) {
    if (!(error instanceof UnavailableError) || signal.aborted) throw error;
    throw new UnreachableError(error.message, {
      path,
      cause: error,
      hint: "start the node, or ask as the user who runs it",
    });
  }
}

function unanswered(path: string, why: string): UnavailableError {
  return new UnavailableError(`The node at ${path} did not answer: ${why}`, {
    path,
    hint: "see whether its process is stopped, or too busy, or closing down",
  });
}
