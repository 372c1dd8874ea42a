/**
 * The files beside a Data.fs that hold what has been received and is to be applied later:
 * `Data.fs.pending.<position>`, each a checked header and then the bytes that the Data.fs will have from that
 * position on (docs/filestorage_format.md, "Pending segments"). They lie beside the file itself, wherever a link
 * to it lies, so that whoever opens it by another name finds them too.
 */
import { crc32 } from "node:zlib";
import { readU64, viewOf, writeU64 } from "../../bytes/mod.ts";
import { CorruptError, UsageError } from "../../errors.ts";
import type { Disk, ReadableFile } from "../../ports/mod.ts";
import { TRANSACTION } from "../layout.ts";
import { directoryOf } from "../open.ts";

/** Offsets within a segment's header, and its size: there the bytes of the Data.fs begin. */
export const SEGMENT = {
  magic: 0,
  version: 4,
  /** The position in the Data.fs of the first byte behind the header. */
  base: 8,
  /** The tid of the last transaction before that. */
  lastTid: 16,
  /** The CRC-32 of all before. */
  checksum: 24,
  size: 28,
} as const;

const MAGIC = 0x5a52_5350; // ZRSP
const VERSION = 1;

/** A segment as it lies on disk. */
export interface FoundSegment {
  readonly path: string;
  readonly base: number;
  readonly lastTid: bigint;
  /** How many bytes of the Data.fs it holds. */
  readonly length: number;
}

/** What lies beside a Data.fs. */
export interface FoundSegments {
  /** In the order of the file. */
  readonly segments: readonly FoundSegment[];
  /** A last one that was being created when the power went, and has nothing in it that counts. */
  readonly torn: string | undefined;
}

/** The path of the segment that begins at `base`. */
export function segmentPath(disk: Disk, dataFs: string, base: number): string {
  return `${prefixOf(disk, dataFs)}${base.toString(16).padStart(16, "0")}`;
}

/** The paths of all segments beside a Data.fs, in the order of the file, whatever is in them. */
export function segmentPaths(disk: Disk, dataFs: string): string[] {
  const prefix = prefixOf(disk, dataFs);
  const directory = directoryOf(prefix);
  if (disk.status(directory) === undefined) return [];
  const name = prefix.slice(prefix.lastIndexOf("/") + 1);
  return disk.list(directory)
    .filter((each) => each.startsWith(name) && /^[0-9a-f]{16}$/.test(each.slice(name.length)))
    .sort()
    .map((each) => `${prefix}${each.slice(name.length)}`);
}

/** How many bytes of a Data.fs wait beside it, where no transaction in them has been applied yet. */
export function pendingBytes(disk: Disk, dataFs: string, appliedEnd: number): number {
  const last = findSegments(disk, dataFs).segments.at(-1);
  return last === undefined ? 0 : Math.max(0, last.base + last.length - appliedEnd);
}

/**
 * Finds the segments beside a Data.fs.
 * @throws CorruptError where one cannot be read, DiskError
 */
export function findSegments(disk: Disk, dataFs: string): FoundSegments {
  const segments: FoundSegment[] = [];
  const paths = segmentPaths(disk, dataFs);
  for (const path of paths) {
    using file = disk.openRead(path);
    const size = file.size();
    const header = readHeader(file);
    const base = parseInt(path.slice(-16), 16);
    const before = segments.at(-1);
    if (header?.base === base && (before === undefined || before.base + before.length <= base)) {
      segments.push({ path, base, lastTid: header.lastTid, length: size - SEGMENT.size });
      continue;
    }
    // It is on disk before anything but a fence is written behind it.
    if (header === undefined && path === paths.at(-1) && size <= SEGMENT.size + TRANSACTION.size) {
      return { segments, torn: path };
    }
    throw new CorruptError(
      header === undefined
        ? `Cannot read ${path}: it must begin with a header of ${SEGMENT.size} bytes that fits its checksum`
        : `Cannot read ${path}: it must continue the file from ${base} on, where the one before ends; ` +
          `its header says ${header.base}`,
      {
        path,
        hint: "it holds transactions that wait to be applied; do not remove it before they are elsewhere",
      },
    );
  }
  return { segments, torn: undefined };
}

/**
 * What a failure to read what waits is, where somebody has taken a segment away: the Data.fs itself is sound then.
 * @returns the failure as it was where it is something else
 */
export function missingSegment(disk: Disk, dataFs: string, failure: CorruptError): CorruptError {
  const position = failure.facts.position ?? -1;
  const { segments } = findSegments(disk, dataFs);
  const at = segments.findIndex(({ base }) => base > position);
  const before = segments[at - 1];
  if (before === undefined || position < before.base + before.length) return failure;
  const end = before.base + before.length;
  const { base, path } = segments[at]!;
  return new CorruptError(
    `Cannot read what waits for ${dataFs}: ${
      segmentPath(disk, dataFs, end)
    } is missing, which has what comes ` +
      `before ${path} (positions ${end} to ${base})`,
    {
      path: dataFs,
      position,
      cause: failure,
      hint: "put it back; or move what comes behind it away, so that zrs secondary receives that anew",
    },
  );
}

export function encodeHeader(base: number, lastTid: bigint): Uint8Array {
  const header = new Uint8Array(SEGMENT.size);
  const view = viewOf(header);
  view.setUint32(SEGMENT.magic, MAGIC);
  view.setUint32(SEGMENT.version, VERSION);
  writeU64(view, SEGMENT.base, base);
  view.setBigUint64(SEGMENT.lastTid, lastTid);
  view.setUint32(SEGMENT.checksum, crc32(header.subarray(0, SEGMENT.checksum)));
  return header;
}

/**
 * @returns undefined for what is no header
 * @throws UsageError where a later version has written it
 */
function readHeader(file: ReadableFile): { readonly base: number; readonly lastTid: bigint } | undefined {
  const header = new Uint8Array(SEGMENT.size);
  if (file.readAt(header, 0) < SEGMENT.size) return undefined;
  const view = viewOf(header);
  if (view.getUint32(SEGMENT.magic) !== MAGIC) return undefined;
  if (view.getUint32(SEGMENT.checksum) !== crc32(header.subarray(0, SEGMENT.checksum))) return undefined;
  const version = view.getUint32(SEGMENT.version);
  if (version !== VERSION) {
    throw new UsageError(`Cannot read ${file.path}: its version must be ${VERSION}, found ${version}`, {
      path: file.path,
      hint: "use the version of zrs that wrote it",
    });
  }
  return { base: readU64(view, SEGMENT.base), lastTid: view.getBigUint64(SEGMENT.lastTid) };
}

function prefixOf(disk: Disk, dataFs: string): string {
  return `${disk.realPath(dataFs)}.pending.`;
}
