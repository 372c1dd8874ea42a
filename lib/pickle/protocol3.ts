/**
 * Writes values as ZODB pickles a transaction's extension: protocol 3 with a memo. For what came over the
 * wire from zc.zrs the result is, byte for byte, what ZODB itself would write there.
 */
import { PickleError } from "../errors.ts";
import { MAX_NESTING } from "./limits.ts";
import { knownClass } from "./names.ts";
import { OP } from "./opcodes.ts";
import { PyDict, PyGlobal, PyList, PyObject, PyText, PyTuple, type Value } from "./value.ts";
import { isPlainCall, PickleWriter, writeDictItems, writeListItems, writeSmallInt } from "./writer.ts";

/**
 * The pickle of a value, PROTO and STOP included.
 * @throws PickleError when it holds an object that may be pickled in several ways, is nested too deep, or
 * (PickleLimitError) would be longer than `maxLength` bytes
 */
export function encodeProtocol3(value: Value, maxLength: number): Uint8Array {
  const writer = new PickleWriter(maxLength);
  writer.byte(OP.PROTO);
  writer.byte(3);
  new Protocol3Encoder(writer).write(value, MAX_NESTING);
  writer.byte(OP.STOP);
  return writer.written();
}

class Protocol3Encoder {
  readonly #writer: PickleWriter;
  /** Numbers of values, by identity; of texts and bytes that Python has only once, and of names, by a key. */
  readonly #memo = new Map<unknown, number>();

  constructor(writer: PickleWriter) {
    this.#writer = writer;
  }

  write(value: Value, depth: number): void {
    if (depth === 0) throw new PickleError(`Cannot write pickle: nested more than ${MAX_NESTING} deep`);
    const writer = this.#writer;
    if (value === null) return writer.byte(OP.NONE);
    if (typeof value === "boolean") return writer.byte(value ? OP.NEWTRUE : OP.NEWFALSE);
    if (typeof value === "number") return writer.float(value);
    if (typeof value === "bigint") return this.#int(value);
    const key = identityOf(value);
    if (this.#get(key)) return;
    const write = (item: Value) => this.write(item, depth - 1);
    if (value instanceof PyText) {
      writer.byte(OP.BINUNICODE);
      writer.u32(value.utf8.length);
      writer.bytes(value.utf8);
      this.#put(key);
    } else if (value instanceof Uint8Array) {
      this.#bytes(value);
      this.#put(key);
    } else if (value instanceof PyTuple) {
      this.#tuple(value, write);
    } else if (value instanceof PyList) {
      writer.byte(OP.EMPTY_LIST);
      this.#put(key);
      writeListItems(writer, value.items, write);
    } else if (value instanceof PyDict) {
      writer.byte(OP.EMPTY_DICT);
      this.#put(key);
      writeDictItems(writer, value.items, write);
    } else if (value instanceof PyObject && isPlainCall(value)) {
      this.#global(value.callable);
      write(value.args);
      writer.byte(OP.REDUCE);
      this.#put(key);
    } else {
      throw new PickleError("Cannot write pickle: an object is no plain value");
    }
  }

  #tuple(tuple: PyTuple, write: (item: Value) => void): void {
    const { length } = tuple.items;
    if (length === 0) return this.#writer.byte(OP.EMPTY_TUPLE);
    if (length > 3) this.#writer.byte(OP.MARK);
    tuple.items.forEach(write);
    if (this.#memo.has(tuple)) {
      // It contains itself, by way of a list or dict, and so has been written meanwhile: drop the second copy.
      if (length > 3) this.#writer.byte(OP.POP_MARK);
      else for (let left = length; left > 0; left--) this.#writer.byte(OP.POP);
      this.#get(tuple);
      return;
    }
    this.#writer.byte(length > 3 ? OP.TUPLE : OP.TUPLE1 + length - 1);
    this.#put(tuple);
  }

  #global(callable: Value): void {
    const names = callable instanceof PyGlobal ? knownClass(callable)?.python3 : undefined;
    if (names === undefined) throw new PickleError("Cannot write pickle: an object is of an unknown class");
    if (this.#get(names)) return;
    this.#writer.byte(OP.GLOBAL);
    this.#writer.ascii(names);
    this.#put(names);
  }

  #int(value: bigint): void {
    const writer = this.#writer;
    if (writeSmallInt(writer, value)) return;
    // Two's complement in as few bytes as hold the sign too.
    const magnitude = (value < 0n ? ~value : value).toString(16);
    const bits = magnitude.length * 4 - Math.clz32(parseInt(magnitude[0]!, 16)) + 28 + 1;
    const length = Math.ceil(bits / 8);
    writer.byte(length < 256 ? OP.LONG1 : OP.LONG4);
    if (length < 256) writer.byte(length);
    else writer.u32(length);
    const digits = BigInt.asUintN(length * 8, value).toString(16).padStart(length * 2, "0");
    for (let at = digits.length; at > 0; at -= 2) writer.byte(parseInt(digits.slice(at - 2, at), 16));
  }

  #bytes(bytes: Uint8Array): void {
    if (bytes.length < 256) {
      this.#writer.byte(OP.SHORT_BINBYTES);
      this.#writer.byte(bytes.length);
    } else {
      this.#writer.byte(OP.BINBYTES);
      this.#writer.u32(bytes.length);
    }
    this.#writer.bytes(bytes);
  }

  #put(key: unknown): void {
    const index = this.#memo.size;
    this.#memo.set(key, index);
    this.#index(index, OP.BINPUT, OP.LONG_BINPUT);
  }

  #get(key: unknown): boolean {
    const index = this.#memo.get(key);
    if (index === undefined) return false;
    this.#index(index, OP.BINGET, OP.LONG_BINGET);
    return true;
  }

  #index(index: number, short: number, long: number): void {
    if (index < 256) {
      this.#writer.byte(short);
      this.#writer.byte(index);
    } else {
      this.#writer.byte(long);
      this.#writer.u32(index);
    }
  }
}

/** What makes two values one and the same object in Python: some exist only once there. */
function identityOf(value: Value): unknown {
  if (value instanceof PyText) {
    const [first = 0, second = 0] = value.utf8;
    if (value.utf8.length === 0) return "text";
    if (value.utf8.length === 1) return `text ${first}`;
    if (value.utf8.length === 2 && (first === 0xc2 || first === 0xc3)) {
      return `text ${(first & 3) << 6 | second & 0x3f}`;
    }
  } else if (value instanceof Uint8Array && value.length <= 1) {
    return value.length === 0 ? "bytes" : `bytes ${value[0]}`;
  }
  return value instanceof PyObject ? singletonOf(value) ?? value : value;
}

/** The one call that gives the same object each time: UTC, the timezone without a name and with offset 0. */
function singletonOf({ callable, args }: PyObject): string | undefined {
  const [offset] = args.items;
  if (!(callable instanceof PyGlobal && callable.module === "datetime" && callable.name === "timezone")) {
    return;
  }
  if (args.items.length !== 1 || !(offset instanceof PyObject)) return;
  return offset.args.items.every((part) => part === 0n) ? "datetime.timezone.utc" : undefined;
}
