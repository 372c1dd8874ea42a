/**
 * A naive writer of a Data.fs that behaves as Python's FileStorage does, as far as a reader of the file can
 * tell. It runs as a process of a simulated machine, pauses between its writes so that others see every state
 * between, and keeps a {@link SourceHistory}.
 *
 *     const history = new SourceHistory(scheduler);
 *     machine.start("writer", async (ports, signal) => {
 *       const source = await NaiveSource.open(ports, "/db/Data.fs", history);
 *       await source.commit([{ oid: 1n, data }]);
 *       await source.abort([{ oid: 1n, data }]);
 *       await source.undo(history.lastTid);
 *       await source.pack(history.transactions[3].tid);
 *       await source.work({ transactions: 50, random }, signal);    // any of these, by chance
 *       source.close();
 *     });
 *
 * A vote writes the transaction with status 'c', whole or in pieces, without a sync. A finish flips the
 * status byte and then syncs; so readers see what a power loss may still take. An abort truncates. Opening
 * truncates a torn tail, saved as .trN; a file that Python would refuse to open is repaired by cutting it
 * before the damage, as an administrator might.
 */
import type { BlockFile } from "../../lib/ports/mod.ts";
import { BLOB_RECORD } from "./blobs.ts";
import type { Ports } from "./machine.ts";
import type { SeededRandom } from "./random.ts";
import {
  COMMITTED,
  encode,
  MAGIC,
  type NaiveRecord,
  type Scan,
  scan,
  STATUS_OFFSET,
  tidAt,
  VOTED,
} from "./source_format.ts";
import type { SourceHistory } from "./source_history.ts";
import { packedFile } from "./source_pack.ts";

/** One object's new state; no data deletes it. */
export interface ObjectChange {
  readonly oid: bigint;
  readonly data: Uint8Array | undefined;
}

export interface CommitTexts {
  readonly user?: Uint8Array;
  readonly description?: Uint8Array;
  readonly extension?: Uint8Array;
}

export interface SourceOptions {
  /** Whether finishing a transaction syncs the file, as Python does; true unless given. */
  readonly syncs?: boolean;
  /** Whether a pack syncs the file and the directory, which Python does not; true unless given. */
  readonly syncsPack?: boolean;
  /** Puts a blob's file into its place, durably; needed where there are blobs. */
  readonly placeBlob?: (oid: bigint, tid: bigint) => void;
  /** How likely it pauses between two writes, and for how long at most; 0.5 and 2 ms unless given. */
  readonly pauses?: { readonly likelihood: number; readonly mostMs: number };
}

export interface Work {
  /** How many transactions are begun, aborted ones and undos included. */
  readonly transactions: number;
  readonly random: SeededRandom;
  /** The mean pause between two of them; 20 ms unless given. */
  readonly everyMs?: number;
  /** How likely a step is a pack; 0.02 unless given. */
  readonly packs?: number;
  /** How likely a transaction is aborted; 0.15 unless given. */
  readonly aborts?: number;
  /** How likely it is an undo; 0.1 unless given. */
  readonly undos?: number;
  /** How likely an object's new state is tens of kilobytes long; 0.1 unless given. */
  readonly large?: number;
  /** How likely an object's new state is a blob; 0 unless given. */
  readonly blobs?: number;
}

/** Objects from here on are blobs. */
const FIRST_BLOB_OID = 100n;
const NOTHING = new Uint8Array(0);
/** `{'k': 1}` as ZODB pickles it. */
const EXTENSION = new Uint8Array([
  0x80,
  3,
  0x7d,
  0x71,
  0,
  0x58,
  1,
  0,
  0,
  0,
  0x6b,
  0x71,
  1,
  0x4b,
  1,
  0x73,
  0x2e,
]);

export class NaiveSource {
  readonly #ports: Ports;
  readonly #path: string;
  readonly #history: SourceHistory;
  readonly #options: SourceOptions;
  #file: BlockFile;
  /** Where each object's current record lies. */
  #index = new Map<bigint, number>();
  /** Where the next transaction begins. */
  #end = MAGIC.length;
  #lastTid = 0n;

  private constructor(
    ports: Ports,
    path: string,
    history: SourceHistory,
    options: SourceOptions,
    file: BlockFile,
  ) {
    this.#ports = ports;
    this.#path = path;
    this.#history = history;
    this.#options = options;
    this.#file = file;
  }

  /** Opens the file, or creates it, and recovers it after a crash. */
  static async open(
    ports: Ports,
    path: string,
    history: SourceHistory,
    options: SourceOptions = {},
  ): Promise<NaiveSource> {
    const { disk } = ports;
    disk.lock(`${path}.lock`);
    // A power loss between a pack's two renames leaves no Data.fs; the administrator puts one in place.
    for (const other of [`${path}.pack`, `${path}.old`]) {
      if (disk.status(path) === undefined && disk.status(other) !== undefined) {
        disk.rename(other, path);
        await disk.syncDirectory(directoryOf(path));
      }
    }
    if (disk.status(path) === undefined) {
      const file = disk.create(path);
      file.writeAt(MAGIC, 0);
      await file.sync();
      await disk.syncDirectory(directoryOf(path));
      history.recovered({ transactions: [], end: MAGIC.length, outcome: "whole" }, "created");
      return new NaiveSource(ports, path, history, options, file);
    }
    const source = new NaiveSource(ports, path, history, options, disk.openWrite(path));
    await source.#recover();
    return source;
  }

