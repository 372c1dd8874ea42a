/**
 * The past of a Data.fs, for people to look at: which transactions there are, and what is in them. Read-only,
 * without a lock, beside any writer; of a file as it was when it was opened, up to its last whole transaction.
 *
 * The newest transactions are found from the end by their trailers, so looking at them costs the same however
 * large the file is. What lies beyond damage is not shown: first comes what can be read, then a CorruptError.
 */
import { CorruptError } from "../errors.ts";
import { recordClass } from "../pickle/mod.ts";
import type { Disk, ReadableFile } from "../ports/mod.ts";
import { STATUS, type TransactionHead } from "../zodb/mod.ts";
import { findEnd, findWholeEnd } from "./file_end.ts";
import { FIRST_POSITION, RECORD } from "./layout.ts";
import { locateTid, TidMap, walkingReader } from "./locate.ts";
import { readMagic } from "./open.ts";
import { isTornEnd, noPause } from "./recover.ts";
import { RecordReader } from "./revision.ts";
import { TransactionReader } from "./transaction.ts";
import { Window } from "./window.ts";

/** A file up to a transaction's end: a {@link History}, or a Storage. */
export interface Readable {
  readonly path: string;
  readonly file: ReadableFile;
  readonly end: number;
  readonly lastTid: bigint;
}

/** A transaction, with its size. */
export interface TransactionEntry extends TransactionHead {
  readonly position: number;
  /** Its length in the file, in bytes. */
  readonly bytes: number;
  readonly records: number;
  /** Whether it brings earlier revisions back and has no data of its own, as ZODB writes an undo. */
  readonly isUndo: boolean;
}

/** A data record. */
export interface RecordEntry {
  readonly oid: bigint;
  /** The length of its data, or of the data it shares; undefined when the object does not exist any more. */
  readonly length: number | undefined;
  /** The transaction with whose revision it shares the data; undefined when it has its own. */
  readonly dataTid: bigint | undefined;
  /** `module.name`; undefined when it cannot be told. */
  readonly className: string | undefined;
}

/** Which transactions to list. */
export interface Selection {
  /** Only so many, the newest. */
  readonly last?: number | undefined;
  /** Only those with this tid or a later one. */
  readonly since?: bigint | undefined;
  /** Only those that have a record of this object. */
  readonly oid?: bigint | undefined;
}

/** A smaller file is walked through in no time. */
const LARGE_FILE_BYTES = 16 * 1024 * 1024;
const MAX_WAITS = 20;

/** So much of a record's data is looked at to tell its class. */
const CLASS_BYTES = 4096;

/** A file opened for looking at it. */
export class History implements Readable, Disposable {
  readonly path: string;
  readonly file: ReadableFile;
  readonly end: number;
  readonly lastTid: bigint;
  /** What stands behind {@link end}, if that is damage: whole transactions may follow. */
  readonly damage: CorruptError | undefined;

  private constructor(file: ReadableFile, end: number, lastTid: bigint, damage: CorruptError | undefined) {
    this.path = file.path;
    this.file = file;
    this.end = end;
    this.lastTid = lastTid;
    this.damage = damage;
  }

  /**
   * @param wait waits a moment: while a commit is under way the end of a large file is looked for a few times, for
   * behind a commit it is found at once, and within one only by a long walk
   * @throws NotFoundError, UsageError (not a FileStorage, a directory, no permission), DiskError
   */
  static async open(disk: Disk, path: string, wait?: () => Promise<void>): Promise<History> {
    return await History.over(disk, disk.openRead(path), wait);
  }

  /**
   * As {@link open}, of what is opened already; it is closed with the history, or where this fails.
   * @throws UsageError, DiskError
   */
  static async over(disk: Disk, file: ReadableFile, wait?: () => Promise<void>): Promise<History> {
    const { path } = file;
    try {
      readMagic(file);
      let found = findWholeEnd(file);
      for (let waits = 0; found === undefined && wait !== undefined && waits < MAX_WAITS; waits++) {
        if (file.size() < LARGE_FILE_BYTES) break;
        await wait();
        found = findWholeEnd(file);
      }
      const { end, lastTid } = found ?? await findEnd(disk, path, file, noPause);
      return new History(file, end, lastTid, damageAt(file, end));
    } catch (error) {
      file.close();
      throw error;
    }
  }

