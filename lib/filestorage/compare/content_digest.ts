/**
 * Digests of what a transaction says (content_feed.ts), and of what a record does: the same in every copy. Both are
 * SHA-256.
 *
 * The digest of a transaction's body leaves lengths and texts out, unless it has no records: a copy made by
 * ZODB's own tools can hold the extension pickled anew. The digest of a record covers its oid, length and data. A
 * pack removes records, so it changes the digests of a transaction, but never that of a record it leaves.
 */
import { createHash } from "node:crypto";
import { ContentFeed, type ReadRecord } from "./content_feed.ts";
import type { TransactionReader } from "../transaction.ts";
import type { ByteSource } from "../window.ts";

/** What is known of a transaction's content. Digests are 64 lower-case hexadecimal digits. */
export interface ContentDigest {
  readonly digest: string;
  /** Of tid and records alone; where there is no record, the same as `digest`. */
  readonly body: string;
  /** How many records it has. */
  readonly records: number;
}

/** Computes digests of one file's transactions, one after the other. */
export class ContentDigester {
  readonly #feed: ContentFeed;
  readonly #pause: () => Promise<void>;

  /** @param pause lets other work run while much is digested */
  constructor(source: ByteSource, pause: () => Promise<void>) {
    this.#feed = new ContentFeed(source);
    this.#pause = pause;
  }

  /**
   * @param reader has read the transaction, which is whole; it is moved through the records
   * @throws CorruptError, DiskError
   */
  async transaction(reader: TransactionReader): Promise<ContentDigest> {
    const feed = this.#feed;
    const whole = createHash("sha256");
    const body = createHash("sha256");
    feed.direct(whole, body);
    feed.putTid(reader);
    feed.direct(whole);
    feed.putTexts(reader);
    feed.direct(whole, body);
    feed.beginRecords(reader);
    await this.#run();
    const { records } = feed;
    const digest = whole.digest("hex");
    return { digest, body: records === 0 ? digest : body.digest("hex"), records };
  }

  /**
   * As the `digest` of {@link transaction}, at half the cost.
   * @param reader has read the transaction, which is whole; it is moved through the records
   * @throws CorruptError, DiskError
   */
  async whole(reader: TransactionReader): Promise<string> {
    const feed = this.#feed;
    const hash = createHash("sha256");
    feed.direct(hash);
    feed.putTid(reader);
    feed.putTexts(reader);
    feed.beginRecords(reader);
    await this.#run();
    return hash.digest("hex");
  }

  /**
   * The digest of user, description and extension, and their lengths, as they lie in the file.
   * @param reader has read the transaction
   * @returns 64 hexadecimal digits
   * @throws CorruptError, DiskError
   */
  texts(reader: TransactionReader): string {
    const hash = createHash("sha256");
    this.#feed.direct(hash);
    this.#feed.putTexts(reader);
    this.#feed.flush();
    return hash.digest("hex");
  }

  /**
   * @param record its header
   * @returns 64 hexadecimal digits
   * @throws CorruptError, DiskError
   */
  async record(record: ReadRecord): Promise<string> {
    const hash = createHash("sha256");
    this.#feed.direct(hash);
    this.#feed.beginRecord(record);
    await this.#run();
    return hash.digest("hex");
  }

  async #run(): Promise<void> {
    while (!this.#feed.run()) await this.#pause();
    this.#feed.flush();
  }
}
