/**
 * Works out what a pickle describes, as Python's unpickler would, but without executing anything: classes and
 * functions stay names, objects stay descriptions. Damaged and hostile pickles end in a PickleError, after
 * work and memory in proportion to their length and within the limits below.
 */
import { PickleError } from "../errors.ts";
import {
  checkUtf8,
  isAscii,
  readDecimal,
  readFloat,
  readQuoted,
  readRawUnicode,
  readTwosComplement,
  readUnsigned,
} from "./literals.ts";
import { MAX_MEMO_INDEX, MAX_OPCODES, PickleLimitError } from "./limits.ts";
import { foldBytes } from "./names.ts";
import { HIGHEST_PROTOCOL, OP } from "./opcodes.ts";
import { isHashable, PyDict, PyGlobal, PyList, PyObject, PyText, PyTuple, type Value } from "./value.ts";
import { OpcodeWalker } from "./walker.ts";

/** A byte string of Python 2 that is not ASCII: the opcode that made it, and what it holds. */
export interface ByteString {
  readonly from: number;
  readonly to: number;
  readonly bytes: Uint8Array;
}

export class PickleMachine {
  readonly #walker: OpcodeWalker;
  readonly #endless: boolean;
  readonly #stack: Value[] = [];
  /** For each value on the stack: the offset behind the last opcode that made or kept it. */
  readonly #touched: number[] = [];
  /** The height of the stack at each open MARK. */
  readonly #marks: number[] = [];
  #memo: Map<number, Value> | undefined;
  #frameEnd = 0;
  /** The length of all byte strings that were made from texts. */
  #folded = 0;

  /** The offset of the STOP opcode, or of the end. */
  stopAt = 0;
  /** Whether STOP found exactly one value, no open MARK, and no frame that goes on: it can stand in another pickle. */
  selfContained = false;
  /** Strings of Python 2 with bytes of 0x80 or more. */
  readonly byteStrings: ByteString[] = [];
  /** The offset of the first opcode that wrote into the memo; Infinity if none did. */
  firstMemoAt = Infinity;
  /** Whether a MEMOIZE, whose index depends on what came before, is in it. */
  hasMemoize = false;
  /** Whether an opcode needs protocol 5. */
  needsProtocol5 = false;
  /** The last tuple of five that TUPLE made, and where in the pickle its last item stands. */
  five: { readonly tuple: PyTuple; readonly lastFrom: number; readonly lastTo: number } | undefined;

  /**
   * @param endless the bytes hold no STOP: it is understood at their end
   */
  constructor(bytes: Uint8Array, at: number, end: number, endless = false) {
    this.#walker = new OpcodeWalker(bytes, at, end);
    this.#endless = endless;
  }

  /** Runs up to STOP. @returns the value there @throws PickleError, PickleLimitError */
  run(): Value {
    const walker = this.#walker;
    for (let count = 0; count < MAX_OPCODES; count++) {
      if (this.#endless && walker.position === walker.end) return this.#stop(walker.end, walker.end + 1);
      walker.step();
      if (walker.opcode === OP.STOP) return this.#stop(walker.start, walker.position);
      this.#execute(walker);
    }
    throw new PickleLimitError(`Cannot read pickle: it has more than ${MAX_OPCODES} opcodes`, {
      position: walker.position,
    });
  }

  #stop(at: number, end: number): Value {
    const value = this.#pop();
    this.stopAt = at;
    this.selfContained = this.#stack.length === 0 && this.#marks.length === 0 && this.#frameEnd <= end;
    return value;
  }

