/**
 * Comparing a replica with a Data.fs on another machine where nothing of ours is installed. Whether ours is a prefix
 * of it a few stretches tell, or digests of all. Where it is none, the histories are compared as far as a few pieces
 * of the far file tell. Writes nothing.
 */
import { createHash } from "node:crypto";
import { equalBytes } from "../../bytes/mod.ts";
import { UsageError } from "../../errors.ts";
import {
  type FileEnd,
  findEndBackwards,
  FIRST_POSITION,
  Generation,
  type LogView,
  MAGIC,
  MAGIC_PYTHON2,
} from "../../filestorage/mod.ts";
import type { Fit } from "../../native/mod.ts";
import type { Clock, ReadableFile } from "../../ports/mod.ts";
import { NO_TID } from "../../zodb/mod.ts";
import { type FarFile, FarTooMuchError } from "./far_file.ts";
import { BLOCK_BYTES } from "./far_program.ts";
import {
  answerQuestion,
  compareLineage,
  describeLineage,
  fitOf,
  isCommonExact,
  lastDigest,
} from "../lineage/lineage.ts";
import { pauser } from "../waiting.ts";

export interface FarComparePorts {
  readonly clock: Clock;
}

export interface FarCompareOptions {
  /** Whether all of the replica is compared with the far file, not a few pieces of it. */
  readonly full: boolean;
  /** Told now and then how far it has come: bytes of the file that ours will be. */
  readonly onProgress?: (position: number, end: number) => void;
}

/** What our file is to the one there. */
export type FarComparison =
  /** It begins the file there, or is the same: what follows there can be appended. */
  | { readonly kind: "prefix" }
  | FarDifference;

export type FarDifference =
  /**
   * Both have the replica's last transaction, or a pack has removed what would tell; but the bytes differ, as a
   * pack leaves them. A new copy has to be made, or zrs be installed there.
   */
  | {
    readonly kind: "packed";
    readonly words: string;
    /** What the file there has of what is later than the replica's last transaction. */
    readonly fit: Fit;
    /** The last transaction there. */
    readonly lastTid: bigint;
  }
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
export const SAMPLE_BYTES = BLOCK_BYTES;
/** So many blocks go into one digest: progress can be shown, and a difference is met early. */
const DIGEST_BLOCKS = 4096;
/** How far back the end of the last whole transaction is sought. */
const END_REACH_BYTES = 4 * 1024 * 1024;

/**
 * Compares, from the far file's beginning to where it ended when it was opened.
 * @param ours the replica's file
 * @throws UnavailableError where the connection is lost or the file replaced; UsageError where it is no FileStorage;
 * DiskError
 */
export async function compareFarFile(
  ports: FarComparePorts,
  ours: LogView,
  far: FarFile,
  options: FarCompareOptions,
): Promise<FarComparison> {
  await checkMagic(far);
  if (far.size >= ours.end && await isPrefix(ports, ours, far, options)) return { kind: "prefix" };
  return await tellDifference(ports, ours, far);
}

/**
 * Where the last whole transaction there ends.
 * @returns undefined where the file does not end with one, nor shortly before its end
 * @throws UnavailableError
 */
export async function findFarEnd(far: FarFile): Promise<FileEnd | undefined> {
  if (far.size <= FIRST_POSITION) return { end: FIRST_POSITION, lastTid: NO_TID };
  return await far.view((file) => findEndBackwards(file, END_REACH_BYTES));
}

/**
 * @param options.python2 whether one of Python 2 will do, as it does for zrs there
 * @throws UsageError where it is no FileStorage; an empty one is
 */
export async function checkMagic(far: FarFile, options: { readonly python2?: boolean } = {}): Promise<void> {
  const found = await far.bytes(0, Math.min(far.size, MAGIC.length));
  if (found.length === 0 || equalBytes(found, MAGIC)) return;
  if (!equalBytes(found, MAGIC_PYTHON2)) {
    const text = JSON.stringify(String.fromCharCode(...found));
    throw new UsageError(
      `Cannot copy ${far.name}: it is not a FileStorage: it must begin with "FS30", found ${text}`,
      { path: far.name, hint: "Name the database file, usually Data.fs" },
    );
  }
  if (options.python2 === true) return;
  throw new UsageError(`Cannot copy ${far.name}: Python 2 wrote it (FS21)`, {
    path: far.name,
    hint: "Convert it with zodbupdate, or install zrs there",
  });
}

