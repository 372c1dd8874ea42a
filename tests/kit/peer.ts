/** A Python process that takes commands and answers in JSON lines (python/peer.py says how). */
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeDeadline, Feed } from "./feed.ts";
import { ChildProcess } from "./process.ts";

const PYTHON_PEERS = fileURLToPath(new URL("./python/", import.meta.url));

/** What a Python library logged; the message has the traceback, if there is one. */
export interface LogLine {
  readonly level: "DEBUG" | "INFO" | "WARNING" | "ERROR" | "CRITICAL";
  /** The Python logger's name, such as `zc.zrs.secondary`. */
  readonly logger: string;
  readonly message: string;
}

interface Failure {
  readonly type: string;
  readonly message: string;
  readonly traceback: string;
}

/** An exception on the Python side. */
export class PeerError extends Error {
  /** The name of its class, such as `ConflictError`. */
  readonly type: string;

  constructor(failure: Failure) {
    super(`${failure.type}: ${failure.message}\n${failure.traceback}`);
    this.name = "PeerError";
    this.type = failure.type;
  }
}

/** Request 0 is the start itself, answered by `ready` or `failed`. */
const START = 0;

/** Sends commands to one Python process and takes its answers apart from its log. */
class Channel {
  readonly process: ChildProcess;
  readonly logs = new Feed<LogLine>();
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #lastId = START;

  constructor(interpreter: string, program: string, options: object) {
    this.process = ChildProcess.start(
      interpreter,
      // No compiled files beside the sources; UTF-8 whatever the locale.
      ["-B", "-X", "utf8", resolve(PYTHON_PEERS, program), JSON.stringify(options)],
      { onLine: (line) => this.#take(JSON.parse(line)) },
    );
  }

  /** Waits for the process to say that it is ready. */
  async start(): Promise<unknown> {
    return await this.#answerTo(START, "start");
  }

  async ask(command: string, args: object): Promise<unknown> {
    const id = ++this.#lastId;
    const answer = this.#answerTo(id, command);
    // A process that is gone cannot be written to; the wait for its answer says how it went.
    await this.process.write(`${JSON.stringify({ ...args, id, command })}\n`).catch(() => {});
    return await answer;
  }

  async #answerTo(id: number, command: string): Promise<unknown> {
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.set(id, waiting);
    return await beforeDeadline(
      `an answer to ${command}`,
      Promise.race([waiting.promise, this.process.endedEarly()]),
    );
  }

  #take(message: Readonly<Record<string, unknown>>): void {
    if ("log" in message) {
      this.logs.push(message.log as LogLine);
      return;
    }
    const id = typeof message.id === "number" ? message.id : START;
    const failure = message.failed ?? message.error;
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (failure === undefined) waiting?.resolve("ready" in message ? message.ready : message.result);
    else waiting?.reject(new PeerError(failure as Failure));
  }
}

/**
 * One Python process. Disposing of it kills it in whatever state it is; `close` of the kinds in peers.ts ends
 * it in order. `Ready` is what it tells at its start.
 */
export class Peer<Ready> implements AsyncDisposable {
  readonly ready: Ready;
  readonly process: ChildProcess;
  /** What its libraries logged, oldest first. */
  readonly logs: Feed<LogLine>;
  readonly #channel: Channel;

  /** `started` is what {@link startPeer} gave. */
  constructor(started: StartedPeer<Ready>) {
    this.ready = started.ready;
    this.process = started.channel.process;
    this.logs = started.channel.logs;
    this.#channel = started.channel;
  }

  /** Waits for a log line whose message matches, also one that was there before. */
  async waitForLog(pattern: RegExp, options: { from?: number } = {}): Promise<LogLine> {
    return await this.logs.waitFor(`log line ${pattern}`, (line) => pattern.test(line.message), options);
  }

  /** Ends the process as a crash would (SIGKILL), and waits until it is gone. */
  async kill(): Promise<void> {
    await this.process.stop("SIGKILL");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
  }

  /**
   * Has the peer do something; what it answers is what its program says for that command.
   * @throws PeerError when it raised an exception
   */
  protected async ask<Result>(command: string, args: object = {}): Promise<Result> {
    return await this.#channel.ask(command, args) as Result;
  }

  /** Has the peer end in order, and waits until it is gone. */
  protected async askToClose<Result>(): Promise<Result> {
    const answer = await this.ask<Result>("close");
    await beforeDeadline(`the end of process ${this.process.pid}`, this.process.exited);
    return answer;
  }
}

/** A process that has said that it is ready. */
export interface StartedPeer<Ready> {
  readonly ready: Ready;
  readonly channel: Channel;
}

/**
 * Starts a program of python/, or one at an absolute path, and waits until it is ready.
 * @throws PeerError when its start raised an exception
 */
export async function startPeer<Ready>(
  interpreter: string,
  program: string,
  options: object,
): Promise<StartedPeer<Ready>> {
  const channel = new Channel(interpreter, program, options);
  try {
    return { ready: await channel.start() as Ready, channel };
  } catch (error) {
    await channel.process[Symbol.asyncDispose]();
    throw error;
  }
}
