/**
 * Reads the heads of records, S and B. Nearly all come in one form and repeat the tid of the one before, so
 * that is looked for first; then the form with other values; then whatever else a pickle may say.
 */
import { ProtocolError } from "../errors.ts";
import { BYTES_FRONT } from "../pickle/mod.ts";
import { equalViews, FormCursor, Literal } from "./form.ts";
import { eightBytesOf, expectFields, type LooseMessage, shortTextOf } from "./loose.ts";
import { CLOSING, openingOf, VERSION } from "./messages.ts";

const OPENING_S = new Literal(openingOf("S"));
const OPENING_B = new Literal(openingOf("B"));
const VERSION_LITERAL = new Literal(VERSION);
const CLOSING_LITERAL = new Literal(CLOSING);
const FRONT_S = new Literal(concatenate(openingOf("S"), BYTES_FRONT));
/** Where the oid's characters begin in the usual form. */
const OID_TEXT = FRONT_S.length + 4;
/** The most bytes that the usual form has behind them. */
const MAX_REST = 128;

const NONE = 0x4e;
const COUNT_OPCODES = { one: 0x4b, two: 0x4d, four: 0x4a } as const;

export class RecordHead {
  oidHigh = 0;
  oidLow = 0;
  tid = 0n;
  /** The transaction whose record has the same data; undefined for none. */
  dataTxn: bigint | undefined = undefined;
  /** How many messages with the blob's blocks follow the data; undefined when there is no blob. */
  blocks: number | undefined = undefined;

  readonly #cursor = new FormCursor();
  /** All that stood behind the oid's characters in the last head of the usual form without data_txn. */
  readonly #rest = new DataView(new ArrayBuffer(MAX_REST));
  #restLength = -1;
  #restTid = 0n;

  /**
   * Reads a message in the form of real ends on Python 3.
   * @returns whether it was one; if not, the fields hold nothing
   */
  readUsual(view: DataView, from: number, to: number): boolean {
    return this.#readRepeating(view, from, to) || this.#readForm(view, from, to);
  }

  /** Reads S or B in any other form. @throws ProtocolError */
  readLoose(message: LooseMessage): void {
    const isBlob = message.kind === "B";
    const [oid, tid, version, dataTxn, blocks] = expectFields(message, isBlob ? 5 : 4);
    const oidBytes = eightBytesOf(oid, "oid");
    this.oidHigh = oidBytes.getUint32(0);
    this.oidLow = oidBytes.getUint32(4);
    this.tid = eightBytesOf(tid, "tid").getBigUint64(0);
    if (shortTextOf(version) !== "") {
      throw new ProtocolError("Cannot take record: its version must be empty");
    }
    this.dataTxn = dataTxn === null ? undefined : eightBytesOf(dataTxn, "data_txn").getBigUint64(0);
    this.blocks = undefined;
    if (!isBlob) return;
    if (typeof blocks !== "bigint" || blocks < 0n || blocks > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new ProtocolError(
        "Cannot read B message: the count of its blocks must be a number, and not negative",
      );
    }
    this.blocks = Number(blocks);
  }

  /** The usual form with the same fields behind the oid as last time. */
  #readRepeating(view: DataView, from: number, to: number): boolean {
    const restLength = this.#restLength;
    const textLength = to - from - OID_TEXT - restLength;
    if (
      restLength < 0 || textLength < 8 || textLength > 16 ||
      view.getUint32(from + OID_TEXT - 4, true) !== textLength ||
      !equalViews(view, to - restLength, this.#rest, 0, restLength) ||
      !equalViews(view, from, FRONT_S.view, 0, FRONT_S.length)
    ) return false;
    this.#cursor.view = view;
    const oid = this.#cursor.eightOfText(from + OID_TEXT, textLength);
    if (oid === undefined) return false;
    this.oidHigh = oid.getUint32(0);
    this.oidLow = oid.getUint32(4);
    this.tid = this.#restTid;
    this.dataTxn = this.blocks = undefined;
    return true;
  }

  #readForm(view: DataView, from: number, to: number): boolean {
    const cursor = this.#cursor;
    cursor.start(view, from, to);
    const isBlob = !cursor.literal(OPENING_S);
    if (isBlob && !cursor.literal(OPENING_B)) return false;
    const oid = cursor.eightBytes();
    if (oid === undefined) return false;
    this.oidHigh = oid.getUint32(0);
    this.oidLow = oid.getUint32(4);
    const oidTextEnd = cursor.textAt + cursor.textLength;
    const tid = cursor.eightBytes();
    if (tid === undefined || !cursor.literal(VERSION_LITERAL)) return false;
    this.tid = tid.getBigUint64(0);
    this.dataTxn = undefined;
    if (cursor.at < to && view.getUint8(cursor.at) === NONE) {
      cursor.at++;
    } else {
      const dataTxn = cursor.eightBytes();
      if (dataTxn === undefined) return false;
      this.dataTxn = dataTxn.getBigUint64(0);
    }
    this.blocks = undefined;
    if (isBlob) {
      this.blocks = readCount(cursor);
      if (this.blocks === undefined) return false;
    }
    if (!cursor.literal(CLOSING_LITERAL) || cursor.at !== to) return false;
    if (!isBlob && this.dataTxn === undefined) this.#remember(view, oidTextEnd, to);
    return true;
  }

  #remember(view: DataView, from: number, to: number): void {
    this.#restLength = to - from;
    this.#restTid = this.tid;
    for (let i = 0; i < this.#restLength; i++) this.#rest.setUint8(i, view.getUint8(from + i));
  }
}

/** Passes a count in the smallest form of an integer. */
function readCount(cursor: FormCursor): number | undefined {
  const { view, at, end } = cursor;
  if (end - at < 5) return undefined; // what closes the message is long enough for the greatest form
  switch (view.getUint8(at)) {
    case COUNT_OPCODES.one:
      cursor.at += 2;
      return view.getUint8(at + 1);
    case COUNT_OPCODES.two:
      cursor.at += 3;
      return view.getUint16(at + 1, true);
    case COUNT_OPCODES.four: {
      cursor.at += 5;
      const count = view.getInt32(at + 1, true);
      return count < 0 ? undefined : count;
    }
    default:
      return undefined;
  }
}

function concatenate(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
