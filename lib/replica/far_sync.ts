/**
 * Bringing a replica up to date from a Data.fs on another machine where nothing of ours is installed. Such a file
 * only grows, between packs: where ours is a prefix of it, what follows is read as it lies there, checked as a run
 * of the native stream is (filestorage/raw_run.ts) and appended. Where ours is none, nothing is written, and the
 * histories are compared as far as a few pieces of the far file tell.
 */
import { createHash } from "node:crypto";
import { equalBytes } from "../bytes/mod.ts";
import { UnavailableError, UsageError } from "../errors.ts";
import { findEndBackwards, FIRST_POSITION, Generation, MAGIC, type Storage } from "../filestorage/mod.ts";
import { NO_TID } from "../zodb/mod.ts";
import { type BufferSizes, DEFAULT_BUFFER_SIZES } from "./buffers.ts";
import { type FarFile, FarTooMuchError } from "./far_file.ts";
import { BLOCK_BYTES } from "./far_program.ts";
import { FarRuns } from "./far_runs.ts";
import { FarReplacedError } from "./far_shell.ts";
import { Incoming } from "./incoming.ts";
import { answerQuestion, compareLineage, describeLineage, isCommonExact, lastDigest } from "./lineage.ts";
import type { Ports } from "./ports.ts";
import { Sink } from "./sink.ts";
import { pauser } from "./waiting.ts";

export interface FarSyncOptions {
  /** `refuse` ends at the first blob; `none` keeps records without the blobs' files. */
  readonly blobs: "refuse" | "none";
  /** Whether all of the replica is compared with the far file, not a few pieces of it. */
  readonly full: boolean;
  /** Told now and then how far it has come: bytes of the file that ours will be. */
  readonly onProgress?: (position: number, end: number) => void;
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
    /** What stands behind the last whole transaction there: one under way, or what a crash has left. */
    readonly unfinishedBytes: number;
    /** Whether what was copied was on disk there before; false where nothing there could see to that. */
    readonly isDurableThere: boolean;
  }
  /**
   * Both have the replica's last transaction, or a pack has removed what would tell; but the bytes differ, as a
   * pack leaves them. A new copy has to be made, or zrs be installed there.
   */
  | { readonly kind: "packed"; readonly words: string }
  /** The replica has transactions that the far file lacks. */
  | {
    readonly kind: "diverged";
    readonly words: string;
    /** The last transaction known to be common; undefined for none. */
    readonly common: bigint | undefined;
    /** No later one can be common too. */
    readonly isExact: boolean;
  }
  /** The files differ, and what a comparison needs is too much to fetch. */
  | { readonly kind: "incomparable"; readonly words: string };

/** The stretches that are compared: the replica's last, its first, and so many between. */
const SAMPLES = 8;
const SAMPLE_BYTES = BLOCK_BYTES;
/** So many blocks go into one digest: progress can be shown, and a difference is met early. */
const DIGEST_BLOCKS = 4096;
/** How far back the end of the last whole transaction is sought. */
const END_REACH_BYTES = 4 * 1024 * 1024;

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
    ports.log.warning(
      `${far.name}: nothing there can write the file to disk before it is copied. After a power loss there it ` +
        `may lack what this replica has`,
    );
  }
  await checkMagic(far);
  if (far.size < storage.end || !await isPrefix(ports, storage, far, options)) {
    return await compare(ports, storage, far);
  }
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

/** @throws UsageError where it is no FileStorage of Python 3; an empty one is */
async function checkMagic(far: FarFile): Promise<void> {
  const found = await far.bytes(0, Math.min(far.size, MAGIC.length));
  if (found.length === 0 || equalBytes(found, MAGIC)) return;
  const text = String.fromCharCode(...found);
  throw new UsageError(
    text === "FS21"
      ? `Cannot copy ${far.name}: Python 2 wrote it (FS21)`
      : `Cannot copy ${far.name}: it is not a FileStorage: it must begin with "FS30", found ${
        JSON.stringify(text)
      }`,
    {
      path: far.name,
      hint: text === "FS21" ? "Convert it with zodbupdate" : "Name the database file, usually Data.fs",
    },
  );
}

async function isPrefix(
  ports: Ports,
  storage: Storage,
  far: FarFile,
  options: FarSyncOptions,
): Promise<boolean> {
  const { end } = storage;
  if (end === FIRST_POSITION) return true;
  const last = Math.max(0, end - SAMPLE_BYTES);
  if (!await isSameStretch(storage, far, last, end - last)) return false;
  if (options.full && far.digests !== undefined) {
    return await isSameAll(ports, storage, far, far.digests, options);
  }
  const step = options.full ? SAMPLE_BYTES : Math.max(SAMPLE_BYTES, Math.floor(last / SAMPLES));
  for (let position = 0; position < last; position += step) {
    const aligned = Math.floor(position / BLOCK_BYTES) * BLOCK_BYTES;
    if (!await isSameStretch(storage, far, aligned, Math.min(SAMPLE_BYTES, last - aligned))) return false;
    if (options.full) options.onProgress?.(position, far.size);
  }
  return true;
}

