/** The digests of filestorage/content_digest.ts in the plainest way, from what the naive reader read. */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { bytesOf } from "../kit/hex.ts";
import type { ReadRecord, ReadTransaction } from "../kit/transactions_of.ts";

function number(value: bigint | number, bytes: number): Uint8Array {
  return bytesOf(BigInt(value).toString(16).padStart(2 * bytes, "0"));
}

function recordBytes({ oid, data }: ReadRecord): Uint8Array[] {
  return data === null
    ? [number(oid, 8), new Uint8Array(8).fill(0xff)]
    : [number(oid, 8), number(data.length, 8), data];
}

function sha256(parts: readonly Uint8Array[]): string {
  return createHash("sha256").update(Buffer.concat(parts)).digest("hex");
}

export function naiveDigest(transaction: ReadTransaction): { digest: string; body: string; records: number } {
  const { user, description, extension } = transaction;
  const tid = number(transaction.tid, 8);
  const texts = [user, description, extension];
  const records = transaction.records.flatMap(recordBytes);
  const digest = sha256([tid, ...texts.map((text) => number(text.length, 2)), ...texts, ...records]);
  return {
    digest,
    body: records.length === 0 ? digest : sha256([tid, ...records]),
    records: transaction.records.length,
  };
}

export function naiveRecordDigest(record: ReadRecord): string {
  return sha256(recordBytes(record));
}
