/**
 * Packing a Data.fs: of its history up to some moment, only what was current then, and what later history still
 * needs, is kept. The packed file is made beside the old one, complete and on disk, before it takes its place; the
 * old one stays as `.old` unless told otherwise (docs/filestorage_format.md, "Packing").
 *
 * The file may grow meanwhile. What has come is copied in rounds, and the last round, which nothing may be appended
 * during, is short. Where something that came needs what had been left out, the copy is made once more.
 *
 * Survives: being stopped, killed, or failing at any point: the database is the old one or the packed one
 * (`replace_file.ts`).
 */
import { CorruptError, DiskFullError, UnavailableError, ZrsError } from "../../errors.ts";
import type { BlockFile, Disk } from "../../ports/mod.ts";
import { NO_TID } from "../../zodb/mod.ts";
import { type BlobDirectory, revisionName } from "../blobs/blob_directory.ts";
import { inFile } from "../history.ts";
import type { KnownSecondary } from "./known_secondaries.ts";
import type { Generation } from "../log.ts";
import type { MissingBlobs } from "../blobs/missing_blobs.ts";
import { directoryOf } from "../open.ts";
import { describeLeftBlobs, packBlobs } from "./pack_blobs.ts";
import { PackedCopy } from "./packed_copy.ts";
import { type PackSurvey, surveyForPack } from "./pack_survey.ts";
import { type FindReferences, type KeptRecords, KeptSearch } from "./reachable.ts";
import type { Patience } from "../recover.ts";
import { likePermissions } from "../replace_file.ts";
import type { Storage } from "../storage.ts";
import { removeIfPossible } from "../remove_if_possible.ts";

/** What a pack is doing, and how far it has come: bytes of the old file, or objects reached. */
export interface PackProgress {
  readonly doing: "reading" | "searching" | "copying" | "clearing";
  readonly done: number;
  /** Undefined where nobody knows. */
  readonly total: number | undefined;
}

export interface PackOptions {
  /** Everything up to this tid is packed. */
  readonly stop: bigint;
  /** How garbage is told; undefined: all objects are kept. */
  readonly findReferences: FindReferences | undefined;
  /** Whether the unpacked file stays as `.old`, and its blobs likewise. */
  readonly keepOld: boolean;
  /** Where blobs lie of which those that are dropped shall go; undefined: they stay. */
  readonly blobs?: BlobDirectory | undefined;
  /** The list of those that have no file there: what is dropped is taken off it. */
  readonly missing?: MissingBlobs | undefined;
  readonly patience: Patience;
  /** Is told what is not as it should be, where the packed file is as good all the same. */
  readonly warn: (message: string) => void;
  readonly progress?: (progress: PackProgress) => void;
  /**
   * Does the last of the work while nobody appends; default: nobody ever does. What it throws has been thrown by the
   * work, or says why that could not be done.
   */
  readonly alone?: (work: () => Promise<void>) => Promise<void>;
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
  /** How many blobs have gone; undefined where none were to go. */
  readonly blobsDropped?: number | undefined;
  /** For whom less was packed than was wanted. */
  readonly keptFor?: KnownSecondary | undefined;
}

/** What comes meanwhile is copied until there is so little left that it may stop the appending. */
const SMALL_ROUND_BYTES = 1024 * 1024;
/** Where it comes faster than it is copied, the last round is longer. */
const MAX_ROUNDS = 10;
/** So often the copy is made, where what comes needs what was left out of it. */
const MAX_COPIES = 5;

/**
 * Packs an opened file, which is of the packed one afterwards: its log shows another generation.
 * @throws CorruptError, UsageError (garbage cannot be told), UnavailableError (it was rewound meanwhile, or what came
 * needed again and again what was left out), DiskFullError, DiskError and the signal's reason: the database is as it
 * was, and nothing is left beside it; where {@link Storage.failure} is set, see there
 */
