/**
 * Messages in any other form that a pickle allows: from Python 2, of another protocol, with a memo
 * (docs/zrs_protocol.md, "Pickles"). Slow and tolerant; still nothing is executed.
 */
import { PickleError, ProtocolError } from "../errors.ts";
import { isAscii, PickleMachine, PyText, PyTuple, type Value } from "../pickle/mod.ts";

/** A message: its kind, its fields, and the machine that has read it from `bytes`. */
export interface LooseMessage {
  readonly bytes: Uint8Array;
  readonly kind: string;
  readonly fields: PyTuple;
  readonly machine: PickleMachine;
}

/** @throws ProtocolError when the bytes are no pickle of a text and a tuple */
export function readLoosely(bytes: Uint8Array): LooseMessage {
  const machine = new PickleMachine(bytes, 0, bytes.length);
  let value: Value;
  try {
    value = machine.run();
  } catch (cause) {
    if (!(cause instanceof PickleError)) throw cause;
    throw new ProtocolError(`Cannot read message: ${cause.message}`, { cause });
  }
  if (machine.stopAt !== bytes.length - 1) {
    throw new ProtocolError("Cannot read message: bytes come behind its end");
  }
  const [kind, fields, more] = value instanceof PyTuple ? value.items : [];
  if (!(kind instanceof PyText && fields instanceof PyTuple) || more !== undefined) {
    throw new ProtocolError("Cannot read message: expected a pickle of its kind and its fields");
  }
  return { bytes, kind: kind.toString(), fields, machine };
}

/** @throws ProtocolError unless the message has that many fields */
export function expectFields(message: LooseMessage, count: number): readonly Value[] {
  const { items } = message.fields;
  if (items.length === count) return items;
  throw new ProtocolError(
    `Cannot read ${message.kind} message: it must have ${count} fields, current value is ${items.length}`,
  );
}

/** Bytes, which from Python 2 may have come as text. @throws ProtocolError */
export function bytesOf(value: Value | undefined, what: string): Uint8Array {
  if (value instanceof Uint8Array) return value;
  if (value instanceof PyText) return value.utf8;
  throw new ProtocolError(`Cannot read message: its ${what} must be bytes`);
}

/** A tid or oid. @throws ProtocolError */
export function eightBytesOf(value: Value | undefined, what: string): DataView {
  const bytes = bytesOf(value, what);
  if (value instanceof PyText && !isAscii(bytes)) {
    throw new ProtocolError(`Cannot read message: its ${what} must be bytes, current value is text`);
  }
  if (bytes.length !== 8) {
    throw new ProtocolError(
      `Cannot read message: its ${what} must have 8 bytes, current value is ${bytes.length}`,
    );
  }
  return new DataView(bytes.buffer, bytes.byteOffset, 8);
}

/** A short text, as it is; anything else as what no status or version is. */
export function shortTextOf(value: Value | undefined): string {
  if (value instanceof Uint8Array && value.length === 0) return "";
  return value instanceof PyText && value.utf8.length <= 16 ? value.toString() : "(something else)";
}
