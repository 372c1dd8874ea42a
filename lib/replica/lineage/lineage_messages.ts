/**
 * What two ends say to each other while they compare their histories by content: the source asks, the replica
 * answers. Messages are plain objects, as JSON carries them: tids and oids are 16 lower-case hexadecimal
 * digits, digests the first 32 of those that filestorage/compare/content_digest.ts describes.
 *
 * What comes from the other end is checked here before anything is done with it.
 */
import { ProtocolError } from "../../errors.ts";
import { formatTid, NO_TID } from "../../zodb/mod.ts";

/** A record of a transaction: the last one of its object there. */
export interface RecordMark {
  readonly oid: string;
  readonly digest: string;
}

/** What one end has of one transaction. */
export interface Mark {
  readonly tid: string;
  /** The digest of its body: some tools that copy write an extension anew. */
  readonly body: string;
  /** It has been copied by a pack there: some of its records may be gone. */
  readonly packed: boolean;
  /** Some of its records, evenly spread; none where it has none. For comparing where a pack removed others. */
  readonly records: readonly RecordMark[];
}

/**
 * Transactions strictly between two tids (null: no bound), evenly spread by position, at most `count`; the first
 * and the last of the range always among them, of one only the first.
 */
export interface MarksQuestion {
  readonly kind: "marks";
  readonly after: string | null;
  readonly before: string | null;
  readonly count: number;
}

/** Which of these transactions of the source, oldest first, does the replica hold with the same content? */
export interface HoldsQuestion {
  readonly kind: "holds";
  readonly transactions: readonly Mark[];
}

export type Question = MarksQuestion | HoldsQuestion;

/**
 * - `same`: it is there with the same content, as far as packs have left of it
 * - `other`: it is not there, or has other content
 * - `unknown`: a pack may have removed it, or what could tell
 */
export type Holding = "same" | "other" | "unknown";

export type Answer =
  | {
    readonly kind: "marks";
    /** Oldest first. */
    readonly marks: readonly Mark[];
    /** There are no others in the range. */
    readonly whole: boolean;
  }
  /** In the order of the question. */
  | { readonly kind: "holds"; readonly held: readonly Holding[] };

/** The most transactions that one message names. */
export const MAX_MARKS = 64;
/** The most records that one message names: of all its transactions together, and of one. */
export const MAX_RECORDS = 256;
export const MAX_RECORDS_OF_ONE = 64;

const TID_DIGITS = /^[0-9a-f]{16}$/;
const DIGEST_DIGITS = /^[0-9a-f]{32}$/;

/** @throws ProtocolError where it is no question, or asks for too much */
export function checkQuestion(question: unknown): Question {
  const doing = "Cannot answer the question";
  const { kind, after, before, count, transactions } = fieldsOf(question, doing);
  if (kind === "marks") {
    if (after !== null) checkDigits(after, TID_DIGITS, "tid", doing);
    if (before !== null) checkDigits(before, TID_DIGITS, "tid", doing);
    if (!Number.isInteger(count) || (count as number) < 1 || (count as number) > MAX_MARKS) {
      throw new ProtocolError(`${doing}: its count must be from 1 to ${MAX_MARKS}, found ${show(count)}`);
    }
  } else if (kind === "holds") {
    checkMarks(transactions, MAX_MARKS, doing);
    checkRange(transactions, null, null, doing);
  } else {
    throw new ProtocolError(`${doing}: its kind must be "marks" or "holds", found ${show(kind)}`);
  }
  return question as Question;
}

/** @throws ProtocolError where it is no answer to that question */
export function checkMarksAnswer(answer: unknown, question: MarksQuestion): readonly Mark[] {
  const doing = "Cannot use the answer";
  const { kind, marks, whole } = fieldsOf(answer, doing);
  if (kind !== "marks") throw new ProtocolError(`${doing}: its kind must be "marks", found ${show(kind)}`);
  checkMarks(marks, question.count, doing);
  checkRange(marks, question.after, question.before, doing);
  if (typeof whole !== "boolean") throw new ProtocolError(`${doing}: "whole" must be true or false`);
  return marks;
}

/** @throws ProtocolError where it is no answer to that question */
export function checkHoldsAnswer(answer: unknown, question: HoldsQuestion): readonly Holding[] {
  const doing = "Cannot use the answer";
  const { kind, held } = fieldsOf(answer, doing);
  if (kind !== "holds") throw new ProtocolError(`${doing}: its kind must be "holds", found ${show(kind)}`);
  const count = question.transactions.length;
  if (!Array.isArray(held) || held.length !== count) {
    throw new ProtocolError(`${doing}: it must speak of ${count} transactions`);
  }
  for (const each of held) {
    if (each !== "same" && each !== "other" && each !== "unknown") {
      throw new ProtocolError(`${doing}: expected "same", "other" or "unknown", found ${show(each)}`);
    }
  }
  return held;
}

/** @throws ProtocolError */
export function checkDigest(digest: unknown): void {
  checkDigits(digest, DIGEST_DIGITS, "digest", "Cannot compare the histories");
}

function checkMarks(marks: unknown, limit: number, doing: string): asserts marks is Mark[] {
  if (!Array.isArray(marks) || marks.length > limit) {
    throw new ProtocolError(`${doing}: it may name at most ${limit} transactions`);
  }
  let recordCount = 0;
  for (const mark of marks) {
    const { tid, body, packed, records } = fieldsOf(mark, doing);
    checkDigits(tid, TID_DIGITS, "tid", doing);
    checkDigits(body, DIGEST_DIGITS, "digest", doing);
    if (typeof packed !== "boolean") throw new ProtocolError(`${doing}: "packed" must be true or false`);
    if (!Array.isArray(records) || records.length > MAX_RECORDS_OF_ONE) {
      throw new ProtocolError(`${doing}: it may name at most ${MAX_RECORDS_OF_ONE} records of a transaction`);
    }
    for (const record of records) {
      const { oid, digest } = fieldsOf(record, doing);
      checkDigits(oid, TID_DIGITS, "oid", doing);
      checkDigits(digest, DIGEST_DIGITS, "digest", doing);
    }
    recordCount += records.length;
  }
  if (recordCount > MAX_RECORDS) {
    throw new ProtocolError(`${doing}: it may name at most ${MAX_RECORDS} records, found ${recordCount}`);
  }
}

/** Tids of equal length sort as text. */
function checkRange(
  marks: readonly Mark[],
  after: string | null,
  before: string | null,
  doing: string,
): void {
  let last = after ?? formatTid(NO_TID);
  for (const { tid } of marks) {
    if (tid <= last || (before !== null && tid >= before)) {
      throw new ProtocolError(
        `${doing}: tids must rise between ${after ?? "the beginning"} and ${
          before ?? "the end"
        }, found ${tid}`,
      );
    }
    last = tid;
  }
}

function fieldsOf(value: unknown, doing: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null) {
    throw new ProtocolError(`${doing}: expected an object, found ${show(value)}`);
  }
  return value as Record<string, unknown>;
}

function checkDigits(value: unknown, pattern: RegExp, what: string, doing: string): void {
  if (typeof value !== "string" || !pattern.test(value)) {
    throw new ProtocolError(`${doing}: ${show(value)} is no ${what}`);
  }
}

/** A value of the other end's in an error message: short, whatever it is. */
function show(value: unknown): string {
  return typeof value === "string" ? JSON.stringify(value.slice(0, 40)) : `a ${typeof value}`;
}