async function isPrefix(
  ports: FarComparePorts,
  ours: LogView,
  far: FarFile,
  options: FarCompareOptions,
): Promise<boolean> {
  const { end } = ours;
  if (end === FIRST_POSITION) return true;
  const last = Math.max(0, end - SAMPLE_BYTES);
  if (!await isSameStretch(ours.generation.file, far, last, end - last)) return false;
  if (options.full && far.digests !== undefined) {
    return await isSameAll(ports, ours, far, far.digests, options);
  }
  const step = options.full ? SAMPLE_BYTES : Math.max(SAMPLE_BYTES, Math.floor(last / SAMPLES));
  for (let position = 0; position < last; position += step) {
    const aligned = Math.floor(position / BLOCK_BYTES) * BLOCK_BYTES;
    if (!await isSameStretch(ours.generation.file, far, aligned, Math.min(SAMPLE_BYTES, last - aligned))) {
      return false;
    }
    if (options.full) options.onProgress?.(position, far.size);
  }
  return true;
}

/** Whether our file and the one there have the same bytes somewhere. */
export async function isSameStretch(
  file: ReadableFile,
  far: FarFile,
  position: number,
  length: number,
): Promise<boolean> {
  const bytes = new Uint8Array(length);
  file.readAt(bytes, position);
  return equalBytes(bytes, await far.bytes(position, length));
}

/** Compares whole blocks by digest; both ends make theirs at the same time. */
async function isSameAll(
  ports: FarComparePorts,
  { generation, end }: LogView,
  far: FarFile,
  digests: "sha256" | "md5",
  options: FarCompareOptions,
): Promise<boolean> {
  const pause = pauser(ports.clock);
  const blocks = Math.floor(end / BLOCK_BYTES);
  for (let first = 0; first < blocks; first += DIGEST_BLOCKS) {
    const count = Math.min(DIGEST_BLOCKS, blocks - first);
    const there = far.digest(first, count);
    there.catch(() => {}); // awaited below, where ours has not failed
    const hash = createHash(digests);
    const buffer = new Uint8Array(16 * BLOCK_BYTES);
    for (let block = first; block < first + count;) {
      const length = Math.min(buffer.length, (first + count - block) * BLOCK_BYTES);
      const piece = buffer.subarray(0, length);
      generation.file.readAt(piece, block * BLOCK_BYTES);
      hash.update(piece);
      block += length / BLOCK_BYTES;
      await pause();
    }
    if (hash.digest("hex") !== await there) return false;
    options.onProgress?.((first + count) * BLOCK_BYTES, far.size);
  }
  return true;
}

/** Says why the replica is no prefix of the far file. */
async function tellDifference(
  ports: FarComparePorts,
  ours: LogView,
  far: FarFile,
): Promise<FarComparison> {
  const pause = pauser(ports.clock);
  const { lastTid } = ours;
  if (far.size <= FIRST_POSITION) {
    if (lastTid === NO_TID) return { kind: "prefix" };
    const words = describeLineage({ kind: "ahead", common: undefined }, lastTid, NO_TID);
    return { kind: "diverged", words, common: undefined, isExact: true };
  }
  const digest = await lastDigest(ours, pause);
  try {
    const { end, lineage } = await far.view(async (file) => {
      const end = findEndBackwards(file, END_REACH_BYTES);
      if (end === undefined) return { end, lineage: undefined };
      const there = { generation: new Generation(0, file), ...end };
      const ask = (question: unknown) => answerQuestion(ours, question, pause);
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
    if (lineage.kind === "shared" || lineage.kind === "beyond the pack") {
      return { kind: "packed", words, fit: fitOf(lineage, lastTid, end.end), lastTid: end.lastTid };
    }
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
