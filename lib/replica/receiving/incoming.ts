/** From the messages of a stream to transactions at the end of a file, and to the files of blobs beside it. */
import {
  BlobFinder,
  type BlobKey,
  blobKeyOf,
  type Restorer,
  type TransactionReader,
} from "../../filestorage/mod.ts";
import { UnavailableError } from "../../errors.ts";
import type { Log } from "../../ports/mod.ts";
import {
  BLOB_SNIFF_BYTES,
  describeTid,
  formatTid,
  isBlobRecord,
  type TransactionHead,
} from "../../zodb/mod.ts";
import type { StreamHandler } from "../../zrs/mod.ts";
import { type BlobReception, contentsOf, describeBlob, IS_BLOB } from "../blob_use.ts";
import type { IncomingBlobs } from "./incoming_blobs.ts";

export interface IncomingOptions {
  readonly blobs: BlobReception;
  readonly log: Log;
  /** Sees each transaction before it begins here; what it throws ends the stream. */
  readonly watch?: (head: TransactionHead) => void;
}

/** The source sends what was not asked for, or not what was. */
export class UnwantedError extends UnavailableError {}

export class Incoming implements StreamHandler {
  readonly #restorer: Restorer;
  readonly #options: IncomingOptions;
  readonly #finder: BlobFinder;
  /** Where the contents of blobs go to, if they are taken. */
  readonly #contents: IncomingBlobs | undefined;
  /** The blobs among the records that have come since the last transaction was whole. */
  #blobs: BlobKey[] = [];
  #oidHigh = 0;
  #oidLow = 0;
  #recordTid = 0n;
  /** Whether the content of a blob comes behind the record's data. */
  #hasContent = false;
  /** The record's first bytes while they come in pieces too small to tell a blob by. */
  readonly #beginning = new Uint8Array(BLOB_SNIFF_BYTES);
  #begun = 0;
  /** How many of the record's bytes are wanted before it can be told; 0 once that is done. */
  #wanted = 0;

  constructor(restorer: Restorer, options: IncomingOptions) {
    this.#restorer = restorer;
    this.#options = options;
    this.#finder = new BlobFinder(restorer.source);
    this.#contents = contentsOf(options.blobs);
  }

  transaction(head: TransactionHead, notes: { extension: "kept" | "rewritten" | "too long" }): void {
    this.#options.watch?.(head);
    this.#blobs = [];
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
    this.#recordTid = tid;
    this.#begun = 0;
    this.#wanted = this.#isOff ? 0 : Math.min(dataLength, BLOB_SNIFF_BYTES);
    this.#hasContent = blocks !== undefined && !this.#isOff;
    if (this.#hasContent) {
      this.#meetBlob(this.#key);
      this.#contents?.begin(this.#key, 0);
    }
    this.#restorer.record(oidHigh, oidLow, tid, dataTxn, dataLength);
  }

  data(source: Uint8Array, from: number, to: number): void {
    if (this.#wanted > 0) this.#sniff(source, from, to);
    this.#restorer.data(source, from, to);
  }

  /** A part of the content, where it comes behind the record's data. */
  blobBlock(source: Uint8Array, from: number, to: number): void {
    if (this.#hasContent) this.#contents?.data(source, from, to);
  }

  recordEnd(): void {
    if (this.#hasContent) this.#contents?.end();
    this.#restorer.endRecord();
  }

  /** @throws UnwantedError where a blob of the transaction has no file */
  commit(): void {
    for (const key of this.#blobs) this.#mustHave(key);
    this.#restorer.commit();
    this.keepBlobs();
  }

  /**
   * Looks at a record that lies in a file. When its transaction is whole, {@link keepBlobs} must follow.
   * @throws UnwantedError for a blob that is refused, or has no file
   */
  examine(reader: TransactionReader): void {
    if (this.#isOff || !this.#finder.isBlob(reader)) return;
    const key = blobKeyOf(reader);
    this.#meetBlob(key);
    this.#mustHave(key);
  }

  /** The transactions have become whole of which records were looked at. */
  keepBlobs(): void {
    if (this.#blobs.length === 0) return;
    for (const key of this.#blobs) this.#contents?.keep(key);
    this.#blobs = [];
  }

  get #isOff(): boolean {
    return this.#options.blobs.choice === "none";
  }

  get #key(): BlobKey {
    return { oid: (BigInt(this.#oidHigh) << 32n) | BigInt(this.#oidLow), tid: this.#recordTid };
  }

  #sniff(source: Uint8Array, from: number, to: number): void {
    if (this.#begun === 0 && to - from >= this.#wanted) {
      if (isBlobRecord(source, from, to)) this.#meetBlob(this.#key);
      this.#wanted = 0;
      return;
    }
    const count = Math.min(this.#wanted - this.#begun, to - from);
    this.#beginning.set(source.subarray(from, from + count), this.#begun);
    this.#begun += count;
    if (this.#begun < this.#wanted) return;
    if (isBlobRecord(this.#beginning, 0, this.#wanted)) this.#meetBlob(this.#key);
    this.#wanted = 0;
  }

  #meetBlob(key: BlobKey): void {
    this.#blobs.push(key);
    if (this.#options.blobs.choice !== "refuse") return;
    throw new UnwantedError(
      `Cannot store ${describeBlob(key)}: ${IS_BLOB}, and there is no directory for blobs`,
      {
        ...key,
        hint: "give --blob-dir to replicate blobs, or --blobs none to go on without their files",
      },
    );
  }

  #mustHave(key: BlobKey): void {
    const { blobs } = this.#options;
    if (blobs.choice === "replicate" && !blobs.incoming.has(key)) {
      throw new UnwantedError(
        `Cannot store ${
          describeBlob(key)
        }: ${IS_BLOB}, and the source has sent the record without the content`,
        { ...key, hint: "look whether its file is in the blob directory of the source" },
      );
    }
    if (blobs.choice === "shared" && !blobs.directory.has(key)) {
      const path = blobs.directory.pathOf(key);
      throw new UnwantedError(
        `Cannot store ${describeBlob(key)}: ${IS_BLOB}, and there is no file ${path}`,
        {
          ...key,
          path,
          hint: "--blobs shared is for a --blob-dir that source and replica have in common",
        },
      );
    }
  }
}
