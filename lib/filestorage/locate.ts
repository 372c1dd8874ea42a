/**
 * Finding transactions in a file without an index of them: the last one, and the one with a given tid.
 *
 * Tids rise through a file, and every transaction carries its length at both ends, so one can walk from
 * either end. What a walk passes is remembered at intervals, so that later searches start nearby.
 */
import { CorruptError } from "../errors.ts";
import { NO_TID, STATUS } from "../zodb/mod.ts";
import { FIRST_POSITION } from "./layout.ts";
import { countUpTo } from "./sorted.ts";
import { isFinalStatus, TransactionReader } from "./transaction.ts";
import { type ByteSource, Window, windowBytesFor } from "./window.ts";

/** A transaction's place. */
export interface Place {
  readonly tid: bigint;
  readonly position: number;
  readonly end: number;
  readonly status: number;
}

/** How a tid lies in a file; `before` and `after` are its neighbours where it is not there. */
export type Location =
  | { readonly kind: "found"; readonly place: Place }
  | { readonly kind: "between"; readonly before: Place | undefined; readonly after: Place | undefined };

/** What a walk reads at first, and at each step from one large transaction to another. */
const FIRST_LOOK_BYTES = 8 * 1024;

/** Bytes of file between two remembered transactions: 16 bytes of memory each. */
const SAMPLE_SPACING = 4 * 1024 * 1024;

/** After so many transactions a walk lets others run. */
const STEPS_BETWEEN_PAUSES = 20_000;

/**
 * A map of tids to positions that grows by use, of transactions that count. One per file; forget it when the
 * file is replaced.
 */
export class TidMap {
  readonly #spacing: number;
  #tids: bigint[] = [];
  #positions: number[] = [];

  /** @param spacing the fewest bytes between two transactions that are remembered */
  constructor(spacing = SAMPLE_SPACING) {
    this.#spacing = spacing;
  }

