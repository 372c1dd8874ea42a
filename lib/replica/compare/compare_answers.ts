/**
 * A source's answers to whoever compares a copy with it. Each answer costs a stretch of the file at most, and all of
 * one connection a few times the file: a peer that only wants us to work is let go.
 */
import { ProtocolError, UnavailableError } from "../../errors.ts";
import {
  type BlobDirectory,
  ComparedFile,
  ContentDigester,
  digestBlob,
  digestHistory,
  FIRST_POSITION,
  locateTid,
  type LogView,
  type Place,
  TransactionReader,
  walkingReader,
  Window,
} from "../../filestorage/mod.ts";
import { formatTid, parseTid, STATUS } from "../../zodb/mod.ts";
import {
  type BlobsAnswer,
  type BlobsQuestion,
  checkCompareQuestion,
  type ContentAnswer,
  type ContentEntry,
  type ContentQuestion,
  type DigestAnswer,
  type DigestQuestion,
  MAX_ENTRIES,
  MAX_RECORD_ENTRIES,
  MAX_TEXT,
  type RecordEntry,
} from "./compare_messages.ts";

/** A digest covers no more than so many bytes of the file at once, but for a single transaction. */
const MAX_STRETCH_BYTES = 64 * 1024 * 1024;
/** Transactions are told one by one up to so many bytes. */
const MAX_CONTENT_BYTES = 16 * 1024 * 1024;
/** One connection may have the whole file read so many times, and so many bytes more. */
const MAX_READINGS = 4;
const MORE_BYTES = 1024 * 1024 * 1024;
/** What finding a transaction costs. */
const QUESTION_COST = 64 * 1024;

export const DIGEST_DIGITS = 32;

export class CompareAnswers {
  readonly #view: LogView;
  readonly #pause: () => Promise<void>;
  readonly #digester: ContentDigester;
  readonly #target: ComparedFile;
  readonly #blobs: BlobDirectory | undefined;
  /** The last blob that was asked for, as one number that grows. */
  #lastBlob = -1n;
  #left: number;
  /** The transaction whose records did not fit into the last answer. */
  #begun:
    | { readonly entry: ContentEntry; readonly reader: TransactionReader; readonly done: number }
    | undefined;

  /**
   * @param view whose generation the caller holds
   * @param pause lets other work run. @throws to end the answer
   * @param blobs where they lie, if this source has them
   */
  constructor(view: LogView, pause: () => Promise<void>, blobs?: BlobDirectory) {
    this.#view = view;
    this.#blobs = blobs;
    this.#pause = pause;
    this.#digester = new ContentDigester(view.generation.file, pause);
    const { lastTid, end, generation: { file } } = view;
    this.#target = new ComparedFile({ path: file.path, file, end, lastTid }, FIRST_POSITION);
    this.#left = MAX_READINGS * view.end + MORE_BYTES;
  }

  /**
   * @param question as it came: anything
   * @throws ProtocolError where it is no question; UnavailableError where there have been too many; CorruptError,
   * DiskError; what `pause` throws
   */
  async answer(question: unknown): Promise<DigestAnswer | ContentAnswer | BlobsAnswer> {
    const asked = checkCompareQuestion(question);
    if (asked.kind === "blobs") return await this.#digestBlobs(asked); // each is read once
    if (this.#left < 0) {
      throw new UnavailableError(
        `Cannot answer any more: comparing has read ${MAX_READINGS} times this file, and more`,
      );
    }
    this.#left -= QUESTION_COST;
    return asked.kind === "digest" ? await this.#digest(asked) : await this.#content(asked);
  }

  async #digestBlobs(question: BlobsQuestion): Promise<BlobsAnswer> {
    const directory = this.#blobs;
    if (directory === undefined) {
      throw new ProtocolError("Cannot answer the question: no blobs are served here");
    }
    const blobs: BlobsAnswer["blobs"][number][] = [];
    for (let bytes = 0; blobs.length < question.blobs.length && bytes < MAX_STRETCH_BYTES;) {
      const [oid, tid] = question.blobs[blobs.length]!.map((each) => BigInt(`0x${each}`)) as [bigint, bigint];
      const place = tid << 64n | oid;
      if (place <= this.#lastBlob) {
        throw new ProtocolError("Cannot answer the question: blobs must be asked for in order, and once");
      }
      this.#lastBlob = place;
      const found = await digestBlob(directory, { oid, tid }, this.#pause);
      if (typeof found === "string") {
        blobs.push(null);
      } else {
        blobs.push([found.bytes, found.digest.slice(0, DIGEST_DIGITS)]);
        bytes += found.bytes;
      }
    }
    return { kind: "blobs", blobs };
  }

