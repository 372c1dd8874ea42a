/**
 * The language of the control socket (docs/control_protocol.md): lines of JSON, each a request that is answered
 * by one line. Bytes and lines in, answers out; who carries them is control_server.ts and control_client.ts.
 *
 * All of it lives beside the commands, not in the replica room: what is asked for is the process with its node
 * (its id, its version, later its role), and a node by itself need not know that it can be asked.
 */
import { ProtocolError, ZrsError } from "../../errors.ts";
import type { Connection, Log } from "../../ports/mod.ts";
import { EXIT, type ExitCode, exitCodeOf } from "../exit_codes.ts";

/** A longer request is none. */
export const MAX_REQUEST_BYTES = 64 * 1024;

export type JsonObject = Readonly<Record<string, unknown>>;

/** A client, while its request is being answered. */
export interface Asker {
  /** Whoever asks for it is told when the client has gone: nobody waits for the answer any more. */
  readonly gone: AbortSignal;
  /** Sends a line before the answer. It is left out where the client has not taken the one before. */
  tell(line: JsonObject): void;
}

/** Answers requests of one name. What it throws is answered as an error. */
export type Handler = (request: JsonObject, asker: Asker) => JsonObject | Promise<JsonObject>;

/** By the request's name. */
export type Handlers = Readonly<Record<string, Handler>>;

export interface Answer {
  readonly line: Uint8Array;
  /** The client does not speak the language: it is dropped behind this. */
  readonly last: boolean;
}

const LINE_END = 0x0a;

/** Bytes to lines, however the bytes are cut. */
export class LineDecoder {
  readonly #limit: number;
  #bytes = new Uint8Array(1024);
  /** Of the line that is next. */
  #start = 0;
  #end = 0;
  /** No line ends before. */
  #searched = 0;

  /** @param limit how many bytes a line may have, without its end */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Takes the next bytes, by copying. */
  push(chunk: Uint8Array): void {
    if (this.#end + chunk.length > this.#bytes.length) this.#makeRoom(chunk.length);
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /**
   * The next line without its end; undefined while it is not whole.
   * @throws ProtocolError when it is too long, or not UTF-8
   */
  next(): string | undefined {
    const at = this.#bytes.subarray(0, this.#end).indexOf(LINE_END, this.#searched);
    const end = at < 0 ? this.#end : at;
    if (end - this.#start > this.#limit) {
      throw new ProtocolError(`Cannot take a line of more than ${this.#limit} bytes`);
    }
    this.#searched = end;
    if (at < 0) return undefined;
    const line = this.#bytes.subarray(this.#start, at);
    this.#start = this.#searched = at + 1;
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(line);
    } catch {
      throw new ProtocolError("Cannot take a line that is not UTF-8");
    }
  }

  #makeRoom(length: number): void {
    const rest = this.#bytes.subarray(this.#start, this.#end);
    let size = this.#bytes.length;
    while (size < rest.length + length) size *= 2;
    const bytes = new Uint8Array(size);
    bytes.set(rest);
    this.#searched -= this.#start;
    this.#bytes = bytes;
    this.#start = 0;
    this.#end = rest.length;
  }
}

/**
 * The next line that comes over a connection; undefined when the other end has closed it.
 * @param chunk room for what comes at once
 * @throws ProtocolError (see {@link LineDecoder.next}), UnavailableError
 */
export async function nextLine(
  connection: Connection,
  lines: LineDecoder,
  chunk: Uint8Array,
): Promise<string | undefined> {
  for (;;) {
    const line = lines.next();
    if (line !== undefined) return line;
    const count = await connection.read(chunk);
    if (count === null) return undefined;
    lines.push(chunk.subarray(0, count));
  }
}

export function encodeLine(object: JsonObject): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(object)}\n`);
}

/** @throws ProtocolError when the line is not one JSON object */
export function decodeLine(line: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new ProtocolError("Cannot take a line that is not JSON");
  }
  if (!isObject(value)) throw new ProtocolError("Cannot take a line that is not a JSON object");
  return value;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * What is answered to a line. A handler's own bug is logged, and told to the client as such.
 * @throws ProtocolError when the line is no JSON object
 */
export async function answerTo(
  line: string,
  handlers: Handlers,
  log: Log,
  asker: Asker = NOBODY,
): Promise<Answer> {
  const request = decodeLine(line);
  const { request: name } = request;
  if (typeof name !== "string" || !Object.hasOwn(handlers, name)) {
    const known = Object.keys(handlers).join(", ");
    return failed(`Unknown request ${JSON.stringify(name) ?? "without a name"}; known here: ${known}`);
  }
  try {
    return { line: encodeLine(await handlers[name]!(request, asker)), last: false };
  } catch (error) {
    if (error instanceof ZrsError) return failed(error.message, error.hint, exitCodeOf(error));
    log.error(`Cannot answer ${name} on the control socket: a bug of ours`, { error });
    return failed(
      "a bug of ours kept this node from answering; its log has the details",
      undefined,
      EXIT.bug,
    );
  }
}

/** What is said to a client that is dropped for its words. @throws what is no ProtocolError */
export function refusal(error: unknown): Answer {
  if (!(error instanceof ProtocolError)) throw error;
  return { ...failed(error.message), last: true };
}

function failed(error: string, hint?: string, exitCode?: ExitCode): Answer {
  const facts = { ...(hint !== undefined && { hint }), ...(exitCode !== undefined && { exitCode }) };
  return { line: encodeLine({ error, ...facts }), last: false };
}

/** Is told nothing, and never goes. */
const NOBODY: Asker = { gone: new AbortController().signal, tell: () => {} };
