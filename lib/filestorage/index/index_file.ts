/**
 * Data.fs.index: a snapshot of the object index, in Python's own format and byte for byte as Python writes it,
 * so that either opens a database quickly which the other has left (docs/filestorage_format.md, "Index file").
 *
 * The file is a help, never a need: what is missing, damaged or does not fit the data file is reported as absent,
 * and the data file is scanned instead. Writing survives a crash or a failure at any point: the old file or the
 * new one is there, whole.
 */
import { DiskError, ZrsError } from "../../errors.ts";
import type { BlockFile, Disk } from "../../ports/mod.ts";
import { BUCKET_ENTRY_BYTES, type IndexBucket, MAX_BUCKET_BYTES } from "./index_bucket.ts";
import { IndexCursor, OP } from "./index_cursor.ts";
import { readPlainDict } from "./index_plain_dict.ts";
import { ObjectIndex } from "./object_index.ts";
import { directoryOf } from "../open.ts";
import { removeIfPossible } from "../remove_if_possible.ts";

export { checkIndex, type IndexCheck } from "./index_check.ts";

const PREFIX_BYTES = 6;
const PROTOCOL = 3;
/** A pickle's bytes around a bucket of any length: protocol, two string headers, prefix, tuple, stop. */
const MAX_FRAME_BYTES = 2 + 2 + PREFIX_BYTES + 5 + 2;
const BUFFER_BYTES = MAX_BUCKET_BYTES + 128 * 1024;

export type IndexRead =
  | { readonly kind: "read"; readonly index: ObjectIndex; readonly position: number }
  | { readonly kind: "absent"; readonly reason: string };

/**
 * Writes `${path}.index` in Python's format. An index without objects has no file: Python may fail to open a
 * database that has one. The index is read before the first wait, so it may change while this runs.
 * @param path of the data file
 * @param position the end of the last transaction that the index covers
 * @throws DiskError when it cannot be written; the old file is then still there, unless only the last sync of
 * the directory failed
 */
export async function writeIndexFile(
  disk: Disk,
  path: string,
  index: ObjectIndex,
  position: number,
): Promise<void> {
  const target = `${path}.index`;
  const temporary = `${target}.index_tmp`;
  try {
    if (index.count > 0) {
      await writeWhole(disk, temporary, index, position);
      disk.rename(temporary, target);
    } else {
      disk.remove(temporary);
      if (disk.status(target) === undefined) return;
      disk.remove(target);
    }
    await disk.syncDirectory(directoryOf(path));
  } catch (error) {
    removeIfPossible(disk, temporary);
    if (error instanceof DiskError || !(error instanceof ZrsError)) throw error;
    throw new DiskError(`Cannot write index: ${error.message}`, { path: target, cause: error });
  }
}

/**
 * Reads `${path}.index`.
 * @param path of the data file
 * @returns what it holds; "absent" when there is none, it cannot be read, is damaged or of an unknown form. That
 * it fits the data file is for {@link checkIndex} to say
 */
export function readIndexFile(disk: Disk, path: string): IndexRead {
  try {
    using file = disk.openRead(`${path}.index`);
    const cursor = new IndexCursor(file);
    const first = cursor.takeFirst();
    const position = cursor.takeInteger(first);
    if (position === undefined) return { kind: "read", ...readPlainDict(cursor, first) };
    cursor.expect(OP.stop);
    return { kind: "read", index: readBuckets(cursor, position), position };
  } catch (error) {
    if (error instanceof ZrsError) return { kind: "absent", reason: error.message };
    throw error;
  }
}

