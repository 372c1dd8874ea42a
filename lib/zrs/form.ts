/**
 * Recognises, in place and without allocating, messages in exactly the form that real ends on Python 3 write.
 * Every function says by its result whether the bytes are so; what they then mean is in the fields.
 */
import { viewOf } from "../bytes/mod.ts";
import { BYTES_BACK, BYTES_FRONT, NO_BYTES } from "../pickle/mod.ts";

/** Bytes with a view of them, for comparisons of eight bytes at a time. */
export class Literal {
  readonly view: DataView;
  readonly length: number;

  constructor(bytes: Uint8Array) {
    this.view = viewOf(bytes);
    this.length = bytes.length;
  }
}

const FRONT = new Literal(BYTES_FRONT);
const BACK = new Literal(BYTES_BACK);
const EMPTY = new Literal(NO_BYTES);

/** Whether `length` bytes of both are the same; `a` reaches that far. */
export function equalViews(a: DataView, aAt: number, b: DataView, bAt: number, length: number): boolean {
  const last = length - 8;
  if (last < 0) {
    for (let i = 0; i < length; i++) {
      if (a.getUint8(aAt + i) !== b.getUint8(bAt + i)) return false;
    }
    return true;
  }
  for (let i = 0; i < last; i += 8) {
    if (a.getBigUint64(aAt + i) !== b.getBigUint64(bAt + i)) return false;
  }
  return a.getBigUint64(aAt + last) === b.getBigUint64(bAt + last);
}

/** A cursor over one message. */
export class FormCursor {
  view: DataView = new DataView(new ArrayBuffer(0));
  at = 0;
  end = 0;
  /** The text of the last bytes field: characters up to U+00FF as UTF-8, `textLength` bytes of it. */
  textAt = 0;
  textLength = 0;
  readonly #eight = new DataView(new ArrayBuffer(8));

  start(view: DataView, from: number, to: number): void {
    this.view = view;
    this.at = from;
    this.end = to;
  }

  /** Passes these bytes. */
  literal(literal: Literal): boolean {
    const { length } = literal;
    if (length > this.end - this.at || !equalViews(this.view, this.at, literal.view, 0, length)) return false;
    this.at += length;
    return true;
  }

  /** Passes a bytes field of any length, and notes where its text is. */
  bytes(): boolean {
    if (this.literal(EMPTY)) {
      this.textLength = 0;
      return true;
    }
    if (!this.literal(FRONT) || this.end - this.at < 4) return false;
    this.textLength = this.view.getUint32(this.at, true);
    this.textAt = this.at + 4;
    if (this.textLength > this.end - this.textAt) return false;
    this.at = this.textAt + this.textLength;
    return this.literal(BACK);
  }

  /** Passes a field of exactly 8 bytes. @returns them, valid until the next call; undefined if it is none */
  eightBytes(): DataView | undefined {
    return this.bytes() ? this.eightOfText(this.textAt, this.textLength) : undefined;
  }

  /** The 8 bytes that the text at `at` spells, valid until the next call; undefined if it does not. */
  eightOfText(at: number, length: number): DataView | undefined {
    const { view } = this;
    const eight = this.#eight;
    if (length < 8 || length > 16) return undefined;
    if (length === 8) {
      const high = view.getUint32(at);
      const low = view.getUint32(at + 4);
      if (((high | low) & 0x8080_8080) !== 0) return undefined;
      eight.setUint32(0, high);
      eight.setUint32(4, low);
      return eight;
    }
    let count = 0;
    for (const end = at + length; at < end; at++) {
      if (count === 8) return undefined;
      let byte = view.getUint8(at);
      if (byte >= 0x80) {
        if ((byte & 0xfe) !== 0xc2 || ++at === end) return undefined;
        const next = view.getUint8(at);
        if ((next & 0xc0) !== 0x80) return undefined;
        byte = (byte & 3) << 6 | next & 0x3f;
      }
      eight.setUint8(count++, byte);
    }
    return count === 8 ? eight : undefined;
  }
}
