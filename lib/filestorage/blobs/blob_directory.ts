/**
 * Where the contents of blobs lie beside a Data.fs, as ZODB lays them out (docs/filestorage_format.md, "Blobs"): a
 * file for each revision, in one of two layouts. A file comes to its place whole and durable, by a rename from the
 * directory's own temporary area, before the transaction counts to which it belongs. A crash in between leaves a
 * file without a record, which harms nobody; when the same revision comes again its file is replaced.
 */
import { DiskError, DiskFullError, NotFoundError, UsageError } from "../../errors.ts";
import type { Disk, FileStatus } from "../../ports/mod.ts";
import { formatOid } from "../../zodb/mod.ts";
import { directoryOf } from "../open.ts";

export type BlobLayout = "bushy" | "lawn";

/** One revision of a blob. */
export interface BlobKey {
  readonly oid: bigint;
  readonly tid: bigint;
}

export const BLOB_SUFFIX = ".blob";
/** Says how the directory is laid out. */
export const BLOB_MARKER = ".layout";
const TEMPORARY = "tmp";
/** Ours among the temporary files, with oid and tid: what a killed process left can be gone on with. */
const PART_NAME = /^zrs-([0-9a-f]{16})-([0-9a-f]{16})\.part$/;
/** What directories of objects are called, in both layouts, and on each level of the bushy one. */
const OBJECT_NAME = /^0x([0-9a-f]{2})+$/;
const BUSHY_NAME = /^0x[0-9a-f]{2}$/;
const WRITE_BITS = 0o222;
const READ_BITS = 0o444;
/** So many directories are remembered as durable. */
const MAX_REMEMBERED = 10_000;
/** So many directories are synced at once. */
const SYNCS_AT_ONCE = 16;

export class BlobDirectory {
  readonly path: string;
  readonly layout: BlobLayout;
  readonly disk: Disk;
  /** Directories whose names are known to be on disk. */
  readonly #durable = new Set<string>();

  private constructor(disk: Disk, path: string, layout: BlobLayout) {
    this.disk = disk;
    this.path = path;
    this.layout = layout;
  }

  /**
   * A directory to read from: nothing in it is changed.
   * @throws NotFoundError, UsageError where it is no blob directory, or does not say how it is laid out
   */
  static open(disk: Disk, path: string): BlobDirectory {
    const found = checkDirectory(disk, path);
    if (found === undefined) {
      throw new NotFoundError(`Cannot use blob directory ${path}: there is no such directory`, {
        path,
        hint: "name the directory in which ZODB keeps the blobs of this database",
      });
    }
    refuseUnmarkedBushy(disk, path);
    return new BlobDirectory(disk, path, layoutOf(disk, path));
  }

  /**
   * A directory to put blobs into: makes it, in a directory that exists, and what ZODB expects in it.
   * @throws NotFoundError, UsageError where it is no blob directory and cannot become one, or cannot be written;
   * DiskError
   */
  static async prepare(disk: Disk, path: string): Promise<BlobDirectory> {
    if (checkDirectory(disk, path) === undefined) {
      disk.makeDirectory(path);
      await disk.syncDirectory(directoryOf(path));
    }
    const layout = layoutOf(disk, path);
    checkContents(disk, path);
    const marker = `${path}/${BLOB_MARKER}`;
    if (disk.status(marker) === undefined) {
      const fresh = `${marker}.new`; // a crash must not leave a marker that says nothing
      disk.remove(fresh);
      using file = disk.create(fresh);
      file.writeAt(new TextEncoder().encode(layout), 0);
      await file.sync();
      disk.rename(fresh, marker);
      // Before there is anything else: without the marker that would be taken for another layout.
      await disk.syncDirectory(path);
    }
    const directory = new BlobDirectory(disk, path, layout);
    disk.makeDirectory(directory.#temporary);
    directory.#tryOut();
    await disk.syncDirectory(path);
    return directory;
  }

  /** Where the content of a revision lies. */
  pathOf(key: BlobKey): string {
    return `${this.path}/${this.nameOf(key)}`;
  }

  /** As {@link pathOf}, within the directory. */
  nameOf({ oid, tid }: BlobKey): string {
    return blobName({ oid, tid }, this.layout);
  }

  /** Where the content of a revision is put together. */
  temporaryPathOf({ oid, tid }: BlobKey): string {
    return `${this.#temporary}/zrs-${digits(oid)}-${digits(tid)}.part`;
  }

  /** The revisions of which there are temporary files. */
  temporaryFiles(): BlobKey[] {
    return this.disk.list(this.#temporary).flatMap((name) => {
      const [, oid, tid] = PART_NAME.exec(name) ?? [];
      return oid === undefined ? [] : [{ oid: BigInt(`0x${oid}`), tid: BigInt(`0x${tid}`) }];
    });
  }

