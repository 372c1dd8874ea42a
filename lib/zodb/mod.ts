/** What ZODB calls things: tids and times, oids, the metadata of a transaction, and which records are blobs. */
export {
  describeTid,
  formatTid,
  formatTidTime,
  laterThan,
  NO_TID,
  parseTid,
  tidOfTime,
  timeOfTid,
} from "./tid.ts";
export { BLOB_SNIFF_BYTES, isBlobRecord } from "./blob.ts";
export { formatOid, formatOidDigits, parseOid } from "./oid.ts";
export { MAX_METADATA_LENGTH, STATUS, type TransactionHead } from "./transaction.ts";
