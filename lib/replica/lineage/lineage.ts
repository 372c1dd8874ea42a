/**
 * Comparing a replica's history with a source's by content, where both ends can talk: between two nodes of
 * ours. (zrs2 tells tids only: histories.ts.) Nothing is stored for it. History is linear, two that differ at a
 * transaction never agree again, so a few transactions tell all.
 *
 * The replica's last transaction, L, comes with its digest. Where that does not settle it, the source asks: which
 * of these of mine do you hold (its newest four not later than L first), and where a fork must be found, which
 * of 64 spread over an ever smaller stretch of its file. The stretch reaches back from the end, 4 MiB at first,
 * for most forks are young and a file has no index of its transactions. Where the replica has been packed, and so
 * can say little of the source's transactions, it is asked for its own.
 *
 * A pack removes transactions and records, and changes nothing in the records it leaves. So a transaction that
 * either end has packed is compared by some of its records: those that both still have must be the same, and
 * there must be one. Where there is none, or a whole transaction may be gone, nothing is known, and the next
 * older transaction counts. S is the source's last transaction, "newest known" the newest one not later than L of
 * which anything is known.
 *
 * | L                                            | and                              | verdict         |
 * | -------------------------------------------- | -------------------------------- | --------------- |
 * | there is none                                |                                  | shared          |
 * | there is no S                                |                                  | ahead           |
 * | is here with the same digest                 |                                  | shared          |
 * | is here, unpacked; same as far as comparable | (the replica is packed there)    | shared          |
 * | is here, packed; same as far as comparable   |                                  | beyond the pack |
 * | is here; nothing comparable                  | newest known is the same or none | beyond the pack |
 * | is here; nothing comparable                  | newest known differs             | forked          |
 * | is here; differs                             |                                  | forked          |
 * | is not here, but may have been packed away   | newest known is the same or none | beyond the pack |
 * | is not here, but may have been packed away   | newest known differs             | forked          |
 * | is later than S, which is unpacked           | newest known is the same or none | ahead           |
 * | is later than S, which is unpacked           | newest known differs             | forked          |
 * | lies within unpacked history, is not here    |                                  | forked          |
 *
 * A transaction may have been packed away where the one before it or behind it is marked as packed. One without
 * records that is missing says nothing: copies made by ZODB before 5.6 lack them.
 *
 * What this cannot see: a difference before a transaction that is the same in both. No writer makes one; damage
 * and hand-edited files can.
 */
import { ProtocolError } from "../../errors.ts";
import { FIRST_POSITION, type Location, type LogView, type Place } from "../../filestorage/mod.ts";
import type { Fit } from "../../native/mod.ts";
import { describeTid, formatTid, NO_TID, parseTid, STATUS } from "../../zodb/mod.ts";
import { isPackedGap, MarkedHistory } from "./lineage_marks.ts";
import {
  checkDigest,
  checkHoldsAnswer,
  checkMarksAnswer,
  type Holding,
  type HoldsQuestion,
  type Mark,
  type MarksQuestion,
  MAX_MARKS,
  type Question,
} from "./lineage_messages.ts";

export { answerQuestion, lastDigest } from "./lineage_marks.ts";
export type { Answer, Holding, Mark, Question, RecordMark } from "./lineage_messages.ts";

export type Lineage =
  /** The replica's last transaction is in the source with the same content: go on behind it. */
  | {
    readonly kind: "shared";
    readonly position: number;
    /** What the source may have packed away since; undefined: nothing, or the replica is empty. */
    readonly packedAway?: PackedAway;
  }
  /** A pack has removed what would prove it; the same as far as comparable. Go on with what is later. */
  | {
    readonly kind: "beyond the pack";
    readonly position: number;
    /** The newest transaction that was compared and found the same; undefined where there was none. */
    readonly common: bigint | undefined;
    /** What the source may have packed away, so that the replica will not get it; undefined: nothing. */
    readonly packedAway: PackedAway | undefined;
  }
  /** The replica has all that the source has, and later transactions. */
  | {
    readonly kind: "ahead";
    /**
     * The source's last transaction; an older one where a pack of the replica has removed what would prove it;
     * undefined where nothing is known, or the source is empty.
     */
    readonly common: bigint | undefined;
  }
  /** Both have transactions that the other lacks, or have different ones by the same tid. */
  | {
    readonly kind: "forked";
    /** The last transaction that is common to both; undefined where none is. */
    readonly common: bigint | undefined;
    /** What follows it in the source and in the replica; by the same tid they are different transactions. */
    readonly here: bigint;
    readonly there: bigint;
    /** False where a pack has removed what would tell: later transactions may be common too. */
    readonly exact: boolean;
  };

