/**
 * The oldest index files: one pickle of a dict with the position as `pos` and a dict from oids to positions as
 * `index`, of any protocol up to 3, written by Python 2 or 3. Only what such a pickle is made of is known here;
 * instances of classes are not, and their files count as absent.
 */
import { type IndexCursor, OP } from "./index_cursor.ts";
import { MAX_POSITION } from "./index_page.ts";
import { ObjectIndex } from "./object_index.ts";

/** Python writes a dict in batches of 1000 keys and values; what needs much more is not such a file. */
const MAX_STACK = 10_000;
const MAX_MEMO = 100;
const MAX_NAMES = 10;
const MAX_UNICODE_BYTES = 1024;
const OID_LENGTH = 8;

const MARK = Symbol("mark");
/** The function `_codecs.encode`, by which Python 3 writes bytes in the protocols before 3. */
const ENCODE = Symbol("_codecs.encode");

/** A string has one character for each byte; an array is a tuple. */
type Value = null | number | string | Value[] | PlainDict | typeof MARK | typeof ENCODE;

/** A dict: what has an oid as key goes straight into an index, so that memory stays bounded. */
class PlainDict {
  readonly names = new Map<string, Value>();
  readonly index = new ObjectIndex();
  greatestPosition = 0;
}

/**
 * Reads the dict whose first opcode was taken.
 * @throws CorruptError for every other pickle, and for positions at or beyond `pos`
 */
export function readPlainDict(cursor: IndexCursor, first: number): { index: ObjectIndex; position: number } {
  const result = new DictReader(cursor).read(first);
  if (!(result instanceof PlainDict)) return cursor.refuse("its pickle is no dict");
  const index = result.names.get("index");
  const position = result.names.get("pos");
  if (!(index instanceof PlainDict)) return cursor.refuse("its dict has no dict of oids as 'index'");
  if (typeof position !== "number") return cursor.refuse("its dict has no integer as 'pos'");
  if (index.names.size > 0) cursor.refuse("a key of 'index' is no oid");
  if (index.greatestPosition >= position) {
    cursor.refuse("an object lies outside the indexed part of the file");
  }
  return { index: index.index, position };
}

class DictReader {
  readonly #cursor: IndexCursor;
  readonly #stack: Value[] = [];
  readonly #memo = new Map<number, Value>();

  constructor(cursor: IndexCursor) {
    this.#cursor = cursor;
  }

  read(first: number): Value {
    for (let opcode = first; opcode !== OP.stop; opcode = this.#cursor.takeByte()) {
      if (this.#stack.length >= MAX_STACK) this.#cursor.refuse("its pickle nests too much");
      this.#execute(opcode);
    }
    return this.#pop();
  }

  #execute(opcode: number): void {
    const cursor = this.#cursor;
    const integer = cursor.takeInteger(opcode);
    if (integer !== undefined) {
      this.#stack.push(integer);
      return;
    }
    const length = cursor.takeStringLength(opcode);
    if (length !== undefined) {
      this.#stack.push(latin1(cursor.bytes, cursor.take(this.#bounded(length)), length));
      return;
    }
    switch (opcode) {
      case OP.none:
        this.#stack.push(null);
        return;
      case OP.quotedString:
        this.#stack.push(this.#unquote(cursor.takeLine()));
        return;
      case OP.escapedUnicode:
        this.#stack.push(this.#unescape(cursor.takeLine(), /\\u([0-9a-f]{4})/gi));
        return;
      case OP.unicode:
        this.#stack.push(this.#takeUnicode());
        return;
      case OP.global:
        if (`${cursor.takeLine()}.${cursor.takeLine()}` !== "_codecs.encode") cursor.refuse("it has a class");
        this.#stack.push(ENCODE);
        return;
      case OP.mark:
        this.#stack.push(MARK);
        return;
      case OP.emptyDict:
        this.#stack.push(new PlainDict());
        return;
      case OP.tuple:
        this.#stack.push(this.#popToMark());
        return;
      case OP.tuple2: {
        const second = this.#pop();
        const first = this.#pop();
        this.#stack.push([first, second]);
        return;
      }
      case OP.reduce:
        this.#reduce();
        return;
      default:
        this.#store(opcode);
    }
  }

