/**
 * Building transactions for the end of a Data.fs from what a stream tells of them, as ZODB's `restore` does:
 * each record linked to the object's previous one in this file, and data that another revision has already
 * replaced by a back pointer to it. A replica made so from nothing is byte-identical with a source that was
 * never packed (docs/filestorage_format.md, "Restoring").
 *
 * Transactions are laid down in a {@link RunBuffer}, and whole ones taken away as a {@link Run}. One that outgrows the
 * buffer is spilled to the file in parts. Nothing here waits or does output; who drives it does.
 */
import { viewOf, writeU64 } from "../bytes/mod.ts";
import { MAX_METADATA_LENGTH, STATUS, type TransactionHead } from "../zodb/mod.ts";
import type { Run } from "./appender.ts";
import { BACK_POINTER_SIZE, FIRST_POSITION, RECORD, TRAILER_SIZE, TRANSACTION } from "./layout.ts";
import type { ObjectIndex } from "./index/object_index.ts";
import { PendingRecords } from "./pending_records.ts";
import { type ExamineRecord, forEachRecord, RawChecker } from "./raw_run.ts";
import { RevisionFinder } from "./revision_finder.ts";
import { TransactionReader } from "./transaction.ts";
import { RunBuffer } from "./run_buffer.ts";
import { type ByteSource, Window } from "./window.ts";

/** What a transaction too large for the buffer needs to be finished. */
export interface LargeEnd {
  /** Where the transaction begins. */
  readonly position: number;
  /** The transaction header's 23 bytes, final. */
  readonly header: Uint8Array;
  /** The position behind the trailer. */
  readonly end: number;
}

/** What has come of a transaction that comes as bytes and is too large for the buffer. */
export interface BegunTransaction {
  readonly tid: bigint;
  /** Where it begins. */
  readonly position: number;
  /** How many of its bytes have come. */
  readonly bytes: number;
}

export class Restorer {
  readonly #index: ObjectIndex;
  /** The file as it will be. */
  readonly #source: ByteSource;
  readonly #finder: RevisionFinder;
  readonly #checker: RawChecker;
  readonly #buffer: RunBuffer;
  #lastTid: bigint;
  #finishedTid: bigint;

  #open = false;
  /** The transaction under way comes as bytes of another file, or several do. */
  #isRaw = false;
  #transactionPosition = 0;
  /** Whether the file, the transaction under way included, holds nothing but what a pack has copied. */
  #allPacked: boolean | undefined;
  #status = 0;
  readonly #pending = new PendingRecords();
  /** The header of the transaction under way, once its other bytes have been spilled. */
  #spilledHeader: Uint8Array | undefined;
  #largeEnd: LargeEnd | undefined;

  #recordPosition = 0;
  #oidHigh = 0;
  #oidLow = 0;
  #recordTid = 0n;
  #dataTid: bigint | undefined;
  #previous = 0;
  #dataLength = 0;

  /**
   * @param file the file's bytes, for comparing data with what is there
   * @param index all objects below `end`; whole transactions are entered before they are written
   * @param end the position at which the file will grow
   * @param lastTid the tid of the last transaction before
   */
  constructor(file: ByteSource, index: ObjectIndex, end: number, lastTid: bigint, bufferBytes: number) {
    this.#index = index;
    this.#buffer = new RunBuffer(end, bufferBytes);
    this.#lastTid = lastTid;
    this.#finishedTid = lastTid;
    this.#source = { readAt: (into, position) => this.#buffer.readAt(file, into, position, this.#patches()) };
    this.#finder = new RevisionFinder(this.#source, index);
    this.#checker = new RawChecker(this.#source, index);
  }

  /** Bytes waiting in the buffer, the transaction under way included. */
  get length(): number {
    return this.#buffer.length;
  }

  /** What the account of the records under way takes, in bytes; no more than a buffer's worth of records. */
  get pendingBytes(): number {
    return this.#pending.memoryBytes;
  }

  /** True while whole transactions wait to be taken. */
  get hasWhole(): boolean {
    return this.#buffer.hasWhole;
  }

  /** True between `begin` and `commit`. */
  get isOpen(): boolean {
    return this.#open;
  }

