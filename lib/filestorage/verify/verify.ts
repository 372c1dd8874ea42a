/**
 * Verifying a Data.fs: all that is wrong with it, as findings. Reads only, takes no lock, and can stand beside
 * whoever writes the file: it ends where the file's last whole transaction did when it began.
 *
 * First the structure is walked through once, in order (structure_check.ts), and where the walk passes the
 * position that the index file was saved for, the two indexes are compared. Then, on request, the records' data
 * are looked into, and the blobs.
 */
import type { Disk, ReadableFile } from "../../ports/mod.ts";
import { BlobCheck } from "./blob_check.ts";
import { type BlobKey, revisionName } from "../blobs/blob_directory.ts";
import { missingBlobsPath, readMissingBlobs } from "../blobs/missing_blobs.ts";
import type { Finding } from "./finding.ts";
import { FIRST_POSITION, TRANSACTION } from "../layout.ts";
import { readMagic } from "../open.ts";
import { ReferenceGraph } from "./reference_graph.ts";
import { isRewound } from "../rewound_path.ts";
import { RecordScanner } from "./record_scanner.ts";
import { StructureCheck } from "./structure_check.ts";
import { compareIndex, lookAtIndex } from "./verify_index.ts";
import { noPause } from "../recover.ts";

export interface VerifyOptions {
  /** Whether every record's data must be two well-formed pickles. */
  readonly pickles?: boolean;
  /** Whether every object that is referred to must exist, and what cannot be reached. */
  readonly references?: boolean;
  /** The blob directory, to be compared with the records of blobs. */
  readonly blobDir?: string | undefined;
  /** Lets other work run, now and then. */
  readonly pause?: () => Promise<void>;
  /** Waits a moment: whether somebody is at work at the end of the file shows in time. Without it nobody is. */
  readonly wait?: () => Promise<void>;
}

/** How far it is. */
export interface Progress {
  readonly doing: "structure" | "records" | "blobs";
  /** Bytes of the file, or blobs. */
  readonly done: number;
  /** Undefined where nobody knows. */
  readonly total: number | undefined;
}

/** What was verified. */
export interface Verified {
  /** Transactions, their records, and objects that have one. */
  readonly transactions: number;
  readonly records: number;
  readonly objects: number;
  readonly lastTid: bigint;
  /** The end of the last whole transaction, in bytes: what lies behind was not verified. */
  readonly end: number;
  /** Objects that cannot be reached from the root; undefined when nobody asked, or there is no root. */
  readonly unreachable: number | undefined;
  /** Blobs that have a record; undefined when nobody asked. */
  readonly blobs: number | undefined;
  /** Whether another file has taken the path meanwhile, as a pack does; the old one was verified. */
  readonly replaced: boolean;
}

const MAX_WAITS = 20;
/** What is compared to tell whether somebody is at work at the end of a file. */
const TAIL_BYTES = 4096;

/** One verification of one file. */
export class Verification implements Disposable {
  readonly path: string;
  readonly file: ReadableFile;
  readonly #disk: Disk;
  readonly #size: number;
  readonly #structure: StructureCheck;
  #progress: Progress;
  /** Which index file stood there at the beginning. */
  #savedIdentity: string | undefined;
  #unreachable: number | undefined;
  #blobs: number | undefined;

  private constructor(disk: Disk, path: string, file: ReadableFile) {
    this.path = path;
    this.file = file;
    this.#disk = disk;
    this.#size = file.size();
    this.#structure = new StructureCheck(file, this.#size);
    this.#progress = { doing: "structure", done: 0, total: this.#size };
  }

