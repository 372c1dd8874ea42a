/**
 * A complete new file takes the place of a database: a fresh copy of a packed source, or the packed file. Each step is
 * durable before the next that needs it:
 *
 * 1. the database's index is removed: nothing tells any more where its records are;
 * 2. where the old file is to be kept, it gets `.old` as another name;
 * 3. the new file is renamed to the database's name;
 * 4. the new file's index is written.
 *
 * Survives a kill, a power loss or a failure at any step: the database's name leads to a whole file, the old one or
 * the new one, and an index that lies there is its own. Only where the file system gives no file two names, and the
 * old file is to be kept, is there a moment in which the name leads nowhere: the old file is `.old` then, the new one
 * still has its own name, and `Storage.open` refuses to create an empty one in their place.
 */
import { DiskError, ZrsError } from "../errors.ts";
import type { Disk } from "../ports/mod.ts";
import { writeIndexFile } from "./index/index_file.ts";
import type { ObjectIndex } from "./index/object_index.ts";
import { directoryOf } from "./open.ts";

/** A file that is complete and synced, in the directory of what it replaces ({@link Disk.realPath}). */
export interface NewFile {
  readonly path: string;
  readonly index: ObjectIndex;
  /** The end of its last transaction, in bytes. */
  readonly end: number;
}

export interface Replaced {
  /** Where the old file is kept. */
  readonly keptAs: string | undefined;
  /** Why the new file has no index: it only opens more slowly. */
  readonly indexProblem: ZrsError | undefined;
}

/**
 * Puts a new file in the place of a database, whose lock the caller holds. An older `.old` is lost where the database
 * is to be kept.
 * @param path of the database, which may be a link: what it leads to is replaced, not the link
 * @throws UsageError (no permission), DiskError: the database is the old one, at most without its index, unless the
 * message names another place, or only the last sync of the directory failed: then it is the new one
 */
export async function replaceFile(
  disk: Disk,
  path: string,
  { path: newPath, index, end }: NewFile,
  { keepOld }: { readonly keepOld: boolean },
): Promise<Replaced> {
  const target = disk.realPath(path);
  const directory = directoryOf(target);
  for (const each of new Set([path, target])) {
    disk.remove(`${each}.index`);
    await disk.syncDirectory(directoryOf(each));
  }
  const kept = keepOld ? `${target}.old` : undefined;
  const isMoved = kept !== undefined && !keep(disk, target, kept);
  try {
    if (kept !== undefined) await disk.syncDirectory(directory);
    disk.rename(newPath, target);
  } catch (error) {
    if (isMoved) putBack(disk, kept, target, error);
    throw error;
  }
  await disk.syncDirectory(directory);
  return { keptAs: kept, indexProblem: await writeIndex(disk, path, index, end) };
}

/**
 * Gives a new file the permissions and the owner of another one, as far as the file system knows such things. To be
 * called before the new file is synced.
 * @param complain is told what could not be done: the file is as good, but others may be allowed to read it
 */
export function likePermissions(
  disk: Disk,
  model: string,
  path: string,
  complain: (message: string) => void,
): void {
  try {
    disk.copyPermissions(model, path);
  } catch (error) {
    if (!(error instanceof ZrsError)) throw error;
    complain(`${error.message}; look whether its owner and mode are right`);
  }
}

/**
 * As {@link likePermissions}, for what is cut out of a database or waits to be appended to it: whoever may not read
 * that may not read this. Where it cannot be done the file system knows no permissions, of the database neither.
 */
export function likeDatabase(disk: Disk, database: string, path: string): void {
  likePermissions(disk, database, path, () => {});
}

/** @returns whether the database still has its own name, too */
function keep(disk: Disk, target: string, kept: string): boolean {
  disk.remove(kept);
  disk.remove(`${kept}.index`);
  if (disk.link(target, kept)) return true;
  disk.rename(target, kept);
  return false;
}

/** @throws DiskError where even that fails */
function putBack(disk: Disk, kept: string, target: string, cause: unknown): void {
  try {
    disk.rename(kept, target);
  } catch (error) {
    if (!(error instanceof ZrsError)) throw error;
    throw new DiskError(
      `Cannot put ${kept} back in its place, ${target}: ${error.message}; before that, ${messageOf(cause)}`,
      { path: target, cause, hint: `rename ${kept} to ${target}` },
    );
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function writeIndex(
  disk: Disk,
  path: string,
  index: ObjectIndex,
  end: number,
): Promise<ZrsError | undefined> {
  try {
    await writeIndexFile(disk, path, index, end);
    return undefined;
  } catch (error) {
    if (error instanceof ZrsError) return error;
    throw error;
  }
}
