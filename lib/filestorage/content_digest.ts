/**
 * Digests of what a transaction says, whatever file it lies in: a copy has the same one, at other positions,
 * with other links to earlier records, with a back pointer where the original has data or the other way round.
 *
 * Both digests are SHA-256; integers are big-endian.
 *
 * | a transaction's                         | bytes                |
 * | --------------------------------------- | -------------------- |
 * | tid                                     | 8                    |
 * | lengths of user, description, extension | 2 each               |
 * | user, description, extension            | as they lie there    |
 * | then for each record, in order: oid     | 8                    |
 * | length of its data                      | 8, all ones for none |
 * | its data                                | as they lie there    |
 *
 * The data of a record with a back pointer are those that it leads to. A record has none where the object does
 * not exist any more: its creation was undone, or it was deleted. Not covered are the status, positions and
 * previous positions, and whether data lay behind a back pointer.
 *
 * The digest of a transaction's body leaves lengths and texts out, unless it has no records: a copy made by
 * ZODB's own tools can hold the extension pickled anew. The digest of a record covers its oid, length and data as
 * above. A pack removes records, so it changes the digests of a transaction, but never that of a record it leaves.
 */
import { createHash, type Hash } from "node:crypto";
import { viewOf, writeU64 } from "../bytes/mod.ts";
import { CorruptError } from "../errors.ts";
import { RECORD, TRANSACTION } from "./layout.ts";
import { RecordReader } from "./revision.ts";
import type { TransactionReader } from "./transaction.ts";
import type { ByteSource } from "./window.ts";

/** What is known of a transaction's content. Digests are 64 lower-case hexadecimal digits. */
export interface ContentDigest {
  readonly digest: string;
  /** Of tid and records alone; where there is no record, the same as `digest`. */
  readonly body: string;
  /** How many records it has. */
  readonly records: number;
}

/** A record whose header has been read: a TransactionReader has it, for one. */
export interface ReadRecord {
  readonly oidHigh: number;
  readonly oidLow: number;
  readonly recordPosition: number;
  readonly dataLength: number;
  readonly backPointer: number;
}

/** Data are read through a buffer of this size, however long they are. */
const BUFFER_BYTES = 64 * 1024;

/** After so many bytes others run. */
const BYTES_BETWEEN_PAUSES = 8 * 1024 * 1024;

/** What walking to a record costs, in bytes of digesting. */
const RECORD_COST = 1024;

const NO_DATA = 0xffff_ffff;

/** Computes digests of one file's transactions, one after the other. */
export class ContentDigester {
  readonly #source: ByteSource;
  readonly #pause: () => Promise<void>;
  readonly #target: RecordReader;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  readonly #view = viewOf(this.#buffer);
  #filled = 0;
  #hashes: Hash[] = [];
  #sincePause = 0;

  /** @param pause lets other work run while much is digested */
  constructor(source: ByteSource, pause: () => Promise<void>) {
    this.#source = source;
    this.#target = new RecordReader(source);
    this.#pause = pause;
  }

  /**
   * @param reader has read the transaction, which is whole; it is moved through the records
   * @throws CorruptError, DiskError
   */
  async transaction(reader: TransactionReader): Promise<ContentDigest> {
    const whole = createHash("sha256");
    const body = createHash("sha256");
    this.#hashes = [whole, body];
    await this.#stretch(reader.position + TRANSACTION.tid, 8);
    this.#flush();
    this.#hashes = [whole];
    // The three lengths and the three texts lie side by side.
    const metadataLength = reader.headLength - TRANSACTION.userLength;
    await this.#stretch(reader.position + TRANSACTION.userLength, metadataLength);
    this.#flush();
    this.#hashes = [whole, body];
    let records = 0;
    reader.rewindRecords();
    while (reader.nextRecord() >= 0) {
      await this.#record(reader);
      records++;
    }
    this.#flush();
    const digest = whole.digest("hex");
    return { digest, body: records === 0 ? digest : body.digest("hex"), records };
  }

