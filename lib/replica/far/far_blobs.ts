/**
 * The blobs of a database on another machine where nothing of ours is installed, fetched through a shell there
 * (far_program.ts): some at a time, in one answer. Each is looked at first, and must then come with the size that it
 * had. Survives files that vanish, shrink or grow meanwhile: nothing of them is taken for a blob.
 */
import { CorruptError, NotFoundError, UnavailableError, UsageError } from "../../errors.ts";
import {
  BlobFinder,
  type BlobKey,
  blobKeyOf,
  type BlobLayout,
  blobName,
  forEachRecord,
  TransactionReader,
  Window,
} from "../../filestorage/mod.ts";
import type { Log } from "../../ports/mod.ts";
import { STATUS } from "../../zodb/mod.ts";
import { describeBlob, MissingBlobError } from "../blob_use.ts";
import type { FarFile } from "./far_file.ts";
import type { FarShell } from "./far_shell.ts";
import type { IncomingBlobs } from "../receiving/incoming_blobs.ts";
import type { Sink } from "../receiving/sink.ts";

/** Their names must find room on the way there while nobody reads them. */
const MAX_ASKED = 100;
const MAX_HEAD_BYTES = 256;
const LINE_FEED = 10;

/** What is told of a file there: its size in bytes, or why it has none. */
type Found = number | "missing" | "denied";

/** A blob directory on another machine. */
export class FarBlobDirectory {
  readonly #shell: FarShell;
  readonly #layout: BlobLayout;

  private constructor(shell: FarShell, layout: BlobLayout) {
    this.#shell = shell;
    this.#layout = layout;
  }

  /** @throws NotFoundError, UsageError where it is none, or may not be read; UnavailableError */
  static async open(shell: FarShell): Promise<FarBlobDirectory> {
    let text = "";
    const [, found] = await shell.ask("layout", (bytes, from, to) => {
      text += new TextDecoder().decode(bytes.subarray(from, to));
    });
    const what = `Cannot use blob directory ${shell.blobs}, of ${shell.name}`;
    switch (found) {
      case "missing":
        throw new NotFoundError(`${what}: there is no such directory there`, {
          hint: "name the directory in which ZODB keeps the blobs of this database there",
        });
      case "denied":
        throw new UsageError(`${what}: permission denied there`, {
          hint: "log in as a user who may read all of it",
        });
      case "empty":
        return new FarBlobDirectory(shell, "bushy");
      case "unmarked":
        return new FarBlobDirectory(shell, "lawn");
    }
    const layout = text.trim();
    if (layout === "bushy" || layout === "lawn") return new FarBlobDirectory(shell, layout);
    throw new UsageError(
      `${what}: its layout must be bushy or lawn, found ${JSON.stringify(layout.slice(0, 20))}`,
      { hint: "name the blob directory of the database" },
    );
  }

  /** The file of a revision, for messages. */
  pathOf(key: BlobKey): string {
    return `${this.#shell.blobs}/${blobName(key, this.#layout)}`;
  }

  /** Looks at files; at so many as can be asked for at once. @throws UnavailableError, ProtocolError */
  async sizes(keys: readonly BlobKey[]): Promise<Found[]> {
    const found: Found[] = [];
    const answer = new FilesAnswer(this.#shell, (size) => {
      found.push(size);
      return 0; // no bytes follow
    });
    await this.#ask("sizes", keys, answer);
    return found;
  }

  /**
   * Fetches files that have been looked at.
   * @param take gets their bytes, each file's from its first one on
   * @throws UnavailableError where one is another than it was; ProtocolError
   */
  async fetch(
    files: readonly { readonly key: BlobKey; readonly bytes: number }[],
    take: TakeFiles,
  ): Promise<void> {
    let at = 0;
    const answer = new FilesAnswer(
      this.#shell,
      (size) => {
        const { key, bytes } = files[at++]!;
        if (size === bytes) return bytes;
        throw changed(this.pathOf(key), `it had ${bytes} bytes, and is ${size} now`);
      },
      take,
      () => changed(this.pathOf(files[at - 1]!.key), "other bytes came than it has"),
    );
    await this.#ask("blobs", files.map(({ key }) => key), answer);
  }

  async #ask(verb: string, keys: readonly BlobKey[], answer: FilesAnswer): Promise<void> {
    const names = keys.map((key) => `\n${blobName(key, this.#layout)}`).join("");
    await this.#shell.ask(
      `${verb} ${keys.length}${names}`,
      (bytes, from, to) => answer.take(bytes, from, to),
    );
    answer.end(keys.length);
  }
}

/** A file's content: told when it begins, for its parts, and when it ends. */
interface TakeFiles {
  begin(file: number): void;
  data(bytes: Uint8Array, from: number, to: number): Promise<void>;
  end(): void;
}

/** Cuts an answer into files. */
class FilesAnswer {
  readonly #prefix: string;
  readonly #shell: FarShell;
  /** Told of each file. @returns how many bytes of it follow */
  readonly #found: (found: Found) => number;
  readonly #take: TakeFiles | undefined;
  readonly #broken: () => UnavailableError;
  #head = "";
  #count = 0;
  /** Bytes of a file that are still to come, and then a line feed; undefined between two files. */
  #left: number | undefined;

  constructor(
    shell: FarShell,
    found: (found: Found) => number,
    take?: TakeFiles,
    broken: () => UnavailableError = () => shell.unexpected("what is no list of files"),
  ) {
    this.#shell = shell;
    this.#prefix = `${shell.mark}-file `;
    this.#found = found;
    this.#take = take;
    this.#broken = broken;
  }

