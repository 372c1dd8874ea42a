/** The packed file in the making: what is kept of the old one, laid down in a new one, as far as it has come. */
import type { BlockFile, ReadableFile } from "../../ports/mod.ts";
import { STATUS } from "../../zodb/mod.ts";
import { FIRST_POSITION } from "../layout.ts";
import type { ObjectIndex } from "../index/object_index.ts";
import type { KeptRecords } from "./reachable.ts";
import type { Patience } from "../recover.ts";
import { TransactionCopier } from "../transaction_copier.ts";
import { TransactionReader } from "../transaction.ts";
import { Window } from "../window.ts";

/** After so many transactions others may run, though a buffer is not full yet. */
const STEPS_BETWEEN_PAUSES = 1000;

export class PackedCopy {
  /** Up to where the old file has been copied. */
  copiedTo = FIRST_POSITION;
  transactionsBefore = 0;
  transactionsAfter = 0;
  readonly #source: ReadableFile;
  readonly #packEnd: number;
  readonly #kept: KeptRecords;
  readonly #copier: TransactionCopier;

  /**
   * @param target a new file
   * @param packEnd where transactions begin that are copied whole
   * @param kept which records of those before are copied
   */
  constructor(target: BlockFile, source: ReadableFile, packEnd: number, kept: KeptRecords) {
    this.#source = source;
    this.#packEnd = packEnd;
    this.#kept = kept;
    this.#copier = new TransactionCopier(target, source);
  }

  get index(): ObjectIndex {
    return this.#copier.index;
  }

  get lastTid(): bigint {
    return this.#copier.lastTid;
  }

  /** Where the new file ends, once everything is written. */
  get end(): number {
    return this.#copier.end;
  }

  /**
   * Copies further, and writes it.
   * @param end of a transaction of the old file
   * @param progress told how far it has come there
   * @throws CorruptError, DiskFullError, DiskError, and the signal's reason
   */
  async extendTo(
    end: number,
    { pause, signal }: Patience,
    progress: (position: number) => void,
  ): Promise<void> {
    const copier = this.#copier;
    const reader = new TransactionReader(new Window(this.#source, end));
    const keeps = ({ oidHigh, oidLow, recordPosition }: TransactionReader) =>
      this.#kept.has(oidHigh, oidLow, recordPosition);
    const early = { status: STATUS.packed, keeps, shares: () => false };
    const late = { shares: () => true };
    for (let steps = 1; this.copiedTo < end; this.copiedTo = reader.end, steps++) {
      const state = reader.read(this.copiedTo);
      if (state !== "whole") throw reader.notWhole(state);
      this.transactionsBefore++;
      const isEarly = this.copiedTo < this.#packEnd;
      if (reader.status !== STATUS.undone && (!isEarly || hasAny(reader, keeps))) {
        copier.copy(reader, isEarly ? early : late);
        this.transactionsAfter++;
      }
      if (!copier.isFull && steps % STEPS_BETWEEN_PAUSES !== 0) continue;
      copier.write();
      progress(reader.end);
      await pause?.();
      signal?.throwIfAborted();
    }
    copier.write();
  }

  /** Writes the rest; nothing may be copied afterwards. @throws DiskError */
  finish(): void {
    this.#copier.finish();
  }
}

/** Whether any record of the transaction last read is kept. */
function hasAny(reader: TransactionReader, keeps: (reader: TransactionReader) => boolean): boolean {
  while (reader.nextRecord() >= 0) {
    if (keeps(reader)) return true;
  }
  return false;
}
