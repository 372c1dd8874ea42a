/**
 * What a checker asks a source of its history, and the answers (docs/native_protocol.md, "Comparing a copy with its
 * source"). As in lineage_messages.ts, tids and oids are 16 lower-case hexadecimal digits, digests the first 32.
 *
 * What comes from the other end is checked here before anything is done with it.
 */
import { ProtocolError } from "../../errors.ts";
import { MAX_BLOBS_ASKED } from "../../filestorage/mod.ts";

/** Transactions later than one tid (null: from the first on) and not later than another. */
interface Range {
  readonly after: string | null;
  readonly through: string;
}

/** The digest of a stretch of history. */
export interface DigestQuestion extends Range {
  readonly kind: "digest";
}

/** The transactions one by one, oldest first, as many as a message holds. */
export interface ContentQuestion extends Range {
  readonly kind: "content";
  /** Each transaction's records, too; of the first one from this number on. */
  readonly records: boolean;
  readonly skip: number;
}

/** Blobs by oid and tid of their records: in the order of tids, then of oids, and none twice in a conversation. */
export interface BlobsQuestion {
  readonly kind: "blobs";
  readonly blobs: readonly (readonly [oid: string, tid: string])[];
}

export type CompareQuestion = DigestQuestion | ContentQuestion | BlobsQuestion;

export interface DigestAnswer {
  readonly kind: "digest";
  /** Where the stretch ends: as asked, or at an earlier transaction, where it would have been too much at once. */
  readonly through: string;
  readonly transactions: number;
  readonly digest: string;
  /** A pack has copied one of the transactions. */
  readonly packed: boolean;
}

/** An object, the digest of its record, and the length of its data; null where it does not exist any more. */
export type RecordEntry = readonly [oid: string, digest: string, length: number | null];

export interface ContentEntry {
  readonly tid: string;
  /** In the source's file. */
  readonly position: number;
  readonly packed: boolean;
  readonly digest: string;
  /** Of user, description and extension. */
  readonly texts: string;
  /** The beginnings of user and description. */
  readonly user: string;
  readonly description: string;
  /** How many records the transaction has. */
  readonly count: number;
  /** Those that were asked for and that the message had room for. */
  readonly records: readonly RecordEntry[];
}

export interface ContentAnswer {
  readonly kind: "content";
  readonly transactions: readonly ContentEntry[];
  /** There are no others in the range. */
  readonly whole: boolean;
  /** Whether the transactions just outside the range have been copied by a pack; null where there is none. */
  readonly packedBefore: boolean | null;
  readonly packedAfter: boolean | null;
}

/** Length and digest of the first ones that were asked for, one at least; null where there is no file to be read. */
export interface BlobsAnswer {
  readonly kind: "blobs";
  readonly blobs: readonly (readonly [bytes: number, digest: string] | null)[];
}

/** Transactions, and records of all of them, in one message; with texts of three bytes a character it just fits. */
export const MAX_ENTRIES = 32;
export const MAX_RECORD_ENTRIES = 400;
/** Characters of a text. */
export const MAX_TEXT = 60;

const TID_DIGITS = /^[0-9a-f]{16}$/;
const DIGEST_DIGITS = /^[0-9a-f]{32}$/;

/** @throws ProtocolError where it is no question */
export function checkCompareQuestion(question: unknown): CompareQuestion {
  const fields = new Checked(question, "Cannot answer the question");
  if (fields.values["kind"] === "blobs") {
    const isBlob = (value: unknown) => isList(value, 2) && value.length === 2 && value.every(isTid);
    const isRight = (value: unknown) =>
      isList(value, MAX_BLOBS_ASKED) && value.length > 0 && value.every(isBlob);
    fields.check("blobs", isRight, "a list of blobs");
    return question as BlobsQuestion;
  }
  fields.check("after", (value) => value === null || isTid(value), "a tid or null");
  fields.check("through", isTid, "a tid");
  const { kind } = fields.values;
  if (kind === "content") {
    fields.check("records", isBoolean, "true or false");
    fields.check("skip", isCount, "a count");
  } else if (kind !== "digest") {
    throw new ProtocolError(`Cannot answer the question: its kind must be "digest" or "content"`);
  }
  return question as CompareQuestion;
}

/** @throws ProtocolError where it is no answer to that question */
export function checkDigestAnswer(answer: unknown, question: DigestQuestion): DigestAnswer {
  const fields = new Checked(answer, "Cannot use the answer");
  fields.check("kind", (value) => value === "digest", `"digest"`);
  fields.check("through", isTid, "a tid");
  fields.check("transactions", isCount, "a count");
  fields.check("digest", isDigest, "a digest");
  fields.check("packed", isBoolean, "true or false");
  const found = answer as DigestAnswer;
  if (found.through > question.through || question.after !== null && found.through <= question.after) {
    throw new ProtocolError(
      `Cannot use the answer: it must end behind ${question.after ?? "the beginning"} and not behind ` +
        `${question.through}, and ends with ${found.through}`,
    );
  }
  return found;
}

