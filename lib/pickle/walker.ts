/** Walks over the opcodes of a pickle, without meaning: where each begins and where its argument lies. */
import { PickleError } from "../errors.ts";
import { ARGUMENT, ARGUMENTS } from "./opcodes.ts";

const NEWLINE = 0x0a;

/** A cursor: `step` moves it on by one opcode, the fields describe the opcode it has just passed. */
export class OpcodeWalker {
  readonly bytes: Uint8Array;
  /** Nothing at or behind this offset is read. */
  readonly end: number;
  opcode = -1;
  /** The opcode's own offset. */
  start: number;
  /** The argument: bytes `from` to `to`, without a length in front or a newline behind. */
  from: number;
  to: number;
  /** The end of the first of two lines; `to` ends the second. */
  firstLineEnd = 0;
  /** Where the next opcode begins. */
  position: number;

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.bytes = bytes;
    this.end = end;
    this.start =
      this.from =
      this.to =
      this.position =
        at;
  }

  /** @throws PickleError at the end of the bytes, at an unknown opcode, or when an argument is cut off */
  step(): void {
    const { bytes, position } = this;
    if (position >= this.end) {
      throw new PickleError("Cannot read pickle: it ends without a STOP opcode", { position });
    }
    const opcode = bytes[position]!;
    this.opcode = opcode;
    this.start = position;
    let from = position + 1;
    let length = ARGUMENTS[opcode]!;
    if (length > 8) {
      switch (length) {
        case ARGUMENT.length1:
          length = from < this.end ? bytes[from]! : Infinity;
          from += 1;
          break;
        case ARGUMENT.length4:
          length = from + 4 <= this.end ? this.#u32(from) : Infinity;
          from += 4;
          break;
        case ARGUMENT.length8:
          length = from + 8 <= this.end ? this.#u32(from) + this.#u32(from + 4) * 0x1_0000_0000 : Infinity;
          from += 8;
          break;
        case ARGUMENT.line:
        case ARGUMENT.twoLines:
          this.#lines(from, length === ARGUMENT.twoLines);
          return;
        default:
          throw new PickleError(`Cannot read pickle: there is no opcode 0x${opcode.toString(16)}`, {
            position,
          });
      }
    }
    if (length > this.end - from) {
      throw new PickleError("Cannot read pickle: the argument of an opcode is longer than the pickle", {
        position,
      });
    }
    this.from = from;
    this.to = this.position = from + length;
  }

  #lines(from: number, two: boolean): void {
    this.from = from;
    let to = this.bytes.indexOf(NEWLINE, from);
    if (two && to >= 0) {
      this.firstLineEnd = to;
      to = this.bytes.indexOf(NEWLINE, to + 1);
    }
    if (to < 0 || to >= this.end) {
      throw new PickleError("Cannot read pickle: a line in it has no end", { position: this.start });
    }
    this.to = to;
    this.position = to + 1;
  }

  #u32(at: number): number {
    const { bytes } = this;
    return (bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16) + bytes[at + 3]! * 0x100_0000;
  }
}
