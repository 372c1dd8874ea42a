/** What there is to know of a database before a copy of it takes part: one walk through all its records. */
import { FIRST_POSITION, RECORD, TransactionReader, Window } from "../../lib/filestorage/mod.ts";
import type { ReadableFile } from "../../lib/ports/mod.ts";
import { BLOB_SNIFF_BYTES, isBlobRecord, NO_TID, STATUS } from "../../lib/zodb/mod.ts";

export interface Survey {
  /** Behind the last finished transaction, in bytes from the start. */
  readonly end: number;
  /** Bytes behind that: of a transaction that was being written, or never finished. */
  readonly unfinishedBytes: number;
  readonly lastTid: bigint;
  readonly transactions: number;
  /** Of any record; 0 when there is none. */
  readonly greatestOid: bigint;
  /** Records whose content lies in files beside the database. */
  readonly blobRecords: number;
  /** Whether the file has been packed, or undone in the manner of very old versions: not every byte is copied then. */
  readonly rewritten: boolean;
}

/**
 * Walks through the finished transactions; what stands behind them is left out.
 * @throws CorruptError
 */
export function survey(file: ReadableFile): Survey {
  const size = file.size();
  const reader = new TransactionReader(new Window(file, size));
  let end = FIRST_POSITION;
  let lastTid = NO_TID;
  let transactions = 0;
  let greatestOid = 0n;
  let blobRecords = 0;
  let rewritten = false;
  let state = reader.read(end);
  for (; state === "whole"; state = reader.read(end)) {
    end = reader.end;
    transactions++;
    if (reader.status !== STATUS.undone) lastTid = reader.tid;
    if (reader.status !== STATUS.committed) rewritten = true;
    while (reader.nextRecord() >= 0) {
      if (reader.oid > greatestOid) greatestOid = reader.oid;
      if (isBlob(reader)) blobRecords++;
    }
  }
  if (state === "damaged") throw reader.corrupt(reader.damage);
  const unfinishedBytes = Math.max(0, size - end);
  return { end, unfinishedBytes, lastTid, transactions, greatestOid, blobRecords, rewritten };
}

/** Whether the record last read has data of its own that is a blob's. */
function isBlob({ window, recordPosition, dataLength }: TransactionReader): boolean {
  const length = Math.min(dataLength, BLOB_SNIFF_BYTES);
  const at = length === 0 ? -1 : window.locate(recordPosition + RECORD.size, length);
  return at >= 0 && isBlobRecord(window.bytes, at, at + length);
}
