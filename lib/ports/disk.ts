/** Files and directories. Reads and writes are positional and synchronous; only syncing waits. */

/** A file opened for reading. A reader keeps the file it opened, also when the path is given to another. */
export interface ReadableFile extends Disposable {
  readonly path: string;
  /**
   * Reads from `position` until `into` is full or the file ends.
   * @returns the bytes read: fewer than asked only at the end of the file
   * @throws DiskError
   */
  readAt(into: Uint8Array, position: number): number;
  /** The present size in bytes, which another process may be changing. */
  size(): number;
  /** Names the file itself, not its path: two opens of one file give the same, a replaced file another. */
  identity(): string;
  /**
   * Waits until all that anybody has written to the file is on disk.
   * @throws DiskError; what was written since the last successful sync may then be lost for good
   */
  sync(): Promise<void>;
  /** Closing twice is harmless. */
  close(): void;
}

/** A file opened for reading and writing. */
export interface BlockFile extends ReadableFile {
  /**
   * Writes all of it, in several system calls where the system writes short. After a failure any part of it
   * may have been written.
   * @throws DiskFullError, DiskError
   */
  writeAt(bytes: Uint8Array, position: number): void;
  /**
   * As {@link writeAt}, while other work goes on: worth its overhead from some 100 KB on. The bytes are lent
   * until the promise settles.
   * @throws DiskFullError, DiskError
   */
  write(bytes: Uint8Array, position: number): Promise<void>;
  /** @throws DiskError */
  truncate(size: number): void;
}

export interface FileStatus {
  /** As {@link ReadableFile.identity}. */
  readonly identity: string;
  readonly kind: "file" | "directory" | "socket" | "other";
  readonly size: number;
  /** Permission bits. */
  readonly mode: number;
}

/** Held until closed, or until the process dies. */
export interface FileLock extends Disposable {
  close(): void;
}

export interface Disk {
  /** @throws NotFoundError, UsageError (a directory, no permission), DiskError */
  openRead(path: string): ReadableFile;
  /** Opens an existing file for reading and writing. @throws NotFoundError, UsageError, DiskError */
  openWrite(path: string): BlockFile;
  /** Creates a file that must not exist yet. @throws UsageError (it exists, no permission), DiskError */
  create(path: string): BlockFile;
  /** The file's status, following links; undefined when there is nothing at that path. */
  status(path: string): FileStatus | undefined;
  /** The path with all links followed; the path itself where there is nothing. @throws UsageError */
  realPath(path: string): string;
  /** The names in a directory, in no order. @throws NotFoundError, UsageError */
  list(directory: string): string[];
  /**
   * Makes a directory, with the permissions that the process gives to directories.
   * @returns false when there is a directory already
   * @throws NotFoundError (nothing above it), UsageError (something else is there, no permission), DiskError
   */
  makeDirectory(path: string): boolean;
  /** Sets the permission bits of a file. @throws NotFoundError, UsageError, DiskError */
  setMode(path: string, mode: number): void;
  /** Replaces `to` if it exists. @throws DiskError */
  rename(from: string, to: string): void;
  /**
   * Gives a file a second name, which is free.
   * @returns false where the file system, or its rules, give no file two names, or the two are on different ones
   * @throws NotFoundError, UsageError (`name` exists, no permission), DiskError
   */
  link(path: string, name: string): boolean;
  /**
   * Gives a file the permissions of another, and its owner as far as this process may.
   * @throws NotFoundError, UsageError, DiskError
   */
  copyPermissions(from: string, to: string): void;
  /** Removes a file; one that is not there is no error. @throws DiskError */
  remove(path: string): void;
  /**
   * How many more bytes this process can write to the file system on which the path lies, or would lie in its
   * directory; Infinity where the system does not tell. Others may take them in the next moment.
   * @throws NotFoundError, UsageError, DiskError
   */
  freeBytes(path: string): number;
  /** Makes created, renamed and removed names in a directory durable. @throws DiskError */
  syncDirectory(directory: string): Promise<void>;
  /**
   * Takes a lock that conflicts with Python's zc.lockfile: flock on `path`, which is created if missing and
   * holds our process id; never removed (docs/filestorage_format.md, "The lock file").
   * @throws LockedError, UsageError
   */
  lock(path: string): FileLock;
  /**
   * Marks the file itself, whatever its path, as followed (by any number of processes) or owned (by one). Python
   * knows no such mark and is not hindered; nothing is written.
   * @returns undefined when the mark of another process is in the way
   * @throws NotFoundError, UsageError, DiskError
   */
  mark(path: string, use: "followed" | "owned"): FileLock | undefined;
  /**
   * Calls back soon after anything in the directory may have changed; may call without reason, may miss some.
   * @param prefix only names that begin so are of interest: spares calls where much else happens
   */
  watch(directory: string, changed: () => void, prefix?: string): Disposable;
}
