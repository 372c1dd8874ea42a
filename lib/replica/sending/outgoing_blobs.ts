/**
 * The blobs among what a source sends: whether their contents go along, and where from. The choice is the source's
 * as well as the secondary's: whoever gets a blob's record alone, and did not ask for that, has half of it.
 */
import { DiskError, NotFoundError, UnavailableError, UsageError } from "../../errors.ts";
import { type BlobDirectory, type BlobKey, GrowingDigest, revisionName } from "../../filestorage/mod.ts";
import type { BegunBlob, WantedBlobs } from "../../native/mod.ts";
import type { Log, ReadableFile } from "../../ports/mod.ts";
import { type BlobSupply, describeBlob, IS_BLOB, MissingBlobError } from "../blob_use.ts";
import type { SendBuffers } from "./send_buffers.ts";

const BLOCK_BYTES = 128 * 1024;
const READ_BETWEEN_PAUSES = 8 * BLOCK_BYTES;

/** What writes the contents of blobs. */
export interface BlobEncoder {
  readonly room: number;
  /**
   * Needs room for a record's head.
   * @param length undefined: the peer is told that there is no content
   * @param from how much of it the peer has
   */
  beginBlob(key: BlobKey, length: number | undefined, from: number): void;
  /** Takes as much as there is room for. @returns the offset behind it */
  blobData(source: Uint8Array, from: number, to: number): number;
}

/** A blob's file, open; undefined where there is none, which the peer wants to be told. */
export interface BlobContent extends Disposable {
  readonly key: BlobKey;
  readonly file: ReadableFile | undefined;
  readonly length: number;
  /** How much of it the peer has. */
  readonly from: number;
}

export interface OutgoingBlobsOptions {
  readonly supply: BlobSupply;
  /** What the secondary said; undefined: it says nothing of blobs. */
  readonly wanted: WantedBlobs | undefined;
  /** What the secondary has of some. */
  readonly begun?: readonly BegunBlob[] | undefined;
  /** Whether the secondary takes the record of a blob that has no file, and keeps in mind that it is missing. */
  readonly marksMissing?: boolean;
  /**
   * Whether a blob has no file because the source has been packed: then it is not missing, and its record is not to
   * be sent any more.
   */
  readonly isOvertaken?: (error: MissingBlobError) => Promise<boolean>;
  /** The paths of files that were found unreadable when it was too late to say so; the same for all secondaries. */
  readonly unreadable?: Set<string>;
  /** Lets other work run, now and then. */
  readonly pause: () => Promise<void>;
  readonly log: Log;
}

export class OutgoingBlobs {
  readonly #options: OutgoingBlobsOptions;
  /** What the secondary has of some. It is gone on with once: an object may have several records in a transaction. */
  readonly #begun: Map<string, BegunBlob>;
  #block: Uint8Array | undefined;

  constructor(options: OutgoingBlobsOptions) {
    this.#options = options;
    this.#begun = new Map(options.begun?.map((each) => [revisionName(each), each]));
  }

  /** Whether all records may go alone: nobody need look which are blobs'. */
  get isOff(): boolean {
    const { supply, wanted } = this.#options;
    return supply === "none" || supply !== "refuse" && wanted === "nothing";
  }

  /**
   * Opens the content of a blob whose record is about to be sent.
   * @returns undefined where the record goes alone, as the secondary wants it
   * @throws UnavailableError where no blobs are sent; MissingBlobError
   */
  async open(key: BlobKey): Promise<BlobContent | undefined> {
    const { supply, wanted } = this.#options;
    if (this.isOff || supply === "none") return undefined;
    if (supply === "refuse") {
      throw new UnavailableError(
        `Cannot send ${describeBlob(key)}: ${IS_BLOB}, and the source has been given no directory for blobs`,
        { ...key, hint: "start the source with --blob-dir, or both ends with --blobs none" },
      );
    }
    if (wanted === undefined) {
      throw new UnavailableError(
        `Cannot send ${describeBlob(key)}: ${IS_BLOB}, and the secondary takes none`,
        { ...key, hint: "start the secondary with --blob-dir, or with --blobs none" },
      );
    }
    if (wanted === "content") return await this.#openOrMark(supply, key);
    if (!supply.has(key)) throw missing(supply, key, "its file is missing");
    return undefined;
  }

