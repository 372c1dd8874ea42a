/** A simulated disk as one process sees it, with its open files and locks. */
import {
  DiskError,
  DiskFullError,
  LockedError,
  NotFoundError,
  UsageError,
  ZrsError,
} from "../../lib/errors.ts";
import type { BlockFile, Disk, FileLock, FileStatus } from "../../lib/ports/mod.ts";
import type { MachineDisk } from "./disk.ts";
import type { Fault, Operation } from "./faults.ts";
import { type Inode, SECTOR } from "./inode.ts";
import type { Life } from "./life.ts";
import { parentOf } from "./names.ts";

export class ProcessDisk implements Disk {
  readonly #disk: MachineDisk;
  readonly #life: Life;

  constructor(disk: MachineDisk, life: Life) {
    this.#disk = disk;
    this.#life = life;
  }

  /** Whoever asks is never warned: the disk is full when it is written to. */
  freeBytes(_path: string): number {
    return Infinity;
  }

  openRead(path: string): BlockFile {
    this.#begin("open", path);
    return new ProcessFile(this.#disk, this.#life, path, this.#disk.file(path), false);
  }

  openWrite(path: string): BlockFile {
    this.#begin("open", path);
    return new ProcessFile(this.#disk, this.#life, path, this.#disk.file(path), true);
  }

  create(path: string): BlockFile {
    this.#begin("create", path, () => void this.#create(path));
    return new ProcessFile(this.#disk, this.#life, path, this.#create(path), true);
  }

  status(path: string): FileStatus | undefined {
    this.#checkPath(path);
    const inode = this.#disk.names.get(path);
    if (inode === undefined) return undefined;
    const mode = inode.kind === "file" ? 0o644 : 0o755;
    return { identity: identityOf(this.#disk, inode), kind: inode.kind, size: inode.cache.size, mode };
  }

  list(directory: string): string[] {
    this.#checkPath(directory);
    this.#checkDirectory(directory);
    return this.#disk.names.list(directory);
  }

  makeDirectory(path: string): boolean {
    this.#begin("create", path, () => void this.#makeDirectory(path));
    return this.#makeDirectory(path);
  }

  /** All files have the same. */
  setMode(path: string): void {
    this.#checkPath(path);
    this.#disk.file(path);
  }

  rename(from: string, to: string): void {
    this.#checkPath(to);
    this.#begin("rename", from, () => this.#rename(from, to));
    this.#rename(from, to);
  }

  link(path: string, name: string): boolean {
    this.#checkPath(name);
    if (!this.#disk.hasLinks) return false;
    this.#begin("link", path, () => this.#link(path, name));
    this.#link(path, name);
    return true;
  }

  /** All files have the same. */
  copyPermissions(from: string, to: string): void {
    this.#disk.file(from);
    this.#disk.file(to);
  }

  remove(path: string): void {
    this.#begin("remove", path, () => this.#remove(path));
    this.#remove(path);
  }

  async syncDirectory(directory: string): Promise<void> {
    this.#checkPath(directory);
    this.#checkDirectory(directory);
    const failure = begin(this.#disk, this.#life, "sync directory", directory);
    const mark = this.#disk.names.mark();
    await synced(this.#disk, this.#life, directory, () => {
      if (failure === undefined) {
        this.#disk.names.settle(directory, mark);
        for (const observer of this.#disk.observers) observer.renamed?.(directory, true);
      }
      return failure;
    });
  }

  lock(path: string): FileLock {
    this.#checkPath(path);
    for (const observer of this.#disk.observers) observer.operated?.("lock", path, this.#life.process);
    const inode = this.#disk.names.get(path) ?? this.#create(path);
    if (this.#disk.locks.has(inode)) {
      throw new LockedError(`Cannot lock ${path}: another process holds it`, { path });
    }
    const pid = new TextEncoder().encode(` ${this.#life.pid}\n`);
    inode.truncate(0);
    inode.write(pid, 0);
    this.#disk.locks.set(inode, this.#life);
    const release = () => {
      forget();
      if (this.#disk.locks.get(inode) === this.#life) this.#disk.locks.delete(inode);
    };
    const forget = this.#life.onEnd(release);
    return { close: release, [Symbol.dispose]: release };
  }

  realPath(path: string): string {
    return path;
  }

  /** Nobody else is on this disk: every mark is free. */
  mark(): FileLock {
    return { close: () => {}, [Symbol.dispose]: () => {} };
  }

  watch(directory: string, changed: () => void): Disposable {
    this.#checkPath(directory);
    this.#checkDirectory(directory);
    const stop = this.#disk.watch(directory, this.#life, changed);
    return { [Symbol.dispose]: stop };
  }

  /** Counts an operation that is all or nothing; `perform` is tried when the process ends in the middle. */
  #begin(operation: Operation, path: string, perform?: () => void): void {
    this.#checkPath(path);
    const failure = begin(this.#disk, this.#life, operation, path, () => {
      if (perform === undefined || this.#disk.random.chance(0.5)) return;
      try {
        perform();
      } catch (error) {
        // It could not have been done anyway, and nobody is left to hear why.
        if (!(error instanceof ZrsError)) throw error;
      }
    });
    if (failure !== undefined) throw failure;
  }

  #checkPath(path: string): void {
    this.#life.check();
    if (!path.startsWith("/")) throw new Error(`Simulated paths are absolute, this one is ${path}`);
  }

  #checkDirectory(directory: string): void {
    const inode = this.#disk.names.get(directory);
    if (inode === undefined) throw new NotFoundError(`Cannot use ${directory}: no such directory`);
    if (inode.kind !== "directory") throw new UsageError(`Cannot use ${directory}: not a directory`);
  }

  #create(path: string): Inode {
    this.#checkDirectory(parentOf(path));
    if (this.#disk.names.get(path) !== undefined) {
      throw new UsageError(`Cannot create ${path}: it exists`, { path });
    }
    const inode = this.#disk.newInode("file");
    this.#disk.names.create(path, inode);
    this.#disk.note(`create ${path}`, inode.number);
    this.#renamed(path);
    return inode;
  }

  #makeDirectory(path: string): boolean {
    this.#checkDirectory(parentOf(path));
    const found = this.#disk.names.get(path);
    if (found?.kind === "directory") return false;
    if (found !== undefined) throw new UsageError(`Cannot make directory ${path}: it exists`, { path });
    const inode = this.#disk.newInode("directory");
    this.#disk.names.create(path, inode);
    this.#disk.note(`make directory ${path}`, inode.number);
    return true;
  }

  #rename(from: string, to: string): void {
    const inode = this.#disk.names.get(from);
    if (inode === undefined) throw new NotFoundError(`Cannot rename ${from}: no such file`, { path: from });
    this.#checkDirectory(parentOf(to));
    this.#disk.names.rename(from, to, inode);
    this.#disk.note(`rename ${from} to ${to}`, inode.number);
    this.#renamed(from);
    this.#renamed(to);
  }

  #link(path: string, name: string): void {
    const inode = this.#disk.file(path);
    this.#checkDirectory(parentOf(name));
    if (this.#disk.names.get(name) !== undefined) {
      throw new UsageError(`Cannot link ${name}: it exists`, { path: name });
    }
    this.#disk.names.create(name, inode);
    this.#disk.note(`link ${name} to ${path}`, inode.number);
    this.#renamed(name);
  }

  #remove(path: string): void {
    const inode = this.#disk.names.get(path);
    if (inode === undefined) return;
    if (inode.kind !== "file") throw new DiskError(`Cannot remove ${path}: it is a directory`, { path });
    this.#disk.names.remove(path, inode);
    this.#disk.note(`remove ${path}`, inode.number);
    this.#renamed(path);
  }

  #renamed(path: string): void {
    this.#disk.changed(path);
    for (const observer of this.#disk.observers) observer.renamed?.(path, false);
  }
}

class ProcessFile implements BlockFile {
  readonly path: string;
  readonly #disk: MachineDisk;
  readonly #life: Life;
  readonly #inode: Inode;
  readonly #writable: boolean;
  readonly #forget: () => void;
  #open = true;

