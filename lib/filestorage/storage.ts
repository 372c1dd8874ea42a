/**
 * A Data.fs that this process owns: locked against every other writer, recovered, indexed, and growing by
 * whole transactions. To those downstream it is a {@link TransactionLog} of what is on disk.
 *
 * Survives: being killed at any point (the next open cuts what was not finished), a missing, old or wrong
 * index file (the file is scanned). Refuses: files that are damaged before their end.
 */
import { DiskError, ZrsError } from "../errors.ts";
import type { BlockFile, Disk, FileLock, ReadableFile } from "../ports/mod.ts";
import { Appender, type Run } from "./appender.ts";
import { writeIndexFile } from "./index/index_file.ts";
import { indexBefore, type KeptEnd } from "./index/index_before.ts";
import { Generation, type LogView, Subscribers, type TransactionLog } from "./log.ts";
import type { ObjectIndex } from "./index/object_index.ts";
import { checkMayCreate, directoryOf } from "./open.ts";
import {
  checkPlace,
  displacementOf,
  isToBegin,
  lockRealPath,
  markOwned,
  refusePending,
  removeOtherIndex,
  writeMagic,
} from "./own_file.ts";
import { type Cut, type Patience, scan } from "./recover.ts";
import { recoverIndexed } from "./recover_indexed.ts";
import { type NewFile, type Replaced, replaceFile } from "./replace_file.ts";
import type { LargeEnd } from "./restore.ts";

/** How a file is opened. */
export interface StorageOptions extends Patience {
  /** Whoever opens it knows that transactions may wait beside it (delayed_storage.ts); default: false. */
  readonly mayHavePending?: boolean;
}

/** A file that somebody else has opened, and keeps others from. */
export interface OpenedFile {
  readonly path: string;
  readonly file: BlockFile;
  /** For a reader of its own; closing it leaves the file open. */
  openReading(): ReadableFile;
  /** See {@link Appender}. */
  beginAt(position: number, lastTid: bigint): void;
}

/** A file that is to take the place of a storage's own. */
export interface NextFile extends NewFile {
  /** Opened; the storage closes it. */
  readonly file: BlockFile;
  /** The tid of its last transaction. */
  readonly lastTid: bigint;
  /** Up to where it is packed; undefined where that is not known. */
  readonly packedTo: bigint | undefined;
}

/** What opening found; for the log. */
export interface OpenReport {
  readonly created: boolean;
  /** Transactions that had to be scanned because the index did not cover them. */
  readonly scanned: number;
  /** Why the index file was not used; undefined when it was. */
  readonly indexReason: string | undefined;
  readonly cut: Cut | undefined;
  /** Another process on this machine follows this very file. */
  readonly followed: boolean;
}

export class Storage implements TransactionLog {
  readonly path: string;
  readonly report: OpenReport;
  readonly #disk: Disk;
  #appender: Appender;
  /** Of the file as ours; undefined where others follow it. */
  #mark: FileLock | undefined;
  readonly #openReading: () => ReadableFile;
  /** Whether the index file is this storage's to write. */
  readonly #savesIndex: boolean;
  readonly #resources: AsyncDisposableStack;
  readonly #subscribers = new Subscribers();
  #index: ObjectIndex;
  #generation: Generation;
  #view: LogView;
  #savedEnd: number;
  #packedTo: bigint | undefined;

