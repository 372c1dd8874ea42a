/**
 * Python values as a pickle describes them; nothing in it is ever executed. Where JavaScript has the same
 * value it is used: `null` for None, a boolean, a bigint for an int, a number for a float, a Uint8Array for
 * bytes. The containers below are mutable only while a pickle is being decoded.
 */

export type Value =
  | null
  | boolean
  | bigint
  | number
  | Uint8Array
  | PyText
  | PyTuple
  | PyList
  | PyDict
  | PyGlobal
  | PyObject;

/**
 * Text, kept as UTF-8 in which lone surrogates stand as three bytes each (Python's "surrogatepass"): a
 * JavaScript string could not tell a pair of lone surrogates from the character they would make.
 */
export class PyText {
  readonly utf8: Uint8Array;

  constructor(utf8: Uint8Array) {
    this.utf8 = utf8;
  }

  static of(text: string): PyText {
    return new PyText(new TextEncoder().encode(text));
  }

  /** For people; lone surrogates become replacement characters. */
  toString(): string {
    return new TextDecoder().decode(this.utf8);
  }
}

export class PyTuple {
  readonly items: readonly Value[];
  /** Whether Python would take it as a key of a dict. */
  readonly hashable: boolean;

  constructor(items: readonly Value[]) {
    this.items = items;
    this.hashable = items.every(isHashable);
  }
}

export class PyList {
  readonly items: Value[];

  constructor(items: Value[] = []) {
    this.items = items;
  }
}

export class PyDict {
  /** Key, value, key, value and so on, in the order of the pickle; a key may come twice, the last counts. */
  readonly items: Value[];

  constructor(items: Value[] = []) {
    this.items = items;
  }
}

/** A class or function by name, as the pickle spells it. */
export class PyGlobal {
  readonly module: string;
  readonly name: string;

  constructor(module: string, name: string) {
    this.module = module;
    this.name = name;
  }
}

/** An object that only Python could make: what would be called with what, and what would be put into it. */
export class PyObject {
  readonly how: "reduce" | "new";
  readonly callable: Value;
  readonly args: PyTuple;
  /** Keyword arguments of NEWOBJ_EX. */
  readonly keywords: Value | undefined;
  /** What would be appended. */
  readonly appended: Value[] = [];
  /** Key, value and so on: what would be set. */
  readonly set: Value[] = [];
  state: Value | undefined;

  constructor(how: "reduce" | "new", callable: Value, args: PyTuple, keywords?: Value) {
    this.how = how;
    this.callable = callable;
    this.args = args;
    this.keywords = keywords;
  }
}

/** Whether Python would take the value as a key of a dict; objects get the benefit of the doubt. */
export function isHashable(value: Value): boolean {
  if (value instanceof PyTuple) return value.hashable;
  if (value instanceof PyObject && value.callable instanceof PyGlobal) {
    const { module, name } = value.callable;
    return !(/^(__builtin__|builtins)$/.test(module) && /^(set|bytearray)$/.test(name));
  }
  return !(value instanceof PyList || value instanceof PyDict);
}

/**
 * How deep containers are nested in each other; a value that contains itself counts once.
 * @returns the depth, or Infinity when it is more than `limit`
 */
export function nesting(value: Value, limit: number, known: Map<Value, number> = new Map()): number {
  const before = known.get(value);
  if (before !== undefined) return before <= limit ? before : Infinity;
  const parts = partsOf(value);
  if (parts === undefined) return 0;
  if (limit <= 0) return Infinity;
  known.set(value, 0);
  let deepest = 0;
  for (const part of parts) {
    if (typeof part !== "object" || part === null || part instanceof PyText) continue;
    const depth = nesting(part, limit - 1, known);
    if (depth > deepest) deepest = depth;
    if (deepest === Infinity) return Infinity;
  }
  known.set(value, deepest + 1);
  return deepest + 1;
}

function partsOf(value: Value): readonly Value[] | undefined {
  if (value instanceof PyDict || value instanceof PyList || value instanceof PyTuple) return value.items;
  if (!(value instanceof PyObject)) return undefined;
  const parts = [value.callable, value.args, ...value.appended, ...value.set];
  if (value.keywords !== undefined) parts.push(value.keywords);
  if (value.state !== undefined) parts.push(value.state);
  return parts;
}
