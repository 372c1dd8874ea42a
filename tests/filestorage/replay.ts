/**
 * Restores the transactions of one file at the end of another, the way a stream and its receiver do: what a
 * record's data is comes by value, with the tid of the revision that has the same. Buffers and runs may be as
 * small as a test wants, and the next run is laid down while the last is being written.
 */
import { RecordReader, Restorer, type Storage } from "../../lib/filestorage/mod.ts";
import { RECORD } from "../../lib/filestorage/layout.ts";
import { STATUS } from "../../lib/zodb/mod.ts";
import { readerOf, sourceOf } from "./bytes_source.ts";

export interface ReplayOptions {
  /** What the restorer's buffers hold at first; default 1 MiB. */
  readonly bufferBytes?: number;
  /** The next run length in bytes: whole transactions are taken, or one under way is spilled, when it is reached. */
  readonly runBytes?: () => number;
  /** The next part of a record's data in bytes; default: all of it. */
  readonly partBytes?: () => number;
  /** Only transactions after this tid. */
  readonly after?: bigint;
  /** Asked before each part of a record's data: true breaks the transaction off, and begins it again. */
  readonly breaksOff?: () => boolean;
}

/** What happened on the way, so that a test can tell that it has tested what it meant to. */
export interface Replayed {
  runs: number;
  /** Transactions that were written in parts. */
  large: number;
  /** Transactions that were broken off, and of these the ones that had been written in part. */
  brokenOff: number;
  cut: number;
}

export async function replay(
  source: Uint8Array,
  storage: Storage,
  options: ReplayOptions = {},
): Promise<Replayed> {
  const writer = new RunWriter(storage, options);
  const reader = readerOf(source);
  const target = new RecordReader(sourceOf(source));
  let position = 4;
  transactions: while (reader.read(position) === "whole") {
    if (reader.status === STATUS.undone || reader.tid <= (options.after ?? -1n)) {
      position = reader.end;
      continue;
    }
    writer.restorer.begin(reader.head());
    for (let at = reader.nextRecord(); at >= 0; at = reader.nextRecord()) {
      const { oidHigh, oidLow, recordPosition, dataLength, backPointer } = reader;
      const tid = reader.window.view.getBigUint64(at + RECORD.tid);
      let data = source.subarray(recordPosition + RECORD.size, recordPosition + RECORD.size + dataLength);
      let dataTid: bigint | undefined;
      if (backPointer !== 0) {
        target.read(backPointer, oidHigh, oidLow);
        dataTid = target.tid;
        if (target.resolve(oidHigh, oidLow)) {
          data = source.subarray(target.dataPosition, target.dataPosition + target.dataLength);
        }
      }
      writer.restorer.record(oidHigh, oidLow, tid, dataTid, data.length);
      await writer.settle();
      for (let from = 0; from < data.length;) {
        if (options.breaksOff?.()) {
          await writer.breakOff();
          continue transactions;
        }
        const to = Math.min(data.length, from + (options.partBytes?.() ?? data.length));
        writer.restorer.data(data, from, to);
        from = to;
        await writer.settle();
      }
      writer.restorer.endRecord();
    }
    writer.restorer.commit();
    position = reader.end;
    await writer.settle();
  }
  await writer.finish();
  return writer.replayed;
}

/** Takes runs and spills parts as the options say. */
export class RunWriter {
  readonly restorer: Restorer;
  readonly replayed: Replayed = { runs: 0, large: 0, brokenOff: 0, cut: 0 };
  readonly #storage: Storage;
  readonly #runBytes: () => number;
  #limit: number;
  #writing: Promise<void> | undefined;

  constructor(storage: Storage, options: ReplayOptions) {
    this.#storage = storage;
    this.#runBytes = options.runBytes ?? (() => 64 * 1024);
    this.#limit = this.#runBytes();
    const bufferBytes = options.bufferBytes ?? 1 << 20;
    this.restorer = new Restorer(storage.file, storage.index, storage.end, storage.lastTid, bufferBytes);
  }

  /** Makes room when the run is long enough. */
  async settle(): Promise<void> {
    const { restorer } = this;
    if (restorer.length < this.#limit) return;
    this.#limit = this.#runBytes();
    if (restorer.largeEnd !== undefined) {
      await this.#finishLarge();
    } else if (restorer.hasWhole) {
      await this.#take();
    } else if (restorer.isOpen) {
      await this.#writing;
      await this.#storage.beginLarge();
      restorer.spill((bytes, position) => this.#storage.writePart(bytes, position));
    }
  }

  /** Forgets the transaction under way, as when a connection is lost. */
  async breakOff(): Promise<void> {
    this.replayed.brokenOff++;
    if (!this.restorer.abort()) return;
    await this.#writing;
    await this.#storage.cut();
    this.replayed.cut++;
  }

  async finish(): Promise<void> {
    if (this.restorer.largeEnd !== undefined) await this.#finishLarge();
    if (this.restorer.hasWhole) await this.#take();
    await this.#writing;
  }

  async #take(): Promise<void> {
    await this.#writing;
    const run = this.restorer.take();
    this.replayed.runs++;
    this.#writing = this.#storage.append(run, () => this.restorer.hasWhole)
      .then(() => this.restorer.giveBack(run));
    this.#writing.catch(() => {}); // whoever waits for it learns of it
  }

  async #finishLarge(): Promise<void> {
    const large = this.restorer.largeEnd!;
    this.replayed.large++;
    this.restorer.spillLast((bytes, position) => this.#storage.writePart(bytes, position));
    await this.#storage.finishLarge(large, () => this.restorer.hasWhole);
    this.restorer.largeFinished();
  }
}
