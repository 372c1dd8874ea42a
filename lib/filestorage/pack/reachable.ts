/**
 * Which records a pack keeps. Of every object that could be reached from the root at the pack time the revision
 * that was current then; and what later transactions still need: revisions that they point back to, objects that
 * they refer to, and all that can be reached from these.
 *
 * Python's pack keeps less in three cases. It loses data where it does not follow the references of an object that a
 * later undo has brought back, nor those of later transactions to what was garbage at the pack time. And of an object
 * that had been deleted it keeps the revision that a later undo brings back, but not that it did not exist until then.
 */
import { CorruptError, PickleError, UsageError } from "../../errors.ts";
import type { ReadableFile } from "../../ports/mod.ts";
import { formatOidDigits, STATUS } from "../../zodb/mod.ts";
import { BACK_POINTER_SIZE, RECORD } from "../layout.ts";
import { ObjectIndex } from "../index/object_index.ts";
import { OidStack } from "./oid_stack.ts";
import type { PackSurvey } from "./pack_survey.ts";
import type { Patience } from "../recover.ts";
import { RecordReader } from "../revision.ts";
import { TransactionReader } from "../transaction.ts";
import { Window } from "../window.ts";

/**
 * Tells which objects a record's data refers to.
 * @throws PickleError where that cannot be told
 */
export type FindReferences = (
  data: Uint8Array,
  found: (oidHigh: number, oidLow: number) => void,
) => void;

/** So many objects are looked at in the order of their positions. */
const BATCH = 4096;
/** After so many of them, or of records, others may run. */
const STEPS_BETWEEN_PAUSES = 250;
/** Enough for most records; the buffer grows with the largest. */
const READ_BYTES = 16 * 1024;

export class KeptRecords {
  readonly #current: ObjectIndex;
  /** Revisions that were not current any more. */
  readonly #older = new Set<number>();
  /** What they take, in bytes; undefined where that has not been counted. */
  bytes: number | undefined;

  /** @param current the revision kept of each object */
  constructor(current: ObjectIndex) {
    this.#current = current;
  }

  /** How many objects are kept. */
  get objects(): number {
    return this.#current.count;
  }

  has(oidHigh: number, oidLow: number, position: number): boolean {
    return this.#current.get(oidHigh, oidLow) === position || this.#older.has(position);
  }

  /** @returns false where that is kept already */
  addOlder(oidHigh: number, oidLow: number, position: number): boolean {
    if (this.has(oidHigh, oidLow, position)) return false;
    this.#older.add(position);
    return true;
  }
}

/**
 * The search for what is kept. It can go on when the file has grown: what later transactions need is only ever added.
 */
export class KeptSearch {
  readonly kept: KeptRecords;
  readonly #file: ReadableFile;
  readonly #survey: PackSurvey;
  /** Undefined where all objects are kept. */
  readonly #findReferences: FindReferences | undefined;
  readonly #patience: Patience;
  readonly #progress: (objects: number) => void;
  readonly #record: RecordReader;
  readonly #reachable: ObjectIndex;
  readonly #waiting = new OidStack();
  /** Up to where transactions have been looked at; before the pack time's end: none. */
  #end = 0;
  /** Whether anything has been added since {@link extendTo} began. */
  #hasGrown = false;
  #bytes = 0;
  #data = new Uint8Array(READ_BYTES);

