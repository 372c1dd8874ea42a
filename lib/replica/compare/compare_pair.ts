/** Comparing one transaction of a copy with what a source tells of the same one: digests in place of data. */
import { equalBytes } from "../../bytes/mod.ts";
import { ProtocolError } from "../../errors.ts";
import {
  type ComparedFile,
  type ContentDigester,
  type Difference,
  lastRecords,
  type MetadataField,
  ObjectIndex,
  type Readable,
  type RecordDifference,
  RecordReader,
  saysTheSame,
} from "../../filestorage/mod.ts";
import { formatTid, parseTid, type TransactionHead } from "../../zodb/mod.ts";
import { beginningOf, DIGEST_DIGITS } from "./compare_answers.ts";
import type { ContentAnswer, ContentEntry, ContentQuestion, RecordEntry } from "./compare_messages.ts";

/** What is known of a transaction of the source's. */
export interface SourceTransaction extends Omit<ContentEntry, "position"> {
  /** Undefined where the source does not tell. */
  readonly position: number | undefined;
  /** The whole texts, where they have come. */
  readonly head?: TransactionHead;
}

/** So many objects with two records in one transaction, of which the first differs, are kept in mind. */
const MAX_PENDING = 1_000;

export class PairComparison {
  readonly #log: Readable;
  readonly #digester: ContentDigester;
  readonly #ask: (question: ContentQuestion) => Promise<ContentAnswer>;
  /** How many transactions so far have other digests, and are the same as far as packs have left them. */
  explained = 0;
  /** How many have an extension that says the same in other bytes. */
  rewritten = 0;

  constructor(
    log: Readable,
    digester: ContentDigester,
    ask: (question: ContentQuestion) => Promise<ContentAnswer>,
  ) {
    this.#log = log;
    this.#digester = digester;
    this.#ask = ask;
  }

  /**
   * @param file at the transaction
   * @throws CorruptError where it is damaged; ProtocolError where the source contradicts itself; DiskError
   */
  async compare(file: ComparedFile, entry: SourceTransaction): Promise<Difference | undefined> {
    const { reader } = file;
    const digest = await this.#digester.whole(reader);
    if (digest.startsWith(entry.digest)) return undefined;
    const where = { ...ownUser(file), tid: reader.tid, here: reader.position, there: entry.position };
    const texts = this.#digester.texts(reader);
    const isRewritten = !texts.startsWith(entry.texts);
    if (isRewritten && !isSameInOtherWords(reader.head(), entry.head)) {
      return { ...where, kind: "metadata", fields: differingFields(where, entry) };
    }
    const isPacked = file.isPacked || entry.packed;
    const difference = isPacked ? await this.#byObject(file, entry) : await this.#strictly(file, entry);
    if (difference !== undefined) return { ...where, ...difference };
    if (isRewritten) this.rewritten++;
    else if (!isPacked) {
      throw new ProtocolError(
        `Cannot compare with the source: the digest that it gives of ${entry.tid} is not that of the records it shows`,
      );
    }
    this.explained++;
    return undefined;
  }

