export type { BufferSizes } from "./buffers.ts";
export { queryLineage, type Verdict } from "./lineage_query.ts";
export type { Compress } from "./pace.ts";
export type { Ports } from "./ports.ts";
export { Primary, type PrimaryOptions } from "./primary.ts";
export type { DelayStatus, Lag, NodeStatus, PeerStatus, SourceStatus } from "./status.ts";
export { RepeatedLog } from "./repeated_log.ts";
export type { Secret } from "../native/mod.ts";
export { Secondary, type SecondaryOptions } from "./secondary.ts";
