/** Histories of files as ZODB reports them (python/history.py), and their comparison. */
import assert from "node:assert/strict";

/** A data record. Oids and tids are 16 hexadecimal digits; positions, lengths in bytes. */
export interface HistoryRecord {
  readonly oid: string;
  readonly tid: string;
  /** The transaction that a back pointer leads to directly; null without one. */
  readonly dataTxn: string | null;
  /** Length and SHA-256 of the data, back pointers followed; null when the object does not exist. */
  readonly length: number | null;
  readonly sha256: string | null;
  readonly position: number;
  readonly previous: number;
  /** Null for a record with data of its own; 0 when the object does not exist. */
  readonly backPointer: number | null;
  /** Of a blob's record, if a blob directory was given; null when the file is missing. */
  readonly blob?: { readonly length: number; readonly sha256: string } | null;
}

export interface HistoryTransaction {
  readonly tid: string;
  readonly status: string;
  /** The three texts in base64; the extension as it lies in the file. */
  readonly user: string;
  readonly description: string;
  readonly extension: string;
  readonly position: number;
  readonly records: readonly HistoryRecord[];
}

/** The finished transactions of a file, oldest first. */
export type History = readonly HistoryTransaction[];

/** Without what depends on where in the file a transaction lies. */
function withoutPositions(history: History): unknown {
  return history.map(({ position: _, records, ...transaction }) => ({
    ...transaction,
    records: records.map(({ position: _, previous: __, backPointer: ___, ...record }) => record),
  }));
}

/** Asserts that two files say the same, wherever in the file each transaction lies. */
export function assertSameHistory(actual: History, expected: History): void {
  assert.deepEqual(withoutPositions(actual), withoutPositions(expected));
}
