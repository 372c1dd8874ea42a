/** The position that an index file was saved for, read without the index. */
import { ZrsError } from "../../errors.ts";
import type { Disk } from "../../ports/mod.ts";
import { IndexCursor } from "./index_cursor.ts";

/**
 * @param path of the data file
 * @returns the end of the last transaction that `${path}.index` covers; undefined when it cannot be told
 */
export function readIndexPosition(disk: Disk, path: string): number | undefined {
  try {
    using file = disk.openRead(`${path}.index`);
    const cursor = new IndexCursor(file);
    return cursor.takeInteger(cursor.takeFirst());
  } catch (error) {
    if (error instanceof ZrsError) return undefined;
    throw error;
  }
}
