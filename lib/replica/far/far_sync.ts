/**
 * Bringing a replica up to date from a Data.fs on another machine where nothing of ours is installed. Such a file
 * only grows, between packs: where ours is a prefix of it, what follows is read as it lies there, checked as a run
 * of the native stream is (filestorage/raw_run.ts) and appended. Where ours is none, nothing is written.
 */
import { readU64, viewOf } from "../../bytes/mod.ts";
import { FIRST_POSITION, type Storage, TRAILER_SIZE, TRANSACTION } from "../../filestorage/mod.ts";
import { type BlobReception, contentsOf } from "../blob_use.ts";
import { type BufferSizes, DEFAULT_BUFFER_SIZES } from "../buffers.ts";
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
import { FarBlobDirectory, FarBlobs } from "./far_blobs.ts";
import { Incoming, UnwantedError } from "../receiving/incoming.ts";
import type { Ports } from "../ports.ts";
import { Sink } from "../receiving/sink.ts";
import { pauser } from "../waiting.ts";

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
/** So much is held in memory where transactions may have blobs. */
const WHOLE_BYTES = 4 * 1024 * 1024;

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
  const directory = options.blobs.choice === "replicate" ? await FarBlobDirectory.open(far.shell) : undefined;
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
  const transactions = await copy(ports, storage, far, directory, options, signal);
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
  directory: FarBlobDirectory | undefined,
  options: FarSyncOptions,
  signal: AbortSignal,
): Promise<number> {
  const start = storage.end;
  if (far.size <= start) return 0;
  const buffers = options.buffers ?? DEFAULT_BUFFER_SIZES;
  const contents = contentsOf(options.blobs);
  const sink = new Sink(ports, storage, buffers, signal, { onFull: "fail", blobs: contents });
  const { log } = ports;
  const pause = pauser(ports.clock);
  const blobs = directory && contents && new FarBlobs(directory, far, sink, contents, { log, pause });
  const runs = new FarRuns(
    far.name,
    sink,
    buffers.runBytes,
    far.size,
    new Incoming(sink.restorer, { blobs: options.blobs, log }),
    pause,
    options.until,
    blobs && (() => blobs.fetch()),
  );
  let done = start;
  const tell = async (position: number) => {
    done = position;
    options.onProgress?.(done, far.size);
    await options.saveIndexWhenDue?.(() => sink.drain());
  };
  try {
    await (blobs === undefined ? readOn : readBlockwise)(far, runs, start, options.until !== undefined, tell);
  } catch (error) {
    throw error instanceof UnwantedError ? blobs?.failure ?? error : error;
  } finally {
    try {
      await runs.finish();
    } finally {
      options.onAppended?.(sink.transactions);
    }
  }
  if (done < far.size && !runs.hasStopped) throw hasShrunk(far, done);
  return runs.transactions;
}

/** Reads to the end in as few answers as possible; transactions are checked as they come. */
async function readOn(
  far: FarFile,
  runs: FarRuns,
  start: number,
  isPart: boolean,
  tell: (position: number) => Promise<void>,
): Promise<void> {
  const stride = isPart ? STRIDE_BYTES : far.size - start;
  for (let position = start; position < far.size && !runs.hasStopped;) {
    const wanted = Math.min(stride, far.size - position);
    const { count } = await far.read(position, wanted, async (bytes, from, to) => {
      await runs.take(bytes, from, to);
      await tell(position += to - from);
    });
    if (count < wanted) return;
  }
}

/**
 * Reads blocks, and hands on the transactions that lie whole in them: between two blocks other questions can be put,
 * which their blobs need. What is larger than a block is read to its end at once.
 */
async function readBlockwise(
  far: FarFile,
  runs: FarRuns,
  start: number,
  _isPart: boolean,
  tell: (position: number) => Promise<void>,
): Promise<void> {
  const block = new Uint8Array(WHOLE_BYTES);
  for (let position = start; position < far.size && !runs.hasStopped;) {
    const wanted = Math.min(block.length, far.size - position);
    let filled = 0;
    await far.read(position, wanted, (bytes, from, to) => {
      block.set(bytes.subarray(from, to), filled);
      filled += to - from;
    });
    if (filled < wanted) return;
    const { whole, next } = measure(block.subarray(0, filled));
    const taken = whole > 0 ? whole : filled;
    await runs.take(block, 0, taken);
    position += taken;
    if (whole === 0 && !runs.hasStopped) {
      const rest = Math.min(next - filled, far.size - position);
      const { count } = await far.read(position, rest, (bytes, from, to) => runs.take(bytes, from, to));
      position += count;
      if (count < rest) return await tell(position);
    }
    if (!runs.hasStopped) await runs.settle();
    await tell(position);
  }
}

/** How many bytes the transactions have that lie whole in a block, and the next one, as far as its header tells. */
function measure(block: Uint8Array): { readonly whole: number; readonly next: number } {
  const view = viewOf(block);
  for (let whole = 0;;) {
    const left = block.length - whole;
    if (left < TRANSACTION.size) return { whole, next: left };
    const next = readU64(view, whole + TRANSACTION.length) + TRAILER_SIZE;
    if (next < TRANSACTION.size + TRAILER_SIZE || next > left) return { whole, next: Math.max(next, left) };
    whole += next;
  }
}

function hasShrunk(far: FarFile, size: number): FarReplacedError {
  return new FarReplacedError(
    `Cannot go on with ${far.name}: it has become shorter, from ${far.size} bytes to ${size}`,
    { hint: "A commit was given up there, or the file restored; try again" },
  );
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
