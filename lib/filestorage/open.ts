/** The checks that stand before every use of a Data.fs. */
import { equalBytes } from "../bytes/mod.ts";
import { UsageError } from "../errors.ts";
import type { Disk, ReadableFile } from "../ports/mod.ts";
import { MAGIC, MAGIC_PYTHON2 } from "./layout.ts";

export type Magic = "FS30" | "FS21";

/**
 * Reads the first four bytes.
 * @returns which Python wrote the file, or undefined when it is empty (a legal, empty database)
 * @throws UsageError when it is not a FileStorage
 */
export function readMagic(file: ReadableFile): Magic | undefined {
  const magic = new Uint8Array(MAGIC.length);
  const count = file.readAt(magic, 0);
  if (count === 0) return undefined;
  if (equalBytes(magic, MAGIC)) return "FS30";
  if (equalBytes(magic, MAGIC_PYTHON2)) return "FS21";
  const found = [...magic.subarray(0, count)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  throw new UsageError(
    `Cannot use ${file.path}: it is not a FileStorage: it must begin with "FS30", found bytes ${found}`,
    { path: file.path, position: 0, hint: "name the database file, usually Data.fs" },
  );
}

/** The directory part of a path, for syncing and watching. */
export function directoryOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "." : slash === 0 ? "/" : path.slice(0, slash);
}

/**
 * Refuses to make a database where there seems to have been one: a pack that was interrupted between its two
 * renames leaves no Data.fs, but all of its data in `.pack` and `.old`.
 * @throws UsageError
 */
export function checkMayCreate(disk: Disk, path: string): void {
  const found = [".old", ".pack", ".index"].filter((suffix) => disk.status(path + suffix) !== undefined);
  if (found.length === 0) return;
  const names = found.map((suffix) => path + suffix).join(", ");
  const hint = found.includes(".pack")
    ? `a pack was interrupted: rename ${path}.pack to ${path} if it is complete, else ${path}.old`
    : found.includes(".old")
    ? `rename ${path}.old to ${path}, or move it away`
    : `put the database back, or remove ${path}.index to begin with an empty one`;
  throw new UsageError(`Cannot create ${path}: there was a database before, ${names} is still there`, {
    path,
    hint,
  });
}
