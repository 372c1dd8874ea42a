/**
 * Looks into the records' data: whether they are well-formed pickles, and to which objects they refer. A range of
 * the file is one piece of work that needs nothing but the file.
 */
import { inflateSync } from "node:zlib";
import { CorruptError, PickleError } from "../../errors.ts";
import { ReferenceScanner } from "../../pickle/mod.ts";
import { STATUS } from "../../zodb/mod.ts";
import type { Finding } from "./finding.ts";
import { RECORD } from "../layout.ts";
import { RecordReader } from "../revision.ts";
import { TransactionReader } from "../transaction.ts";
import type { FileRange } from "./verify_ranges.ts";
import { type ByteSource, Window } from "../window.ts";

/** What to look for. */
export interface Wanted {
  readonly pickles: boolean;
  readonly references: boolean;
}

/** What was found in a part of the file. */
export interface Batch {
  readonly findings: readonly Finding[];
  /**
   * Records with what they refer to, as numbers: the oid's halves, the position, {@link OBJECT_STATE}, the count of
   * references, and the halves of each. Empty unless references are wanted.
   */
  readonly objects: readonly number[];
  /** How far the file has been looked into, in bytes. */
  readonly position: number;
}

/** What became of a record's data. */
export const OBJECT_STATE = { loaded: 1, undone: 2, unreadable: 3 } as const;

/** So many numbers or findings make a batch. */
const BATCH_NUMBERS = 64 * 1024;
const BATCH_FINDINGS = 256;
/** Data is held in memory record by record; no application stores such large ones, and no pickle of 2 GiB fits. */
const MAX_DATA_BYTES = 1024 * 1024 * 1024;
/** What a record begins with when it was compressed by zc.zlibstorage. */
const COMPRESSED = [0x2e, 0x7a] as const;

export class RecordScanner {
  readonly #source: ByteSource;
  readonly #scanner = new ReferenceScanner();
  readonly #target: RecordReader;
  #data = new Uint8Array(64 * 1024);
  #findings: Finding[] = [];
  #objects: number[] = [];

  constructor(source: ByteSource) {
    this.#source = source;
    this.#target = new RecordReader(source);
  }

  /** Looks into all ranges, in their order. @throws DiskError */
  *scanAll(ranges: readonly FileRange[], wanted: Wanted): Generator<Batch> {
    for (const range of ranges) yield* this.scan(range, wanted);
  }

  /** Looks into one range, which must hold whole transactions only. @throws DiskError */
  *scan(range: FileRange, wanted: Wanted): Generator<Batch> {
    const reader = new TransactionReader(new Window(this.#source, range.end));
    for (let position = range.start; position < range.end; position = reader.end) {
      if (reader.read(position) !== "whole") break; // it was when the structure was checked
      if (reader.status === STATUS.undone) continue;
      while (this.#nextRecord(reader)) {
        this.#look(reader, wanted);
        if (this.#findings.length >= BATCH_FINDINGS || this.#objects.length >= BATCH_NUMBERS) {
          yield this.#take(reader.recordPosition);
        }
      }
    }
    yield this.#take(range.end);
  }

  #take(position: number): Batch {
    const batch = { findings: this.#findings, objects: this.#objects, position };
    this.#findings = [];
    this.#objects = [];
    return batch;
  }

  /** False at the transaction's end, and where a damaged record is, which has been told. */
  #nextRecord(reader: TransactionReader): boolean {
    try {
      return reader.nextRecord() >= 0;
    } catch (error) {
      if (error instanceof CorruptError) return false;
      throw error;
    }
  }

  #look(reader: TransactionReader, { pickles, references }: Wanted): void {
    const { recordPosition, oidHigh, oidLow, dataLength } = reader;
    let length = dataLength;
    let dataPosition = recordPosition + RECORD.size;
    let state: number = OBJECT_STATE.loaded;
    if (dataLength === 0) {
      if (!references) return;
      state = this.#resolve(reader);
      length = this.#target.dataLength;
      dataPosition = this.#target.dataPosition;
    }
    let error: PickleError | undefined;
    if (state === OBJECT_STATE.loaded) {
      error = this.#scan(reader.window, dataPosition, length);
      if (error !== undefined) state = OBJECT_STATE.unreadable;
    }
    if (error !== undefined && pickles && dataLength > 0) {
      const why = error.message.replace("Cannot read pickle: ", "");
      const { oid, tid } = reader;
      this.#findings.push({
        kind: "pickle",
        position: recordPosition,
        tid,
        oid,
        offset: error.facts.position ?? 0,
        why,
      });
    }
    if (!references) return;
    const found = this.#scanner.references;
    const count = state === OBJECT_STATE.loaded ? found.length : 0;
    const objects = this.#objects;
    objects.push(oidHigh, oidLow, recordPosition, state, count / 2);
    for (let i = 0; i < count; i++) objects.push(found[i]!);
  }

  /** Follows the record's back pointer. @returns the state of what is there */
  #resolve({ backPointer, oidHigh, oidLow }: TransactionReader): number {
    if (backPointer === 0) return OBJECT_STATE.undone;
    try {
      this.#target.read(backPointer, oidHigh, oidLow);
      return this.#target.resolve(oidHigh, oidLow) ? OBJECT_STATE.loaded : OBJECT_STATE.undone;
    } catch (error) {
      if (error instanceof CorruptError) return OBJECT_STATE.unreadable;
      throw error;
    }
  }

  /** Scans data at a position of the file, in the window where it lies there. @returns what is wrong with it */
  #scan(window: Window, position: number, length: number): PickleError | undefined {
    let bytes = window.bytes;
    let from = window.peek(position, length);
    if (from < 0) {
      if (length > MAX_DATA_BYTES) return new PickleError(`it is longer than ${MAX_DATA_BYTES} bytes`);
      if (this.#data.length < length) this.#data = new Uint8Array(Math.max(length, 2 * this.#data.length));
      bytes = this.#data;
      from = 0;
      if (this.#source.readAt(bytes.subarray(0, length), position) < length) {
        return new PickleError("the file ends within it", { position: 0 });
      }
    }
    try {
      if (bytes[from] === COMPRESSED[0] && bytes[from + 1] === COMPRESSED[1]) {
        this.#scanCompressed(bytes.subarray(from + 2, from + length));
        return undefined;
      }
      this.#scanner.scan(bytes, from, from + length);
      return undefined;
    } catch (error) {
      if (!(error instanceof PickleError)) throw error;
      return new PickleError(error.message, {
        position: (error.facts.position ?? from) - from,
        cause: error,
      });
    }
  }

  #scanCompressed(compressed: Uint8Array): void {
    let data: Uint8Array;
    try {
      data = inflateSync(compressed, { maxOutputLength: MAX_DATA_BYTES });
    } catch (cause) {
      throw new PickleError("its compressed form cannot be read", { cause });
    }
    try {
      this.#scanner.scan(data, 0, data.length);
    } catch (error) {
      // An offset in what was unpacked would be taken for one in the file.
      throw error instanceof PickleError ? new PickleError(error.message, { cause: error }) : error;
    }
  }
}
