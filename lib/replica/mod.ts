/** Primary and secondary, and what connects a stream with a file. */
export type { BufferSizes } from "./buffers.ts";
export { ComparedSource, NotNativeError } from "./compare/compare_query.ts";
export { SourceComparison } from "./compare/compare_source.ts";
export { StreamComparison } from "./compare/compare_zrs.ts";
export type { PackRequest } from "./live_pack.ts";
export { queryLineage, type Verdict } from "./lineage/lineage_query.ts";
export type { Compress } from "./sending/pace.ts";
export type { Ports } from "./ports.ts";
export { Primary, type PrimaryOptions } from "./primary.ts";
export type { DelayStatus, Lag, NodeStatus, PeerStatus, SourceStatus } from "./status.ts";
export { RepeatedLog } from "./repeated_log.ts";
export type { Secret } from "../native/mod.ts";
export type { Promotion } from "./replica_file.ts";
export { Secondary } from "./secondary.ts";
export type { SecondaryOptions } from "./secondary_options.ts";
export type { BlobOptions } from "./blob_use.ts";
export {
  type SyncedBlobs,
  type SyncEnd,
  type SyncOptions,
  syncReplica,
  type SyncReport,
} from "./sync/sync.ts";
export { PackedAwayError, type SyncProgress } from "./sync/catch_up.ts";
export {
  limitedSource,
  networkSource,
  OnceError,
  openFileSource,
  STDIO_NAME,
  stdioSource,
  type SyncSource,
} from "./sync/sync_source.ts";
export {
  type Divergence,
  divergenceFound,
  divergenceOf,
  HistoriesDifferError,
  type NamedTransaction,
} from "./sync/divergence.ts";
export { checkHistory, type HistoryCheck } from "./sync/history_check.ts";
export { askLastTid } from "./sync/ask_last_tid.ts";
export { compareFarFile, findFarEnd } from "./far/far_compare.ts";
export { notComparable } from "./far/far_catch_up.ts";
export { FAR_CHECK_OBSTACLE, FarFileSource, FarSource } from "./far/far_source.ts";
export { Throttle } from "./sending/throttle.ts";
export { connectFar, type Far, type FarOptions, type FarPlace, type FarPorts } from "./far/far_connect.ts";
export { countOf } from "./transaction_words.ts";
export { lowerFirst } from "./lower_first.ts";
export { inOneLine } from "./far/process_connection.ts";
export { type PushEnd, pushFar } from "./far/far_push.ts";
export { type FarSyncResult, syncFarFile } from "./far/far_sync.ts";
export { pauser, politePauser, sleep } from "./waiting.ts";