  #execute(walker: OpcodeWalker): void {
    const { bytes, from, to } = walker;
    switch (walker.opcode) {
      case OP.MARK:
        this.#marks.push(this.#stack.length);
        return; // a MARK does not belong to the value before it, nor do PROTO and FRAME
      case OP.BINUNICODE:
      case OP.SHORT_BINUNICODE:
      case OP.BINUNICODE8:
        checkUtf8(bytes, from, to);
        this.#push(new PyText(bytes.subarray(from, to)));
        break;
      case OP.BINPUT:
      case OP.LONG_BINPUT:
        this.#put(readUnsigned(bytes, from, to));
        break;
      case OP.BINGET:
      case OP.LONG_BINGET:
        this.#get(readUnsigned(bytes, from, to));
        break;
      case OP.EMPTY_DICT:
        this.#push(new PyDict());
        break;
      case OP.SETITEM: {
        const value = this.#pop();
        const key = this.#pop();
        this.#setItems([key, value]);
        break;
      }
      case OP.SETITEMS:
        this.#setItems(this.#popMark());
        break;
      case OP.SHORT_BINBYTES:
      case OP.BINBYTES:
      case OP.BINBYTES8:
        this.#push(bytes.subarray(from, to));
        break;
      case OP.BININT1:
      case OP.BININT2:
        this.#push(BigInt(readUnsigned(bytes, from, to)));
        break;
      case OP.BININT:
        this.#push(BigInt(readUnsigned(bytes, from, to) | 0));
        break;
      case OP.LONG1:
      case OP.LONG4:
        this.#push(readTwosComplement(bytes, from, to));
        break;
      case OP.NONE:
        this.#push(null);
        break;
      case OP.NEWTRUE:
        this.#push(true);
        break;
      case OP.NEWFALSE:
        this.#push(false);
        break;
      case OP.BINFLOAT:
        this.#push(new DataView(bytes.buffer, bytes.byteOffset + from, 8).getFloat64(0));
        break;
      case OP.TUPLE: {
        const tuple = new PyTuple(this.#popMark());
        if (tuple.items.length === 5) {
          // The slot of the fourth item still says where that item ended.
          this.five = { tuple, lastFrom: this.#touched[this.#stack.length + 3]!, lastTo: walker.start };
        }
        this.#push(tuple);
        break;
      }
      case OP.EMPTY_TUPLE:
        this.#push(new PyTuple([]));
        break;
      case OP.TUPLE1:
      case OP.TUPLE2:
      case OP.TUPLE3: {
        const items: Value[] = [];
        for (let left = walker.opcode - OP.TUPLE1; left >= 0; left--) items.push(this.#pop());
        this.#push(new PyTuple(items.reverse()));
        break;
      }
      case OP.EMPTY_LIST:
        this.#push(new PyList());
        break;
      case OP.APPEND:
        this.#append([this.#pop()]);
        break;
      case OP.APPENDS:
        this.#append(this.#popMark());
        break;
      case OP.GLOBAL:
        this.#push(
          new PyGlobal(this.#nameAt(from, walker.firstLineEnd), this.#nameAt(walker.firstLineEnd + 1, to)),
        );
        break;
      case OP.REDUCE: {
        const args = this.#popArguments();
        const callable = this.#popCallable();
        this.#push(this.#fold(callable, args) ?? new PyObject("reduce", callable, args));
        break;
      }
      case OP.PROTO:
        if (bytes[from]! > HIGHEST_PROTOCOL) throw this.#bad(`protocol ${bytes[from]} is not known`);
        return;
      case OP.FRAME: {
        const frameEnd = walker.position + readUnsigned(bytes, from, from + 6);
        if (
          bytes[from + 6] !== 0 || bytes[from + 7] !== 0 || frameEnd > walker.end + (this.#endless ? 1 : 0)
        ) {
          throw this.#bad("a frame is longer than the pickle");
        }
        if (frameEnd > this.#frameEnd) this.#frameEnd = frameEnd;
        return;
      }
      default:
        this.#executeRare(walker);
    }
    if (this.#stack.length > 0) this.#touched[this.#stack.length - 1] = walker.position;
  }

  /** Opcodes that are not in what today's ends write into extensions and heads. */
  #executeRare(walker: OpcodeWalker): void {
    const { bytes, from, to } = walker;
    switch (walker.opcode) {
      case OP.POP:
        if (this.#marks.length > 0 && this.#marks.at(-1) === this.#stack.length) this.#marks.pop();
        else this.#pop();
        return;
      case OP.POP_MARK:
        this.#popMark();
        return;
      case OP.DUP:
        return this.#push(this.#top());
      case OP.INT:
        if (to - from === 2 && bytes[from] === 0x30 && (bytes[from + 1]! & 0xfe) === 0x30) {
          return this.#push(bytes[from + 1] === 0x31); // exactly 00 and 01 are False and True
        }
        return this.#push(readDecimal(bytes, from, to));
      case OP.LONG:
        return this.#push(readDecimal(bytes, from, to));
      case OP.FLOAT:
        return this.#push(readFloat(bytes, from, to));
      case OP.STRING:
        return this.#pushString(walker, readQuoted(bytes, from, to));
      case OP.BINSTRING:
      case OP.SHORT_BINSTRING:
        return this.#pushString(walker, bytes.subarray(from, to));
      case OP.UNICODE:
        return this.#push(new PyText(readRawUnicode(bytes, from, to)));
      case OP.PUT:
        return this.#put(Number(readDecimal(bytes, from, to)));
      case OP.GET:
        return this.#get(Number(readDecimal(bytes, from, to)));
      case OP.MEMOIZE:
        this.hasMemoize = true;
        return this.#put(this.#memo?.size ?? 0);
      case OP.LIST:
        return this.#push(new PyList([...this.#popMark()]));
      case OP.DICT: {
        const items = this.#popMark();
        this.#push(new PyDict());
        return this.#setItems(items);
      }
      case OP.EMPTY_SET:
        return this.#push(builtin("set", new PyList()));
      case OP.FROZENSET:
        return this.#push(builtin("frozenset", new PyList(this.#checkKeys(this.#popMark(), 1))));
      case OP.ADDITEMS: {
        const items = this.#checkKeys(this.#popMark(), 1);
        const set = this.#top();
        const list = set instanceof PyObject && !isHashable(set) ? set.args.items[0] : undefined;
        if (!(list instanceof PyList)) throw this.#bad("items are added to what is no set");
        pushAll(list.items, items);
        return;
      }
      case OP.BYTEARRAY8:
        this.needsProtocol5 = true;
        return this.#push(builtin("bytearray", bytes.subarray(from, to)));
      case OP.STACK_GLOBAL: {
        const name = this.#pop();
        const module = this.#pop();
        if (!(name instanceof PyText && module instanceof PyText)) {
          throw this.#bad("a class is named by no text");
        }
        return this.#push(new PyGlobal(this.#nameOf(module.utf8), this.#nameOf(name.utf8)));
      }
      case OP.NEWOBJ: {
        const args = this.#popArguments();
        return this.#push(new PyObject("new", this.#popCallable(), args));
      }
      case OP.NEWOBJ_EX: {
        const keywords = this.#pop();
        if (!(keywords instanceof PyDict)) throw this.#bad("keyword arguments are no dict");
        const args = this.#popArguments();
        return this.#push(new PyObject("new", this.#popCallable(), args, keywords));
      }
      case OP.INST: {
        const callable = new PyGlobal(
          this.#nameAt(from, walker.firstLineEnd),
          this.#nameAt(walker.firstLineEnd + 1, to),
        );
        return this.#push(new PyObject("reduce", callable, new PyTuple(this.#popMark())));
      }
      case OP.OBJ: {
        const [callable, ...args] = this.#popMark();
        if (!isCallable(callable)) throw this.#bad("an object has no class");
        return this.#push(new PyObject("reduce", callable, new PyTuple(args)));
      }
      case OP.BUILD: {
        const state = this.#pop();
        const object = this.#top();
        if (!(object instanceof PyObject) || object.state !== undefined) {
          throw this.#bad("no object takes a state");
        }
        object.state = state;
        return;
      }
      default: // persistent ids, the extension registry, out-of-band buffers
        throw this.#bad(`opcode 0x${walker.opcode.toString(16)} refers to what is not in it`);
    }
  }

  #push(value: Value): void {
    this.#stack.push(value);
  }

  #top(): Value {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) throw this.#bad("a value is missing");
    return this.#stack.at(-1)!;
  }

  #pop(): Value {
    const value = this.#top();
    this.#stack.pop();
    return value;
  }

  /** Takes what stands above the last MARK. */
  #popMark(): Value[] {
    const height = this.#marks.pop();
    if (height === undefined) throw this.#bad("a MARK is missing");
    return this.#stack.splice(height);
  }

  #popArguments(): PyTuple {
    const args = this.#pop();
    if (!(args instanceof PyTuple)) throw this.#bad("arguments are no tuple");
    return args;
  }

