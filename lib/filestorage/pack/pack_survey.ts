/** What a database was at the pack time: which revision of each object was current, and where later history begins. */
import type { ReadableFile } from "../../ports/mod.ts";
import { describeTid, NO_TID, STATUS } from "../../zodb/mod.ts";
import { FIRST_POSITION, TRAILER_SIZE } from "../layout.ts";
import { ObjectIndex } from "../index/object_index.ts";
import type { Patience } from "../recover.ts";
import { RecordReader } from "../revision.ts";
import { TransactionReader } from "../transaction.ts";
import { Window } from "../window.ts";

export interface PackSurvey {
  /** Where each object's revision lies that was current then; objects that did not exist are left out. */
  readonly current: ObjectIndex;
  /** The record, of each of those that did not exist any more, that says so. */
  readonly gone: ObjectIndex;
  /** The position of the first transaction after the pack time: what lies before is packed. */
  readonly packEnd: number;
  /** What the heads and trailers of the transactions before it take, in bytes. */
  readonly headBytes: number;
  /** The last tid before it; NO_TID when there is none. */
  readonly lastTid: bigint;
  /** Whether a pack has been at that time already, or at a later one. */
  readonly isRedundant: boolean;
}

/** After so many transactions and records a walk lets others run. */
const STEPS_BETWEEN_PAUSES = 5_000;

/**
 * Walks over all transactions up to `stop`.
 * @param end the end of the last whole transaction
 * @param progress told how far it has come
 * @throws CorruptError, DiskError, and the signal's reason
 */
export async function surveyForPack(
  file: ReadableFile,
  end: number,
  stop: bigint,
  { pause, signal }: Patience,
  progress: (position: number) => void,
): Promise<PackSurvey> {
  const reader = new TransactionReader(new Window(file, end));
  const pointed = new RecordReader(file);
  const current = new ObjectIndex();
  const gone = new ObjectIndex();
  let lastTid = NO_TID;
  let position = FIRST_POSITION;
  let headBytes = 0;
  let hasUnpacked = false;
  let status: number = STATUS.committed;
  let steps = 0;
  while (position < end) {
    const state = reader.read(position);
    if (state !== "whole") throw reader.notWhole(state);
    status = reader.status;
    if (status !== STATUS.undone) {
      if (reader.tid <= lastTid) {
        throw reader.corrupt(`its tid must be greater than the one before, ${describeTid(lastTid)}`);
      }
      if (reader.tid > stop) break;
      lastTid = reader.tid;
      headBytes += reader.headLength + TRAILER_SIZE;
      for (; reader.nextRecord() >= 0; steps++) {
        const { oidHigh, oidLow, recordPosition } = reader;
        if (exists(reader, pointed)) {
          current.set(oidHigh, oidLow, recordPosition);
          if (gone.count > 0) gone.delete(oidHigh, oidLow);
        } else {
          current.delete(oidHigh, oidLow);
          gone.set(oidHigh, oidLow, recordPosition);
        }
      }
    }
    if (status !== STATUS.packed) hasUnpacked = true;
    position = reader.end;
    if (++steps < STEPS_BETWEEN_PAUSES) continue;
    steps = 0;
    progress(position);
    await pause?.();
    signal?.throwIfAborted();
  }
  const isRedundant = !hasUnpacked && status === STATUS.packed;
  return { current, gone, packEnd: position, headBytes, lastTid, isRedundant };
}

/** Whether the reader's record has data, its own or that of another; if not, the object does not exist any more. */
function exists(
  { dataLength, backPointer, oidHigh, oidLow }: TransactionReader,
  pointed: RecordReader,
): boolean {
  if (dataLength > 0) return true;
  if (backPointer === 0) return false;
  pointed.read(backPointer, oidHigh, oidLow);
  return pointed.resolve(oidHigh, oidLow);
}
