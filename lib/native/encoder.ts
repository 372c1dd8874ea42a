/**
 * The source's side of the native stream: runs as they lie in the file, or transactions record by record, into the
 * buffers of whoever sends them (docs/native_protocol.md, "Runs"). No I/O, no object per record; the caller sees
 * to it that there is room.
 */
import { constants, zstdCompressSync } from "node:zlib";
import { PREFIX_LENGTH, putPrefix, viewOf, writeU64 } from "../bytes/mod.ts";
import type { TransactionHead } from "../zodb/mod.ts";
import { Checksum } from "./checksum.ts";
import {
  BLOB_FRAME,
  COMMIT,
  COMPRESSED,
  KIND,
  MAX_DATA_BYTES,
  NO_CONTENT,
  RECORD_FRAME,
  TRANSACTION_FRAME,
  WHOLE,
} from "./frames.ts";

/** What a data frame costs besides its content. */
const DATA_FRONT = PREFIX_LENGTH + 1;
/** Room for a record's head or a commit, and for some data. */
export const MAX_HEAD_FRAME = PREFIX_LENGTH + RECORD_FRAME.size + DATA_FRONT;
/** Less gets no shorter as a rule. */
const LEAST_COMPRESSED_BYTES = 512;
const FAST = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
const WHOLE_FRAME = PREFIX_LENGTH + WHOLE.size;

export class NativeEncoder {
  readonly #checksum = new Checksum();
  #target: Uint8Array = new Uint8Array();
  #view: DataView = viewOf(this.#target);
  #length = 0;
  /** Where the data frame that may still grow begins; -1 for none. */
  #dataAt = -1;
  #dataLeft = 0;
  #blobLeft = 0;

  /** Bytes of transactions encoded so far, and the checksum over them. */
  get checksum(): Readonly<Checksum> {
    return this.#checksum;
  }

  /** Whether content is compressed where that makes it shorter. */
  isCompressing = false;

  /** Gives the encoder an empty buffer to fill; the first `length` bytes of it are then to be sent. */
  attach(target: Uint8Array): void {
    this.#target = target;
    this.#view = viewOf(target);
    this.#length = 0;
    this.#dataAt = -1;
  }

  /** Bytes put into the buffer so far. */
  get length(): number {
    return this.#length;
  }

