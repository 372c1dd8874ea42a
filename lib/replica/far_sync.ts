/**
 * Bringing a replica up to date from a Data.fs on another machine where nothing of ours is installed. Such a file
 * only grows, between packs: where ours is a prefix of it, what follows is read as it lies there, checked as a run
 * of the native stream is (filestorage/raw_run.ts) and appended. Where ours is none, nothing is written.
 */
import { FIRST_POSITION, type Storage } from "../filestorage/mod.ts";
import type { BlobReception } from "./blob_use.ts";
import { type BufferSizes, DEFAULT_BUFFER_SIZES } from "./buffers.ts";
import {
  compareFarFile,
  type FarCompareOptions,
  type FarDifference,
  isSameStretch,
  SAMPLE_BYTES,
} from "./far_compare.ts";
import type { FarFile } from "./far_file.ts";
import { FarRuns } from "./far_runs.ts";
import { FarReplacedError } from "./far_shell.ts";
import { Incoming } from "./incoming.ts";
import type { Ports } from "./ports.ts";
import { Sink } from "./sink.ts";
import { pauser } from "./waiting.ts";

export interface FarSyncOptions extends FarCompareOptions {
  readonly blobs: BlobReception;
  /** Nothing later is copied. */
  readonly until?: bigint | undefined;
  /** Called before anything is copied, with where the replica would end. What it throws ends all. */
  readonly onPrefix?: (end: number) => void;
  /** Told in the end, also where it fails, how many transactions are new and durable, cancelled ones included. */
  readonly onAppended?: (transactions: number) => void;
  /** Called now and then; `drain` makes durable what has come whole, and must be awaited before an index is saved. */
  readonly saveIndexWhenDue?: (drain: () => Promise<void>) => Promise<void>;
  readonly buffers?: BufferSizes;
}

/** What has become of it. Failures of the connection, the disk and the files are thrown. */
export type FarSyncResult =
  /** The replica has all that the far file had when it was looked at. */
  | {
    readonly kind: "complete";
    /** How many transactions have been appended, cancelled ones included. */
    readonly transactions: number;
    readonly bytes: number;
    /** What stands behind the last transaction that was copied: one under way, what a crash has left, or later ones. */
    readonly unfinishedBytes: number;
    /** Whether what was copied was on disk there before; false where nothing there could see to that. */
    readonly isDurableThere: boolean;
  }
  | FarDifference;

/** So much is asked for at once where it is not all wanted. */
const STRIDE_BYTES = 16 * 1024 * 1024;

/**
 * Appends to the replica what the far file has more. The index in memory is behind nothing afterwards; saving it is
 * the caller's.
 * @param signal is given to the waiting for room on a full disk; to end the rest the connection is closed
 * @throws UnavailableError where the connection is lost, the file replaced or made shorter, or damaged: what was
 * whole has been appended; UsageError where it is no FileStorage; DiskError
 */
export async function syncFarFile(
  ports: Ports,
  storage: Storage,
  far: FarFile,
  options: FarSyncOptions,
  signal: AbortSignal,
): Promise<FarSyncResult> {
  const isDurableThere = await far.sync();
  if (!isDurableThere) {
    ports.log.info(
      `${far.name}: nothing there can write the file to disk before it is copied. After a power loss there it ` +
        `may lack what this replica has`,
    );
  }
  const comparison = await compareFarFile(ports, storage.view, far, options);
  if (comparison.kind !== "prefix") return comparison;
  options.onPrefix?.(Math.max(storage.end, far.size));
  const start = storage.end;
  const transactions = await copy(ports, storage, far, options, signal);
  await checkEnd(storage, far);
  return {
    kind: "complete",
    transactions,
    bytes: storage.end - start,
    unfinishedBytes: Math.max(0, far.size - storage.end),
    isDurableThere,
  };
}

/** @returns how many transactions were appended */
async function copy(
  ports: Ports,
  storage: Storage,
  far: FarFile,
  options: FarSyncOptions,
  signal: AbortSignal,
): Promise<number> {
  const start = storage.end;
  const expected = far.size - start;
  if (expected <= 0) return 0;
  const buffers = options.buffers ?? DEFAULT_BUFFER_SIZES;
  const sink = new Sink(ports, storage, buffers, signal, { onFull: "fail" });
  const incoming = new Incoming(sink.restorer, { blobs: options.blobs, log: ports.log });
  const runs = new FarRuns(
    far.name,
    sink,
    buffers.runBytes,
    far.size,
    (reader) => incoming.examine(reader),
    pauser(ports.clock),
    options.until,
  );
  let done = start;
  const take = async (bytes: Uint8Array, from: number, to: number) => {
    await runs.take(bytes, from, to);
    done += to - from;
    options.onProgress?.(done, far.size);
    await options.saveIndexWhenDue?.(() => sink.drain());
  };
  try {
    const stride = options.until === undefined ? expected : STRIDE_BYTES;
    while (done < far.size && !runs.hasStopped) {
      const wanted = Math.min(stride, far.size - done);
      const { count } = await far.read(done, wanted, take);
      if (count < wanted) break;
    }
  } finally {
    try {
      await runs.finish();
    } finally {
      options.onAppended?.(sink.transactions);
    }
  }
  if (done < far.size && !runs.hasStopped) {
    throw new FarReplacedError(
      `Cannot go on with ${far.name}: it has become shorter, from ${far.size} bytes to ${done}`,
      { hint: "A commit was given up there, or the file restored; try again" },
    );
  }
  return runs.transactions;
}

/**
 * That the file is still the one which was copied, and still has it.
 * @throws UnavailableError
 */
async function checkEnd(storage: Storage, far: FarFile): Promise<void> {
  await far.checkStillThere();
  const { end } = storage;
  const last = Math.max(0, Math.min(far.size, end) - SAMPLE_BYTES);
  if (end <= far.size && await isSameStretch(storage.file, far, last, end - last)) return;
  if (end === FIRST_POSITION && far.size === 0) return;
  throw new FarReplacedError(`Cannot go on with ${far.name}: its content has changed while it was copied`, {
    hint: "It has been restored or taken back there; try again",
  });
}