  constructor(disk: MachineDisk, life: Life, path: string, inode: Inode, writable: boolean) {
    this.path = path;
    this.#disk = disk;
    this.#life = life;
    this.#inode = inode;
    this.#writable = writable;
    disk.openInodes.set(inode, (disk.openInodes.get(inode) ?? 0) + 1);
    this.#forget = life.onEnd(() => this.close());
  }

  readAt(into: Uint8Array, position: number): number {
    this.#check(position);
    const failure = begin(this.#disk, this.#life, "read", this.path);
    if (failure !== undefined) throw failure;
    return this.#inode.cache.read(into, position);
  }

  size(): number {
    this.#check(0);
    return this.#inode.cache.size;
  }

  identity(): string {
    this.#check(0);
    return identityOf(this.#disk, this.#inode);
  }

  writeAt(bytes: Uint8Array, position: number): void {
    this.#checkWritable(position);
    const failure = begin(
      this.#disk,
      this.#life,
      "write",
      this.path,
      () => this.#writeSectors(bytes, position),
    );
    if (failure !== undefined) {
      this.#write(bytes.subarray(0, this.#disk.random.int(bytes.length + 1)), position);
      throw failure;
    }
    const room = this.#room(position + bytes.length);
    if (room < position + bytes.length) {
      this.#write(bytes.subarray(0, Math.max(0, room - position)), position);
      throw fullError(this.path, position);
    }
    this.#write(bytes, position);
  }

  /** Half of it at once, the rest later; the lender must not touch it meanwhile. */
  async write(bytes: Uint8Array, position: number): Promise<void> {
    const copy = bytes.slice();
    const half = this.#disk.random.int(bytes.length + 1);
    this.writeAt(bytes.subarray(0, half), position);
    await synced(this.#disk, this.#life, this.path, () => undefined);
    if (copy.some((byte, at) => byte !== bytes[at])) {
      throw new Error(`A buffer was changed while it was being written to ${this.path}`);
    }
    this.writeAt(bytes.subarray(half), position + half);
  }

  truncate(size: number): void {
    this.#checkWritable(size);
    const truncate = () => {
      this.#inode.truncate(size);
      this.#disk.note(`truncate ${this.path}`, size);
      this.#changed(size);
    };
    const failure = begin(this.#disk, this.#life, "truncate", this.path, () => {
      if (this.#disk.random.chance(0.5)) truncate();
    });
    if (failure !== undefined) throw failure;
    truncate();
  }

  sync(): Promise<void> {
    this.#check(0);
    const failure = begin(this.#disk, this.#life, "sync", this.path);
    const mark = this.#inode.mark();
    this.#disk.note(`sync ${this.path}`, mark);
    return synced(this.#disk, this.#life, this.path, () => {
      if (failure !== undefined) this.#inode.settleFailed(mark, this.#disk.random);
      const from = failure === undefined ? this.#inode.settle(mark) : 0;
      const told = failure ?? this.#untoldFailure();
      this.#inode.untoldFailure = told !== undefined && !this.#life.alive;
      for (const observer of this.#disk.observers) observer.settled?.(this.path, this.#inode, from);
      return told;
    });
  }

  #untoldFailure(): DiskError | undefined {
    if (!this.#inode.untoldFailure) return undefined;
    return new DiskError(`Cannot sync ${this.path}: input/output error some time ago`, { path: this.path });
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#forget();
    const count = this.#disk.openInodes.get(this.#inode);
    if (count === 1) this.#disk.openInodes.delete(this.#inode);
    else if (count !== undefined) this.#disk.openInodes.set(this.#inode, count - 1);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #check(position: number): void {
    this.#life.check();
    if (!this.#open) throw new Error(`A file is used after it was closed: ${this.path}`);
    if (!Number.isSafeInteger(position) || position < 0) {
      throw new RangeError(`A position or size is not a whole number of bytes: ${position} in ${this.path}`);
    }
  }

  #checkWritable(position: number): void {
    this.#check(position);
    if (!this.#writable) throw new Error(`A file opened for reading is written: ${this.path}`);
  }

  #write(bytes: Uint8Array, position: number): void {
    this.#inode.write(bytes, position);
    this.#disk.note(`write ${this.path} of ${bytes.length} at`, position);
    this.#changed(position);
  }

  #changed(from: number): void {
    this.#disk.changed(this.path);
    for (const observer of this.#disk.observers) observer.changed?.(this.path, this.#inode, from);
  }

  /** Writes whole sectors, not all of them: what a process has written that is killed in the middle. */
  #writeSectors(bytes: Uint8Array, position: number): void {
    const end = position + this.#disk.random.int(bytes.length + 1);
    const cut = Math.floor(end / SECTOR) * SECTOR - position;
    if (cut > 0) this.#write(bytes.subarray(0, cut), position);
  }

  /** How far the file can grow on this disk towards `size`. */
  #room(size: number): number {
    if (size <= this.#inode.cache.size || this.#disk.capacityBytes === Infinity) return size;
    const free = Math.max(0, this.#disk.capacityBytes - this.#disk.usedBytes());
    return Math.min(size, this.#inode.cache.size + free);
  }
}

function identityOf(disk: MachineDisk, inode: Inode): string {
  return `${disk.name}:${inode.number}`;
}

function fullError(path: string, position?: number): DiskFullError {
  return new DiskFullError(`Cannot write ${path}: no space left on device`, {
    path,
    ...(position === undefined ? {} : { position }),
  });
}

/**
 * Counts an operation and lets happen what is planned for it.
 * @param interrupted does a part of the operation, before the process ends in the middle of it
 * @returns the error with which it is to fail
 */
function begin(
  disk: MachineDisk,
  life: Life,
  operation: Operation,
  path: string,
  interrupted: () => void = () => {},
): DiskError | undefined {
  life.check();
  for (const observer of disk.observers) observer.operated?.(operation, path, life.process);
  const effect: Fault["effect"] | undefined = disk.faults.take(operation, path, life.process);
  if (effect === undefined) return undefined;
  disk.note(`fault at ${operation} of ${path}`, 0);
  if (effect === "error") return new DiskError(`Cannot ${operation} ${path}: input/output error`, { path });
  if (effect === "full") return fullError(path);
  const forget = life.onEnd(interrupted);
  effect();
  life.check();
  forget();
  return undefined;
}

/** Resolves when a sync has ended, which takes its time; never when the process ends before. */
function synced(
  disk: MachineDisk,
  life: Life,
  path: string,
  settle: () => DiskError | undefined,
): Promise<void> {
  const { least, most } = disk.syncLatencyMs;
  return new Promise((resolve, reject) => {
    disk.scheduler.after(least + disk.random.unit() * (most - least), () => {
      const failure = settle();
      disk.note(failure === undefined ? `synced ${path}` : `sync failed ${path}`, 0);
      if (!life.alive) return;
      if (failure === undefined) resolve();
      else reject(failure);
    });
  });
}