async function isSameStretch(
  storage: Storage,
  far: FarFile,
  position: number,
  length: number,
): Promise<boolean> {
  const ours = new Uint8Array(length);
  storage.file.readAt(ours, position);
  return equalBytes(ours, await far.bytes(position, length));
}

/** Compares whole blocks by digest; both ends make theirs at the same time. */
async function isSameAll(
  ports: Ports,
  storage: Storage,
  far: FarFile,
  digests: "sha256" | "md5",
  options: FarSyncOptions,
): Promise<boolean> {
  const pause = pauser(ports.clock);
  const blocks = Math.floor(storage.end / BLOCK_BYTES);
  for (let first = 0; first < blocks; first += DIGEST_BLOCKS) {
    const count = Math.min(DIGEST_BLOCKS, blocks - first);
    const there = far.digest(first, count);
    there.catch(() => {}); // awaited below, where ours has not failed
    const hash = createHash(digests);
    const buffer = new Uint8Array(16 * BLOCK_BYTES);
    for (let block = first; block < first + count;) {
      const length = Math.min(buffer.length, (first + count - block) * BLOCK_BYTES);
      const piece = buffer.subarray(0, length);
      storage.file.readAt(piece, block * BLOCK_BYTES);
      hash.update(piece);
      block += length / BLOCK_BYTES;
      await pause();
    }
    if (hash.digest("hex") !== await there) return false;
    options.onProgress?.((first + count) * BLOCK_BYTES, far.size);
  }
  return true;
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
  const sink = new Sink(ports, storage, buffers, signal);
  const incoming = new Incoming(sink.restorer, { blobs: { choice: options.blobs }, log: ports.log });
  const runs = new FarRuns(
    far.name,
    sink,
    buffers.runBytes,
    far.size,
    (reader) => incoming.examine(reader),
    pauser(ports.clock),
  );
  let done = start;
  let count: number;
  try {
    ({ count } = await far.read(start, expected, async (bytes, from, to) => {
      await runs.take(bytes, from, to);
      done += to - from;
      options.onProgress?.(done, far.size);
    }));
  } finally {
    await runs.finish();
  }
  if (count < expected) {
    throw new UnavailableError(
      `Cannot go on with ${far.name}: it has become shorter, from ${far.size} bytes to ${start + count}`,
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
  if (end <= far.size && await isSameStretch(storage, far, last, end - last)) return;
  if (end === FIRST_POSITION && far.size === 0) return;
  throw new FarReplacedError(`Cannot go on with ${far.name}: its content has changed while it was copied`, {
    hint: "It has been restored or taken back there; try again",
  });
}

/** Says why the replica is no prefix of the far file. */
async function compare(ports: Ports, storage: Storage, far: FarFile): Promise<FarSyncResult> {
  const pause = pauser(ports.clock);
  const { view, lastTid } = storage;
  if (far.size <= FIRST_POSITION) {
    if (lastTid === NO_TID) return { ...NOTHING, isDurableThere: true };
    const words = describeLineage({ kind: "ahead", common: undefined }, lastTid, NO_TID);
    return { kind: "diverged", words, common: undefined, isExact: true };
  }
  const digest = await lastDigest(view, pause);
  try {
    const { end, lineage } = await far.view(async (file) => {
      const end = findEndBackwards(file, END_REACH_BYTES);
      if (end === undefined) return { end, lineage: undefined };
      const there = { generation: new Generation(0, file), ...end };
      const ask = (question: unknown) => answerQuestion(view, question, pause);
      return { end, lineage: await compareLineage(there, { lastTid, digest }, ask, pause) };
    });
    if (lineage === undefined) {
      return {
        kind: "incomparable",
        words:
          `${far.name} differs, and does not end with a transaction that could be compared: one is under way ` +
          `there, or the file is damaged`,
      };
    }
    const words = describeLineage(lineage, lastTid, end.lastTid);
    if (lineage.kind === "shared" || lineage.kind === "beyond the pack") return { kind: "packed", words };
    return {
      kind: "diverged",
      words,
      common: lineage.common,
      isExact: isCommonExact(lineage, end.lastTid),
    };
  } catch (error) {
    if (!(error instanceof FarTooMuchError)) throw error;
    return { kind: "incomparable", words: `${far.name} differs. ${error.message}` };
  }
}

const NOTHING = { kind: "complete", transactions: 0, bytes: 0, unfinishedBytes: 0 } as const;
