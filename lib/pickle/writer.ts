/** Collects the bytes of a pickle, up to a limit. */
import { PickleLimitError } from "./limits.ts";
import { OP } from "./opcodes.ts";
import type { PyObject, Value } from "./value.ts";

/** Python writes the items of lists and dicts in batches. */
export const BATCH = 1000;

export class PickleWriter {
  readonly #maxLength: number;
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  /** @param maxLength the most bytes that may be put */
  constructor(maxLength: number) {
    this.#maxLength = maxLength;
  }

  get length(): number {
    return this.#length;
  }

  byte(value: number): void {
    const at = this.#grow(1);
    this.#bytes[at] = value;
  }

  bytes(source: Uint8Array): void {
    const at = this.#grow(source.length);
    this.#bytes.set(source, at);
  }

  /** Text of ASCII characters. */
  ascii(text: string): void {
    const at = this.#grow(text.length);
    for (let i = 0; i < text.length; i++) this.#bytes[at + i] = text.charCodeAt(i);
  }

  /** A name may hold any characters. */
  text(text: string): void {
    this.bytes(new TextEncoder().encode(text));
  }

  /** Little-endian, as pickles hold integers. */
  u32(value: number): void {
    const at = this.#grow(4);
    this.#view.setUint32(at, value, true);
  }

  /** Big-endian, as pickles hold floats. */
  float(value: number): void {
    const at = this.#grow(9);
    this.#bytes[at] = OP.BINFLOAT;
    this.#view.setFloat64(at + 1, value);
  }

  /** What has been put: a view of the writer's own buffer. */
  written(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #grow(count: number): number {
    const at = this.#length;
    const needed = at + count;
    if (needed > this.#maxLength) {
      throw new PickleLimitError(`Cannot write pickle: it is longer than ${this.#maxLength} bytes`);
    }
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#length = needed;
    return at;
  }
}

/** Writes an integer of at most 32 bits, signed. @returns whether it was one */
export function writeSmallInt(writer: PickleWriter, value: bigint): boolean {
  if (value < -0x8000_0000n || value > 0x7fff_ffffn) return false;
  const small = Number(value);
  if (small >= 0 && small <= 0xff) {
    writer.byte(OP.BININT1);
    writer.byte(small);
  } else if (small >= 0 && small <= 0xffff) {
    writer.byte(OP.BININT2);
    writer.byte(small & 0xff);
    writer.byte(small >> 8);
  } else {
    writer.byte(OP.BININT);
    writer.u32(small >>> 0);
  }
  return true;
}

/** The items of a list in batches, as Python writes them: a single one without MARK. */
export function writeListItems(
  writer: PickleWriter,
  items: readonly Value[],
  write: (item: Value) => void,
): void {
  if (items.length === 1) {
    write(items[0]!);
    writer.byte(OP.APPEND);
    return;
  }
  for (let from = 0; from < items.length; from += BATCH) {
    writer.byte(OP.MARK);
    const to = Math.min(from + BATCH, items.length);
    for (let i = from; i < to; i++) write(items[i]!);
    writer.byte(OP.APPENDS);
  }
}

/** The keys and values of a dict: as a list's items, but a last full batch is followed by an empty one. */
export function writeDictItems(
  writer: PickleWriter,
  items: readonly Value[],
  write: (item: Value) => void,
): void {
  if (items.length === 2) {
    write(items[0]!);
    write(items[1]!);
    writer.byte(OP.SETITEM);
    return;
  }
  for (let from = 0; items.length > 0 && from <= items.length; from += 2 * BATCH) {
    writer.byte(OP.MARK);
    const to = Math.min(from + 2 * BATCH, items.length);
    for (let i = from; i < to; i++) write(items[i]!);
    writer.byte(OP.SETITEMS);
    if (to - from < 2 * BATCH) break;
  }
}

/** Whether an object is nothing but a call with positional arguments. */
export function isPlainCall(object: PyObject): boolean {
  return object.how === "reduce" && object.state === undefined && object.appended.length === 0 &&
    object.set.length === 0;
}
