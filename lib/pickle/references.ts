/**
 * The data of a ZODB object: two pickles, its class and its state, walked opcode by opcode without executing
 * anything. Tells whether they are well formed, and which objects the persistent ids in them refer to, as ZODB's
 * `referencesf` does (docs/filestorage_format.md, "References").
 *
 * A persistent id is an oid, or a tuple that begins with one; as a list it is weak or leads to another database,
 * and does not count. So of all values on the stack only byte strings of 8 bytes, what tuples begin with, and
 * lists matter; everything else is opaque.
 */
import { PickleError } from "../errors.ts";
import { checkUtf8, readDecimal, readFloat, readQuoted, readRawUnicode, readUnsigned } from "./literals.ts";
import { PickleLimitError } from "./limits.ts";
import { HIGHEST_PROTOCOL, OP } from "./opcodes.ts";
import { OpcodeWalker } from "./walker.ts";

const OID_BYTES = 8;

/** What lies on the stack; a number from 0 on is the offset of 8 bytes, with {@link IN_TUPLE} those of a tuple. */
const OPAQUE = -1;
const LIST = -2;
const TUPLE = -3;
const IN_TUPLE = 2 ** 40;
/** Offsets from here on count 8 bytes that had to be unescaped, in a list of their own. */
const UNESCAPED = 2 ** 39;

/** Walks over one object's data after the other. */
export class ReferenceScanner {
  /** Halves of the oids that the data last scanned refers to, in order, with repetitions. */
  readonly references: number[] = [];

  #bytes!: Uint8Array;
  #walker!: OpcodeWalker;
  readonly #stack: number[] = [];
  /** The height of the stack at each open MARK. */
  readonly #marks: number[] = [];
  /** Height below which nothing may be popped: the innermost MARK's. */
  #floor = 0;
  /** Both pickles share one memo. Python counts up from 0; other indices go into a map. */
  readonly #memo: number[] = [];
  readonly #sparseMemo = new Map<number, number>();
  readonly #unescaped: Uint8Array[] = [];

  /**
   * Scans an object's data.
   * @throws PickleError with the offset as `position` where it is not two well-formed pickles, and nothing else
   */
  scan(bytes: Uint8Array, from: number, to: number): void {
    this.#bytes = bytes;
    this.references.length = this.#memo.length = this.#unescaped.length = 0;
    if (this.#sparseMemo.size > 0) this.#sparseMemo.clear();
    const walker = this.#walker = new OpcodeWalker(bytes, from, to);
    try {
      this.#pickle();
      this.#pickle();
    } catch (error) {
      // A number longer than we read is none the worse for that.
      if (!(error instanceof PickleLimitError)) throw this.#placed(error);
    }
    if (walker.position !== to) throw this.#bad(`${to - walker.position} bytes follow the second pickle`);
  }

  #pickle(): void {
    const walker = this.#walker;
    this.#stack.length = this.#marks.length = this.#floor = 0;
    for (walker.step(); walker.opcode !== OP.STOP; walker.step()) this.#execute(walker);
    this.#pop();
  }

