/**
 * The primary's side of the stream: transactions to messages, into the buffers of whoever sends them. It makes
 * no object per record and does no I/O; the caller sees to it that there is room.
 */
import {
  BYTES_BACK,
  BYTES_FRONT,
  type Carriage,
  extensionToSend,
  putLatin1AsUtf8,
  putU32,
} from "../pickle/mod.ts";
import { MAX_METADATA_LENGTH, type TransactionHead } from "../zodb/mod.ts";
import { DigestChain } from "./chain.ts";
import { PREFIX_LENGTH, putPrefix } from "../bytes/mod.ts";
import {
  BLOB_BLOCK_LENGTH,
  close,
  MAX_COMMIT_MESSAGE,
  MAX_FIELD,
  MAX_RECORD_HEAD,
  openingOf,
  putCommit,
  putTransaction,
  transactionRoom,
  VERSION,
} from "./messages.ts";

/** The most bytes of opcodes as which an extension travels; one that would need more is left out. */
const MAX_EXTENSION_ON_WIRE = 3 * MAX_METADATA_LENGTH;

/** The most bytes that any T message takes, prefix included: a buffer of less is of no use. */
export const MAX_TRANSACTION_MESSAGE = transactionRoom(
  MAX_METADATA_LENGTH,
  MAX_METADATA_LENGTH,
  MAX_EXTENSION_ON_WIRE,
);

/** The most bytes that the T message of this transaction takes, prefix included. */
export function transactionMessageRoom(head: TransactionHead): number {
  return transactionRoom(head.user.length, head.description.length, extensionRoom(head.extension.length));
}

/** A stored string of one byte may become 38 (docs/zrs_protocol.md, "Sending"). */
function extensionRoom(storedLength: number): number {
  return Math.min(1 + 16 * storedLength, MAX_EXTENSION_ON_WIRE);
}

const NONE = 0x4e;

/** Guards against bugs of ours; node:assert would take a fifth of the time here. */
function must(condition: boolean, broken: string): void {
  if (!condition) throw new Error(`Cannot write stream: ${broken}`);
}

/** Prefix, opening and all of the oid but its characters; the lengths in it are set for each record. */
function recordFront(kind: "S" | "B"): Uint8Array {
  const opening = openingOf(kind);
  const front = new Uint8Array(PREFIX_LENGTH + opening.length + BYTES_FRONT.length + 4);
  front.set(opening, PREFIX_LENGTH);
  front.set(BYTES_FRONT, PREFIX_LENGTH + opening.length);
  return front;
}

const FRONT_S = recordFront("S");
const FRONT_B = recordFront("B");

/** Writes a field of 8 bytes. @returns the offset behind it */
function putField(target: Uint8Array, at: number, source: Uint8Array, from: number): number {
  target.set(BYTES_FRONT, at);
  const textAt = at + BYTES_FRONT.length + 4;
  const end = putLatin1AsUtf8(target, textAt, source, from, from + 8);
  putU32(target, textAt - 4, end - textAt);
  target.set(BYTES_BACK, end);
  return end + BYTES_BACK.length;
}

const MAX_REST = BYTES_BACK.length + MAX_FIELD + VERSION.length;

/** What stands between the oid's characters and data_txn: the end of the oid, the tid, the version. */
function restOf(source: Uint8Array, tidAt: number, rest: Uint8Array): Uint8Array {
  rest.set(BYTES_BACK);
  const end = putField(rest, BYTES_BACK.length, source, tidAt);
  rest.set(VERSION, end);
  return rest.subarray(0, end + VERSION.length);
}

export class StreamEncoder {
  readonly #chain: DigestChain;
  #target: Uint8Array = new Uint8Array(0);
  #length = 0;
  #inTransaction = false;
  /** Bytes of the record's data, and then of its blob, that have not been given yet. */
  #dataLeft = 0;
  #blobLeft = 0;
  #blockLeft = 0;
  /** An empty blob's only block is still to be written, before the next message. */
  #emptyBlock = false;