/** Transactions, or records of them, later than one tid and earlier than another; undefined: up to the end. */
export interface PackedAway {
  readonly after: bigint;
  readonly before: bigint | undefined;
}

/** What a replica says of itself: its last transaction's tid, NO_TID for none, and `lastDigest`. */
export interface ReplicaEnd {
  readonly lastTid: bigint;
  readonly digest: string | undefined;
}

/** How far a search reaches back at first, in bytes, and how much farther each time. */
const FIRST_REACH = 4 * 1024 * 1024;
const REACH_FACTOR = 64;

/** How many of the newest transactions are asked for before anything else. */
const NEWEST = 4;

/**
 * Whoever needs more questions than this does not mean to end: some ten find a fork among 100 million
 * transactions, a few times as many where packs have hidden most of them.
 */
const MAX_QUESTIONS = 64;

/**
 * Compares a replica's history with the source's.
 * @param view the source's, whose generation the caller holds
 * @param ask puts a question to the replica (`answerQuestion`) and resolves with its answer, whatever it is
 * @param pause lets other work run
 * @throws ProtocolError where the replica's answers make no sense; CorruptError, DiskError; what `ask` throws
 */
export async function compareLineage(
  view: LogView,
  replica: ReplicaEnd,
  ask: (question: Question) => Promise<unknown>,
  pause: () => Promise<void>,
): Promise<Lineage> {
  const { lastTid, digest } = replica;
  if (lastTid === NO_TID) return { kind: "shared", position: FIRST_POSITION };
  checkDigest(digest);
  if (view.lastTid === NO_TID) return { kind: "ahead", common: undefined };
  const history = new MarkedHistory(view, pause);
  const location = await history.locate(lastTid);
  if (location.kind === "found" && await history.digest(location.place) === digest) {
    return await shared(history, location.place, lastTid);
  }
  const search = new Search(history, lastTid, ask);
  return await decide(history, location, lastTid, search);
}

async function decide(
  history: MarkedHistory,
  location: Location,
  lastTid: bigint,
  search: Search,
): Promise<Lineage> {
  const newest = await search.askNewest();
  const isMissing = location.kind === "between";
  const isPacked = isMissing
    ? isPackedGap(location.before, location.after)
    : location.place.status === STATUS.packed;
  const isForked = isMissing && !isPacked && location.after !== undefined;
  if (newest !== "same") await search.narrow();

  const common = search.same;
  if (isForked || search.other !== undefined) return await fork(history, search, lastTid);
  if (isMissing && !isPacked) return { kind: "ahead", common };
  if (!isMissing && !isPacked && newest === "same") return await shared(history, location.place, lastTid);
  const before = isMissing ? location.before : location.place;
  return {
    kind: "beyond the pack",
    position: before?.end ?? FIRST_POSITION,
    common,
    packedAway: await packedAwayBehind(history, before, lastTid),
  };
}

async function shared(history: MarkedHistory, place: Place, lastTid: bigint): Promise<Lineage> {
  const packedAway = await packedAwayBehind(history, place, lastTid);
  return { kind: "shared", position: place.end, ...(packedAway !== undefined && { packedAway }) };
}

/** @param before the last transaction of the source that is not later than the replica's last */
async function packedAwayBehind(
  history: MarkedHistory,
  before: Place | undefined,
  lastTid: bigint,
): Promise<PackedAway | undefined> {
  if (!isPackedGap(before, await history.next(lastTid))) return undefined;
  return { after: lastTid, before: (await history.nextUnpacked(lastTid))?.tid };
}

/**
 * What the source has of what is later than the replica's last transaction, where its file lies differently.
 * @param lastTid of the replica
 * @param sourceEnd of the source's file
 */
