/**
 * Either end of a native connection, frame by frame, as a script says it. Restates the protocol on purpose
 * (docs/native_protocol.md), so that it checks lib/native instead of following it.
 */
import assert from "node:assert/strict";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import type { Connection } from "../../lib/ports/mod.ts";
import { formatTid } from "../../lib/zodb/mod.ts";
import { beforeDeadline } from "./feed.ts";
import { eight, join } from "./zrs_wire.ts";

/** Any control message. */
export type NativeMessage = Record<string, unknown> & { readonly type: string };

export interface NativeRecord {
  readonly oid: bigint;
  /** Default: the transaction's. */
  readonly tid?: bigint;
  /** The transaction whose record has the same data; default: none. */
  readonly dataTid?: bigint;
  /** Empty: the object does not exist any more. */
  readonly data: Uint8Array | string;
}

export interface NativeTransaction {
  readonly tid: bigint;
  /** Default: a space. */
  readonly status?: string;
  readonly user?: string;
  readonly description?: string;
  readonly extension?: Uint8Array | string;
  readonly records: readonly NativeRecord[];
}

/** What the last frame of an exchange said is durable. */
export interface Acknowledgement {
  readonly receivedTid: bigint;
  readonly durableTid: bigint;
  readonly bytes: number;
  readonly checksum: number;
}

/** A frame: its kind, and what is behind it. */
export interface NativeFrame {
  readonly kind: string;
  readonly body: Uint8Array;
}

export const VERSION = 1;
export const LONGEST_CONTENT = 1_048_576;
export const NO_TID_TEXT = "0000000000000000";

const encoder = new TextEncoder();

function utf8(text: string | Uint8Array): Uint8Array {
  return typeof text === "string" ? encoder.encode(text) : text;
}

function integer(value: number, length: 2 | 4): Uint8Array {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  if (length === 2) view.setUint16(0, value);
  else view.setUint32(0, value);
  return bytes;
}

/** A frame of any kind and length. */
export function frame(kind: string, ...parts: readonly (Uint8Array | string)[]): Uint8Array {
  const body = join(utf8(kind), ...parts.map(utf8));
  return join(integer(body.length, 4), body);
}

/** A control message; its opening brace is the kind. */
export function control(message: unknown): Uint8Array {
  const text = utf8(JSON.stringify(message));
  return join(integer(text.length, 4), text);
}

/** Content, at most 1 MiB in each frame. */
export function content(bytes: Uint8Array | string, frameBytes = LONGEST_CONTENT): Uint8Array {
  const whole = utf8(bytes);
  const frames = [];
  for (let at = 0; at < whole.length; at += frameBytes) {
    frames.push(frame("D", whole.subarray(at, at + frameBytes)));
  }
  return join(...frames);
}

/** Content of at most 1 MiB, compressed. */
export function compressed(bytes: Uint8Array | string): Uint8Array {
  const whole = utf8(bytes);
  return frame("Z", integer(whole.length, 4), zstdCompressSync(whole));
}

export function acknowledgement({ receivedTid, durableTid, bytes, checksum }: Acknowledgement): Uint8Array {
  return frame("A", eight(receivedTid), eight(durableTid), eight(BigInt(bytes)), integer(checksum, 4));
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? value >>> 1 ^ 0xedb8_8320 : value >>> 1;
  return value;
});

/** CRC-32 as in zlib, and how many bytes went into it. */
export class Sum {
  bytes = 0;
  #state = 0xffff_ffff;

  get value(): number {
    return (this.#state ^ 0xffff_ffff) >>> 0;
  }

  add(bytes: Uint8Array): void {
    for (const byte of bytes) this.#state = CRC_TABLE[(this.#state ^ byte) & 255]! ^ this.#state >>> 8;
    this.bytes += bytes.length;
  }
}

/** What comes out of a stream of frames that a source sends behind its welcome. */
export type NativeEvent =
  | { readonly kind: "message"; readonly message: NativeMessage }
  | { readonly kind: "run"; readonly bytes: Uint8Array; readonly tid: bigint; readonly count: number }
  | { readonly kind: "transaction"; readonly transaction: ReadTransaction };

/** A transaction with everything in it. */
type ReadTransaction = Required<Omit<NativeTransaction, "records">> & {
  readonly records: readonly Required<NativeRecord>[];
};

/** A blob's content as it was received. */
export interface ReadBlob {
  readonly oid: bigint;
  readonly tid: bigint;
  readonly length: number;
  /** How much of it was left out. */
  readonly from: number;
  readonly content: Uint8Array;
}

/** Puts frames together; believes nothing, and has no limits of its own. */
export class NativeReader {
  readonly sum = new Sum();
  /** Those that have come whole. */
  readonly blobs: ReadBlob[] = [];
  #blob:
    | { readonly head: Omit<ReadBlob, "content">; readonly parts: Uint8Array[]; missing: number }
    | undefined;
  #content: Uint8Array[] = [];
  #transaction: { head: Omit<ReadTransaction, "records">; records: Partial[] } | undefined;

