/**
 * A transaction's extension on its way from one Data.fs to another (docs/zrs_protocol.md, "The extension").
 * In a file it is a pickle of its own; on the wire a part of the pickle that describes the transaction.
 */
import { PickleError } from "../errors.ts";
import { bytesFormRoom, putBytesForm } from "./bytes_form.ts";
import { encodePickle } from "./encoder.ts";
import { MAX_NESTING, PickleLimitError } from "./limits.ts";
import { type ByteString, PickleMachine } from "./machine.ts";
import { OP } from "./opcodes.ts";
import { encodeProtocol3 } from "./protocol3.ts";
import { nesting, PyDict, PyGlobal, PyObject, type PyTuple, type Value } from "./value.ts";

/** How an extension travels: as it is stored, in other words, or not at all, because no peer could read it. */
export type Carriage = "spliced" | "rewritten" | "left_out";

const EMPTY_DICT = new Uint8Array([OP.EMPTY_DICT]);
const NOTHING = new Uint8Array(0);

/**
 * The opcodes to put where another pickle wants the extension.
 * @param stored the extension as a Data.fs holds it: a pickle, or nothing
 * @param maxLength the most bytes that the result may have; what is longer is left out
 */
export function extensionToSend(
  stored: Uint8Array,
  maxLength: number,
): { readonly carriage: Carriage; readonly bytes: Uint8Array } {
  if (stored.length === 0) return { carriage: "spliced", bytes: EMPTY_DICT };
  try {
    const machine = new PickleMachine(stored, 0, stored.length);
    const value = machine.run();
    if (isFalsy(value) && !(value instanceof PyDict)) return { carriage: "rewritten", bytes: EMPTY_DICT };
    if (isDict(value) && nesting(value, MAX_NESTING) <= MAX_NESTING) {
      if (machine.selfContained && !machine.needsProtocol5) {
        const bytes = withoutByteStrings(stored, machine.stopAt, machine.byteStrings);
        if (bytes.length <= maxLength) {
          return { carriage: machine.byteStrings.length === 0 ? "spliced" : "rewritten", bytes };
        }
      }
      return { carriage: "rewritten", bytes: encodePickle(value, maxLength + 1).subarray(0, -1) };
    }
  } catch (error) {
    if (!(error instanceof PickleError)) throw error;
  }
  return { carriage: "left_out", bytes: EMPTY_DICT };
}

/** Anything else may ruin the receiver's file: newer ones take bytes for the stored pickle itself. */
function isDict(value: Value): boolean {
  if (!(value instanceof PyObject)) return value instanceof PyDict;
  return value.callable instanceof PyGlobal && value.callable.module === "collections" &&
    (value.callable.name === "OrderedDict" || value.callable.name === "defaultdict");
}

/** Byte strings of Python 2 that are not ASCII kill a Python 3 peer: they become what ZODB takes them for. */
function withoutByteStrings(stored: Uint8Array, end: number, strings: readonly ByteString[]): Uint8Array {
  if (strings.length === 0) return stored.subarray(0, end);
  let room = end;
  for (const { bytes } of strings) room += bytesFormRoom(bytes.length);
  const result = new Uint8Array(room);
  let from = 0;
  let length = 0;
  for (const string of strings) {
    result.set(stored.subarray(from, string.from), length);
    length = putBytesForm(result, length + string.from - from, string.bytes);
    from = string.to;
  }
  result.set(stored.subarray(from, end), length);
  return result.subarray(0, length + end - from);
}

/** What became of an extension that was received. */
export interface ReceivedExtension {
  /** `too long`: it does not fit into a Data.fs (the sender lost what it shared); `stored` is then empty. */
  readonly note: "kept" | "rewritten" | "too long";
  /** What to write into the file. May be a view of what was received. */
  readonly stored: Uint8Array;
}

const NO_EXTENSION: ReceivedExtension = { note: "kept", stored: NOTHING };
const TOO_LONG: ReceivedExtension = { note: "too long", stored: NOTHING };

