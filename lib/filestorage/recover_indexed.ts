/** Opening a file to be written to: its end made whole, and its index made or loaded. */
import { DiskError } from "../errors.ts";
import type { BlockFile, Disk } from "../ports/mod.ts";
import { NO_TID } from "../zodb/mod.ts";
import { checkIndex, readIndexFile } from "./index/index_file.ts";
import { FIRST_POSITION } from "./layout.ts";
import { ObjectIndex } from "./index/object_index.ts";
import { type Cut, cutTornEnd, type Patience, scan } from "./recover.ts";
import { isRewound } from "./rewound_path.ts";

/** A file whose end is whole, and where each object is in it. */
export interface Recovered {
  readonly end: number;
  readonly lastTid: bigint;
  readonly index: ObjectIndex;
  /** Up to where the index file covers the file; -1 where there is none that does. */
  readonly savedEnd: number;
  readonly report: {
    /** Transactions that the index file did not cover. */
    readonly scanned: number;
    /** Why the index file was not used; undefined when it was. */
    readonly indexReason: string | undefined;
    readonly cut: Cut | undefined;
  };
}

/**
 * Scans what the index file does not cover, and cuts what is not whole.
 * @param path where the index file stands beside, and what is cut is saved
 * @throws CorruptError, DiskError, and the signal's reason
 */
export async function recoverIndexed(
  disk: Disk,
  path: string,
  file: BlockFile,
  patience: Patience,
): Promise<Recovered> {
  const { index, position, lastTid, reason } = loadIndex(disk, file, path);
  const scanned = await scan(file, position, lastTid, file.size(), index, patience, (tid) => {
    return isRewound(disk, path, tid);
  });
  const cut = await cutTornEnd(disk, file, scanned.end);
  // What a killed process wrote last may be in the system's memory only: nobody is told of it before.
  if (cut === undefined) await file.sync();
  return {
    end: scanned.end,
    lastTid: scanned.lastTid,
    index,
    savedEnd: reason === undefined ? position : -1,
    report: { scanned: scanned.transactions, indexReason: reason, cut },
  };
}

interface LoadedIndex {
  readonly index: ObjectIndex;
  readonly position: number;
  readonly lastTid: bigint;
  readonly reason: string | undefined;
}

function loadIndex(disk: Disk, file: BlockFile, path: string): LoadedIndex {
  let reason: string;
  try {
    const read = readIndexFile(disk, path);
    if (read.kind === "read") {
      const check = checkIndex(file, read.index, read.position);
      if (check.kind === "good") {
        return { index: read.index, position: read.position, lastTid: check.lastTid, reason: undefined };
      }
      reason = check.reason;
    } else {
      reason = read.reason;
    }
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    reason = error.message;
  }
  return { index: new ObjectIndex(), position: FIRST_POSITION, lastTid: NO_TID, reason };
}
