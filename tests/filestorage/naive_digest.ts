/** The digests of filestorage/compare/content_digest.ts and history_digest.ts in the plainest way, from what the naive reader read. */
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

/** All that a transaction says. */
function contentOf({ tid, user, description, extension, records }: ReadTransaction): Uint8Array[] {
  const texts = [user, description, extension];
  const lengths = texts.map((text) => number(text.length, 2));
  return [number(tid, 8), ...lengths, ...texts, ...records.flatMap(recordBytes)];
}

export function naiveDigest(transaction: ReadTransaction): { digest: string; body: string; records: number } {
  const tid = number(transaction.tid, 8);
  const records = transaction.records.flatMap(recordBytes);
  const digest = sha256(contentOf(transaction));
  return {
    digest,
    body: records.length === 0 ? digest : sha256([tid, ...records]),
    records: transaction.records.length,
  };
}

export function naiveRecordDigest(record: ReadRecord): string {
  return sha256(recordBytes(record));
}

/** The digest of a stretch of history (filestorage/compare/history_digest.ts), hexadecimal. */
export function naiveHistoryDigest(transactions: readonly ReadTransaction[]): string {
  const parts = transactions.flatMap((transaction) => {
    const said = contentOf(transaction);
    return [...said, number(said.reduce((sum, { length }) => sum + length, 0), 8)];
  });
  return sha256(parts);
}
