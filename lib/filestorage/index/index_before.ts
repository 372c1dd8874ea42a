/**
 * The index of a file's beginning, for when what follows is taken back. As a rule the links of the records that
 * go lead to what counted before them; where they cannot be relied on, the beginning is scanned.
 */
import { CorruptError } from "../../errors.ts";
import type { BlockFile } from "../../ports/mod.ts";
import { NO_TID, STATUS } from "../../zodb/mod.ts";
import { FIRST_POSITION } from "../layout.ts";
import { ObjectIndex } from "./object_index.ts";
import { type Patience, scan } from "../recover.ts";
import { RecordReader } from "../revision.ts";
import { TransactionReader } from "../transaction.ts";
import { Window } from "../window.ts";

/** The end of a file's beginning. */
export interface KeptEnd {
  readonly end: number;
  /** The tid of the last transaction that counts before it. */
  readonly lastTid: bigint;
}

/**
 * The index as of `kept`.
 * @param index as of `end`; it may be changed, also when this fails
 * @returns that index, or a new one
 * @throws CorruptError, DiskError, the signal's reason
 */
export async function indexBefore(
  file: BlockFile,
  index: ObjectIndex,
  kept: KeptEnd,
  end: number,
  patience: Patience,
): Promise<ObjectIndex> {
  const isShorterToScan = kept.end <= end - kept.end;
  if (!isShorterToScan && linksLeadBack(file, kept.end, end)) {
    followLinks(file, index, kept.end, end);
    if (endsBefore(index, kept.end)) return index;
  }
  const scanned = new ObjectIndex();
  const found = await scan(file, FIRST_POSITION, NO_TID, kept.end, scanned, patience);
  if (found.end !== kept.end || found.lastTid !== kept.lastTid) {
    throw new CorruptError(
      `Cannot index ${file.path} up to ${kept.end}: its transactions can be read up to ${found.end} only`,
      { path: file.path, position: found.end },
    );
  }
  return scanned;
}

/** Pack writes no links, and old revisions may stand before what it has copied. */
function linksLeadBack(file: BlockFile, from: number, to: number): boolean {
  const reader = new TransactionReader(new Window(file, to));
  const record = new RecordReader(file);
  try {
    for (let position = from; position < to; position = reader.end) {
      if (reader.read(position) !== "whole" || reader.status === STATUS.packed) return false;
      if (reader.status === STATUS.undone) continue;
      while (reader.nextRecord() >= 0) {
        const { previous, oidHigh, oidLow } = reader;
        if (previous !== 0 && previous < from) record.read(previous, oidHigh, oidLow);
      }
    }
  } catch (error) {
    if (error instanceof CorruptError) return false;
    throw error;
  }
  return true;
}

function followLinks(file: BlockFile, index: ObjectIndex, from: number, to: number): void {
  const reader = new TransactionReader(new Window(file, to));
  for (let position = from; position < to; position = reader.end) {
    if (reader.read(position) !== "whole") return;
    if (reader.status === STATUS.undone) continue;
    while (reader.nextRecord() >= 0) {
      const { previous, oidHigh, oidLow } = reader;
      if (previous === 0) index.delete(oidHigh, oidLow);
      else if (previous < from) index.set(oidHigh, oidLow, previous);
      // Otherwise another record that goes has led back already.
    }
  }
}

function endsBefore(index: ObjectIndex, end: number): boolean {
  let ends = true;
  index.forEach((_high, _low, position) => {
    if (position >= end) ends = false;
  });
  return ends;
}
