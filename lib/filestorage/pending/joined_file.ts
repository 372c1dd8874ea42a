/**
 * A Data.fs and the pending segments that continue it, as one file to write to: only its segments are ever
 * written. A crash leaves of them what it would leave of the end of one file: of what was not synced any part,
 * and names as they were before or after.
 *
 * Segments begin where transactions do, so whoever writes says where that is ({@link JoinedFile.beginAt}).
 */
import type { BlockFile, Disk, ReadableFile } from "../../ports/mod.ts";
import { type Beginning, JoinedReader, Segment } from "./joined_reader.ts";
import { directoryOf } from "../open.ts";
import { encodeHeader, type FoundSegment, SEGMENT, segmentPath } from "./segment.ts";
import { removeIfPossible } from "../remove_if_possible.ts";
import { likeDatabase } from "../replace_file.ts";

/** From so many bytes on a segment is followed by another at the next transaction: 64 MiB. */
export const SEGMENT_BYTES = 64 * 1024 * 1024;

/** How a segment is being written. */
interface Writing {
  readonly file: BlockFile;
  /** Something has been done to it since the last sync. */
  isDirty: boolean;
  /** It has been cut since the last sync: what was cut off may be back after a crash. */
  isCut: boolean;
}

export class JoinedFile implements BlockFile {
  readonly path: string;
  readonly #disk: Disk;
  readonly #segmentBytes: number;
  readonly #segments: Segment[];
  readonly #reader: JoinedReader;
  readonly #written = new Map<Segment, Writing>();
  /** Those of which a killed process may have left something that is not on disk. */
  readonly #found: Set<Segment>;
  /** Whether names have come or gone since the last sync. */
  #isRenamed: boolean;
  /** A segment that may lie there without its header, which could not be written. */
  #halfMade: string | undefined;

  /**
   * @param found the segments that there are, in order
   * @param segmentBytes see {@link SEGMENT_BYTES}
   */
  constructor(
    disk: Disk,
    beginning: Beginning,
    found: readonly FoundSegment[],
    segmentBytes: number = SEGMENT_BYTES,
  ) {
    this.#disk = disk;
    this.path = beginning.path;
    this.#segmentBytes = segmentBytes;
    this.#segments = found.map((each) => new Segment(each));
    this.#found = new Set(this.#segments);
    this.#isRenamed = found.length > 0;
    this.#reader = new JoinedReader(disk, beginning, this.#segments);
  }

