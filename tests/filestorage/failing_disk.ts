/**
 * A disk in memory whose n-th operation fails, and which can lose its power: what a file had not been synced is
 * gone then, while names are as they last were (the worst mixture: a rename that overtook the data).
 */
import { DiskError, NotFoundError, UsageError } from "../../lib/errors.ts";
import type { BlockFile, Disk, FileLock, FileStatus, ReadableFile } from "../../lib/ports/mod.ts";

class Content {
  bytes: Uint8Array = new Uint8Array(0);
  synced: Uint8Array = new Uint8Array(0);
}

export class FailingDisk implements Disk {
  readonly #files = new Map<string, Content>();
  /** Operations that change something, so far. */
  operations = 0;
  /** The number of the operation that fails; later ones fail too if the disk is broken for good. */
  failAt = Infinity;
  staysBroken = false;

  /** Puts a file there, synced, without counting as an operation. */
  put(path: string, bytes: Uint8Array): void {
    const content = new Content();
    content.bytes = content.synced = bytes.slice();
    this.#files.set(path, content);
  }

  /** The file's bytes, undefined when there is none. */
  bytesOf(path: string): Uint8Array | undefined {
    return this.#files.get(path)?.bytes.slice();
  }

  get names(): string[] {
    return [...this.#files.keys()].sort();
  }

  /** The files, whole again, as they are after a loss of power. */
  afterPowerLoss(): FailingDisk {
    const disk = new FailingDisk();
    for (const [path, content] of this.#files) disk.put(path, content.synced);
    return disk;
  }

  /** Whoever asks is never warned: the disk is full when it is written to. */
  freeBytes(_path: string): number {
    return Infinity;
  }

  openRead(path: string): ReadableFile {
    return new MemoryFile(this, path, this.#find(path));
  }

  openWrite(path: string): BlockFile {
    return new MemoryFile(this, path, this.#find(path));
  }

  create(path: string): BlockFile {
    this.operate(`create ${path}`);
    if (this.#files.has(path)) throw new UsageError(`Cannot create ${path}: it exists`);
    const content = new Content();
    this.#files.set(path, content);
    return new MemoryFile(this, path, content);
  }

  status(path: string): FileStatus | undefined {
    const content = this.#files.get(path);
    if (content === undefined) return undefined;
    return { identity: path, kind: "file", size: content.bytes.length, mode: 0o644 };
  }

  list(directory: string): string[] {
    return this.names.filter((name) => name.startsWith(`${directory}/`));
  }

  makeDirectory(path: string): boolean {
    throw new UsageError(`Cannot make directory ${path}: this disk has none`);
  }

  setMode(path: string): void {
    this.#find(path);
  }

  rename(from: string, to: string): void {
    this.operate(`rename ${from}`);
    const content = this.#find(from);
    this.#files.delete(from);
    this.#files.set(to, content);
  }

  link(path: string, name: string): boolean {
    this.operate(`link ${name}`);
    this.#files.set(name, this.#find(path));
    return true;
  }

  copyPermissions(from: string, to: string): void {
    this.#find(from);
    this.#find(to);
  }

  remove(path: string): void {
    if (!this.#files.has(path)) return;
    this.operate(`remove ${path}`);
    this.#files.delete(path);
  }

  syncDirectory(directory: string): Promise<void> {
    this.operate(`sync ${directory}`);
    return Promise.resolve();
  }

  lock(path: string): FileLock {
    throw new UsageError(`Cannot lock ${path}: this disk has no locks`);
  }

  realPath(path: string): string {
    return path;
  }

  mark(): FileLock {
    return { close: () => {}, [Symbol.dispose]: () => {} };
  }

  watch(directory: string): Disposable {
    throw new UsageError(`Cannot watch ${directory}: this disk does not tell`);
  }

  /** Counts an operation. @throws DiskError if it is the one to fail */
  operate(what: string): void {
    this.operations++;
    if (this.operations === this.failAt || (this.staysBroken && this.operations > this.failAt)) {
      throw new DiskError(`Cannot ${what}: the disk fails here`);
    }
  }

  #find(path: string): Content {
    const content = this.#files.get(path);
    if (content === undefined) throw new NotFoundError(`Cannot open ${path}: no such file`, { path });
    return content;
  }
}

class MemoryFile implements BlockFile {
  readonly path: string;
  readonly #disk: FailingDisk;
  readonly #content: Content;

  constructor(disk: FailingDisk, path: string, content: Content) {
    this.#disk = disk;
    this.path = path;
    this.#content = content;
  }

  readAt(into: Uint8Array, position: number): number {
    const part = this.#content.bytes.subarray(position, position + into.length);
    into.set(part);
    return part.length;
  }

  /** A write that fails has written half. */
  writeAt(bytes: Uint8Array, position: number): void {
    try {
      this.#disk.operate(`write ${this.path}`);
    } catch (error) {
      this.#write(bytes.subarray(0, bytes.length >>> 1), position);
      throw error;
    }
    this.#write(bytes, position);
  }

  write(bytes: Uint8Array, position: number): Promise<void> {
    return Promise.try(() => this.writeAt(bytes, position));
  }

  #write(bytes: Uint8Array, position: number): void {
    const size = Math.max(this.#content.bytes.length, position + bytes.length);
    const grown = new Uint8Array(size);
    grown.set(this.#content.bytes);
    grown.set(bytes, position);
    this.#content.bytes = grown;
  }

  truncate(size: number): void {
    this.#disk.operate(`truncate ${this.path}`);
    this.#content.bytes = this.#content.bytes.slice(0, size);
  }

  size(): number {
    return this.#content.bytes.length;
  }

  identity(): string {
    return this.path;
  }

  sync(): Promise<void> {
    this.#disk.operate(`sync ${this.path}`);
    this.#content.synced = this.#content.bytes.slice();
    return Promise.resolve();
  }

  close(): void {}

  [Symbol.dispose](): void {
    this.close();
  }
}