  /**
   * @param findReferences how garbage is told; undefined: no object is garbage
   * @param progress told how many objects have been reached
   */
  constructor(
    file: ReadableFile,
    survey: PackSurvey,
    findReferences: FindReferences | undefined,
    patience: Patience,
    progress: (objects: number) => void,
  ) {
    this.#file = file;
    this.#survey = survey;
    this.#findReferences = findReferences;
    this.#patience = patience;
    this.#progress = progress;
    this.#record = new RecordReader(file);
    this.#reachable = findReferences === undefined ? survey.current : new ObjectIndex();
    this.kept = new KeptRecords(this.#reachable);
  }

  /**
   * Takes into account what the transactions up to `end` need.
   * @returns whether anything is kept now that was not before
   * @throws CorruptError, DiskError, and the signal's reason; UsageError naming the object where it cannot be told
   * what one refers to, or where one refers to an object that is not there: nothing may be dropped then
   */
  async extendTo(end: number): Promise<boolean> {
    const { packEnd } = this.#survey;
    const from = Math.max(packEnd, this.#end);
    const isFirst = this.#end === 0;
    this.#end = end;
    this.#hasGrown = false;
    if (isFirst) await this.#reachRoot();
    await forEachRecord(this.#file, from, end, this.#patience, (reader) => {
      const { oidHigh, oidLow, backPointer, recordPosition } = reader;
      if (backPointer >= packEnd) return; // kept anyway, and looked at where it lies
      if (backPointer !== 0) {
        if (!this.kept.addOlder(oidHigh, oidLow, backPointer)) return;
        this.#hasGrown = true;
        this.#keepEnd(oidHigh, oidLow);
      }
      if (this.#findReferences === undefined) return;
      const length = this.#referencesAt(backPointer || recordPosition, oidHigh, oidLow, "optional");
      if (backPointer !== 0) this.#bytes += length;
    });
    await this.#follow();
    if (this.#findReferences !== undefined) this.kept.bytes = this.#bytes;
    return this.#hasGrown;
  }

  /** Of an object that did not exist any more at the pack time, and has an older revision kept: it must not exist. */
  #keepEnd(oidHigh: number, oidLow: number): void {
    const position = this.#survey.gone.get(oidHigh, oidLow);
    if (position === 0 || !this.kept.addOlder(oidHigh, oidLow, position)) return;
    this.#bytes += RECORD.size + BACK_POINTER_SIZE;
  }

  async #reachRoot(): Promise<void> {
    const { current } = this.#survey;
    if (this.#findReferences === undefined || current.count === 0) return;
    if (current.get(0, 0) === 0) {
      throw new UsageError(
        `Cannot tell garbage in ${this.#file.path}: it has no root object at the pack time`,
        { path: this.#file.path, oid: 0n, hint: "--no-gc packs without dropping any object" },
      );
    }
    this.#reach(0, 0);
    await this.#follow();
  }

  /** Goes on from the objects that wait until none is left. */
  async #follow(): Promise<void> {
    const { pause, signal } = this.#patience;
    const batch: { high: number; low: number; position: number }[] = [];
    while (this.#waiting.length > 0) {
      batch.length = 0;
      while (batch.length < BATCH && this.#waiting.length > 0) {
        const [high, low] = this.#waiting.pop();
        batch.push({ high, low, position: this.#reachable.get(high, low) });
      }
      batch.sort((a, b) => a.position - b.position);
      for (let i = 0; i < batch.length; i++) {
        const { high, low, position } = batch[i]!;
        this.#bytes += this.#referencesAt(position, high, low, "needed");
        if (i % STEPS_BETWEEN_PAUSES !== 0) continue;
        await pause?.();
        signal?.throwIfAborted();
      }
      this.#progress(this.#reachable.count);
    }
  }

  /** @returns false when the object was not there at the pack time */
  #reach(oidHigh: number, oidLow: number): boolean {
    if (this.#reachable.get(oidHigh, oidLow) !== 0) return true;
    const position = this.#survey.current.get(oidHigh, oidLow);
    if (position === 0) return false;
    this.#reachable.set(oidHigh, oidLow, position);
    this.#waiting.push(oidHigh, oidLow);
    this.#hasGrown = true;
    return true;
  }

  /**
   * Reaches what a revision refers to.
   * @param use whether it is an error that an object is not there: later transactions refer to later objects
   * @returns what its record takes when it is copied, in bytes
   */
  #referencesAt(position: number, oidHigh: number, oidLow: number, use: "needed" | "optional"): number {
    const data = this.#dataAt(position, oidHigh, oidLow);
    if (data === undefined) return RECORD.size + BACK_POINTER_SIZE;
    try {
      this.#findReferences!(data, (high, low) => {
        if (!this.#reach(high, low) && use === "needed") this.#refuseMissing(oidHigh, oidLow, high, low);
      });
      return RECORD.size + data.length;
    } catch (cause) {
      if (!(cause instanceof PickleError)) throw cause;
      throw new UsageError(
        `Cannot tell garbage in ${this.#file.path}: what object ${
          oidText(oidHigh, oidLow)
        } refers to cannot be ` +
          `read at ${position}: ${cause.message}`,
        {
          path: this.#file.path,
          position,
          cause,
          hint:
            "its data may be compressed, encrypted, or damaged; --no-gc packs without dropping any object",
        },
      );
    }
  }

  #refuseMissing(fromHigh: number, fromLow: number, high: number, low: number): never {
    throw new UsageError(
      `Cannot tell garbage in ${this.#file.path}: object ${oidText(fromHigh, fromLow)} refers to object ` +
        `${oidText(high, low)}, which is not there at the pack time`,
      {
        path: this.#file.path,
        hint: "zrs verify --refs lists all such references; --no-gc packs without dropping any object",
      },
    );
  }

  /** @returns a view, valid until the next call; undefined when the object does not exist in this revision */
  #dataAt(position: number, oidHigh: number, oidLow: number): Uint8Array | undefined {
    const record = this.#record;
    record.read(position, oidHigh, oidLow);
    if (!record.resolve(oidHigh, oidLow)) return undefined;
    const { dataLength, dataPosition } = record;
    if (dataLength > this.#end - dataPosition) {
      throw new CorruptError(
        `Cannot read the data record at ${record.position} of ${this.#file.path}: the file ends within it`,
        { path: this.#file.path, position: record.position },
      );
    }
    if (dataLength > this.#data.length) {
      this.#data = new Uint8Array(Math.max(dataLength, 2 * this.#data.length));
    }
    const data = this.#data.subarray(0, dataLength);
    this.#file.readAt(data, dataPosition);
    return data;
  }
}

/** Visits the records of all transactions between two positions that count. */
async function forEachRecord(
  file: ReadableFile,
  from: number,
  end: number,
  { pause, signal }: Patience,
  visit: (reader: TransactionReader) => void,
): Promise<void> {
  const reader = new TransactionReader(new Window(file, end));
  let steps = 0;
  for (let position = from; position < end; position = reader.end) {
    const state = reader.read(position);
    if (state !== "whole") throw reader.notWhole(state);
    if (reader.status !== STATUS.undone) {
      for (; reader.nextRecord() >= 0; steps++) visit(reader);
    }
    if (++steps < STEPS_BETWEEN_PAUSES) continue;
    steps = 0;
    await pause?.();
    signal?.throwIfAborted();
  }
}

function oidText(oidHigh: number, oidLow: number): string {
  return formatOidDigits(BigInt(oidHigh) << 32n | BigInt(oidLow));
}
