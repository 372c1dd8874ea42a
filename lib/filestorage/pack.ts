/**
 * Packing a Data.fs: of its history up to some moment, only what was current then, and what later history still
 * needs, is kept. The packed file is made beside the old one, complete and on disk, before it takes its place; the old one stays as `.old` unless told otherwise (docs/filestorage_format.md, "Packing").
 *
 * Survives: being stopped, killed, or failing at any point: the database is the old one or the packed one
 * (`replace_file.ts`).
 */
import { CorruptError, DiskFullError, ZrsError } from "../errors.ts";
import type { BlockFile, Disk } from "../ports/mod.ts";
import { STATUS } from "../zodb/mod.ts";
import { inFile } from "./history.ts";
import { FIRST_POSITION } from "./layout.ts";
import { directoryOf } from "./open.ts";
import { type PackSurvey, surveyForPack } from "./pack_survey.ts";
import { type FindReferences, keepAll, keepReachable, type KeptRecords } from "./reachable.ts";
import type { Patience } from "./recover.ts";
import { likePermissions, replaceFile } from "./replace_file.ts";
import type { Storage } from "./storage.ts";
import { TransactionCopier } from "./transaction_copier.ts";
import { TransactionReader } from "./transaction.ts";
import { Window } from "./window.ts";

/** What a pack is doing, and how far it has come: bytes of the old file, or objects reached. */
export interface PackProgress {
  readonly doing: "reading" | "searching" | "copying";
  readonly done: number;
  /** Undefined where nobody knows. */
  readonly total: number | undefined;
}

export interface PackOptions {
  /** Everything up to this tid is packed. */
  readonly stop: bigint;
  /** How garbage is told; undefined: all objects are kept. */
  readonly findReferences: FindReferences | undefined;
  /** Whether the unpacked file stays as `.old`. */
  readonly keepOld: boolean;
  readonly patience: Patience;
  /** Is told what is not as it should be, where the packed file is as good all the same. */
  readonly warn: (message: string) => void;
  readonly progress?: (progress: PackProgress) => void;
}

export interface PackReport {
  /** False when a pack would have changed nothing: nothing has been done then. */
  readonly isPacked: boolean;
  /** The last transaction that is packed; NO_TID when there is none. */
  readonly tid: bigint;
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  readonly transactionsBefore: number;
  readonly transactionsAfter: number;
  /** Where the unpacked file is kept. */
  readonly keptAs: string | undefined;
}

/**
 * Packs an opened file that nobody appends to meanwhile. Afterwards the storage is of the file that was: close it,
 * saving nothing.
 * @throws CorruptError, UsageError (garbage cannot be told), DiskFullError, DiskError and the signal's reason: the
 * database is as it was, and nothing is left beside it
 */
export async function packStorage(disk: Disk, storage: Storage, options: PackOptions): Promise<PackReport> {
  try {
    return await new Pack(disk, storage, options).run();
  } catch (error) {
    throw error instanceof CorruptError ? inFile(storage.path, error) : error;
  }
}

class Pack {
  readonly #disk: Disk;
  readonly #storage: Storage;
  readonly #options: PackOptions;
  /** The path with links followed: files are put beside the database, not beside a link to it. */
  readonly #path: string;
  #transactionsBefore = 0;
  #transactionsAfter = 0;

  constructor(disk: Disk, storage: Storage, options: PackOptions) {
    this.#disk = disk;
    this.#storage = storage;
    this.#options = options;
    this.#path = disk.realPath(storage.path);
  }

