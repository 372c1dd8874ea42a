/** What a secondary is told when it starts. */
import type { Address } from "../ports/mod.ts";
import type { Secret } from "../native/mod.ts";
import type { Protocol } from "./receiving/approach.ts";
import type { BlobOptions } from "./blob_use.ts";
import type { BufferSizes } from "./buffers.ts";
import type { Compress } from "./sending/pace.ts";

export interface SecondaryOptions extends BlobOptions {
  readonly path: string;
  readonly replicateFrom: Address;
  /** Where chained secondaries connect to. */
  readonly replicateTo?: Address;
  /** So many of them are served at once; default: 100. */
  readonly maxSecondaries?: number;
  /** Whether content is compressed between nodes of ours; `auto` on slow links; default: `auto`. */
  readonly compress?: Compress;
  /** All secondaries together are sent no more than so many bytes a second. */
  readonly bytesPerSecond?: number | undefined;
  /** Name and version of this program, for the other end's log. */
  readonly software?: string;
  /** What the source is to remember it by. */
  readonly name?: string | undefined;
  /** Whether it is remembered, beside the file, how far its own secondaries are; default: no. */
  readonly remember?: boolean;
  /** How often to tell the source that we are still here. */
  readonly keepAliveMs?: number;
  /** The longest wait between two attempts to connect. */
  readonly retryMaxMs?: number;
  /** How often to save the index when it has changed. */
  readonly indexSaveMs?: number;
  /**
   * What is received is applied to the file when it is so old, by the time of day; until then it waits beside the
   * file, on disk. Default: 0, at once.
   */
  readonly applyDelayMs?: number;
  /** From so many bytes on a file of what waits is followed by another; default: 64 MiB. */
  readonly segmentBytes?: number;
  /** A source that stops in the middle of a transaction, or takes nothing, for so long is dropped. */
  readonly peerTimeoutMs?: number;
  readonly buffers?: BufferSizes;
  /** `auto`: the native stream where the source speaks it, else zrs2. */
  readonly protocol?: Protocol;
  /**
   * Where the source has no file for a blob's record: `mark` takes the record alone, by the native stream, and puts
   * the blob on a list beside the file; default: fail, the stream ends before it.
   */
  readonly missingBlobs?: "fail" | "mark" | undefined;
  /**
   * Where the source refuses this replica as ahead or forked, by the native stream, so many transactions may be
   * taken back to go on with it; default: 0, never.
   */
  readonly rewindLimit?: number;
  /** The source, and secondaries of this one, must prove that they have it: then zrs2 is not spoken. */
  readonly secret?: Secret | undefined;
  /** Ends {@link Secondary.open} while it scans the file, which may take long without an index. */
  readonly signal?: AbortSignal;
}