  /**
   * As the `digest` of {@link transaction}, at half the cost.
   * @param reader has read the transaction, which is whole; it is moved through the records
   * @throws CorruptError, DiskError
   */
  async whole(reader: TransactionReader): Promise<string> {
    const hash = createHash("sha256");
    this.#hashes = [hash];
    await this.#stretch(reader.position + TRANSACTION.tid, 8);
    // The three lengths and the three texts lie side by side.
    const metadataLength = reader.headLength - TRANSACTION.userLength;
    await this.#stretch(reader.position + TRANSACTION.userLength, metadataLength);
    reader.rewindRecords();
    while (reader.nextRecord() >= 0) await this.#record(reader);
    this.#flush();
    return hash.digest("hex");
  }

  /**
   * The digest of user, description and extension, and their lengths, as they lie in the file.
   * @param reader has read the transaction
   * @returns 64 hexadecimal digits
   * @throws CorruptError, DiskError
   */
  async texts(reader: TransactionReader): Promise<string> {
    const hash = createHash("sha256");
    this.#hashes = [hash];
    await this.#stretch(
      reader.position + TRANSACTION.userLength,
      reader.headLength - TRANSACTION.userLength,
    );
    this.#flush();
    return hash.digest("hex");
  }

  /**
   * @param reader has moved to the record
   * @returns 64 hexadecimal digits
   * @throws CorruptError, DiskError
   */
  async record(reader: ReadRecord): Promise<string> {
    const hash = createHash("sha256");
    this.#hashes = [hash];
    await this.#record(reader);
    this.#flush();
    return hash.digest("hex");
  }

  async #record(reader: ReadRecord): Promise<void> {
    const { oidHigh, oidLow, recordPosition } = reader;
    let dataPosition = recordPosition + RECORD.size;
    let dataLength = reader.dataLength;
    let exists = true;
    if (dataLength === 0) {
      exists = reader.backPointer !== 0;
      if (exists) {
        const target = this.#target;
        target.read(reader.backPointer, oidHigh, oidLow);
        exists = target.resolve(oidHigh, oidLow);
        dataPosition = target.dataPosition;
        dataLength = target.dataLength;
        if (dataPosition + dataLength > recordPosition) {
          throw new CorruptError(
            `Cannot read the data record at ${target.position}: its data of ${dataLength} bytes reach beyond ` +
              `the record at ${recordPosition} that has a back pointer to it`,
            { position: target.position },
          );
        }
      }
    }
    if (this.#filled + 16 > BUFFER_BYTES) this.#flush();
    const view = this.#view;
    view.setUint32(this.#filled, oidHigh);
    view.setUint32(this.#filled + 4, oidLow);
    if (exists) {
      writeU64(view, this.#filled + 8, dataLength);
    } else {
      view.setUint32(this.#filled + 8, NO_DATA);
      view.setUint32(this.#filled + 12, NO_DATA);
    }
    this.#filled += 16;
    this.#sincePause += RECORD_COST;
    if (exists) await this.#stretch(dataPosition, dataLength);
  }

  /** Takes in a stretch of the file. */
  async #stretch(position: number, length: number): Promise<void> {
    for (let done = 0; done < length;) {
      if (this.#filled === BUFFER_BYTES) this.#flush();
      const count = Math.min(BUFFER_BYTES - this.#filled, length - done);
      const into = this.#buffer.subarray(this.#filled, this.#filled + count);
      if (this.#source.readAt(into, position + done) < count) {
        throw new CorruptError(
          `Cannot read ${length} bytes at ${position}: the file ends before`,
          { position },
        );
      }
      this.#filled += count;
      done += count;
      this.#sincePause += count;
      if (this.#sincePause >= BYTES_BETWEEN_PAUSES) {
        this.#sincePause = 0;
        await this.#pause();
      }
    }
  }

  #flush(): void {
    const bytes = this.#buffer.subarray(0, this.#filled);
    for (const hash of this.#hashes) hash.update(bytes);
    this.#filled = 0;
  }
}
