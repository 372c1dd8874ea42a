/**
 * The contents of blobs on their way to a replica: each goes to a temporary file as it comes, is synced while other
 * things are received, and moves to its place before the run counts that holds its record. Memory does not depend on
 * their lengths. What a lost connection left is kept, to be gone on with.
 */
import { DiskError, DiskFullError, ProtocolError, ZrsError } from "../../errors.ts";
import {
  type BlobDirectory,
  type BlobKey,
  GrowingDigest,
  type MissingBlobs,
  revisionName,
} from "../../filestorage/mod.ts";
import type { BegunBlob } from "../../native/mod.ts";
import type { BlockFile } from "../../ports/mod.ts";
import { describeTid, formatOid } from "../../zodb/mod.ts";

/** So many syncs may be under way at once. */
const MAX_SYNCS = 16;
/** No more is told of what was kept: a hello has room for about so many. */
const MAX_TOLD = 100;
/** Nobody else reads what is not whole. */
const PART_MODE = 0o600;

/** What becomes of blobs for which the source has no file. */
export interface MissingOptions {
  readonly missing: MissingBlobs;
  readonly marksMissing: boolean;
}

/** One whose content is coming, or has come. */
interface Arriving {
  readonly key: BlobKey;
  /** How much of it has come in all, and how much of that is in the file. */
  bytes: number;
  written: number;
  /** What is not in the file yet. */
  pieces: Uint8Array[];
  hasEnded: boolean;
  file: BlockFile | undefined;
  /** Once it has ended, and all of it is in the file. */
  synced: Promise<void> | undefined;
  /** The source has no content for it. */
  readonly isMissing: boolean;
}

export class IncomingBlobs {
  readonly directory: BlobDirectory;
  /** What has come for transactions that are not whole, by its name. */
  readonly #arrived = new Map<string, Arriving>();
  /** What earlier connections left: how much of each is in its file. */
  readonly #left = new Map<string, { readonly key: BlobKey; readonly bytes: number }>();
  /** Those that have something to be done with their files. */
  readonly #unfinished = new Set<Arriving>();
  /** Those of whole transactions, to be moved to their places with the next run. */
  #kept: Arriving[] = [];
  #current: Arriving | undefined;
  readonly #syncs = new Set<Promise<void>>();

  /** How many have come to their places since it was opened, and how many bytes they have. */
  placed = 0;
  placedBytes = 0;
  /** Those for which the source had none. */
  readonly missing: MissingBlobs;
  /** Whether records may come for which the source has no file: they are put on that list. */
  readonly marksMissing: boolean;

  private constructor(directory: BlobDirectory, { missing, marksMissing }: MissingOptions) {
    this.directory = directory;
    this.missing = missing;
    this.marksMissing = marksMissing;
  }

  /**
   * Looks for what a process before this one left.
   * @param directory one that was prepared
   * @param lastTid the replica's last transaction: what is not later will not come again; undefined where it may
   * @throws DiskError
   */
  static open(directory: BlobDirectory, lastTid: bigint | undefined, missing: MissingOptions): IncomingBlobs {
    const blobs = new IncomingBlobs(directory, missing);
    for (const key of directory.temporaryFiles()) {
      const bytes = directory.disk.status(directory.temporaryPathOf(key))?.size ?? 0;
      blobs.#left.set(revisionName(key), { key, bytes });
    }
    if (lastTid !== undefined) blobs.forget(lastTid);
    return blobs;
  }