  /** Whether the content of a revision is there; what is in it nothing tells. */
  has(key: BlobKey): boolean {
    return this.disk.status(this.pathOf(key))?.kind === "file";
  }

  /**
   * Gives a temporary file, whole but for its sync, the permissions that ZODB gives to a blob, and makes the
   * directory it is to go to.
   * @throws DiskError
   */
  finish(key: BlobKey): void {
    const directory = this.#directoryOf(key.oid);
    this.#makeDirectories(directory);
    const temporary = this.temporaryPathOf(key);
    const { mode } = this.#statusOf(temporary);
    this.disk.setMode(temporary, mode & ~WRITE_BITS | this.#statusOf(directory).mode & READ_BITS);
  }

  /**
   * Moves temporary files that are finished and synced to their places, durably. May be called again with the same
   * revisions after it has failed.
   * @throws DiskFullError to be tried again; DiskError
   */
  async place(keys: readonly BlobKey[]): Promise<void> {
    const changed = new Set<string>();
    for (const key of keys) {
      const directory = this.#directoryOf(key.oid);
      const temporary = this.temporaryPathOf(key);
      this.#makeDirectories(directory);
      if (this.disk.status(temporary) !== undefined) this.disk.rename(temporary, this.pathOf(key));
      else if (!this.has(key)) throw gone(temporary);
      changed.add(directory);
      for (let each = directory; each !== this.path && !this.#durable.has(each); each = directoryOf(each)) {
        changed.add(directoryOf(each));
      }
    }
    const directories = [...changed].sort().reverse(); // what is deeper comes first
    for (let at = 0; at < directories.length; at += SYNCS_AT_ONCE) {
      await Promise.all(directories.slice(at, at + SYNCS_AT_ONCE).map((each) => this.#syncDirectory(each)));
    }
    if (this.#durable.size > MAX_REMEMBERED) this.#durable.clear();
    for (const key of keys) {
      for (let each = this.#directoryOf(key.oid); each !== this.path; each = directoryOf(each)) {
        this.#durable.add(each);
      }
    }
  }

  get #temporary(): string {
    return `${this.path}/${TEMPORARY}`;
  }

  #directoryOf(oid: bigint): string {
    return `${this.path}/${objectDirectory(oid, this.layout)}`;
  }

  #makeDirectories(directory: string): void {
    if (directory === this.path || this.#durable.has(directory)) return;
    if (this.disk.status(directory)?.kind === "directory") return;
    this.#makeDirectories(directoryOf(directory));
    this.disk.makeDirectory(directory);
  }

  #statusOf(path: string): FileStatus {
    const status = this.disk.status(path);
    if (status === undefined) throw gone(path);
    return status;
  }

  /** A sync that failed is no reason to try again, also where the disk is full: what it was to keep may be gone. */
  async #syncDirectory(directory: string): Promise<void> {
    try {
      await this.disk.syncDirectory(directory);
    } catch (error) {
      throw error instanceof DiskFullError ? new DiskError(error.message, error.facts) : error;
    }
  }

  /** Tells at once what would else be told in the middle of the first blob. @throws UsageError, DiskError */
  #tryOut(): void {
    const { disk } = this;
    const from = `${this.#temporary}/zrs-try`;
    const to = `${this.path}/.zrs-try`;
    disk.remove(from);
    disk.create(from).close();
    try {
      disk.rename(from, to);
    } catch (error) {
      disk.remove(from);
      throw error;
    }
    disk.remove(to);
  }
}