  async #digest(question: DigestQuestion): Promise<DigestAnswer> {
    const { file } = this.#view.generation;
    const { from } = await this.#start(question);
    const wanted = parseTid(question.through);
    const stretch = { from, through: wanted, maxBytes: MAX_STRETCH_BYTES };
    const found = await digestHistory({ file, end: this.#view.end }, stretch, this.#pause);
    this.#left -= found.end - from;
    const next = this.#tidAt(found.end);
    const isWhole = next === undefined || next > wanted;
    return {
      kind: "digest",
      through: formatTid(isWhole ? wanted : found.lastTid),
      transactions: found.transactions,
      digest: found.digest.slice(0, DIGEST_DIGITS),
      packed: found.isPacked,
    };
  }

  async #content(question: ContentQuestion): Promise<ContentAnswer> {
    const { before, from } = await this.#start(question);
    const through = parseTid(question.through);
    const reader = this.#reader();
    const transactions: ContentEntry[] = [];
    let records = 0;
    let position = from;
    let whole = true;
    let packedAfter: boolean | null = null;
    while (position < this.#view.end) {
      const state = reader.read(position);
      if (state !== "whole") throw reader.notWhole(state);
      position = reader.end;
      if (reader.status === STATUS.undone) continue;
      if (reader.tid > through) {
        packedAfter = reader.status === STATUS.packed;
        break;
      }
      const isFull = transactions.length === MAX_ENTRIES || records >= MAX_RECORD_ENTRIES ||
        transactions.length > 0 && position - from > MAX_CONTENT_BYTES;
      if (isFull) {
        whole = false;
        break;
      }
      const skip = transactions.length === 0 ? question.skip : 0;
      const room = question.records ? MAX_RECORD_ENTRIES - records : 0;
      const entry = await this.#entry(reader, skip, room);
      transactions.push(entry);
      records += entry.records.length;
      if (question.records && skip + entry.records.length < entry.count) {
        whole = false;
        break;
      }
    }
    if (question.skip === 0) this.#left -= position - from;
    const packedBefore = before === undefined ? null : before.status === STATUS.packed;
    return { kind: "content", transactions, whole, packedBefore, packedAfter };
  }

  /** @param room so many records are told, of those behind the first `skip` */
  async #entry(reader: TransactionReader, skip: number, room: number): Promise<ContentEntry> {
    const begun = this.#begun;
    if (begun !== undefined && begun.entry.position === reader.position && begun.done === skip) {
      return await this.#records(begun.entry, begun.reader, skip, room);
    }
    const { user, description } = reader.head();
    const { digest, records: count } = await this.#digester.transaction(reader);
    const texts = this.#digester.texts(reader);
    const entry: ContentEntry = {
      tid: formatTid(reader.tid),
      position: reader.position,
      packed: reader.status === STATUS.packed,
      digest: digest.slice(0, DIGEST_DIGITS),
      texts: texts.slice(0, DIGEST_DIGITS),
      user: beginningOf(user),
      description: beginningOf(description),
      count,
      records: [],
    };
    reader.rewindRecords();
    for (let at = 0; at < skip && reader.nextRecord() >= 0; at++);
    return await this.#records(entry, reader, skip, room);
  }

  async #records(
    entry: ContentEntry,
    reader: TransactionReader,
    skip: number,
    room: number,
  ): Promise<ContentEntry> {
    const records: RecordEntry[] = [];
    while (records.length < room && reader.nextRecord() >= 0) {
      const digest = (await this.#digester.record(reader)).slice(0, DIGEST_DIGITS);
      this.#target.resolveAt(reader.recordPosition, reader.oidHigh, reader.oidLow);
      const { length } = this.#target.spot(reader.recordPosition);
      records.push([formatTid(reader.oid), digest, length ?? null]);
    }
    const done = skip + records.length;
    this.#begun = records.length > 0 && done < entry.count ? { entry, reader, done } : undefined;
    return { ...entry, records };
  }

  /** Where the range begins, and the transaction before it. */
  async #start(
    { after }: DigestQuestion | ContentQuestion,
  ): Promise<{ before: Place | undefined; from: number }> {
    if (after === null) return { before: undefined, from: FIRST_POSITION };
    const { end, generation } = this.#view;
    const reader = walkingReader(generation.file, end);
    const location = await locateTid(reader, end, parseTid(after), generation.map, this.#pause);
    const before = location.kind === "found" ? location.place : location.before;
    return { before, from: before?.end ?? FIRST_POSITION };
  }

  /** The tid of the first transaction from a position on that counts. */
  #tidAt(from: number): bigint | undefined {
    const reader = this.#reader();
    for (let position = from; position < this.#view.end; position = reader.end) {
      const state = reader.read(position);
      if (state !== "whole") throw reader.notWhole(state);
      if (reader.status !== STATUS.undone) return reader.tid;
    }
    return undefined;
  }

  #reader(): TransactionReader {
    return new TransactionReader(new Window(this.#view.generation.file, this.#view.end));
  }
}

/** Some of a text, fit for a message: what is no UTF-8 becomes replacement characters. */
export function beginningOf(text: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(text.subarray(0, 4 * MAX_TEXT)).slice(
    0,
    MAX_TEXT,
  );
}
