/**
 * What a pack does to the blob directory: the files of the revisions that it has dropped go; where the unpacked file is
 * kept, they go to `<directory>.old`, which gets the other files as well, by a second name, so that it belongs to the
 * `.old` file as ZODB's does.
 *
 * All of it is done when the packed file is in its place. A crash in between leaves files that no record needs
 * (`zrs verify --blob-dir` lists them), and never a record without its file.
 */
import { UsageError, type ZrsError } from "../../errors.ts";
import type { Disk, ReadableFile } from "../../ports/mod.ts";
import { STATUS } from "../../zodb/mod.ts";
import { BLOB_MARKER, type BlobDirectory, type BlobKey } from "../blobs/blob_directory.ts";
import { BlobFinder, blobKeyOf } from "../blobs/blob_finder.ts";
import { FIRST_POSITION } from "../layout.ts";
import { directoryOf } from "../open.ts";
import type { KeptRecords } from "./reachable.ts";
import type { Patience } from "../recover.ts";
import { TransactionReader } from "../transaction.ts";
import { Window } from "../window.ts";

/** After so many records others may run. */
const STEPS_BETWEEN_PAUSES = 500;

/** The file that was packed, and what was kept of it. */
export interface Unpacked {
  readonly file: ReadableFile;
  readonly end: number;
  /** Before, only what is kept was copied; behind it everything. */
  readonly packEnd: number;
  readonly kept: KeptRecords;
}

export interface BlobPackListener {
  /** Is told how far the walk has come. */
  readonly progress: (position: number) => void;
  /** Is told of a dropped revision that had no file. */
  readonly wasMissing: (key: BlobKey) => void;
}

/** @returns how many blobs have gone. @throws ZrsError, and the signal's reason: the others are still there */
export async function packBlobs(
  unpacked: Unpacked,
  directory: BlobDirectory,
  keepOld: boolean,
  { pause, signal }: Patience,
  { progress, wasMissing }: BlobPackListener,
): Promise<number> {
  const { file, end, packEnd } = unpacked;
  const old = keepOld ? OldBlobs.prepare(directory) : undefined;
  const reader = new TransactionReader(new Window(file, end));
  const finder = new BlobFinder(file);
  let gone = 0;
  let steps = 0;
  // What comes behind stays where it is: it is looked at only to be in the old directory as well.
  for (let position = FIRST_POSITION; position < (old === undefined ? packEnd : end); position = reader.end) {
    const state = reader.read(position);
    if (state !== "whole") throw reader.notWhole(state);
    if (reader.status === STATUS.undone) continue;
    const stays = position < packEnd ? oidsKept(reader, unpacked.kept) : undefined;
    reader.rewindRecords();
    while (reader.nextRecord() >= 0) {
      steps++;
      const isKept = stays === undefined || stays.has(reader.oid);
      if (isKept && old === undefined || !finder.isBlob(reader)) continue;
      const key = blobKeyOf(reader);
      if (!directory.has(key)) {
        if (!isKept) wasMissing(key);
        continue;
      }
      if (isKept) {
        old?.share(key);
        continue;
      }
      if (old === undefined) directory.disk.remove(directory.pathOf(key));
      else old.take(key);
      gone++;
    }
    if (++steps < STEPS_BETWEEN_PAUSES) continue;
    steps = 0;
    progress(reader.end);
    await pause?.();
    signal?.throwIfAborted();
  }
  return gone;
}

/** The objects of which the transaction just read keeps a record: they keep their one file of that revision. */
function oidsKept(reader: TransactionReader, kept: KeptRecords): Set<bigint> {
  const oids = new Set<bigint>();
  reader.rewindRecords();
  while (reader.nextRecord() >= 0) {
    if (kept.has(reader.oidHigh, reader.oidLow, reader.recordPosition)) oids.add(reader.oid);
  }
  return oids;
}

/** The blobs of the unpacked file. */
class OldBlobs {
  readonly #disk: Disk;
  readonly #directory: BlobDirectory;
  readonly #path: string;

  private constructor(directory: BlobDirectory, path: string) {
    this.#disk = directory.disk;
    this.#directory = directory;
    this.#path = path;
  }

  /**
   * Makes the directory, or empties it: beside the one that is packed, not beside a link to that.
   * @throws ZrsError
   */
  static prepare(directory: BlobDirectory): OldBlobs {
    const { disk } = directory;
    const path = `${disk.realPath(directory.path)}.old`;
    if (!disk.makeDirectory(path)) removeBlobs(disk, path);
    const old = new OldBlobs(directory, path);
    const marker = `${path}/${BLOB_MARKER}`;
    disk.remove(marker);
    const model = `${directory.path}/${BLOB_MARKER}`;
    // Where this file can have no second name there, no blob can: then none is to be moved, either.
    if (disk.status(model) !== undefined && !disk.link(model, marker)) throw old.#cannotShare();
    return old;
  }

  /** A blob that only the unpacked file has. */
  take(key: BlobKey): void {
    this.#disk.rename(this.#directory.pathOf(key), this.#placeFor(key));
  }

  /** A blob that both have. @throws UsageError where files cannot have two names */
  share(key: BlobKey): void {
    const place = this.#placeFor(key);
    if (this.#disk.status(place) !== undefined) return; // an object may have several records in a transaction
    if (!this.#disk.link(this.#directory.pathOf(key), place)) throw this.#cannotShare();
  }

  #cannotShare(): UsageError {
    return new UsageError(
      `Cannot keep the blobs of the unpacked file in ${this.#path}: files of ${this.#directory.path} cannot have ` +
        "a second name there",
      {
        path: this.#path,
        hint: "pack with --no-keep-old, and copy the blob directory before where its old blobs are wanted",
      },
    );
  }

  #placeFor(key: BlobKey): string {
    const place = `${this.#path}${this.#directory.pathOf(key).slice(this.#directory.path.length)}`;
    this.#makeDirectories(directoryOf(place));
    return place;
  }

  #makeDirectories(path: string): void {
    if (path === this.#path || this.#disk.status(path)?.kind === "directory") return;
    this.#makeDirectories(directoryOf(path));
    this.#disk.makeDirectory(path);
  }
}

/** Removes the blobs of an earlier pack, and nothing else that may lie there. */
function removeBlobs(disk: Disk, path: string): void {
  for (const name of disk.list(path)) {
    const each = `${path}/${name}`;
    if (/^0x[0-9a-f]+\.blob$/.test(name)) disk.remove(each);
    else if (/^0x[0-9a-f]+$/.test(name) && disk.status(each)?.kind === "directory") removeBlobs(disk, each);
  }
}

/** In words what it means that {@link packBlobs} has failed, or was stopped. */
export function describeLeftBlobs(directory: BlobDirectory, failure: ZrsError | "stopped"): string {
  const { message, hint } = failure === "stopped" ? { message: failure, hint: undefined } : failure;
  return `Blobs of revisions that were dropped are left in ${directory.path}: ${message}; ` +
    `${hint === undefined ? "" : `${hint}; `}zrs verify --blob-dir lists them`;
}
