/** What a small site commits: pages are made and edited, edits are undone, now and then a commit fails. */
import type { Change, Commit } from "./source_writer.ts";

const WORDS = ("zope plone page folder title text image link menu news event user group role state draft " +
  "public private catalog index search portal site form field value schema type view template skin").split(
    " ",
  );
const USERS = ["admin", "editor", "Zoë", ""];

/** A persistent.mapping.PersistentMapping without its state. */
const MAPPING_CLASS = "\x80\x03cpersistent.mapping\nPersistentMapping\nq\x00.";

/** One change in so many undoes the one before. */
const UNDO_ONE_IN = 12;
/** One new revision in so many is of a new object. */
const NEW_ONE_IN = 4;
const MAX_CHANGES = 6;
const MAX_WORDS = 400;

const encoder = new TextEncoder();

/** The root object, and the transaction that ZODB begins every database with. */
export function initialCommit(tid: bigint): Commit {
  return {
    tid,
    user: "",
    description: "initial database creation",
    extension: new Uint8Array(),
    changes: [{ oid: 0n, data: encodeMapping(new Uint8Array()) }],
  };
}

/** Makes up commits; every object it changes is one of its own. */
export class Application {
  readonly #firstOid: bigint;
  #objects = 0;

  /** @param firstOid the first oid that is free, it and all after it */
  constructor(firstOid: bigint) {
    this.#firstOid = firstOid;
  }

  /** @param timeMs the commit's moment, in milliseconds since 1970 */
  commit(tid: bigint, timeMs: number): Commit {
    const changes = new Map<bigint, Change>();
    const count = 1 + below(MAX_CHANGES);
    let undone = false;
    for (let i = 0; i < count; i++) {
      const isNew = this.#objects === 0 || below(NEW_ONE_IN) === 0;
      const oid = this.#firstOid + BigInt(isNew ? this.#objects++ : below(this.#objects));
      const undo = !isNew && below(UNDO_ONE_IN) === 0;
      undone ||= undo;
      changes.set(oid, undo ? { oid, undo } : { oid, data: encodeMapping(encodeText(someWords())) });
    }
    return {
      tid,
      user: USERS[below(USERS.length)]!,
      description: `/site/${WORDS[below(WORDS.length)]}\n\n${undone ? "Undone" : "Edited"}`,
      extension: below(2) === 0 ? encodeExtension(timeMs) : new Uint8Array(),
      changes: [...changes.values()],
    };
  }
}

/** One commit that takes a while: so many megabytes of new objects. @param firstOid its objects' first */
export function importCommit(tid: bigint, firstOid: bigint, megabytes: number): Commit {
  const text = encodeMapping(encodeText("import ".repeat(2 ** 20 / 7)));
  const changes = Array.from({ length: megabytes }, (_, i) => ({ oid: firstOid + BigInt(i), data: text }));
  return { tid, user: "admin", description: "/site\n\nImported", extension: new Uint8Array(), changes };
}

function below(limit: number): number {
  return Math.floor(Math.random() * limit);
}

function someWords(): string {
  return Array.from({ length: 1 + below(MAX_WORDS) }, () => WORDS[below(WORDS.length)]).join(" ");
}

/** The two pickles of a record: the class, and the state `{'data': {…}}`. @param items opcodes that fill the dict */
function encodeMapping(items: Uint8Array): Uint8Array {
  return concat(
    latin1(MAPPING_CLASS),
    latin1("\x80\x03}q\x01"),
    pickledText("data"),
    latin1("}"),
    items,
    latin1("s."),
  );
}

/** Sets the dict's 'text'. */
function encodeText(text: string): Uint8Array {
  return concat(pickledText("text"), pickledText(text), latin1("s"));
}

/** `{'time': …}`, as Plone notes things about a transaction. */
function encodeExtension(timeMs: number): Uint8Array {
  return concat(
    latin1("\x80\x03}q\x00"),
    pickledText("time"),
    latin1("q\x01"),
    pickledText(new Date(timeMs).toISOString()),
    latin1("q\x02s."),
  );
}

/** BINUNICODE: a length in 4 bytes, little-endian, and UTF-8. */
function pickledText(text: string): Uint8Array {
  const utf8 = encoder.encode(text);
  const head = new Uint8Array(5);
  head[0] = 0x58;
  new DataView(head.buffer).setUint32(1, utf8.length, true);
  return concat(head, utf8);
}

function latin1(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