export function fitOf(
  lineage: Extract<Lineage, { kind: "shared" | "beyond the pack" }>,
  lastTid: bigint,
  sourceEnd: number,
): Fit {
  const { kind, position, packedAway } = lineage;
  const isOutOfReach = position >= sourceEnd && packedAway !== undefined;
  if (kind === "beyond the pack") {
    // What has been packed away there may as well never have been there.
    if (lineage.common === undefined || isOutOfReach && lineage.common !== lastTid) return "unknown";
  }
  return packedAway === undefined || isOutOfReach ? "later" : "gap";
}

async function fork(history: MarkedHistory, search: Search, lastTid: bigint): Promise<Lineage> {
  const common = search.same;
  const here = await history.next(common);
  const [there] = await search.marksOf(common, undefined, 1);
  if (here === undefined || there === undefined || parseTid(there.tid) > lastTid) {
    const where = common === undefined ? "at all" : `behind ${formatTid(common)}`;
    throw new ProtocolError(
      `Cannot compare the histories: the replica ends with ${formatTid(lastTid)} and has ` +
        (there === undefined ? `nothing ${where}` : `${there.tid} as its next ${where}`),
    );
  }
  const before = common === undefined ? undefined : await history.locate(common);
  const isPacked = isPackedGap(before?.kind === "found" ? before.place : undefined, here);
  return {
    kind: "forked",
    common,
    here: here.tid,
    there: parseTid(there.tid),
    exact: search.isExact && !isPacked && !there.packed,
  };
}

/** What is known of a transaction. */
interface Evidence {
  readonly tid: bigint;
  readonly holding: Holding;
}

/** Finds the last transaction of the source, not later than the replica's last, that the replica has too. */
class Search {
  readonly #history: MarkedHistory;
  readonly #lastTid: bigint;
  readonly #ask: (question: Question) => Promise<unknown>;
  /** The newest known to be the same. */
  same: bigint | undefined;
  /** The oldest behind it that is known to differ. */
  other: bigint | undefined;
  /** There is none between the two of which nothing is known. */
  isExact = false;
  #questions = 0;

  constructor(history: MarkedHistory, lastTid: bigint, ask: (question: Question) => Promise<unknown>) {
    this.#history = history;
    this.#lastTid = lastTid;
    this.#ask = ask;
  }

  /** Asks for the newest few; what is known of the very newest is returned. */
  async askNewest(): Promise<Holding> {
    const places = await this.#history.newest(this.#before, NEWEST);
    const evidence = await this.#holds(await this.#history.marks(places));
    this.#learn(evidence);
    const newest = evidence.at(-1)?.holding ?? "unknown";
    this.isExact = newest === "same";
    return newest;
  }

  /** Narrows down `same` and `other` until nothing more can be learnt. */
  async narrow(): Promise<void> {
    for (let reach = FIRST_REACH;; reach *= REACH_FACTOR) {
      const before = this.#before;
      const from = this.same === undefined ? await this.#history.reachBack(before, reach) : undefined;
      const after = from === undefined ? this.same : from - 1n;
      const reachesAll = from === undefined;
      const { places, whole } = await this.#history.places(after, before, MAX_MARKS);
      const evidence = await this.#holds(await this.#history.marks(places));
      const isKnown = whole && evidence.every(({ holding }) => holding !== "unknown");
      const isNearer = this.#learn(evidence) ||
        !isKnown && this.#learn(await this.#marks(after, before));
      if (isNearer && !isKnown || !reachesAll) continue;
      this.isExact = isKnown;
      return;
    }
  }

  /** The replica's own transactions in a range. */
  async marksOf(
    after: bigint | undefined,
    before: bigint | undefined,
    count: number,
  ): Promise<readonly Mark[]> {
    const question: MarksQuestion = {
      kind: "marks",
      after: after === undefined ? null : formatTid(after),
      before: before === undefined ? null : formatTid(before),
      count,
    };
    return checkMarksAnswer(await this.#put(question), question);
  }

  /** The bound of the search: what is not earlier is known to differ, or later than the replica's last. */
  get #before(): bigint | undefined {
    if (this.other !== undefined) return this.other;
    return this.#lastTid === 0xffff_ffff_ffff_ffffn ? undefined : this.#lastTid + 1n;
  }

