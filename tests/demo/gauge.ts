/** Looks at a database from outside, while its owner writes: how far it has come. */
import { FIRST_POSITION, TransactionReader, Window } from "../../lib/filestorage/mod.ts";
import type { Disk, ReadableFile } from "../../lib/ports/mod.ts";
import { NO_TID, STATUS } from "../../lib/zodb/mod.ts";

export class Gauge implements Disposable {
  readonly #disk: Disk;
  readonly #path: string;
  #file: ReadableFile | undefined;
  #reader: TransactionReader | undefined;
  /** Finished transactions, those cancelled by very old versions left out: nobody replicates them. */
  transactions = 0;
  lastTid = NO_TID;
  /** The file's size up to the end of the last finished transaction, in bytes. */
  bytes = 0;
  /** Bytes behind that: what is not finished yet. */
  unfinishedBytes = 0;

  constructor(disk: Disk, path: string) {
    this.#disk = disk;
    this.#path = path;
  }

  /** Counts what has come since the last look. A file that is not there yet has nothing. @throws DiskError */
  look(): void {
    if (this.#file === undefined) {
      if (this.#disk.status(this.#path) === undefined) return;
      this.#file = this.#disk.openRead(this.#path);
      this.bytes = FIRST_POSITION;
    }
    const size = this.#file.size();
    const reader = this.#reader ??= new TransactionReader(new Window(this.#file, size));
    // What was read before may have changed behind the last finished transaction.
    reader.window.reset(this.#file, size);
    while (reader.read(this.bytes) === "whole") {
      if (reader.status !== STATUS.undone) {
        this.transactions++;
        this.lastTid = reader.tid;
      }
      this.bytes = reader.end;
    }
    this.unfinishedBytes = size - this.bytes;
  }

  [Symbol.dispose](): void {
    this.#file?.close();
    this.#file = undefined;
  }
}