  #popCallable(): Value {
    const callable = this.#pop();
    if (!isCallable(callable)) throw this.#bad("what is called is no class or function");
    return callable;
  }

  /** The bytes that a call stands for. Made over and over from one remembered text they could fill the memory. */
  #fold(callable: Value, args: PyTuple): Uint8Array | undefined {
    const bytes = foldBytes(callable, args);
    this.#folded += bytes?.length ?? 0;
    if (this.#folded > this.#walker.end) {
      throw new PickleLimitError("Cannot read pickle: its byte strings are longer than itself");
    }
    return bytes;
  }

  #put(index: number): void {
    if (!(index >= 0 && index <= MAX_MEMO_INDEX)) {
      throw new PickleLimitError(`Cannot read pickle: memo index ${index} is more than ${MAX_MEMO_INDEX}`);
    }
    if (this.#memo === undefined) {
      this.#memo = new Map();
      this.firstMemoAt = this.#walker.start;
    }
    this.#memo.set(index, this.#top());
  }

  #get(index: number): void {
    const value = this.#memo?.get(index);
    if (value === undefined) throw this.#bad(`nothing was stored as number ${index}`);
    this.#push(value);
  }

  #pushString(walker: OpcodeWalker, bytes: Uint8Array): void {
    if (isAscii(bytes)) return this.#push(new PyText(bytes));
    this.byteStrings.push({ from: walker.start, to: walker.position, bytes });
    this.#push(bytes);
  }

  #append(items: Value[]): void {
    const list = this.#top();
    if (list instanceof PyList) pushAll(list.items, items);
    else if (list instanceof PyObject) pushAll(list.appended, items);
    else throw this.#bad("items are appended to what is no list");
  }

  #setItems(items: Value[]): void {
    if (items.length % 2 !== 0) throw this.#bad("a key has no value");
    const dict = this.#top();
    if (dict instanceof PyDict) pushAll(dict.items, this.#checkKeys(items, 2));
    else if (dict instanceof PyObject) pushAll(dict.set, items);
    else throw this.#bad("items are set in what is no dict");
  }

  #checkKeys(items: Value[], step: number): Value[] {
    for (let i = 0; i < items.length; i += step) {
      if (!isHashable(items[i]!)) throw this.#bad("a key is of a type that cannot be a key");
    }
    return items;
  }

  #nameAt(from: number, to: number): string {
    return this.#nameOf(this.#walker.bytes.subarray(from, to));
  }

  #nameOf(utf8: Uint8Array): string {
    let name: string;
    try {
      name = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(utf8);
    } catch (cause) {
      throw new PickleError("Cannot read pickle: a name is not UTF-8", {
        position: this.#walker.start,
        cause,
      });
    }
    if (name === "" || name.includes("\n")) throw this.#bad("a name is empty or goes over several lines");
    return name;
  }

  #bad(what: string): PickleError {
    return new PickleError(`Cannot read pickle: ${what}`, { position: this.#walker.start });
  }
}

function builtin(name: string, argument: Value): PyObject {
  return new PyObject("reduce", new PyGlobal("builtins", name), new PyTuple([argument]));
}

function isCallable(value: Value | undefined): value is PyGlobal | PyObject {
  return value instanceof PyGlobal || value instanceof PyObject;
}

/** Like `push(...items)`, which fails for very many. */
function pushAll(list: Value[], items: readonly Value[]): void {
  for (const item of items) list.push(item);
}