  /**
   * Begins the content of a revision, anew or behind what an earlier connection left.
   * @param from how much of it is left out because it is here; undefined: the source has no content
   * @throws ProtocolError when so much is not here, or a hole is not to be taken
   */
  begin(key: BlobKey, from: number | undefined): void {
    const name = revisionName(key);
    const left = this.#left.get(name);
    if (from === undefined) return this.#beginMissing(key);
    if (from > 0 && from !== left?.bytes) {
      throw new ProtocolError(
        `Cannot take blob ${formatOid(key.oid)} of transaction ${describeTid(key.tid)}: it goes on behind ` +
          `${from} bytes, this end has ${left?.bytes ?? 0}`,
        { oid: key.oid, tid: key.tid },
      );
    }
    this.#left.delete(name);
    const before = this.#arrived.get(name); // an object may have several records in one transaction
    if (before !== undefined) this.#close(before);
    this.#current = {
      key,
      bytes: from,
      written: from,
      pieces: [],
      hasEnded: false,
      file: undefined,
      synced: undefined,
      isMissing: false,
    };
    this.#arrived.set(name, this.#current);
    this.#unfinished.add(this.#current);
  }

  #beginMissing(key: BlobKey): void {
    if (!this.marksMissing) {
      throw new ProtocolError(
        `Cannot take blob ${formatOid(key.oid)} of transaction ${
          describeTid(key.tid)
        }: the source has no file ` +
          `for it`,
        { oid: key.oid, tid: key.tid },
      );
    }
    const name = revisionName(key);
    const before = this.#arrived.get(name);
    if (before !== undefined) this.#close(before);
    if (before !== undefined || this.#left.delete(name)) this.#remove(key);
    const nothing = { bytes: 0, written: 0, pieces: [], hasEnded: false, file: undefined, synced: undefined };
    this.#current = { key, ...nothing, isMissing: true };
    this.#arrived.set(name, this.#current);
  }

  /** A part of the content, copied before the call returns. */
  data(source: Uint8Array, from: number, to: number): void {
    this.#current!.pieces.push(source.slice(from, to));
    this.#current!.bytes += to - from;
  }

  /** All of the content has come. */
  end(): void {
    this.#current!.hasEnded = true;
    this.#current = undefined;
  }

  /** Whether all of a revision's content has come, for a transaction that is not whole. */
  has(key: BlobKey): boolean {
    return this.#arrived.get(revisionName(key))?.hasEnded ?? false;
  }

  /** The record of that revision belongs to a transaction that is whole now. */
  keep(key: BlobKey): void {
    const name = revisionName(key);
    const blob = this.#arrived.get(name);
    if (blob === undefined) return; // kept already, by another record of the same transaction
    this.#arrived.delete(name);
    this.#kept.push(blob);
  }

  /** Those that must be in their places before the run counts that is being taken now; see {@link place}. */
  takeKept(): readonly Arriving[] {
    const kept = this.#kept;
    this.#kept = [];
    return kept;
  }

  /** Whether {@link settle} has something to do. */
  get isBusy(): boolean {
    return this.#unfinished.size > 0;
  }

  /**
   * Called after every chunk: writes what has come, and sets off syncing what has ended.
   * @throws DiskFullError to be tried again; DiskError final
   */
  async settle(): Promise<void> {
    this.#flush();
    while (this.#syncs.size >= MAX_SYNCS) await Promise.race(this.#syncs);
  }

  /** Moves what {@link takeKept} gave to its place, durably. @throws as {@link settle} */
  async place(kept: readonly Arriving[]): Promise<void> {
    if (kept.length === 0) return;
    this.#flush();
    for (const { synced } of kept) await synced;
    const contents = kept.filter(({ isMissing }) => !isMissing);
    await this.directory.place(contents.map(({ key }) => key));
    const missing = kept.filter(({ isMissing, key }) => isMissing && !this.directory.has(key));
    await this.missing.add(missing.map(({ key }) => key));
    this.placed += contents.length;
    this.placedBytes += contents.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** The connection is over: what has come of transactions that are not whole is left for the next one. */
  leave(): void {
    for (const [name, blob] of this.#arrived) {
      this.#close(blob);
      if (blob.written > 0) this.#left.set(name, { key: blob.key, bytes: blob.written });
      else this.#discard(blob.key); // what cannot be removed is found by the next process
    }
    this.#arrived.clear();
    this.#current = undefined;
  }

  /** Removes what was left of transactions that will not come again: the replica has `lastTid`. */
  forget(lastTid: bigint): void {
    for (const [name, { key }] of this.#left) {
      if (key.tid > lastTid) continue;
      this.#left.delete(name);
      this.#remove(key);
    }
  }

  /**
   * What was left, for a source to go on behind it; the largest, where there is much.
   * @param pause lets other work run, now and then
   * @throws DiskError
   */
  async begun(pause: () => Promise<void>): Promise<BegunBlob[]> {
    const told: BegunBlob[] = [];
    const left = [...this.#left.values()].sort((a, b) => b.bytes - a.bytes).slice(0, MAX_TOLD);
    for (const { key, bytes } of left) {
      const digest = await this.#digest(key, bytes, pause);
      if (digest !== undefined) told.push({ ...key, bytes, digest });
    }
    return told;
  }

  async #digest(key: BlobKey, bytes: number, pause: () => Promise<void>): Promise<string | undefined> {
    const { disk } = this.directory;
    const path = this.directory.temporaryPathOf(key);
    if (disk.status(path) === undefined) return undefined;
    using file = disk.openRead(path);
    return await new GrowingDigest(file, 0).upTo(bytes, pause);
  }

  /** Whatever fails, the same can be tried again. */
  #flush(): void {
    for (const blob of this.#unfinished) {
      const file = blob.file ??= this.#open(blob);
      while (blob.pieces.length > 0) {
        const piece = blob.pieces[0]!;
        file.writeAt(piece, blob.written);
        blob.written += piece.length;
        blob.pieces.shift();
      }
      if (!blob.hasEnded) continue;
      this.directory.finish(blob.key);
      this.#unfinished.delete(blob);
      blob.file = undefined;
      this.#sync(blob, file);
    }
  }

  #open({ key, written }: Arriving): BlockFile {
    const { disk } = this.directory;
    const path = this.directory.temporaryPathOf(key);
    if (written > 0) {
      disk.setMode(path, PART_MODE); // it may have come whole before, and be finished
      return disk.openWrite(path);
    }
    disk.remove(path);
    const file = disk.create(path);
    disk.setMode(path, PART_MODE);
    return file;
  }

  #sync(blob: Arriving, file: BlockFile): void {
    const synced = file.sync().catch((error) => {
      this.#discard(blob.key);
      // A disk that is full is no reason to try again: what a failed sync was to keep may be gone.
      throw error instanceof DiskFullError ? new DiskError(error.message, error.facts) : error;
    }).finally(() => {
      this.#syncs.delete(settled);
      file.close();
    });
    const settled = synced.catch(() => {}); // told to whoever places it
    this.#syncs.add(settled);
    blob.synced = synced;
  }

  /** The bytes of a file whose sync failed may look written, and be on no disk: nobody is to go on behind them. */
  #discard(key: BlobKey): void {
    try {
      this.#remove(key);
    } catch (error) {
      if (!(error instanceof ZrsError)) throw error; // the first failure is the one worth telling
    }
  }

  #close(blob: Arriving): void {
    this.#unfinished.delete(blob);
    blob.file?.close();
    blob.file = undefined;
    blob.pieces = [];
  }

  #remove(key: BlobKey): void {
    this.directory.disk.remove(this.directory.temporaryPathOf(key));
  }
}
