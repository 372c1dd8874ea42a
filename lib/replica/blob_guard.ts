/**
 * Keeps blobs from being sent by a source that was told to refuse them: their files are not replicated, and whoever
 * gets a blob's record alone has half of it. Both protocols ask here, for the choice is the source's, whatever the
 * secondary would take.
 */
import { UnavailableError } from "../errors.ts";
import { type ByteSource, RECORD, RecordReader, type TransactionReader } from "../filestorage/mod.ts";
import { BLOB_SNIFF_BYTES, describeTid, formatOid, isBlobRecord } from "../zodb/mod.ts";

export class BlobGuard {
  readonly #source: ByteSource;
  readonly #target: RecordReader;
  readonly #beginning = new Uint8Array(BLOB_SNIFF_BYTES);
  readonly isOff: boolean;

  /** @param blobs `none`: all may pass */
  constructor(source: ByteSource, blobs: "refuse" | "none") {
    this.#source = source;
    this.#target = new RecordReader(source);
    this.isOff = blobs === "none";
  }

  /**
   * Looks at the record that the reader has moved to, which may have a back pointer in place of data.
   * @throws UnavailableError for a blob's; CorruptError where its back pointer leads astray; DiskError
   */
  examine(reader: TransactionReader): void {
    if (this.isOff) return;
    const { window, recordPosition, dataLength, backPointer, oidHigh, oidLow } = reader;
    if (dataLength > 0) {
      const length = RECORD.size + Math.min(dataLength, BLOB_SNIFF_BYTES);
      const at = window.locate(recordPosition, length);
      if (at < 0) throw reader.corrupt("the file ends within a record");
      this.examineBytes(reader, window.bytes, at + RECORD.size, at + length);
    } else if (backPointer !== 0) {
      const target = this.#target;
      target.read(backPointer, oidHigh, oidLow);
      if (target.resolve(oidHigh, oidLow)) this.examineAt(reader, target.dataPosition, target.dataLength);
    }
  }

  /** As {@link examine}, where the record's data begin so in memory. */
  examineBytes(reader: TransactionReader, bytes: Uint8Array, from: number, to: number): void {
    if (!this.isOff && isBlobRecord(bytes, from, to)) refuse(reader);
  }

  /** As {@link examine}, where the record's data lie at a position in the file. */
  examineAt(reader: TransactionReader, position: number, length: number): void {
    if (this.isOff) return;
    const beginning = this.#beginning.subarray(0, Math.min(length, BLOB_SNIFF_BYTES));
    const count = this.#source.readAt(beginning, position);
    this.examineBytes(reader, beginning, 0, count);
  }
}

function refuse({ oid, tid }: TransactionReader): never {
  throw new UnavailableError(
    `Cannot send object ${formatOid(oid)} of transaction ${describeTid(tid)}: it is a blob, ` +
      `and blobs are not replicated yet`,
    {
      oid,
      tid,
      hint: "start both ends with --blobs none to replicate the records without the blobs' files",
    },
  );
}
