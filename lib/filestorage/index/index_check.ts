/**
 * Whether an index belongs to a data file: the check that Python makes too, of the last transaction that the
 * index covers (docs/filestorage_format.md, "Check at open"). An index that passes may still be wrong elsewhere;
 * whoever reads a record compares its oid.
 */
import { readU64, viewOf } from "../../bytes/mod.ts";
import type { ReadableFile } from "../../ports/mod.ts";
import { STATUS } from "../../zodb/mod.ts";
import { BACK_POINTER_SIZE, FIRST_POSITION, RECORD, TRAILER_SIZE, TRANSACTION } from "../layout.ts";
import type { ObjectIndex } from "./object_index.ts";

/** Python trusts no index of a smaller file; a scan of it takes no time. */
const MIN_POSITION = 100;
const MAX_CHECKED_RECORDS = 5;

export type IndexCheck =
  | { readonly kind: "good"; readonly lastTid: bigint }
  | { readonly kind: "bad"; readonly reason: string };

/**
 * Compares the index with the data file.
 * @param position the end of the last transaction that the index covers
 * @returns on success lastTid, the tid of the last transaction before `position`
 * @throws DiskError; damaged bytes only make the index bad
 */
export function checkIndex(file: ReadableFile, index: ObjectIndex, position: number): IndexCheck {
  const size = file.size();
  if (!(position >= MIN_POSITION)) return bad(`it ends at ${position}, before ${MIN_POSITION}`);
  if (!(position <= size)) return bad(`it ends at ${position}, and the file at ${size}`);
  const header = new Uint8Array(RECORD.size);
  const view = viewOf(header);
  let lastTid: bigint | undefined;
  for (let end = position;;) {
    if (!readFully(file, header, TRAILER_SIZE, end - TRAILER_SIZE)) return bad("the file became shorter");
    const length = readU64(view, 0);
    const start = end - TRAILER_SIZE - length;
    if (length < TRANSACTION.size || start < FIRST_POSITION) return bad(`no transaction ends at ${end}`);
    if (!readFully(file, header, TRANSACTION.size, start)) return bad("the file became shorter");
    if (readU64(view, TRANSACTION.length) !== length) return bad(`no transaction ends at ${end}`);
    lastTid ??= view.getBigUint64(TRANSACTION.tid);
    const status = view.getUint8(TRANSACTION.status);
    if (status === STATUS.undone) {
      end = start;
    } else if (status !== STATUS.committed && status !== STATUS.packed) {
      return bad(`the transaction at ${start} has status 0x${status.toString(16)}`);
    } else {
      const firstRecord = start + TRANSACTION.size + view.getUint16(TRANSACTION.userLength) +
        view.getUint16(TRANSACTION.descriptionLength) + view.getUint16(TRANSACTION.extensionLength);
      const recordsEnd = end - TRAILER_SIZE;
      if (firstRecord > recordsEnd) return bad(`the transaction at ${start} is shorter than its header`);
      if (firstRecord < recordsEnd) {
        const reason = checkRecords(file, index, start, firstRecord, recordsEnd, header);
        return reason === undefined ? { kind: "good", lastTid } : bad(reason);
      }
      end = start;
    }
    if (end === FIRST_POSITION) return bad("no transaction before it has records");
  }
}

/** @returns what is wrong with the first records of a transaction, or undefined */
function checkRecords(
  file: ReadableFile,
  index: ObjectIndex,
  transaction: number,
  first: number,
  end: number,
  header: Uint8Array,
): string | undefined {
  const view = viewOf(header);
  for (let checked = 0, at = first; at < end && checked < MAX_CHECKED_RECORDS; checked++) {
    if (!readFully(file, header, RECORD.size, at)) return `the record at ${at} is cut off`;
    if (view.getUint16(RECORD.versionLength) !== 0) return `the record at ${at} has a version`;
    const dataLength = readU64(view, RECORD.dataLength);
    const next = at + RECORD.size + (dataLength === 0 ? BACK_POINTER_SIZE : dataLength);
    if (next > end) return `the record at ${at} goes beyond its transaction`;
    if (readU64(view, RECORD.transaction) !== transaction) {
      return `the record at ${at} is of another transaction`;
    }
    if (index.get(view.getUint32(RECORD.oid), view.getUint32(RECORD.oid + 4)) !== at) {
      return `the record at ${at} is not where the index has its object`;
    }
    at = next;
  }
  return undefined;
}

function readFully(file: ReadableFile, into: Uint8Array, length: number, position: number): boolean {
  return file.readAt(into.subarray(0, length), position) === length;
}

function bad(reason: string): IndexCheck {
  return { kind: "bad", reason };
}
