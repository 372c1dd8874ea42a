/**
 * Commits to a Data.fs as a ZODB FileStorage does: a transaction is written behind the end with status 'c'
 * (the vote), then its status is set and the file synced (the finish), or it is cut off again (an abort).
 * Whoever follows the file sees every one of these states.
 */
import { FIRST_POSITION, MAGIC, RECORD, TRAILER_SIZE, TRANSACTION } from "../../lib/filestorage/mod.ts";
import { viewOf, writeU64 } from "../../lib/bytes/mod.ts";
import type { BlockFile, Disk } from "../../lib/ports/mod.ts";
import { STATUS } from "../../lib/zodb/mod.ts";

/** A new revision of an object: with data of its own, or with that of its revision before the last. */
export type Change =
  | { readonly oid: bigint; readonly data: Uint8Array }
  | { readonly oid: bigint; readonly undo: true };

export interface Commit {
  readonly tid: bigint;
  readonly user: string;
  readonly description: string;
  /** A pickled dict, or nothing. */
  readonly extension: Uint8Array;
  readonly changes: readonly Change[];
}

/** An object's revisions that were written here: positions of data records. */
interface Revisions {
  readonly current: number;
  /** Has the data that an undo of the current one brings back; 0 when the object did not exist before. */
  readonly before: number;
}

const BACK_POINTER_SIZE = 8;

export class SourceWriter implements Disposable {
  readonly #file: BlockFile;
  readonly #resources: DisposableStack;
  readonly #revisions = new Map<bigint, Revisions>();
  readonly #encoder = new TextEncoder();
  /** Of what has been voted, not finished. */
  #voted: { readonly end: number; readonly revisions: ReadonlyMap<bigint, Revisions> } | undefined;
  #end: number;

  private constructor(file: BlockFile, end: number, resources: DisposableStack) {
    this.#file = file;
    this.#end = end;
    this.#resources = resources;
  }

  /** Makes a new database. @throws LockedError, UsageError, DiskError */
  static create(disk: Disk, path: string): SourceWriter {
    using owned = new DisposableStack();
    owned.use(disk.lock(`${path}.lock`));
    const file = owned.use(disk.create(path));
    file.writeAt(MAGIC, 0);
    return new SourceWriter(file, FIRST_POSITION, owned.move());
  }

  /**
   * Goes on with a database.
   * @param end behind its last finished transaction; what stands there is cut off
   * @throws LockedError, UsageError, DiskError
   */
  static open(disk: Disk, path: string, end: number): SourceWriter {
    using owned = new DisposableStack();
    owned.use(disk.lock(`${path}.lock`));
    const file = owned.use(disk.openWrite(path));
    file.truncate(end);
    return new SourceWriter(file, end, owned.move());
  }

  /** Writes the transaction, unfinished. @param pause is awaited half way through, as a slow disk would */
  async vote(commit: Commit, pause: () => Promise<void>): Promise<void> {
    const { bytes, revisions } = this.#encode(commit);
    const half = bytes.length >>> 1;
    this.#file.writeAt(bytes.subarray(0, half), this.#end);
    await pause();
    this.#file.writeAt(bytes.subarray(half), this.#end + half);
    this.#voted = { end: this.#end + bytes.length, revisions };
  }

  /** Makes what was voted final and, unless told not to wait for that, durable. */
  async finish(options: { sync: boolean } = { sync: true }): Promise<void> {
    if (this.#voted === undefined) throw new Error("Cannot finish: nothing was voted");
    this.#file.writeAt(Uint8Array.of(STATUS.committed), this.#end + TRANSACTION.status);
    for (const [oid, revisions] of this.#voted.revisions) this.#revisions.set(oid, revisions);
    this.#end = this.#voted.end;
    this.#voted = undefined;
    if (options.sync) await this.#file.sync();
  }

  /** Takes back what was voted. */
  abort(): void {
    this.#voted = undefined;
    this.#file.truncate(this.#end);
  }

  [Symbol.dispose](): void {
    this.#resources.dispose();
  }

  #encode(commit: Commit): { bytes: Uint8Array; revisions: Map<bigint, Revisions> } {
    const texts = [
      this.#encoder.encode(commit.user),
      this.#encoder.encode(commit.description),
      commit.extension,
    ];
    const headLength = TRANSACTION.size + sum(texts.map((text) => text.length));
    const length = headLength + sum(commit.changes.map((change) => RECORD.size + payloadLength(change)));
    const bytes = new Uint8Array(length + TRAILER_SIZE);
    const view = viewOf(bytes);
    view.setBigUint64(TRANSACTION.tid, commit.tid);
    writeU64(view, TRANSACTION.length, length);
    view.setUint8(TRANSACTION.status, STATUS.voted);
    let at: number = TRANSACTION.size;
    texts.forEach((text, index) => {
      view.setUint16(TRANSACTION.userLength + 2 * index, text.length);
      bytes.set(text, at);
      at += text.length;
    });
    const revisions = new Map<bigint, Revisions>();
    for (const change of commit.changes) {
      revisions.set(change.oid, this.#encodeRecord(view, at, commit.tid, change));
      at += RECORD.size + payloadLength(change);
    }
    writeU64(view, at, length);
    return { bytes, revisions };
  }

  #encodeRecord(view: DataView, at: number, tid: bigint, change: Change): Revisions {
    const known = this.#revisions.get(change.oid);
    const position = this.#end + at;
    view.setBigUint64(at + RECORD.oid, change.oid);
    view.setBigUint64(at + RECORD.tid, tid);
    writeU64(view, at + RECORD.previous, known?.current ?? 0);
    writeU64(view, at + RECORD.transaction, this.#end);
    if ("undo" in change) {
      // The data length stays 0, and in place of data stands where it is.
      writeU64(view, at + RECORD.size, known?.before ?? 0);
      return { current: position, before: known?.current ?? 0 };
    }
    writeU64(view, at + RECORD.dataLength, change.data.length);
    new Uint8Array(view.buffer).set(change.data, at + RECORD.size);
    return { current: position, before: known?.current ?? 0 };
  }
}

function payloadLength(change: Change): number {
  return "data" in change ? change.data.length : BACK_POINTER_SIZE;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
