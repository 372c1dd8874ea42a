/**
 * Transactions that came as bytes from another file of which this one is a prefix: before they count, each is
 * read as any transaction of this file is, and its links must lead where they would from here. So a source whose
 * file lies otherwise than it was believed to is found out, and not copied.
 */
import { describeTid, STATUS } from "../zodb/mod.ts";
import type { ObjectIndex } from "./index/object_index.ts";
import { RecordReader } from "./revision.ts";
import type { TransactionReader } from "./transaction.ts";
import type { ByteSource } from "./window.ts";

/** After so many bytes of a large transaction others run. */
const BYTES_BETWEEN_PAUSES = 16 * 1024 * 1024;

/** Told of every record: its header is loaded in the reader's window. Throws to refuse the transaction. */
export type ExamineRecord = (reader: TransactionReader) => void;

export class RawChecker {
  readonly #index: ObjectIndex;
  readonly #target: RecordReader;

  constructor(source: ByteSource, index: ObjectIndex) {
    this.#index = index;
    this.#target = new RecordReader(source);
  }

  /**
   * Checks the transaction at `position`.
   * @param lastTid the tid before
   * @returns the tid of the last transaction from here on: a cancelled one is none
   * @throws CorruptError, and what `examine` throws
   */
  check(
    reader: TransactionReader,
    position: number,
    lastTid: bigint,
    examine: ExamineRecord,
  ): bigint {
    if (isCancelled(reader, position, lastTid)) return lastTid;
    while (reader.nextRecord() >= 0) {
      this.#checkLinks(reader);
      examine(reader);
    }
    return reader.tid;
  }

  /** As {@link check} for a transaction of any size. @param pause lets other work run, now and then */
  async checkLarge(
    reader: TransactionReader,
    position: number,
    lastTid: bigint,
    examine: ExamineRecord,
    pause: () => Promise<void>,
  ): Promise<bigint> {
    if (isCancelled(reader, position, lastTid)) return lastTid;
    await forEachRecord(reader, pause, () => {
      this.#checkLinks(reader);
      examine(reader);
    });
    return reader.tid;
  }

  #checkLinks(reader: TransactionReader): void {
    const { oidHigh, oidLow, previous, backPointer, recordPosition } = reader;
    // Pack leaves records without a link to what was before.
    if (previous !== 0 && previous !== this.#index.get(oidHigh, oidLow)) {
      if (previous >= recordPosition) {
        throw reader.corrupt(`the link of its record at ${recordPosition} must lead backwards`);
      }
      this.#target.read(previous, oidHigh, oidLow);
    }
    if (backPointer !== 0) this.#target.read(backPointer, oidHigh, oidLow);
  }
}

/**
 * Calls back for every record of the transaction last read.
 * @param pause lets other work run, now and then
 * @throws CorruptError, and what `look` throws
 */
export async function forEachRecord(
  reader: TransactionReader,
  pause: () => Promise<void>,
  look: () => void,
): Promise<void> {
  let pausedAt = reader.position;
  while (reader.nextRecord() >= 0) {
    look();
    if (reader.recordPosition - pausedAt < BYTES_BETWEEN_PAUSES) continue;
    pausedAt = reader.recordPosition;
    await pause();
  }
}

/**
 * Reads the transaction at `position`.
 * @param lastTid the tid before
 * @throws CorruptError where it cannot follow that
 */
function isCancelled(reader: TransactionReader, position: number, lastTid: bigint): boolean {
  const state = reader.read(position);
  if (state !== "whole") throw reader.notWhole(state);
  if (reader.status === STATUS.undone) return true;
  if (reader.tid <= lastTid) {
    throw reader.corrupt(`its tid must be greater than the one before, ${describeTid(lastTid)}`);
  }
  return false;
}
