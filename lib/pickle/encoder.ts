/**
 * Writes plain values as zc.zrs on Python 3 does: protocol 1 without a memo (docs/zrs_protocol.md,
 * "Pickles"), which Python 2 and 3 both read. What the value shares is written again each time.
 */
import { PickleError } from "../errors.ts";
import { bytesFormRoom, putBytesForm } from "./bytes_form.ts";
import { MAX_DECIMAL_DIGITS, MAX_NESTING } from "./limits.ts";
import { isBuiltin, knownClass } from "./names.ts";
import { OP } from "./opcodes.ts";
import { PyDict, PyGlobal, PyList, PyObject, PyText, PyTuple, type Value } from "./value.ts";
import { isPlainCall, PickleWriter, writeDictItems, writeListItems, writeSmallInt } from "./writer.ts";

/**
 * The pickle of a value, STOP included.
 * @throws PickleError when it is not plain, contains itself, or would be longer than `maxLength` bytes
 */
export function encodePickle(value: Value, maxLength: number): Uint8Array {
  const writer = new PickleWriter(maxLength);
  writeValue(writer, value, MAX_NESTING);
  writer.byte(OP.STOP);
  return writer.written();
}

function writeValue(writer: PickleWriter, value: Value, depth: number): void {
  if (depth === 0) throw new PickleError(`Cannot write pickle: nested more than ${MAX_NESTING} deep`);
  const write = (item: Value) => writeValue(writer, item, depth - 1);
  if (value === null) return writer.byte(OP.NONE);
  if (typeof value === "boolean") return writer.ascii(value ? "I01\n" : "I00\n");
  if (typeof value === "number") return writer.float(value);
  if (typeof value === "bigint") return writeInt(writer, value);
  if (value instanceof Uint8Array) return writeBytes(writer, value);
  if (value instanceof PyText) {
    writer.byte(OP.BINUNICODE);
    writer.u32(value.utf8.length);
    writer.bytes(value.utf8);
  } else if (value instanceof PyTuple) {
    if (value.items.length === 0) return writer.byte(OP.EMPTY_TUPLE);
    writer.byte(OP.MARK);
    value.items.forEach(write);
    writer.byte(OP.TUPLE);
  } else if (value instanceof PyList) {
    writer.byte(OP.EMPTY_LIST);
    writeListItems(writer, value.items, write);
  } else if (value instanceof PyDict) {
    writer.byte(OP.EMPTY_DICT);
    writeDictItems(writer, value.items, write);
  } else if (value instanceof PyObject) {
    writeObject(writer, value, write);
  } else {
    throw notPlain(value);
  }
}

function writeObject(writer: PickleWriter, object: PyObject, write: (item: Value) => void): void {
  const { callable, args } = object;
  const known = callable instanceof PyGlobal ? knownClass(callable) : undefined;
  const isByteArray = isBuiltin(callable, "bytearray") && args.items[0] instanceof Uint8Array;
  if (!isPlainCall(object) || (known === undefined && !isByteArray)) throw notPlain(callable);
  writer.byte(OP.GLOBAL);
  writer.ascii(known?.python2 ?? "__builtin__\nbytearray\n");
  write(args);
  writer.byte(OP.REDUCE);
}

function writeInt(writer: PickleWriter, value: bigint): void {
  if (writeSmallInt(writer, value)) return;
  // 4300 decimal digits are 14,285 bits.
  const digits = BigInt.asIntN(14_400, value) === value ? value.toString() : undefined;
  if (digits === undefined || digits.length > MAX_DECIMAL_DIGITS) {
    throw new PickleError(`Cannot write pickle: a number has more than ${MAX_DECIMAL_DIGITS} digits`);
  }
  writer.byte(OP.LONG);
  writer.ascii(`${digits}L\n`);
}

function writeBytes(writer: PickleWriter, bytes: Uint8Array): void {
  const form = new Uint8Array(bytesFormRoom(bytes.length));
  writer.bytes(form.subarray(0, putBytesForm(form, 0, bytes)));
}

function notPlain(value: Value): PickleError {
  const name = value instanceof PyGlobal ? `${value.module}.${value.name}` : "an object";
  return new PickleError(`Cannot write pickle: ${name} is no plain value`);
}
