/**
 * The secondaries of a database, as far as they say what is on their disks, and how far each had come: a small file
 * beside it (docs/filestorage_format.md, "Known secondaries"). It is there so that a pack keeps what they still need.
 */
import { UsageError } from "../../errors.ts";
import type { Disk } from "../../ports/mod.ts";
import { formatTid, NO_TID, parseTid } from "../../zodb/mod.ts";
import { directoryOf } from "../open.ts";

export interface KnownSecondary {
  /** What it calls itself, or else where it came from. */
  readonly name: string;
  /** The last transaction that was on its disk. */
  readonly tid: bigint;
  /** When it said so, in milliseconds since 1970 UTC. */
  readonly heardMs: number;
}

/** Those that were heard of last are kept. */
const MAX_KNOWN = 1000;
/** Who has not been heard of for so long is forgotten. */
const FORGET_MS = 100 * 86_400_000;
const MAX_BYTES = 1024 * 1024;

/** Where it lies. */
function knownSecondariesPath(disk: Disk, dataFs: string): string {
  return `${disk.realPath(dataFs)}.secondaries`;
}

/**
 * @returns none where there is no such file
 * @throws UsageError where it cannot be read as such, DiskError
 */
export function readKnownSecondaries(disk: Disk, dataFs: string): KnownSecondary[] {
  const path = knownSecondariesPath(disk, dataFs);
  const size = disk.status(path)?.size;
  if (size === undefined) return [];
  using file = disk.openRead(path);
  const bytes = new Uint8Array(Math.min(size, MAX_BYTES));
  const text = new TextDecoder().decode(bytes.subarray(0, file.readAt(bytes, 0)));
  const damaged = () =>
    new UsageError(`Cannot tell from ${path} which secondaries there are: it is not as zrs writes it`, {
      path,
      hint: "remove it, and what secondaries need may be packed away; or pack with --ignore-secondaries",
    });
  let lines: unknown;
  try {
    lines = JSON.parse(text).secondaries;
  } catch {
    throw damaged();
  }
  if (!Array.isArray(lines)) throw damaged();
  return lines.map((line) => {
    const { name, tid, heard } = line ?? {};
    const heardMs = Date.parse(heard);
    if (typeof name !== "string" || typeof tid !== "string" || !/^[0-9a-f]{16}$/.test(tid)) throw damaged();
    if (Number.isNaN(heardMs)) throw damaged();
    return { name, tid: parseTid(tid), heardMs };
  });
}

/**
 * Writes the file anew, durably, without those that are forgotten.
 * @param nowMs milliseconds since 1970 UTC
 * @throws UsageError, DiskError: the file is as it was
 */
export async function writeKnownSecondaries(
  disk: Disk,
  dataFs: string,
  known: readonly KnownSecondary[],
  nowMs: number,
): Promise<void> {
  const text = textOf(
    known.filter(({ heardMs }) => heardMs > nowMs - FORGET_MS)
      .sort((a, b) => b.heardMs - a.heardMs)
      .slice(0, MAX_KNOWN),
  );
  const path = knownSecondariesPath(disk, dataFs);
  const fresh = `${path}.new`;
  disk.remove(fresh);
  {
    using file = disk.create(fresh);
    file.writeAt(text, 0);
    await file.sync();
  }
  disk.rename(fresh, path);
  await disk.syncDirectory(directoryOf(path));
}

/** As many as a file may have that can be read again: names are what peers say, and may be long. */
function textOf(known: readonly KnownSecondary[]): Uint8Array {
  const lines = known.map(({ name, tid, heardMs }) => ({
    name,
    tid: formatTid(tid),
    heard: new Date(heardMs).toISOString(),
  }));
  for (;;) {
    const text = new TextEncoder().encode(`${JSON.stringify({ secondaries: lines }, null, 1)}\n`);
    if (text.length <= MAX_BYTES) return text;
    lines.length = Math.floor(lines.length / 2);
  }
}

/**
 * Up to when to pack so that the last transaction of every secondary stays as it was, and all that follows.
 * @param sinceMs who was not heard of since then does not count, in milliseconds since 1970 UTC
 * @returns whom it was moved back for, where it was
 */
export function keepForSecondaries(
  stop: bigint,
  known: readonly KnownSecondary[],
  sinceMs: number,
): { readonly stop: bigint; readonly keptFor: KnownSecondary | undefined } {
  let keptFor: KnownSecondary | undefined;
  for (const each of known) {
    if (each.tid === NO_TID || each.heardMs < sinceMs || each.tid > stop) continue;
    if (keptFor === undefined || each.tid < keptFor.tid) keptFor = each;
  }
  return { stop: keptFor === undefined ? stop : keptFor.tid - 1n, keptFor };
}
