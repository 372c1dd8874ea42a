/**
 * One open file. Reads and writes are positional and synchronous; syncing runs in another thread on a
 * duplicate of the descriptor, which the runtime makes. So neither reads nor writes wait behind a sync, a file
 * may be closed while it is being synced, and a writing-back error that the kernel keeps for this open file is
 * reported by the next sync of it.
 *
 * A sync of little that is known to be quick is made at once instead: on a busy machine, being woken up again
 * by another thread takes several times as long as the sync itself.
 *
 * Large writes may run in another thread too. Of the runtime's calls only those with a cursor do that (a
 * positional one has a callback, and yet does its work before it returns), so they have a handle of their own.
 */

import fs from "node:fs";
import type { BlockFile } from "../ports/mod.ts";
import { openFileFailure } from "./failure.ts";

/** The most that one system call moves on Linux. More is asked for in several calls. */
const MAX_CALL_BYTES = 0x7fff_f000;

/** Syncing up to so many bytes of our own is expected to take as long as the last time. */
const SMALL_SYNC_BYTES = 64 * 1024;

/** What may be waited for in place: what takes longer would keep others from being served. */
const QUICK_SYNC_MS = 4;

/** Takes over an open descriptor of a regular file. One that was opened for reading only cannot write. */
export class HostFile implements BlockFile {
  readonly path: string;
  readonly #identity: string;
  #descriptor: number | undefined;
  /** The same file with a cursor, for {@link write}; null where the system does not open one. */
  #cursor: Deno.FsFile | null | undefined;
  /** Settles when the last {@link write} so far has: there is one cursor. */
  #writing: Promise<unknown> = Promise.resolve();
  /** Bytes written through us since the last sync. */
  #unsynced = 0;
  /** Whether the last sync of little was quick. */
  #syncsQuickly = false;

  constructor(path: string, descriptor: number, identity: string) {
    this.path = path;
    this.#descriptor = descriptor;
    this.#identity = identity;
  }

  /** The descriptor; using a closed file is a bug of the caller, and another file may have its number by now. */
  get #open(): number {
    if (this.#descriptor === undefined) throw new Error(`Cannot use ${this.path}: it has been closed`);
    return this.#descriptor;
  }

  readAt(into: Uint8Array, position: number): number {
    const descriptor = this.#open;
    let done = 0;
    try {
      while (done < into.length) {
        const want = Math.min(into.length - done, MAX_CALL_BYTES);
        const got = fs.readSync(descriptor, into, done, want, position + done);
        if (got === 0) break;
        done += got;
      }
    } catch (error) {
      throw openFileFailure(`Cannot read ${this.path} at position ${position + done}`, this.path, error);
    }
    return done;
  }

  writeAt(bytes: Uint8Array, position: number): void {
    const descriptor = this.#open;
    let done = 0;
    this.#unsynced += bytes.length;
    try {
      while (done < bytes.length) {
        const want = Math.min(bytes.length - done, MAX_CALL_BYTES);
        done += fs.writeSync(descriptor, bytes, done, want, position + done);
      }
    } catch (error) {
      throw openFileFailure(`Cannot write ${this.path} at position ${position + done}`, this.path, error);
    }
  }

  write(bytes: Uint8Array, position: number): Promise<void> {
    const written = this.#writing.then(() => this.#writeElsewhere(bytes, position));
    this.#writing = written.catch(() => {}); // told to whoever asked for it
    return written;
  }

  truncate(size: number): void {
    const descriptor = this.#open;
    try {
      fs.ftruncateSync(descriptor, size);
    } catch (error) {
      throw openFileFailure(`Cannot cut ${this.path} to ${size} bytes`, this.path, error);
    }
  }

  size(): number {
    const descriptor = this.#open;
    try {
      return fs.fstatSync(descriptor).size;
    } catch (error) {
      throw openFileFailure(`Cannot read the size of ${this.path}`, this.path, error);
    }
  }

  identity(): string {
    return this.#identity;
  }

  async sync(): Promise<void> {
    const descriptor = this.#open;
    const isSmall = this.#unsynced <= SMALL_SYNC_BYTES;
    this.#unsynced = 0;
    const start = performance.now();
    if (isSmall && this.#syncsQuickly) syncAtOnce(descriptor, this.path);
    else await syncDescriptor(descriptor, this.path);
    if (isSmall) this.#syncsQuickly = performance.now() - start < QUICK_SYNC_MS;
  }

  close(): void {
    if (this.#descriptor === undefined) return;
    const descriptor = this.#descriptor;
    this.#descriptor = undefined;
    try {
      this.#cursor?.close();
      fs.closeSync(descriptor);
    } catch (error) {
      throw openFileFailure(`Cannot close ${this.path}`, this.path, error);
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #writeElsewhere(bytes: Uint8Array, position: number): Promise<void> {
    const cursor = this.#cursor ??= openAgain(this.#open, this.#identity);
    if (cursor === null) return this.writeAt(bytes, position);
    let done = 0;
    this.#unsynced += bytes.length;
    try {
      cursor.seekSync(position, Deno.SeekMode.Start);
      while (done < bytes.length) {
        done += await cursor.write(bytes.subarray(done, done + MAX_CALL_BYTES));
      }
    } catch (error) {
      throw openFileFailure(`Cannot write ${this.path} at position ${position + done}`, this.path, error);
    }
  }
}

/**
 * Another handle on the very file, whatever its path leads to by now; null where the system has no such way, or
 * leads to another file: then only speed is lost.
 */
function openAgain(descriptor: number, identity: string): Deno.FsFile | null {
  try {
    const again = Deno.openSync(`/dev/fd/${descriptor}`, { write: true });
    const { dev, ino } = again.statSync();
    if (`${dev}:${ino}` === identity) return again;
    again.close();
  } catch {
    // As if there were no such way.
  }
  return null;
}

/** Waits until a file or directory is on disk. The descriptor may be closed meanwhile. @throws DiskError */
export function syncDescriptor(descriptor: number, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    fs.fsync(descriptor, (error) => {
      if (error) reject(openFileFailure(`Cannot sync ${path}`, path, error));
      else resolve();
    });
  });
}

function syncAtOnce(descriptor: number, path: string): void {
  try {
    fs.fsyncSync(descriptor);
  } catch (error) {
    throw openFileFailure(`Cannot sync ${path}`, path, error);
  }
}
