/** The few classes and functions whose meaning is known here. */
import { PickleError } from "../errors.ts";
import { PyGlobal, PyText, type PyTuple, type Value } from "./value.ts";

/** A class whose objects are described by the same arguments in every protocol. */
export interface KnownClass {
  /** Module and name, each with its newline, as protocols below 3 spell them. */
  readonly python2: string;
  /** The same as protocol 3 spells them. */
  readonly python3: string;
}

const KNOWN: ReadonlyMap<string, KnownClass> = (() => {
  const known = new Map<string, KnownClass>();
  const add = (python2: string, python3 = python2) => {
    known.set(python2, { python2, python3 });
    known.set(python3, { python2, python3 });
  };
  add("__builtin__\nset\n", "builtins\nset\n");
  add("__builtin__\nfrozenset\n", "builtins\nfrozenset\n");
  add("__builtin__\ncomplex\n", "builtins\ncomplex\n");
  add("__builtin__\nxrange\n", "builtins\nrange\n");
  for (const name of ["date", "datetime", "time", "timedelta", "timezone"]) add(`datetime\n${name}\n`);
  add("decimal\nDecimal\n");
  return known;
})();

/** The class of that name, if its objects can be written again in another protocol. */
export function knownClass(global: PyGlobal): KnownClass | undefined {
  return KNOWN.get(`${global.module}\n${global.name}\n`);
}

/** Whether it is the built-in class or function of this name, spelt as Python 2 or 3 does. */
export function isBuiltin(value: Value, name: string): boolean {
  return value instanceof PyGlobal && value.name === name &&
    (value.module === "__builtin__" || value.module === "builtins");
}

/**
 * The bytes that a call stands for, in the two forms in which Python 3 writes bytes in protocols 0 to 2.
 * @returns undefined when it is another call
 * @throws PickleError when the text holds a character above U+00FF
 */
export function foldBytes(callable: Value, args: PyTuple): Uint8Array | undefined {
  if (!(callable instanceof PyGlobal)) return undefined;
  if (args.items.length === 0) return isBuiltin(callable, "bytes") ? new Uint8Array(0) : undefined;
  const [text, encoding] = args.items;
  if (callable.module !== "_codecs" || callable.name !== "encode" || args.items.length !== 2) {
    return undefined;
  }
  if (!(text instanceof PyText && encoding instanceof PyText)) return undefined;
  if (!/^latin-?1$/.test(encoding.toString())) return undefined;
  const bytes = latin1OfUtf8(text.utf8, 0, text.utf8.length);
  if (bytes === undefined) {
    throw new PickleError("Cannot read pickle: a byte string holds a character above U+00FF");
  }
  return bytes;
}

/** The bytes whose values are the text's code points; undefined if one is above 255 or it is not UTF-8. */
export function latin1OfUtf8(utf8: Uint8Array, from: number, to: number): Uint8Array | undefined {
  const bytes = new Uint8Array(to - from);
  let length = 0;
  for (let at = from; at < to; at++) {
    const byte = utf8[at]!;
    if (byte < 0x80) {
      bytes[length++] = byte;
      continue;
    }
    const next = at + 1 < to ? utf8[at + 1]! : 0;
    if ((byte !== 0xc2 && byte !== 0xc3) || (next & 0xc0) !== 0x80) return undefined;
    bytes[length++] = (byte & 3) << 6 | next & 0x3f;
    at++;
  }
  return bytes.subarray(0, length);
}
