/**
 * A naive reader and encoder of Data.fs, written from the description of the format alone. It restates the
 * layout on purpose and shares no code with lib/filestorage: it is what the real code is compared with.
 * Whole files at a time, bigints throughout, no care for speed.
 */

export const MAGIC = new Uint8Array([0x46, 0x53, 0x33, 0x30]); // FS30

export const COMMITTED = 0x20; // ' '
export const PACKED = 0x70; // 'p'
export const VOTED = 0x63; // 'c'

/** Where a transaction's status byte lies behind its position. */
export const STATUS_OFFSET = 16;

const TRANSACTION_HEAD = 23;
const RECORD_HEAD = 42;

/** What a record holds: data, or the position of an earlier record that has it, 0 for "does not exist". */
export type Payload = { readonly data: Uint8Array } | { readonly backPointer: number };

export interface NaiveRecord {
  readonly oid: bigint;
  readonly previous: number;
  readonly payload: Payload;
}

export interface NaiveTransaction {
  readonly tid: bigint;
  readonly status: number;
  readonly user: Uint8Array;
  readonly description: Uint8Array;
  readonly extension: Uint8Array;
  readonly records: readonly NaiveRecord[];
}

/** A transaction as found in a file. */
export interface FoundTransaction extends NaiveTransaction {
  readonly position: number;
  readonly bytes: Uint8Array;
  readonly records: readonly (NaiveRecord & { readonly position: number })[];
}

/** How the scan of a file ended: at its end, before a torn tail, or at something that is no tail. */
export interface Scan {
  readonly transactions: FoundTransaction[];
  /** Where the last good transaction ends. */
  readonly end: number;
  readonly outcome: "whole" | "torn" | "damaged";
}

/** The bytes of one whole transaction that begins at `position`, and where its records begin. */
export function encode(
  transaction: NaiveTransaction,
  position: number,
): { bytes: Uint8Array; starts: number[] } {
  const { user, description, extension } = transaction;
  const head = TRANSACTION_HEAD + user.length + description.length + extension.length;
  const length = transaction.records.reduce((sum, record) => sum + recordSize(record.payload), head);
  const bytes = new Uint8Array(length + 8);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, transaction.tid);
  view.setBigUint64(8, BigInt(length));
  view.setUint8(STATUS_OFFSET, transaction.status);
  view.setUint16(17, user.length);
  view.setUint16(19, description.length);
  view.setUint16(21, extension.length);
  bytes.set(user, 23);
  bytes.set(description, 23 + user.length);
  bytes.set(extension, 23 + user.length + description.length);
  const starts: number[] = [];
  let at = head;
  for (const { oid, previous, payload } of transaction.records) {
    starts.push(position + at);
    view.setBigUint64(at, oid);
    view.setBigUint64(at + 8, transaction.tid);
    view.setBigUint64(at + 16, BigInt(previous));
    view.setBigUint64(at + 24, BigInt(position));
    view.setUint16(at + 32, 0);
    if ("data" in payload) {
      if (payload.data.length === 0) throw new Error("A record with empty data cannot be written");
      view.setBigUint64(at + 34, BigInt(payload.data.length));
      bytes.set(payload.data, at + 42);
    } else {
      view.setBigUint64(at + 34, 0n);
      view.setBigUint64(at + 42, BigInt(payload.backPointer));
    }
    at += recordSize(payload);
  }
  view.setBigUint64(length, BigInt(length));
  return { bytes, starts };
}

/**
 * Reads a whole file as FileStorage does when it opens one without an index.
 * @param from where to begin: the end of a transaction that is known to be good
 */
export function scan(file: Uint8Array, from = MAGIC.length): Scan {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const number = (at: number) => Number(view.getBigUint64(at));
  const transactions: FoundTransaction[] = [];
  if (file.length < 4 || MAGIC.some((byte, i) => file[i] !== byte)) {
    return { transactions, end: 0, outcome: file.length === 0 ? "whole" : "damaged" };
  }
  let pos = from;
  const stop = (outcome: Scan["outcome"]): Scan => ({ transactions, end: pos, outcome });
  while (pos < file.length) {
    if (file.length - pos < TRANSACTION_HEAD) return stop("torn");
    const length = number(pos + 8);
    const status = view.getUint8(pos + STATUS_OFFSET);
    if (pos + length + 8 > file.length || status === VOTED) return stop("torn");
    const texts = [17, 19, 21].map((at) => view.getUint16(pos + at));
    const head = TRANSACTION_HEAD + texts.reduce((sum, size) => sum + size, 0);
    if (length < head) {
      const last = file.length >= 8 ? number(file.length - 8) : 0;
      return stop(file.length - last < pos || last < TRANSACTION_HEAD ? "torn" : "damaged");
    }
    const end = pos + length;
    const records: FoundTransaction["records"][number][] = [];
    let at = pos + head;
    while (at < end) {
      if (at + RECORD_HEAD > end || number(at + 24) !== pos || view.getUint16(at + 32) !== 0) {
        return stop("damaged");
      }
      const size = number(at + 34);
      const after = at + RECORD_HEAD + (size === 0 ? 8 : size);
      if (after > end) return stop("damaged");
      const payload = size === 0 ? { backPointer: number(at + 42) } : { data: file.slice(at + 42, after) };
      records.push({ oid: view.getBigUint64(at), previous: number(at + 16), payload, position: at });
      at = after;
    }
    if (number(end) !== length) return stop("damaged");
    let text = pos + TRANSACTION_HEAD;
    const [user, description, extension] = texts.map((size) => file.slice(text, text += size));
    transactions.push({
      tid: view.getBigUint64(pos),
      status,
      user: user!,
      description: description!,
      extension: extension!,
      records,
      position: pos,
      bytes: file.slice(pos, end + 8),
    });
    pos = end + 8;
  }
  return stop("whole");
}

/** The tid of a moment, in milliseconds since 1970 UTC. */
export function tidAt(ms: number): bigint {
  const date = new Date(Math.floor(ms / 60_000) * 60_000);
  const day = ((date.getUTCFullYear() - 1900) * 12 + date.getUTCMonth()) * 31 + date.getUTCDate() - 1;
  const minute = (day * 24 + date.getUTCHours()) * 60 + date.getUTCMinutes();
  const second = (ms - date.getTime()) / 1000;
  return (BigInt(minute) << 32n) + BigInt(Math.floor(second * 2 ** 32 / 60));
}

function recordSize(payload: Payload): number {
  return RECORD_HEAD + ("data" in payload ? payload.data.length : 8);
}