/**
 * The pickle to store for an extension that stands by itself within another pickle, which has no memo.
 * @param from to  where its opcodes are, without a STOP
 * @param maxLength the most bytes that a file takes
 * @throws PickleError when they are no pickle by themselves
 */
export function extensionToStore(
  bytes: Uint8Array,
  from: number,
  to: number,
  maxLength: number,
): ReceivedExtension {
  if (to - from === 1 && bytes[from] === OP.EMPTY_DICT) return NO_EXTENSION;
  let value: Value;
  try {
    const machine = new PickleMachine(bytes, from, to, true);
    value = machine.run();
    if (!machine.selfContained) throw new PickleError("Cannot read pickle: it does not stand by itself");
  } catch (error) {
    if (error instanceof PickleLimitError) return TOO_LONG;
    throw error;
  }
  return storedForm(bytes.subarray(from, to), bytes[from] === OP.PROTO, value, maxLength);
}

/**
 * The same for an extension within a pickle that may have a memo.
 * @param machine has run over all of `bytes`
 * @param tuple the last tuple of five in it, whose last item the extension is
 */
export function extensionOfTuple(
  bytes: Uint8Array,
  machine: PickleMachine,
  tuple: PyTuple,
  maxLength: number,
): ReceivedExtension {
  const value = tuple.items[4]!;
  const place = machine.five;
  if (place !== undefined && place.tuple === tuple) {
    const opcodes = withProtocol(bytes, place.lastFrom, place.lastTo);
    try {
      const alone = new PickleMachine(opcodes, 0, opcodes.length, true);
      const same = alone.run();
      if (alone.selfContained && !(alone.hasMemoize && machine.firstMemoAt < place.lastFrom)) {
        return storedForm(opcodes, bytes[place.lastFrom] === OP.PROTO, same, maxLength);
      }
    } catch (error) {
      if (!(error instanceof PickleError)) throw error;
    }
  }
  if (isFalsy(value)) return NO_EXTENSION;
  const stored = inProtocol3(value, maxLength);
  return stored === undefined ? TOO_LONG : { note: "rewritten", stored };
}

/** Opcodes out of a pickle that begins with PROTO need one too. */
function withProtocol(bytes: Uint8Array, from: number, to: number): Uint8Array {
  if (bytes[0] !== OP.PROTO || bytes[from] === OP.PROTO) return bytes.subarray(from, to);
  const opcodes = new Uint8Array(2 + to - from);
  opcodes.set(bytes.subarray(0, 2));
  opcodes.set(bytes.subarray(from, to), 2);
  return opcodes;
}

/**
 * @param spliced the opcodes begin with a PROTO of their own: a primary like ours has put the stored pickle
 * itself there, and it goes back as it was
 */
function storedForm(
  opcodes: Uint8Array,
  spliced: boolean,
  value: Value,
  maxLength: number,
): ReceivedExtension {
  if (!spliced) {
    if (isFalsy(value)) return NO_EXTENSION;
    try {
      const stored = inProtocol3(value, maxLength);
      return stored === undefined ? TOO_LONG : { note: "kept", stored };
    } catch (error) {
      if (!(error instanceof PickleError)) throw error; // an object of unknown kind: it stays as it came
    }
  }
  if (opcodes.length >= maxLength) return TOO_LONG;
  const stored = new Uint8Array(opcodes.length + 1);
  stored.set(opcodes);
  stored[opcodes.length] = OP.STOP;
  return { note: "kept", stored };
}

function inProtocol3(value: Value, maxLength: number): Uint8Array | undefined {
  try {
    return encodeProtocol3(value, maxLength);
  } catch (error) {
    if (error instanceof PickleLimitError) return undefined;
    throw error;
  }
}

/** What ZODB stores as nothing at all. */
function isFalsy(value: Value): boolean {
  if (typeof value !== "object" || value === null) return !value;
  if (value instanceof Uint8Array) return value.length === 0;
  if ("utf8" in value) return value.utf8.length === 0;
  return "items" in value && value.items.length === 0;
}