  /** The transaction under way, where it comes as bytes and has been spilled. */
  get begun(): BegunTransaction | undefined {
    const header = this.#spilledHeader;
    if (!this.#open || !this.#isRaw || header === undefined) return undefined;
    return {
      tid: viewOf(header).getBigUint64(TRANSACTION.tid),
      position: this.#transactionPosition,
      bytes: this.#buffer.end - this.#transactionPosition,
    };
  }

  /** The file as it will be, up to the last byte that has come. */
  get source(): ByteSource {
    return this.#source;
  }

  /** The last whole transaction's tid, written or not. */
  get lastTid(): bigint {
    return this.#finishedTid;
  }

  /** Where the last byte that has come will end. */
  get reach(): number {
    return this.#buffer.end;
  }

  /** Where the file ends once everything whole is written. */
  get end(): number {
    return this.#buffer.wholeEnd;
  }

  /** Starts a transaction; what it is lies in its head. */
  begin(head: TransactionHead): void {
    if (this.#open) throw new RangeError("A transaction is under way");
    const { user, description, extension } = head;
    if (Math.max(user.length, description.length, extension.length) > MAX_METADATA_LENGTH) {
      throw new RangeError(`User, description and extension hold at most ${MAX_METADATA_LENGTH} bytes each`);
    }
    this.#open = true;
    this.#isRaw = false;
    this.#transactionPosition = this.#buffer.end;
    this.#allPacked = head.status === STATUS.packed && (this.#allPacked ?? this.#isAllPacked());
    this.#status = head.status;
    this.#lastTid = head.tid;
    const length = TRANSACTION.size + user.length + description.length + extension.length;
    const at = this.#buffer.reserve(length);
    const { bytes, view } = this.#buffer;
    view.setBigUint64(at + TRANSACTION.tid, head.tid);
    view.setUint8(at + TRANSACTION.status, head.status);
    view.setUint16(at + TRANSACTION.userLength, user.length);
    view.setUint16(at + TRANSACTION.descriptionLength, description.length);
    view.setUint16(at + TRANSACTION.extensionLength, extension.length);
    let offset = at + TRANSACTION.size;
    for (const part of [user, description, extension]) {
      bytes.set(part, offset);
      offset += part.length;
    }
  }

  /** Starts a stretch of transactions that come through {@link data} as they shall lie in this file. */
  beginRaw(): void {
    if (this.#open) throw new RangeError("A transaction is under way");
    this.#open = true;
    this.#isRaw = true;
    this.#transactionPosition = this.#buffer.end;
    this.#allPacked = undefined;
  }

  /**
   * Ends a stretch of transactions as they lie in the source's file, unless one has been {@link begun}. Each counts
   * once it has been checked; when one is refused, those before it stay whole, and {@link abort} forgets the rest.
   * @param examine looks at every record besides
   * @returns how many transactions it had
   * @throws CorruptError, and what `examine` throws
   */
  endRaw(examine: ExamineRecord): number {
    if (this.#spilledHeader !== undefined) throw new RangeError("A large transaction is under way");
    const { base, end } = this.#buffer;
    const checker = this.#checker;
    let position = this.#transactionPosition;
    const bytes = this.#buffer.bytes.subarray(position - base, end - base);
    const reader = new TransactionReader(Window.over(bytes, position));
    const note: ExamineRecord = (reader) => {
      examine(reader);
      this.#pending.add(reader.oidHigh, reader.oidLow, reader.recordPosition);
    };
    let transactions = 0;
    for (; position < end; transactions++) {
      this.#lastTid = checker.check(reader, position, this.#finishedTid, note);
      this.#pending.enterInto(this.#index);
      this.#finishedTid = this.#lastTid;
      position = this.#transactionPosition = reader.end;
      this.#buffer.finish(this.#lastTid, position);
    }
    this.#open = false;
    return transactions;
  }

  /**
   * Ends the transaction that has been {@link begun}: what has come must be that one, and nothing else. Nothing else
   * may be done with the restorer meanwhile.
   * @param examine looks at every record besides
   * @param pause lets other work run, now and then
   * @throws CorruptError, and what `examine` throws: it does not count, and {@link abort} forgets it
   * @throws DiskError where what was spilled cannot be read back: nothing may be restored any more then
   */
  async endLargeRaw(examine: ExamineRecord, pause: () => Promise<void>): Promise<void> {
    const header = this.#spilledHeader;
    if (header === undefined) throw new RangeError("No large transaction is under way");
    const large = { position: this.#transactionPosition, header, end: this.#buffer.end };
    const reader = new TransactionReader(new Window(this.#source, large.end));
    this.#lastTid = await this.#checker.checkLarge(
      reader,
      large.position,
      this.#finishedTid,
      examine,
      pause,
    );
    if (reader.end !== large.end) {
      throw reader.corrupt(`it must end at ${large.end}, found ${reader.end}`);
    }
    if (reader.status !== STATUS.undone) { // the records of a cancelled one are no revisions
      reader.rewindRecords();
      await forEachRecord(reader, pause, () => this.#enterRecord(reader));
    }
    this.#largeEnd = large;
    this.#spilledHeader = undefined;
    this.#buffer.finishSpilled();
    this.#finishedTid = this.#lastTid;
    this.#open = false;
  }

  /**
   * Starts a record. Its data follows in parts, `dataLength` bytes in all, then `endRecord`.
   * @param dataTid the transaction whose revision of the object has the same data, as the source says
   */
  record(
    oidHigh: number,
    oidLow: number,
    tid: bigint,
    dataTid: bigint | undefined,
    dataLength: number,
  ): void {
    this.#recordPosition = this.#buffer.end;
    this.#oidHigh = oidHigh;
    this.#oidLow = oidLow;
    this.#recordTid = tid;
    this.#dataTid = dataTid;
    this.#dataLength = dataLength;
    // Pack writes no links between what it copies (filestorage_format.md, "Packing"). It copies the beginning
    // of a file; packed transactions behind others come from a source that was packed since, and are linked.
    this.#previous = this.#allPacked ? 0 : this.#index.get(oidHigh, oidLow);
    this.#writeRecordHeader(dataLength);
    if (dataLength === 0) this.#writeBackPointer(0);
  }

  /** A part of the record's data, copied before the call returns. */
  data(source: Uint8Array, from: number, to: number): void {
    const at = this.#buffer.reserve(to - from);
    const { bytes } = this.#buffer;
    if (to - from > 64) {
      bytes.set(source.subarray(from, to), at);
    } else {
      for (let i = from, j = at; i < to; i++, j++) bytes[j] = source[i]!;
    }
  }

  /** Ends the record: replaces its data by a back pointer where this file has the same data already. */
  endRecord(): void {
    const position = this.#recordPosition;
    const length = this.#buffer.end - position - RECORD.size;
    if (length !== (this.#dataLength || BACK_POINTER_SIZE)) {
      throw new RangeError(`A record of ${this.#dataLength} bytes was given ${length}`);
    }
    if (this.#dataTid !== undefined) {
      const target = this.#finder.find(this.#oidHigh, this.#oidLow, this.#dataTid, this.#transactionPosition);
      if (target !== 0 && this.#isSameData(target)) {
        this.#buffer.takeBack(position);
        this.#writeRecordHeader(0);
        this.#writeBackPointer(target);
      }
    }
    if (this.#spilledHeader === undefined) this.#pending.add(this.#oidHigh, this.#oidLow, position);
  }

  /**
   * Ends the transaction: from now on it is whole, and its records are in the index.
   * @throws DiskError where a spilled transaction cannot be read back: it is not whole, and nothing may be restored any
   * more, for some of its records are in the index
   */
  commit(): void {
    const position = this.#transactionPosition;
    const buffer = this.#buffer;
    const length = buffer.end - position;
    const trailerAt = buffer.reserve(TRAILER_SIZE); // first: it may replace the buffer
    writeU64(buffer.view, trailerAt, length);
    if (this.#spilledHeader !== undefined) {
      writeU64(viewOf(this.#spilledHeader), TRANSACTION.length, length);
      const large = { position, header: this.#spilledHeader, end: buffer.end };
      this.#indexLarge(large); // before it is whole: what cannot be read back must not count
      this.#largeEnd = large;
      this.#spilledHeader = undefined;
      buffer.finishSpilled();
    } else {
      writeU64(buffer.view, position - buffer.base + TRANSACTION.length, length);
      buffer.finish(this.#lastTid, buffer.end);
      this.#pending.enterInto(this.#index);
    }
    this.#finishedTid = this.#lastTid;
    this.#open = false;
  }

  /**
   * Forgets the transaction under way.
   * @returns true when parts of it have been spilled: the file must be cut
   */
  abort(): boolean {
    if (!this.#open) return false;
    this.#open = false;
    this.#pending.clear();
    this.#lastTid = this.#finishedTid;
    const spilled = this.#spilledHeader !== undefined;
    this.#spilledHeader = undefined;
    this.#buffer.takeBack(spilled ? this.#transactionPosition : this.#buffer.wholeEnd);
    return spilled;
  }

  /**
   * Takes the whole transactions away as a run, whose buffer must come back by {@link giveBack} before the
   * next is taken. What remains is the transaction under way.
   */
  take(): Run {
    if (this.#largeEnd !== undefined) throw new RangeError("A large transaction is to be finished first");
    return this.#buffer.take(this.#finishedTid);
  }

  giveBack(run: Run): void {
    this.#buffer.giveBack(run);
  }

  /**
   * Hands the bytes of the transaction under way to `write`, so that the buffer is free for more of it.
   * Everything whole must have been taken and written before.
   */
  spill(write: (bytes: Uint8Array, position: number) => void): void {
    const buffer = this.#buffer;
    if (buffer.hasWhole || buffer.isLent || !this.#open) throw new RangeError("Nothing to spill");
    let from = 0;
    if (this.#spilledHeader === undefined) {
      if (buffer.length < TRANSACTION.size) return;
      from = TRANSACTION.size;
    }
    write(buffer.bytes.subarray(from, buffer.length), buffer.base + from);
    this.#spilledHeader ??= buffer.bytes.slice(0, TRANSACTION.size);
    this.#pending.clear(); // from here on its bytes in the file say which records it has
    buffer.spilled();
  }

  /** Set once a spilled transaction is whole; its last bytes, up to `end`, still wait in the buffer. */
  get largeEnd(): LargeEnd | undefined {
    return this.#largeEnd;
  }

  /** Hands over the last bytes of a spilled transaction. */
  spillLast(write: (bytes: Uint8Array, position: number) => void): void {
    const large = this.#largeEnd;
    if (large === undefined) throw new RangeError("No large transaction is whole");
    const { bytes, base } = this.#buffer;
    write(bytes.subarray(0, large.end - base), base);
  }

  /** After the large transaction has been finished in the file: goes on with what came behind it. */
  largeFinished(): void {
    const { end } = this.#largeEnd!;
    this.#largeEnd = undefined;
    this.#buffer.dropBefore(end);
  }

  /** Enters the records of a spilled transaction, of which memory has kept no account, by reading it back. */
  #indexLarge({ position, end }: LargeEnd): void {
    const reader = new TransactionReader(new Window(this.#source, end));
    const state = reader.read(position);
    if (state !== "whole") throw reader.corrupt(`it was written in parts, and is read back as ${state}`);
    if (reader.status === STATUS.undone) return; // cancelled: its records are no revisions
    while (reader.nextRecord() >= 0) this.#enterRecord(reader);
  }

  #enterRecord({ oidHigh, oidLow, recordPosition }: TransactionReader): void {
    this.#index.set(oidHigh, oidLow, recordPosition);
  }

  /** Judges the file so far by its first and its last transaction. */
  #isAllPacked(): boolean {
    const end = this.#transactionPosition;
    if (end === FIRST_POSITION) return true;
    const reader = new TransactionReader(new Window(this.#source, end, 64));
    return [FIRST_POSITION, reader.startOf(end)].every((position) =>
      reader.read(position) === "whole" && reader.status === STATUS.packed
    );
  }

  #writeRecordHeader(dataLength: number): void {
    const at = this.#buffer.reserve(RECORD.size);
    const { view } = this.#buffer;
    view.setUint32(at, this.#oidHigh);
    view.setUint32(at + 4, this.#oidLow);
    view.setBigUint64(at + RECORD.tid, this.#recordTid);
    writeU64(view, at + RECORD.previous, this.#previous);
    writeU64(view, at + RECORD.transaction, this.#transactionPosition);
    view.setUint16(at + RECORD.versionLength, 0);
    writeU64(view, at + RECORD.dataLength, dataLength);
  }

  #writeBackPointer(target: number): void {
    const at = this.#buffer.reserve(BACK_POINTER_SIZE);
    writeU64(this.#buffer.view, at, target);
  }

  /** Whether the record at `target`, or the one it leads to, has the data of the record under way. */
  #isSameData(target: number): boolean {
    const data = this.#finder.dataOf(target, this.#oidHigh, this.#oidLow);
    const length = this.#dataLength;
    if (data === undefined) return length === 0;
    if (length === 0 || data.length !== length) return false;
    return this.#finder.isSame(data.position, this.#recordPosition + RECORD.size, length);
  }

  /** What is in the file in another form: headers, in whose place others stand that do not count. */
  #patches(): { readonly position: number; readonly bytes: Uint8Array }[] {
    const large = this.#largeEnd;
    const header = this.#spilledHeader;
    return [
      ...(large === undefined ? [] : [{ position: large.position, bytes: large.header }]),
      ...(header === undefined ? [] : [{ position: this.#transactionPosition, bytes: header }]),
    ];
  }
}
