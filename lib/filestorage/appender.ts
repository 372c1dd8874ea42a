/**
 * Growing a Data.fs by whole transactions, so that after any crash it is a valid FileStorage that holds a
 * prefix of what was appended (docs/architecture.md, "Promises").
 *
 * A run of transactions is appended in this order:
 * 1. the fence: a bare header with status 'c' and a length beyond any file, synced. From now on every reader
 *    and every recovery, Python's too, stops here, whatever a crash leaves of the bytes behind;
 * 2. the run, its first transaction with status 'c' in the fence's place, synced;
 * 3. that one status byte, synced. With it the whole run counts.
 *
 * When the next run is waiting already its fence travels with step 3, so a busy replica pays two syncs a run.
 * Without the fence a crash could keep a run's later blocks and lose the block with its first header: Python
 * refuses such a file as damaged.
 *
 * Survives: crashes and power loss at any point, disks that run full (nothing is appended, try again later).
 * A failed sync is final: what it should have made durable may be gone, so nothing is appended any more.
 */
import { viewOf, writeU64 } from "../bytes/mod.ts";
import { DiskError, DiskFullError } from "../errors.ts";
import type { BlockFile } from "../ports/mod.ts";
import { STATUS } from "../zodb/mod.ts";
import { TRANSACTION } from "./layout.ts";
import { truncateSafely } from "./recover.ts";

/** Whole transactions as bytes in the layout of the file. */
export interface Run {
  /** The first byte's position in the file. */
  readonly position: number;
  /** Lent to the appender until `append` is done: nobody writes into it before. */
  readonly bytes: Uint8Array;
  readonly transactions: number;
  readonly firstTid: bigint;
  readonly lastTid: bigint;
}

/**
 * The most that a run of several transactions may have. Whoever opens the file for following looks back so far
 * for a run whose first transaction is not final.
 */
export const MAX_RUN_BYTES = 16 * 1024 * 1024;

/** From so many bytes on a write in another thread costs less than the time it takes. */
const LARGE_BYTES = 128 * 1024;

/** A length that no file reaches, yet small enough for every reader to add to. */
const BEYOND_ANY_FILE = 2 ** 52;

export class Appender {
  readonly file: BlockFile;
  #end: number;
  #lastTid: bigint;
  #fenced = false;
  /** The end of what has been written of a large transaction; 0 when there is none. */
  #partsEnd = 0;
  #failure: DiskError | undefined;
  readonly #beginAt: (position: number, lastTid: bigint) => void;

  /**
   * @param end the end of the file's last whole transaction; the file has been cut there
   * @param lastTid that transaction's tid
   * @param beginAt told where a transaction is to begin, and the tid before, when nothing of it is written yet
   */
  constructor(
    file: BlockFile,
    end: number,
    lastTid: bigint,
    beginAt: (position: number, lastTid: bigint) => void = () => {},
  ) {
    this.file = file;
    this.#end = end;
    this.#lastTid = lastTid;
    this.#beginAt = beginAt;
  }

  /** The end of the last transaction that is durable. */
  get end(): number {
    return this.#end;
  }

  /** The tid of the last transaction that is durable. */
  get lastTid(): bigint {
    return this.#lastTid;
  }

  /** Why nothing can be appended any more. */
  get failure(): DiskError | undefined {
    return this.#failure;
  }

  /** Appends nothing from now on. @returns what whoever tries is told */
  giveUp(error: unknown): DiskError {
    return this.#fail(error);
  }

