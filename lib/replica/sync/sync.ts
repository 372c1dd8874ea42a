/**
 * Bringing a replica up to date once, as from cron (`zrs replica-sync`): what a secondary does all the time, done
 * until the replica has all that the source had when it began. Where the source has been packed so that this is
 * not to be had any more, a complete new copy takes the replica's place.
 */
import { likePermissions, Storage } from "../../filestorage/mod.ts";
import { UsageError } from "../../errors.ts";
import { NO_TID } from "../../zodb/mod.ts";
import { type BlobReceptionOptions, openBlobs, tidyBlobs } from "../receiving/blob_reception.ts";
import type { BlobReception } from "../blob_use.ts";
import { type CatchUpOptions, PackedAwayError } from "./catch_up.ts";
import { FAR_CHECK_OBSTACLE, FarFileSource, FarSource } from "../far/far_source.ts";
import { checkHistory, type HistoryCheck, type HistoryCheckOptions } from "./history_check.ts";
import type { Completeness } from "../receiving/intake.ts";
import { NewCopy, refuseBesideInUse } from "./new_copy.ts";
import { catchUpFrom, type ReachedSource } from "./one_catch_up.ts";
import type { Ports } from "../ports.ts";
import type { SyncSource } from "./sync_source.ts";
import { DEFAULT_SOFTWARE } from "../primary.ts";
import { tellOpened } from "../tell_opened.ts";
import { pauser } from "../waiting.ts";

export interface SyncOptions extends Omit<CatchUpOptions, "blobs">, BlobReceptionOptions {
  /** The replica, which is created when there is none. */
  readonly path: string;
  /** A file of this machine whose permissions and owner a new replica gets. */
  readonly model?: string | undefined;
  /** Makes a complete new copy also where the source has all that is missing, unless both would be the same file. */
  readonly repack?: boolean;
  /** Makes a complete new copy without asking first whether one is needed: somebody has asked before. */
  readonly anew?: boolean;
  /** Is told how much of the replica has been compared in full, of how many bytes. */
  readonly onCheck?: (position: number, end: number) => void;
  /** Keeps the replica as `.old` when a new copy takes its place. */
  readonly keepOld?: boolean;
  /** Asks somebody else for the source's last transaction: for a source that does not tell it, which then must send it. */
  readonly askLastTid?: (() => Promise<bigint>) | undefined;
}

/** As {@link SyncOptions}, once the replica's blob directory is open. */
export type SyncWork = Omit<SyncOptions, "blobs"> & { readonly blobs: BlobReception };

/** A last transaction, and where its file ends. */
export interface SyncEnd {
  readonly lastTid: bigint;
  readonly end: number;
}

/** What has become of blobs. */
export interface SyncedBlobs {
  /** How many came, and how many bytes they have. */
  readonly copied: number;
  readonly bytes: number;
  /** How many the replica lacks because the source had no files for them. */
  readonly missing: number;
}

/** What has been done. The replica is a correct and complete copy. */
export interface SyncReport {
  /** There was no replica before. */
  readonly created: boolean;
  /** Why a complete new copy was made; undefined where what was missing was appended. */
  readonly newCopy: string | undefined;
  /** Where the replica that was before is kept. */
  readonly keptAs: string | undefined;
  readonly before: SyncEnd;
  readonly after: SyncEnd;
  /** How many transactions and bytes were copied. */
  readonly transactions: number;
  readonly bytes: number;
  /** Undefined where they are not copied. */
  readonly blobs: SyncedBlobs | undefined;
  readonly protocol: string;
  /** Whether the source had on its disk what was copied; false where nothing there could see to that. */
  readonly isDurableThere: boolean;
  readonly restsOn: Completeness;
  /** What of the replica was compared before. */
  readonly check: HistoryCheck;
}

/**
 * Brings the replica up to date. Killed at any moment, it leaves a valid replica with which the next run goes on.
 * @throws LockedError, UsageError, CorruptError where the replica cannot be used; otherwise as `CatchUp.run`,
 * what came whole before is kept then
 */
