/**
 * The secondary's side of the stream: chunks to transactions. Data and blobs are passed on as they come, so
 * memory does not depend on their length. Nothing is final before `commit`: what came of a transaction until
 * then must be thrown away when the stream ends or fails.
 */
import { equalBytes, viewOf } from "../bytes/mod.ts";
import { ProtocolError, RefusedError } from "../errors.ts";
import { latin1OfUtf8 } from "../pickle/mod.ts";
import { describeTid, type TransactionHead } from "../zodb/mod.ts";
import { DIGEST_LENGTH, DigestChain } from "./chain.ts";
import { FormCursor, Literal } from "./form.ts";
import { FrameReader, type MessageSink, tooLong } from "../bytes/mod.ts";
import { bytesOf, expectFields, type LooseMessage, readLoosely } from "./loose.ts";
import { BLOB_BLOCK_LENGTH, CLOSING, openingOf, REFUSED } from "./messages.ts";
import { RecordHead } from "./record_head.ts";
import { readLooseTransaction, readUsualTransaction, type ReceivedTransaction } from "./transaction_head.ts";

/** What a stream consists of, in order; bytes are valid during the call only, a head for as long as you like. */
export interface StreamHandler {
  transaction(head: TransactionHead, notes: { readonly extension: "kept" | "rewritten" | "too long" }): void;
  /**
   * A record; its data follows in parts.
   * @param dataTxn the tid of the transaction whose record has the same data; undefined for none
   * @param dataLength 0 means that the object has no data: its creation was undone
   * @param blocks how many blocks of a blob follow the data; undefined when the record has no blob
   */
  record(
    oidHigh: number,
    oidLow: number,
    tid: bigint,
    dataTxn: bigint | undefined,
    dataLength: number,
    blocks: number | undefined,
  ): void;
  data(source: Uint8Array, from: number, to: number): void;
  /** A part of the record's blob, behind all of its data. */
  blobBlock(source: Uint8Array, from: number, to: number): void;
  /** All of the record, its blob included, has come. */
  recordEnd(): void;
  /** All of the transaction has come, and the digest was right. */
  commit(): void;
}

/** The longest messages that are accepted, in bytes. */
export interface Limits {
  /** T: two texts of 65,535 bytes, and an extension that may have lost what it shared. */
  readonly transaction: number;
  /** S, B and C; real ones have less than 256. */
  readonly head: number;
  readonly data: number;
  readonly blobBlock: number;
}

export const DEFAULT_LIMITS: Limits = {
  transaction: 16 * 1024 * 1024,
  head: 4096,
  data: 0xffff_ffff,
  blobBlock: BLOB_BLOCK_LENGTH,
};

const OPENING_C = new Literal(openingOf("C"));
const CLOSING_LITERAL = new Literal(CLOSING);

export class StreamDecoder {
  readonly #frames = new FrameReader();
  readonly #receiver: Receiver;

  /** @param startTid what we said we have */
  constructor(startTid: bigint, limits: Partial<Limits> = {}) {
    this.#receiver = new Receiver(startTid, { ...DEFAULT_LIMITS, ...limits });
  }

  /**
   * Takes the next bytes of the stream, cut anywhere. After it has thrown it is of no more use.
   * @throws ProtocolError when the stream is not as it must be; RefusedError when the peer says why it sends none
   */
  push(chunk: Uint8Array, from: number, to: number, handler: StreamHandler): void {
    this.#receiver.handler = handler;
    this.#frames.push(chunk, from, to, this.#receiver);
  }

  /** The tid of the last transaction whose commit has come; at first the start tid. */
  get lastTid(): bigint {
    return this.#receiver.lastTid;
  }

  /** Whether the stream may end here without loss: between transactions. */
  get idle(): boolean {
    return this.#receiver.awaits === "transaction" && this.#frames.idle;
  }
}

/** What the next message must be. */
type Awaits = "transaction" | "head" | "data" | "block";

class Receiver implements MessageSink {
  /** Set before any message comes. */
  handler!: StreamHandler;
  awaits: Awaits = "transaction";
  lastTid: bigint;

  readonly #limits: Limits;
  readonly #chain: DigestChain;
  readonly #head = new RecordHead();
  readonly #cursor = new FormCursor();
  #tid = 0n;
  #blocksLeft = 0;
  #bytes: Uint8Array | undefined;
  #view: DataView = this.#cursor.view;

  constructor(startTid: bigint, limits: Limits) {
    this.lastTid = startTid;
    this.#limits = limits;
    this.#chain = new DigestChain(startTid);
  }

  begin(length: number): boolean {
    const limits = this.#limits;
    switch (this.awaits) {
      case "transaction":
        if (length > limits.transaction) throw tooLong("transaction message", length, limits.transaction);
        return true;
      case "head":
        if (length > limits.head) throw tooLong("message within a transaction", length, limits.head);
        return true;
      case "data": {
        if (length > limits.data) throw tooLong("record data", length, limits.data);
        const { oidHigh, oidLow, tid, dataTxn, blocks } = this.#head;
        this.handler.record(oidHigh, oidLow, tid, dataTxn, length, blocks);
        return false;
      }
      case "block":
        if (length > limits.blobBlock) throw tooLong("block of a blob", length, limits.blobBlock);
        return false;
    }
  }