  async run(): Promise<PackReport> {
    const { file, end } = this.#storage;
    const { stop, patience, findReferences, keepOld, warn } = this.#options;
    const survey = await surveyForPack(file, end, stop, patience, (done) => {
      this.#tell({ doing: "reading", done, total: end });
    });
    if (survey.isRedundant || survey.current.count === 0 && survey.packEnd === end) {
      return this.#report(survey, undefined);
    }
    const kept = findReferences === undefined
      ? await keepAll(file, end, survey, patience)
      : await keepReachable(file, end, survey, findReferences, patience, (done) => {
        this.#tell({ doing: "searching", done, total: undefined });
      });
    const path = `${this.#path}.pack`;
    this.#disk.remove(path); // left by a pack that died
    this.#needRoom(survey, kept);
    let name: string | undefined = path;
    try {
      using packed = this.#disk.create(path);
      const copier = await this.#copy(packed, survey, kept);
      if (copier.end === end) return this.#report(survey, undefined);
      likePermissions(this.#disk, this.#path, path, warn);
      await packed.sync();
      const { index, end: packedEnd } = copier;
      const { keptAs, indexProblem } = await replaceFile(
        this.#disk,
        this.#storage.path,
        { path, index, end: packedEnd },
        { keepOld },
      );
      name = undefined;
      if (indexProblem !== undefined) warn(`Cannot save the index of ${this.#path}: ${indexProblem.message}`);
      return this.#report(survey, packedEnd, keptAs);
    } finally {
      if (name !== undefined) removeIfPossible(this.#disk, name);
    }
  }

  /**
   * Looks for room before anything is written. Where there is too little, an older `.old` goes now instead of at the
   * end, as in Python.
   * @throws DiskFullError
   */
  #needRoom({ packEnd, headBytes }: PackSurvey, kept: KeptRecords): void {
    const { end } = this.#storage;
    const needed = kept.bytes === undefined ? end : Math.min(end, headBytes + kept.bytes + end - packEnd);
    const directory = directoryOf(this.#path);
    let free = this.#disk.freeBytes(directory);
    if (free >= needed) return;
    const old = `${this.#path}.old`;
    if (free + (this.#disk.status(old)?.size ?? 0) >= needed) {
      this.#disk.remove(old);
      free = this.#disk.freeBytes(directory);
      if (free >= needed) return;
    }
    throw new DiskFullError(
      `Cannot pack ${this.#path}: the packed file may take ${needed} bytes beside it, and ${free} are free`,
      { path: this.#path, hint: `make room in ${directory}` },
    );
  }

  async #copy(packed: BlockFile, { packEnd }: PackSurvey, kept: KeptRecords): Promise<TransactionCopier> {
    const { file, end } = this.#storage;
    const { pause, signal } = this.#options.patience;
    const reader = new TransactionReader(new Window(file, end));
    const copier = new TransactionCopier(packed, file);
    const keeps = ({ oidHigh, oidLow, recordPosition }: TransactionReader) =>
      kept.has(oidHigh, oidLow, recordPosition);
    const early = { status: STATUS.packed, keeps, shares: () => false };
    const late = { shares: () => true };
    for (let position = FIRST_POSITION, steps = 1; position < end; position = reader.end, steps++) {
      const state = reader.read(position);
      if (state !== "whole") throw reader.notWhole(state);
      this.#transactionsBefore++;
      const isEarly = position < packEnd;
      if (reader.status !== STATUS.undone && (!isEarly || hasAny(reader, keeps))) {
        copier.copy(reader, isEarly ? early : late);
        this.#transactionsAfter++;
      }
      if (!copier.isFull && steps % 1000 !== 0) continue;
      copier.write();
      this.#tell({ doing: "copying", done: reader.end, total: end });
      await pause?.();
      signal?.throwIfAborted();
    }
    copier.finish();
    return copier;
  }

  #report(survey: PackSurvey, bytesAfter: number | undefined, keptAs?: string): PackReport {
    const { end } = this.#storage;
    return {
      isPacked: bytesAfter !== undefined,
      tid: survey.lastTid,
      bytesBefore: end,
      bytesAfter: bytesAfter ?? end,
      transactionsBefore: this.#transactionsBefore,
      transactionsAfter: this.#transactionsAfter,
      keptAs,
    };
  }

  #tell(progress: PackProgress): void {
    this.#options.progress?.(progress);
  }
}

/** Whether any record of the transaction last read is kept. */
function hasAny(reader: TransactionReader, keeps: (reader: TransactionReader) => boolean): boolean {
  while (reader.nextRecord() >= 0) {
    if (keeps(reader)) return true;
  }
  return false;
}

/** The failure that is being reported says more than one of cleaning up. */
function removeIfPossible(disk: Disk, path: string): void {
  try {
    disk.remove(path);
  } catch (error) {
    if (!(error instanceof ZrsError)) throw error;
  }
}
