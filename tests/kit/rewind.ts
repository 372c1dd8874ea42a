/** Rewinding a file that nobody has open, as `zrs rewind` does it. */
import { type RewindPlan, rewindStorage, Storage } from "../../lib/filestorage/mod.ts";
import type { Disk } from "../../lib/ports/mod.ts";

/** @throws as {@link rewindStorage}, and where the file cannot be opened */
export async function rewind(disk: Disk, path: string, tid: bigint): Promise<RewindPlan> {
  await using storage = await Storage.open(disk, path);
  return await rewindStorage(disk, storage, tid);
}
