/**
 * Following a data record's links: to the record that has its data (back pointers), and to the object's older
 * revisions (previous). Links come from disk and are checked: they must lead backwards, to the same object.
 */
import { readU64, viewOf } from "../bytes/mod.ts";
import { CorruptError } from "../errors.ts";
import { BACK_POINTER_SIZE, RECORD } from "./layout.ts";
import type { ByteSource } from "./window.ts";

/** One data record's header, read alone. The object serves again and again. */
export class RecordReader {
  readonly #source: ByteSource;
  readonly #bytes = new Uint8Array(RECORD.size + BACK_POINTER_SIZE);
  readonly #view = viewOf(this.#bytes);
  position = 0;
  previous = 0;
  transaction = 0;
  dataLength = 0;
  backPointer = 0;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** The header's bytes: valid until the next read. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  get tid(): bigint {
    return this.#view.getBigUint64(RECORD.tid);
  }

  /** The tid in halves, which costs less where there are many records. */
  get tidHigh(): number {
    return this.#view.getUint32(RECORD.tid);
  }

  get tidLow(): number {
    return this.#view.getUint32(RECORD.tid + 4);
  }

  /** Where the record's own data begins. */
  get dataPosition(): number {
    return this.position + RECORD.size;
  }

  /**
   * Reads the record at `position`, which must be one of this object.
   * @throws CorruptError
   */
  read(position: number, oidHigh: number, oidLow: number): void {
    const view = this.#view;
    const count = this.#source.readAt(this.#bytes, position);
    this.position = position;
    if (
      count < RECORD.size || view.getUint32(0) !== oidHigh || view.getUint32(4) !== oidLow ||
      view.getUint16(RECORD.versionLength) !== 0
    ) {
      throw this.#corrupt(oidHigh, oidLow, "there is no record of this object");
    }
    this.previous = readU64(view, RECORD.previous);
    this.transaction = readU64(view, RECORD.transaction);
    this.dataLength = readU64(view, RECORD.dataLength);
    this.backPointer = 0;
    if (this.dataLength === 0) {
      if (count < RECORD.size + BACK_POINTER_SIZE) {
        throw this.#corrupt(oidHigh, oidLow, "the file ends within it");
      }
      this.backPointer = readU64(view, RECORD.size);
    }
    if (this.previous >= position || this.backPointer >= position) {
      throw this.#corrupt(oidHigh, oidLow, "its links must lead backwards");
    }
  }

  /**
   * Follows back pointers from the record last read to the one that has data.
   * @returns false when the chain ends in 0: the object does not exist in this revision
   * @throws CorruptError
   */
  resolve(oidHigh: number, oidLow: number): boolean {
    while (this.dataLength === 0) {
      if (this.backPointer === 0) return false;
      this.read(this.backPointer, oidHigh, oidLow); // positions fall, so this ends
    }
    return true;
  }

  #corrupt(oidHigh: number, oidLow: number, problem: string): CorruptError {
    const oid = (BigInt(oidHigh) << 32n) | BigInt(oidLow);
    return new CorruptError(
      `Cannot read the data record at ${this.position} of object 0x${oid.toString(16)}: ${problem}`,
      { position: this.position, oid },
    );
  }
}