  /** Sends what the peer does not have of a blob. @throws MissingBlobError where the file cannot be read */
  async send(content: BlobContent, encoder: BlobEncoder, buffers: SendBuffers): Promise<void> {
    const block = this.#block ??= new Uint8Array(BLOCK_BYTES);
    const { key, file, length } = content;
    if (file === undefined) return encoder.beginBlob(key, undefined, 0);
    encoder.beginBlob(key, length, content.from);
    for (let position = content.from; position < length;) {
      const part = block.subarray(0, Math.min(block.length, length - position));
      const count = this.#read(key, file, () => file.readAt(part, position));
      if (count < part.length) throw this.#missing(key, `its file ends at ${position + count} of ${length}`);
      for (let from = 0; from < count;) {
        from = encoder.blobData(part, from, count);
        if (from < count) await buffers.turn();
      }
      position += count;
    }
  }

  async #openOrMark(directory: BlobDirectory, key: BlobKey): Promise<BlobContent> {
    try {
      return await this.#open(directory, key);
    } catch (error) {
      if (!(error instanceof MissingBlobError) || !this.#options.marksMissing) throw error;
      if (await this.#options.isOvertaken?.(error)) throw error;
      this.#options.log.warning(`${error.message}; the secondary marks it as missing`, { ...error.facts });
      return { key, file: undefined, length: 0, from: 0, [Symbol.dispose]: () => {} };
    }
  }

  async #open(directory: BlobDirectory, key: BlobKey): Promise<BlobContent> {
    let file: ReadableFile;
    try {
      file = directory.disk.openRead(directory.pathOf(key));
    } catch (error) {
      throw missing(directory, key, reasonOf(error), error);
    }
    try {
      if (this.#options.marksMissing && this.#options.unreadable?.has(file.path)) {
        await this.#readThrough(key, file);
      }
      const length = file.size();
      const from = await this.#resumption(key, file, length);
      return { key, file, length, from, [Symbol.dispose]: () => file.close() };
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** Finds out whether a file can be read while its absence can still be said. @throws MissingBlobError */
  async #readThrough(key: BlobKey, file: ReadableFile): Promise<void> {
    const block = this.#block ??= new Uint8Array(BLOCK_BYTES);
    for (let position = 0, count = block.length; count === block.length; position += count) {
      count = this.#read(key, file, () => file.readAt(block, position));
      if (position % READ_BETWEEN_PAUSES === 0) await this.#options.pause();
    }
    this.#options.unreadable?.delete(file.path);
  }

  /** How much the secondary has of it, if that is its beginning. */
  async #resumption(key: BlobKey, file: ReadableFile, length: number): Promise<number> {
    const begun = this.#begun.get(revisionName(key));
    this.#begun.delete(revisionName(key));
    if (begun === undefined || begun.bytes > length) return 0;
    const digest = new GrowingDigest({
      readAt: (into, position) => this.#read(key, file, () => file.readAt(into, position)),
    }, 0);
    return await digest.upTo(begun.bytes, this.#options.pause) === begun.digest ? begun.bytes : 0;
  }

  #read<T>(key: BlobKey, file: ReadableFile, read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      this.#options.unreadable?.add(file.path); // so that the next connection hears of it in time
      throw this.#missing(key, reasonOf(error), error);
    }
  }

  #missing(key: BlobKey, why: string, cause?: unknown): MissingBlobError {
    return missing(this.#options.supply as BlobDirectory, key, why, cause);
  }
}

function reasonOf(error: unknown): string {
  return error instanceof NotFoundError ? "its file is missing" : "its file cannot be read";
}

/** @throws what is no failure of a file */
function missing(directory: BlobDirectory, key: BlobKey, why: string, cause?: unknown): MissingBlobError {
  if (cause !== undefined && !(cause instanceof UsageError) && !(cause instanceof DiskError)) throw cause;
  return new MissingBlobError(`Cannot send blob ${describeBlob(key)}: ${why}`, directory.pathOf(key), key, {
    cause,
    name: directory.nameOf(key),
    hint: "put the file back from a backup; zrs verify --blob-dir tells which are missing",
  });
}