  async take(bytes: Uint8Array, from: number, to: number): Promise<void> {
    for (let at = from; at < to;) {
      if (this.#left === undefined) {
        at = this.#takeHead(bytes, at, to);
      } else if (this.#left > 0) {
        const count = Math.min(this.#left, to - at);
        await this.#take!.data(bytes, at, at + count);
        this.#left -= count;
        at += count;
      } else {
        if (bytes[at++] !== LINE_FEED) throw this.#broken();
        this.#left = undefined;
        this.#take!.end();
      }
    }
  }

  /** The answer is over. @throws where it is not whole */
  end(count: number): void {
    if (this.#left !== undefined) throw this.#broken();
    if (this.#count !== count || this.#head !== "") {
      throw this.#shell.unexpected(`${this.#count} files in place of ${count}`);
    }
  }

  #takeHead(bytes: Uint8Array, from: number, to: number): number {
    const end = bytes.subarray(from, to).indexOf(LINE_FEED);
    this.#head += new TextDecoder("latin1").decode(bytes.subarray(from, end < 0 ? to : from + end));
    const begins = this.#head.startsWith(this.#prefix.slice(0, this.#head.length));
    // Before the first file, or behind one that is not as long as it was.
    if (!begins || this.#head.length > MAX_HEAD_BYTES) throw this.#broken();
    if (end < 0) return to;
    const word = this.#head.slice(this.#prefix.length);
    const size = Number(word);
    const isSize = /^\d+$/.test(word) && Number.isSafeInteger(size);
    if (!isSize && word !== "missing" && word !== "denied") throw this.#broken();
    this.#head = "";
    const follow = this.#found(isSize ? size : word as Found);
    if (this.#take !== undefined) {
      this.#take.begin(this.#count);
      this.#left = follow;
    }
    this.#count++;
    return from + end + 1;
  }
}

/** Fetches the blobs of transactions that have come and are not checked yet. */
export class FarBlobs {
  readonly #directory: FarBlobDirectory;
  readonly #far: FarFile;
  readonly #sink: Sink;
  readonly #contents: IncomingBlobs;
  readonly #log: Log;
  readonly #pause: () => Promise<void>;
  /** Why the first blob cannot be had that the next transactions need. */
  failure: MissingBlobError | undefined;

  constructor(
    directory: FarBlobDirectory,
    far: FarFile,
    sink: Sink,
    contents: IncomingBlobs,
    { log, pause }: { readonly log: Log; readonly pause: () => Promise<void> },
  ) {
    this.#directory = directory;
    this.#far = far;
    this.#sink = sink;
    this.#contents = contents;
    this.#log = log;
    this.#pause = pause;
  }

  /**
   * Fetches all; up to the first one that cannot be had, which {@link failure} tells of.
   * @throws FarReplacedError, UnavailableError, ProtocolError, DiskError
   */
  async fetch(): Promise<void> {
    const keys = await this.#find();
    for (let at = 0; at < keys.length && this.failure === undefined; at += MAX_ASKED) {
      await this.#fetchSome(keys.slice(at, at + MAX_ASKED));
    }
  }

  async #fetchSome(keys: readonly BlobKey[]): Promise<void> {
    const sizes = await this.#directory.sizes(keys);
    const files: { key: BlobKey; bytes: number }[] = [];
    for (const [at, key] of keys.entries()) {
      const bytes = sizes[at]!;
      if (typeof bytes === "number") files.push({ key, bytes });
      else if (!await this.#mark(key, bytes)) break;
    }
    if (files.length === 0) return;
    await this.#directory.fetch(files, {
      begin: (file) => this.#contents.begin(files[file]!.key, 0),
      data: async (bytes, from, to) => {
        this.#contents.data(bytes, from, to);
        await this.#sink.settle();
      },
      end: () => this.#contents.end(),
    });
    await this.#sink.settle();
  }

  /** @returns whether a blob without a file is taken as missing */
  async #mark(key: BlobKey, found: "missing" | "denied"): Promise<boolean> {
    await this.#far.checkStillThere(); // a pack takes blobs away with what it drops from the file
    const path = this.#directory.pathOf(key);
    const why = found === "missing" ? "its file is missing there" : "its file cannot be read there";
    const failure = new MissingBlobError(`Cannot copy blob ${describeBlob(key)}: ${why}`, path, key, {
      hint: "put the file back from a backup, or give --missing-blobs mark to go on without it",
    });
    if (!this.#contents.marksMissing) {
      this.failure = failure;
      return false;
    }
    this.#log.warning(`${failure.message}; it is marked as missing`, { ...failure.facts });
    this.#contents.begin(key, undefined);
    this.#contents.end();
    return true;
  }

  /** The blobs of what has come and is not checked, in the order of their records, up to what is damaged. */
  async #find(): Promise<BlobKey[]> {
    const { source, begun, end, reach } = this.#sink.restorer;
    const start = begun?.position ?? end;
    const reader = new TransactionReader(new Window(source, reach));
    const finder = new BlobFinder(source);
    const found = new Map<string, BlobKey>();
    try {
      for (let position = start; position < reach; position = reader.end) {
        if (reader.read(position) !== "whole") break;
        if (reader.status === STATUS.undone) continue;
        await forEachRecord(reader, this.#pause, () => {
          if (!finder.isBlob(reader)) return;
          const key = blobKeyOf(reader);
          found.set(`${key.oid} ${key.tid}`, key);
        });
      }
    } catch (error) {
      if (!(error instanceof CorruptError)) throw error; // told by the check that follows
    }
    return [...found.values()];
  }
}

function changed(path: string, how: string): UnavailableError {
  return new UnavailableError(`Cannot copy blob ${path}: it has changed while it was read: ${how}`, {
    path,
    hint: "try again",
  });
}
