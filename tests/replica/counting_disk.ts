/** A disk in memory that counts what is read from it, and which of its files are open. */
import type { ReadableFile } from "../../lib/ports/mod.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import type { MemoryFile } from "../kit/memory_file.ts";

export class CountingDisk extends MemoryDisk {
  /** Bytes read from the file at each path. */
  readonly bytesRead = new Map<string, number>();
  /** How many handles on each file are open, by the file's identity. */
  readonly open = new Map<string, number>();

  override read(path: string, file: MemoryFile, into: Uint8Array, position: number): number {
    const count = super.read(path, file, into, position);
    this.bytesRead.set(path, (this.bytesRead.get(path) ?? 0) + count);
    return count;
  }

  override openRead(path: string): ReadableFile {
    const file = super.openRead(path);
    const identity = file.identity();
    const close = file.close.bind(file);
    let isOpen = true;
    this.#add(identity, 1);
    file.close = () => {
      if (isOpen) this.#add(identity, -1);
      isOpen = false;
      close();
    };
    return file;
  }

  #add(identity: string, count: number): void {
    this.open.set(identity, (this.open.get(identity) ?? 0) + count);
  }
}
