/**
 * Recognising a blob's record: its first pickle, the class, is exactly `ZODB.blob.Blob`. The content lies in
 * a file beside the database (docs/filestorage_format.md, "Blobs").
 */

/** The class description is within so many bytes from the record's start, whatever the pickle's protocol. */
export const BLOB_SNIFF_BYTES = 64;

const ascii = new TextEncoder();
/** GLOBAL, as protocols 0 to 3 name a class. */
const GLOBAL_NAME = ascii.encode("cZODB.blob\nBlob\n");
/** Two SHORT_BINUNICODE, of which STACK_GLOBAL makes the class in protocol 4. */
const MODULE_NAME = new Uint8Array([0x8c, 9, ...ascii.encode("ZODB.blob")]);
const CLASS_NAME = new Uint8Array([0x8c, 4, ...ascii.encode("Blob")]);

const PROTO = 0x80;
const FRAME = 0x95;
const STACK_GLOBAL = 0x93;
const MEMOIZE = 0x94;
const BINPUT = 0x71;
const LONG_BINPUT = 0x72;
const PUT = 0x70;
const STOP = 0x2e;
const NEWLINE = 0x0a;

/** Whether data with this beginning (at least {@link BLOB_SNIFF_BYTES} of it, or all) is a blob's record. */
export function isBlobRecord(bytes: Uint8Array, from: number, to: number): boolean {
  const end = Math.min(to, from + BLOB_SNIFF_BYTES);
  let at = bytes[from] === PROTO ? from + 2 : from;
  if (bytes[at] === FRAME) at += 9;
  // Nearly every record is told apart by these bytes.
  const named = bytes[at] === GLOBAL_NAME[0]
    ? skip(GLOBAL_NAME, bytes, at, end)
    : skipStackGlobal(bytes, at, end);
  if (named < 0) return false;
  const memoized = skipMemo(bytes, named);
  return memoized < end && bytes[memoized] === STOP;
}

/** The offset behind `expected`, or -1 where something else stands. */
function skip(expected: Uint8Array, bytes: Uint8Array, at: number, end: number): number {
  if (at < 0 || at + expected.length > end) return -1;
  for (let i = 0; i < expected.length; i++) if (bytes[at + i] !== expected[i]) return -1;
  return at + expected.length;
}

function skipStackGlobal(bytes: Uint8Array, from: number, end: number): number {
  let at = skip(MODULE_NAME, bytes, from, end);
  if (at >= 0) at = skip(CLASS_NAME, bytes, skipMemo(bytes, at), end);
  return at >= 0 && bytes[skipMemo(bytes, at)] === STACK_GLOBAL ? skipMemo(bytes, at) + 1 : -1;
}

/** The offset behind an opcode that puts the value into the memo, if there is one. */
function skipMemo(bytes: Uint8Array, at: number): number {
  switch (bytes[at]) {
    case MEMOIZE:
      return at + 1;
    case BINPUT:
      return at + 2;
    case LONG_BINPUT:
      return at + 5;
    case PUT: {
      const newline = bytes.indexOf(NEWLINE, at);
      return newline < 0 ? bytes.length : newline + 1;
    }
    default:
      return at;
  }
}
