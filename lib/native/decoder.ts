/**
 * The receiving side of the native stream, at both ends: chunks to messages. A run's bytes are passed on as they
 * come; nothing of it counts before `whole` or `commit`, which are only told when the checksum is right.
 */
import { zstdDecompressSync } from "node:zlib";
import { FrameReader, type MessageSink, readU64, tooLong, viewOf } from "../bytes/mod.ts";
import { ProtocolError } from "../errors.ts";
import { describeTid, STATUS, type TransactionHead } from "../zodb/mod.ts";
import { Checksum } from "./checksum.ts";
import { type Control, decodeControl } from "./control.ts";
import {
  ACKNOWLEDGEMENT,
  BLOB_FRAME,
  COMMIT,
  COMPRESSED,
  KIND,
  MAX_CONTROL_BYTES,
  MAX_DATA_BYTES,
  NO_CONTENT,
  RECORD_FRAME,
  TRANSACTION_FRAME,
  WHOLE,
} from "./frames.ts";

/** The end of a run. */
export interface Whole {
  readonly lastTid: bigint;
  /** In bytes. */
  readonly length: number;
  readonly transactions: number;
}

/** What the secondary says of what it has. */
export interface Acknowledgement {
  /** The last transaction that has come whole. */
  readonly received: bigint;
  /** The last transaction that is on its disk. */
  readonly durable: bigint;
  /** Bytes of transactions in this stream up to the durable one, and the checksum over them. */
  readonly bytes: number;
  readonly checksum: number;
}

/** Who takes what a stream consists of. */
export interface NativeHandler {
  /** @param body the message as it came, valid during the call only */
  control(message: Control, body: Uint8Array): void;
  /** Left out at an end that sends no transactions: it takes no acknowledgement. */
  acknowledgement?(acknowledgement: Acknowledgement): void;
  /** Left out at an end that takes no transactions. */
  readonly content?: NativeContent;
}

/** Who takes transactions and blobs; bytes are valid during the call only. */
export interface NativeContent {
  /** A part of a run, as it lies in the source's file. */
  raw(source: Uint8Array, from: number, to: number): void;
  whole(whole: Whole): void;
  transaction(head: TransactionHead): void;
  /** @param dataTid the transaction whose record has the same data; undefined for none */
  record(
    oidHigh: number,
    oidLow: number,
    tid: bigint,
    dataTid: bigint | undefined,
    dataLength: number,
  ): void;
  data(source: Uint8Array, from: number, to: number): void;
  recordEnd(): void;
  /**
   * The content of a blob begins, behind its record or before the run that has it.
   * @param from how much of its content is left out, because the secondary has it; undefined: the source has none
   */
  blob(key: { readonly oid: bigint; readonly tid: bigint }, from: number | undefined): void;
  blobData(source: Uint8Array, from: number, to: number): void;
  blobEnd(): void;
  commit(): void;
}

/** Frames up to so many bytes come in one piece. */
const SMALL_FRAME = 4096;
const MAX_TRANSACTION_FRAME = TRANSACTION_FRAME.texts + 3 * 0xffff;

export class NativeDecoder {
  readonly #frames = new FrameReader();
  readonly #receiver: Receiver;

  /** @param options.compressed whether compressed content may come */
  constructor(options: { readonly compressed: boolean } = { compressed: false }) {
    this.#receiver = new Receiver(options.compressed);
  }

  /**
   * Takes the next bytes, cut anywhere. After it has thrown it is of no more use.
   * @returns the offset it has come to: less than `to` behind compressed content, for a chunk can hold gigabytes of
   * that, and after {@link halt}. Call again with the rest once what has come is seen to
   * @throws ProtocolError
   */
  push(chunk: Uint8Array, from: number, to: number, handler: NativeHandler): number {
    this.#receiver.handler = handler;
    this.#receiver.isSated = false;
    return this.#frames.push(chunk, from, to, this.#receiver);
  }

