/**
 * A complete new copy of a source that takes a replica's place. It grows beside it, as `.sync`, and is gone on with
 * when a run was killed. Once it is complete it is put in the replica's place (filestorage/replace_file.ts). The
 * replica's lock is held all the time.
 */
import { directoryOf, likePermissions, replaceFile, Storage } from "../../filestorage/mod.ts";
import { CorruptError, DiskFullError, DivergedError, UnavailableError, UsageError } from "../../errors.ts";
import { describeTid } from "../../zodb/mod.ts";
import type { Disk } from "../../ports/mod.ts";
import { tidyBlobs } from "../receiving/blob_reception.ts";
import { type CatchUpOptions, PackedAwayError } from "./catch_up.ts";
import { catchUpFrom, type OneCatchUp, type ReachedSource } from "./one_catch_up.ts";
import type { Ports } from "../ports.ts";
import type { SyncReport, SyncWork } from "./sync.ts";
import { END_OF_TIME } from "./until.ts";
import { pauser } from "../waiting.ts";

/** What is left beside a file that nobody needs any more. */
const BESIDE = [".index", ".index.index_tmp", ".lock"];

/** The index of what is copied has a place on the disk too: 9 bytes an object, of which each has 50 or more. */
const INDEX_SHARE = 0.2;

/**
 * What stands where a new copy is made, or where the replica before is kept, goes: so it must not be in use, least of
 * all as the source.
 * @param path of the replica
 * @throws UsageError where zrs reads it on this machine, or it is no file
 */
export function refuseBesideInUse(disk: Disk, path: string, source: string, keepOld: boolean): void {
  const target = disk.realPath(path);
  for (const beside of [`${target}.sync`, ...(keepOld ? [`${target}.old`] : [])]) {
    const kind = disk.status(beside)?.kind;
    if (kind === undefined) continue;
    if (kind !== "file") {
      throw new UsageError(
        `Cannot copy from ${source} to ${path}: ${beside}, which would be removed, is no regular file`,
        { path: beside, hint: "rename it, or name another file for the copy" },
      );
    }
    const mark = disk.mark(beside, "owned");
    if (mark === undefined) {
      throw new UsageError(
        `Cannot copy from ${source} to ${path}: ${beside}, which would be removed, is the source, or another zrs ` +
          `uses it`,
        { path: beside, hint: "rename it, or name another file for the copy" },
      );
    }
    mark.close();
  }
}

export class NewCopy {
  readonly #ports: Ports;
  readonly #source: ReachedSource;
  readonly #old: Storage;
  readonly #options: SyncWork;
  /** The replica's own file, also where its name is a link. */
  readonly #target: string;
  readonly #path: string;

  constructor(ports: Ports, source: ReachedSource, old: Storage, options: SyncWork) {
    this.#ports = ports;
    this.#source = source;
    this.#old = old;
    this.#options = options;
    this.#target = ports.disk.realPath(old.path);
    this.#path = newCopyPath(ports.disk, old.path);
  }

  /** Whether an earlier run has left the beginning of one. */
  static isUnderWay(disk: Disk, path: string): boolean {
    return disk.status(newCopyPath(disk, path)) !== undefined;
  }