  #execute(walker: OpcodeWalker): void {
    const { from, to } = walker;
    switch (walker.opcode) {
      case OP.BINUNICODE:
      case OP.SHORT_BINUNICODE:
      case OP.BINUNICODE8:
        checkUtf8(this.#bytes, from, to);
        this.#stack.push(to - from === OID_BYTES ? from : OPAQUE);
        return;
      case OP.SHORT_BINBYTES:
      case OP.BINBYTES:
      case OP.BINBYTES8:
      case OP.SHORT_BINSTRING:
      case OP.BINSTRING:
        this.#stack.push(to - from === OID_BYTES ? from : OPAQUE);
        return;
      case OP.BINPUT:
        return this.#put(this.#bytes[from]!);
      case OP.BINGET:
        return this.#get(this.#bytes[from]!);
      case OP.LONG_BINPUT:
        return this.#put(readUnsigned(this.#bytes, from, to));
      case OP.LONG_BINGET:
        return this.#get(readUnsigned(this.#bytes, from, to));
      case OP.NONE:
      case OP.NEWTRUE:
      case OP.NEWFALSE:
      case OP.EMPTY_DICT:
      case OP.EMPTY_SET:
      case OP.BININT:
      case OP.BININT1:
      case OP.BININT2:
      case OP.BINFLOAT:
      case OP.LONG1:
      case OP.LONG4:
      case OP.GLOBAL:
      case OP.EXT1:
      case OP.EXT2:
      case OP.EXT4:
      case OP.BYTEARRAY8:
        this.#stack.push(OPAQUE);
        return;
      case OP.MARK:
        this.#floor = this.#stack.length;
        this.#marks.push(this.#floor);
        return;
      case OP.EMPTY_TUPLE:
        this.#stack.push(TUPLE);
        return;
      case OP.TUPLE1:
        return this.#tuple(1);
      case OP.TUPLE2:
        return this.#tuple(2);
      case OP.TUPLE3:
        return this.#tuple(3);
      case OP.TUPLE: {
        const first = this.#stack[this.#floor] ?? OPAQUE;
        this.#popMark();
        this.#stack.push(tupleOf(first));
        return;
      }
      case OP.EMPTY_LIST:
        this.#stack.push(LIST);
        return;
      case OP.SETITEMS:
      case OP.APPENDS:
      case OP.ADDITEMS:
        this.#popMark();
        return this.#need(1);
      case OP.SETITEM:
        return this.#drop(2, 1);
      case OP.APPEND:
      case OP.BUILD:
        return this.#drop(1, 1);
      case OP.BINPERSID:
        this.#refer(this.#pop());
        this.#stack.push(OPAQUE);
        return;
      case OP.REDUCE:
      case OP.NEWOBJ:
      case OP.STACK_GLOBAL:
        this.#drop(2, 0);
        this.#stack.push(OPAQUE);
        return;
      case OP.PROTO:
        if (this.#bytes[from]! <= HIGHEST_PROTOCOL) return;
        throw this.#bad(`protocol ${this.#bytes[from]} is not known`);
      default:
        this.#executeRare(walker);
    }
  }

  /** Opcodes of old and of new protocols, which today's ZODB does not write. */
  #executeRare(walker: OpcodeWalker): void {
    const bytes = this.#bytes;
    const { from, to } = walker;
    const stack = this.#stack;
    switch (walker.opcode) {
      case OP.FRAME:
      case OP.READONLY_BUFFER:
        return;
      case OP.POP:
        if (this.#marks.length > 0 && stack.length === this.#floor) this.#popMark();
        else this.#pop();
        return;
      case OP.POP_MARK:
        return this.#popMark();
      case OP.DUP:
        this.#need(1);
        stack.push(stack[stack.length - 1]!);
        return;
      case OP.LIST:
        this.#popMark();
        stack.push(LIST);
        return;
      case OP.DICT:
      case OP.INST:
      case OP.OBJ:
      case OP.FROZENSET:
        this.#popMark();
        stack.push(OPAQUE);
        return;
      case OP.INT:
        if (!isTruth(bytes, from, to)) readDecimal(bytes, from, to);
        stack.push(OPAQUE);
        return;
      case OP.LONG:
        readDecimal(bytes, from, to);
        stack.push(OPAQUE);
        return;
      case OP.FLOAT:
        readFloat(bytes, from, to);
        stack.push(OPAQUE);
        return;
      case OP.STRING:
        return this.#pushUnescaped(readQuoted(bytes, from, to));
      case OP.UNICODE:
        return this.#pushUnescaped(readRawUnicode(bytes, from, to));
      case OP.PUT:
        return this.#put(Number(readDecimal(bytes, from, to)));
      case OP.GET:
        return this.#get(Number(readDecimal(bytes, from, to)));
      case OP.MEMOIZE:
        return this.#put(this.#memo.length + this.#sparseMemo.size);
      case OP.NEWOBJ_EX:
        this.#drop(3, 0);
        stack.push(OPAQUE);
        return;
      case OP.PERSID:
        this.#pushUnescaped(bytes.subarray(from, to));
        this.#refer(this.#pop());
        stack.push(OPAQUE);
        return;
      default:
        throw this.#bad(`opcode 0x${walker.opcode.toString(16)} cannot stand in a database`);
    }
  }

  #refer(id: number): void {
    if (id === LIST) return; // weak, or of another database
    let at = id >= IN_TUPLE ? id - IN_TUPLE : id;
    if (at < 0) throw this.#bad("a persistent id has no oid of 8 bytes");
    let bytes = this.#bytes;
    if (at >= UNESCAPED) {
      bytes = this.#unescaped[at - UNESCAPED]!;
      at = 0;
    }
    this.references.push(readHalf(bytes, at), readHalf(bytes, at + 4));
  }

  #pushUnescaped(bytes: Uint8Array): void {
    if (bytes.length !== OID_BYTES) {
      this.#stack.push(OPAQUE);
      return;
    }
    this.#stack.push(UNESCAPED + this.#unescaped.length);
    this.#unescaped.push(bytes);
  }

  #put(index: number): void {
    this.#need(1);
    const value = this.#stack[this.#stack.length - 1]!;
    if (index <= this.#memo.length) this.#memo[index] = value;
    else this.#sparseMemo.set(index, value);
  }

  #get(index: number): void {
    const value = index < this.#memo.length ? this.#memo[index] : this.#sparseMemo.get(index);
    if (value === undefined) throw this.#bad(`nothing has been stored in the memo as ${index}`);
    this.#stack.push(value);
  }

  #tuple(length: number): void {
    this.#need(length);
    const first = this.#stack[this.#stack.length - length]!;
    this.#stack.length -= length;
    this.#stack.push(tupleOf(first));
  }

  #pop(): number {
    this.#need(1);
    return this.#stack.pop()!;
  }

  /** Takes away `count` values, below which `more` must be left. */
  #drop(count: number, more: number): void {
    this.#need(count + more);
    this.#stack.length -= count;
  }

  #need(count: number): void {
    if (this.#stack.length - this.#floor < count) throw this.#bad("an opcode lacks a value to work on");
  }

  #popMark(): void {
    if (this.#marks.length === 0) throw this.#bad("an opcode lacks a mark to go back to");
    this.#stack.length = this.#marks.pop()!;
    this.#floor = this.#marks.length === 0 ? 0 : this.#marks[this.#marks.length - 1]!;
  }

  #bad(problem: string): PickleError {
    return new PickleError(`Cannot read pickle: ${problem}`, { position: this.#walker.start });
  }

  /** The same error with a place: literals do not always know theirs. */
  #placed(error: unknown): unknown {
    if (!(error instanceof PickleError) || error.facts.position !== undefined) return error;
    return new PickleError(error.message, { position: this.#walker.start });
  }
}

function tupleOf(first: number): number {
  return first >= 0 && first < IN_TUPLE ? IN_TUPLE + first : TUPLE;
}

/** INT also holds False and True, as 00 and 01. */
function isTruth(bytes: Uint8Array, from: number, to: number): boolean {
  return to - from === 2 && bytes[from] === 0x30 && (bytes[from + 1]! & 0xfe) === 0x30;
}

function readHalf(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 | bytes[at + 3]!) >>> 0;
}