/** A revision as the key of a map, which objects cannot be. */
export function revisionName({ oid, tid }: BlobKey): string {
  return `${oid} ${tid}`;
}

/** The path of a revision's content within the directory. */
export function blobName({ oid, tid }: BlobKey, layout: BlobLayout): string {
  return `${objectDirectory(oid, layout)}/${formatOid(tid)}${BLOB_SUFFIX}`;
}

/** The path of an object's blobs within the directory. */
export function objectDirectory(oid: bigint, layout: BlobLayout): string {
  if (layout === "lawn") return formatOid(oid);
  return digits(oid).replace(/../g, (byte) => `0x${byte}/`).slice(0, -1);
}

/**
 * As ZODB: what the marker says; without one, bushy where there is nothing else, else lawn.
 * @throws UsageError where the marker says something else
 */
export function layoutOf(disk: Disk, directory: string): BlobLayout {
  const marker = `${directory}/${BLOB_MARKER}`;
  if (disk.status(marker)?.kind !== "file") {
    return disk.list(directory).every((name) => name.startsWith(".")) ? "bushy" : "lawn";
  }
  using file = disk.openRead(marker);
  const bytes = new Uint8Array(64);
  const name = new TextDecoder().decode(bytes.subarray(0, file.readAt(bytes, 0))).trim();
  if (name === "bushy" || name === "lawn") return name;
  throw new UsageError(
    `Cannot use blob directory ${directory}: its layout must be bushy or lawn, found ${JSON.stringify(name)}`,
    { path: marker, hint: "Name the blob directory of the database" },
  );
}

/** @returns its status; undefined when there is nothing. @throws UsageError for anything but a directory */
function checkDirectory(disk: Disk, path: string): FileStatus | undefined {
  const status = disk.status(path);
  if (status === undefined || status.kind === "directory") return status;
  throw new UsageError(`Cannot use blob directory ${path}: it must be a directory, and is a ${status.kind}`, {
    path,
    hint: "name the directory in which the blobs are to lie",
  });
}

/**
 * Without a marker ZODB takes whatever lies there for blobs; somebody's home is not to become a blob directory.
 * @throws UsageError
 */
function checkContents(disk: Disk, path: string): void {
  if (disk.status(`${path}/${BLOB_MARKER}`) !== undefined) return;
  for (const name of disk.list(path)) {
    if (name.startsWith(".") || name === TEMPORARY || OBJECT_NAME.test(name)) continue;
    throw new UsageError(
      `Cannot use blob directory ${path}: it has no ${BLOB_MARKER}, and something else than blobs: ${name}`,
      { path, hint: "name an empty directory, or the blob directory of the database" },
    );
  }
  refuseUnmarkedBushy(disk, path);
}

/**
 * Without a marker, which a copy of what does not begin with a dot leaves behind, blobs of layout bushy would be
 * looked for in the other layout, and none found.
 * @throws UsageError
 */
function refuseUnmarkedBushy(disk: Disk, path: string): void {
  if (disk.status(`${path}/${BLOB_MARKER}`) !== undefined) return;
  for (const name of disk.list(path)) {
    if (!BUSHY_NAME.test(name) || disk.status(`${path}/${name}`)?.kind !== "directory") continue;
    if (!disk.list(`${path}/${name}`).some((each) => OBJECT_NAME.test(each))) continue;
    throw new UsageError(
      `Cannot use blob directory ${path}: it has no ${BLOB_MARKER}, which would mean layout lawn, and its contents ` +
        "are bushy",
      { path, hint: `put the word bushy into ${path}/${BLOB_MARKER}` },
    );
  }
}

function digits(id: bigint): string {
  return id.toString(16).padStart(16, "0");
}

function gone(path: string): DiskError {
  return new DiskError(`Cannot go on with ${path}: it is not there any more`, { path });
}