  async #holds(marks: readonly Mark[]): Promise<Evidence[]> {
    if (marks.length === 0) return [];
    const question: HoldsQuestion = { kind: "holds", transactions: marks };
    const held = checkHoldsAnswer(await this.#put(question), question);
    return marks.map(({ tid }, at) => ({ tid: parseTid(tid), holding: held[at]! }));
  }

  async #marks(after: bigint | undefined, before: bigint | undefined): Promise<Evidence[]> {
    const evidence: Evidence[] = [];
    for (const mark of await this.marksOf(after, before, MAX_MARKS)) {
      evidence.push({ tid: parseTid(mark.tid), holding: await this.#history.judge(mark) });
    }
    return evidence;
  }

  /** @returns whether the bounds came nearer */
  #learn(evidence: readonly Evidence[]): boolean {
    const newestSame = evidence.findLast(({ holding }) => holding === "same")?.tid;
    const same = newestSame ?? this.same;
    const oldestOther = evidence.find(({ tid, holding }) =>
      holding === "other" && (same === undefined || tid > same)
    )?.tid;
    if (newestSame !== undefined) this.same = newestSame;
    if (oldestOther !== undefined) this.other = oldestOther;
    return newestSame !== undefined || oldestOther !== undefined;
  }

  async #put(question: Question): Promise<unknown> {
    if (++this.#questions > MAX_QUESTIONS) {
      throw new ProtocolError(`Cannot compare the histories: no end after ${MAX_QUESTIONS} answers`);
    }
    return await this.#ask(question);
  }
}

/** Whether no transaction later than the `common` one can be common to both, too. */
export function isCommonExact(
  lineage: Extract<Lineage, { kind: "ahead" | "forked" }>,
  sourceLastTid: bigint,
): boolean {
  return lineage.kind === "forked" ? lineage.exact : (lineage.common ?? NO_TID) === sourceLastTid;
}

/**
 * What two ends have in common, in one line for both.
 * @param lastTid of the replica
 * @param sourceLastTid of the source
 */
export function describeLineage(lineage: Lineage, lastTid: bigint, sourceLastTid: bigint): string {
  const yours = `your last transaction is ${describeTid(lastTid)}`;
  switch (lineage.kind) {
    case "shared":
      return lastTid === NO_TID ? "shared: you have no transaction yet" : `shared: ${yours}, as here`;
    case "beyond the pack": {
      const { common, packedAway } = lineage;
      const compared = common === undefined
        ? "NOTHING that you have could be compared with what is here: this may be another database altogether; " +
          "make sure that it is not before you rely on the copy"
        : `the last that could be compared and is the same is ${describeTid(common)}`;
      const what = `beyond the pack: ${yours}; ${compared}`;
      if (packedAway === undefined) return what;
      const end = packedAway.before === undefined ? "the end" : describeTid(packedAway.before);
      return `${what}; between ${
        describeTid(packedAway.after)
      } and ${end} transactions and records may have ` +
        `been packed away here, which you will not get`;
    }
    case "ahead": {
      const { common } = lineage;
      if (sourceLastTid === NO_TID) return `ahead: ${yours}, this source is empty`;
      const known = common === sourceLastTid
        ? ", which you have too"
        : common === undefined
        ? "; nothing is known to be common to both"
        : `; the last known to be common is ${describeTid(common)}`;
      return `ahead: ${yours}, this source ends with ${describeTid(sourceLastTid)}${known}`;
    }
    case "forked": {
      const { common, here, there, exact } = lineage;
      const next = there === here ? "another one of the same tid" : describeTid(there);
      if (common === undefined) {
        const none = exact ? "no transaction is common to both" : "nothing is known to be common to both";
        return `forked: ${yours}; ${none}, the first here is ${describeTid(here)}, there ${next}`;
      }
      const last = exact ? "the last common one is" : "the last one known to be common is";
      return `forked: ${yours}; ${last} ${describeTid(common)}, here it is followed by ${
        describeTid(here)
      }, ` +
        `there by ${next}`;
    }
  }
}
