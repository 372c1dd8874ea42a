/**
 * A world in which a copy is brought up to date from cron: a source that writes, packs and is restored from backups,
 * and one-shot runs (`syncReplica`) that are killed at any change of the disk, lose their power, meet full and
 * failing disks, lose their source, and are stopped; from a node, or from the file on the same machine. After each
 * run what it has said is held against the two files; at the end one undisturbed run must say what is so.
 */
import {
  CorruptError,
  DiskError,
  DivergedError,
  LockedError,
  UsageError,
  ZrsError,
} from "../../lib/errors.ts";
import {
  type BlobOptions,
  networkSource,
  openFileSource,
  Primary,
  type SyncOptions,
  syncReplica,
  type SyncReport,
  type SyncSource,
} from "../../lib/replica/mod.ts";
import { BLOB_DIRECTORY, blobOf, BlobsChecker, type SimulatedBlob } from "./blobs.ts";
import { IndexChecker, OpensChecker, PrefixChecker, PromiseBroken, type Report } from "./checkers.ts";
import { difference, isPacked, tooMany } from "./convergence.ts";
import { FileView } from "./file_view.ts";
import { type Ports, SimulatedMachine, type SimulatedProcess } from "./machine.ts";
import { SimulatedNetwork } from "./network.ts";
import { SeededRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";
import { NaiveSource } from "./source.ts";
import { PACKED } from "./source_format.ts";
import { SourceHistory } from "./source_history.ts";
import { SourceStates } from "./source_states.ts";
import { TrackedFile } from "./tracked_file.ts";

const DATA_FS = "/db/Data.fs";
const COPY = "/copy/Data.fs";
const COPY_BLOBS = "/copy/blobs";
const BUSHY = new TextEncoder().encode("bushy");
const PORT = 5_000;
const PEER_TIMEOUT_MS = 2_000;
/** A run must have ended by then: connecting to a machine that is off alone takes two minutes, each time. */
const RUN_MS = 600_000;
const IMAGES_OF_A_CUT = 5;

const TROUBLES = [
  "none",
  "killed",
  "power lost",
  "disk error",
  "disk full",
  "source lost",
  "stopped",
] as const;

/** How a run ended. */
type Ending =
  | { readonly kind: "complete"; readonly report: SyncReport }
  | { readonly kind: "failed"; readonly error: ZrsError }
  | { readonly kind: "cut" };

export class OneShotWorld implements AsyncDisposable {
  readonly counts: Record<string, number> = {};
  readonly #random: SeededRandom;
  readonly #scheduler: Scheduler;
  readonly #network: SimulatedNetwork;
  readonly #source: SimulatedMachine;
  /** Where the copy is: the source's machine in some worlds. */
  readonly #machine: SimulatedMachine;
  readonly #sourceFile: TrackedFile;
  readonly #copy: TrackedFile;
  readonly #history: SourceHistory;
  readonly #prefix: PrefixChecker;
  readonly #opens: OpensChecker;
  readonly #index: IndexChecker;
  /** What the source has of blobs; undefined in worlds without. */
  readonly #blobs: SimulatedBlob[] | undefined;
  readonly #blobsChecker: BlobsChecker;
  /** The last transaction with which the copy was said to be complete. */
  #promised = 0n;
  #writer: SimulatedProcess | undefined;
  #primary: SimulatedProcess | undefined;

  constructor(seed: number) {
    const random = this.#random = new SeededRandom(seed);
    const scheduler = this.#scheduler = new Scheduler(random);
    const network = this.#network = new SimulatedNetwork(scheduler, random);
    const surroundings = { scheduler, network, random };
    this.#source = new SimulatedMachine(surroundings, "S");
    this.#machine = random.chance(0.5) ? this.#source : new SimulatedMachine(surroundings, "R");
    this.#source.disk.makeDirectory("/db");
    this.#machine.disk.makeDirectory("/copy");
    this.#sourceFile = new TrackedFile(this.#source.disk, DATA_FS);
    this.#history = new SourceHistory(scheduler);
    const states = new SourceStates(this.#sourceFile);
    this.#prefix = new PrefixChecker("the copy", states, this.#report);
    this.#opens = new OpensChecker("the copy", this.#report);
    this.#index = new IndexChecker("the copy", this.#report);
    this.#blobs = random.fork("blobs").chance(0.4) ? [] : undefined;
    const place = { dataFs: COPY, blobDir: COPY_BLOBS };
    this.#blobsChecker = new BlobsChecker("the copy", this.#blobs ?? [], this.#report, place);
    if (this.#blobs !== undefined) this.#source.disk.place(`${BLOB_DIRECTORY}/.layout`, BUSHY);
    this.#copy = new TrackedFile(this.#machine.disk, COPY);
    this.#watch();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scheduler[Symbol.asyncDispose]();
  }

  async live(): Promise<void> {
    const random = this.#random;
    await this.#write(true);
    for (let runs = random.between(2, 7); runs > 0; runs--) {
      await this.#write();
      if (random.chance(0.1)) this.#restoreSource();
      this.#judge(await this.#run(random.pick(TROUBLES)), false);
    }
    await this.#settle();
    this.#judge(await this.#run("none"), true);
  }

  readonly #report: Report = (checker, what) => this.#scheduler.fail(new PromiseBroken(checker, what));

  #count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  /** Every state of the copy, and what a power loss would leave of it, is a valid prefix of what the source had. */
  #watch(): void {
    const { disk } = this.#machine;
    this.#copy.onLive = (unchanged) => {
      this.#prefix.live(this.#copy.live, unchanged);
      this.#opens.check(this.#copy.live, "");
      this.#blobsChecker.check(this.#copy.live, (path) => disk.bytes(path), "");
      this.#checkPromised(this.#copy.live, "");
    };
    const isOurs = (path: string) => path.startsWith("/copy/");
    const look = () => {
      if (this.#random.chance(0.1)) this.#lookAtImage();
    };
    disk.observers.add({
      changed: (path, inode, from) => {
        if (!isOurs(path)) return;
        look();
        if (from === inode.cache.size) { for (let i = 0; i < IMAGES_OF_A_CUT; i++) this.#lookAtImage(); }
      },
      settled: (path) => {
        if (isOurs(path)) look();
      },
      renamed: look,
    });
    const harmless = new Set<string>(["open", "read", "sync", "sync directory"]);
    this.#source.disk.observers.add({
      operated: (operation, path, process) => {
        if (process !== "sync" || harmless.has(operation) || isOurs(path)) return;
        this.#report("NothingWrittenChecker", `a run does ${operation} at ${path}`);
      },
    });
  }

  #lookAtImage(): void {
    const files = this.#machine.disk.crashImage(this.#random);
    const when = "after a power loss, ";
    const data = files.get(COPY);
    const view = FileView.like(this.#copy.live, data ?? new Uint8Array(0));
    this.#count("crash images");
    this.#opens.check(view, when);
    this.#prefix.image(view, this.#copy.live);
    this.#blobsChecker.check(view, (path) => files.get(path), when);
    this.#checkPromised(view, when);
    const index = files.get(`${COPY}.index`);
    if (data !== undefined && index !== undefined) this.#index.check(view, data, index, false, when);
  }

  #checkPromised(view: FileView, when: string): void {
    if (view.lastTid >= this.#promised) return;
    this.#report("VerdictChecker", `${when}the copy has lost what it was said to be complete with`);
  }

  /** The writer works for a while, in the middle of which it is left. @param toTheEnd waits for all of it */
  async #write(toTheEnd = false): Promise<void> {
    const random = this.#random;
    const work = {
      transactions: random.between(1, 12),
      random: random.fork("writing"),
      everyMs: random.pick([1, 50, 200]),
      packs: random.pick([0, 0, 0.1, 0.3]),
      blobs: this.#blobs === undefined ? 0 : 0.3,
    };
    if (!this.#writer?.running && this.#source.up) {
      const options = {
        syncs: random.chance(0.8),
        syncsPack: random.chance(0.5),
        placeBlob: this.#placeBlob,
      };
      this.#writer = this.#source.start("writer", async (ports, signal) => {
        const naive = await NaiveSource.open(ports, DATA_FS, this.#history, options);
        await naive.work(work, signal);
        naive.close();
      });
    }
    if (toTheEnd) await this.#scheduler.runUntil(() => !this.#writer?.running, { durationMs: RUN_MS });
    else await this.#scheduler.runFor(random.int(1_000));
  }

  readonly #placeBlob = (oid: bigint, tid: bigint): void => {
    const blob = blobOf(oid, tid);
    this.#blobs?.push(blob);
    this.#source.disk.place(`${BLOB_DIRECTORY}/${blob.path}`, blob.content!);
    this.#count("blobs");
  };

  /** What each end is told of blobs. */
  #blobOptions(blobDir: string): BlobOptions {
    return this.#blobs === undefined ? { blobs: "refuse" } : { blobs: "replicate", blobDir };
  }

  /** A backup is put in the source's place, so that the copy may be ahead of it. */
  #restoreSource(): void {
    this.#writer?.kill();
    const { transactions } = this.#sourceFile.durable;
    const bytes = this.#source.disk.names.durable(DATA_FS)?.durableBytes();
    if (bytes === undefined || transactions.length < 2 || !this.#source.up) return;
    const first = transactions.length - 1 - this.#random.int(Math.min(3, transactions.length - 1));
    this.#source.disk.place(DATA_FS, bytes.slice(0, transactions[first]!.position));
    this.#count("sources restored");
  }

  async #run(trouble: typeof TROUBLES[number]): Promise<Ending> {
    const machine = this.#machine;
    this.#restart();
    const before = FileView.of(this.#source.disk.durableBytes(DATA_FS) ?? new Uint8Array(0));
    await this.#scheduler.runFor(1_000); // until the primary shows that, too
    const random = this.#random;
    const repack = random.chance(0.1);
    if (repack) this.#promised = 0n;
    const options = { ...this.#options(), repack, keepOld: random.chance(0.3) };
    let ending: Ending | undefined;
    const { faults } = machine.disk;
    const hitsBefore = faults.hits;
    const process = machine.start("sync", async (ports, signal) => {
      await using source = await this.#open(ports);
      try {
        const report = await syncReplica(ports, source, options, signal);
        ending = { kind: "complete", report };
        this.#checkComplete(report, before);
      } catch (error) {
        if (!signal.aborted || error !== signal.reason) throw error;
      }
    });
    // Where both ends of a connection are in one process, they go on for a moment without it, and meet their ends.
    this.#scheduler.isOfTheDead = (error) => process.outcome.state === "killed" && error instanceof ZrsError;
    this.#trouble(trouble, process);
    await this.#scheduler.runUntil(() => !process.running, { durationMs: RUN_MS });
    faults.clear();
    const { outcome } = process;
    // After a failed sync the page cache may show what the platter does not have: an operator starts it again.
    if (faults.hits > hitsBefore && trouble === "disk error") machine.crash();
    this.#network.healAll();
    if (outcome.state === "failed") return { kind: "failed", error: this.#explained(outcome.error, trouble) };
    return ending ?? { kind: "cut" };
  }

  #options(): SyncOptions {
    const random = this.#random;
    const bytes = () => random.pick([512, 4_096, 60_000]);
    return {
      path: COPY,
      ...this.#blobOptions(COPY_BLOBS),
      protocol: this.#isLocal ? "auto" : random.pick(["auto", "native", "zrs2"]),
      check: random.pick(["quick", "quick", "full"]),
      settleMs: 500,
      peerTimeoutMs: PEER_TIMEOUT_MS,
      buffers: { readBytes: bytes(), runBytes: bytes(), sendBytes: bytes() },
    };
  }

  get #isLocal(): boolean {
    return this.#machine === this.#source;
  }

  async #open(ports: Ports): Promise<SyncSource> {
    if (this.#isLocal) {
      return await openFileSource(ports, { path: DATA_FS, ...this.#blobOptions(BLOB_DIRECTORY) });
    }
    return networkSource(ports, { transport: "tcp", host: "S", port: PORT });
  }

  /** All machines are on, and the source is served. */
  #restart(): void {
    for (const machine of [this.#source, this.#machine]) if (!machine.up) machine.restart();
    if (this.#isLocal || this.#primary?.running) return;
    this.#primary = this.#source.start("primary", async (ports, signal) => {
      await using primary = await Primary.open(ports, {
        path: DATA_FS,
        replicateTo: { transport: "tcp", host: "0.0.0.0", port: PORT },
        ...this.#blobOptions(BLOB_DIRECTORY),
        lookEveryMs: 100,
        peerTimeoutMs: PEER_TIMEOUT_MS,
      });
      await primary.run(signal);
    });
  }

  #trouble(trouble: typeof TROUBLES[number], process: SimulatedProcess): void {
    const random = this.#random;
    const { faults } = this.#machine.disk;
    const skip = random.int(40);
    const at = { on: "change", process: "sync", skip } as const;
    if (trouble === "killed") faults.add({ ...at, effect: () => process.kill() });
    if (trouble === "power lost") faults.add({ ...at, effect: () => this.#machine.crash() });
    if (trouble === "disk error") faults.add({ ...at, times: random.between(1, 2), effect: "error" });
    if (trouble === "disk full") faults.add({ ...at, on: "write", effect: "full" });
    const later = (effect: () => void) =>
      this.#scheduler.after(random.int(300), () => {
        if (process.running) effect();
      });
    if (trouble === "stopped") later(() => process.stop());
    if (trouble === "source lost") {
      const effects = [
        () => this.#primary?.kill(),
        () => this.#source.crash(),
        () => this.#network.cut("S", "R"),
      ];
      later(random.pick(this.#isLocal ? effects.slice(1, 2) : effects));
    }
  }

  /** The writer comes to its end, and leaves a file that is whole. */
  async #settle(): Promise<void> {
    this.#restart();
    this.#writer?.stop();
    await this.#scheduler.runUntil(() => !this.#writer?.running, { durationMs: RUN_MS });
    this.#writer = this.#source.start("writer", async (ports) => {
      const naive = await NaiveSource.open(ports, DATA_FS, this.#history, { syncs: true });
      await naive.commit([{ oid: 0n, data: new TextEncoder().encode("the last one") }]);
      naive.close();
    });
    await this.#scheduler.runUntil(() => !this.#writer!.running, { durationMs: RUN_MS });
    await this.#scheduler.runFor(2_000);
  }

  /** A run has just said that the copy is complete. @param before what the source had on disk when it began */
  #checkComplete({ after, restsOn }: SyncReport, before: FileView): void {
    const { live, durable, existsDurably } = this.#copy;
    const wrong = (what: string) =>
      this.#report("VerdictChecker", `the copy is said to be complete, and ${what}`);
    if (!existsDurably) wrong("has no durable name");
    if (live.lastTid !== after.lastTid) wrong(`ends with another transaction than it is said to`);
    if (durable.lastTid !== after.lastTid) wrong("is not all on the platter");
    this.#promised = after.lastTid;
    if (restsOn === "quiet") return; // that is said, too
    const now = this.#sourceFile.live;
    for (const { tid, status } of before.transactions) {
      const isStill = now.transactions[now.indexOf(tid)]?.status;
      if (status === PACKED || isStill === undefined || isStill === PACKED || live.has(tid)) continue;
      wrong(`lacks ${tid.toString(16)}`);
    }
  }

  /** A failure that the trouble does not explain is none that may be told. */
  #explained(error: ZrsError, trouble: typeof TROUBLES[number]): ZrsError {
    const source = this.#sourceFile;
    const isOfSource = error.message.includes(DATA_FS) && !error.message.includes(COPY);
    const mayNot = error instanceof LockedError || error instanceof CorruptError ||
      error instanceof UsageError && !isOfSource ||
      error instanceof DiskError && !trouble.startsWith("disk") && !isOfSource;
    if (mayNot) this.#report("VerdictChecker", `after ${trouble}: ${error.name}: ${error.message}`);
    if (error instanceof DivergedError && !isPacked(source.live) && !isPacked(this.#copy.live)) {
      const { count } = tooMany(source.live, this.#copy.live);
      if (count === 0) this.#report("VerdictChecker", `said to have diverged, and has not: ${error.message}`);
    }
    return error;
  }

  /** @param isCalm whether nothing was in the way, so that the run must have said how it is */
  #judge(ending: Ending, isCalm: boolean): void {
    const isDiverged = ending.kind === "failed" && ending.error instanceof DivergedError;
    this.#count(
      isDiverged ? "diverged" : ending.kind === "failed" ? `failed: ${ending.error.name}` : ending.kind,
    );
    if (ending.kind === "complete") {
      const { created, newCopy } = ending.report;
      this.#count(newCopy !== undefined ? "new copies" : created ? "created" : "gone on with");
    }
    if (!isCalm) return;
    const source = this.#sourceFile.live;
    if (ending.kind === "complete") {
      const differs = difference(source, this.#copy.live);
      const mayHide = this.counts["sources restored"] !== undefined || this.#history.lost.length > 0;
      if (differs !== undefined && !mayHide) this.#report("VerdictChecker", `complete, but ${differs}`);
    } else if (ending.kind === "cut" || !(ending.error instanceof DivergedError)) {
      const what = ending.kind === "cut" ? "nothing was said" : ending.error.message;
      this.#report("VerdictChecker", `nothing was in the way, and the copy is not complete: ${what}`);
    }
  }
}