/** @throws ProtocolError where it is no answer to that question */
export function checkBlobsAnswer(answer: unknown, { blobs: asked }: BlobsQuestion): BlobsAnswer {
  const fields = new Checked(answer, "Cannot use the answer");
  const isBlob = (value: unknown) =>
    value === null || isList(value, 2) && value.length === 2 && isCount(value[0]) && isDigest(value[1]);
  const isRight = (value: unknown) => isList(value, asked.length) && value.length > 0 && value.every(isBlob);
  fields.check("kind", (value) => value === "blobs", `"blobs"`);
  fields.check("blobs", isRight, `a list of 1 to ${asked.length} blobs`);
  return answer as BlobsAnswer;
}

/** @throws ProtocolError where it is no answer to that question */
export function checkContentAnswer(answer: unknown, question: ContentQuestion): ContentAnswer {
  const doing = "Cannot use the answer";
  const fields = new Checked(answer, doing);
  fields.check("kind", (value) => value === "content", `"content"`);
  fields.check("whole", isBoolean, "true or false");
  for (const name of ["packedBefore", "packedAfter"]) {
    fields.check(name, (value) => value === null || isBoolean(value), "true, false or null");
  }
  fields.check("transactions", (value) => isList(value, MAX_ENTRIES), "a list of transactions");
  const found = answer as ContentAnswer;
  let last = question.after ?? "";
  let records = 0;
  found.transactions.forEach((entry: unknown, at) => {
    const { tid, count } = checkEntry(entry, doing);
    const skipped = at === 0 ? question.skip : 0;
    if (tid <= last || tid > question.through) {
      throw new ProtocolError(
        `${doing}: tids must rise up to ${question.through}, found ${tid} behind ${last}`,
      );
    }
    last = tid;
    const given = found.transactions[at]!.records.length;
    records += given;
    if (!question.records) return;
    const isLast = at === found.transactions.length - 1;
    if (skipped + given > count || !isLast && skipped + given < count) {
      throw new ProtocolError(`${doing}: ${tid} must have ${count} records, found ${skipped + given}`);
    }
  });
  if (records > MAX_RECORD_ENTRIES) throw new ProtocolError(`${doing}: it has ${records} records`);
  const first = found.transactions[0];
  const isStuck = first === undefined
    ? !found.whole
    : question.records && first.records.length === 0 && question.skip < first.count;
  if (isStuck) throw new ProtocolError(`${doing}: it leaves something out and gives nothing`);
  return found;
}

function checkEntry(entry: unknown, doing: string): ContentEntry {
  const fields = new Checked(entry, doing);
  fields.check("tid", isTid, "a tid");
  fields.check("position", isCount, "a position");
  fields.check("packed", isBoolean, "true or false");
  fields.check("digest", isDigest, "a digest");
  fields.check("texts", isDigest, "a digest");
  fields.check("user", isText, "a text");
  fields.check("description", isText, "a text");
  fields.check("count", isCount, "a count");
  fields.check(
    "records",
    (value) => isList(value, MAX_RECORD_ENTRIES) && value.every(isRecord),
    "a list of records",
  );
  return entry as ContentEntry;
}

class Checked {
  readonly values: Record<string, unknown>;
  readonly #doing: string;

  constructor(value: unknown, doing: string) {
    if (typeof value !== "object" || value === null) {
      throw new ProtocolError(`${doing}: expected an object, found a ${typeof value}`);
    }
    this.values = value as Record<string, unknown>;
    this.#doing = doing;
  }

  check(name: string, isRight: (value: unknown) => boolean, expected: string): void {
    if (isRight(this.values[name])) return;
    throw new ProtocolError(`${this.#doing}: its field ${name} must be ${expected}`);
  }
}

function isTid(value: unknown): boolean {
  return typeof value === "string" && TID_DIGITS.test(value);
}

function isDigest(value: unknown): boolean {
  return typeof value === "string" && DIGEST_DIGITS.test(value);
}

function isBoolean(value: unknown): boolean {
  return typeof value === "boolean";
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isText(value: unknown): boolean {
  return typeof value === "string" && value.length <= MAX_TEXT;
}

function isList(value: unknown, limit: number): value is unknown[] {
  return Array.isArray(value) && value.length <= limit;
}

function isRecord(value: unknown): boolean {
  return Array.isArray(value) && value.length === 3 && isTid(value[0]) && isDigest(value[1]) &&
    (value[2] === null || isCount(value[2]));
}