  readonly #tid = new Uint8Array(8);
  readonly #tidView = new DataView(this.#tid.buffer);
  /** What follows the oid's characters in nearly all records of the transaction. */
  readonly #restRoom = new Uint8Array(MAX_REST);
  #rest: Uint8Array = this.#restRoom;

  /** @param startTid what the secondary said it has */
  constructor(startTid: bigint) {
    this.#chain = new DigestChain(startTid);
  }

  /** Gives the encoder an empty buffer to fill; the first `length` bytes of it are then to be sent. */
  attach(target: Uint8Array): void {
    this.#target = target;
    this.#length = 0;
  }

  /** Bytes put into the buffer so far. */
  get length(): number {
    return this.#length;
  }

  /** Bytes of the buffer that are still free. */
  get room(): number {
    return this.#target.length - this.#length;
  }

  /** The most bytes that the transaction's message takes. */
  headRoom(head: TransactionHead): number {
    return transactionMessageRoom(head);
  }

  /** Whether a transaction has been begun and not been committed. */
  get inTransaction(): boolean {
    return this.#inTransaction;
  }

  /** Begins a transaction; needs {@link transactionMessageRoom}. @returns how its extension travels */
  transaction(head: TransactionHead): Carriage {
    must(!this.#inTransaction, "a transaction is still open");
    must(transactionMessageRoom(head) <= this.room, "no room for a transaction message");
    this.#inTransaction = true;
    this.#tidView.setBigUint64(0, head.tid);
    const { carriage, bytes } = extensionToSend(head.extension, extensionRoom(head.extension.length));
    this.#sent(putTransaction(this.#target, this.#length, head, this.#tid, bytes));
    this.#rest = restOf(this.#tid, 0, this.#restRoom);
    return carriage;
  }

  /**
   * Begins a record; needs {@link MAX_RECORD_HEAD}.
   * @param source holds the oid's and the tid's 8 bytes at `oidAt` and `tidAt`
   * @param dataTxnSource holds the 8 bytes of the tid whose record the data is shared with; null for none
   * @param dataLength how many bytes of data will be given, up to 4 GiB - 1; 0 for no data
   */
  record(
    source: Uint8Array,
    oidAt: number,
    tidAt: number,
    dataTxnSource: Uint8Array | null,
    dataTxnAt: number,
    dataLength: number,
  ): void {
    const end = this.#putHead(FRONT_S, source, oidAt, tidAt, dataTxnSource, dataTxnAt);
    this.#sent(close(this.#target, this.#length, end));
    this.#beginData(dataLength);
  }

  /**
   * Begins a record with a blob, as `record` does. Its data comes first, then the blob through `blobData`; an
   * empty blob travels as one empty block, without which a real secondary would make no file of it.
   * @param blobLength the length of the blob file
   */
  blobRecord(
    source: Uint8Array,
    oidAt: number,
    tidAt: number,
    dataTxnSource: Uint8Array | null,
    dataTxnAt: number,
    dataLength: number,
    blobLength: number,
  ): void {
    const blocks = Math.max(1, Math.ceil(blobLength / BLOB_BLOCK_LENGTH));
    must(blocks <= 0x7fff_ffff, "a blob is too long");
    const end = this.#putHead(FRONT_B, source, oidAt, tidAt, dataTxnSource, dataTxnAt);
    this.#sent(close(this.#target, this.#length, putCount(this.#target, end, blocks)));
    this.#blobLeft = blobLength;
    this.#emptyBlock = blobLength === 0;
    this.#beginData(dataLength);
  }

  /** The content of a blob follows: here its length has been said before. */
  beginBlob(_key: unknown, length: number | undefined, from: number): void {
    must(from === 0 && length === this.#blobLeft, "a blob comes whole");
  }

  /** A part of the record's data; needs room for it. All of it must come before anything else does. */
  data(source: Uint8Array, from: number, to: number): void {
    const count = to - from;
    must(count <= this.#dataLeft, "more data than the record has");
    this.#put(source, from, to);
    this.#dataLeft -= count;
  }

  /**
   * A part of the blob, behind the record's data. Takes as much as there is room for.
   * @returns the offset in `source` behind what was taken
   */
  blobData(source: Uint8Array, from: number, to: number): number {
    must(this.#dataLeft === 0 && to - from <= this.#blobLeft, "more data than the blob has");
    while (from < to) {
      if (this.#blockLeft === 0) {
        if (this.room <= PREFIX_LENGTH) break;
        this.#blockLeft = Math.min(BLOB_BLOCK_LENGTH, this.#blobLeft);
        putPrefix(this.#target, this.#length, this.#blockLeft);
        this.#length += PREFIX_LENGTH;
      }
      const count = Math.min(to - from, this.#blockLeft, this.room);
      if (count === 0) break;
      this.#put(source, from, from + count);
      this.#blockLeft -= count;
      this.#blobLeft -= count;
      from += count;
    }
    return from;
  }

  /** Ends the transaction; needs {@link MAX_COMMIT_MESSAGE}. */
  commit(): void {
    this.#makeReady(MAX_COMMIT_MESSAGE);
    this.#sent(putCommit(this.#target, this.#length, this.#chain.digest()));
    this.#inTransaction = false;
  }

  /** Checks that another message may begin, and ends the record before. */
  #makeReady(needed: number): void {
    must(this.#inTransaction, "no transaction is open");
    must(this.#dataLeft === 0 && this.#blobLeft === 0, "data is missing");
    must(needed <= this.room, "no room for a message");
    if (!this.#emptyBlock) return;
    putPrefix(this.#target, this.#length, 0);
    this.#length += PREFIX_LENGTH;
    this.#emptyBlock = false;
  }

  /** Writes the fields of a record's head up to data_txn, behind room for the prefix. @returns the offset behind them */
  #putHead(
    front: Uint8Array,
    source: Uint8Array,
    oidAt: number,
    tidAt: number,
    dataTxnSource: Uint8Array | null,
    dataTxnAt: number,
  ): number {
    this.#makeReady(MAX_RECORD_HEAD);
    const target = this.#target;
    target.set(front, this.#length);
    const oidTextAt = this.#length + front.length;
    let end = putLatin1AsUtf8(target, oidTextAt, source, oidAt, oidAt + 8);
    putU32(target, oidTextAt - 4, end - oidTextAt);
    const rest = this.#isTid(source, tidAt) ? this.#rest : restOf(source, tidAt, new Uint8Array(MAX_REST));
    target.set(rest, end);
    end += rest.length;
    if (dataTxnSource !== null) return putField(target, end, dataTxnSource, dataTxnAt);
    target[end] = NONE;
    return end + 1;
  }

  #isTid(source: Uint8Array, at: number): boolean {
    const tid = this.#tid;
    for (let i = 7; i >= 0; i--) {
      if (source[at + i] !== tid[i]) return false;
    }
    return true;
  }

  /** Accounts for the message that has been written up to `end`. */
  #sent(end: number): void {
    this.#chain.update(this.#target, this.#length + PREFIX_LENGTH, end);
    this.#length = end;
  }

  #beginData(length: number): void {
    putPrefix(this.#target, this.#length, length);
    this.#length += PREFIX_LENGTH;
    this.#dataLeft = length;
  }

  #put(source: Uint8Array, from: number, to: number): void {
    must(to - from <= this.room, "no room for data");
    const part = source.subarray(from, to);
    this.#target.set(part, this.#length);
    this.#chain.update(part, 0, part.length);
    this.#length += part.length;
  }
}

/** Writes a count as the smallest of the opcodes for integers. @returns the offset behind it */
function putCount(target: Uint8Array, at: number, count: number): number {
  if (count <= 0xff) {
    target[at] = 0x4b;
    target[at + 1] = count;
    return at + 2;
  }
  if (count <= 0xffff) {
    target[at] = 0x4d;
    target[at + 1] = count;
    target[at + 2] = count >>> 8;
    return at + 3;
  }
  target[at] = 0x4a;
  putU32(target, at + 1, count);
  return at + 5;
}