  close(): void {
    this.file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * The selected transactions, oldest first.
 * @throws CorruptError behind what could still be read, DiskError
 */
export async function* listTransactions(
  log: Readable,
  selection: Selection,
): AsyncGenerator<TransactionEntry> {
  const reader = new TransactionReader(new Window(log.file, log.end));
  try {
    if (selection.last === undefined) {
      yield* forth(reader, await startOf(log, selection.since), log.end, selection.oid);
      return;
    }
    const { positions, damage } = back(log, { ...selection, last: selection.last });
    for (let at = positions.length - 1; at >= 0; at--) {
      reader.read(positions[at]!);
      yield entryOf(reader);
    }
    if (damage !== undefined) throw damage;
  } catch (error) {
    throw error instanceof CorruptError ? inFile(log.path, error) : error;
  }
}

/**
 * The records of a transaction, as they stand in it.
 * @param position the transaction's
 * @throws CorruptError, DiskError
 */
export function* listRecords({ path, file, end }: Readable, position: number): Generator<RecordEntry> {
  const reader = new TransactionReader(new Window(file, end));
  const target = new RecordReader(file);
  const beginning = new Uint8Array(CLASS_BYTES);
  try {
    const state = reader.read(position);
    if (state !== "whole") throw reader.notWhole(state);
    while (reader.nextRecord() >= 0) {
      const { oid, oidHigh, oidLow, backPointer } = reader;
      let { dataLength } = reader;
      let dataPosition = reader.recordPosition + RECORD.size;
      let dataTid: bigint | undefined;
      if (dataLength === 0) {
        if (backPointer !== 0) target.read(backPointer, oidHigh, oidLow);
        if (backPointer !== 0) dataTid = target.tid;
        if (backPointer === 0 || !target.resolve(oidHigh, oidLow)) {
          yield { oid, length: undefined, dataTid: undefined, className: undefined };
          continue;
        }
        ({ dataLength, dataPosition } = target);
      }
      const count = file.readAt(beginning.subarray(0, Math.min(CLASS_BYTES, dataLength)), dataPosition);
      yield { oid, length: dataLength, dataTid, className: recordClass(beginning.subarray(0, count)) };
    }
  } catch (error) {
    throw error instanceof CorruptError ? inFile(path, error) : error;
  }
}

/** The same error, saying which file it is about. */
export function inFile(path: string, { message, facts }: CorruptError): CorruptError {
  const words = `Cannot read ${path}: ${message[0]!.toLowerCase()}${message.slice(1)}`;
  return new CorruptError(words, { ...facts, path });
}

function damageAt(file: ReadableFile, end: number): CorruptError | undefined {
  const size = file.size();
  const reader = walkingReader(file, size);
  if (reader.read(end) !== "damaged" || isTornEnd(reader, file, size)) return undefined;
  return inFile(file.path, reader.notWhole("damaged"));
}

/** Where the first transaction begins that is not earlier than `since`. */
export async function startOf(log: Readable, since: bigint | undefined): Promise<number> {
  if (since === undefined) return FIRST_POSITION;
  const reader = walkingReader(log.file, log.end);
  const location = await locateTid(reader, log.end, since, new TidMap(), noPause);
  return location.kind === "found" ? location.place.position : location.before?.end ?? FIRST_POSITION;
}

function* forth(
  reader: TransactionReader,
  from: number,
  end: number,
  oid: bigint | undefined,
): Generator<TransactionEntry> {
  for (let position = from; position < end;) {
    const state = reader.read(position);
    if (state !== "whole") throw reader.notWhole(state);
    position = reader.end;
    if (touches(reader, oid)) yield entryOf(reader);
  }
}

/** The positions of the newest transactions, newest first, as far as there is no damage. */
function back(
  { file, end }: Readable,
  { last, since, oid }: Selection & { readonly last: number },
): { positions: number[]; damage: CorruptError | undefined } {
  const reader = walkingReader(file, end);
  const positions: number[] = [];
  try {
    for (let position = end; position > FIRST_POSITION && positions.length < last;) {
      const start = reader.startOf(position);
      if (start < FIRST_POSITION) throw noTransactionBefore(position);
      const state = reader.read(start);
      if (state !== "whole") throw reader.notWhole(state);
      if (reader.end !== position) throw noTransactionBefore(position);
      if (since !== undefined && reader.tid < since && reader.status !== STATUS.undone) break;
      if (touches(reader, oid)) positions.push(start);
      position = start;
    }
  } catch (error) {
    if (error instanceof CorruptError) return { positions, damage: error };
    throw error;
  }
  return { positions, damage: undefined };
}

function noTransactionBefore(position: number): CorruptError {
  return new CorruptError(
    `Cannot read the transaction that ends at ${position}: its trailing length leads to none`,
    { position },
  );
}

/** Whether the transaction last read has a record of the object; any transaction will do for undefined. */
function touches(reader: TransactionReader, oid: bigint | undefined): boolean {
  if (oid === undefined) return true;
  while (reader.nextRecord() >= 0) {
    if (reader.oid === oid) return true;
  }
  return false;
}

function entryOf(reader: TransactionReader): TransactionEntry {
  const head = reader.head();
  reader.rewindRecords();
  let records = 0;
  let hasData = false;
  let leadsBack = false;
  while (reader.nextRecord() >= 0) {
    records++;
    if (reader.dataLength > 0) hasData = true;
    else if (reader.backPointer > 0) leadsBack = true;
  }
  const bytes = reader.end - reader.position;
  return { ...head, position: reader.position, bytes, records, isUndo: leadsBack && !hasData };
}
