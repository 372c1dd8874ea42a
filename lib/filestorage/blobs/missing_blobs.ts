/**
 * The blobs that a replica lacks because its source had no file for them, or could not read it: a text file beside
 * the Data.fs, a line of oid and tid for each, on disk before the record counts. It is there so that a hole which
 * was once allowed goes on being told.
 */
import type { BlockFile, Disk } from "../../ports/mod.ts";
import { formatOid } from "../../zodb/mod.ts";
import type { BlobDirectory, BlobKey } from "./blob_directory.ts";
import { directoryOf } from "../open.ts";

const LINE = /^0x([0-9a-f]{2,16}) 0x([0-9a-f]{2,16})$/;
const READ_BYTES = 64 * 1024;
/** So many are looked for in the blob directory each time that somebody asks; the others count as missing. */
const MAX_LOOKED_FOR = 1000;

export class MissingBlobs {
  readonly path: string;
  readonly #disk: Disk;
  readonly #keys = new Map<string, BlobKey>();
  /** Where the next line goes: behind the last whole one. */
  #end: number;
  /** Settles when the file is written; one thing is done to it after the other. */
  #writing: Promise<void> = Promise.resolve();

  private constructor(disk: Disk, path: string, { keys, end }: ReturnType<typeof read>) {
    this.#disk = disk;
    this.path = path;
    this.#end = end;
    for (const key of keys) this.#keys.set(lineOf(key), key);
  }

  /**
   * Reads the list, if there is one. What has come to the blob directory since is taken off it, and what belongs to
   * transactions that did not come to count.
   * @param dataFs the replica's file
   * @param lastTid the replica's last transaction; undefined where a new copy may have later ones
   * @throws UsageError, DiskError
   */
  static async open(
    disk: Disk,
    dataFs: string,
    directory: BlobDirectory,
    lastTid: bigint | undefined,
  ): Promise<MissingBlobs> {
    const path = missingBlobsPath(dataFs);
    const found = read(disk, path);
    const keys = found.keys.filter((key) =>
      (lastTid === undefined || key.tid <= lastTid) && !directory.has(key)
    );
    const list = new MissingBlobs(disk, path, { keys, end: found.end });
    if (keys.length < found.keys.length) await list.#rewrite();
    return list;
  }

  /** Whether a blob is on the list. */
  has(key: BlobKey): boolean {
    return this.#keys.has(lineOf(key));
  }

  /** How many are missing still. */
  count(directory: BlobDirectory): number {
    let left = MAX_LOOKED_FOR;
    for (const [name, key] of this.#keys) {
      if (left-- === 0) break;
      if (directory.has(key)) this.#keys.delete(name); // the line stays until the list is written anew
    }
    return this.#keys.size;
  }

  /**
   * Adds lines, durably. May be called again with the same after it has failed.
   * @throws DiskFullError to be tried again; DiskError
   */
  async add(keys: readonly BlobKey[]): Promise<void> {
    await this.#write(() => this.#append(keys));
  }

  /**
   * Takes those off the list, durably, that are not to stay on it.
   * @throws DiskError: the lines are still in the file
   */
  async retain(isWanted: (key: BlobKey) => boolean): Promise<void> {
    await this.#write(async () => {
      const { size } = this.#keys;
      for (const [name, key] of this.#keys) if (!isWanted(key)) this.#keys.delete(name);
      if (this.#keys.size < size) await this.#rewrite();
    });
  }

  async #write(work: () => Promise<void>): Promise<void> {
    const written = this.#writing.then(work);
    this.#writing = written.catch(() => {}); // told to whoever asked for it
    await written;
  }

  async #append(keys: readonly BlobKey[]): Promise<void> {
    const lines = keys.filter((key) => !this.#keys.has(lineOf(key)));
    if (lines.length === 0) return;
    const isNew = this.#disk.status(this.path) === undefined;
    using file: BlockFile = isNew ? this.#disk.create(this.path) : this.#disk.openWrite(this.path);
    const bytes = textOf(lines);
    file.writeAt(bytes, this.#end);
    await file.sync();
    if (isNew || this.#end === 0) await this.#disk.syncDirectory(directoryOf(this.path));
    this.#end += bytes.length;
    for (const key of lines) this.#keys.set(lineOf(key), key);
  }

  async #rewrite(): Promise<void> {
    const fresh = `${this.path}.new`;
    const bytes = textOf([...this.#keys.values()]);
    if (bytes.length === 0) {
      this.#disk.remove(this.path);
    } else {
      this.#disk.remove(fresh);
      using file = this.#disk.create(fresh);
      file.writeAt(bytes, 0);
      await file.sync();
      this.#disk.rename(fresh, this.path);
    }
    await this.#disk.syncDirectory(directoryOf(this.path));
    this.#end = bytes.length;
  }
}

/** Where the list lies, if there is one. */
export function missingBlobsPath(dataFs: string): string {
  return `${dataFs}.missing-blobs`;
}

/** The blobs on the list of a file's missing blobs; none where there is no list. @throws UsageError, DiskError */
export function readMissingBlobs(disk: Disk, dataFs: string): BlobKey[] {
  return read(disk, missingBlobsPath(dataFs)).keys;
}

/** Up to the first line that is none: a crash may have left the beginning of one, or zeros. */
function read(disk: Disk, path: string): { keys: BlobKey[]; end: number } {
  const keys: BlobKey[] = [];
  if (disk.status(path)?.kind !== "file") return { keys, end: 0 };
  using file = disk.openRead(path);
  const block = new Uint8Array(READ_BYTES);
  let end = 0;
  for (;;) {
    const text = new TextDecoder("latin1").decode(block.subarray(0, file.readAt(block, end)));
    const lines = text.split("\n").slice(0, -1);
    for (const line of lines) {
      const [, oid, tid] = LINE.exec(line) ?? [];
      if (oid === undefined) return { keys, end };
      keys.push({ oid: BigInt(`0x${oid}`), tid: BigInt(`0x${tid}`) });
      end += line.length + 1;
    }
    if (lines.length === 0) return { keys, end };
  }
}

function lineOf({ oid, tid }: BlobKey): string {
  return `${formatOid(oid)} ${formatOid(tid)}`;
}

function textOf(keys: readonly BlobKey[]): Uint8Array {
  return new TextEncoder().encode(keys.map((key) => `${lineOf(key)}\n`).join(""));
}
