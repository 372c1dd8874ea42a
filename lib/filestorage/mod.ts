/** The file: reading in place, finding, listing, following, recovering, appending, packing, comparing, and its index. */
export { FIRST_POSITION, MAGIC, MAGIC_PYTHON2, RECORD, TRAILER_SIZE, TRANSACTION } from "./layout.ts";
export { Appender, type Run } from "./appender.ts";
export {
  BlobDirectory,
  type BlobKey,
  type BlobLayout,
  blobName,
  revisionName,
} from "./blobs/blob_directory.ts";
export { MissingBlobs, missingBlobsPath, readMissingBlobs } from "./blobs/missing_blobs.ts";
export { BlobFinder, blobKeyOf } from "./blobs/blob_finder.ts";
export { type Comparison, FileComparison, nothingCompared, saysTheSame } from "./compare/compare.ts";
export { lastRecords } from "./compare/compare_records.ts";
export { ComparedFile, mayLack, type Neighbour } from "./compare/compare_side.ts";
export {
  describeDifference,
  type Difference,
  type MetadataField,
  type Names,
  type RecordDifference,
  type RecordSpot,
} from "./compare/difference.ts";
export { type ContentDigest, ContentDigester } from "./compare/content_digest.ts";
export { type DelayedOptions, DelayedStorage } from "./pending/delayed_storage.ts";
export { type Change, FollowedFile } from "./followed_file.ts";
export { type FileEnd, findEndBackwards } from "./file_end.ts";
export { digestHistory, type HistoryDigest, spokenDigest } from "./compare/history_digest.ts";
export {
  History,
  listRecords,
  listTransactions,
  type Readable,
  type RecordEntry,
  type Selection,
  startOf,
  type TransactionEntry,
} from "./history.ts";
export {
  countedBefore,
  isWithinPack,
  locateTid,
  type Location,
  type Place,
  placeOf,
  readWhole,
  TidMap,
  walkingReader,
} from "./locate.ts";
export { Generation, type LogView, Subscribers, type TransactionLog } from "./log.ts";
export {
  keepForSecondaries,
  type KnownSecondary,
  readKnownSecondaries,
  writeKnownSecondaries,
} from "./pack/known_secondaries.ts";
export { openWithPending } from "./pending/pending_history.ts";
export { ObjectIndex } from "./index/object_index.ts";
export { RevisionFinder } from "./revision_finder.ts";
export { directoryOf, readMagic } from "./open.ts";
export { GrowingDigest } from "./compare/growing_digest.ts";
export { Restorer } from "./restore.ts";
export { type ExamineRecord, forEachRecord } from "./raw_run.ts";
export { planPromotion, promote, type PromotionPlan } from "./pending/promote.ts";
export { likePermissions, replaceFile } from "./replace_file.ts";
export { RecordReader } from "./revision.ts";
export type { Patience } from "./recover.ts";
export { type PackOptions, type PackProgress, type PackReport, packStorage } from "./pack/pack.ts";
export type { FindReferences } from "./pack/reachable.ts";
export {
  checkNotWithinPack,
  checkRoomForRewind,
  planRewind,
  type RewindPlan,
  rewindStorage,
} from "./rewind.ts";
export { pendingBytes, segmentPaths } from "./pending/segment.ts";
export { refusePending } from "./own_file.ts";
export { type OpenReport, Storage } from "./storage.ts";
export { isFinalStatus, TransactionReader, type TransactionState } from "./transaction.ts";
export { type AskBlobs, BlobComparison, type BlobFacts, MAX_BLOBS_ASKED } from "./compare/compare_blobs.ts";
export { digestBlob, type FoundBlob } from "./blobs/blob_digest.ts";
export { type ByteSource, DEFAULT_WINDOW_BYTES, Window } from "./window.ts";
export { describe, type Finding, gravityOf } from "./verify/finding.ts";
export { Verification, type Verified, type VerifyOptions } from "./verify/verify.ts";
