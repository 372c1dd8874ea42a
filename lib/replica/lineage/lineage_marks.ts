/**
 * One end's part in comparing two histories by content: taking marks of its own transactions, and judging the
 * other end's. Both ends do both.
 */
import {
  ContentDigester,
  countedBefore,
  FIRST_POSITION,
  locateTid,
  type Location,
  type LogView,
  type Place,
  placeOf,
  readWhole,
  TransactionReader,
  walkingReader,
} from "../../filestorage/mod.ts";
import { formatTid, NO_TID, parseTid, STATUS } from "../../zodb/mod.ts";
import {
  type Answer,
  checkQuestion,
  type Holding,
  type Mark,
  MAX_RECORDS,
  MAX_RECORDS_OF_ONE,
  type RecordMark,
} from "./lineage_messages.ts";

/** Digits of a digest in a message. */
const DIGEST_DIGITS = 32;

/** After so many transactions a walk lets others run. */
const STEPS_BETWEEN_PAUSES = 20_000;

/**
 * Answers a source's question about this replica's history.
 * @param view whose generation the caller holds
 * @param question as it came: anything
 * @param pause lets other work run
 * @throws ProtocolError where it is no question, or asks for too much; CorruptError, DiskError
 */
export async function answerQuestion(
  view: LogView,
  question: unknown,
  pause: () => Promise<void>,
): Promise<Answer> {
  const asked = checkQuestion(question);
  const history = new MarkedHistory(view, pause);
  if (asked.kind === "marks") {
    const after = asked.after === null ? undefined : parseTid(asked.after);
    const before = asked.before === null ? undefined : parseTid(asked.before);
    const { places, whole } = await history.places(after, before, asked.count);
    return { kind: "marks", marks: await history.marks(places), whole };
  }
  const held: Holding[] = [];
  for (const mark of asked.transactions) held.push(await history.judge(mark));
  return { kind: "holds", held };
}

/**
 * What a replica says of its last transaction, for a source to compare: see `compareLineage`.
 * @returns undefined when it is empty
 * @throws CorruptError, DiskError
 */
export async function lastDigest(view: LogView, pause: () => Promise<void>): Promise<string | undefined> {
  if (view.lastTid === NO_TID) return undefined;
  const history = new MarkedHistory(view, pause);
  const location = await history.locate(view.lastTid);
  if (location.kind !== "found") throw new RangeError("The last transaction is not in the file");
  return await history.digest(location.place);
}

/** Whether a pack may have removed a transaction between two neighbours. */
export function isPackedGap(before: Place | undefined, after: Place | undefined): boolean {
  return before?.status === STATUS.packed || after?.status === STATUS.packed;
}

/** A history whose transactions can be marked and compared. The caller holds the view's generation. */
export class MarkedHistory {
  readonly #view: LogView;
  readonly #reader: TransactionReader;
  readonly #digester: ContentDigester;
  readonly #pause: () => Promise<void>;
  #steps = 0;

  constructor(view: LogView, pause: () => Promise<void>) {
    const { file } = view.generation;
    this.#view = view;
    this.#reader = walkingReader(file, view.end);
    this.#digester = new ContentDigester(file, pause);
    this.#pause = pause;
  }