export async function packStorage(disk: Disk, storage: Storage, options: PackOptions): Promise<PackReport> {
  const { generation } = storage.view;
  try {
    return await new Pack(disk, storage, generation.hold(), options).run();
  } catch (error) {
    if (error instanceof CorruptError && storage.view.generation !== generation) throw rewound(storage);
    throw error instanceof CorruptError ? inFile(storage.path, error) : error;
  } finally {
    generation.release();
  }
}

class Pack {
  readonly #disk: Disk;
  readonly #storage: Storage;
  readonly #generation: Generation;
  readonly #options: PackOptions;
  /** The path with links followed: files are put beside the database, not beside a link to it. */
  readonly #path: string;

  constructor(disk: Disk, storage: Storage, generation: Generation, options: PackOptions) {
    this.#disk = disk;
    this.#storage = storage;
    this.#generation = generation;
    this.#options = options;
    this.#path = disk.realPath(storage.path);
  }

  async run(): Promise<PackReport> {
    const { end } = this.#storage;
    const { file } = this.#generation;
    const { stop, patience, findReferences } = this.#options;
    const survey = await surveyForPack(file, end, stop, patience, (done) => {
      this.#tell({ doing: "reading", done, total: end });
    });
    if (survey.isRedundant || survey.current.count === 0 && survey.packEnd === end) {
      return this.#report(survey, end, undefined);
    }
    const search = new KeptSearch(file, survey, findReferences, patience, (done) => {
      this.#tell({ doing: "searching", done, total: undefined });
    });
    await search.extendTo(end);
    for (let copies = 0; copies < MAX_COPIES; copies++) {
      const report = await this.#makeCopy(survey, search);
      if (report === undefined) continue;
      if (!report.isPacked || this.#options.blobs === undefined) return report;
      return { ...report, blobsDropped: await this.#packBlobs(this.#options.blobs, survey, search, report) };
    }
    throw new UnavailableError(
      `Cannot pack ${this.#path}: ${MAX_COPIES} times what was written meanwhile needed objects or revisions that ` +
        `had been left out`,
      { path: this.#path, hint: "pack up to an earlier time, or with --no-gc, or when less is written" },
    );
  }

  /**
   * Makes the packed file, and puts it in place.
   * @returns undefined where it lacks what has been found to be needed meanwhile: it is to be made once more
   */
  async #makeCopy(survey: PackSurvey, search: KeptSearch): Promise<PackReport | undefined> {
    const path = `${this.#path}.pack`;
    this.#disk.remove(path); // left by a pack that died
    this.#needRoom(survey, search.kept);
    let packed: BlockFile | undefined = this.#disk.create(path);
    try {
      const copy = new PackedCopy(packed, this.#generation.file, survey.packEnd, search.kept);
      for (let rounds = 0; rounds < MAX_ROUNDS; rounds++) {
        if (await this.#extend(copy, search)) return undefined;
        if (this.#storage.end - copy.copiedTo < SMALL_ROUND_BYTES) break;
      }
      likePermissions(this.#disk, this.#path, path, this.#options.warn);
      await packed.sync(); // so that little is left for later
      let report: PackReport | undefined;
      const { alone = (work) => work() } = this.#options;
      await alone(async () => {
        if (await this.#extend(copy, search)) return;
        copy.finish();
        await packed!.sync();
        this.#options.patience.signal?.throwIfAborted();
        report = this.#report(survey, copy.copiedTo, copy);
        if (!report.isPacked) return;
        const opened = packed!;
        packed = undefined;
        report = { ...report, keptAs: await this.#putInPlace(opened, path, copy, survey) };
      });
      return report;
    } finally {
      if (packed !== undefined) {
        packed.close();
        removeIfPossible(this.#disk, path);
      }
    }
  }

  /**
   * Copies what there is by now.
   * @returns whether it needs what had been left out
   */
  async #extend(copy: PackedCopy, search: KeptSearch): Promise<boolean> {
    if (this.#storage.view.generation !== this.#generation) throw rewound(this.#storage);
    const { end } = this.#storage;
    // Nothing has been copied before the first round, so what is added then is not lacking.
    const isFirst = copy.transactionsBefore === 0;
    if (await search.extendTo(end) && !isFirst) return true;
    await copy.extendTo(end, this.#options.patience, (done) => {
      this.#tell({ doing: "copying", done, total: Math.max(end, this.#storage.end) });
    });
    return false;
  }

  /** @returns how many have gone. The file is packed already: whatever fails now is told only */
  async #packBlobs(
    blobs: BlobDirectory,
    { packEnd }: PackSurvey,
    { kept }: KeptSearch,
    { bytesBefore: end }: PackReport,
  ): Promise<number> {
    const { keepOld, patience, warn, missing } = this.#options;
    const unpacked = { file: this.#generation.file, end, packEnd, kept };
    const noMoreMissing = new Set<string>();
    let gone = 0;
    try {
      gone = await packBlobs(unpacked, blobs, keepOld, patience, {
        progress: (done) => this.#tell({ doing: "clearing", done, total: end }),
        wasMissing: (key) => void (missing?.has(key) && noMoreMissing.add(revisionName(key))),
      });
      await missing?.retain((key) => !noMoreMissing.has(revisionName(key)));
    } catch (error) {
      const isStopped = patience.signal?.aborted === true && error === patience.signal.reason;
      if (!isStopped && !(error instanceof ZrsError)) throw error;
      warn(describeLeftBlobs(blobs, isStopped ? "stopped" : error as ZrsError));
    }
    return gone;
  }

  /** @returns where the old file is kept */
  async #putInPlace(
    file: BlockFile,
    path: string,
    { index, end, lastTid }: PackedCopy,
    survey: PackSurvey,
  ): Promise<string | undefined> {
    const { keepOld, warn } = this.#options;
    const packedTo = survey.lastTid === NO_TID ? undefined : survey.lastTid;
    try {
      const next = { path, file, index, end, lastTid, packedTo };
      const { keptAs, indexProblem } = await this.#storage.moveTo(next, { keepOld });
      if (indexProblem !== undefined) warn(`Cannot save the index of ${this.#path}: ${indexProblem.message}`);
      return keptAs;
    } catch (error) {
      file.close();
      if (this.#storage.failure === undefined) removeIfPossible(this.#disk, path);
      throw error;
    }
  }

  /**
   * Looks for room before anything is written. Where there is too little, an older `.old` goes now instead of at the
   * end, as in Python; where it is not to be replaced, it stays.
   * @throws DiskFullError
   */
  #needRoom({ packEnd, headBytes }: PackSurvey, kept: KeptRecords): void {
    const { end } = this.#storage;
    const needed = kept.bytes === undefined ? end : Math.min(end, headBytes + kept.bytes + end - packEnd);
    const directory = directoryOf(this.#path);
    let free = this.#disk.freeBytes(directory);
    if (free >= needed) return;
    const old = `${this.#path}.old`;
    if (this.#options.keepOld && free + (this.#disk.status(old)?.size ?? 0) >= needed) {
      this.#disk.remove(old);
      free = this.#disk.freeBytes(directory);
      if (free >= needed) return;
    }
    throw new DiskFullError(
      `Cannot pack ${this.#path}: the packed file may take ${needed} bytes beside it, and ${free} are free`,
      { path: this.#path, hint: `make room in ${directory}` },
    );
  }

  /** @param copy undefined when there is nothing to do */
  #report(survey: PackSurvey, bytesBefore: number, copy: PackedCopy | undefined): PackReport {
    const bytesAfter = copy?.end ?? bytesBefore;
    return {
      isPacked: bytesAfter !== bytesBefore,
      tid: survey.lastTid,
      bytesBefore,
      bytesAfter,
      transactionsBefore: copy?.transactionsBefore ?? 0,
      transactionsAfter: copy?.transactionsAfter ?? 0,
      keptAs: undefined,
    };
  }

  #tell(progress: PackProgress): void {
    this.#options.progress?.(progress);
  }
}

function rewound({ path }: Storage): UnavailableError {
  return new UnavailableError(`Cannot pack ${path}: it has been rewound meanwhile`, {
    path,
    hint: "pack it once more",
  });
}
