/**
 * A disk in memory for unit tests, with faults to order. It knows nothing of crashes: everything written is
 * there for good, synced or not (the simulated disk of tests/simulation does that).
 */
import { basename, dirname } from "node:path/posix";
import { DiskError, DiskFullError, LockedError, NotFoundError, UsageError } from "../../lib/errors.ts";
import type { BlockFile, Disk, FileLock, FileStatus, ReadableFile } from "../../lib/ports/mod.ts";
import { MemoryFile } from "./memory_file.ts";

/** What can be made to fail. */
export type Operation =
  | "open"
  | "create"
  | "read"
  | "write"
  | "truncate"
  | "sync"
  | "makeDirectory"
  | "setMode"
  | "rename"
  | "link"
  | "chmod"
  | "remove"
  | "syncDirectory";

/** A failure to come. */
export interface Fault {
  readonly operation: Operation;
  /** Only on paths that end so; default: any. */
  readonly path?: string;
  /** The first of such operations from now on is 1, the default. */
  readonly nth?: number;
  /** Default: an I/O error. */
  readonly error?: "io" | "full";
  /** Of a write: how many bytes go through before it fails; default 0. */
  readonly written?: number;
  /** Fail from then on each time; default: once. */
  readonly lasting?: boolean;
}

/** One operation that was asked for, whether or not it succeeded; of `rename` and `link` the path is the old one. */
export interface Performed {
  readonly operation: Operation;
  readonly path: string;
}

export class MemoryDisk implements Disk {
  /** All operations so far; a test may empty it. */
  readonly performed: Performed[] = [];
  /** The disk is full beyond this many bytes in all files together. */
  capacity = Infinity;
  /** Whether a file can have two names. */
  hasLinks = true;
  /** From which file each one got its permissions that got any. */
  readonly permissions = new Map<string, string>();
  readonly #files = new Map<string, MemoryFile>();
  readonly #modes = new Map<MemoryFile, number>();
  readonly #directories = new Set<string>(["/"]);
  readonly #locked = new Set<string>();
  readonly #watchers = new Set<{ readonly directory: string; readonly changed: () => void }>();
  readonly #faults: { readonly fault: Fault; left: number }[] = [];
  #lastIdentity = 0;

  /** Puts a file there, and the directories above it, as by another process: no fault hits it. */
  put(path: string, bytes: Uint8Array): void {
    this.addDirectory(dirname(path));
    const file = this.#files.get(path);
    if (file === undefined) this.#files.set(path, this.#newFile(bytes));
    else file.replace(bytes);
    this.#changed(path);
  }

  /** Another disk with the same files, and none of the failures. */
  copy(): MemoryDisk {
    const copy = new MemoryDisk();
    for (const path of this.paths()) copy.put(path, this.bytes(path));
    return copy;
  }

  /** A copy of a file's bytes. @throws NotFoundError */
  bytes(path: string): Uint8Array {
    return this.#find(path).copy();
  }