  get lastTid(): bigint {
    return this.#lastTid;
  }

  /** Commits a transaction. @returns its tid */
  async commit(changes: readonly ObjectChange[], texts: CommitTexts = {}): Promise<bigint> {
    const { tid, bytes, starts, records } = await this.#vote(this.#records(changes), texts);
    await this.#finish(tid, bytes);
    records.forEach((record, i) => this.#index.set(record.oid, starts[i]!));
    return tid;
  }

  /** Votes, and then aborts; sometimes in the middle of the vote. */
  async abort(changes: readonly ObjectChange[], texts: CommitTexts = {}): Promise<void> {
    const stopAfter = this.#ports.random.unit() < 0.3 ? this.#ports.random.unit() : 1;
    await this.#vote(this.#records(changes), texts, stopAfter);
    await this.#pause();
    this.#file.truncate(this.#end);
    this.#history.aborts++;
  }

  /**
   * Undoes a transaction as far as its records are still the current ones.
   * @returns the undo's own tid; undefined when nothing can be undone
   */
  async undo(tid: bigint): Promise<bigint | undefined> {
    const found = this.#scan().transactions.find((transaction) => transaction.tid === tid);
    if (found === undefined || found.status !== COMMITTED) return undefined;
    const current = found.records.filter((record) => this.#index.get(record.oid) === record.position);
    if (current.length === 0) return undefined;
    const records = current.map(({ oid, position, previous }): NaiveRecord => ({
      oid,
      previous: position,
      payload: { backPointer: previous },
    }));
    const description = new TextEncoder().encode("undo");
    const voted = await this.#vote(records, { description });
    await this.#finish(voted.tid, voted.bytes);
    records.forEach((record, i) => this.#index.set(record.oid, voted.starts[i]!));
    return voted.tid;
  }

  /** Packs away what is not current at `stop`. @returns whether there was anything to do */
  async pack(stop: bigint): Promise<boolean> {
    const { disk } = this.#ports;
    disk.remove(`${this.#path}.old`);
    const packed = packedFile(this.#scan().transactions, stop);
    if (packed === undefined) return false;
    disk.remove(`${this.#path}.pack`);
    const output = disk.create(`${this.#path}.pack`);
    await this.#writeInPieces(output, packed, 0);
    if (this.#options.syncsPack ?? true) {
      await output.sync();
      await disk.syncDirectory(directoryOf(this.#path));
    }
    this.#file.close();
    disk.rename(this.#path, `${this.#path}.old`);
    await this.#pause();
    disk.rename(`${this.#path}.pack`, this.#path);
    output.close();
    this.#file = disk.openWrite(this.#path);
    const result = scan(packed);
    const lastTid = this.#lastTid;
    this.#adopt(result);
    this.#lastTid = lastTid; // also when its transaction has been packed away
    this.#history.packed(result);
    if (this.#options.syncsPack ?? true) await disk.syncDirectory(directoryOf(this.#path));
    return true;
  }

  /** Does this and that until it is done or told to stop. */
  async work(work: Work, signal: AbortSignal): Promise<void> {
    const { random, everyMs = 20, packs = 0.02, aborts = 0.15, undos = 0.1, large, blobs } = work;
    for (let i = 0; i < work.transactions && !signal.aborted; i++) {
      const transactions = this.#history.transactions;
      if (transactions.length > 0 && random.chance(packs)) await this.pack(random.pick(transactions).tid);
      if (transactions.length > 0 && random.chance(undos)) {
        await this.undo(random.pick(transactions.slice(-3)).tid);
      } else if (random.chance(aborts)) {
        await this.abort(randomChanges(random, large, blobs), randomTexts(random));
      } else await this.commit(randomChanges(random, large, blobs), randomTexts(random));
      if (random.chance(0.7)) await this.#sleep(2 * everyMs * random.unit());
    }
  }

  close(): void {
    this.#file.close();
  }

  #records(changes: readonly ObjectChange[]): NaiveRecord[] {
    return changes.map(({ oid, data }): NaiveRecord => ({
      oid,
      previous: this.#index.get(oid) ?? 0,
      payload: data === undefined ? { backPointer: 0 } : { data },
    }));
  }

  /** @param part how much of the transaction gets written, from 0 to 1 */
  async #vote(records: readonly NaiveRecord[], texts: CommitTexts, part = 1) {
    const now = tidAt(this.#ports.clock.now());
    const tid = now > this.#lastTid ? now : this.#lastTid + 1n;
    this.#lastTid = tid;
    for (const { oid } of records) if (oid >= FIRST_BLOB_OID) this.#options.placeBlob?.(oid, tid);
    const { user = NOTHING, description = NOTHING, extension = NOTHING } = texts;
    const { bytes, starts } = encode(
      { tid, status: VOTED, user, description, extension, records },
      this.#end,
    );
    await this.#writeInPieces(this.#file, bytes.subarray(0, Math.ceil(bytes.length * part)), this.#end);
    return { tid, bytes, starts, records };
  }

  async #finish(tid: bigint, bytes: Uint8Array): Promise<void> {
    await this.#pause();
    bytes[STATUS_OFFSET] = COMMITTED;
    this.#file.writeAt(new Uint8Array([COMMITTED]), this.#end + STATUS_OFFSET);
    this.#history.visible(tid, this.#end, bytes);
    const count = this.#history.transactions.length;
    await this.#pause();
    if (this.#options.syncs ?? true) {
      await this.#file.sync();
      this.#history.synced(count);
    }
    this.#end += bytes.length;
  }

  /** Small ones mostly at once; large ones a header and pieces. */
  async #writeInPieces(file: BlockFile, bytes: Uint8Array, position: number): Promise<void> {
    const { random } = this.#ports;
    const whole = bytes.length < 4_096 && random.unit() < 0.6;
    for (let at = 0; at < bytes.length;) {
      const most = at === 0 ? Math.min(bytes.length, 64) : Math.min(bytes.length - at, 65_536);
      const length = whole ? bytes.length : Math.ceil(most * (0.3 + 0.7 * random.unit()));
      file.writeAt(bytes.subarray(at, at + length), position + at);
      at += length;
      if (at < bytes.length) await this.#pause();
    }
  }

  async #recover(): Promise<void> {
    const size = this.#file.size();
    if (size === 0) this.#file.writeAt(MAGIC, 0);
    const result = upToFalling(this.#scan());
    if (result.outcome !== "whole") {
      const end = Math.max(result.end, MAGIC.length);
      const tail = new Uint8Array(Math.max(0, size - end));
      this.#file.readAt(tail, end);
      if (tail.length >= 23) this.#saveTail(tail);
      if (result.end === 0) this.#file.writeAt(MAGIC, 0);
      this.#file.truncate(end);
    }
    this.#adopt(result);
    await this.#pause();
    this.#history.recovered(result, result.outcome);
  }

  #saveTail(tail: Uint8Array): void {
    let number = 0;
    while (this.#ports.disk.status(`${this.#path}.tr${number}`) !== undefined) number++;
    using saved = this.#ports.disk.create(`${this.#path}.tr${number}`);
    saved.writeAt(tail, 0);
  }

  #scan(): Scan {
    const bytes = new Uint8Array(this.#file.size());
    this.#file.readAt(bytes, 0);
    return scan(bytes);
  }

  #adopt(result: Scan): void {
    this.#end = Math.max(result.end, MAGIC.length);
    this.#index = new Map();
    for (const record of result.transactions.flatMap((transaction) => transaction.records)) {
      this.#index.set(record.oid, record.position);
    }
    this.#lastTid = result.transactions.at(-1)?.tid ?? 0n;
  }

  async #pause(): Promise<void> {
    const { likelihood, mostMs } = this.#options.pauses ?? { likelihood: 0.5, mostMs: 2 };
    if (this.#ports.random.unit() < likelihood) await this.#sleep(mostMs * this.#ports.random.unit());
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#ports.clock.schedule(ms, resolve));
  }
}

/** A few changes to forty objects: small ones mostly, now and then a large one, none, or one object twice. */
export function randomChanges(random: SeededRandom, large = 0.1, blobs = 0): ObjectChange[] {
  const count = random.chance(0.03) ? 0 : random.between(1, random.chance(0.1) ? 12 : 4);
  const changes: ObjectChange[] = [];
  for (let i = 0; i < count; i++) {
    if (blobs > 0 && random.chance(blobs)) {
      changes.push({ oid: FIRST_BLOB_OID + BigInt(random.int(5)), data: BLOB_RECORD });
      continue;
    }
    const again = i > 0 && random.chance(0.05);
    const oid = again ? changes[0]!.oid : BigInt(random.int(40));
    const most = random.chance(large) ? 70_000 : random.chance(0.33) ? 3_000 : 200;
    const size = random.between(1, most);
    changes.push({ oid, data: random.chance(0.03) ? undefined : random.bytes(size) });
  }
  return changes;
}

export function randomTexts(random: SeededRandom): CommitTexts {
  const text = () =>
    random.chance(0.5) ? NOTHING : random.bytes(random.int(30)).map((byte) => 0x20 + byte % 0x5f);
  return { user: text(), description: text(), extension: random.chance(0.3) ? EXTENSION : NOTHING };
}

/** Python only warns of a tid that does not rise, which a power loss can make; the administrator cuts there, too. */
function upToFalling(result: Scan): Scan {
  const at = result.transactions.findIndex(({ tid }, i) => tid <= (result.transactions[i - 1]?.tid ?? 0n));
  if (at < 0) return result;
  const transactions = result.transactions.slice(0, at);
  return { transactions, end: result.transactions[at]!.position, outcome: "damaged" };
}

function directoryOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}