  /**
   * Makes the copy, and puts it in the replica's place.
   * @param sourceEnd how many bytes the source has; undefined where that is not known
   * @throws as `CatchUp.run`; the replica is as it was then
   */
  async make(
    sourceEnd: number | undefined,
    signal: AbortSignal,
  ): Promise<Omit<SyncReport, "created" | "newCopy" | "before" | "check" | "blobs">> {
    const { disk } = this.#ports;
    if (sourceEnd !== undefined) this.#checkRoom(sourceEnd);
    const copied = await this.#copy(signal);
    this.#checkAge(copied.after.lastTid);
    const { path } = this.#old;
    const replacement = { path: this.#path, index: copied.index, end: copied.after.end };
    const { keptAs, indexProblem } = await replaceFile(disk, path, replacement, {
      keepOld: this.#options.keepOld === true,
    });
    if (indexProblem !== undefined) {
      this.#ports.log.warning(`Cannot save the index of ${path}: ${indexProblem.message}`);
    }
    this.#removeBeside();
    using file = disk.openRead(path);
    await tidyBlobs(this.#options.blobs, file, copied.index, copied.after.end);
    const { index: _index, ...made } = copied;
    return { keptAs, ...made };
  }

  /** Takes away what a run left that was killed while it made a copy. */
  async discard(): Promise<void> {
    const { disk } = this.#ports;
    if (disk.status(this.#path) === undefined) return;
    disk.remove(this.#path);
    this.#removeBeside();
    await disk.syncDirectory(directoryOf(this.#path));
  }

  async #copy(signal: AbortSignal) {
    const { disk } = this.#ports;
    const isLeft = disk.status(this.#path) !== undefined;
    if (!isLeft) this.#removeBeside();
    try {
      return await this.#catchUp(signal);
    } catch (error) {
      // What an earlier run has left may be of another source, or of this one before it was packed or rolled back.
      const isUseless = error instanceof DivergedError || error instanceof CorruptError;
      if (!(error instanceof PackedAwayError || isLeft && isUseless)) throw error;
      this.#ports.log.info(`${error.message}; beginning the new copy anew`);
      disk.remove(this.#path);
      this.#removeBeside();
      return await this.#catchUp(signal);
    }
  }

  async #catchUp(signal: AbortSignal) {
    const { disk, clock, log } = this.#ports;
    await using storage = await Storage.open(disk, this.#path, { pause: pauser(clock), signal });
    likePermissions(disk, this.#target, this.#path, (message) => log.warning(message));
    const start = storage.end;
    const before = await this.#takeKnown(storage, signal);
    const catchUp = catchUpFrom(this.#ports, this.#source, storage, this.#options, "copy");
    const restsOn = await catchUp.run(signal);
    return {
      index: storage.index,
      after: { lastTid: storage.lastTid, end: storage.end },
      transactions: (before?.transactions ?? 0) + catchUp.transactions,
      bytes: storage.end - start,
      protocol: catchUp.protocol,
      isDurableThere: catchUp.isDurableThere && before?.isDurableThere !== false,
      restsOn,
    };
  }

  /**
   * Copies what the replica has, too, without the blobs: their files are here. Where one is not, or the source wants
   * otherwise, all from there on comes with its blobs.
   * @returns undefined where nothing is known, or all is to come anew
   */
  async #takeKnown(storage: Storage, signal: AbortSignal): Promise<OneCatchUp | undefined> {
    const { blobs, repack, until = END_OF_TIME } = this.#options;
    const { lastTid } = this.#old;
    const isOnce = "isOnce" in this.#source && this.#source.isOnce === true;
    if (blobs.choice !== "replicate" || repack || isOnce || storage.lastTid >= lastTid) return undefined;
    const options: CatchUpOptions = {
      ...this.#options,
      blobs: { choice: "shared", directory: blobs.incoming.directory },
      until: until < lastTid ? until : lastTid,
      isStep: true,
    };
    const catchUp = catchUpFrom(this.#ports, this.#source, storage, options, "copy");
    try {
      await catchUp.run(signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof UnavailableError) || error instanceof PackedAwayError) throw error;
      this.#ports.log.debug(`${error.message}; from there on, blobs are copied anew`);
    }
    return catchUp;
  }

  /** @throws DivergedError where the source has lost what the replica has, since that was compared */
  #checkAge(lastTid: bigint): void {
    const { path, lastTid: oldTid } = this.#old;
    if (lastTid >= oldTid || this.#options.repack) return;
    throw new DivergedError(
      `Cannot put a new copy of ${this.#source.name} in the place of ${path}: it ends with ${
        describeTid(lastTid)
      }, ` +
        `and the replica with ${describeTid(oldTid)}; the replica has not been changed`,
      {
        path,
        tid: oldTid,
        hint: "look what has become of the source; --repack takes the new copy nevertheless",
      },
    );
  }

  /** @throws DiskFullError before anything is written */
  #checkRoom(sourceEnd: number): void {
    const { disk } = this.#ports;
    const present = disk.status(this.#path)?.size ?? 0;
    const needed = Math.ceil(sourceEnd * (1 + INDEX_SHARE)) - present;
    const free = disk.freeBytes(directoryOf(this.#path));
    if (needed <= free) return;
    throw new DiskFullError(
      `Cannot make a complete new copy of ${this.#source.name} beside ${this.#target}: ${needed} bytes are needed, ` +
        `${free} are free; nothing has been changed`,
      { path: this.#path, hint: "make room, or remove the replica to copy into its place" },
    );
  }

  #removeBeside(): void {
    for (const suffix of BESIDE) this.#ports.disk.remove(this.#path + suffix);
  }
}

/** Where a new copy grows. */
function newCopyPath(disk: Disk, path: string): string {
  return `${disk.realPath(path)}.sync`;
}
