/** Whether a file that another process writes still holds what has been read from it. */
import { readU64 } from "../bytes/mod.ts";
import { UnavailableError } from "../errors.ts";
import { type ByteSource, TRAILER_SIZE, TRANSACTION, type TransactionReader } from "../filestorage/mod.ts";
import { describeTid } from "../zodb/mod.ts";

/** The file was rolled back under what was being sent: the peer is to ask again. */
export class ChangedError extends UnavailableError {}

/** Where a transaction lay when it was read. */
export type Stretch = Pick<TransactionReader, "position" | "length" | "recordsEnd" | "tid">;

/**
 * A file that is cut and written anew while a transaction is being sent from it would otherwise give a mixture
 * of both, under a digest that is right. Whatever lies before the transaction can only have changed with it.
 * @throws ChangedError
 */
export function checkStillThere(file: ByteSource, transaction: Stretch): void {
  const { position, length, recordsEnd, tid } = transaction;
  const header = new DataView(new ArrayBuffer(TRANSACTION.size));
  const trailer = new DataView(new ArrayBuffer(TRAILER_SIZE));
  const isThere = file.readAt(new Uint8Array(header.buffer), position) === TRANSACTION.size &&
    file.readAt(new Uint8Array(trailer.buffer), recordsEnd) === TRAILER_SIZE &&
    header.getBigUint64(TRANSACTION.tid) === tid &&
    readU64(header, TRANSACTION.length) === length && readU64(trailer, 0) === length;
  if (isThere) return;
  throw new ChangedError(
    `Cannot send transaction ${describeTid(tid)}: it has been taken out of the file meanwhile`,
    { position, tid },
  );
}
