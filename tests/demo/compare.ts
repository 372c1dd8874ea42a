/** Compares two databases: byte for byte, and where that cannot be, transaction by transaction. */
import {
  FIRST_POSITION,
  RECORD,
  RecordReader,
  TransactionReader,
  Window,
} from "../../lib/filestorage/mod.ts";
import { equalBytes } from "../../lib/bytes/mod.ts";
import type { ReadableFile } from "../../lib/ports/mod.ts";
import { describeTid, formatOid, STATUS } from "../../lib/zodb/mod.ts";

const BLOCK_BYTES = 1024 * 1024;

/** The position of the first byte that differs, also where only one has it; undefined: the files are identical. */
export function firstDifference(a: ReadableFile, b: ReadableFile): number | undefined {
  const sizes = [a.size(), b.size()] as const;
  const common = Math.min(...sizes);
  const position = differenceWithin(a, 0, b, 0, common);
  return position ?? (sizes[0] === sizes[1] ? undefined : common);
}

/**
 * What the copy says that its source does not, or the other way round; undefined: every transaction has the
 * same tid, status, user, description, extension, and objects with the same data.
 * @throws CorruptError
 */
export function differenceInHistory(source: ReadableFile, copy: ReadableFile): string | undefined {
  const ours = new History(source);
  const theirs = new History(copy);
  for (;;) {
    const [a, b] = [ours.next(), theirs.next()];
    if (a === undefined && b === undefined) return undefined;
    if (a === undefined) return `the copy has transaction ${describeTid(b!.tid)}, which the source has not`;
    if (b === undefined || b.tid !== a.tid) return `the copy lacks transaction ${describeTid(a.tid)}`;
    const difference = differenceInTransaction(a, b);
    if (difference !== undefined) return `transaction ${describeTid(a.tid)} has another ${difference}`;
  }
}

/** A walk through the transactions that are replicated. */
class History {
  readonly reader: TransactionReader;
  #position: number = FIRST_POSITION;

  constructor(file: ReadableFile) {
    this.reader = new TransactionReader(new Window(file, file.size()));
  }

  /** The reader, on the next transaction; undefined at the end. */
  next(): TransactionReader | undefined {
    const { reader } = this;
    while (reader.read(this.#position) === "whole") {
      this.#position = reader.end;
      if (reader.status !== STATUS.undone) return reader;
    }
    return undefined;
  }
}

/** What differs, as a noun; undefined: nothing. */
function differenceInTransaction(a: TransactionReader, b: TransactionReader): string | undefined {
  const heads = [a.head(), b.head()] as const;
  if (heads[0].status !== heads[1].status) return "status";
  for (const field of ["user", "description", "extension"] as const) {
    if (!equalBytes(heads[0][field], heads[1][field])) return field;
  }
  for (;;) {
    const [hasOurs, hasTheirs] = [a.nextRecord() >= 0, b.nextRecord() >= 0];
    if (!hasOurs && !hasTheirs) return undefined;
    if (hasOurs !== hasTheirs) return "number of records";
    if (a.oid !== b.oid) return "sequence of objects";
    if (!isSameData(a, b)) return `revision of object ${formatOid(a.oid)}`;
  }
}

/** Whether the records last read lead to the same data, wherever it lies. */
function isSameData(a: TransactionReader, b: TransactionReader): boolean {
  const [ours, theirs] = [a, b].map(({ window, recordPosition, oidHigh, oidLow }) => {
    const record = new RecordReader(window.source);
    record.read(recordPosition, oidHigh, oidLow);
    const { tid } = record;
    const exists = record.resolve(oidHigh, oidLow);
    return { tid, exists, position: record.position + RECORD.size, length: record.dataLength };
  });
  if (ours!.tid !== theirs!.tid || ours!.exists !== theirs!.exists) return false;
  if (!ours!.exists) return true;
  const { source } = a.window;
  return ours!.length === theirs!.length &&
    differenceWithin(source, ours!.position, b.window.source, theirs!.position, ours!.length) === undefined;
}

type Bytes = Pick<ReadableFile, "readAt">;

/** The offset of the first byte that differs within two stretches of a length. */
function differenceWithin(
  a: Bytes,
  from: number,
  b: Bytes,
  otherFrom: number,
  length: number,
): number | undefined {
  const blocks = [
    new Uint8Array(Math.min(length, BLOCK_BYTES)),
    new Uint8Array(Math.min(length, BLOCK_BYTES)),
  ] as const;
  for (let done = 0; done < length; done += BLOCK_BYTES) {
    const count = Math.min(BLOCK_BYTES, length - done);
    const [ours, theirs] = [blocks[0].subarray(0, count), blocks[1].subarray(0, count)];
    a.readAt(ours, from + done);
    b.readAt(theirs, otherFrom + done);
    if (!equalBytes(ours, theirs)) return done + ours.findIndex((byte, index) => byte !== theirs[index]);
  }
  return undefined;
}
