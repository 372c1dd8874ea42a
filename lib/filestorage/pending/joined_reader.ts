/**
 * A Data.fs and the pending segments that continue it, read as one file: positions below the end of the Data.fs
 * lie there, those beyond it in the segments.
 */
import { DiskError, NotFoundError } from "../../errors.ts";
import type { Disk, ReadableFile } from "../../ports/mod.ts";
import { type FoundSegment, SEGMENT } from "./segment.ts";

/** The Data.fs: a {@link History}, or a Storage. */
export interface Beginning {
  readonly path: string;
  readonly file: ReadableFile;
  /** Where it ends for the time being: it may grow into what the segments hold. */
  readonly end: number;
}

/** A stretch of the joined file. */
export class Segment {
  readonly path: string;
  /** Where it begins in the joined file. */
  readonly base: number;
  /** How many bytes of the joined file it holds. */
  length: number;

  constructor({ path, base, length }: Pick<FoundSegment, "path" | "base" | "length">) {
    this.path = path;
    this.base = base;
    this.length = length;
  }

  get end(): number {
    return this.base + this.length;
  }

  /** Where a position of the joined file lies in the segment's own. */
  offsetOf(position: number): number {
    return SEGMENT.size + position - this.base;
  }
}

/** Segments that are open at once: a long delay may need more of them than a process may have open. */
const MAX_OPEN = 32;

export class JoinedReader implements ReadableFile {
  readonly path: string;
  readonly #disk: Disk;
  readonly #beginning: Beginning;
  readonly #segments: readonly Segment[];
  readonly #owned: Disposable | undefined;
  /** Those that are open, the one used last at the end. */
  readonly #open = new Map<Segment, ReadableFile>();

  /**
   * @param segments in order, without overlaps; they may come, go and grow
   * @param owned is closed with this
   */
  constructor(disk: Disk, beginning: Beginning, segments: readonly Segment[], owned?: Disposable) {
    this.#owned = owned;
    this.#disk = disk;
    this.#beginning = beginning;
    this.path = beginning.path;
    this.#segments = segments;
  }

  size(): number {
    return Math.max(this.#beginning.end, this.#segments.at(-1)?.end ?? 0);
  }

  identity(): string {
    return this.#beginning.file.identity();
  }

  /** What is missing between two segments, as a crash may leave them, reads as zeros. */
  readAt(into: Uint8Array, position: number): number {
    const wanted = Math.min(into.length, this.size() - position);
    let filled = 0;
    while (filled < wanted) {
      const count = this.#readPart(into.subarray(filled, wanted), position + filled);
      if (count === 0) break; // somebody else has cut it off
      filled += count;
    }
    return filled;
  }

  async sync(): Promise<void> {
    await this.#beginning.file.sync();
    for (const segment of this.#segments) await this.#fileOf(segment).sync();
  }

  /** The index of the last segment that begins at or before the position; -1 where there is none. */
  indexOf(position: number): number {
    let low = 0;
    let high = this.#segments.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#segments[middle]!.base <= position) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** Opens all segments: those that somebody removes from now on can still be read, if they are few. @throws DiskError */
  openAll(): void {
    for (const segment of this.#segments) this.#open.set(segment, this.#disk.openRead(segment.path));
  }

  /** The segment is read no more. */
  forget(segment: Segment): void {
    this.#open.get(segment)?.close();
    this.#open.delete(segment);
  }

  close(): void {
    for (const segment of [...this.#open.keys()]) this.forget(segment);
    this.#owned?.[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #readPart(into: Uint8Array, position: number): number {
    const { file, end } = this.#beginning;
    if (position < end) return file.readAt(into.subarray(0, end - position), position);
    const index = this.indexOf(position);
    const segment = this.#segments[index];
    if (segment !== undefined && position < segment.end) {
      return this.#fileOf(segment).readAt(
        into.subarray(0, segment.end - position),
        segment.offsetOf(position),
      );
    }
    const next = this.#segments[index + 1]?.base ?? Infinity;
    const count = Math.min(into.length, next - position);
    into.fill(0, 0, count);
    return count;
  }

  #fileOf(segment: Segment): ReadableFile {
    let file = this.#open.get(segment);
    if (file !== undefined && this.#segments.at(-1) === segment) return file; // as a rule
    file ??= this.#openSegment(segment);
    this.#open.delete(segment);
    this.#open.set(segment, file);
    for (const oldest of this.#open.keys()) {
      if (this.#open.size <= MAX_OPEN) break;
      this.forget(oldest);
    }
    return file;
  }

  /** One that has gone while we use it is no mistake in what was asked for. */
  #openSegment({ path }: Segment): ReadableFile {
    try {
      return this.#disk.openRead(path);
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
      throw new DiskError(`Cannot read what waits for ${this.path}: ${path} has gone`, {
        path,
        cause: error,
        hint: "put it back, if something else has taken it away",
      });
    }
  }
}