  #store(opcode: number): void {
    const cursor = this.#cursor;
    switch (opcode) {
      case OP.dict: {
        const items = this.#popToMark();
        const dict = new PlainDict();
        this.#setItems(dict, items);
        this.#stack.push(dict);
        return;
      }
      case OP.setItem: {
        const value = this.#pop();
        const key = this.#pop();
        this.#setItems(this.#stack.at(-1), [key, value]);
        return;
      }
      case OP.setItems: {
        const items = this.#popToMark();
        this.#setItems(this.#stack.at(-1), items);
        return;
      }
      case OP.put:
        return this.#put(parseInt(cursor.takeLine(), 10));
      case OP.shortPut:
        return this.#put(cursor.takeByte());
      case OP.longPut:
        return this.#put(cursor.view.getUint32(cursor.take(4), true));
      case OP.get:
        return this.#get(parseInt(cursor.takeLine(), 10));
      case OP.shortGet:
        return this.#get(cursor.takeByte());
      case OP.longGet:
        return this.#get(cursor.view.getUint32(cursor.take(4), true));
      default:
        cursor.refuse(`opcode 0x${opcode.toString(16)} is not known in an index`);
    }
  }

  #pop(): Value {
    const value = this.#stack.pop();
    return value === undefined ? this.#cursor.refuse("its pickle takes more than it has") : value;
  }

  #popToMark(): Value[] {
    const mark = this.#stack.lastIndexOf(MARK);
    if (mark < 0) this.#cursor.refuse("its pickle lacks a mark");
    const values = this.#stack.splice(mark);
    values.shift();
    return values;
  }

  /** Oids are not remembered: there are many, and no other place refers to one. */
  #put(key: number): void {
    const value = this.#stack.at(-1);
    if (value === undefined || Array.isArray(value) || isOid(value)) return;
    if (this.#memo.size >= MAX_MEMO) this.#cursor.refuse("its pickle remembers too much");
    this.#memo.set(key, value);
  }

  #get(key: number): void {
    const value = this.#memo.get(key);
    if (value === undefined) return this.#cursor.refuse("its pickle refers to what it does not have");
    this.#stack.push(value);
  }

  #reduce(): void {
    const parameters = this.#pop();
    if (this.#pop() !== ENCODE || !Array.isArray(parameters)) {
      return this.#cursor.refuse("it has an instance");
    }
    const [text, encoding] = parameters;
    if (typeof text !== "string" || encoding !== "latin1") return this.#cursor.refuse("it has unknown bytes");
    this.#stack.push(text);
  }

  #setItems(dict: Value | undefined, items: readonly Value[]): void {
    if (!(dict instanceof PlainDict) || items.length % 2 !== 0) {
      return this.#cursor.refuse("a dict is expected");
    }
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i];
      const value = items[i + 1]!;
      if (typeof key !== "string") return this.#cursor.refuse("a key is no string");
      if (isOid(key)) {
        if (typeof value !== "number" || value < 1 || value > MAX_POSITION) {
          return this.#cursor.refuse("an object has no valid position");
        }
        dict.index.set(halfOf(key, 0), halfOf(key, 4), value);
        dict.greatestPosition = Math.max(dict.greatestPosition, value);
      } else {
        if (dict.names.size >= MAX_NAMES) this.#cursor.refuse("it has too many keys that are no oids");
        dict.names.set(key, value);
      }
    }
  }

  #bounded(length: number): number {
    return length <= MAX_UNICODE_BYTES
      ? length
      : this.#cursor.refuse(`a string of ${length} bytes is too long`);
  }

  #takeUnicode(): string {
    const length = this.#cursor.view.getUint32(this.#cursor.take(4), true);
    const at = this.#cursor.take(this.#bounded(length));
    return new TextDecoder().decode(this.#cursor.bytes.subarray(at, at + length));
  }

  #unquote(line: string): string {
    const quote = line[0];
    if (line.length < 2 || (quote !== "'" && quote !== '"') || line.at(-1) !== quote) {
      return this.#cursor.refuse("a string has no quotes");
    }
    return this.#unescape(line.slice(1, -1), /\\(x[0-9a-f]{2}|.)/gi);
  }

  /** Undoes Python's repr of a string, or its raw-unicode-escape, by the escapes that `pattern` finds. */
  #unescape(text: string, pattern: RegExp): string {
    return text.replace(pattern, (_, escaped: string) => {
      if (escaped.length > 1) return String.fromCharCode(parseInt(escaped.replace("x", ""), 16));
      return ESCAPES.get(escaped) ?? escaped;
    });
  }
}

const ESCAPES = new Map([["n", "\n"], ["r", "\r"], ["t", "\t"]]);

/** Whether it has eight characters, each of which is a byte. */
function isOid(value: Value): value is string {
  if (typeof value !== "string" || value.length !== OID_LENGTH) return false;
  for (let i = 0; i < OID_LENGTH; i++) if (value.charCodeAt(i) > 0xff) return false;
  return true;
}

function latin1(bytes: Uint8Array, at: number, length: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + length));
}

/** 32 bits of a string of bytes. */
function halfOf(oid: string, at: number): number {
  let half = 0;
  for (let i = at; i < at + 4; i++) half = half * 256 + oid.charCodeAt(i);
  return half;
}
