/**
 * A moving block of a file, held in one buffer: whoever walks through a file asks for a stretch and parses it
 * in place. One system call per block, one DataView for the whole buffer.
 *
 * The window never reads at or beyond `limit`, so what it holds cannot be changed by a writer that is still
 * working behind the limit (docs/filestorage_format.md, "What another process sees").
 */
import { readU64, viewOf } from "../bytes/mod.ts";

/** What a window reads from: a file, or a file whose newest bytes are still in memory. */
export interface ByteSource {
  /** As in the Disk port: fills `into` from `position`; fewer bytes only at the end. */
  readAt(into: Uint8Array, position: number): number;
}

/** Enough to make the system call cheap against the parsing, small enough to stay in the processor's cache. */
export const DEFAULT_WINDOW_BYTES = 256 * 1024;

/** The smallest window worth having. */
const SMALL_WINDOW_BYTES = 8 * 1024;

/** The size of a window for all below a limit: a small file needs no large one. */
export function windowBytesFor(limit: number): number {
  return Math.min(Math.max(limit, SMALL_WINDOW_BYTES), DEFAULT_WINDOW_BYTES);
}

/** All there is has been loaded. */
const NOTHING: ByteSource = { readAt: () => 0 };

export class Window {
  /** The block; offsets are those that {@link locate} gives. Valid until the next call of `locate`. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  #source: ByteSource;
  #limit: number;
  #start = 0;
  #filled = 0;
  readonly #least: number;
  /** How much the last load was to read. */
  #reach: number;

  /**
   * @param limit the position that reading stops at, in bytes
   * @param room the window's size, or the bytes that it is to use
   * @param least how much a load reads that has nothing to do with the one before; each that goes on from there,
   * in either direction, reads twice as much as that one, up to the window's size
   */
  constructor(
    source: ByteSource,
    limit: number,
    room: number | Uint8Array = DEFAULT_WINDOW_BYTES,
    least = Infinity,
  ) {
    this.#source = source;
    this.#limit = limit;
    this.bytes = typeof room === "number" ? new Uint8Array(room) : room;
    this.view = viewOf(this.bytes);
    this.#least = this.#reach = Math.min(least, this.bytes.length);
  }

  /** A window on what is in memory already: nothing is read, and nothing copied. @param start its position */
  static over(bytes: Uint8Array, start: number): Window {
    const window = new Window(NOTHING, start + bytes.length, bytes);
    window.#start = start;
    window.#filled = bytes.length;
    return window;
  }

  get source(): ByteSource {
    return this.#source;
  }

  get limit(): number {
    return this.#limit;
  }

  /** Lets the window see further (or less far); what it holds below the limit stays valid. */
  set limit(limit: number) {
    this.#limit = limit;
    this.#filled = Math.max(0, Math.min(this.#filled, limit - this.#start));
  }

  /** Looks at another source from now on. */
  reset(source: ByteSource, limit: number): void {
    this.#source = source;
    this.#limit = limit;
    this.#filled = 0;
  }

  /**
   * The offset of `position` in {@link bytes}, with at least `length` bytes loaded behind it; -1 when the file
   * or the limit ends before. `length` is at most the window's size.
   */
  locate(position: number, length: number): number {
    const offset = position - this.#start;
    if (offset >= 0 && offset + length <= this.#filled) return offset;
    return this.#load(position, length);
  }

  /** As {@link locate} for as much of `length` as the window can hold; the count is in {@link located}. */
  locateSome(position: number, length: number): number {
    const wanted = Math.min(length, this.bytes.length);
    const offset = position - this.#start;
    const have = this.#filled - offset;
    if (offset >= 0 && have > 0 && (have >= wanted || have >= 4096)) {
      this.located = Math.min(length, have);
      return offset;
    }
    const loaded = this.#load(position, wanted);
    this.located = loaded < 0 ? 0 : Math.min(length, this.#filled);
    return loaded;
  }

  /** How many bytes the last {@link locateSome} found. */
  located = 0;

  /** As {@link locate}, but only in what is loaded already: -1 otherwise. */
  peek(position: number, length: number): number {
    const offset = position - this.#start;
    return offset >= 0 && offset + length <= this.#filled ? offset : -1;
  }

  /** The 64-bit number at a position, or -1 where the file ends before. */
  readU64(position: number): number {
    const at = this.locate(position, 8);
    return at < 0 ? -1 : readU64(this.view, at);
  }

  /**
   * The 64-bit number that ends at a position, or -1 where there is none. Loads what lies before it too: for
   * walks towards the beginning.
   */
  readU64Before(end: number): number {
    if (end < 8) return -1;
    const at = this.peek(end - 8, 8);
    if (at >= 0) return readU64(this.view, at);
    const start = Math.max(0, end - this.#reachAt(end));
    const loaded = this.#load(start, end - start, end - start);
    return loaded < 0 ? -1 : readU64(this.view, end - 8 - start);
  }

  /** How much to read at a position: more where that is no farther from what is loaded than the last load was long. */
  #reachAt(position: number): number {
    const isNear = this.#filled > 0 && position >= this.#start - this.#reach &&
      position <= this.#start + this.#filled + this.#reach;
    return this.#reach = isNear ? Math.min(2 * this.#reach, this.bytes.length) : this.#least;
  }

  #load(position: number, length: number, reach = Math.max(length, this.#reachAt(position))): number {
    if (position < 0 || length > this.bytes.length || position + length > this.#limit) return -1;
    const wanted = Math.min(reach, this.#limit - position);
    const into = wanted === this.bytes.length ? this.bytes : this.bytes.subarray(0, wanted);
    this.#filled = 0; // a read that throws leaves an empty window, not a wrong one
    const count = this.#source.readAt(into, position);
    this.#start = position;
    this.#filled = count;
    return count < length ? -1 : 0;
  }
}