  /** @throws AssertionError for a frame that cannot stand there */
  push({ kind, body }: NativeFrame): NativeEvent | undefined {
    const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
    const last = this.#transaction?.records.at(-1);
    if (kind !== "{" && kind !== "D" && kind !== "Z" && last !== undefined) {
      assert.equal(last.missing, 0, "data is missing");
    }
    switch (kind) {
      case "{":
        return { kind: "message", message: messageOf(body) };
      case "D":
      case "Z": {
        const bytes = kind === "D" ? body : zstdDecompressSync(body.subarray(4));
        if (kind === "Z") assert.equal(bytes.length, view.getUint32(0));
        assert(bytes.length >= 1 && bytes.length <= LONGEST_CONTENT, "content must have 1 byte to 1 MiB");
        this.sum.add(bytes);
        if (this.#blob !== undefined) {
          assert(this.#blob.missing >= bytes.length, "content must belong to a blob");
          this.#blob.parts.push(bytes);
          this.#blob.missing -= bytes.length;
          this.#endBlob();
        } else if (this.#transaction === undefined) this.#content.push(bytes);
        else {
          assert(last !== undefined && last.missing >= bytes.length, "content must belong to a record");
          last.parts.push(bytes);
          last.missing -= bytes.length;
        }
        return undefined;
      }
      case "B": {
        assert.equal(body.length, 32);
        assert.equal(this.#content.length, 0, "a blob within a run");
        this.#add(kind, body);
        const [oid, tid, length, from] = [0, 8, 16, 24].map((at) => view.getBigUint64(at));
        const head = { oid: oid!, tid: tid!, length: Number(length), from: Number(from) };
        const isMissing = length === 0xffff_ffff_ffff_ffffn;
        this.#blob = { head, parts: [], missing: isMissing ? 0 : head.length - head.from };
        this.#endBlob();
        return undefined;
      }
      case "W": {
        assert.equal(body.length, 24);
        assert.equal(this.#transaction, undefined, "a run must not end in a transaction");
        const bytes = join(...this.#content);
        this.#content = [];
        assert.equal(Number(view.getBigUint64(8)), bytes.length, "length of the run");
        assert.equal(view.getUint32(20), this.sum.value, "checksum of the run");
        return { kind: "run", bytes, tid: view.getBigUint64(0), count: view.getUint32(16) };
      }
      case "T": {
        assert.equal(this.#transaction, undefined, "a transaction within a transaction");
        assert.equal(this.#content.length, 0, "a transaction within a run");
        this.#add(kind, body);
        let at = 15;
        const [user, description, extension] = [9, 11, 13].map((offset) => {
          const text = body.subarray(at, at += view.getUint16(offset));
          return text;
        });
        assert(user && description && extension);
        assert.equal(at, body.length, "the texts must end where the frame ends");
        const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
        this.#transaction = {
          head: {
            tid: view.getBigUint64(0),
            status: String.fromCharCode(body[8]!),
            user: text(user),
            description: text(description),
            extension,
          },
          records: [],
        };
        return undefined;
      }
      case "R": {
        assert(this.#transaction, "a record must be in a transaction");
        assert.equal(body.length, 32);
        this.#add(kind, body);
        this.#transaction.records.push({
          oid: view.getBigUint64(0),
          tid: view.getBigUint64(8),
          dataTid: view.getBigUint64(16),
          missing: Number(view.getBigUint64(24)),
          parts: [],
        });
        return undefined;
      }
      case "C": {
        assert(this.#transaction, "the end of no transaction");
        assert.equal(body.length, 4);
        assert.equal(view.getUint32(0), this.sum.value, "checksum of the transaction");
        const { head, records } = this.#transaction;
        this.#transaction = undefined;
        const whole = records.map(({ oid, tid, dataTid, parts }) => ({
          oid,
          tid,
          dataTid,
          data: join(...parts),
        }));
        return { kind: "transaction", transaction: { ...head, records: whole } };
      }
    }
    assert.fail(`a frame of kind ${kind}`);
  }

  #endBlob(): void {
    const blob = this.#blob;
    if (blob === undefined || blob.missing > 0) return;
    this.#blob = undefined;
    this.blobs.push({ ...blob.head, content: join(...blob.parts) });
  }

  #add(kind: string, body: Uint8Array): void {
    this.sum.add(utf8(kind));
    this.sum.add(body);
  }
}

interface Partial {
  readonly oid: bigint;
  readonly tid: bigint;
  readonly dataTid: bigint;
  missing: number;
  readonly parts: Uint8Array[];
}

export function messageOf(body: Uint8Array): NativeMessage {
  return JSON.parse(`{${new TextDecoder("utf-8", { fatal: true }).decode(body)}`);
}

/** The frames of a whole stream. @throws AssertionError when it ends within one */
export function framesOf(stream: Uint8Array): NativeFrame[] {
  const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
  const frames = [];
  for (let at = 0; at < stream.length;) {
    const end = at + 4 + view.getUint32(at);
    assert(end <= stream.length, "The stream ends within a frame");
    frames.push({ kind: String.fromCharCode(stream[at + 4]!), body: stream.subarray(at + 5, end) });
    at = end;
  }
  return frames;
}

/** What a source sends, frame by frame, with its checksum. */
export class NativeWriter {
  readonly sum = new Sum();
  /** What `W` says while all transactions are cancelled. */
  lastTid: bigint;

  constructor(lastTid = 0n) {
    this.lastTid = lastTid;
  }

  /**
   * A run as bytes, cut into frames of so many bytes.
   * @param run.checksum in place of the right one
   */
  run(
    run: {
      bytes: Uint8Array;
      tid: bigint;
      count: number;
      frameBytes?: number;
      /** As Z instead of D. */
      isCompressed?: boolean;
      length?: number;
      checksum?: number;
    },
  ): Uint8Array {
    const { bytes, tid, count, frameBytes, length = bytes.length } = run;
    this.sum.add(bytes);
    this.lastTid = tid;
    const checksum = integer(run.checksum ?? this.sum.value, 4);
    return join(
      run.isCompressed ? compressed(bytes) : content(bytes, frameBytes),
      frame("W", eight(tid), eight(BigInt(length)), integer(count, 4), checksum),
    );
  }

  /** A transaction record by record. @param checksum in place of the right one */
  transaction(transaction: NativeTransaction, checksum?: number): Uint8Array {
    const { tid, status = " ", user = "", description = "", extension = "", records } = transaction;
    const texts = [user, description, extension].map(utf8);
    const head = join(eight(tid), utf8(status), ...texts.map(({ length }) => integer(length, 2)), ...texts);
    const frames = [this.#frame("T", head)];
    for (const { oid, tid: recordTid = tid, dataTid = 0n, data } of records) {
      const bytes = utf8(data);
      frames.push(
        this.#frame("R", join(eight(oid), eight(recordTid), eight(dataTid), eight(BigInt(bytes.length)))),
      );
      frames.push(content(bytes));
      this.sum.add(bytes);
    }
    this.lastTid = tid;
    return join(...frames, frame("C", integer(checksum ?? this.sum.value, 4)));
  }

  /**
   * A blob's content, behind what is left out of it.
   * @param blob.length in place of the right one
   */
  blob(
    blob: {
      oid: bigint;
      tid: bigint;
      content: Uint8Array;
      from?: number;
      length?: number | bigint;
      frameBytes?: number;
    },
  ): Uint8Array {
    const { oid, tid, content: whole, from = 0, length = whole.length, frameBytes } = blob;
    const head = this.#frame("B", join(eight(oid), eight(tid), eight(BigInt(length)), eight(BigInt(from))));
    const rest = whole.subarray(from);
    this.sum.add(rest);
    return join(head, content(rest, frameBytes));
  }

  #frame(kind: string, body: Uint8Array): Uint8Array {
    this.sum.add(utf8(kind));
    this.sum.add(body);
    return frame(kind, body);
  }
}

/** A connection by frames, from either end. */
export class NativeWire {
  readonly connection: Connection;
  /** As a source: what was sent. */
  readonly writer = new NativeWriter();
  /** As a secondary: what was received. */
  readonly reader = new NativeReader();
  readonly #chunk = new Uint8Array(64 * 1024);
  #unread: Uint8Array = new Uint8Array();

  constructor(connection: Connection) {
    this.connection = connection;
  }

  /** Sends any bytes. */
  async send(...parts: readonly Uint8Array[]): Promise<void> {
    await this.connection.write(join(...parts));
  }

  async sendMessage(message: NativeMessage): Promise<void> {
    await this.send(control(message));
  }

  /** The next frame; null at the end of the stream. */
  async receiveFrame(): Promise<NativeFrame | null> {
    const prefix = await this.receiveBytes(4);
    if (prefix === null) return null;
    const bytes = await this.receiveBytes(new DataView(prefix.buffer).getUint32(0));
    assert(bytes !== null, "The stream ended behind the length of a frame");
    return { kind: String.fromCharCode(bytes[0]!), body: bytes.subarray(1) };
  }

  /** The next control message of this type; those of the types in `over` are left out. */
  async receiveMessage(type: string, over: readonly string[] = ["beat"]): Promise<NativeMessage> {
    for (;;) {
      const received = await this.receiveFrame();
      assert(received !== null, `The stream ended before ${type}`);
      assert.equal(received.kind, "{", `expected ${type}`);
      const message = messageOf(received.body);
      if (message.type === type) return message;
      assert(over.includes(message.type), `expected ${type}, received ${JSON.stringify(message)}`);
    }
  }

  /** As a secondary: what comes of the next frames, beats left out; null at the end of the stream. */
  async receiveEvent(): Promise<NativeEvent | null> {
    for (;;) {
      const received = await this.receiveFrame();
      if (received === null) return null;
      const event = this.reader.push(received);
      if (event !== undefined && !(event.kind === "message" && event.message.type === "beat")) return event;
    }
  }

  /** As a source: the next acknowledgement, beats left out. */
  async receiveAcknowledgement(): Promise<Acknowledgement> {
    for (;;) {
      const received = await this.receiveFrame();
      assert(received !== null, "The stream ended before an acknowledgement");
      if (received.kind === "{" && messageOf(received.body).type === "beat") continue;
      const { kind, body } = received;
      assert.equal(kind, "A", `expected an acknowledgement, received ${new TextDecoder().decode(body)}`);
      assert.equal(body.length, 28);
      const view = new DataView(body.buffer, body.byteOffset);
      return {
        receivedTid: view.getBigUint64(0),
        durableTid: view.getBigUint64(8),
        bytes: Number(view.getBigUint64(16)),
        checksum: view.getUint32(24),
      };
    }
  }

  /** As a source: the acknowledgement of this tid; those of earlier ones are left out. */
  async receiveDurable(tid: bigint): Promise<Acknowledgement> {
    for (;;) {
      const acknowledgement = await this.receiveAcknowledgement();
      if (acknowledgement.durableTid === tid) return acknowledgement;
      assert(acknowledgement.durableTid < tid, `${formatTid(acknowledgement.durableTid)} was never sent`);
    }
  }

  /** Waits for the end of the stream, leaving what comes before unread. */
  async receiveEnd(): Promise<void> {
    while (await beforeDeadline("the end", this.connection.read(this.#chunk)) !== null);
  }

  close(): void {
    this.connection.close();
  }

  /** So many bytes; null when the stream ends before the first of them. */
  async receiveBytes(count: number): Promise<Uint8Array | null> {
    while (this.#unread.length < count) {
      const received = await beforeDeadline("bytes", this.connection.read(this.#chunk));
      if (received === null) {
        assert.equal(this.#unread.length, 0, "The stream ended within a frame");
        return null;
      }
      this.#unread = join(this.#unread, this.#chunk.subarray(0, received));
    }
    const bytes = this.#unread.slice(0, count);
    this.#unread = this.#unread.subarray(count);
    return bytes;
  }
}

/** A welcome with everything in it, or with what is different. */
export function welcome(fields: Record<string, unknown> = {}): NativeMessage {
  return {
    type: "welcome",
    version: VERSION,
    software: "a script",
    capabilities: ["raw", "zstd"],
    lastTid: NO_TID_TEXT,
    end: 4,
    beatMs: 10_000,
    ...fields,
  };
}

/** A hello with everything in it, or with what is different. */
export function hello(fields: Record<string, unknown> = {}): NativeMessage {
  return {
    type: "hello",
    version: VERSION,
    software: "a script",
    lastTid: NO_TID_TEXT,
    end: 4,
    runBytes: 1_048_576,
    beatMs: 10_000,
    capabilities: ["raw"],
    required: [],
    ...fields,
  };
}