  /** The paths of all files, sorted. */
  paths(): string[] {
    return [...this.#files.keys()].sort();
  }

  addDirectory(path: string): void {
    for (let each = path; !this.#directories.has(each); each = dirname(each)) this.#directories.add(each);
  }

  /** Orders a failure. */
  fail(fault: Fault): void {
    this.#faults.push({ fault, left: fault.nth ?? 1 });
  }

  /** Takes back all failures that are still to come. */
  mend(): void {
    this.#faults.length = 0;
  }

  freeBytes(_path: string): number {
    return Math.max(0, this.capacity - this.#used());
  }

  openRead(path: string): ReadableFile {
    this.#perform("open", path);
    return new Handle(this, path, this.#find(path));
  }

  openWrite(path: string): BlockFile {
    this.#perform("open", path);
    return new Handle(this, path, this.#find(path));
  }

  create(path: string): BlockFile {
    this.#perform("create", path);
    this.#needDirectory(dirname(path));
    if (this.#files.has(path) || this.#directories.has(path)) {
      throw new UsageError(`Cannot create ${path}: it exists`, { path });
    }
    const file = this.#newFile(new Uint8Array());
    this.#files.set(path, file);
    this.#changed(path);
    return new Handle(this, path, file);
  }

  status(path: string): FileStatus | undefined {
    const file = this.#files.get(path);
    if (file !== undefined) {
      const mode = this.#modes.get(file) ?? 0o644;
      return { identity: file.identity, kind: "file", size: file.size, mode };
    }
    if (!this.#directories.has(path)) return undefined;
    return { identity: `directory ${path}`, kind: "directory", size: 0, mode: 0o755 };
  }

  list(directory: string): string[] {
    this.#needDirectory(directory);
    return [...this.#files.keys(), ...this.#directories]
      .filter((path) => path !== "/" && dirname(path) === directory)
      .map((path) => basename(path));
  }

  makeDirectory(path: string): boolean {
    this.#perform("makeDirectory", path);
    this.#needDirectory(dirname(path));
    if (this.#files.has(path)) throw new UsageError(`Cannot make directory ${path}: it is a file`, { path });
    if (this.#directories.has(path)) return false;
    this.#directories.add(path);
    return true;
  }

  setMode(path: string, mode: number): void {
    this.#perform("setMode", path);
    this.#modes.set(this.#find(path), mode);
  }

  rename(from: string, to: string): void {
    this.#perform("rename", from);
    this.#needDirectory(dirname(to));
    const file = this.#find(from);
    this.#files.delete(from);
    this.#files.set(to, file);
    this.#changed(from);
    this.#changed(to);
  }

  link(path: string, name: string): boolean {
    this.#perform("link", path);
    this.#needDirectory(dirname(name));
    const file = this.#find(path);
    if (this.#files.has(name)) throw new UsageError(`Cannot link ${name}: it exists`, { path: name });
    if (!this.hasLinks) return false;
    this.#files.set(name, file);
    this.#changed(name);
    return true;
  }

  copyPermissions(from: string, to: string): void {
    this.#perform("chmod", to);
    this.#find(from);
    this.#find(to);
    this.permissions.set(to, from);
  }

  remove(path: string): void {
    this.#perform("remove", path);
    if (this.#files.delete(path)) this.#changed(path);
  }

  syncDirectory(directory: string): Promise<void> {
    return Promise.try(() => {
      this.#perform("syncDirectory", directory);
      this.#needDirectory(directory);
    });
  }

  lock(path: string): FileLock {
    this.#needDirectory(dirname(path));
    if (this.#locked.has(path)) throw new LockedError(`Cannot lock ${path}: it is locked`, { path });
    if (!this.#files.has(path)) this.put(path, new TextEncoder().encode(" 1\n"));
    this.#locked.add(path);
    let held = true;
    const close = () => {
      if (held) this.#locked.delete(path);
      held = false;
    };
    return { close, [Symbol.dispose]: close };
  }

  realPath(path: string): string {
    return path;
  }

  /** Nobody else is on this disk: every mark is free. */
  mark(): FileLock {
    return { close: () => {}, [Symbol.dispose]: () => {} };
  }

  watch(directory: string, changed: () => void): Disposable {
    const watcher = { directory, changed };
    this.#watchers.add(watcher);
    return { [Symbol.dispose]: () => void this.#watchers.delete(watcher) };
  }

  /** Writes as much as there is room for, and as ordered faults let through. */
  write(path: string, file: MemoryFile, bytes: Uint8Array, position: number): void {
    const fault = this.#take("write", path);
    const room = Math.max(0, this.capacity - this.#used()) + Math.max(0, file.size - position);
    const allowed = Math.min(fault === undefined ? bytes.length : fault.written ?? 0, room, bytes.length);
    if (allowed > 0) file.write(bytes.subarray(0, allowed), position);
    this.#changed(path);
    if (fault !== undefined) throw failure(fault, "write", path);
    if (allowed < bytes.length) throw failure({ operation: "write", error: "full" }, "write", path);
  }

  truncate(path: string, file: MemoryFile, size: number): void {
    this.#perform("truncate", path);
    file.truncate(size);
    this.#changed(path);
  }

  read(path: string, file: MemoryFile, into: Uint8Array, position: number): number {
    this.#perform("read", path);
    return file.read(into, position);
  }

  sync(path: string): Promise<void> {
    return Promise.try(() => this.#perform("sync", path));
  }

  #newFile(bytes: Uint8Array): MemoryFile {
    return new MemoryFile(`file ${++this.#lastIdentity}`, bytes);
  }

  #used(): number {
    return [...new Set(this.#files.values())].reduce((total, file) => total + file.size, 0);
  }

  #find(path: string): MemoryFile {
    const file = this.#files.get(path);
    if (file !== undefined) return file;
    if (this.#directories.has(path)) throw new UsageError(`Cannot open ${path}: it is a directory`, { path });
    throw new NotFoundError(`Cannot open ${path}: there is no such file`, { path });
  }

  #needDirectory(path: string): void {
    if (this.#directories.has(path)) return;
    throw new NotFoundError(`Cannot use ${path}: there is no such directory`, { path });
  }

  #changed(path: string): void {
    for (const { directory, changed } of [...this.#watchers]) {
      if (directory === dirname(path)) queueMicrotask(changed);
    }
  }

  #perform(operation: Operation, path: string): void {
    const fault = this.#take(operation, path);
    if (fault !== undefined) throw failure(fault, operation, path);
  }

  /** Notes the operation. @returns the fault that hits it */
  #take(operation: Operation, path: string): Fault | undefined {
    this.performed.push({ operation, path });
    let hit: Fault | undefined;
    for (const each of [...this.#faults]) {
      const { fault } = each;
      if (fault.operation !== operation || !path.endsWith(fault.path ?? "")) continue;
      if (each.left > 1) each.left--;
      else {
        hit ??= fault;
        if (!fault.lasting) this.#faults.splice(this.#faults.indexOf(each), 1);
      }
    }
    return hit;
  }
}

function failure(fault: Fault, operation: Operation, path: string): DiskError {
  if (fault.error === "full") {
    return new DiskFullError(`Cannot ${operation} ${path}: the disk is full`, { path });
  }
  return new DiskError(`Cannot ${operation} ${path}: input/output error`, { path });
}

/** An open file; it stays with the file it opened, whatever becomes of the path. */
class Handle implements BlockFile {
  readonly path: string;
  readonly #disk: MemoryDisk;
  readonly #file: MemoryFile;
  #open = true;

  constructor(disk: MemoryDisk, path: string, file: MemoryFile) {
    this.#disk = disk;
    this.path = path;
    this.#file = file;
  }

  readAt(into: Uint8Array, position: number): number {
    return this.#disk.read(this.path, this.#opened(), into, position);
  }

  writeAt(bytes: Uint8Array, position: number): void {
    this.#disk.write(this.path, this.#opened(), bytes, position);
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    await Promise.resolve();
    this.writeAt(bytes, position);
  }

  truncate(size: number): void {
    this.#disk.truncate(this.path, this.#opened(), size);
  }

  size(): number {
    return this.#opened().size;
  }

  identity(): string {
    return this.#opened().identity;
  }

  async sync(): Promise<void> {
    this.#opened();
    await this.#disk.sync(this.path);
  }

  close(): void {
    this.#open = false;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #opened(): MemoryFile {
    if (!this.#open) throw new DiskError(`Cannot use ${this.path}: it was closed`, { path: this.path });
    return this.#file;
  }
}
