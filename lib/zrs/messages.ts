/**
 * The bytes of messages in the form that real ends on Python 3 write (docs/zrs_protocol.md, "Pickles"): the
 * literals between the fields, and the messages that are not on the hot path.
 */
import {
  BYTES_BACK,
  BYTES_FRONT,
  bytesFormRoom,
  encodePickle,
  putBytesForm,
  PyText,
  PyTuple,
} from "../pickle/mod.ts";
import type { TransactionHead } from "../zodb/mod.ts";
import { DIGEST_LENGTH } from "./chain.ts";
import { frame, PREFIX_LENGTH, putPrefix } from "../bytes/mod.ts";

const encoder = new TextEncoder();

/** What stands before the first field of a message of that kind. */
export function openingOf(kind: "T" | "S" | "B" | "C"): Uint8Array {
  return encoder.encode(`(X\x01\0\0\0${kind}(`);
}

/** The text of one character that says a transaction's status, without the character. */
export const STATUS_FRONT: Readonly<Uint8Array> = encoder.encode("X\x01\0\0\0");

/** The version, which is always empty. */
export const VERSION: Readonly<Uint8Array> = encoder.encode("X\0\0\0\0");

/** What stands behind the last field: the ends of both tuples, and of the pickle. */
export const CLOSING: Readonly<Uint8Array> = encoder.encode("tt.");

/** The greatest message body that real primaries write for a blob. */
export const BLOB_BLOCK_LENGTH = 65_536;

/** What a field of 8 bytes takes at most: each byte may become two. */
export const MAX_FIELD = BYTES_FRONT.length + 4 + 16 + BYTES_BACK.length;

/**
 * The most bytes that the head of a record (S or B) takes: with its prefix, that of its data, and that of an
 * empty blob's block before it.
 */
export const MAX_RECORD_HEAD = 8 + 3 * MAX_FIELD + VERSION.length + 5 + CLOSING.length + 3 * PREFIX_LENGTH;

/** The most bytes that a commit message takes, its prefix and that of an empty blob's block included. */
export const MAX_COMMIT_MESSAGE = 2 * PREFIX_LENGTH + 8 + bytesFormRoom(DIGEST_LENGTH) + CLOSING.length;

const OPENING_T = openingOf("T");
const OPENING_C = openingOf("C");

/** The bytes of a T message, prefix included, besides user, description and extension as they travel. */
const TRANSACTION_OVERHEAD = PREFIX_LENGTH + 8 + MAX_FIELD + STATUS_FRONT.length + 1 + 2 * bytesFormRoom(0) +
  2 +
  CLOSING.length;

/** The most bytes that a T message takes, prefix included. */
export function transactionRoom(
  userLength: number,
  descriptionLength: number,
  extensionLength: number,
): number {
  return TRANSACTION_OVERHEAD + 2 * (userLength + descriptionLength) + extensionLength;
}

/**
 * Writes a T message with its prefix.
 * @param extension its opcodes, as they shall travel
 * @returns the offset behind it
 */
export function putTransaction(
  target: Uint8Array,
  at: number,
  head: TransactionHead,
  tid: Uint8Array,
  extension: Uint8Array,
): number {
  target.set(OPENING_T, at + PREFIX_LENGTH);
  let end = putBytesForm(target, at + PREFIX_LENGTH + OPENING_T.length, tid);
  target.set(STATUS_FRONT, end);
  end += STATUS_FRONT.length;
  target[end++] = head.status;
  end = putBytesForm(target, end, head.user);
  end = putBytesForm(target, end, head.description);
  target.set(extension, end);
  return close(target, at, end + extension.length);
}

/** Writes a C message with its prefix. @returns the offset behind it */
export function putCommit(target: Uint8Array, at: number, digest: Uint8Array): number {
  target.set(OPENING_C, at + PREFIX_LENGTH);
  return close(target, at, putBytesForm(target, at + PREFIX_LENGTH + OPENING_C.length, digest));
}

/** Ends the message that began at `at`. @returns the offset behind it */
export function close(target: Uint8Array, at: number, end: number): number {
  target.set(CLOSING, end);
  end += CLOSING.length;
  putPrefix(target, at, end - at - PREFIX_LENGTH);
  return end;
}

/** What a refusal's text begins with. */
export const REFUSED = "refused: ";

/**
 * A message, with its prefix, that a primary sends in place of a transaction to say why it sends none. A real
 * secondary takes it for a message of unknown type, and so its log shows the reason.
 */
export function encodeRefusal(reason: string): Uint8Array {
  const text = PyText.of(REFUSED + reason.slice(0, 1000));
  return frame(encodePickle(new PyTuple([text, new PyTuple([])]), 8192));
}