/** Reads buckets up to the None behind the last. */
function readBuckets(cursor: IndexCursor, end: number): ObjectIndex {
  const index = new ObjectIndex();
  for (;;) {
    let opcode = cursor.takeFirst();
    if (opcode === OP.none) {
      cursor.expect(OP.stop);
      return index;
    }
    const marked = opcode === OP.mark; // a tuple as protocol 1 has it, which Python 2 used
    if (marked) opcode = cursor.takeByte();
    if (cursor.takeStringLength(opcode) !== PREFIX_BYTES) cursor.refuse("a prefix of 6 bytes was expected");
    const prefixAt = cursor.take(PREFIX_BYTES);
    const oidHigh = cursor.view.getUint32(prefixAt);
    const middle = cursor.view.getUint16(prefixAt + 4);
    const length = cursor.takeStringLength(cursor.takeByte());
    if (length === undefined) return cursor.refuse("a bucket was expected");
    const at = cursor.take(length);
    const packed = { bytes: cursor.bytes, view: cursor.view, at, length };
    const damage = index.addBucket(oidHigh, middle, packed, end);
    if (damage !== undefined) cursor.refuse(`the bucket before is damaged: ${damage}`);
    cursor.expect(marked ? OP.tuple : OP.tuple2);
    cursor.expect(OP.stop);
  }
}

async function writeWhole(disk: Disk, path: string, index: ObjectIndex, position: number): Promise<void> {
  disk.remove(path);
  using file = disk.create(path);
  const output = new IndexOutput(file);
  output.putPosition(position);
  index.forEachBucket((bucket) => output.putBucket(bucket));
  output.putEnd();
  await file.sync();
}

/** Encodes the file's pickles into one buffer, and writes that out whenever it is full. */
class IndexOutput {
  readonly #file: BlockFile;
  readonly #bytes = new Uint8Array(BUFFER_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);
  #at = 0;
  #position = 0;

  constructor(file: BlockFile) {
    this.#file = file;
  }

  /** As Python's pickle writes an int: in the shortest form that holds it with its sign. */
  putPosition(position: number): void {
    this.#begin();
    if (position < 0x100) {
      this.#put(OP.uint8, position);
    } else if (position < 0x1_0000) {
      this.#put(OP.uint16, position & 0xff, position >>> 8);
    } else if (position < 0x8000_0000) {
      this.#put(OP.int32);
      this.#view.setInt32(this.#at, position, true);
      this.#at += 4;
    } else {
      const bytes: number[] = [];
      for (let rest = position; rest > 0; rest = Math.floor(rest / 256)) bytes.push(rest % 256);
      if (bytes.at(-1)! >= 0x80) bytes.push(0);
      this.#put(OP.long, bytes.length, ...bytes);
    }
    this.#put(OP.stop);
  }

  putBucket(bucket: IndexBucket): void {
    const length = bucket.count * BUCKET_ENTRY_BYTES;
    if (this.#at + MAX_FRAME_BYTES + length > this.#bytes.length) this.#flush();
    this.#begin();
    this.#put(OP.shortBytes, PREFIX_BYTES);
    this.#view.setUint32(this.#at, bucket.oidHigh);
    this.#view.setUint16(this.#at + 4, bucket.middle);
    this.#at += PREFIX_BYTES;
    if (length < 0x100) {
      this.#put(OP.shortBytes, length);
    } else {
      this.#put(OP.bytes);
      this.#view.setUint32(this.#at, length, true);
      this.#at += 4;
    }
    bucket.pack(this.#bytes, this.#at);
    this.#at += length;
    this.#put(OP.tuple2, OP.stop);
  }

  putEnd(): void {
    if (this.#at + MAX_FRAME_BYTES > this.#bytes.length) this.#flush();
    this.#begin();
    this.#put(OP.none, OP.stop);
    this.#flush();
  }

  #begin(): void {
    this.#put(OP.protocol, PROTOCOL);
  }

  #put(...bytes: number[]): void {
    for (const byte of bytes) this.#bytes[this.#at++] = byte;
  }

  #flush(): void {
    this.#file.writeAt(this.#bytes.subarray(0, this.#at), this.#position);
    this.#position += this.#at;
    this.#at = 0;
  }
}
