/**
 * Builds the bytes of a Data.fs from a description, so that a test is data. Lengths, previous positions, back
 * pointers and trailers are computed as ZODB would write them; any of them can be overridden to damage the
 * file. The layout is restated here on purpose, so that it checks lib/filestorage instead of following it
 * (docs/filestorage_format.md).
 */
import { OffsetWriter } from "./offset_writer.ts";

/** A data record: transaction index, and record index within it, both from 0. */
export type RecordReference = readonly [transaction: number, record: number];

/** Overrides of fields of a record header, for damage. */
export interface RecordDamage {
  readonly oid?: bigint;
  readonly tid?: bigint;
  readonly previous?: bigint;
  readonly transaction?: bigint;
  readonly versionLength?: number;
  readonly dataLength?: bigint;
  /** In place of the back pointer's position. */
  readonly backPointer?: bigint;
}

/** Overrides of fields of a transaction header and of its trailer, for damage. */
export interface TransactionDamage {
  readonly tid?: bigint;
  readonly length?: bigint;
  /** Any byte. */
  readonly status?: number;
  readonly userLength?: number;
  readonly descriptionLength?: number;
  readonly extensionLength?: number;
  readonly trailer?: bigint;
}

export type RecordDescription =
  & {
    readonly oid: bigint;
    /**
     * Default: the oid's last record in an earlier finished transaction, or none; in a transaction with status
     * `p` always none, as a pack writes it.
     */
    readonly previous?: RecordReference | "none";
    readonly damage?: RecordDamage;
  }
  & (
    /** Data of its own; text is written as UTF-8. */
    | { readonly data: Uint8Array | string }
    /** The data of another record of this oid. */
    | { readonly backPointer: RecordReference }
    /** The object does not exist any more: a back pointer of 0. */
    | { readonly undone: true }
  );

export interface TransactionDescription {
  readonly tid: bigint;
  /** Default: a space, committed. */
  readonly status?: " " | "p" | "c" | "u";
  readonly user?: Uint8Array | string;
  readonly description?: Uint8Array | string;
  /** A pickle. */
  readonly extension?: Uint8Array;
  readonly records: readonly RecordDescription[];
  readonly damage?: TransactionDamage;
}

export interface FileDescription {
  /** Default: FS30. */
  readonly magic?: string;
  /** Bytes behind the last transaction. */
  readonly tail?: Uint8Array | string;
}

/** Where everything lies, in bytes from the start of the file; an end is the position of the byte behind. */
export interface BuiltFile {
  readonly bytes: Uint8Array;
  readonly transactions: readonly {
    readonly position: number;
    readonly end: number;
    readonly records: readonly { readonly position: number; readonly end: number }[];
  }[];
  /** The end of the last transaction, before the tail. */
  readonly end: number;
}

const TRANSACTION_HEADER = 23;
const RECORD_HEADER = 42;
const BACK_POINTER = 8;
const TRAILER = 8;

/** Writes a file. Nothing is checked: a description may be as wrong as a test wants. */
export function dataFs(
  transactions: readonly TransactionDescription[],
  file: FileDescription = {},
): BuiltFile {
  return new Builder(file.magic ?? "FS30").build(transactions, file.tail ?? "");
}

interface Placed {
  readonly position: number;
  readonly end: number;
  readonly records: { readonly position: number; readonly end: number }[];
}

class Builder {
  readonly #out = new OffsetWriter();
  readonly #placed: Placed[] = [];
  /** The position of each oid's current record. */
  readonly #current = new Map<bigint, number>();

  constructor(magic: string) {
    this.#out.bytes(encode(magic));
  }

  build(transactions: readonly TransactionDescription[], tail: Uint8Array | string): BuiltFile {
    for (const transaction of transactions) this.#transaction(transaction);
    const end = this.#out.position;
    this.#out.bytes(encode(tail));
    return { bytes: this.#out.take(), transactions: this.#placed, end };
  }

  #transaction(description: TransactionDescription): void {
    const { damage = {}, records } = description;
    const texts = [description.user, description.description, description.extension].map((text) =>
      encode(text ?? "")
    );
    const position = this.#out.position;
    const headerLength = TRANSACTION_HEADER + sum(texts.map((text) => text.length));
    const bodyLength = sum(records.map((record) => RECORD_HEADER + payloadOf(record).length));
    const length = BigInt(headerLength + bodyLength);
    // Known before it is filled: a back pointer may lead to a record of its own transaction.
    const placed: Placed = { position, end: position + Number(length) + TRAILER, records: [] };
    this.#placed.push(placed);

    const out = this.#out;
    out.u64(damage.tid ?? description.tid);
    out.u64(damage.length ?? length);
    out.u8(damage.status ?? encode(description.status ?? " ")[0]!);
    out.u16(damage.userLength ?? texts[0]!.length);
    out.u16(damage.descriptionLength ?? texts[1]!.length);
    out.u16(damage.extensionLength ?? texts[2]!.length);
    for (const text of texts) out.bytes(text);
    for (const record of records) {
      const start = out.position;
      this.#record(record, description, position);
      placed.records.push({ position: start, end: out.position });
    }
    out.u64(damage.trailer ?? length);

    if (description.status === "c" || description.status === "u") return;
    records.forEach((record, index) => this.#current.set(record.oid, placed.records[index]!.position));
  }

  #record(record: RecordDescription, transaction: TransactionDescription, position: number): void {
    const damage = record.damage ?? {};
    const out = this.#out;
    out.u64(damage.oid ?? record.oid);
    out.u64(damage.tid ?? transaction.tid);
    out.u64(damage.previous ?? this.#previousOf(record, transaction));
    out.u64(damage.transaction ?? BigInt(position));
    out.u16(damage.versionLength ?? 0);
    const payload = payloadOf(record);
    if ("data" in record) {
      out.u64(damage.dataLength ?? BigInt(payload.length));
      out.bytes(payload);
    } else {
      out.u64(damage.dataLength ?? 0n);
      const target = "backPointer" in record ? this.#positionOf(record.backPointer) : 0n;
      out.u64(damage.backPointer ?? target);
    }
  }

  #previousOf(record: RecordDescription, transaction: TransactionDescription): bigint {
    if (record.previous === "none") return 0n;
    if (record.previous !== undefined) return this.#positionOf(record.previous);
    return transaction.status === "p" ? 0n : BigInt(this.#current.get(record.oid) ?? 0);
  }

  #positionOf([transaction, record]: RecordReference): bigint {
    const placed = this.#placed[transaction]?.records[record];
    if (placed === undefined) {
      throw new RangeError(
        `Cannot refer to record ${record} of transaction ${transaction}: it is not written yet`,
      );
    }
    return BigInt(placed.position);
  }
}

/** What follows the record's header; for a back pointer only its length counts. */
function payloadOf(record: RecordDescription): Uint8Array {
  return "data" in record ? encode(record.data) : new Uint8Array(BACK_POINTER);
}

function encode(text: Uint8Array | string): Uint8Array {
  return typeof text === "string" ? new TextEncoder().encode(text) : text;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