  /** A view for others to read; it needs no closing, and ends with this file. */
  openReading(): ReadableFile {
    return new Borrowed(this.#reader);
  }

  size(): number {
    return this.#reader.size();
  }

  identity(): string {
    return this.#reader.identity();
  }

  readAt(into: Uint8Array, position: number): number {
    return this.#reader.readAt(into, position);
  }

  writeAt(bytes: Uint8Array, position: number): void {
    for (const { segment, part, at } of this.#parts(bytes, position)) {
      const { file } = this.#writing(segment);
      try {
        file.writeAt(part, segment.offsetOf(at));
      } finally {
        segment.length = lengthOf(file);
      }
    }
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    for (const { segment, part, at } of this.#parts(bytes, position)) {
      const { file } = this.#writing(segment);
      try {
        await file.write(part, segment.offsetOf(at));
      } finally {
        segment.length = lengthOf(file);
      }
    }
  }

  /** Segments that begin behind `size` are removed. */
  truncate(size: number): void {
    let last = this.#segments.at(-1);
    for (; last !== undefined && last.base > size; last = this.#segments.at(-1)) this.#remove(last);
    if (last === undefined) return;
    const writing = this.#writing(last);
    if (size < last.end) writing.isCut = true;
    writing.file.truncate(last.offsetOf(size));
    last.length = size - last.base;
  }

  async sync(): Promise<void> {
    for (const segment of this.#found) {
      if (!this.#written.has(segment)) await syncSegment(this.#disk, segment);
      this.#found.delete(segment);
    }
    for (const [segment, writing] of this.#written) {
      if (writing.isDirty) await writing.file.sync();
      writing.isDirty = writing.isCut = false;
      if (segment === this.#segments.at(-1)) continue;
      writing.file.close();
      this.#written.delete(segment);
    }
    await this.#syncNames();
  }

  /**
   * A transaction is to begin at `position`, where the file ends: in a new segment, where there is none, or the
   * last one is large. Durable with the next {@link sync}.
   * @param lastTid the tid of the transaction before
   * @throws DiskFullError, DiskError; nothing has been changed then
   */
  beginAt(position: number, lastTid: bigint): void {
    const last = this.#segments.at(-1);
    if (last !== undefined) {
      // After a failed sync the system takes for written what is not: a header behind which nothing was ever durable.
      if (position === last.base) this.#writing(last).file.writeAt(encodeHeader(position, lastTid), 0);
      const isCut = this.#written.get(last)?.isCut ?? false;
      if (position - last.base < this.#segmentBytes || last.end !== position || isCut) return;
    }
    const path = segmentPath(this.#disk, this.path, position);
    if (this.#halfMade === path) this.#disk.remove(path);
    const file = this.#disk.create(path);
    this.#isRenamed = true;
    likeDatabase(this.#disk, this.path, path);
    try {
      file.writeAt(encodeHeader(position, lastTid), 0);
    } catch (error) {
      file.close();
      removeIfPossible(this.#disk, path);
      this.#halfMade = path; // where it could not be removed, the next attempt does it
      throw error;
    }
    const segment = new Segment({ path, base: position, length: 0 });
    this.#segments.push(segment);
    this.#written.set(segment, { file, isDirty: true, isCut: false });
  }

  /** Removes the segments that end at or before `position`, but for the last: it may be written to. @throws DiskError */
  release(position: number): void {
    while (this.#segments.length > 1 && this.#segments[0]!.end <= position) this.#remove(this.#segments[0]!);
  }

  /**
   * Removes all segments, durably, the last one first, and each before the next: what is left after a crash has no
   * gap, and none is left that has been released before those behind it.
   * @throws DiskError
   */
  async removeAll(): Promise<void> {
    await this.#syncNames();
    for (let last = this.#segments.at(-1); last !== undefined; last = this.#segments.at(-1)) {
      this.#remove(last);
      await this.#syncNames();
    }
  }

  close(): void {
    this.#reader.close();
    for (const { file } of this.#written.values()) file.close();
    this.#written.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Where bytes go that are to be written at a position: each segment has what lies before the next one. */
  *#parts(
    bytes: Uint8Array,
    position: number,
  ): Generator<{ readonly segment: Segment; readonly part: Uint8Array; readonly at: number }> {
    for (let done = 0; done < bytes.length;) {
      const at = position + done;
      const index = this.#reader.indexOf(at);
      const segment = this.#segments[index];
      if (segment === undefined) {
        throw new RangeError(`Cannot write at ${at} of ${this.path}: no segment has that place`);
      }
      const room = (this.#segments[index + 1]?.base ?? Infinity) - at;
      const part = bytes.subarray(done, done + Math.min(bytes.length - done, room));
      yield { segment, part, at };
      done += part.length;
    }
  }

  async #syncNames(): Promise<void> {
    if (!this.#isRenamed) return;
    await this.#disk.syncDirectory(directoryOf(segmentPath(this.#disk, this.path, 0)));
    this.#isRenamed = false;
  }

  /** For something that is about to be done to a segment. */
  #writing(segment: Segment): Writing {
    let writing = this.#written.get(segment);
    if (writing === undefined) {
      writing = { file: this.#disk.openWrite(segment.path), isDirty: true, isCut: false };
      this.#written.set(segment, writing);
    }
    writing.isDirty = true;
    return writing;
  }

  #remove(segment: Segment): void {
    this.#disk.remove(segment.path);
    this.#isRenamed = true;
    this.#segments.splice(this.#segments.indexOf(segment), 1);
    this.#found.delete(segment);
    this.#reader.forget(segment);
    this.#written.get(segment)?.file.close();
    this.#written.delete(segment);
  }
}

/** What others may close, and we go on with. */
class Borrowed implements ReadableFile {
  readonly path: string;
  readonly #file: ReadableFile;

  constructor(file: ReadableFile) {
    this.path = file.path;
    this.#file = file;
  }

  readAt(into: Uint8Array, position: number): number {
    return this.#file.readAt(into, position);
  }

  size(): number {
    return this.#file.size();
  }

  identity(): string {
    return this.#file.identity();
  }

  sync(): Promise<void> {
    return this.#file.sync();
  }

  close(): void {}

  [Symbol.dispose](): void {}
}

async function syncSegment(disk: Disk, { path }: Segment): Promise<void> {
  using file = disk.openWrite(path);
  await file.sync();
}

/** As the file says: of what could not be written any part may be there. */
function lengthOf(file: BlockFile): number {
  return Math.max(0, file.size() - SEGMENT.size);
}