  /**
   * Called by the handler: {@link push} takes no more for now than the message that is being told, since that must be
   * seen to first.
   */
  halt(): void {
    this.#receiver.isSated = true;
  }

  /** Called by the handler of a welcome: what follows it is the rest of a run that was begun before. */
  resumeRun(): void {
    this.#receiver.state = "raw";
  }

  /** Whether the stream stands between two runs, and between two frames. */
  get idle(): boolean {
    return this.#frames.idle && this.#receiver.state === "between";
  }

  /** Bytes of transactions that have come, and the checksum over them. */
  get checksum(): Readonly<Checksum> {
    return this.#receiver.checksum;
  }
}

const CONTENT_KINDS: ReadonlySet<number> = new Set([
  ...[KIND.data, KIND.compressed, KIND.whole],
  ...[KIND.transaction, KIND.record, KIND.blob, KIND.commit],
]);

class Receiver implements MessageSink {
  handler!: NativeHandler;
  readonly #takesCompressed: boolean;
  isSated = false;
  state: "between" | "raw" | "transaction" | "data" | "blob" = "between";
  /** What goes on behind a blob. */
  #stateBehind: "between" | "transaction" = "between";
  readonly checksum = new Checksum();
  #runBytes = 0;
  #dataLeft = 0;
  #lastTid = 0n;
  /** A frame that comes in parts: its kind, or 0 while that has not come; its length; and what is collected. */
  #kind = 0;
  #length = 0;
  #collected: Uint8Array | undefined;
  #filled = 0;

  constructor(takesCompressed: boolean) {
    this.#takesCompressed = takesCompressed;
  }