  /** @throws CorruptError, DiskError */
  async locate(tid: bigint): Promise<Location> {
    const { end, generation } = this.#view;
    return await locateTid(this.#reader, end, tid, generation.map, this.#pause);
  }

  /** The first transaction later than the tid; of all, where it is undefined. */
  async next(after: bigint | undefined): Promise<Place | undefined> {
    if (after === undefined) return await this.#countedFrom(FIRST_POSITION);
    const location = await this.locate(after);
    return location.kind === "found" ? await this.#countedFrom(location.place.end) : location.after;
  }

  /** The first transaction later than the tid that no pack has copied. */
  async nextUnpacked(after: bigint): Promise<Place | undefined> {
    let place = await this.next(after);
    while (place?.status === STATUS.packed) place = await this.#countedFrom(place.end);
    return place;
  }

  /** The last transactions before the tid, at most `count`, oldest first. */
  async newest(before: bigint | undefined, count: number): Promise<Place[]> {
    const places: Place[] = [];
    let place = await this.#previous(before);
    while (place !== undefined) {
      places.unshift(place);
      if (places.length === count) break;
      place = countedBefore(this.#reader, place.position);
    }
    return places;
  }

  /**
   * Transactions strictly between two tids, evenly spread by position, the first and the last among them.
   * @returns at most `count`, oldest first; whole: there are no others
   */
  async places(
    after: bigint | undefined,
    before: bigint | undefined,
    count: number,
  ): Promise<{ places: Place[]; whole: boolean }> {
    const first = await this.next(after);
    const last = await this.#previous(before);
    if (first === undefined || last === undefined || first.tid > last.tid) return { places: [], whole: true };
    const all = [first];
    for (let place: Place | undefined = first; place !== undefined && place.tid < last.tid;) {
      if (all.length === count) return { places: await this.#spread(first, last, count), whole: false };
      place = await this.#countedFrom(place.end);
      if (place !== undefined) all.push(place);
    }
    return { places: all, whole: true };
  }

  async #spread(first: Place, last: Place, count: number): Promise<Place[]> {
    if (count === 1) return [first];
    const { map } = this.#view.generation;
    const span = last.position - first.position;
    const places = [first];
    let position = first.end;
    for (let at = 1; at < count - 1; at++) {
      const target = first.position + Math.floor(span * at / (count - 1));
      const place = await this.#countedFrom(Math.max(position, map.floorOfPosition(target)), target);
      if (place === undefined || place.position >= last.position) break;
      places.push(place);
      position = place.end;
    }
    places.push(last);
    return places;
  }

  /**
   * The tid of a transaction that begins so many bytes or more before the first one with `before` or a later
   * tid; undefined where the file does not reach so far back.
   */
  async reachBack(before: bigint | undefined, bytes: number): Promise<bigint | undefined> {
    const last = await this.#previous(before);
    if (last === undefined) return undefined;
    const target = last.end - bytes;
    if (target <= FIRST_POSITION) return undefined;
    const { map } = this.#view.generation;
    const known = map.floorOfPosition(target);
    if (known > FIRST_POSITION && target - known < bytes) {
      readWhole(this.#reader, known);
      return this.#reader.tid;
    }
    let place: Place | undefined = last;
    while (place !== undefined && place.position > target) {
      map.note(place.tid, place.position);
      await this.#step();
      place = countedBefore(this.#reader, place.position);
    }
    return place?.tid;
  }

  async #previous(before: bigint | undefined): Promise<Place | undefined> {
    const { lastTid } = this.#view;
    if (lastTid === NO_TID) return undefined;
    const location = await this.locate(before ?? lastTid);
    if (location.kind === "between") return location.before;
    return before === undefined ? location.place : countedBefore(this.#reader, location.place.position);
  }

  /** The first transaction at or behind `target` that counts, walking from another at `position`. */
  async #countedFrom(position: number, target = position): Promise<Place | undefined> {
    const reader = this.#reader;
    const { end, generation } = this.#view;
    while (position < end) {
      readWhole(reader, position);
      if (reader.status !== STATUS.undone) {
        generation.map.note(reader.tid, position);
        if (position >= target) return placeOf(reader);
      }
      position = reader.end;
      await this.#step();
    }
    return undefined;
  }

  async #step(): Promise<void> {
    if (++this.#steps % STEPS_BETWEEN_PAUSES === 0) await this.#pause();
  }

  /** The digest of a transaction, as messages carry it. @throws CorruptError, DiskError */
  async digest(place: Place): Promise<string> {
    readWhole(this.#reader, place.position);
    const { digest } = await this.#digester.transaction(this.#reader);
    return digest.slice(0, DIGEST_DIGITS);
  }

  /** Marks of these transactions, with as many records as one message may hold. @throws CorruptError, DiskError */
  async marks(places: readonly Place[]): Promise<Mark[]> {
    const recordCount = Math.min(MAX_RECORDS_OF_ONE, Math.floor(MAX_RECORDS / places.length));
    const marks: Mark[] = [];
    for (const place of places) {
      readWhole(this.#reader, place.position);
      const { body, records } = await this.#digester.transaction(this.#reader);
      marks.push({
        tid: formatTid(place.tid),
        body: body.slice(0, DIGEST_DIGITS),
        packed: place.status === STATUS.packed,
        records: await this.#sample(records, recordCount),
      });
    }
    return marks;
  }

  /** Some records of the transaction last read, evenly spread. */
  async #sample(records: number, count: number): Promise<RecordMark[]> {
    const oids = new Set<bigint>();
    const reader = this.#reader;
    reader.rewindRecords();
    for (let at = 0, chosen = 0; chosen < count && reader.nextRecord() >= 0; at++) {
      if (at < Math.floor(chosen * records / count)) continue;
      oids.add(reader.oid);
      chosen++;
    }
    const digests = await this.#recordDigests(oids);
    return [...digests].map(([oid, digest]) => ({ oid: formatTid(oid), digest }));
  }

  /** Digests of the last records that these objects have in the transaction last read. */
  async #recordDigests(oids: ReadonlySet<bigint>): Promise<Map<bigint, string>> {
    const reader = this.#reader;
    const digests = new Map<bigint, string>();
    if (oids.size === 0) return digests;
    reader.rewindRecords();
    while (reader.nextRecord() >= 0) {
      if (!oids.has(reader.oid)) continue;
      digests.set(reader.oid, (await this.#digester.record(reader)).slice(0, DIGEST_DIGITS));
    }
    return digests;
  }

  /**
   * Whether this history has a transaction of the other end's with the same content.
   * @throws CorruptError, DiskError
   */
  async judge(mark: Mark): Promise<Holding> {
    const tid = parseTid(mark.tid);
    if (tid > this.#view.lastTid) return "unknown"; // it may still come
    const location = await this.locate(tid);
    if (location.kind === "between") {
      // Copies made by ZODB before 5.6 lack transactions without records.
      const mayBeGone = isPackedGap(location.before, location.after) || mark.records.length === 0;
      return mayBeGone ? "unknown" : "other";
    }
    const { place } = location;
    readWhole(this.#reader, place.position);
    const own = await this.#digester.transaction(this.#reader);
    if (own.body.startsWith(mark.body)) return "same";
    const isPacked = place.status === STATUS.packed;
    return isPacked || mark.packed ? await this.#judgeRecords(mark, isPacked) : "other";
  }

  /** Judges by the records named, where a pack may have removed others. */
  async #judgeRecords(mark: Mark, isPacked: boolean): Promise<Holding> {
    const own = await this.#recordDigests(new Set(mark.records.map(({ oid }) => parseTid(oid))));
    let same = 0;
    for (const { oid, digest } of mark.records) {
      const found = own.get(parseTid(oid));
      if (found === digest) same++;
      else if (found !== undefined || !isPacked) return "other";
    }
    return same > 0 ? "same" : "unknown";
  }
}