  /** How much content the buffer still takes, what goes around it not counted. */
  get room(): number {
    return Math.max(0, this.#target.length - this.#length - DATA_FRONT - WHOLE_FRAME);
  }

  /** How much room a transaction's head needs. */
  headRoom(head: TransactionHead): number {
    return PREFIX_LENGTH + TRANSACTION_FRAME.texts + head.user.length + head.description.length +
      head.extension.length;
  }

  /** A part of a run, as it lies in the file; needs room for it. */
  raw(source: Uint8Array, from: number, to: number): void {
    this.#content(source, from, to);
  }

  /** Ends a run. There is always room for it. */
  whole(lastTid: bigint, length: number, transactions: number): void {
    const at = this.#begin(KIND.whole, WHOLE.size);
    this.#view.setBigUint64(at + WHOLE.lastTid, lastTid);
    writeU64(this.#view, at + WHOLE.length, length);
    this.#view.setUint32(at + WHOLE.transactions, transactions);
    this.#view.setUint32(at + WHOLE.checksum, this.#checksum.value);
  }

  /** Begins a transaction that travels record by record; needs {@link headRoom}. */
  transaction(head: TransactionHead): "spliced" {
    const { user, description, extension } = head;
    const size = this.headRoom(head) - PREFIX_LENGTH;
    const at = this.#begin(KIND.transaction, size);
    const view = this.#view;
    view.setBigUint64(at + TRANSACTION_FRAME.tid, head.tid);
    view.setUint8(at + TRANSACTION_FRAME.status, head.status);
    view.setUint16(at + TRANSACTION_FRAME.userLength, user.length);
    view.setUint16(at + TRANSACTION_FRAME.descriptionLength, description.length);
    view.setUint16(at + TRANSACTION_FRAME.extensionLength, extension.length);
    let to = at + TRANSACTION_FRAME.texts;
    for (const text of [user, description, extension]) {
      this.#target.set(text, to);
      to += text.length;
    }
    this.#checksum.update(this.#target, at, to);
    return "spliced";
  }

  /**
   * Begins a record; needs room for {@link MAX_HEAD_FRAME}.
   * @param source holds the oid's and the tid's 8 bytes at `oidAt` and `tidAt`
   * @param dataTidSource holds the 8 bytes of the tid whose record has the same data; null for none
   * @param dataLength how many bytes of data will be given; 0: the object has none
   */
  record(
    source: Uint8Array,
    oidAt: number,
    tidAt: number,
    dataTidSource: Uint8Array | null,
    dataTidAt: number,
    dataLength: number,
  ): void {
    if (this.#dataLeft > 0) throw new Error("Cannot write stream: data is missing");
    const at = this.#begin(KIND.record, RECORD_FRAME.size);
    const target = this.#target;
    for (let i = 0; i < 8; i++) {
      target[at + RECORD_FRAME.oid + i] = source[oidAt + i]!;
      target[at + RECORD_FRAME.tid + i] = source[tidAt + i]!;
      target[at + RECORD_FRAME.dataTid + i] = dataTidSource === null ? 0 : dataTidSource[dataTidAt + i]!;
    }
    writeU64(this.#view, at + RECORD_FRAME.dataLength, dataLength);
    this.#checksum.update(target, at, at + RECORD_FRAME.size);
    this.#dataLeft = dataLength;
  }

  /** As {@link record}: that it is a blob is said when its content begins. */
  blobRecord(
    source: Uint8Array,
    oidAt: number,
    tidAt: number,
    dataTidSource: Uint8Array | null,
    dataTidAt: number,
    dataLength: number,
  ): void {
    this.record(source, oidAt, tidAt, dataTidSource, dataTidAt, dataLength);
  }

  /**
   * Begins the content of a blob, behind its record or before the run that has it; needs room for
   * {@link MAX_HEAD_FRAME}.
   * @param length undefined: there is no content, and none follows
   * @param from how much of its `length` bytes the peer has
   */
  beginBlob(
    key: { readonly oid: bigint; readonly tid: bigint },
    length: number | undefined,
    from: number,
  ): void {
    if (this.#dataLeft > 0) throw new Error("Cannot write stream: data is missing");
    const at = this.#begin(KIND.blob, BLOB_FRAME.size);
    this.#view.setBigUint64(at + BLOB_FRAME.oid, key.oid);
    this.#view.setBigUint64(at + BLOB_FRAME.tid, key.tid);
    if (length === undefined) this.#view.setBigUint64(at + BLOB_FRAME.length, NO_CONTENT);
    else writeU64(this.#view, at + BLOB_FRAME.length, length);
    writeU64(this.#view, at + BLOB_FRAME.from, from);
    this.#checksum.update(this.#target, at, at + BLOB_FRAME.size);
    this.#blobLeft = (length ?? 0) - from;
  }

  /**
   * A part of a blob's content. Takes as much as there is room for.
   * @returns the offset in `source` behind what was taken
   */
  blobData(source: Uint8Array, from: number, to: number): number {
    const end = from + Math.min(to - from, this.room);
    if (end - from > this.#blobLeft) throw new Error("Cannot write stream: more data than the blob has");
    this.#blobLeft -= end - from;
    this.#content(source, from, end);
    if (this.#blobLeft === 0) this.seal(); // what follows is none of the blob's
    return end;
  }

  /** A part of the record's data; needs room for it. */
  data(source: Uint8Array, from: number, to: number): void {
    if (to - from > this.#dataLeft) throw new Error("Cannot write stream: more data than the record has");
    this.#dataLeft -= to - from;
    this.#content(source, from, to);
  }

  /** Ends the transaction. There is always room for it. */
  commit(): void {
    if (this.#dataLeft > 0 || this.#blobLeft > 0) throw new Error("Cannot write stream: data is missing");
    const at = this.#begin(KIND.commit, COMMIT.size);
    this.#view.setUint32(at + COMMIT.checksum, this.#checksum.value);
  }

  /** Ends the data frame that could still have grown, compressed if that is worth it. */
  seal(): void {
    const from = this.#dataAt;
    this.#dataAt = -1;
    const content = from + DATA_FRONT;
    if (from < 0 || !this.isCompressing || this.#length - content < LEAST_COMPRESSED_BYTES) return;
    const compressed = zstdCompressSync(this.#target.subarray(content, this.#length), FAST);
    const size = COMPRESSED.header + compressed.length;
    if (size + PREFIX_LENGTH >= this.#length - from) return;
    const at = from + PREFIX_LENGTH;
    putPrefix(this.#target, from, size);
    this.#target[at] = KIND.compressed;
    this.#view.setUint32(at + COMPRESSED.length, this.#length - content);
    this.#target.set(compressed, at + COMPRESSED.header);
    this.#length = at + size;
  }

  /** Room for a frame behind its prefix. @returns where it begins, its kind in place */
  #begin(kind: number, size: number): number {
    this.seal();
    const at = this.#length + PREFIX_LENGTH;
    if (at + size > this.#target.length) throw new Error("Cannot write stream: no room for a frame");
    putPrefix(this.#target, this.#length, size);
    this.#target[at] = kind;
    this.#length = at + size;
    return at;
  }

  /** Adds to the last data frame while that may grow. */
  #content(source: Uint8Array, from: number, to: number): void {
    while (from < to) {
      if (this.#dataAt < 0 || this.#length - this.#dataAt - DATA_FRONT >= MAX_DATA_BYTES) {
        this.#begin(KIND.data, 1);
        this.#dataAt = this.#length - DATA_FRONT;
      }
      const room = MAX_DATA_BYTES - (this.#length - this.#dataAt - DATA_FRONT);
      const end = Math.min(to, from + room);
      const part = source.subarray(from, end);
      this.#target.set(part, this.#length);
      this.#checksum.update(part, 0, part.length);
      this.#length += part.length;
      putPrefix(this.#target, this.#dataAt, this.#length - this.#dataAt - PREFIX_LENGTH);
      from = end;
    }
  }
}
