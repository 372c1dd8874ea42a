/**
 * What a running node can say of itself, as of one moment. It is gathered when somebody asks: nothing is counted
 * or kept for it on the way of a transaction. Times are milliseconds since 1970 UTC, by the Clock port.
 */
import { NO_TID, timeOfTid } from "../zodb/mod.ts";
import type { BlobChoice } from "./blob_use.ts";

/** How far something is behind something else; what is undefined is not known. */
export interface Lag {
  /** Bytes of a Data.fs that have yet to come. */
  readonly bytes: number | undefined;
  /** The time between the last transactions of both; 0 when nothing is missing. */
  readonly seconds: number | undefined;
}

/** One secondary that a node serves. */
export interface PeerStatus {
  /** The other end of the connection; for a Unix socket its path, the same for all. */
  readonly address: string;
  readonly protocol: string;
  readonly connectedMs: number;
  /**
   * The last transaction handed to the connection, or that it said to have. With zrs2 nobody knows what has
   * arrived: two buffers, and those of the systems at both ends, may be on the way.
   */
  readonly sentTid: bigint;
  /** The end of that transaction in our file; undefined while the histories are being compared. */
  readonly position: number | undefined;
  /** By the native stream: the last transaction that has arrived there whole, and the last that is on its disk. */
  readonly receivedTid: bigint | undefined;
  readonly durableTid: bigint | undefined;
  /** By the native stream what is not on its disk, by zrs2 what has not been handed to the connection. */
  readonly lag: Lag;
}

/** Where a secondary's transactions come from. */
export interface SourceStatus {
  /** As it was given. */
  readonly address: string;
  readonly connected: boolean;
  /** Since when it is as {@link connected} says. */
  readonly sinceMs: number;
  /** While connected. */
  readonly protocol: string | undefined;
  /** The last whole transaction that has come, on disk or not. */
  readonly receivedTid: bigint;
  /** The last that is on disk. */
  readonly durableTid: bigint;
  /**
   * How far the file on disk is behind what is known of the source: by the native stream what the source has on
   * disk, by zrs2 no more than what has been received, for there it does not tell what else it has.
   */
  readonly lag: Lag & { readonly against: "received" | "source" };
  /** The last transaction that the source has on disk, as it has last said; undefined where it does not say. */
  readonly lastTid: bigint | undefined;
  /** How the last connection, or attempt at one, ended. */
  readonly lastError: { readonly words: string; readonly atMs: number } | undefined;
  /** When the next attempt to connect is due; undefined while connected, and while one is under way. */
  readonly nextAttemptMs: number | undefined;
  /**
   * Up to where the source has packed its file, as it has last said; undefined where it has not said so, as none does
   * that another process packs, or that has been started since.
   */
  readonly packedTo: bigint | undefined;
}

/** What a secondary that applies later than it receives has in its Data.fs. */
export interface DelayStatus {
  readonly delayMs: number;
  /** The last transaction in the Data.fs; NO_TID when there is none. */
  readonly appliedTid: bigint;
  /** Where it ends there. */
  readonly appliedBytes: number;
  /** What is on disk, and not in the Data.fs. */
  readonly waitingBytes: number;
  /** When the next one is due, by the time of day; undefined when nothing waits. */
  readonly nextDueMs: number | undefined;
}

export interface NodeStatus {
  readonly role: "primary" | "secondary";
  /** As it was given. */
  readonly path: string;
  /** The last transaction on disk, applied or not; NO_TID when there is none. */
  readonly lastTid: bigint;
  /** The end of that transaction in the file, once it is applied. */
  readonly bytes: number;
  /** Undefined for a node that applies at once what it receives, or receives nothing. */
  readonly delay: DelayStatus | undefined;
  /** `none`: the copies made here hold the records of blobs, not their files. */
  readonly blobs: BlobChoice;
  /** How many blobs the source had no files for are missing here; undefined where no list of them is kept. */
  readonly missingBlobs: number | undefined;
  /** What keeps the node from going on, though it is trying; undefined when nothing does. */
  readonly problem: string | undefined;
  /** Undefined for a node that follows its file. */
  readonly source: SourceStatus | undefined;
  readonly peers: readonly PeerStatus[];
}

/** The seconds that a copy ending with `tid` is behind one ending with `lastTid`, as far as their times tell. */
export function secondsBehind(tid: bigint, lastTid: bigint): number | undefined {
  if (tid >= lastTid) return 0;
  if (tid === NO_TID) return undefined;
  const seconds = (timeOfTid(lastTid) - timeOfTid(tid)) / 1000;
  return Number.isFinite(seconds) ? seconds : undefined;
}
