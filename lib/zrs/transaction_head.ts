/** Reads T messages: what a transaction is besides its records. */
import { PickleError, ProtocolError } from "../errors.ts";
import { extensionOfTuple, extensionToStore, latin1OfUtf8, type ReceivedExtension } from "../pickle/mod.ts";
import { describeTid, MAX_METADATA_LENGTH, STATUS, type TransactionHead } from "../zodb/mod.ts";
import { type FormCursor, Literal } from "./form.ts";
import { bytesOf, eightBytesOf, expectFields, type LooseMessage, shortTextOf } from "./loose.ts";
import { CLOSING, openingOf, STATUS_FRONT } from "./messages.ts";

const OPENING = new Literal(openingOf("T"));
const STATUS_LITERAL = new Literal(STATUS_FRONT);
const CLOSING_LITERAL = new Literal(CLOSING);

/** A transaction's metadata, ready to be stored, and what became of its extension on the way. */
export interface ReceivedTransaction {
  readonly head: TransactionHead;
  readonly extension: ReceivedExtension["note"];
}

/**
 * Reads a message in the form of real ends on Python 3; undefined if it is not one.
 * @throws ProtocolError when it says what no FileStorage can hold
 */
export function readUsualTransaction(cursor: FormCursor, bytes: Uint8Array): ReceivedTransaction | undefined {
  const to = cursor.end;
  if (!cursor.literal(OPENING)) return undefined;
  const tid = cursor.eightBytes()?.getBigUint64(0);
  if (tid === undefined || !cursor.literal(STATUS_LITERAL) || cursor.at >= to) return undefined;
  const status = bytes[cursor.at++]!;
  const user = readBytes(cursor, bytes);
  const description = user && readBytes(cursor, bytes);
  if (user === undefined || description === undefined) return undefined;
  const extensionAt = cursor.at;
  cursor.at = to - CLOSING_LITERAL.length;
  if (cursor.at <= extensionAt || !cursor.literal(CLOSING_LITERAL)) return undefined;
  let extension: ReceivedExtension;
  try {
    extension = extensionToStore(bytes, extensionAt, to - CLOSING_LITERAL.length, MAX_METADATA_LENGTH);
  } catch (error) {
    if (error instanceof PickleError) return undefined;
    throw error;
  }
  return checked(tid, status, user, description, extension);
}

/** Reads T in any other form. @throws ProtocolError */
export function readLooseTransaction(message: LooseMessage): ReceivedTransaction {
  const [tidField, statusField, user, description] = expectFields(message, 5);
  const tid = eightBytesOf(tidField, "tid").getBigUint64(0);
  const status = shortTextOf(statusField);
  let extension: ReceivedExtension;
  try {
    extension = extensionOfTuple(message.bytes, message.machine, message.fields, MAX_METADATA_LENGTH);
  } catch (cause) {
    if (!(cause instanceof PickleError)) throw cause;
    throw new ProtocolError(`Cannot take extension of transaction ${describeTid(tid)}: ${cause.message}`, {
      cause,
      tid,
    });
  }
  return checked(
    tid,
    status.length === 1 ? status.charCodeAt(0) : -1,
    bytesOf(user, "user").slice(),
    bytesOf(description, "description").slice(),
    extension,
  );
}

function readBytes(cursor: FormCursor, bytes: Uint8Array): Uint8Array | undefined {
  if (!cursor.bytes()) return undefined;
  return latin1OfUtf8(bytes, cursor.textAt, cursor.textAt + cursor.textLength);
}

function checked(
  tid: bigint,
  status: number,
  user: Uint8Array,
  description: Uint8Array,
  { note, stored }: ReceivedExtension,
): ReceivedTransaction {
  if (status !== STATUS.committed && status !== STATUS.packed) {
    throw new ProtocolError(
      `Cannot take transaction ${describeTid(tid)}: its status must be ' ' or 'p', current value is ` +
        (status < 0 ? "something else" : JSON.stringify(String.fromCharCode(status))),
      { tid },
    );
  }
  for (const [what, text] of [["user", user], ["description", description]] as const) {
    if (text.length > MAX_METADATA_LENGTH) {
      throw new ProtocolError(
        `Cannot take transaction ${
          describeTid(tid)
        }: its ${what} must be at most ${MAX_METADATA_LENGTH} bytes, ` +
          `current value is ${text.length}`,
        { tid },
      );
    }
  }
  return { head: { tid, status, user, description, extension: stored }, extension: note };
}
