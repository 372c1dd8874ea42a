/**
 * Reads the index file from front to back through one buffer, and the few pickle opcodes that its integers and
 * strings are made of (docs/filestorage_format.md, "Index file"). No length that the file claims is believed
 * before that many bytes are there.
 */
import { viewOf } from "../../bytes/mod.ts";
import { CorruptError } from "../../errors.ts";
import type { ReadableFile } from "../../ports/mod.ts";
import { MAX_BUCKET_BYTES } from "./index_bucket.ts";

/** The opcodes of Python's pickle that index files of any age are made of. */
export const OP = {
  mark: 0x28,
  stop: 0x2e,
  protocol: 0x80,
  none: 0x4e,
  uint8: 0x4b,
  uint16: 0x4d,
  int32: 0x4a,
  long: 0x8a,
  decimal: 0x49,
  decimalLong: 0x4c,
  shortBytes: 0x43,
  bytes: 0x42,
  shortString: 0x55,
  string: 0x54,
  quotedString: 0x53,
  unicode: 0x58,
  escapedUnicode: 0x56,
  tuple: 0x74,
  tuple2: 0x86,
  emptyDict: 0x7d,
  dict: 0x64,
  setItem: 0x73,
  setItems: 0x75,
  put: 0x70,
  shortPut: 0x71,
  longPut: 0x72,
  get: 0x67,
  shortGet: 0x68,
  longGet: 0x6a,
  global: 0x63,
  reduce: 0x52,
} as const;

/** The newest pickle protocol that any index file was written with. */
const MAX_PROTOCOL = 3;
const MAX_LINE_BYTES = 1024;
/** Room for the longest string there can be, and then as much again as makes the system calls cheap. */
const BUFFER_BYTES = MAX_BUCKET_BYTES + 128 * 1024;

export class IndexCursor {
  /** The buffer. Offsets in it are valid until the next reading call. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #file: ReadableFile;
  readonly #size: number;
  #at = 0;
  #filled = 0;
  /** The position of the buffer's first byte. */
  #start = 0;

  constructor(file: ReadableFile) {
    this.#file = file;
    this.#size = file.size();
    this.bytes = new Uint8Array(Math.min(BUFFER_BYTES, this.#size));
    this.view = viewOf(this.bytes);
  }

  /** @throws CorruptError, always, for what was last read */
  refuse(problem: string): never {
    const position = this.#start + this.#at;
    throw new CorruptError(`Cannot read index at ${position}: ${problem}`, {
      path: this.#file.path,
      position,
    });
  }

  /** Takes the next `length` bytes. @returns their offset in {@link bytes} @throws CorruptError at the end */
  take(length: number): number {
    if (this.#at + length > this.#filled) this.#fill(length);
    const at = this.#at;
    this.#at += length;
    return at;
  }

  takeByte(): number {
    return this.bytes[this.take(1)]!;
  }

  /** Takes an opcode that has to be there. */
  expect(opcode: number): void {
    const found = this.takeByte();
    if (found !== opcode) {
      this.refuse(`expected opcode 0x${opcode.toString(16)}, found 0x${found.toString(16)}`);
    }
  }

  /** Takes a pickle's first opcode, and the protocol before it if that is stated. */
  takeFirst(): number {
    const opcode = this.takeByte();
    if (opcode !== OP.protocol) return opcode;
    const protocol = this.takeByte();
    if (protocol > MAX_PROTOCOL) this.refuse(`pickle protocol ${protocol} is not known here`);
    return this.takeByte();
  }

  /** The non-negative integer whose opcode was taken; undefined when the opcode is not an integer's. */
  takeInteger(opcode: number): number | undefined {
    let value: number;
    if (opcode === OP.uint8) value = this.takeByte();
    else if (opcode === OP.uint16) value = this.view.getUint16(this.take(2), true);
    else if (opcode === OP.int32) value = this.view.getInt32(this.take(4), true);
    else if (opcode === OP.long) value = this.#takeLong();
    else if (opcode === OP.decimal || opcode === OP.decimalLong) value = this.#takeDecimal();
    else return undefined;
    if (!Number.isSafeInteger(value) || value < 0) this.refuse("an integer is out of range");
    return value;
  }

  /** The length of the byte string whose opcode was taken; undefined when the opcode is not a byte string's. */
  takeStringLength(opcode: number): number | undefined {
    if (opcode === OP.shortBytes || opcode === OP.shortString) return this.takeByte();
    if (opcode === OP.bytes || opcode === OP.string) return this.view.getUint32(this.take(4), true);
    return undefined;
  }

  /** A line of text without its end, one character a byte. */
  takeLine(): string {
    let line = "";
    for (let byte = this.takeByte(); byte !== 0x0a; byte = this.takeByte()) {
      if (line.length === MAX_LINE_BYTES) this.refuse("a line is too long");
      line += String.fromCharCode(byte);
    }
    return line;
  }

  /** Little-endian two's complement of any length; what a number does not hold comes out as out of range. */
  #takeLong(): number {
    const length = this.takeByte();
    const at = this.take(length);
    if (length === 0) return 0;
    if (this.bytes[at + length - 1]! >= 0x80) return -1;
    let value = 0;
    for (let i = length - 1; i >= 0; i--) value = value * 256 + this.bytes[at + i]!;
    return value;
  }

  #takeDecimal(): number {
    const line = this.takeLine();
    return /^[0-9]{1,16}L?$/.test(line) ? parseInt(line, 10) : NaN;
  }

  #fill(length: number): void {
    const position = this.#start + this.#at;
    if (position + length > this.#size) this.refuse(`it ends too early: ${length} bytes more were expected`);
    if (length > this.bytes.length) this.refuse(`a string of ${length} bytes is longer than any bucket`);
    this.bytes.copyWithin(0, this.#at, this.#filled);
    this.#filled -= this.#at;
    this.#at = 0;
    this.#start = position;
    this.#filled += this.#file.readAt(this.bytes.subarray(this.#filled), position + this.#filled);
    if (this.#filled < length) this.refuse("it became shorter while it was read");
  }
}
