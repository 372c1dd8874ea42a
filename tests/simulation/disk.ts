/**
 * A simulated machine's disk. All processes of the machine share it; each gets a port of its own, which dies
 * with the process.
 *
 *     const disk = new MachineDisk(scheduler, random, "primary");
 *     disk.makeDirectory("/db");                 // durable at once, parents too
 *     disk.place("/db/Data.fs", bytes);          // a durable file
 *     const port: Disk = disk.port(life);        // for one process
 *     disk.bytes("/db/Data.fs");                 // what a reader sees now
 *     disk.durableBytes("/db/Data.fs");          // what is on the platter for sure
 *     disk.capacityBytes = 100_000;              // may be raised and lowered
 *     disk.syncLatencyMs = { least: 1, most: 500 };
 *     disk.faults.add({ on: "sync", effect: "error" });
 *     disk.crashImage(random);                   // what a power loss now might leave, without one
 *     disk.observers.add({ changed: (path) => … });
 *     disk.crash();                              // power loss; end the processes first (SimulatedMachine does)
 *
 * A killed process (its Life ended) loses its handles and locks and nothing else: what it has written is in
 * the page cache, and a sync under way goes on. A power loss keeps what was synced and any part of the rest
 * (inode.ts, names.ts). After a failed sync the pages it should have written count as clean, as on Linux: a
 * later sync succeeds without them, and a power loss may lose them.
 */
import { NotFoundError, UsageError } from "../../lib/errors.ts";
import type { Disk } from "../../lib/ports/mod.ts";
import { Faults, type Operation } from "./faults.ts";
import { Inode } from "./inode.ts";
import type { Life } from "./life.ts";
import { Names, parentOf } from "./names.ts";
import { ProcessDisk } from "./process_disk.ts";
import type { SeededRandom } from "./random.ts";
import type { Scheduler } from "./scheduler.ts";

/** A range of durations in simulated milliseconds, both ends included. */
export interface Latency {
  readonly least: number;
  readonly most: number;
}

/** What a checker can see of a disk, as it happens. All are called in the middle of the step. */
export interface DiskObserver {
  /** The bytes from `from` on have changed, in the page cache, of the file that a path names. */
  changed?(path: string, inode: Inode, from: number): void;
  /** The bytes from `from` on have changed on the platter. */
  settled?(path: string, inode: Inode, from: number): void;
  /** A path names another file, or none; `durable` when that is on the platter. */
  renamed?(path: string, durable: boolean): void;
  /** A process begins an operation. */
  operated?(operation: Operation | "lock", path: string, process: string): void;
  /** The power was lost: everything may be different. */
  crashed?(): void;
}

interface Watcher {
  readonly directory: string;
  readonly life: Life;
  readonly changed: () => void;
  pending: boolean;
}

export class MachineDisk {
  readonly name: string;
  readonly scheduler: Scheduler;
  readonly random: SeededRandom;
  readonly names = new Names();
  readonly faults = new Faults();
  /** The files that processes hold open; a file without a name lives as long as it is here. */
  readonly openInodes = new Map<Inode, number>();
  /** Who holds the lock of which file. */
  readonly locks = new Map<Inode, Life>();
  capacityBytes = Infinity;
  /** Whether a file can have two names. */
  hasLinks = true;
  /** How long a sync takes. */
  syncLatencyMs: Latency = { least: 0.1, most: 8 };
  /** How many of the changes a watcher never hears of. */
  missedChanges = 0.1;
  readonly observers = new Set<DiskObserver>();
  readonly #watchers = new Set<Watcher>();
  #nextInode = 1;

  constructor(scheduler: Scheduler, random: SeededRandom, name: string) {
    this.scheduler = scheduler;
    this.random = random.fork(`disk of ${name}`);
    this.name = name;
    this.names.place("/", this.newInode("directory"));
  }

  /** The disk as a process of this machine sees it. */
  port(life: Life): Disk {
    return new ProcessDisk(this, life);
  }

  /** Makes a directory and its parents, all durable at once. Making it again is harmless. */
  makeDirectory(path: string): void {
    if (path === "/") return;
    this.makeDirectory(parentOf(path)); // a durable entry does not make durable the one it stands under
    if (this.names.durable(path) !== undefined) return;
    this.names.place(path, this.names.get(path) ?? this.newInode("directory"));
  }

  /** Puts a new, durable file at a path, replacing what is there. */
  place(path: string, bytes: Uint8Array): void {
    this.makeDirectory(parentOf(path));
    this.names.place(path, this.newInode("file", bytes));
    this.changed(path);
    for (const observer of this.observers) observer.renamed?.(path, true);
  }

