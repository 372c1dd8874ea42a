/**
 * Either end of a zrs2 connection, message by message, as a script says it. Restates the protocol on purpose
 * (docs/zrs_protocol.md), so that it checks lib/zrs instead of following it.
 */
import { createHash, type Hash } from "node:crypto";
import assert from "node:assert/strict";
import type { Connection } from "../../lib/ports/mod.ts";
import { beforeDeadline } from "./feed.ts";

export interface WireRecord {
  readonly oid: bigint;
  /** Default: the transaction's. */
  readonly tid?: bigint;
  /** What the version field says; always empty. */
  readonly version?: string;
  readonly dataTxn?: bigint;
  readonly data: Uint8Array | string;
  /** The blocks of a blob: the record is then sent as B. */
  readonly blocks?: readonly Uint8Array[];
}

export interface WireTransaction {
  readonly tid: bigint;
  /** Default: a space. */
  readonly status?: string;
  readonly user?: string;
  readonly description?: string;
  /** Opcodes; default: an empty dict. */
  readonly extension?: Uint8Array;
  readonly records: readonly WireRecord[];
}

const encoder = new TextEncoder();

function utf8(text: string | Uint8Array): Uint8Array {
  return typeof text === "string" ? encoder.encode(text) : text;
}

export function join(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** 8 bytes, big-endian. */
export function eight(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value);
  return bytes;
}

/** A message with its length in front. */
export function framed(body: Uint8Array | string): Uint8Array {
  const bytes = utf8(body);
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, bytes.length);
  return join(length, bytes);
}

function text(value: string): Uint8Array {
  const bytes = utf8(value);
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, bytes.length, true);
  return join(utf8("X"), length, bytes);
}

/** Bytes as Python 3 pickles them in protocol 1: text of one character for each byte. */
function bytesForm(bytes: Uint8Array): Uint8Array {
  if (bytes.length === 0) return utf8("c__builtin__\nbytes\n)R");
  const characters = text(String.fromCharCode(...bytes));
  return join(utf8("c_codecs\nencode\n("), characters, text("latin1"), utf8("tR"));
}

function message(kind: string, ...fields: readonly Uint8Array[]): Uint8Array {
  return join(utf8("("), text(kind), utf8("("), ...fields, utf8("tt."));
}

/** The bodies of a transaction's messages up to its last record, without C. */
export function messagesOf(transaction: WireTransaction): Uint8Array[] {
  const { tid, status = " ", user = "", description = "", extension = utf8("}"), records } = transaction;
  const bodies = [
    message(
      "T",
      bytesForm(eight(tid)),
      text(status),
      bytesForm(utf8(user)),
      bytesForm(utf8(description)),
      extension,
    ),
  ];
  for (const record of records) {
    const fields = [
      bytesForm(eight(record.oid)),
      bytesForm(eight(record.tid ?? tid)),
      text(record.version ?? ""),
      record.dataTxn === undefined ? utf8("N") : bytesForm(eight(record.dataTxn)),
    ];
    const { blocks } = record;
    bodies.push(
      blocks === undefined
        ? message("S", ...fields)
        : message("B", ...fields, new Uint8Array([0x4b, blocks.length])),
    );
    bodies.push(utf8(record.data), ...(blocks ?? []));
  }
  return bodies;
}

/** A connection by messages, from either end. */
export class Wire {
  readonly connection: Connection;
  readonly #chunk = new Uint8Array(64 * 1024);
  #unread: Uint8Array = new Uint8Array();
  #chain: Hash = createHash("md5").update(eight(0n));

  constructor(connection: Connection) {
    this.connection = connection;
  }

  /** Sends any bytes. */
  async send(...parts: readonly (Uint8Array | string)[]): Promise<void> {
    await this.connection.write(join(...parts.map(utf8)));
  }

  /** The next message's body; null at the end of the stream. */
  async receive(): Promise<Uint8Array | null> {
    const prefix = await this.receiveBytes(4);
    if (prefix === null) return null;
    const length = new DataView(prefix.buffer, prefix.byteOffset).getUint32(0);
    return await this.receiveBytes(length);
  }

  /** So many bytes; null when the stream ends before the first of them. */
  async receiveBytes(count: number): Promise<Uint8Array | null> {
    while (this.#unread.length < count) {
      const received = await beforeDeadline("bytes", this.connection.read(this.#chunk));
      if (received === null) {
        assert.equal(this.#unread.length, 0, "The stream ended within a message");
        return null;
      }
      this.#unread = join(this.#unread, this.#chunk.subarray(0, received));
    }
    const bytes = this.#unread.slice(0, count);
    this.#unread = this.#unread.subarray(count);
    return bytes;
  }

  /** Waits for the end of the stream, leaving what comes before unread. */
  async receiveEnd(): Promise<void> {
    while (await beforeDeadline("the end", this.connection.read(this.#chunk)) !== null);
  }

  /** As a primary: the secondary's greeting. @returns its version and the tid it has */
  async receiveGreeting(): Promise<{ version: string; tid: bigint }> {
    const [version, tid] = [await this.receive(), await this.receive()];
    assert(version !== null && tid !== null && tid.length === 8, "A greeting must be two messages");
    this.#chain = createHash("md5").update(tid);
    return {
      version: new TextDecoder().decode(version),
      tid: new DataView(tid.buffer, tid.byteOffset).getBigUint64(0),
    };
  }

  /** As a primary: messages, which go into the digest. */
  async sendMessages(...bodies: readonly Uint8Array[]): Promise<void> {
    for (const body of bodies) this.#chain.update(body);
    await this.send(...bodies.map(framed));
  }

  /** As a primary: the digest of all that came before, or another one. */
  async sendCommit(digest?: Uint8Array): Promise<void> {
    await this.sendMessages(message("C", bytesForm(digest ?? this.#chain.copy().digest())));
  }

  /** As a primary: a whole transaction. */
  async sendTransaction(transaction: WireTransaction): Promise<void> {
    await this.sendMessages(...messagesOf(transaction));
    await this.sendCommit();
  }

  /** As a secondary: the greeting. */
  async greet(tid: bigint, version = "zrs2.1"): Promise<void> {
    await this.send(framed(version), framed(eight(tid)));
  }

  close(): void {
    this.connection.close();
  }
}
