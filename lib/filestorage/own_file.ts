/** What stands before every opening of a Data.fs for writing: whether it may be, and that nobody else does. */
import { LockedError, NotFoundError, UsageError, ZrsError } from "../errors.ts";
import type { BlockFile, Disk, FileLock, ReadableFile } from "../ports/mod.ts";
import { MAGIC } from "./layout.ts";
import { directoryOf, readMagic } from "./open.ts";
import { segmentPaths } from "./pending/segment.ts";

/** Looks what there is before anything is left beside it. @throws UsageError */
export function checkPlace(disk: Disk, path: string): void {
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

/** Whoever opens the file by its own name locks beside that. @param owned gets the lock */
export function lockRealPath(disk: Disk, path: string, realPath: string, owned: AsyncDisposableStack): void {
  const own = disk.status(`${path}.lock`);
  const real = disk.status(`${realPath}.lock`);
  if (own !== undefined && own.identity === real?.identity) return; // the same file by another spelling
  owned.use(disk.lock(`${realPath}.lock`));
}

/**
 * Whoever opens the file by its own name has saved an index beside that, which would be of a longer file. Another
 * one that grows from here could come to fit it by chance.
 */
export async function removeOtherIndex(disk: Disk, path: string): Promise<void> {
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
export function markOwned(disk: Disk, path: string): FileLock | undefined {
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
export function isToBegin(file: ReadableFile): boolean {
  const found = new Uint8Array(Math.min(file.size(), MAGIC.length + 1));
  file.readAt(found, 0);
  if (found.length <= MAGIC.length && found.every((byte, at) => byte === 0 || byte === MAGIC[at])) {
    return true;
  }
  if (readMagic(file) === "FS21") {
    throw new UsageError(`Cannot write to ${file.path}: Python 2 wrote it (FS21)`, {
      path: file.path,
      hint: "convert it with zodbupdate; where it is a copy, begin with an empty one",
    });
  }
  return false;
}

/** Why a path does not lead to the file that was opened by it; undefined where it does. */
export function displacementOf(disk: Disk, path: string, file: ReadableFile): string | undefined {
  try {
    const identity = disk.status(path)?.identity;
    if (identity === file.identity()) return undefined;
    return identity === undefined
      ? `${path} is not there any more`
      : `another file has taken the place of ${path}`;
  } catch (error) {
    if (error instanceof ZrsError) return error.message;
    throw error;
  }
}

/** Begins a file. @throws DiskError */
export async function writeMagic(disk: Disk, file: BlockFile, path: string): Promise<void> {
  file.writeAt(MAGIC, 0);
  await file.sync();
  await disk.syncDirectory(directoryOf(path));
}