  /** @throws NotFoundError, UsageError (not a FileStorage, a directory, no permission), DiskError */
  static open(disk: Disk, path: string): Verification {
    const file = disk.openRead(path);
    try {
      readMagic(file);
      return new Verification(disk, path, file);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  get progress(): Progress {
    if (this.#progress.doing !== "structure") return this.#progress;
    return { doing: "structure", done: this.#structure.position, total: this.#size };
  }

  /** What has been verified; complete behind the last finding. */
  get verified(): Verified {
    const { transactions, records, index, lastTid, end } = this.#structure;
    return {
      transactions,
      records,
      objects: index.count,
      lastTid,
      end,
      unreachable: this.#unreachable,
      blobs: this.#blobs,
      replaced: !this.#isAtPath(),
    };
  }

  /** All findings, in the order of the file first. To be called once. @throws DiskError */
  async *findings(options: VerifyOptions = {}): AsyncGenerator<Finding> {
    const { pause = noPause } = options;
    yield* this.#checkStructure(pause, options.wait);
    if (options.pickles || options.references) yield* this.#checkContents(options, pause);
    if (options.blobDir !== undefined) return yield* this.#checkBlobs(options.blobDir, pause);
    const { length } = this.#markedBlobs();
    if (length > 0) yield { kind: "blobs-marked", blobs: length, path: missingBlobsPath(this.path) };
  }

  close(): void {
    this.file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async *#checkStructure(
    pause: () => Promise<void>,
    wait: (() => Promise<void>) | undefined,
  ): AsyncGenerator<Finding> {
    const structure = this.#structure;
    this.#savedIdentity = this.#indexIdentity();
    const saved = lookAtIndex(this.#disk, this.path);
    const indexed = saved.kind === "saved" ? saved.position : undefined;
    let isCompared = false;
    for (const step of structure.run(indexed)) {
      if (step === undefined) {
        await pause();
      } else if (step === "boundary") {
        isCompared = true;
        yield* await this.#indexFindings(wait, () => this.#compareIndex(indexed!));
      } else if (step.kind === "torn-tail" || step.kind === "unfinished") {
        if (await this.#isUnderWay(step, wait)) break;
        yield this.#isRewound(step) ? { ...step, kind: "torn-tail", why: "rewound" } : step;
      } else {
        yield step;
      }
    }
    if (saved.kind === "unreadable") {
      const { why } = saved;
      yield* await this.#indexFindings(wait, () => [{ kind: "index-unreadable", why }]);
    }
    if (indexed === undefined || isCompared || structure.lost.has(indexed)) return;
    const { end } = structure;
    yield* await this.#indexFindings(wait, () => [{ kind: "index-position", found: indexed, end }]);
  }

  #compareIndex(position: number): Finding[] {
    const { index, lost } = this.#structure;
    return compareIndex(this.#disk, this.path, position, index, lost);
  }

  /** What is wrong with the index file, unless it is another's: a pack replaces first the file, and then it. */
  async #indexFindings(wait: (() => Promise<void>) | undefined, find: () => Finding[]): Promise<Finding[]> {
    const found = this.#isAtPath() ? find() : [];
    if (found.length === 0 || wait === undefined) return found;
    for (let waits = 0; waits < MAX_WAITS; waits++) {
      if (this.#indexIdentity() !== this.#savedIdentity || !this.#isAtPath()) return [];
      await wait();
    }
    return found;
  }

  #indexIdentity(): string | undefined {
    return this.#disk.status(`${this.path}.index`)?.identity;
  }

  async *#checkContents(options: VerifyOptions, pause: () => Promise<void>): AsyncGenerator<Finding> {
    const { index, ranges } = this.#structure;
    const wanted = { pickles: options.pickles ?? false, references: options.references ?? false };
    const scanner = new RecordScanner(this.file);
    const graph = wanted.references ? new ReferenceGraph(this.file, index) : undefined;
    const total = this.#size;
    for (const batch of scanner.scanAll(ranges, wanted)) {
      yield* batch.findings;
      if (graph !== undefined) yield* graph.add(batch.objects);
      this.#progress = { doing: "records", done: batch.position, total };
      await pause();
    }
    if (graph === undefined) return;
    yield* graph.findings();
    this.#unreachable = graph.unreachable;
  }

  async *#checkBlobs(directory: string, pause: () => Promise<void>): AsyncGenerator<Finding> {
    const marked = new Set(this.#markedBlobs().map(revisionName));
    const check = new BlobCheck(this.#disk, this.file, directory, this.#structure.lastTid);
    for (const step of check.run(this.#structure.ranges)) {
      this.#progress = { doing: "blobs", done: check.blobs, total: undefined };
      if (step === undefined) await pause();
      else if (!this.#isAtPath()) return; // a pack takes blobs away with what it drops from the file
      else {yield step.kind === "blob-missing" && marked.has(revisionName(step))
          ? { ...step, marked: true }
          : step;}
    }
    this.#blobs = check.blobs;
  }

  /** What the list beside the file says is missing, of the transactions that were verified. */
  #markedBlobs(): BlobKey[] {
    return readMissingBlobs(this.#disk, this.path).filter(({ tid }) => tid <= this.#structure.lastTid);
  }

  /** Whether the end of the file changes: then there is a writer, and what it does is no finding. */
  async #isUnderWay(
    finding: { readonly position: number },
    wait?: () => Promise<void>,
  ): Promise<boolean> {
    const before = this.#tail(finding.position);
    for (let waits = 0; waits < MAX_WAITS; waits++) {
      if (this.file.size() !== this.#size || this.#tail(finding.position) !== before) return true;
      if (wait === undefined) return false;
      await wait();
    }
    return false;
  }

  /** The beginning and the end of what lies behind a position, to be compared. */
  #tail(position: number): string {
    const bytes = new Uint8Array(TRANSACTION.size + TAIL_BYTES);
    this.file.readAt(bytes.subarray(0, TRANSACTION.size), position);
    this.file.readAt(bytes.subarray(TRANSACTION.size), Math.max(FIRST_POSITION, this.#size - TAIL_BYTES));
    return bytes.join();
  }

  /** Whether what is not finished was saved to be taken back, and the writer died over it. */
  #isRewound(finding: Finding): boolean {
    return (finding.kind === "torn-tail" || finding.kind === "unfinished") && finding.tid !== undefined &&
      isRewound(this.#disk, this.path, finding.tid);
  }

  #isAtPath(): boolean {
    return this.#disk.status(this.path)?.identity === this.file.identity();
  }
}
