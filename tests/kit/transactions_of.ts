/**
 * A slow and simple reader of a Data.fs, as an oracle for lib/filestorage: it shares nothing with it, restates
 * the layout, and accepts only what is regular in every respect (docs/filestorage_format.md).
 */
import assert from "node:assert/strict";

export interface ReadRecord {
  readonly oid: bigint;
  readonly tid: bigint;
  readonly position: number;
  /** 0: none known. */
  readonly previous: number;
  /** Null for a record with data of its own; 0 when the object does not exist. */
  readonly backPointer: number | null;
  /** The data, back pointers followed; null when the object does not exist. */
  readonly data: Uint8Array | null;
  /** The transaction that the back pointer leads to directly; null without one. */
  readonly dataTid: bigint | null;
}

export interface ReadTransaction {
  readonly tid: bigint;
  readonly status: string;
  readonly user: Uint8Array;
  readonly description: Uint8Array;
  readonly extension: Uint8Array;
  readonly position: number;
  /** The position of the byte behind it. */
  readonly end: number;
  readonly records: readonly ReadRecord[];
}

/**
 * Reads a whole file.
 * @throws AssertionError, RangeError for anything irregular: other magic, tids that do not increase, unknown
 * status, `c` before the end, lengths that do not add up, previous positions and back pointers that do not lead
 * to an earlier record of the same oid, versions, a torn end
 */
export function transactionsOf(bytes: Uint8Array): ReadTransaction[] {
  const file = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  assert.equal(text(bytes.subarray(0, 4)), "FS30", "magic");
  const transactions: ReadTransaction[] = [];
  const records = new Map<number, ReadRecord>();
  for (let position = 4; position < bytes.length;) {
    const before = transactions.at(-1);
    assert.notEqual(before?.status, "c", `something follows an unfinished transaction at ${position}`);
    const transaction = readTransaction(file, bytes, position, records);
    if (before !== undefined) assert.ok(transaction.tid > before.tid, `tid must increase at ${position}`);
    transactions.push(transaction);
    position = transaction.end;
  }
  return transactions;
}

function readTransaction(
  file: DataView,
  bytes: Uint8Array,
  position: number,
  known: Map<number, ReadRecord>,
): ReadTransaction {
  const tid = file.getBigUint64(position);
  const length = safe(file.getBigUint64(position + 8));
  const status = String.fromCharCode(file.getUint8(position + 16));
  assert.match(status, /^[ pcu]$/, `status at ${position}`);
  const bodyEnd = position + length;
  const end = bodyEnd + 8;
  assert.ok(end <= bytes.length, `transaction at ${position} must end within the file`);
  assert.equal(safe(file.getBigUint64(bodyEnd)), length, `trailer of transaction at ${position}`);

  let at = position + 23;
  const texts = [17, 19, 21].map((offset) => {
    const start = at;
    at += file.getUint16(position + offset);
    assert.ok(at <= bodyEnd, `texts must lie within the transaction at ${position}`);
    return bytes.subarray(start, at);
  });
  const records: ReadRecord[] = [];
  while (at < bodyEnd) {
    const { record, end } = readRecord(file, bytes, at, { position, tid, bodyEnd }, known);
    records.push(record);
    known.set(at, record);
    at = end;
  }
  assert.equal(at, bodyEnd, `records of transaction at ${position} must fill it`);
  const [user, description, extension] = texts;
  assert.ok(user && description && extension);
  return { tid, status, user, description, extension, position, end, records };
}

function readRecord(
  file: DataView,
  bytes: Uint8Array,
  position: number,
  transaction: { position: number; tid: bigint; bodyEnd: number },
  known: ReadonlyMap<number, ReadRecord>,
): { record: ReadRecord; end: number } {
  const where = `record at ${position}`;
  const oid = file.getBigUint64(position);
  const tid = file.getBigUint64(position + 8);
  const previous = safe(file.getBigUint64(position + 16));
  assert.equal(tid, transaction.tid, `tid of ${where}`);
  assert.equal(safe(file.getBigUint64(position + 24)), transaction.position, `transaction of ${where}`);
  assert.equal(file.getUint16(position + 32), 0, `version length of ${where}`);
  if (previous !== 0) assert.equal(known.get(previous)?.oid, oid, `previous of ${where}`);

  const length = safe(file.getBigUint64(position + 34));
  const start = position + 42;
  const end = start + (length === 0 ? 8 : length);
  assert.ok(end <= transaction.bodyEnd, `${where} must end within its transaction`);
  if (length > 0) {
    const data = bytes.subarray(start, end);
    return { record: { oid, tid, position, previous, backPointer: null, data, dataTid: null }, end };
  }
  const backPointer = safe(file.getBigUint64(start));
  const target = known.get(backPointer);
  if (backPointer !== 0) assert.equal(target?.oid, oid, `back pointer of ${where}`);
  const data = target?.data ?? null;
  return { record: { oid, tid, position, previous, backPointer, data, dataTid: target?.tid ?? null }, end };
}

function safe(value: bigint): number {
  assert.ok(value <= BigInt(Number.MAX_SAFE_INTEGER), `length or position ${value} is out of range`);
  return Number(value);
}

function text(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}