  /** Cuts a file where it is, durably, as an administrator does with a tool. */
  cut(path: string, size: number): void {
    const inode = this.file(path);
    inode.truncate(size);
    inode.settle(inode.mark());
    this.changed(path);
    for (const observer of this.observers) {
      observer.changed?.(path, inode, size);
      observer.settled?.(path, inode, size);
    }
  }

  /** Takes a file away, durably, as an administrator does who begins anew. */
  erase(path: string): void {
    this.names.erase(path);
    this.changed(path);
    for (const observer of this.observers) observer.renamed?.(path, true);
  }

  /** A copy of the file's present bytes; undefined when there is no file. */
  bytes(path: string): Uint8Array | undefined {
    return this.names.get(path)?.cache.view().slice();
  }

  /** A copy of what of the file is on the platter for sure; undefined when there is no file. */
  durableBytes(path: string): Uint8Array | undefined {
    return this.names.get(path)?.durableBytes();
  }

  /** Flips bits of the file on the platter and in the page cache alike, as a failing disk does. */
  damage(path: string, position: number, mask: number): void {
    const inode = this.names.get(path);
    if (inode === undefined) throw new Error(`Cannot damage ${path}: there is no such file`);
    const byte = new Uint8Array(1);
    inode.cache.read(byte, position);
    inode.write(byte.map((old) => old ^ mask), position);
    inode.settle(inode.mark());
  }

  /** The paths of all files. */
  paths(): string[] {
    return [...this.names.entries()].filter(([, inode]) => inode.kind === "file").map(([path]) => path)
      .sort();
  }

  /** Takes all files away, durably, also those whose removal a power loss would have undone. */
  eraseAll(): void {
    const removed = [...this.names.durableEntries()].filter(([, { kind }]) => kind === "file");
    for (const path of new Set([...this.paths(), ...removed.map(([path]) => path)])) this.erase(path);
  }

  /** What all files take, in bytes, also those that are open and have no name any more. */
  usedBytes(): number {
    const inodes = new Set(this.openInodes.keys());
    for (const [, inode] of this.names.entries()) inodes.add(inode);
    let sum = 0;
    for (const inode of inodes) sum += inode.cache.size;
    return sum;
  }

  /** The power is lost and comes back; the processes of the machine have ended before. */
  crash(): void {
    this.locks.clear();
    this.openInodes.clear();
    this.#watchers.clear();
    const undone = this.names.crash(this.random);
    this.note("crash, undone name changes", undone);
    const seen = new Set<Inode>();
    for (const [path, inode] of this.names.entries()) {
      if (seen.has(inode)) continue;
      seen.add(inode);
      const loss = inode.crash(this.random);
      this.note(`${path} after the crash: ${loss}; bytes`, inode.cache.size);
    }
    for (const observer of this.observers) observer.crashed?.();
  }

  /** The files that a power loss now might leave, by path; nothing is lost by asking. */
  crashImage(random: SeededRandom): Map<string, Uint8Array> {
    const files = new Map<string, Uint8Array>();
    const images = new Map<Inode, Uint8Array>();
    for (const [path, inode] of this.names.crashImage(random)) {
      if (inode.kind !== "file") continue;
      const bytes = images.get(inode) ?? inode.crashImage(random);
      images.set(inode, bytes);
      files.set(path, bytes);
    }
    return files;
  }

  newInode(kind: Inode["kind"], bytes?: Uint8Array): Inode {
    return new Inode(this.#nextInode++, kind, bytes);
  }

  /** The file at a path. @throws NotFoundError, UsageError */
  file(path: string): Inode {
    const inode = this.names.get(path);
    if (inode === undefined) throw new NotFoundError(`Cannot open ${path}: no such file`, { path });
    if (inode.kind !== "file") throw new UsageError(`Cannot open ${path}: it is a directory`, { path });
    return inode;
  }

  note(action: string, value: number): void {
    this.scheduler.note(`disk of ${this.name}`, action, value);
  }

  watch(directory: string, life: Life, changed: () => void): () => void {
    const watcher: Watcher = { directory, life, changed, pending: false };
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Tells watchers of the directory: late, once for several changes, sometimes never. */
  changed(path: string): void {
    if (this.#watchers.size === 0) return;
    const directory = parentOf(path);
    for (const watcher of this.#watchers) {
      if (watcher.directory !== directory || watcher.pending || this.random.chance(this.missedChanges)) {
        continue;
      }
      watcher.pending = true;
      const delayMs = this.random.chance(0.05) ? this.random.unit() * 200 : this.random.unit() * 0.5;
      this.scheduler.after(delayMs, () => {
        watcher.pending = false;
        if (this.#watchers.has(watcher) && watcher.life.alive) watcher.changed();
      });
    }
  }
}
