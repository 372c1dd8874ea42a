/**
 * A file on another machine where nothing of ours is installed, read through a shell there. Reading is awaited and
 * comes in whole blocks from the other end; here it is cut to what was asked for.
 *
 * {@link FarFile.view} shows it as a file that is read at once, for code that walks through a Data.fs here and there:
 * what has not come yet is fetched, and the walk begins anew.
 */
import { UnavailableError } from "../../errors.ts";
import type { ReadableFile } from "../../ports/mod.ts";
import { BLOCK_BYTES } from "./far_program.ts";
import { FarReplacedError, type FarShell, type TakeBytes } from "./far_shell.ts";

/** The file as it was found; a file at the same path with another inode is another one. */
export interface FarStatus {
  readonly inode: string;
  /** In bytes. */
  readonly size: number;
}

/** How a walk fetches: so many bytes at once, and so many times at most. */
const FETCH_BYTES = 4 * BLOCK_BYTES;
const MAX_FETCHES = 512;

/** What a program for digests prints is not longer. */
const MAX_DIGEST_TEXT = 1024;

/** A walk through the far file needs more of it than is sensible to fetch. */
export class FarTooMuchError extends UnavailableError {}

export class FarFile {
  /** What answers for it. */
  readonly shell: FarShell;
  readonly #status: FarStatus;

  private constructor(shell: FarShell, status: FarStatus) {
    this.shell = shell;
    this.#status = status;
  }

  /**
   * Looks at the file. What is read later is of this very file, and of no more than it has now.
   * @throws NotFoundError, UsageError, UnavailableError
   */
  static async open(shell: FarShell): Promise<FarFile> {
    return new FarFile(shell, statusOf(shell, await shell.ask("look")));
  }

  /** Looks again: the file that is at the path now, up to where it ends now. @throws as {@link open} */
  async again(): Promise<FarFile> {
    return await FarFile.open(this.shell);
  }

  get name(): string {
    return this.shell.name;
  }

  /** In bytes, when it was opened. */
  get size(): number {
    return this.#status.size;
  }

  /** The digests that can be made there; undefined for none. */
  get digests(): "sha256" | "md5" | undefined {
    return this.shell.digests;
  }

  /**
   * Has what the file holds now written to the disk there, as far as a program there can.
   * @returns false where that failed, or nothing there does it
   */
  async sync(): Promise<boolean> {
    try {
      await this.shell.ask("sync");
      return true;
    } catch (error) {
      if (error instanceof UnavailableError && error.facts.path === this.name) return false; // it answers still
      throw error;
    }
  }

  /**
   * Reads a stretch, or what there is of it by now.
   * @param take gets it in order; what it throws ends the use of the connection
   * @returns how many bytes there were, and the file as it was found at the path afterwards
   * @throws FarReplacedError before anything was read; UnavailableError
   */
  async read(
    position: number,
    length: number,
    take: TakeBytes,
  ): Promise<{ readonly count: number; readonly after: FarStatus }> {
    const first = Math.floor(position / BLOCK_BYTES);
    const blocks = Math.ceil((position + length) / BLOCK_BYTES) - first;
    let at = first * BLOCK_BYTES;
    let count = 0;
    const words = await this.shell.ask(
      `read ${this.#status.inode} ${first} ${Math.max(0, blocks)}`,
      async (bytes, from, to) => {
        const start = from + Math.max(0, position - at);
        const end = from + Math.min(to - from, position + length - at);
        at += to - from;
        if (at > (first + blocks) * BLOCK_BYTES) throw this.shell.unexpected("more than was asked for");
        if (start >= end) return;
        count += end - start;
        await take(bytes, start, end);
      },
    );
    return { count, after: statusOf(this.shell, words) };
  }

  /** As {@link read}, in one piece. @param length in bytes; a few blocks at most */
  async bytes(position: number, length: number): Promise<Uint8Array> {
    const into = new Uint8Array(length);
    let filled = 0;
    const { count } = await this.read(position, length, (bytes, from, to) => {
      into.set(bytes.subarray(from, to), filled);
      filled += to - from;
    });
    return into.subarray(0, count);
  }