  private constructor(
    disk: Disk,
    path: string,
    opened: {
      appender: Appender;
      mark: FileLock | undefined;
      index: ObjectIndex;
      generation: Generation;
      report: OpenReport;
      savedEnd: number;
      openReading: () => ReadableFile;
      savesIndex: boolean;
    },
    resources: AsyncDisposableStack,
  ) {
    this.#disk = disk;
    this.path = path;
    this.#index = opened.index;
    this.report = opened.report;
    this.#appender = opened.appender;
    this.#mark = opened.mark;
    this.#generation = opened.generation;
    this.#savedEnd = opened.savedEnd;
    this.#openReading = opened.openReading;
    this.#savesIndex = opened.savesIndex;
    this.#resources = resources;
    resources.defer(() => this.#release());
    this.#view = this.#currentView();
  }

  /**
   * Takes the lock, creates the file when there is none, recovers it and loads or makes its index.
   * @param options patience for the scan of a file whose index does not cover it, too
   * @throws LockedError, UsageError (not a FileStorage, or one of Python 2; transactions wait beside it),
   * CorruptError, DiskError, and the signal's reason
   */
  static async open(disk: Disk, path: string, options: StorageOptions = {}): Promise<Storage> {
    await using owned = new AsyncDisposableStack();
    checkPlace(disk, path);
    owned.use(disk.lock(`${path}.lock`));
    const realPath = disk.realPath(path);
    if (realPath !== path && disk.status(path) !== undefined) lockRealPath(disk, path, realPath, owned);
    if (options.mayHavePending !== true) refusePending(disk, path);
    const created = disk.status(path) === undefined;
    if (created) checkMayCreate(disk, path);
    const file = owned.use(created ? disk.create(path) : disk.openWrite(path));
    const mark = markOwned(disk, path);
    if (mark !== undefined) owned.use(mark); // closing twice is harmless
    if (isToBegin(file)) await writeMagic(disk, file, path);
    const recovered = await recoverIndexed(disk, path, file, options);
    const openReading = () => disk.openRead(path);
    const generation = new Generation(0, openReading());
    return new Storage(disk, path, {
      ...recovered,
      appender: new Appender(file, recovered.end, recovered.lastTid),
      mark,
      generation,
      report: { ...recovered.report, created, followed: mark === undefined },
      openReading,
      savesIndex: true,
    }, owned.move());
  }

  /**
   * A storage of a file that is opened already: recovers it, and makes its index, which is in memory only.
   * @throws CorruptError, DiskError, and the signal's reason
   */
  static async over(disk: Disk, opened: OpenedFile, patience: Patience = {}): Promise<Storage> {
    await using owned = new AsyncDisposableStack();
    const { path, file } = opened;
    const recovered = await recoverIndexed(disk, path, file, patience);
    const openReading = () => opened.openReading();
    const generation = new Generation(0, openReading());
    return new Storage(disk, path, {
      ...recovered,
      appender: new Appender(
        file,
        recovered.end,
        recovered.lastTid,
        (position, lastTid) => opened.beginAt(position, lastTid),
      ),
      mark: undefined,
      generation,
      report: { ...recovered.report, created: false, followed: false },
      openReading,
      savesIndex: false,
    }, owned.move());
  }

  get view(): LogView {
    return this.#view;
  }

  get end(): number {
    return this.#appender.end;
  }

  get lastTid(): bigint {
    return this.#appender.lastTid;
  }

  /** Where each object is. {@link takeBack} may put another index in its place. */
  get index(): ObjectIndex {
    return this.#index;
  }

  /** The file's bytes for reading back. */
  get file(): BlockFile {
    return this.#appender.file;
  }

  /** Why nothing can be appended any more; then it must be opened anew. */
  get failure(): DiskError | undefined {
    return this.#appender.failure;
  }

  subscribe(changed: () => void): Disposable {
    return this.#subscribers.add(changed);
  }

  /** There is nobody else who could have written more. */
  async lookAgain(): Promise<void> {}

  /** Appends whole transactions, durably. See {@link Appender.append}. */
  async append(run: Run, fenceNext: () => boolean): Promise<void> {
    await this.#appender.append(run, fenceNext);
    this.#grown();
  }

  /** See {@link Appender.beginLarge}. */
  async beginLarge(): Promise<void> {
    await this.#appender.beginLarge();
  }

  /** See {@link Appender.writePart}. */
  writePart(bytes: Uint8Array, position: number): void {
    this.#appender.writePart(bytes, position);
  }

  /** See {@link Appender.finishLarge}. */
  async finishLarge(large: LargeEnd, fenceNext: () => boolean): Promise<void> {
    await this.#appender.finishLarge(large.header, large.end, fenceNext);
    this.#grown();
  }

  /** Takes away what is not part of a whole transaction. */
  async cut(): Promise<void> {
    await this.#appender.cut();
  }

  /** Why what is appended is not to be found by the path: somebody has moved the file away, or put another there. */
  get displacement(): string | undefined {
    return displacementOf(this.#disk, this.path, this.file);
  }

  /**
   * Writes the index file when it is behind. The index must hold nothing beyond {@link end} while this runs.
   * @throws DiskError, also where there is no such file any more, or another one, to which it would not fit
   */
  async saveIndex(): Promise<void> {
    const end = this.#appender.end;
    if (end === this.#savedEnd || !this.#savesIndex) return;
    if (this.displacement !== undefined) throw new DiskError(this.displacement, { path: this.path });
    await writeIndexFile(this.#disk, this.path, this.#index, end);
    this.#savedEnd = end;
  }

  /**
   * Takes back all transactions behind `kept`; they are gone then (rewind.ts keeps them). Nothing may be appended
   * meanwhile, and what was made of {@link index}, {@link end} or {@link lastTid} before is of no use afterwards.
   * @throws CorruptError, DiskFullError and the signal's reason: the file and its log are as before
   * @throws DiskError as well, or final
   */
  async takeBack(kept: KeptEnd, patience: Patience = {}): Promise<void> {
    await this.#appender.cut();
    const { end } = this.#appender;
    const reading = this.#openReading();
    try {
      // The index of the shorter file fits the longer one as well: at no moment does one lie there that does not.
      this.#index = await this.#saveIndexBefore(kept, end, patience);
    } catch (error) {
      reading.close();
      throw error;
    }
    const before = this.#generation;
    const generation = new Generation(before.number + 1, reading);
    this.#savedEnd = end; // should this fail, the index is no more one of the longer file, and must not be saved
    try {
      await this.#appender.takeBack(kept.end, kept.lastTid);
    } catch (error) {
      generation.release();
      throw error;
    }
    this.#savedEnd = kept.end;
    // What comes behind may have other history up to there.
    if (this.#packedTo !== undefined && this.#packedTo > kept.lastTid) this.#packedTo = undefined;
    this.#generation = generation;
    before.release();
    this.#grown();
  }

  /**
   * Lets a complete new file take the place of this one, and goes on with it; what is read from the old one by who
   * holds its {@link Generation} stays readable. Nothing may be appended meanwhile, and what was made of
   * {@link index}, {@link file} or {@link end} before is of no use afterwards.
   * @returns as {@link replaceFile}
   * @throws UsageError, DiskError: all is as before, and the new file is still the caller's, unless {@link failure} is
   * set. Then it is not known which file a loss of power would leave, so nothing is appended any more; whoever opens
   * the storage next finds one of both, whole
   */
  async moveTo(next: NextFile, { keepOld }: { readonly keepOld: boolean }): Promise<Replaced> {
    if (!this.#savesIndex) throw new RangeError("Only a storage that has opened its file itself can move");
    await this.#appender.cut();
    await using owned = new AsyncDisposableStack();
    const reading = owned.use(this.#disk.openRead(next.path));
    const mark = this.#disk.mark(next.path, "owned");
    if (mark !== undefined) owned.use(mark);
    this.#savedEnd = -1; // the index goes first
    let replaced: Replaced;
    try {
      replaced = await replaceFile(this.#disk, this.path, next, { keepOld });
    } catch (error) {
      await this.#stay(error);
      throw error;
    }
    owned.move();
    const before = { file: this.file, mark: this.#mark, generation: this.#generation };
    const [file, ownReading] = this.#openByName(next.file, reading);
    this.#mark = mark;
    this.#appender = new Appender(file, next.end, next.lastTid);
    this.#index = next.index;
    this.#generation = new Generation(before.generation.number + 1, ownReading);
    this.#savedEnd = replaced.indexProblem === undefined ? next.end : -1;
    this.#packedTo = next.packedTo;
    before.file.close();
    before.mark?.close();
    before.generation.release();
    this.#grown();
    return replaced;
  }

  /**
   * The file could not be replaced: makes sure that the old one is still there, also after a loss of power.
   * @throws DiskError final
   */
  async #stay(error: unknown): Promise<void> {
    const path = this.#disk.realPath(this.path);
    try {
      if (this.#disk.status(path)?.identity !== this.file.identity()) throw error;
      await this.#disk.syncDirectory(directoryOf(path));
    } catch (failure) {
      throw this.#appender.giveUp(failure);
    }
  }

  /** What is told of the file later should have its name. The handles that we have are as good. */
  #openByName(file: BlockFile, reading: ReadableFile): [BlockFile, ReadableFile] {
    try {
      using owned = new DisposableStack();
      const named = owned.use(this.#disk.openWrite(this.path));
      const namedReading = this.#openReading();
      owned.move();
      file.close();
      reading.close();
      return [named, namedReading];
    } catch (error) {
      if (!(error instanceof ZrsError)) throw error;
      return [file, reading];
    }
  }

  async #saveIndexBefore(kept: KeptEnd, end: number, patience: Patience): Promise<ObjectIndex> {
    try {
      const index = await indexBefore(this.file, this.#index, kept, end, patience);
      if (!this.#savesIndex) return index;
      await writeIndexFile(this.#disk, this.path, index, kept.end);
      await removeOtherIndex(this.#disk, this.path);
      return index;
    } catch (error) {
      this.#savedEnd = end; // not to be saved while anything is missing from it
      await scan(this.file, kept.end, kept.lastTid, end, this.#index, {}); // puts back what has been taken out
      this.#savedEnd = -1;
      throw error;
    }
  }

  /** Releases the file and the lock; saves nothing. Closing twice is harmless. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }

  #release(): void {
    this.#generation.release();
    this.#mark?.close();
    this.#appender.file.close();
  }

  #grown(): void {
    this.#view = this.#currentView();
    this.#subscribers.notify();
  }

  #currentView(): LogView {
    return {
      generation: this.#generation,
      end: this.#appender.end,
      lastTid: this.#appender.lastTid,
      packedTo: this.#packedTo,
    };
  }
}
