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
export { formatOid } from "./oid.ts";
export { MAX_METADATA_LENGTH, STATUS, type TransactionHead } from "./transaction.ts";