export async function syncReplica(
  ports: Ports,
  source: SyncSource | FarSource,
  options: SyncOptions,
  signal: AbortSignal,
): Promise<SyncReport> {
  const { disk } = ports;
  const { path, model } = options;
  const hadLock = disk.status(`${path}.lock`) !== undefined;
  await using storage = await Storage.open(disk, path, { pause: pauser(ports.clock), signal });
  const { created } = storage.report;
  try {
    refuseItself(storage, source);
    refuseBesideInUse(disk, path, source.name, options.keepOld === true);
    if (created && model !== undefined) {
      const lock = `${path}.lock`; // whoever takes the copy over has to open it, too
      for (const each of hadLock ? [path] : [path, lock]) {
        likePermissions(disk, model, each, (message) => ports.log.warning(message));
      }
    }
    tellOpened(ports.log, storage);
    const blobs = await openBlobs(
      ports,
      options,
      NewCopy.isUnderWay(disk, path) ? undefined : storage.lastTid,
    );
    const reached = source instanceof FarSource ? await source.reach(signal) : source;
    const check = await checkBefore(ports, reached, storage, options, signal);
    // Only now: before, another run might have copied what comes after.
    const sourceLastTid = await options.askLastTid?.();
    const work = { ...options, blobs, sourceLastTid };
    const report = await bringUpToDate(ports, reached, storage, work, signal);
    return { check, blobs: syncedBlobs(blobs), ...report };
  } catch (error) {
    // Nobody is helped by an empty database where there was none. While its lock is still ours, that goes last.
    if (created && storage.lastTid === NO_TID) {
      disk.remove(path);
      if (!hadLock) disk.remove(`${path}.lock`);
    }
    throw error;
  }
}

/** Where bytes are all that can be compared, whoever appends to them does so. */
async function checkBefore(
  ports: Ports,
  source: ReachedSource,
  storage: Storage,
  options: SyncOptions,
  signal: AbortSignal,
): Promise<HistoryCheck> {
  const { check = "quick" } = options;
  if (storage.lastTid === NO_TID) return { kind: check, transactions: 0, obstacle: undefined };
  if (source instanceof FarFileSource) return { kind: check, transactions: 0, obstacle: FAR_CHECK_OBSTACLE };
  if (isOnce(source)) return { kind: check, transactions: 0, obstacle: ONCE_CHECK_OBSTACLE };
  return await checkHistory(ports, source, storage, checkOptions(options, storage.end), signal);
}

function checkOptions(options: SyncOptions, end: number): HistoryCheckOptions {
  const { check = "quick", software = DEFAULT_SOFTWARE, secret, protocol, peerTimeoutMs, onCheck } = options;
  return {
    kind: check,
    software,
    secret,
    isZrs2: protocol === "zrs2" && secret === undefined,
    peerTimeoutMs,
    onProgress: onCheck && ((position) => onCheck(position, end)),
  };
}

async function bringUpToDate(
  ports: Ports,
  source: ReachedSource,
  storage: Storage,
  options: SyncWork,
  signal: AbortSignal,
): Promise<Omit<SyncReport, "check" | "blobs">> {
  const before: SyncEnd = { lastTid: storage.lastTid, end: storage.end };
  const { created } = storage.report;
  const copy = new NewCopy(ports, source, storage, options);
  if (options.anew === true && storage.lastTid !== NO_TID) {
    return { created, newCopy: "asked for", before, ...await copy.make(undefined, signal) };
  }
  const demand = options.repack === true ? "prefix" : "later";
  const catchUp = catchUpFrom(ports, source, storage, options, demand);
  try {
    const restsOn = await catchUp.run(signal);
    await copy.discard(); // of a run that was killed while it made one
    await tidyBlobs(options.blobs, storage.file, storage.index, storage.end);
    return {
      created,
      newCopy: undefined,
      keptAs: undefined,
      before,
      after: { lastTid: storage.lastTid, end: storage.end },
      transactions: catchUp.transactions,
      bytes: storage.end - before.end,
      protocol: catchUp.protocol,
      isDurableThere: catchUp.isDurableThere,
      restsOn,
    };
  } catch (error) {
    if (!(error instanceof PackedAwayError) || isOnce(source)) throw error;
    ports.log.warning(`${error.message}; making a complete new copy`);
    return { created, newCopy: error.message, before, ...await copy.make(error.sourceEnd, signal) };
  }
}

function syncedBlobs(blobs: BlobReception): SyncedBlobs | undefined {
  if (blobs.choice !== "replicate") return undefined;
  const { placed, placedBytes, missing, directory } = blobs.incoming;
  return { copied: placed, bytes: placedBytes, missing: missing.count(directory) };
}

/** @throws UsageError when the file is most likely the one that the source follows */
function refuseItself(
  { report, path }: Storage,
  { name, isThisMachine }: Pick<SyncSource, "name" | "isThisMachine">,
): void {
  if (!report.followed || !isThisMachine || name === path) return;
  throw new UsageError(
    `Cannot copy from ${name} to ${path}: a zrs primary on this machine follows that very file, so source and ` +
      `copy would be the same`,
    { path, hint: "name another file for the copy" },
  );
}

/** A conversation that compares transactions copies none. */
const ONCE_CHECK_OBSTACLE = "there is one conversation, which copies";

function isOnce(source: ReachedSource): boolean {
  return "isOnce" in source && source.isOnce === true;
}
