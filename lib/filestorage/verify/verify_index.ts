/**
 * The index file against the index that was made from the data. Both are taken as of the position up to which the
 * file covers the data; what came later is not its business.
 */
import type { Disk } from "../../ports/mod.ts";
import type { Finding } from "./finding.ts";
import { readIndexFile } from "../index/index_file.ts";
import { readIndexPosition } from "../index/index_position.ts";
import type { LostRanges } from "./lost_ranges.ts";
import type { ObjectIndex } from "../index/object_index.ts";

/** What stands beside the data file. */
export type SavedIndex =
  | { readonly kind: "none" }
  | { readonly kind: "unreadable"; readonly why: string }
  | { readonly kind: "saved"; readonly position: number };

/** Looks at the index file. @param path of the data file */
export function lookAtIndex(disk: Disk, path: string): SavedIndex {
  if (disk.status(`${path}.index`) === undefined) return { kind: "none" };
  const position = readIndexPosition(disk, path);
  if (position !== undefined) return { kind: "saved", position };
  // An older form tells its position at its end only.
  const read = readIndexFile(disk, path);
  return read.kind === "absent"
    ? { kind: "unreadable", why: read.reason }
    : { kind: "saved", position: read.position };
}

/** So many wrong entries are told one by one: an index of another file has nothing but such. */
const MAX_ENTRIES = 100;

/**
 * Compares. Takes memory for a second index while it does.
 * @param position up to which the index file is expected to cover the data
 * @param index as of that position
 * @param lost what lies there, `index` cannot know
 * @returns nothing when the file has been saved anew meanwhile
 */
export function compareIndex(
  disk: Disk,
  path: string,
  position: number,
  index: ObjectIndex,
  lost: LostRanges,
): Finding[] {
  const read = readIndexFile(disk, path);
  if (read.kind === "absent") {
    return disk.status(`${path}.index`) === undefined ? [] : [{ kind: "index-unreadable", why: read.reason }];
  }
  if (read.position !== position) return [];
  const saved = read.index;
  const found: Finding[] = [];
  let further = 0;
  function add(oidHigh: number, oidLow: number, expected: number, position: number): void {
    const oid = (BigInt(oidHigh) << 32n) | BigInt(oidLow);
    if (found.length < MAX_ENTRIES) found.push({ kind: "index-entry", oid, expected, found: position });
    else further++;
  }
  let both = 0;
  const passed = saved.forEachUnlike(index, (oidHigh, oidLow, position) => {
    const expected = index.get(oidHigh, oidLow);
    if (expected !== 0) both++;
    if (position !== expected && !lost.has(position)) add(oidHigh, oidLow, expected, position);
  });
  if (both + passed < index.count) {
    index.forEach((oidHigh, oidLow, expected) => {
      if (saved.get(oidHigh, oidLow) === 0) add(oidHigh, oidLow, expected, 0);
    });
  }
  if (further > 0) found.push({ kind: "index-further", entries: further });
  return found;
}