  async #strictly(file: ComparedFile, entry: SourceTransaction): Promise<RecordDifference | undefined> {
    const { reader } = file;
    reader.rewindRecords();
    for await (const [oid, digest, length] of this.#recordsOf(entry)) {
      const recordThere = { position: undefined, length: length ?? undefined };
      const oidThere = parseTid(oid);
      if (reader.nextRecord() < 0) {
        return { kind: "record", oidHere: undefined, recordHere: undefined, oidThere, recordThere };
      }
      file.resolve();
      const recordHere = file.spot(reader.recordPosition);
      if (reader.oid !== oidThere) {
        return { kind: "record", oidHere: reader.oid, recordHere, oidThere, recordThere };
      }
      if (await this.#ownDigest(reader) !== digest) {
        return { kind: "data", oid: oidThere, recordHere, recordThere, offset: undefined };
      }
    }
    return reader.nextRecord() < 0 ? undefined : onlyHere(file);
  }

  /** Where a pack has been: each object's last record counts, and what only an unpacked end has may be gone. */
  async #byObject(file: ComparedFile, entry: SourceTransaction): Promise<RecordDifference | undefined> {
    const { reader } = file;
    const last = lastRecords(file);
    const seen = new ObjectIndex();
    const pending = new Map<bigint, RecordDifference>();
    /** Told last, as in a comparison of two files. */
    let missing: RecordDifference | undefined;
    const target = new RecordReader(this.#log.file);
    for await (const [oidDigits, digest, length] of this.#recordsOf(entry)) {
      const oid = parseTid(oidDigits);
      const recordThere = { position: undefined, length: length ?? undefined };
      const [high, low] = [Number(oid >> 32n), Number(oid & 0xffff_ffffn)];
      const position = last.get(high, low);
      if (position === 0) {
        if (!file.isPacked) {
          missing ??= {
            kind: "record",
            oidHere: undefined,
            recordHere: undefined,
            oidThere: oid,
            recordThere,
          };
        }
        continue;
      }
      seen.set(high, low, position);
      target.read(position, high, low);
      const { dataLength, backPointer } = target;
      const own = { oidHigh: high, oidLow: low, recordPosition: position, dataLength, backPointer };
      if (await this.#ownDigest(own) === digest) {
        pending.delete(oid);
        continue;
      }
      file.resolveAt(position, high, low);
      pending.set(oid, {
        kind: "data",
        oid,
        recordHere: file.spot(position),
        recordThere,
        offset: undefined,
      });
      if (pending.size > MAX_PENDING) break;
    }
    const [first] = pending.values();
    if (first !== undefined || entry.packed) return first ?? missing;
    reader.rewindRecords();
    while (reader.nextRecord() >= 0) {
      if (seen.get(reader.oidHigh, reader.oidLow) === 0) return onlyHere(file);
    }
    return missing;
  }

  async #ownDigest(record: Parameters<ContentDigester["record"]>[0]): Promise<string> {
    return (await this.#digester.record(record)).slice(0, DIGEST_DIGITS);
  }

  /** All records of a transaction of the source's, of which the entry may name the first. */
  async *#recordsOf(entry: SourceTransaction): AsyncGenerator<RecordEntry> {
    const tid = parseTid(entry.tid);
    let known = entry.records;
    for (let done = 0;;) {
      yield* known;
      done += known.length;
      if (done >= entry.count) return;
      const { transactions: [next] } = await this.#ask({
        kind: "content",
        after: tid === 0n ? null : formatTid(tid - 1n),
        through: entry.tid,
        records: true,
        skip: done,
      });
      if (next?.tid !== entry.tid || next.count !== entry.count || next.digest !== entry.digest) {
        throw new ProtocolError(`Cannot compare with the source: it shows ${entry.tid} in two ways`);
      }
      known = next.records;
    }
  }
}

/** User and description of the current transaction. */
export function ownUser(file: ComparedFile): { user: Uint8Array; description: Uint8Array } {
  const { user, description } = file.reader.head();
  return { user, description };
}

function onlyHere(file: ComparedFile): RecordDifference {
  const { oid, recordPosition } = file.reader;
  file.resolve();
  const recordHere = file.spot(recordPosition);
  return { kind: "record", oidHere: oid, recordHere, oidThere: undefined, recordThere: undefined };
}

/** Whether only the bytes of the extension differ, and not what they say. */
function isSameInOtherWords(own: TransactionHead, other: TransactionHead | undefined): boolean {
  return other !== undefined && equalBytes(own.user, other.user) &&
    equalBytes(own.description, other.description) && saysTheSame(own.extension, other.extension);
}

/** Which of the texts differ, as far as the source shows them: their beginnings, and no extension. */
function differingFields(
  own: { readonly user: Uint8Array; readonly description: Uint8Array },
  entry: SourceTransaction,
): MetadataField[] {
  const fields: MetadataField[] = [];
  if (beginningOf(own.user) !== entry.user) fields.push("user");
  if (beginningOf(own.description) !== entry.description) fields.push("description");
  return fields.length === 0 ? ["extension"] : fields;
}
