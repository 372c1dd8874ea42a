/**
 * A Data.fs to which transactions are applied later than they are received: what has been received is on disk at
 * once, in pending segments beside the file (segment.ts), and the file itself grows by what is due.
 *
 * - {@link DelayedStorage.received} is all there is: to whoever receives and sends on, a Storage like any other.
 * - {@link DelayedStorage.applied} is the Data.fs, which anybody may open once it is let go.
 *
 * Survives: being killed at any point, between or within any two steps. Nothing is applied before it is durable in
 * a segment, and no segment goes before all of it is durable in the Data.fs. Refuses: segments that do not continue
 * this very Data.fs, because somebody else has written to it; nothing is removed then.
 */
import { equalBytes } from "../../bytes/mod.ts";
import { CorruptError, DivergedError, UsageError, ZrsError } from "../../errors.ts";
import type { Disk } from "../../ports/mod.ts";
import { describeTid, STATUS } from "../../zodb/mod.ts";
import type { Run } from "../appender.ts";
import { JoinedFile } from "./joined_file.ts";
import { JoinedReader, Segment } from "./joined_reader.ts";
import { TRANSACTION } from "../layout.ts";
import { lastTidAt, walkingReader } from "../locate.ts";
import type { Patience } from "../recover.ts";
import { findSegments, type FoundSegment, missingSegment, segmentPaths } from "./segment.ts";
import { Storage } from "../storage.ts";
import { TransactionReader } from "../transaction.ts";
import { Window } from "../window.ts";

export interface DelayedOptions extends Patience {
  /** From so many bytes on a segment is followed by another; default: 64 MiB. */
  readonly segmentBytes?: number | undefined;
}

/** So much is applied at once; a larger transaction goes to the file in parts. */
const RUN_BYTES = 4 * 1024 * 1024;

export class DelayedStorage implements AsyncDisposable {
  readonly applied: Storage;
  readonly received: Storage;
  readonly #joined: JoinedFile;
  readonly #resources: AsyncDisposableStack;
  /** Looks at what waits. */
  readonly #reader: TransactionReader;
  #buffer: Uint8Array | undefined;

  private constructor(
    applied: Storage,
    received: Storage,
    joined: JoinedFile,
    resources: AsyncDisposableStack,
  ) {
    this.applied = applied;
    this.received = received;
    this.#joined = joined;
    this.#resources = resources;
    this.#reader = new TransactionReader(new Window(joined, 0));
  }

  /**
   * Opens a Data.fs, creating it when there is none, with what waits beside it.
   * @throws DivergedError where the segments do not continue this Data.fs, and as {@link Storage.open}
   */
  static async open(disk: Disk, path: string, options: DelayedOptions = {}): Promise<DelayedStorage> {
    await using owned = new AsyncDisposableStack();
    if (disk.status(path) === undefined) refuseWithoutFile(disk, path);
    const applied = owned.use(await Storage.open(disk, path, { ...options, mayHavePending: true }));
    const { segments, torn } = findSegments(disk, path);
    checkContinuation(disk, applied, segments);
    if (torn !== undefined) disk.remove(torn);
    try {
      await applied.saveIndex(); // what has just been scanned need not be scanned once more for the whole
    } catch (error) {
      if (!(error instanceof ZrsError)) throw error;
    }
    const joined = owned.use(new JoinedFile(disk, applied, segments, options.segmentBytes));
    joined.release(applied.end);
    const received = owned.use(
      await Storage.over(disk, {
        path,
        file: joined,
        openReading: () => joined.openReading(),
        beginAt: (position, lastTid) => joined.beginAt(position, lastTid),
      }, options).catch((error) => {
        throw error instanceof CorruptError ? missingSegment(disk, path, error) : error;
      }),
    );
    checkBoundaries(applied, received, segments);
    return new DelayedStorage(applied, received, joined, owned.move());
  }

  /** What has been received and not applied, in bytes. */
  get waitingBytes(): number {
    return this.received.end - this.applied.end;
  }

