/** From the messages of a stream to transactions at the end of a file. */
import { RECORD, type Restorer, type TransactionReader } from "../filestorage/mod.ts";
import { UnavailableError } from "../errors.ts";
import type { Log } from "../ports/mod.ts";
import {
  BLOB_SNIFF_BYTES,
  describeTid,
  formatOid,
  formatTid,
  isBlobRecord,
  type TransactionHead,
} from "../zodb/mod.ts";
import type { StreamHandler } from "../zrs/mod.ts";

export interface IncomingOptions {
  /** `refuse` ends the stream at the first blob; `none` keeps records without the blobs' files. */
  readonly blobs: "refuse" | "none";
  readonly log: Log;
  /** Sees each transaction before it begins here; what it throws ends the stream. */
  readonly watch?: (head: TransactionHead) => void;
}

/** The source sends what was not asked for. */
export class UnwantedError extends UnavailableError {}

export class Incoming implements StreamHandler {
  readonly #restorer: Restorer;
  readonly #options: IncomingOptions;
  #tid = 0n;
  #oidHigh = 0;
  #oidLow = 0;
  /** The record's first bytes while they come in pieces too small to tell a blob by. */
  readonly #beginning = new Uint8Array(BLOB_SNIFF_BYTES);
  #begun = 0;
  /** How many of the record's bytes are wanted before it can be told; 0 once that is done. */
  #wanted = 0;

  constructor(restorer: Restorer, options: IncomingOptions) {
    this.#restorer = restorer;
    this.#options = options;
  }

  transaction(head: TransactionHead, notes: { extension: "kept" | "rewritten" | "too long" }): void {
    this.#options.watch?.(head);
    this.#tid = head.tid;
    if (notes.extension === "too long") {
      this.#options.log.warning(
        `The extension of transaction ${describeTid(head.tid)} is too long to be stored: it is left out`,
        { tid: formatTid(head.tid) },
      );
    }
    this.#restorer.begin(head);
  }

  record(
    oidHigh: number,
    oidLow: number,
    tid: bigint,
    dataTxn: bigint | undefined,
    dataLength: number,
    blocks: number | undefined,
  ): void {
    this.#oidHigh = oidHigh;
    this.#oidLow = oidLow;
    const refuse = this.#options.blobs === "refuse";
    if (blocks !== undefined && refuse) this.#meetBlob();
    this.#begun = 0;
    this.#wanted = refuse ? Math.min(dataLength, BLOB_SNIFF_BYTES) : 0;
    this.#restorer.record(oidHigh, oidLow, tid, dataTxn, dataLength);
  }

  data(source: Uint8Array, from: number, to: number): void {
    if (this.#wanted > 0) this.#sniff(source, from, to);
    this.#restorer.data(source, from, to);
  }

  recordEnd(): void {
    this.#restorer.endRecord();
  }

  blobBlock(): void {
    // Only reached with --blobs none: the record is kept, the blob's bytes are passed over.
  }

  commit(): void {
    this.#restorer.commit();
  }

  /** Looks at a record that lies in a file. @throws UnwantedError for a blob that is refused */
  examine(reader: TransactionReader): void {
    if (this.#options.blobs === "none" || reader.dataLength === 0) return;
    const { window, recordPosition, dataLength } = reader;
    const length = RECORD.size + Math.min(dataLength, BLOB_SNIFF_BYTES);
    const at = window.locate(recordPosition, length);
    if (at < 0 || !isBlobRecord(window.bytes, at + RECORD.size, at + length)) return;
    this.#tid = reader.tid;
    this.#oidHigh = reader.oidHigh;
    this.#oidLow = reader.oidLow;
    this.#meetBlob();
  }

  #sniff(source: Uint8Array, from: number, to: number): void {
    if (this.#begun === 0 && to - from >= this.#wanted) {
      if (isBlobRecord(source, from, to)) this.#meetBlob();
      this.#wanted = 0;
      return;
    }
    const count = Math.min(this.#wanted - this.#begun, to - from);
    this.#beginning.set(source.subarray(from, from + count), this.#begun);
    this.#begun += count;
    if (this.#begun < this.#wanted) return;
    if (isBlobRecord(this.#beginning, 0, this.#wanted)) this.#meetBlob();
    this.#wanted = 0;
  }

  #meetBlob(): void {
    const oid = (BigInt(this.#oidHigh) << 32n) | BigInt(this.#oidLow);
    throw new UnwantedError(
      `Cannot store object ${formatOid(oid)} of transaction ${describeTid(this.#tid)}: it is a blob, ` +
        `and blobs are not replicated yet`,
      {
        oid,
        tid: this.#tid,
        hint: "start with --blobs none to replicate the records without the blobs' files",
      },
    );
  }
}
