/** Telling the records of blobs in a file, also those that share the data of another record. */
import { BLOB_SNIFF_BYTES, isBlobRecord } from "../../zodb/mod.ts";
import type { BlobKey } from "./blob_directory.ts";
import { RECORD } from "../layout.ts";
import { RecordReader } from "../revision.ts";
import type { TransactionReader } from "../transaction.ts";
import type { ByteSource } from "../window.ts";

export class BlobFinder {
  readonly #source: ByteSource;
  readonly #target: RecordReader;
  readonly #beginning = new Uint8Array(BLOB_SNIFF_BYTES);

  constructor(source: ByteSource) {
    this.#source = source;
    this.#target = new RecordReader(source);
  }

  /**
   * Whether the record that the reader has moved to is a blob's.
   * @throws CorruptError where the file ends in it, or its back pointer leads astray; DiskError
   */
  isBlob(reader: TransactionReader): boolean {
    const { window, recordPosition, dataLength, backPointer, oidHigh, oidLow } = reader;
    if (dataLength > 0) {
      const length = RECORD.size + Math.min(dataLength, BLOB_SNIFF_BYTES);
      const at = window.locate(recordPosition, length);
      if (at < 0) throw reader.corrupt("the file ends within a record");
      return isBlobRecord(window.bytes, at + RECORD.size, at + length);
    }
    if (backPointer === 0) return false;
    const target = this.#target;
    target.read(backPointer, oidHigh, oidLow);
    return target.resolve(oidHigh, oidLow) && this.isBlobAt(target.dataPosition, target.dataLength);
  }

  /** Whether data that lie at a position are a blob's. @throws DiskError */
  isBlobAt(position: number, length: number): boolean {
    const beginning = this.#beginning.subarray(0, Math.min(length, BLOB_SNIFF_BYTES));
    const count = this.#source.readAt(beginning, position);
    return isBlobRecord(beginning, 0, count);
  }
}

/** Which revision the record is that the reader has moved to: its own tid, as ZODB names the blob's file by it. */
export function blobKeyOf(reader: TransactionReader): BlobKey {
  const { window, recordPosition, oid } = reader;
  const at = window.locate(recordPosition, RECORD.size);
  if (at < 0) throw reader.corrupt("the file ends within a record");
  return { oid, tid: window.view.getBigUint64(at + RECORD.tid) };
}
