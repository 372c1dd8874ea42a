/**
 * Asking the program on the other machine (far_program.ts), over a connection that leads to a shell there. One
 * question at a time. Survives whatever a login shell prints before, answers cut into any pieces, and files that
 * shrink while they are read.
 */
import { NotFoundError, ProtocolError, UnavailableError, UsageError, type ZrsError } from "../../errors.ts";
import type { Clock, Connection, Random } from "../../ports/mod.ts";
import { equalAt } from "../../bytes/mod.ts";
import { farProgram, type FarProgramOptions } from "./far_program.ts";
import { lowerFirst } from "../lower_first.ts";
import { withDeadline } from "../waiting.ts";

/** The file at the other end's path is another one by now: what is read of it would not fit together. */
export class FarReplacedError extends UnavailableError {}

/** A part of an answer: bytes from one offset to another, lent until the promise resolves. */
export type TakeBytes = (bytes: Uint8Array, from: number, to: number) => Promise<void> | void;

export interface FarShellPorts {
  readonly clock: Clock;
  readonly random: Random;
}

export interface FarShellOptions extends Omit<FarProgramOptions, "mark"> {
  /** The file and its machine, for messages. */
  readonly name: string;
  /** How long the shell there may take to start; undefined where a person may be asked for a password. */
  readonly startTimeoutMs: number | undefined;
}

/** A login shell that prints more than so much before it comes to us is none that we can use. */
const MAX_BANNER_BYTES = 64 * 1024;
/** What is kept of it for messages. */
const SHOWN_BANNER_BYTES = 200;

/** The line behind an answer is not longer. */
const MAX_END_BYTES = 1024;
const READ_BYTES = 256 * 1024;

/**
 * A machine there from which nothing comes for so long hangs, as with a disk that does not answer; making a digest, or
 * writing to disk what waits for that, takes less.
 */
const SILENCE_MS = 600_000;

const LINE_FEED = 10;
const MARK_BYTES = 16;

export class FarShell {
  readonly name: string;
  /** The version of zrs that is installed there; undefined where there is none. */
  readonly version: string | undefined;
  /** Whether something else answers to the name of zrs there, or prints more than zrs does. */
  readonly hasOther: boolean;
  /** The digests that it can make of blocks; undefined where nothing there makes any. */
  readonly digests: "sha256" | "md5" | undefined;
  /** Begins the lines that are its own. */
  readonly mark: string;
  /** The blob directory there, as it was written. */
  readonly blobs: string | undefined;
  readonly #clock: Clock;
  readonly #connection: Connection;
  readonly #answers: Answers;

  private constructor(
    clock: Clock,
    { name, blobs, mark }: FarShellOptions & { readonly mark: string },
    connection: Connection,
    answers: Answers,
    hello: readonly string[],
  ) {
    const [, version, tool] = hello;
    this.name = name;
    this.blobs = blobs;
    this.mark = mark;
    this.#clock = clock;
    this.#connection = connection;
    this.#answers = answers;
    this.hasOther = version === "other";
    this.version = version === "none" || this.hasOther ? undefined : version;
    this.digests = tool === "none" ? undefined : tool!.startsWith("md5") ? "md5" : "sha256";
  }

  /**
   * Sends the program and waits until it runs.
   * @param connection to a shell, of which nothing has been read; it stays the caller's
   * @throws UnavailableError, ProtocolError
   */
  static async start(
    { clock, random }: FarShellPorts,
    connection: Connection,
    options: FarShellOptions,
  ): Promise<FarShell> {
    const mark = `zrs-${random.bytes(MARK_BYTES).toHex()}`;
    const answers = new Answers(connection, mark);
    const banner = new Banner(options.name);
    const { startTimeoutMs: timeoutMs } = options;
    let isLate = false;
    const begin = async () => {
      const written = connection.write(new TextEncoder().encode(farProgram({ ...options, mark })));
      written.catch(() => {}); // what it says before it goes tells more
      const hello = await answers.next((bytes, from, to) => banner.take(bytes, from, to));
      await written;
      return hello;
    };
    const giveUp = () => {
      isLate = true;
      connection.close();
    };
    try {
      const hello =
        await (timeoutMs === undefined ? begin() : withDeadline(clock, timeoutMs, giveUp, begin()));
      if (hello[0] !== "hello") {
        throw new ProtocolError(`Cannot use the shell of ${options.name}: it says no hello`);
      }
      return new FarShell(clock, { ...options, mark }, connection, answers, hello);
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      const why = isLate
        ? `no shell has started there within ${timeoutMs! / 1000} s`
        : lowerFirst(error.message);
      throw new UnavailableError(`Cannot reach ${options.name}: ${why}${banner.words}`, error.facts);
    }
  }

  /**
   * Puts a question.
   * @param take gets the bytes of the answer
   * @returns the words behind them
   * @throws NotFoundError, UsageError (a directory, no permission), FarReplacedError; UnavailableError also where
   * nothing comes for ten minutes, and for whatever else failed there; what `take` throws: nothing can be asked any more then
   */
  async ask(question: string, take: TakeBytes = this.#refuseBytes): Promise<readonly string[]> {
    await this.#connection.write(new TextEncoder().encode(`${question}\n`));
    const words = await this.#answers.next(take, (read) => this.#unlessSilent(read));
    if (words[0] === "fail") throw this.#failure(words[1]!, words.slice(2).join(" "));
    return words;
  }