  /**
   * The digest of whole blocks, in lower-case hexadecimal digits.
   * @throws FarReplacedError, UnavailableError
   */
  async digest(firstBlock: number, blocks: number): Promise<string> {
    let text = "";
    await this.shell.ask(`digest ${this.#status.inode} ${firstBlock} ${blocks}`, (bytes, from, to) => {
      text += new TextDecoder().decode(bytes.subarray(from, to));
      if (text.length > MAX_DIGEST_TEXT) throw this.shell.unexpected("what is no digest");
    });
    const found = /\b(?:[0-9a-f]{64}|[0-9a-f]{32})\b/i.exec(text)?.[0];
    if (found === undefined) throw this.shell.unexpected("what is no digest");
    return found.toLowerCase();
  }

  /** @throws FarReplacedError where another file is at the path by now; UnavailableError */
  async checkStillThere(): Promise<void> {
    const { inode } = statusOf(this.shell, await this.shell.ask("look"));
    if (inode !== this.#status.inode) {
      throw new FarReplacedError(`Cannot go on with ${this.name}: another file has taken its place`, {
        hint: "It has been packed or restored; try again",
      });
    }
  }

  /**
   * Does work that reads the file as if it were here. The work is done anew whenever it needs what has not been
   * fetched yet, so it must have no effects.
   * @throws FarTooMuchError where it needs too much; what `work` throws
   */
  async view<T>(work: (file: ReadableFile) => Promise<T> | T): Promise<T> {
    const file = new FetchedFile(this.name, this.#status);
    for (let fetches = 0;; fetches++) {
      try {
        return await work(file);
      } catch (error) {
        if (!(error instanceof NotFetched)) throw error;
        if (fetches >= MAX_FETCHES) {
          throw new FarTooMuchError(
            `Cannot compare with ${this.name}: more than ${
              MAX_FETCHES * FETCH_BYTES / 2 ** 20
            } MiB of it would be ` +
              `needed`,
          );
        }
        const position = error.piece * FETCH_BYTES;
        const length = Math.min(FETCH_BYTES, this.size - position);
        const bytes = await this.bytes(position, length);
        if (bytes.length < length) throw new UnavailableError(`${this.name} has become shorter meanwhile`);
        file.pieces.set(error.piece, bytes);
      }
    }
  }
}

/** A piece of the file that a walk has come to, and that has not been fetched. */
class NotFetched extends Error {
  constructor(readonly piece: number) {
    super(`Piece ${piece} has not been fetched`);
  }
}

class FetchedFile implements ReadableFile {
  readonly path: string;
  readonly pieces = new Map<number, Uint8Array>();
  readonly #status: FarStatus;

  constructor(path: string, status: FarStatus) {
    this.path = path;
    this.#status = status;
  }

  readAt(into: Uint8Array, position: number): number {
    const end = Math.min(position + into.length, this.#status.size);
    for (let at = position; at < end;) {
      const piece = Math.floor(at / FETCH_BYTES);
      const bytes = this.pieces.get(piece);
      if (bytes === undefined) throw new NotFetched(piece);
      const part = bytes.subarray(at - piece * FETCH_BYTES, end - piece * FETCH_BYTES);
      into.set(part, at - position);
      at += part.length;
    }
    return Math.max(0, end - position);
  }

  size(): number {
    return this.#status.size;
  }

  identity(): string {
    return this.#status.inode;
  }

  /** Done once, when the file is opened. */
  sync(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {}

  [Symbol.dispose](): void {}
}

function statusOf(shell: FarShell, words: readonly string[]): FarStatus {
  const [, inode, digits] = words;
  const size = Number(digits);
  if (
    inode !== undefined && /^\d+$/.test(inode) && /^\d+$/.test(digits ?? "") && Number.isSafeInteger(size)
  ) {
    return { inode, size };
  }
  throw shell.unexpected(JSON.stringify(words.join(" ")));
}