  /** Remembers a transaction when it is far enough from those known. */
  note(tid: bigint, position: number): void {
    const at = countUpTo(this.#tids, tid);
    const before = at > 0 ? this.#positions[at - 1]! : -Infinity;
    const after = at < this.#positions.length ? this.#positions[at]! : Infinity;
    if (position - before < this.#spacing || after - position < this.#spacing) return;
    this.#tids.splice(at, 0, tid);
    this.#positions.splice(at, 0, position);
  }

  /** Remembers what another map of the same file knows. */
  noteAll(other: TidMap): void {
    for (let at = 0; at < other.#tids.length; at++) this.note(other.#tids[at]!, other.#positions[at]!);
  }

  /** A known transaction start at or before the tid, as far on as possible. */
  floor(tid: bigint): number {
    const at = countUpTo(this.#tids, tid);
    return at === 0 ? FIRST_POSITION : this.#positions[at - 1]!;
  }

  /** A known transaction start behind the tid, as near as possible; undefined when none is known. */
  ceiling(tid: bigint): number | undefined {
    return this.#positions[countUpTo(this.#tids, tid)];
  }

  /** The last known transaction start at or before a position. */
  floorOfPosition(position: number): number {
    const at = countUpTo(this.#positions, position);
    return at === 0 ? FIRST_POSITION : this.#positions[at - 1]!;
  }
}

/**
 * A reader for walks in either direction: it reads little where transactions are large, and where they are small
 * many at once.
 * @param end the position that it reads up to
 */
export function walkingReader(source: ByteSource, end: number): TransactionReader {
  return new TransactionReader(new Window(source, end, windowBytesFor(end), FIRST_LOOK_BYTES));
}

/**
 * Finds the transaction with a tid among those below `end`, skipping cancelled ones ('u').
 * Walks from whichever known place is nearer in bytes or in time.
 * @param pause lets other work run during a long walk
 * @throws CorruptError where the walk meets damage
 */
export async function locateTid(
  reader: TransactionReader,
  end: number,
  tid: bigint,
  map: TidMap,
  pause: () => Promise<void>,
): Promise<Location> {
  if (end <= FIRST_POSITION) return { kind: "between", before: undefined, after: undefined };
  // The map may know more than the caller may see.
  const low = Math.min(map.floor(tid), end);
  const high = Math.min(map.ceiling(tid) ?? end, end);
  return await (await isNearerToEnd(reader, low, high, tid)
    ? walkBack(reader, high, end, tid, map, pause)
    : walkForth(reader, low, end, tid, map, pause));
}

/** True when walking back from `high` promises the shorter way. */
function isNearerToEnd(reader: TransactionReader, low: number, high: number, tid: bigint): boolean {
  if (reader.read(low) !== "whole") return false;
  const first = reader.tid;
  const start = reader.startOf(high);
  if (start < low || reader.read(start) !== "whole") return false;
  const last = reader.tid;
  return tid > last || last - tid < tid - first;
}

/** The transaction last read. */
export function placeOf(reader: TransactionReader): Place {
  return { tid: reader.tid, position: reader.position, end: reader.end, status: reader.status };
}

async function walkForth(
  reader: TransactionReader,
  from: number,
  end: number,
  tid: bigint,
  map: TidMap,
  pause: () => Promise<void>,
): Promise<Location> {
  let before = from === FIRST_POSITION ? undefined : countedBefore(reader, from);
  let steps = 0;
  for (let position = from; position < end;) {
    readWhole(reader, position);
    position = reader.end;
    if (reader.status !== STATUS.undone) {
      map.note(reader.tid, reader.position);
      if (reader.tid === tid) return { kind: "found", place: placeOf(reader) };
      if (reader.tid > tid) return { kind: "between", before, after: placeOf(reader) };
      before = placeOf(reader);
    }
    if (++steps % STEPS_BETWEEN_PAUSES === 0) await pause();
  }
  return { kind: "between", before, after: undefined };
}

async function walkBack(
  reader: TransactionReader,
  high: number,
  end: number,
  tid: bigint,
  map: TidMap,
  pause: () => Promise<void>,
): Promise<Location> {
  let after: Place | undefined;
  let steps = 0;
  if (high < end) {
    readWhole(reader, high);
    after = placeOf(reader);
  }
  for (let position = high; position > FIRST_POSITION;) {
    const start = reader.startOf(position);
    // Behind a sample that a walk from the front left there is always a way back; elsewhere damage may lie.
    if (start < FIRST_POSITION) {
      reader.read(position);
      throw reader.corrupt("the transaction before it has an impossible trailing length");
    }
    readWhole(reader, start);
    position = start;
    if (reader.status !== STATUS.undone) {
      map.note(reader.tid, start);
      if (reader.tid === tid) return { kind: "found", place: placeOf(reader) };
      if (reader.tid < tid) return { kind: "between", before: placeOf(reader), after };
      after = placeOf(reader);
    }
    if (++steps % STEPS_BETWEEN_PAUSES === 0) await pause();
  }
  return { kind: "between", before: undefined, after };
}

/** The nearest transaction before `position` that counts. */
export function countedBefore(reader: TransactionReader, position: number): Place | undefined {
  while (position > FIRST_POSITION) {
    const start = reader.startOf(position);
    if (start < FIRST_POSITION) return undefined;
    readWhole(reader, start);
    if (reader.status !== STATUS.undone) return placeOf(reader);
    position = start;
  }
  return undefined;
}

/**
 * Whether the file has been packed to a time behind a transaction's end: what was current there, and is not any more at
 * the time of the pack, is gone, so that the file cut there would lack objects.
 * @throws CorruptError
 */
export function isWithinPack(reader: TransactionReader, position: number, end: number): boolean {
  if (countedBefore(reader, position)?.status !== STATUS.packed) return false;
  for (let at = position; at < end; at = reader.end) {
    readWhole(reader, at);
    if (reader.status !== STATUS.undone) return reader.status === STATUS.packed;
  }
  return false;
}

/** @throws CorruptError where no whole transaction is */
export function readWhole(reader: TransactionReader, position: number): void {
  const state = reader.read(position);
  if (state !== "whole") throw reader.notWhole(state);
}

/**
 * Whether a transaction that is not finished lies in the last `bytes` before `end`, itself a transaction's
 * end: the whole ones behind it do not count yet.
 */
export function hasUnfinishedBefore(reader: TransactionReader, end: number, bytes: number): boolean {
  for (let position = end; position > FIRST_POSITION && end - position < bytes;) {
    const start = reader.startOf(position);
    const state = start < FIRST_POSITION ? "damaged" : reader.read(start);
    if (state === "voted") return true;
    if (state !== "whole" || reader.end !== position) return false; // damage is for those who read it
    position = start;
  }
  return false;
}

/**
 * Whether a transaction whose end is at `end` really lies there: walks back over a few, and checks that the
 * records of the first that has any add up and name their transaction's position. Data that merely looks
 * like a transaction, even a whole Data.fs stored inside an object, does not pass.
 * @returns the last counting transaction's tid ({@link NO_TID} when the file begins here), or undefined
 * @throws DiskError
 */
export function lastTidAt(reader: TransactionReader, end: number): bigint | undefined {
  let position = end;
  let lastTid: bigint | undefined;
  while (position > FIRST_POSITION) {
    const start = reader.startOf(position);
    if (start < FIRST_POSITION || reader.read(start) !== "whole" || reader.end !== position) return undefined;
    if (!isFinalStatus(reader.status)) return undefined;
    position = start;
    if (reader.status === STATUS.undone) continue;
    lastTid ??= reader.tid;
    if (reader.length === reader.headLength) continue; // no records to tell by: look at the one before
    try {
      while (reader.nextRecord() >= 0);
    } catch (error) {
      if (error instanceof CorruptError) return undefined;
      throw error;
    }
    return lastTid;
  }
  return position === FIRST_POSITION ? lastTid ?? NO_TID : undefined;
}
