/**
 * Rewinding a Data.fs of our own: a transaction becomes the last one again, and what came after it is kept in a
 * file beside it, itself a Data.fs. For a replica, or an old primary, with history that its source lacks.
 *
 * What goes is on disk in the other file before anything is done to this one. Then the index file is made to
 * fit the shorter file, which suits the longer one as well, and the file is cut back in an order in which a crash
 * leaves it whole or cut at that transaction, whoever opens it next (docs/filestorage_format.md, "Rewinding").
 */
import { CorruptError, DiskFullError, DivergedError, UsageError } from "../errors.ts";
import type { Disk } from "../ports/mod.ts";
import { describeTid, NO_TID, STATUS } from "../zodb/mod.ts";
import { writeExcerpt } from "./excerpt.ts";
import { inFile, type Readable } from "./history.ts";
import { FIRST_POSITION } from "./layout.ts";
import { isWithinPack, locateTid, type Location, TidMap, walkingReader } from "./locate.ts";
import { noPause, type Patience } from "./recover.ts";
import { rewoundPath } from "./rewound_path.ts";
import { Storage } from "./storage.ts";
import { TransactionReader } from "./transaction.ts";
import { removeIfPossible } from "./remove_if_possible.ts";

/** What rewinding to a transaction means. */
export interface RewindPlan {
  /** The transaction that will be the last; NO_TID when none is left. */
  readonly tid: bigint;
  /** Where the file will end. */
  readonly end: number;
  /** Transactions that go; 0 when the file ends with that transaction already. */
  readonly transactions: number;
  /** What the file loses, in bytes. */
  readonly bytes: number;
  /** The first and the last tid that go; NO_TID when none does. */
  readonly firstTid: bigint;
  readonly lastTid: bigint;
  /** The file has been packed to a later time: it lacks what was current at that transaction, and not any more then. */
  readonly isWithinPack: boolean;
  /** Where what goes is kept. */
  readonly savedTo: string;
}

/**
 * Finds out what rewinding to `tid` means. Only reads.
 * @param log a {@link Storage}, or a History opened beside it
 * @throws UsageError when there is no such transaction, CorruptError, DiskError
 */
export async function planRewind(
  disk: Disk,
  log: Readable,
  tid: bigint,
  { pause = noPause }: Patience = {},
): Promise<RewindPlan> {
  const reader = walkingReader(log.file, log.end);
  try {
    const end = await endOf(reader, log, tid, pause);
    const { transactions, firstTid } = await countFrom(reader, end, log.end, pause);
    return {
      tid,
      end,
      transactions,
      bytes: log.end - end,
      firstTid,
      lastTid: transactions === 0 ? NO_TID : log.lastTid,
      isWithinPack: isWithinPack(reader, end, log.end),
      savedTo: rewoundPath(disk, log.path, firstTid),
    };
  } catch (error) {
    throw error instanceof CorruptError ? inFile(log.path, error) : error;
  }
}

/**
 * Sees to it that what goes can be saved, before anything is written.
 * @throws DiskFullError
 */
export function checkRoomForRewind(disk: Disk, { bytes, savedTo, transactions }: RewindPlan): void {
  if (transactions === 0) return;
  const free = disk.freeBytes(savedTo);
  if (free >= bytes) return;
  throw new DiskFullError(
    `Cannot save what a rewind takes back in ${savedTo}: it needs about ${bytes} bytes, and ${free} are free`,
    { path: savedTo, hint: "Make room there; nothing has been changed" },
  );
}

/**
 * Sees to it that what is left is whole.
 * @throws DivergedError
 */
export function checkNotWithinPack(
  { path }: Pick<Readable, "path">,
  { tid, isWithinPack }: RewindPlan,
): void {
  if (!isWithinPack) return;
  throw new DivergedError(
    `Cannot rewind ${path} to ${
      describeTid(tid)
    }: it has been packed to a later time, and may lack objects as they ` +
      `were then, which no source would send again; nothing has been changed`,
    {
      path,
      tid,
      hint:
        `move it away and make a new copy; or rewind ${path}.old, where the pack has left it, and use that`,
    },
  );
}

/**
 * Rewinds an opened file. Nobody may be appending to it meanwhile, and whoever builds on its end begins anew
 * afterwards (a Restorer, most of all); those who read its log see another generation.
 * @throws UsageError, CorruptError, DiskFullError and the signal's reason before anything has been done to the
 * file; DiskError, after which the file may have to be opened anew
 */
export async function rewindStorage(
  disk: Disk,
  storage: Storage,
  tid: bigint,
  patience: Patience = {},
): Promise<RewindPlan> {
  await storage.cut();
  const plan = await planRewind(disk, storage, tid, patience);
  if (plan.transactions === 0) return plan;
  checkRoomForRewind(disk, plan);
  const stretch = { file: storage.file, from: plan.end, to: storage.end };
  await writeExcerpt(disk, stretch, plan.savedTo, patience);
  try {
    await storage.takeBack({ end: plan.end, lastTid: tid }, patience);
  } catch (error) {
    // Whatever else went wrong may have done so after the first step that takes them back: they stay saved.
    const isUntouched = error instanceof DiskFullError || error instanceof CorruptError;
    if (isUntouched) removeIfPossible(disk, plan.savedTo);
    throw error;
  }
  return plan;
}

/** After so many transactions a walk lets others run. */
const STEPS_BETWEEN_PAUSES = 20_000;

/** Where the transaction ends. @throws UsageError */
async function endOf(
  reader: TransactionReader,
  { path, end }: Readable,
  tid: bigint,
  pause: () => Promise<void>,
): Promise<number> {
  if (tid === NO_TID) return FIRST_POSITION;
  const location = await locateTid(reader, end, tid, new TidMap(), pause);
  if (location.kind === "found") return location.place.end;
  throw new UsageError(
    `Cannot rewind ${path} to ${describeTid(tid)}: there is no such transaction; ${neighbours(location)}`,
    { path, tid, hint: "name a transaction that is there, or 0 for none; zrs log shows them" },
  );
}

/** The transactions that count between two positions. @throws CorruptError */
export async function countFrom(
  reader: TransactionReader,
  from: number,
  end: number,
  pause: () => Promise<void>,
): Promise<{ transactions: number; firstTid: bigint }> {
  let transactions = 0;
  let firstTid = NO_TID;
  for (let position = from, steps = 1; position < end; position = reader.end, steps++) {
    const state = reader.read(position);
    if (state !== "whole") throw reader.notWhole(state);
    if (steps % STEPS_BETWEEN_PAUSES === 0) await pause();
    if (reader.status === STATUS.undone) continue;
    if (transactions++ === 0) firstTid = reader.tid;
  }
  return { transactions, firstTid };
}

function neighbours({ before, after }: Extract<Location, { kind: "between" }>): string {
  if (before === undefined && after === undefined) return "the file has none";
  if (before === undefined) return `the first one is ${describeTid(after!.tid)}`;
  if (after === undefined) return `the last one is ${describeTid(before.tid)}`;
  return `the one before is ${describeTid(before.tid)}, the one after ${describeTid(after.tid)}`;
}
