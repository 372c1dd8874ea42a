/**
 * A Data.fs that this process owns: locked against every other writer, recovered, indexed, and growing by
 * whole transactions. To those downstream it is a {@link TransactionLog} of what is on disk.
 *
 * Survives: being killed at any point (the next open cuts what was not finished), a missing, old or wrong
 * index file (the file is scanned). Refuses: files that are damaged before their end.
 */
import { LockedError, NotFoundError, UsageError } from "../errors.ts";
import type { BlockFile, Disk, FileLock, ReadableFile } from "../ports/mod.ts";
import { Appender, type Run } from "./appender.ts";
import { writeIndexFile } from "./index_file.ts";
import { MAGIC } from "./layout.ts";
import { indexBefore, type KeptEnd } from "./index_before.ts";
import { Generation, type LogView, Subscribers, type TransactionLog } from "./log.ts";
import type { ObjectIndex } from "./object_index.ts";
import { checkMayCreate, directoryOf, readMagic } from "./open.ts";
import { type Cut, type Patience, scan } from "./recover.ts";
import { recoverIndexed } from "./recover_indexed.ts";
import type { LargeEnd } from "./restore.ts";
import { segmentPaths } from "./segment.ts";

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
  readonly #appender: Appender;
  readonly #openReading: () => ReadableFile;
  /** Whether the index file is this storage's to write. */
  readonly #savesIndex: boolean;
  readonly #resources: AsyncDisposableStack;
  readonly #subscribers = new Subscribers();
  #index: ObjectIndex;
  #generation: Generation;
  #view: LogView;
  #savedEnd: number;

  private constructor(
    disk: Disk,
    path: string,
    opened: {
      appender: Appender;
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
    this.#generation = opened.generation;
    this.#savedEnd = opened.savedEnd;
    this.#openReading = opened.openReading;
    this.#savesIndex = opened.savesIndex;
    this.#resources = resources;
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
    if (mark !== undefined) owned.use(mark);
    if (isToBegin(file)) await writeMagic(disk, file, path);
    const recovered = await recoverIndexed(disk, path, file, options);
    const openReading = () => disk.openRead(path);
    const generation = new Generation(0, openReading());
    owned.defer(() => generation.release());
    return new Storage(disk, path, {
      ...recovered,
      appender: new Appender(file, recovered.end, recovered.lastTid),
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
    owned.defer(() => generation.release());
    return new Storage(disk, path, {
      ...recovered,
      appender: new Appender(
        file,
        recovered.end,
        recovered.lastTid,
        (position, lastTid) => opened.beginAt(position, lastTid),
      ),
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

  /**
   * Writes the index file when it is behind. The index must hold nothing beyond {@link end} while this runs.
   * @throws DiskError
   */
  async saveIndex(): Promise<void> {
    const end = this.#appender.end;
    if (end === this.#savedEnd || !this.#savesIndex) return;
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
    const generation = new Generation(this.#generation.number + 1, reading);
    this.#resources.defer(() => generation.release());
    this.#savedEnd = end; // should this fail, the index is no more one of the longer file, and must not be saved
    await this.#appender.takeBack(kept.end, kept.lastTid);
    this.#savedEnd = kept.end;
    this.#generation = generation;
    this.#grown();
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

  #grown(): void {
    this.#view = this.#currentView();
    this.#subscribers.notify();
  }

  #currentView(): LogView {
    return { generation: this.#generation, end: this.#appender.end, lastTid: this.#appender.lastTid };
  }
}

/** Looks what there is before anything is left beside it. @throws UsageError */
function checkPlace(disk: Disk, path: string): void {
  const status = disk.status(path);
  if (status?.kind === "directory") {
    throw new UsageError(`Cannot open ${path}: it is a directory`, {
      path,
      hint: "name the database file in it, usually Data.fs",
    });
  }
  const directory = directoryOf(path);
  if (status === undefined && disk.status(directory) === undefined) {
    throw new NotFoundError(`Cannot create ${path}: there is no directory ${directory}`, {
      path,
      hint: "make the directory, or check the path",
    });
  }
  if (status === undefined) return;
  using file = disk.openRead(path);
  isToBegin(file);
}

/**
 * What is appended here would take the place of what waits beside the file.
 * @throws UsageError
 */
export function refusePending(disk: Disk, path: string): void {
  const [first] = segmentPaths(disk, path);
  if (first === undefined) return;
  throw new UsageError(
    `Cannot open ${path} for writing: transactions that have been received wait beside it, in ${first}`,
    { path, hint: "apply them first, all or up to one of them, with zrs promote" },
  );
}

/** Whoever opens the file by its own name locks beside that. */
function lockRealPath(disk: Disk, path: string, realPath: string, owned: AsyncDisposableStack): void {
  const own = disk.status(`${path}.lock`);
  const real = disk.status(`${realPath}.lock`);
  if (own !== undefined && own.identity === real?.identity) return; // the same file by another spelling
  owned.use(disk.lock(`${realPath}.lock`));
}

/**
 * Whoever opens the file by its own name has saved an index beside that, which would be of a longer file. Another
 * one that grows from here could come to fit it by chance.
 */
async function removeOtherIndex(disk: Disk, path: string): Promise<void> {
  const realPath = disk.realPath(path);
  const other = disk.status(`${realPath}.index`);
  if (realPath === path || other === undefined) return;
  if (other.identity === disk.status(`${path}.index`)?.identity) return; // the same file by another spelling
  disk.remove(`${realPath}.index`);
  await disk.syncDirectory(directoryOf(realPath));
}

/**
 * @returns undefined when others follow the file
 * @throws LockedError when another zrs owns it, by whatever name
 */
function markOwned(disk: Disk, path: string): FileLock | undefined {
  const mark = disk.mark(path, "owned");
  if (mark !== undefined) return mark;
  const shared = disk.mark(path, "followed");
  if (shared === undefined) {
    throw new LockedError(`Cannot open ${path}: another zrs process writes to it, under another name`, {
      path,
      hint: "stop the other process, or name another file",
    });
  }
  shared.close();
  return undefined;
}

/**
 * Whether the file is empty, or has been created no further: a crash then leaves none or some of its first bytes.
 * @throws UsageError when it is not a FileStorage that may be written to
 */
function isToBegin(file: ReadableFile): boolean {
  const found = new Uint8Array(Math.min(file.size(), MAGIC.length + 1));
  file.readAt(found, 0);
  if (found.length <= MAGIC.length && found.every((byte, at) => byte === 0 || byte === MAGIC[at])) {
    return true;
  }
  if (readMagic(file) === "FS21") {
    throw new UsageError(`Cannot write to ${file.path}: Python 2 wrote it (FS21)`, {
      path: file.path,
      hint: "convert it with zodbupdate, or let an empty replica begin",
    });
  }
  return false;
}

async function writeMagic(disk: Disk, file: BlockFile, path: string): Promise<void> {
  file.writeAt(MAGIC, 0);
  await file.sync();
  await disk.syncDirectory(directoryOf(path));
}
