/** A replica that applies later than it receives, and what it receives. */
import { DelayedStorage } from "../../lib/filestorage/mod.ts";
import type { Disk } from "../../lib/ports/mod.ts";
import { dataFs } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { tidAt } from "./random_history.ts";
import { replay } from "./replay.ts";

export const PATH = "/data/Data.fs";
/** Small enough for several segments in a file of a few transactions. */
const SEGMENT_BYTES = 400;

/** What the replica is to become. */
export const FILE = dataFs(Array.from({ length: 9 }, (_, at) => ({
  tid: tidAt(at),
  user: "bob",
  records: [
    { oid: BigInt(at % 3), data: new Uint8Array(60 + 35 * at).fill(0x61 + at) },
    at > 4 ? { oid: 9n, backPointer: [at - 4, 1] as const } : { oid: 9n, data: `revision ${at}` },
  ],
})));
/** Where its transactions end. */
export const ENDS = FILE.transactions.map(({ end }) => end);

/** With this as its Data.fs. */
export function diskWith(bytes: Uint8Array = new Uint8Array(0)): MemoryDisk {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  return disk;
}

/** Opens the replica, with small segments. */
export async function open(disk: Disk): Promise<DelayedStorage> {
  return await DelayedStorage.open(disk, PATH, { segmentBytes: SEGMENT_BYTES });
}

/** Receives what of the file is not there yet, up to a number of transactions, a run for each. */
export async function receive(
  storage: DelayedStorage,
  transactions = FILE.transactions.length,
): Promise<void> {
  const bytes = FILE.bytes.slice(0, ENDS[transactions - 1] ?? 4);
  await replay(bytes, storage.received, { after: storage.received.lastTid, runBytes: () => 1 });
}

/** Applies what is there, up to a transaction. */
export async function apply(storage: DelayedStorage, lastTid = tidAt(100)): Promise<void> {
  while (await storage.applyNext((tid) => tid <= lastTid));
}

/** The paths of all that waits. */
export function segmentsOf(disk: MemoryDisk): string[] {
  return disk.paths().filter((path) => path.includes(".pending."));
}