  async #unlessSilent(read: Promise<number | null>): Promise<number | null> {
    let isSilent = false;
    const giveUp = () => {
      isSilent = true;
      this.#connection.close();
    };
    try {
      return await withDeadline(this.#clock, SILENCE_MS, giveUp, read);
    } catch (error) {
      if (!isSilent) throw error;
      throw new UnavailableError(
        `Cannot read ${this.name}: nothing has come from there for ${SILENCE_MS / 1000} s`,
        { hint: "look whether its disk answers" },
      );
    }
  }

  /** Lets zrs take the shell's place: from now on the connection carries its native stream. */
  async beginZrs(): Promise<void> {
    await this.#connection.write(new TextEncoder().encode("zrs\n"));
  }

  readonly #refuseBytes: TakeBytes = (_bytes, from, to) => {
    if (to > from) throw this.unexpected(`${to - from} bytes where none belong`);
  };

  /** The other end does not keep to what it was told. */
  unexpected(what: string): ProtocolError {
    return new ProtocolError(`Cannot use the shell of ${this.name}: it answered with ${what}`);
  }

  #failure(kind: string, reason: string): ZrsError {
    const { name } = this;
    const facts = { path: name };
    switch (kind) {
      case "missing":
        return new NotFoundError(`Cannot read ${name}: there is no such file there`, {
          ...facts,
          hint: "Check the path; one that does not begin with a / is relative to the home directory there",
        });
      case "directory":
        return new UsageError(`Cannot read ${name}: it is a directory`, {
          ...facts,
          hint: "Name the database file in it, usually Data.fs",
        });
      case "special":
        return new UsageError(`Cannot read ${name}: ${reason}`, { ...facts, hint: "Name a file" });
      case "denied":
        return new UsageError(`Cannot read ${name}: permission denied there`, {
          ...facts,
          hint: "Log in as a user who may read the file and enter its directories",
        });
      case "replaced":
        return new FarReplacedError(`Cannot read on in ${name}: another file has taken its place`, {
          ...facts,
          hint: "It has been packed or restored; try again",
        });
      default:
        return new UnavailableError(`Cannot read ${name}: ${reason}`, facts);
    }
  }
}

type Wait = (read: Promise<number | null>) => Promise<number | null>;

/** Tells bytes from the line that ends them. */
class Answers {
  readonly #connection: Connection;
  readonly #mark: Uint8Array;
  /** What may still be the beginning of such a line lies before the bytes that come next. */
  readonly #bytes = new Uint8Array(MAX_END_BYTES + READ_BYTES);

  constructor(connection: Connection, mark: string) {
    this.#connection = connection;
    this.#mark = new TextEncoder().encode(`\n${mark} `);
  }

  /**
   * @param wait limits how long is waited for what comes next
   * @returns the words behind the mark
   */
  async next(take: TakeBytes, wait: Wait = (read) => read): Promise<string[]> {
    const bytes = this.#bytes;
    for (let start = MAX_END_BYTES;;) {
      let count: number | null = null;
      try {
        count = await wait(this.#connection.read(bytes.subarray(MAX_END_BYTES)));
      } finally {
        if (count === null) await take(bytes, start, MAX_END_BYTES); // what was kept is no such line
      }
      if (count === null) {
        throw new UnavailableError(`${this.#connection.peer} has ended in the middle of an answer`);
      }
      const end = MAX_END_BYTES + count;
      const at = this.#endLine(start, end);
      if (at !== undefined) {
        if (at > start) await take(bytes, start, at);
        const words = new TextDecoder().decode(bytes.subarray(at + this.#mark.length, end - 1));
        return words.split(" ");
      }
      const kept = Math.min(MAX_END_BYTES, end - start);
      if (end - kept > start) await take(bytes, start, end - kept);
      bytes.copyWithin(MAX_END_BYTES - kept, end - kept, end);
      start = MAX_END_BYTES - kept;
    }
  }

  /** Nothing comes behind the line before the next question, so it can stand at the end only. */
  #endLine(start: number, end: number): number | undefined {
    const bytes = this.#bytes;
    if (bytes[end - 1] !== LINE_FEED) return undefined;
    const at = bytes.lastIndexOf(LINE_FEED, end - 2);
    if (at < start || at + this.#mark.length >= end) return undefined;
    return equalAt(bytes, at, this.#mark, 0, this.#mark.length) ? at : undefined;
  }
}

/** What was printed before the program ran. */
class Banner {
  readonly #name: string;
  #length = 0;
  #shown = "";

  constructor(name: string) {
    this.#name = name;
  }

  take(bytes: Uint8Array, from: number, to: number): void {
    this.#length += to - from;
    const shown = bytes.subarray(from, Math.min(to, from + SHOWN_BANNER_BYTES - this.#shown.length));
    this.#shown += new TextDecoder().decode(shown);
    if (this.#length <= MAX_BANNER_BYTES) return;
    throw new ProtocolError(
      `Cannot use the shell of ${this.#name}: more than ${MAX_BANNER_BYTES} bytes came before our program ran` +
        this.words,
      { hint: "Let the login shell's files print nothing where there is no terminal" },
    );
  }

  /** As the end of a message. */
  get words(): string {
    const line = this.#shown.replace(/[\s\p{Cc}]+/gu, " ").trim();
    return line === "" ? "" : `; it said: ${line}`;
  }
}