  /**
   * Appends a run that begins at {@link end}. Resolves when it is durable.
   * @param fenceNext asked after the run is durable but for its status byte: true when more is waiting
   * @throws DiskFullError nothing has been appended, the same run may be tried again
   * @throws DiskError final
   */
  async append(run: Run, fenceNext: () => boolean): Promise<void> {
    if (run.position !== this.#end) throw new RangeError("A run must begin where the file ends");
    if (run.bytes.length > MAX_RUN_BYTES && run.transactions > 1) {
      throw new RangeError(`A run must have at most ${MAX_RUN_BYTES} bytes, not ${run.bytes.length}`);
    }
    await this.#fence();
    await this.#writeRun(run);
    await this.#sync();
    const end = run.position + run.bytes.length;
    await this.#finish(run.bytes[TRANSACTION.status]!, end, run.lastTid, fenceNext());
  }

  /**
   * Begins a transaction too large for a buffer. What is written with {@link writePart} does not count before
   * {@link finishLarge}.
   * @throws DiskFullError, DiskError
   */
  async beginLarge(): Promise<void> {
    await this.#fence();
  }

  /** Writes a part of the large transaction at its position, behind the header's 23 bytes. */
  writePart(bytes: Uint8Array, position: number): void {
    if (position < this.#end + TRANSACTION.size) throw new RangeError("A part must lie behind the header");
    this.#write(bytes, position, position); // parts written before stay, so that this one can be tried again
    this.#partsEnd = Math.max(this.#partsEnd, position + bytes.length);
  }

  /**
   * Finishes the large transaction that begins at {@link end}.
   * @param header its 23 bytes, lengths and final status included
   * @param end the position behind its trailer, which has been written
   * @throws DiskFullError, DiskError
   */
  async finishLarge(header: Uint8Array, end: number, fenceNext: () => boolean): Promise<void> {
    this.#check();
    const voted = header.slice();
    voted[TRANSACTION.status] = STATUS.voted;
    this.file.truncate(end); // parts that were taken back may lie behind it
    this.#write(voted, this.#end, end);
    await this.#sync();
    const status = header[TRANSACTION.status]!;
    const isCancelled = status === STATUS.undone; // it lies in the file, and is none
    const tid = isCancelled ? this.#lastTid : viewOf(header).getBigUint64(TRANSACTION.tid);
    await this.#finish(status, end, tid, fenceNext());
  }

  /**
   * Takes away what lies behind the last whole transaction: a fence, parts of a transaction that never came whole.
   * @throws DiskError final
   */
  async cut(): Promise<void> {
    this.#fenced = false;
    this.#partsEnd = 0;
    if (this.#failure !== undefined || this.file.size() <= this.#end) return;
    try {
      await truncateSafely(this.file, this.#end);
    } catch (error) {
      throw this.#fail(error);
    }
  }

  /**
   * Takes back the transactions behind `end`, where one of them begins. Each step is synced before the next:
   * 1. the status of the first of them becomes 'c', one byte: with it none of them counts;
   * 2. its length becomes that of a fence. Nobody can take the 'c' for damage any more, however much follows;
   * 3. its tid becomes the last one, as in any fence;
   * 4. the file is cut.
   * @param lastTid the tid of the last transaction before `end`
   * @throws DiskError final
   */
  async takeBack(end: number, lastTid: bigint): Promise<void> {
    this.#check();
    if (end > this.#end) {
      throw new RangeError(`Cannot take back what is behind ${end}: the end is ${this.#end}`);
    }
    await this.cut();
    if (end === this.#end) return;
    const { tid, length, status } = TRANSACTION;
    const fence = fenceAfter(lastTid);
    try {
      for (const [from, to] of [[status, status + 1], [length, status], [tid, length]] as const) {
        this.file.writeAt(fence.subarray(from, to), end + from);
        await this.file.sync();
      }
      await truncateSafely(this.file, end);
    } catch (error) {
      throw this.#fail(error);
    }
    this.#end = end;
    this.#lastTid = lastTid;
  }

  async #fence(): Promise<void> {
    this.#check();
    if (this.#fenced) return;
    this.#writeFence(this.#end, this.#lastTid);
    await this.#sync();
    this.#fenced = true;
  }

  async #finish(status: number, end: number, tid: bigint, fenceNext: boolean): Promise<void> {
    // The byte lies within a file that is as long as it will be, so running full is not among the failures.
    // After any other it is open whether the run counts: nothing may be appended behind it.
    try {
      this.file.writeAt(new Uint8Array([status]), this.#end + TRANSACTION.status);
    } catch (error) {
      throw this.#failOpenEnded(error);
    }
    this.#fenced = false;
    let fenced = false;
    if (fenceNext) {
      try {
        this.#writeFence(end, tid);
        fenced = true;
      } catch {
        // No room for it now; the next append tries again and says so.
      }
    }
    try {
      await this.file.sync();
    } catch (error) {
      throw this.#failOpenEnded(error);
    }
    this.#end = end;
    this.#lastTid = tid;
    this.#partsEnd = 0;
    this.#fenced = fenced;
  }

  #writeFence(position: number, lastTid: bigint): void {
    this.#beginAt(position, lastTid);
    this.#write(fenceAfter(lastTid), position, position);
  }

  /**
   * Writes a run, in the file with status 'c' first. The run's own bytes stay as they are: whoever lays down
   * the next one reads them meanwhile.
   */
  async #writeRun({ bytes, position }: Run): Promise<void> {
    const header = bytes.slice(0, TRANSACTION.size);
    header[TRANSACTION.status] = STATUS.voted;
    const rest = bytes.subarray(TRANSACTION.size);
    try {
      this.file.writeAt(header, position);
      if (rest.length < LARGE_BYTES) this.file.writeAt(rest, position + TRANSACTION.size);
      else await this.file.write(rest, position + TRANSACTION.size);
      // What a failure left, and could not take away, must not come to stand behind a whole transaction.
      const end = position + bytes.length;
      if (this.file.size() > end) this.file.truncate(end);
    } catch (error) {
      this.#leave(this.#end + TRANSACTION.size); // the header there is in the fence's place, and says 'c' like it
      throw error;
    }
  }

  /** Writes, or leaves the file with nothing behind `keep`, so that others have the room. */
  #write(bytes: Uint8Array, position: number, keep: number): void {
    this.#check();
    try {
      this.file.writeAt(bytes, position);
    } catch (error) {
      this.#leave(keep);
      throw error;
    }
  }

  /** What lies before `keep` stays, and every part of a large transaction that has been written. */
  #leave(keep: number): void {
    if (keep <= this.#end) this.#fenced = false;
    try {
      this.file.truncate(Math.max(keep, this.#partsEnd));
    } catch {
      // The first failure is the one worth telling; what lies behind the end does not count anyway.
    }
  }

  async #sync(): Promise<void> {
    try {
      await this.file.sync();
    } catch (error) {
      throw this.#fail(error);
    }
  }

  /**
   * After this nobody can say whether the run counts on disk, and the system's cache may go on showing that it
   * does. Its status goes back to 'c', so that whoever opens the file next takes it away instead of trusting it.
   */
  #failOpenEnded(error: unknown): DiskError {
    try {
      this.file.writeAt(new Uint8Array([STATUS.voted]), this.#end + TRANSACTION.status);
    } catch {
      // The first failure is the one worth telling.
    }
    return this.#fail(error);
  }

  /** A disk that is full is no reason to try again here: what the failed sync was to keep may be gone. */
  #fail(error: unknown): DiskError {
    this.#failure ??= error instanceof DiskError && !(error instanceof DiskFullError) ? error : new DiskError(
      `Cannot go on writing ${this.file.path}: ${error instanceof Error ? error.message : error}`,
      { path: this.file.path, cause: error },
    );
    return this.#failure;
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}

/** The fence repeats the last tid: Python takes the tid of a header it rejects for the file's last one. */
function fenceAfter(lastTid: bigint): Uint8Array {
  const fence = new Uint8Array(TRANSACTION.size);
  const view = viewOf(fence);
  view.setBigUint64(TRANSACTION.tid, lastTid);
  writeU64(view, TRANSACTION.length, BEYOND_ANY_FILE);
  fence[TRANSACTION.status] = STATUS.voted;
  return fence;
}
