/**
 * Comparing the records of one transaction in two files. Neither packed: the same objects in the same order, with
 * the same data. Where a pack has copied the transaction, it may have removed records, and changed none that it left: what
 * both still have must be the same. Of several records of one object in one transaction a pack keeps the last, the one
 * that counts.
 *
 * The tids in the records' headers must be the same too, which are their transaction's in sound files: applications are
 * given them as the serials of objects. Other data are told before another tid.
 */
import { commonLength } from "../../bytes/mod.ts";
import type { ComparedFile } from "./compare_side.ts";
import type { RecordDifference } from "./difference.ts";
import { ObjectIndex } from "../index/object_index.ts";

export class RecordComparison {
  readonly #here: ComparedFile;
  readonly #there: ComparedFile;
  /** Whether all that the last comparison compared lay at the same positions in both. */
  isAligned = false;
  /** Of the comparison that is being made: the first two records with different tids. */
  #otherTid: RecordDifference | undefined;

  constructor(here: ComparedFile, there: ComparedFile) {
    this.#here = here;
    this.#there = there;
  }

  /**
   * Compares what both have current.
   * @throws CorruptError, DiskError
   */
  compare(): RecordDifference | undefined {
    const here = this.#here;
    const there = this.#there;
    here.reader.rewindRecords();
    there.reader.rewindRecords();
    this.#otherTid = undefined;
    const difference = this.#strictly() ?? this.#otherTid;
    if (difference === undefined || !(here.isPacked || there.isPacked)) return difference;
    this.#otherTid = undefined;
    return this.#byObject() ?? this.#otherTid;
  }

  #strictly(): RecordDifference | undefined {
    const here = this.#here;
    const there = this.#there;
    this.isAligned = true;
    for (;;) {
      const isHere = here.reader.nextRecord() >= 0;
      const isThere = there.reader.nextRecord() >= 0;
      if (!isHere && !isThere) return undefined;
      if (!isHere || !isThere || !isSameObject(here, there)) return lacking(isHere && here, isThere && there);
      if (here.reader.recordPosition !== there.reader.recordPosition) this.isAligned = false;
      here.resolve();
      there.resolve();
      const difference = this.#resolved(here.reader.recordPosition, there.reader.recordPosition);
      if (difference !== undefined) return difference;
    }
  }

  #byObject(): RecordDifference | undefined {
    const here = this.#here;
    const there = this.#there;
    this.isAligned = false;
    const lastHere = lastRecords(here);
    const lastThere = lastRecords(there);
    here.reader.rewindRecords();
    while (here.reader.nextRecord() >= 0) {
      const { oidHigh, oidLow, recordPosition } = here.reader;
      if (lastHere.get(oidHigh, oidLow) !== recordPosition) continue;
      const position = lastThere.get(oidHigh, oidLow);
      if (position === 0) {
        if (there.isPacked) continue;
        return lacking(here, false);
      }
      lastThere.delete(oidHigh, oidLow);
      here.resolve();
      there.resolveAt(position, oidHigh, oidLow);
      const difference = this.#resolved(recordPosition, position);
      if (difference !== undefined) return difference;
    }
    if (here.isPacked || lastThere.count === 0) return undefined;
    there.reader.rewindRecords();
    while (there.reader.nextRecord() >= 0) {
      const { oidHigh, oidLow, recordPosition } = there.reader;
      if (lastThere.get(oidHigh, oidLow) === recordPosition) return lacking(false, there);
    }
    return undefined;
  }

  /** Compares the data last resolved of both, and the tids: of the object that this file's reader is at. */
  #resolved(positionHere: number, positionThere: number): RecordDifference | undefined {
    const here = this.#here;
    const there = this.#there;
    const offset = firstDifference(here, there);
    const isSameTid = here.tidLow === there.tidLow && here.tidHigh === there.tidHigh;
    if (offset === undefined && (isSameTid || this.#otherTid !== undefined)) return undefined;
    const { oid } = here.reader;
    const spots = { recordHere: here.spot(positionHere), recordThere: there.spot(positionThere) };
    if (offset !== undefined) return { kind: "data", oid, ...spots, offset };
    this.#otherTid = {
      kind: "record-tid",
      oid,
      ...spots,
      recordTidHere: here.recordTid,
      recordTidThere: there.recordTid,
    };
    return undefined;
  }
}

function isSameObject({ reader: a }: ComparedFile, { reader: b }: ComparedFile): boolean {
  return a.oidLow === b.oidLow && a.oidHigh === b.oidHigh;
}

/** Where the first difference is in the data last resolved of both; undefined where they are the same. */
function firstDifference(a: ComparedFile, b: ComparedFile): number | undefined {
  if ((a.dataPosition === 0) !== (b.dataPosition === 0)) return 0;
  const length = Math.min(a.dataLength, b.dataLength);
  for (let done = 0; done < length;) {
    a.readChunk(done);
    b.readChunk(done);
    const count = Math.min(a.chunkLength, b.chunkLength, length - done);
    const same = commonLength(a.chunk, a.chunkOffset, b.chunk, b.chunkOffset, count);
    done += same;
    if (same < count) return done;
  }
  return a.dataLength === b.dataLength ? undefined : length;
}

/** The position of each object's last record in the current transaction. */
export function lastRecords({ reader }: ComparedFile): ObjectIndex {
  const index = new ObjectIndex();
  reader.rewindRecords();
  while (reader.nextRecord() >= 0) index.set(reader.oidHigh, reader.oidLow, reader.recordPosition);
  return index;
}

/** One end has a record where the other has none, or one of another object. */
function lacking(here: ComparedFile | false, there: ComparedFile | false): RecordDifference {
  const spot = (file: ComparedFile | false) => {
    if (file === false) return undefined;
    file.resolve();
    return file.spot(file.reader.recordPosition);
  };
  return {
    kind: "record",
    oidHere: here === false ? undefined : here.reader.oid,
    oidThere: there === false ? undefined : there.reader.oid,
    recordHere: spot(here),
    recordThere: spot(there),
  };
}