  part(bytes: Uint8Array, from: number, to: number): void {
    this.#chain.update(bytes, from, to);
    if (this.awaits === "data") this.handler.data(bytes, from, to);
    else this.handler.blobBlock(bytes, from, to);
  }

  end(): void {
    if (this.awaits === "data") this.#blocksLeft = this.#head.blocks ?? 0;
    else this.#blocksLeft--;
    this.awaits = this.#blocksLeft > 0 ? "block" : "head";
    if (this.#blocksLeft === 0) this.handler.recordEnd();
  }

  whole(bytes: Uint8Array, from: number, to: number): void {
    if (this.awaits === "transaction") this.#transaction(bytes, from, to);
    else this.#inTransaction(bytes, from, to);
  }

  #transaction(bytes: Uint8Array, from: number, to: number): void {
    this.#cursor.start(this.#viewOf(bytes), from, to);
    const { head, extension } = readUsualTransaction(this.#cursor, bytes) ??
      this.#looseTransaction(bytes, from, to);
    const { tid } = head;
    if (tid <= this.lastTid) {
      const [sent, last] = [describeTid(tid), describeTid(this.lastTid)];
      throw new ProtocolError(
        `Cannot take transaction ${sent}: its tid must be greater than the last, ${last}`,
        {
          tid,
        },
      );
    }
    this.#chain.update(bytes, from, to);
    this.#tid = tid;
    this.awaits = "head";
    this.handler.transaction(head, { extension });
  }

  #looseTransaction(bytes: Uint8Array, from: number, to: number): ReceivedTransaction {
    rejectStranger(bytes, from, to);
    const message = readLoosely(bytes.subarray(from, to));
    if (message.kind === "T") return readLooseTransaction(message);
    throw unexpected(message, "T");
  }

  #inTransaction(bytes: Uint8Array, from: number, to: number): void {
    const view = this.#viewOf(bytes);
    if (this.#head.readUsual(view, from, to)) {
      this.#chain.update(bytes, from, to);
      this.awaits = "data";
      return;
    }
    const digest = this.#usualDigest(view, bytes, from, to);
    if (digest !== undefined) return this.#commit(digest, bytes, from, to);
    const message = readLoosely(bytes.subarray(from, to));
    if (message.kind === "C") {
      return this.#commit(bytesOf(expectFields(message, 1)[0], "digest"), bytes, from, to);
    }
    if (message.kind !== "S" && message.kind !== "B") throw unexpected(message, "S, B or C");
    this.#head.readLoose(message);
    this.#chain.update(bytes, from, to);
    this.awaits = "data";
  }

  /** The digest of a C message in the form of real ends; undefined if it is another. */
  #usualDigest(view: DataView, bytes: Uint8Array, from: number, to: number): Uint8Array | undefined {
    const cursor = this.#cursor;
    cursor.start(view, from, to);
    if (!cursor.literal(OPENING_C) || !cursor.bytes()) return undefined;
    const { textAt, textLength } = cursor;
    if (!cursor.literal(CLOSING_LITERAL) || cursor.at !== to) return undefined;
    return latin1OfUtf8(bytes, textAt, textAt + textLength);
  }

  /** A view of the bytes; mostly the same bytes as last time. */
  #viewOf(bytes: Uint8Array): DataView {
    if (this.#bytes !== bytes) {
      this.#bytes = bytes;
      this.#view = viewOf(bytes);
    }
    return this.#view;
  }

  #commit(digest: Uint8Array, bytes: Uint8Array, from: number, to: number): void {
    const tid = this.#tid;
    if (digest.length !== DIGEST_LENGTH || !equalBytes(digest, this.#chain.digest())) {
      throw new ProtocolError(`Cannot take transaction ${describeTid(tid)}: its digest is wrong`, { tid });
    }
    this.#chain.update(bytes, from, to);
    this.lastTid = tid;
    this.awaits = "transaction";
    this.handler.commit();
  }
}

/** Another server's first message, short enough to pass for one of ours. */
function rejectStranger(bytes: Uint8Array, from: number, to: number): void {
  if (to - from > 8) return;
  const text = String.fromCharCode(...bytes.subarray(from, to));
  if (/^[ZM][0-9]{1,4}$/.test(text)) {
    throw new ProtocolError("Cannot take message: this looks like a ZEO server, not like a primary");
  }
  if (text === "") {
    throw new ProtocolError("Cannot take message: expected a transaction, current value is empty");
  }
}

/** What a peer says, fit for a log. */
function printable(text: string): string {
  return text.slice(0, 1000).replace(/\p{Cc}/gu, "?");
}

/** The peer's reason to send no more, which may come in place of any message but data; else a bad message. */
function unexpected(message: LooseMessage, expected: string): ProtocolError | RefusedError {
  if (message.kind.startsWith(REFUSED)) {
    return new RefusedError(printable(message.kind.slice(REFUSED.length)));
  }
  const kind = JSON.stringify(message.kind.slice(0, 100));
  return new ProtocolError(`Cannot take message: its kind must be ${expected}, current value is ${kind}`);
}