  /**
   * The tid of the first transaction that has not been applied; undefined when all have, and while that one is being
   * taken back. Damage is for {@link applyNext} to tell.
   */
  get nextTid(): bigint | undefined {
    const reader = this.#reader;
    reader.window.reset(this.#joined, this.received.end);
    for (let position = this.applied.end; position < this.received.end; position = reader.end) {
      if (reader.read(position) !== "whole") return undefined;
      if (reader.status !== STATUS.undone) return reader.tid;
    }
    return undefined;
  }

  /**
   * Applies the next transactions as long as `isDue` says so, no more than fit into a buffer at once. Resolves when
   * they are durable in the Data.fs.
   * @returns whether there were any
   * @throws DiskFullError nothing has been applied, to be tried again; DiskError final; CorruptError
   */
  async applyNext(isDue: (tid: bigint) => boolean): Promise<boolean> {
    const { end } = this.applied;
    const reader = this.#reader;
    reader.window.reset(this.#joined, this.received.end);
    let to = end;
    let transactions = 0;
    let firstTid = this.applied.lastTid;
    let { lastTid } = this.applied;
    while (to < this.received.end) {
      const state = reader.read(to);
      if (state !== "whole") throw reader.notWhole(state);
      const isCancelled = reader.status === STATUS.undone; // it lies in the file, and is none
      if (!isCancelled && !isDue(reader.tid)) break;
      if (transactions > 0 && reader.end - end > RUN_BYTES) break;
      to = reader.end;
      if (!isCancelled) lastTid = reader.tid;
      if (transactions++ === 0) firstTid = lastTid;
      if (to - end > RUN_BYTES) break;
    }
    if (transactions === 0) return false;
    if (to - end > RUN_BYTES) await this.#applyLarge(end, to);
    else await this.#applyRun({ position: end, transactions, firstTid, lastTid }, to - end);
    this.#enterIntoIndex(end, to);
    this.#joined.release(to);
    return true;
  }

  /** Removes the segments if all has been applied: then the Data.fs is as if there had been no delay. @throws DiskError */
  async tidy(): Promise<void> {
    if (this.waitingBytes === 0) await this.#joined.removeAll();
  }

  /** Removes all segments, also what waits in them: the received log must not be used any more. @throws DiskError */
  async discardWaiting(): Promise<void> {
    await this.#joined.removeAll();
  }

  /** Releases the files and the lock; saves nothing. Closing twice is harmless. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }

  async #applyRun(run: Omit<Run, "bytes">, length: number): Promise<void> {
    const bytes = this.#read(run.position, length);
    await this.applied.append({ ...run, bytes }, () => false);
  }

  async #applyLarge(from: number, to: number): Promise<void> {
    const header = this.#read(from, TRANSACTION.size).slice();
    await this.applied.beginLarge();
    for (let position = from + TRANSACTION.size; position < to;) {
      const part = this.#read(position, Math.min(RUN_BYTES, to - position));
      this.applied.writePart(part, position);
      position += part.length;
    }
    await this.applied.finishLarge({ position: from, header, end: to }, () => false);
  }

  /** Valid until the next read. */
  #read(position: number, length: number): Uint8Array {
    this.#buffer ??= new Uint8Array(RUN_BYTES);
    const bytes = this.#buffer.subarray(0, length);
    if (this.#joined.readAt(bytes, position) === length) return bytes;
    throw new CorruptError(
      `Cannot apply what waits for ${this.applied.path}: its segments end before ${position + length}`,
      { path: this.applied.path, position },
    );
  }

  #enterIntoIndex(from: number, to: number): void {
    const reader = this.#reader;
    const { index } = this.applied;
    reader.window.reset(this.#joined, to);
    for (let position = from; position < to; position = reader.end) {
      const state = reader.read(position);
      if (state !== "whole") throw reader.notWhole(state);
      if (reader.status === STATUS.undone) continue;
      while (reader.nextRecord() >= 0) index.set(reader.oidHigh, reader.oidLow, reader.recordPosition);
    }
  }
}

function refuseWithoutFile(disk: Disk, path: string): void {
  const [first] = segmentPaths(disk, path);
  if (first === undefined) return;
  throw new UsageError(
    `Cannot create ${path}: there was a database before, ${first} waits to be applied to it`,
    {
      path,
      hint: `put the database back, or move ${path}.pending.* away to begin anew`,
    },
  );
}

/**
 * What the segments hold of the Data.fs must be what it has, and must go on from there.
 * @throws DivergedError
 */
function checkContinuation(disk: Disk, applied: Storage, segments: readonly FoundSegment[]): void {
  const { path, end, lastTid } = applied;
  const first = segments[0];
  if (first === undefined) return;
  const found = `${path} ends at ${end} with ${describeTid(lastTid)}`;
  if (first.base > end) {
    throw diverged(
      path,
      `${first.path} begins at ${first.base} behind ${describeTid(first.lastTid)}, but ${found}`,
    );
  }
  if (first.base === end && first.lastTid !== lastTid) {
    throw diverged(path, `${first.path} goes on behind ${describeTid(first.lastTid)}, but ${found}`);
  }
  const at = segments.findLastIndex(({ base }) => base <= end);
  const current = segments[at]!;
  if (endOf(current) < end) throw diverged(path, `${current.path} ends at ${endOf(current)}, but ${found}`);
  for (const each of segments.slice(0, at + 1)) checkSame(disk, applied, each);
}

function endOf({ base, length }: FoundSegment): number {
  return base + length;
}

/** What a segment holds of the Data.fs must be what it has. @throws DivergedError */
function checkSame(disk: Disk, { path, file, end }: Storage, segment: FoundSegment): void {
  using reader = new JoinedReader(disk, { path, file, end: 0 }, [new Segment(segment)]);
  const waiting = new Uint8Array(256 * 1024);
  const applied = new Uint8Array(waiting.length);
  const to = Math.min(end, endOf(segment));
  for (let position = segment.base, count = 0; position < to; position += count) {
    const length = Math.min(waiting.length, to - position);
    count = reader.readAt(waiting.subarray(0, length), position);
    const others = file.readAt(applied.subarray(0, length), position);
    if (count === length && others === length && equalBytes(waiting, applied)) continue;
    throw diverged(
      path,
      `${segment.path} holds other bytes from ${position} on than ${path}, which ends at ${end}`,
    );
  }
}

/**
 * Every segment was begun behind the transaction that its header names.
 * @param segments those that were there before the recovery, which removes what lies behind the end that counts
 * @throws CorruptError
 */
function checkBoundaries(applied: Storage, received: Storage, segments: readonly FoundSegment[]): void {
  for (const { base, lastTid, path } of segments) {
    if (base <= applied.end || base > received.end) continue;
    const reader = walkingReader(received.file, base);
    if (lastTidAt(reader, base) === lastTid) continue;
    throw new CorruptError(
      `Cannot read ${path}: it must go on behind ${
        describeTid(lastTid)
      }, which the one before does not end with`,
      { path, position: base, tid: lastTid },
    );
  }
}

function diverged(path: string, problem: string): DivergedError {
  return new DivergedError(
    `Cannot go on with what waits for ${path}: ${problem}. Something else has written there`,
    {
      path,
      hint: `if ${path} is right as it is, move ${path}.pending.* away; else put back the one they belong to`,
    },
  );
}