  /** Of frames that have been judged. */
  get #taker(): NativeContent {
    return this.handler.content!;
  }

  begin(length: number): boolean {
    if (length === 0) throw new ProtocolError("Cannot take frame: it is empty");
    const most = MAX_DATA_BYTES + COMPRESSED.header;
    if (length > most) throw tooLong("frame", length, most);
    this.#kind = 0;
    this.#length = length;
    return length <= SMALL_FRAME;
  }

  whole(bytes: Uint8Array, from: number, to: number): void {
    const kind = bytes[from]!;
    this.#judge(kind, to - from);
    if (kind === KIND.data) this.#content(bytes, from + 1, to);
    else this.#message(bytes.subarray(from, to));
  }

  part(bytes: Uint8Array, from: number, to: number): void {
    if (this.#kind === 0) {
      this.#kind = bytes[from]!;
      this.#judge(this.#kind, this.#length);
      this.#filled = 0;
      if (this.#kind === KIND.data) from++;
      else this.#collected = new Uint8Array(this.#length);
    }
    if (this.#kind === KIND.data) {
      this.#content(bytes, from, to);
    } else {
      this.#collected!.set(bytes.subarray(from, to), this.#filled);
      this.#filled += to - from;
    }
  }

  end(): void {
    const collected = this.#collected;
    this.#collected = undefined;
    if (collected !== undefined) this.#message(collected);
  }

  /** @throws ProtocolError when no frame of that kind and length can stand here */
  #judge(kind: number, length: number): void {
    this.#judgeTaker(kind);
    switch (kind) {
      case KIND.control:
        if (length > MAX_CONTROL_BYTES) throw tooLong("control message", length, MAX_CONTROL_BYTES);
        return;
      case KIND.data:
        if (length > 1 + MAX_DATA_BYTES || this.state === "transaction") throw this.#unexpected(kind);
        return;
      case KIND.compressed:
        if (!this.#takesCompressed || length < COMPRESSED.header || this.state === "transaction") {
          throw this.#unexpected(kind);
        }
        return;
      case KIND.whole:
        return this.#expect(kind, "raw", length === WHOLE.size);
      case KIND.transaction:
        return this.#expect(kind, "between", length <= MAX_TRANSACTION_FRAME);
      case KIND.record:
        return this.#expect(kind, "transaction", length === RECORD_FRAME.size);
      case KIND.blob:
        return this.#expect(
          kind,
          this.state === "transaction" ? "transaction" : "between",
          length === BLOB_FRAME.size,
        );
      case KIND.commit:
        return this.#expect(kind, "transaction", length === COMMIT.size);
      case KIND.acknowledgement:
        return this.#expect(kind, "between", length === ACKNOWLEDGEMENT.size);
      default:
        throw this.#unexpected(kind);
    }
  }

  #judgeTaker(kind: number): void {
    if (kind === KIND.control) return;
    if (kind === KIND.acknowledgement) {
      if (this.handler.acknowledgement !== undefined) return;
      throw new ProtocolError("Cannot take acknowledgement: this end sends no transactions");
    }
    if (this.handler.content === undefined && CONTENT_KINDS.has(kind)) {
      throw new ProtocolError("Cannot take transaction: this end takes none");
    }
  }

  #expect(kind: number, state: typeof this.state, hasLength: boolean): void {
    if (this.state !== state || !hasLength) throw this.#unexpected(kind);
  }

  #unexpected(kind: number): ProtocolError {
    const name = kind > 0x20 && kind < 0x7f ? JSON.stringify(String.fromCharCode(kind)) : `byte ${kind}`;
    return new ProtocolError(
      `Cannot take frame of ${this.#length} bytes: kind ${name} cannot stand here (${this.state})`,
    );
  }

  #message(body: Uint8Array): void {
    switch (body[0]) {
      case KIND.control: {
        const message = decodeControl(body);
        if (message !== undefined) this.handler.control(message, body);
        return;
      }
      case KIND.compressed:
        return this.#decompress(body);
      case KIND.whole:
        return this.#whole(viewOf(body));
      case KIND.transaction:
        return this.#transaction(body);
      case KIND.record:
        return this.#record(body);
      case KIND.blob:
        return this.#blob(body);
      case KIND.commit:
        return this.#commit(viewOf(body));
      default: {
        const view = viewOf(body);
        this.handler.acknowledgement!({
          received: view.getBigUint64(ACKNOWLEDGEMENT.received),
          durable: view.getBigUint64(ACKNOWLEDGEMENT.durable),
          bytes: readU64(view, ACKNOWLEDGEMENT.bytes),
          checksum: view.getUint32(ACKNOWLEDGEMENT.checksum),
        });
      }
    }
  }

  #content(bytes: Uint8Array, from: number, to: number): void {
    this.checksum.update(bytes, from, to);
    if (this.state === "data" || this.state === "blob") {
      if (to - from > this.#dataLeft) {
        const what = this.state === "data" ? "record" : "blob";
        throw new ProtocolError(`Cannot take data: the ${what} has only ${this.#dataLeft} bytes more`);
      }
      this.#dataLeft -= to - from;
      if (this.state === "data") this.#taker.data(bytes, from, to);
      else this.#taker.blobData(bytes, from, to);
      if (this.#dataLeft > 0) return;
      return this.state === "data" ? this.#endRecord() : this.#endBlob();
    }
    this.state = "raw";
    this.#runBytes += to - from;
    this.#taker.raw(bytes, from, to);
  }

  #decompress(body: Uint8Array): void {
    const length = viewOf(body).getUint32(COMPRESSED.length);
    if (length > MAX_DATA_BYTES) throw tooLong("compressed data", length, MAX_DATA_BYTES);
    let content: Uint8Array;
    try {
      content = zstdDecompressSync(body.subarray(COMPRESSED.header), {
        maxOutputLength: Math.max(1, length),
      });
    } catch (cause) {
      throw new ProtocolError("Cannot take compressed data: it cannot be decompressed", { cause });
    }
    if (content.length !== length) {
      throw new ProtocolError(
        `Cannot take compressed data: it must have ${length} bytes, and has ${content.length}`,
      );
    }
    this.isSated = true;
    this.#content(content, 0, length);
  }

  #whole(view: DataView): void {
    const length = readU64(view, WHOLE.length);
    const lastTid = view.getBigUint64(WHOLE.lastTid);
    if (length !== this.#runBytes) {
      throw new ProtocolError(
        `Cannot take run up to ${
          describeTid(lastTid)
        }: it must have ${length} bytes, and has ${this.#runBytes}`,
      );
    }
    this.#check(view.getUint32(WHOLE.checksum), lastTid);
    this.#runBytes = 0;
    this.state = "between";
    this.#taker.whole({ lastTid, length, transactions: view.getUint32(WHOLE.transactions) });
  }

  #transaction(body: Uint8Array): void {
    if (body.length < TRANSACTION_FRAME.texts) throw this.#unexpected(KIND.transaction);
    const view = viewOf(body);
    const user = TRANSACTION_FRAME.texts;
    const description = user + view.getUint16(TRANSACTION_FRAME.userLength);
    const extension = description + view.getUint16(TRANSACTION_FRAME.descriptionLength);
    const end = extension + view.getUint16(TRANSACTION_FRAME.extensionLength);
    if (end !== body.length) throw this.#unexpected(KIND.transaction);
    const tid = view.getBigUint64(TRANSACTION_FRAME.tid);
    const status = view.getUint8(TRANSACTION_FRAME.status);
    if (status !== STATUS.committed && status !== STATUS.packed) {
      throw new ProtocolError(`Cannot take transaction ${describeTid(tid)}: its status must be ' ' or 'p'`, {
        tid,
      });
    }
    this.checksum.update(body, 0, body.length);
    this.#lastTid = tid;
    this.state = "transaction";
    this.#taker.transaction({
      tid,
      status,
      user: body.slice(user, description),
      description: body.slice(description, extension),
      extension: body.slice(extension, end),
    });
  }

  #record(body: Uint8Array): void {
    const view = viewOf(body);
    const dataTid = view.getBigUint64(RECORD_FRAME.dataTid);
    this.checksum.update(body, 0, body.length);
    this.#dataLeft = readU64(view, RECORD_FRAME.dataLength);
    if (!Number.isSafeInteger(this.#dataLeft)) throw this.#unexpected(KIND.record);
    this.state = "data";
    this.#taker.record(
      view.getUint32(RECORD_FRAME.oid),
      view.getUint32(RECORD_FRAME.oid + 4),
      view.getBigUint64(RECORD_FRAME.tid),
      dataTid === 0n ? undefined : dataTid,
      this.#dataLeft,
    );
    if (this.#dataLeft === 0) this.#endRecord();
  }

  #endRecord(): void {
    this.state = "transaction";
    this.#taker.recordEnd();
  }

  #blob(body: Uint8Array): void {
    const view = viewOf(body);
    const isMissing = view.getBigUint64(BLOB_FRAME.length) === NO_CONTENT;
    const length = isMissing ? 0 : readU64(view, BLOB_FRAME.length);
    const from = readU64(view, BLOB_FRAME.from);
    if (!Number.isSafeInteger(length) || from > length) throw this.#unexpected(KIND.blob);
    this.checksum.update(body, 0, body.length);
    this.#dataLeft = length - from;
    this.#stateBehind = this.state === "transaction" ? "transaction" : "between";
    this.state = "blob";
    this.#taker.blob({
      oid: view.getBigUint64(BLOB_FRAME.oid),
      tid: view.getBigUint64(BLOB_FRAME.tid),
    }, isMissing ? undefined : from);
    if (this.#dataLeft === 0) this.#endBlob();
  }

  #endBlob(): void {
    this.state = this.#stateBehind;
    this.#taker.blobEnd();
  }

  #commit(view: DataView): void {
    this.#check(view.getUint32(COMMIT.checksum), this.#lastTid);
    this.state = "between";
    this.#taker.commit();
  }

  #check(checksum: number, tid: bigint): void {
    if (checksum === this.checksum.value) return;
    throw new ProtocolError(`Cannot take transaction ${describeTid(tid)}: its checksum is wrong`, { tid });
  }
}
