/**
 * A whole world from one seed: a source that writes, a primary beside it, and replicas in one of several
 * arrangements, all running the real code on simulated machines; bad weather for a while; then calm, in which
 * everything must come to rest as promised.
 *
 *     const summary = await simulate({ seed: 42 });      // throws SimulationFailure, which names the seed
 */
import { Primary } from "../../lib/replica/mod.ts";
import { BLOB_DIRECTORY, blobOf, type SimulatedBlob } from "./blobs.ts";
import { NothingWrittenChecker, PromiseBroken } from "./checkers.ts";
import { checkRefusal } from "./convergence.ts";
import { TappedLog } from "./log.ts";
import type { Ports, SimulatedProcess } from "./machine.ts";
import { SimulatedMachine } from "./machine.ts";
import { SimulatedNetwork } from "./network.ts";
import { SeededRandom } from "./random.ts";
import { DATA_FS, Replica, type Upstream } from "./replica.ts";
import { Rest } from "./rest.ts";
import { Scheduler, SimulationFailure } from "./scheduler.ts";
import { NaiveSource } from "./source.ts";
import { SourceHistory } from "./source_history.ts";
import { secretOf } from "./strangers.ts";
import { SourceStates } from "./source_states.ts";
import type { Step } from "./trace.ts";
import { TrackedFile } from "./tracked_file.ts";
import { drawPlan, type Plan } from "./plan.ts";
import { Weather } from "./weather.ts";

export interface WorldOptions {
  readonly seed: number | string;
  /** Changes the world that a node's process sees ("primary", or a replica's name); for planting bugs. */
  readonly disguise?: (ports: Ports, node: string, scheduler: Scheduler) => Ports;
  /** Changes what the seed has drawn. */
  readonly plan?: (drawn: Plan) => Plan;
  readonly trace?: (step: Step) => void;
}

/** What happened in a run, to see that the interesting things do. */
export interface Summary {
  readonly simulatedMs: number;
  readonly events: number;
  readonly hash: string;
  readonly counts: Readonly<Record<string, number>>;
}

const PRIMARY_PORT = 5_000;
const REPLICA_PORT = 5_001;
/** How long everything may take to come to rest once the weather is calm. */
const CALM_MS = 600_000;
/** How long it is then watched whether it stays so. */
const REST_MS = 10_000;
/** After so long a primary that could not read its file has looked again, and shows nothing that is gone. */
const LOOKED_MS = 2_500;
/** A process that was asked to stop must have ended by then. */
const STOP_MS = 60_000;

export async function simulate(options: WorldOptions): Promise<Summary> {
  const random = new SeededRandom(options.seed);
  await using scheduler = new Scheduler(random);
  scheduler.trace.listener = options.trace;
  return await new World(options, random, scheduler).run();
}

export class World {
  readonly scheduler: Scheduler;
  readonly random: SeededRandom;
  readonly network: SimulatedNetwork;
  readonly plan: Plan;
  readonly source: SimulatedMachine;
  readonly sourceFile: TrackedFile;
  readonly history: SourceHistory;
  readonly replicas: Replica[] = [];
  readonly counts: Record<string, number> = {};
  writer: SimulatedProcess | undefined;
  /** False while the operator keeps the writer from running. */
  mayWrite = true;
  primary: SimulatedProcess | undefined;
  /** The weather is over: whatever has ended is started at once, and the writer writes no more. */
  calm = false;
  #transactionsLeft: number;
  readonly #seenEnded = new WeakSet<SimulatedProcess>();
  readonly #options: WorldOptions;
  readonly #states: SourceStates;
  /** All that the source has had, also of transactions that never counted; undefined where it has none. */
  readonly #blobs: SimulatedBlob[] | undefined;
  readonly #writing: SeededRandom;
  readonly #tending: SeededRandom;

  constructor(options: WorldOptions, random: SeededRandom, scheduler: Scheduler) {
    this.#options = options;
    this.random = random;
    this.scheduler = scheduler;
    const plan = drawPlan(random.fork("plan"));
    this.plan = options.plan?.(plan) ?? plan;
    this.#blobs = this.plan.work.blobs ? [] : undefined;
    this.#transactionsLeft = this.plan.work.transactions;
    this.#writing = random.fork("writing");
    this.#tending = random.fork("tending");
    this.network = new SimulatedNetwork(scheduler, random);
    this.history = new SourceHistory(scheduler);
    this.source = this.#machine("S");
    this.sourceFile = new TrackedFile(this.source.disk, DATA_FS);
    if (this.#blobs !== undefined) {
      this.source.disk.place(`${BLOB_DIRECTORY}/.layout`, new TextEncoder().encode("bushy"));
    }
    const { secrets } = this.plan;
    const states = this.#states = new SourceStates(this.sourceFile);
    const report = this.#report;
    new NothingWrittenChecker(this.source.disk, "primary", report);
    const upstreams = new Map<string, Upstream>([
      ["S", { machine: this.source, port: PRIMARY_PORT, file: this.sourceFile, secret: secrets.get("S") }],
    ]);
    for (const { name, from, lateMs, rewindLimit, applyDelayMs } of this.plan.replicas) {
      const replica = new Replica({
        machine: this.#machine(name),
        upstream: upstreams.get(from)!,
        port: REPLICA_PORT,
        states,
        random: random.fork(`images of ${name}`),
        report,
        secondary: this.plan.secondary,
        blobs: this.#blobs,
        rewindLimit,
        applyDelayMs,
        secret: secrets.get(name),
        heard: this.#hear,
        isCalm: () => this.calm,
        judged: (word) => this.count(`found right: ${word}`),
        imageLikelihood: this.plan.imageLikelihood,
        disguise: (ports) => this.#disguise(ports, name),
      });
      upstreams.set(name, replica);
      this.replicas.push(replica);
      replica.wanted = lateMs === 0;
    }
  }

  readonly #report = (checker: string, what: string): void =>
    this.scheduler.fail(new PromiseBroken(checker, what));

  /** What a node that serves others says of them. */
  readonly #hear = (message: string): void => {
    const [, peer] = /^(\w+):\d+: /.exec(message) ?? [];
    this.replicas.find(({ name }) => name === peer)?.stranger.hearSource(message);
  };

  /** Python places a blob's file before its transaction is voted; that a power loss may take it is left out here. */
  readonly #placeBlob = (oid: bigint, tid: bigint): void => {
    const blob = blobOf(oid, tid);
    this.#blobs!.push(blob);
    this.source.disk.place(`${BLOB_DIRECTORY}/${blob.path}`, blob.content!);
    this.count("blobs");
  };

  count(what: string, by = 1): void {
    this.counts[what] = (this.counts[what] ?? 0) + by;
  }

  /** All machines, the source's first. */
  get machines(): SimulatedMachine[] {
    return [this.source, ...this.replicas.map((replica) => replica.machine)];
  }

  async run(): Promise<Summary> {
    const { scheduler, plan } = this;
    for (const { name, lateMs, copy } of plan.replicas) {
      if (lateMs > 0) scheduler.after(lateMs, () => this.#join(name, copy));
    }
    this.#tend();
    const weather = new Weather(this);
    await scheduler.runFor(plan.weatherMs, { events: 2_000_000 });
    weather.end();
    await this.#comeToRest();
    await this.#closeDown();
    return this.#summary();
  }

  /** A copy of the source's file as it is on the platter, with whatever stands at its end; no damaged one. */
  copyOfSource(): Uint8Array | undefined {
    const copy = this.source.disk.names.durable(DATA_FS)?.durableBytes();
    const { durable } = this.sourceFile;
    return durable.outcome === "damaged" || !durable.rises ? undefined : copy;
  }

  #machine(name: string): SimulatedMachine {
    const machine = new SimulatedMachine(this, name);
    machine.disk.makeDirectory("/db");
    machine.disk.syncLatencyMs = { least: 0.1, most: this.plan.syncMostMs };
    machine.disk.missedChanges = this.plan.missedChanges;
    return machine;
  }

  #disguise(ports: Ports, node: string): Ports {
    return this.#options.disguise?.(ports, node, this.scheduler) ?? ports;
  }

  /** A replica begins after the source has worked for a while. */
  #join(name: string, copy: boolean): void {
    const replica = this.replicas.find((each) => each.name === name)!;
    if (replica.wanted) return;
    replica.beginAnew(copy ? this.copyOfSource() : undefined);
    replica.wanted = true;
    this.count(copy ? "late joins with a copy" : "late joins");
  }

  /** The operator, or systemd: starts again what has ended, after a while. */
  #tend(): void {
    const random = this.#tending;
    for (const machine of this.machines) {
      if (!machine.up && (this.calm || random.chance(0.2))) machine.restart();
    }
    const soon = () => this.calm || random.chance(0.3);
    if (this.source.up) {
      this.#checkEnd(this.writer, "the writer");
      this.#checkEnd(this.primary, "the primary");
      if (!this.writer?.running && this.#writerIsWanted && soon()) this.#startWriter();
      if (!this.primary?.running && soon()) this.#startPrimary();
    }
    for (const replica of this.replicas) {
      this.#checkEnd(replica.process, replica.name);
      if (replica.machine.up && replica.leavesDoubt) {
        replica.machine.crash();
        replica.process = undefined;
      }
      if (replica.machine.up && replica.wanted && !replica.process?.running && soon()) replica.start();
    }
    this.scheduler.after(random.between(50, 400), () => this.#tend());
  }

  /** What no weather explains is a failure of the run. */
  #checkEnd(process: SimulatedProcess | undefined, who: string): void {
    if (process === undefined || process.outcome.state !== "failed" || this.#seenEnded.has(process)) return;
    this.#seenEnded.add(process);
    const { error } = process.outcome;
    const expected = who === "the primary"
      ? ["NotFoundError", "UsageError", "DiskError"] // no file yet, or none that can be used after a crash
      : who === "the writer"
      ? []
      : this.replicas.some((replica) => replica.name === who && replica.opened)
      ? ["DiskError"]
      : ["DiskError", "DiskFullError"];
    this.count(`${who === "the primary" ? who : "replicas"} ended by ${error.name}`);
    if (!expected.includes(error.name)) this.scheduler.fail(error);
  }

  get #writerIsWanted(): boolean {
    return this.mayWrite && !this.calm && this.#transactionsLeft > 0;
  }

  #startWriter(): void {
    const { work, source } = this.plan;
    this.writer = this.source.start("writer", async (ports, signal) => {
      const naive = await NaiveSource.open(ports, DATA_FS, this.history, {
        ...source,
        placeBlob: this.#placeBlob,
      });
      while (this.#transactionsLeft > 0 && !signal.aborted) {
        this.#transactionsLeft--;
        await naive.work({ ...work, transactions: 1, random: this.#writing }, signal);
      }
      naive.close();
    });
  }

  /** Opens the file once more, so that it is whole, and ends. */
  #startLastWriter(commit: boolean): void {
    this.writer = this.source.start("writer", async (ports) => {
      const naive = await NaiveSource.open(ports, DATA_FS, this.history, {
        ...this.plan.source,
        syncs: true,
      });
      if (commit) await naive.commit([{ oid: 0n, data: new TextEncoder().encode("the last one") }]);
      naive.close();
    });
  }

  #startPrimary(): void {
    const options = {
      ...this.plan.primary,
      path: DATA_FS,
      replicateTo: { transport: "tcp", host: "0.0.0.0", port: PRIMARY_PORT },
      blobs: this.#blobs === undefined ? "refuse" : "replicate",
      blobDir: BLOB_DIRECTORY,
      secret: secretOf(this.plan.secrets.get("S")),
    } as const;
    this.primary = this.source.start("primary", async (ports, signal) => {
      const log = new TappedLog(ports.log, (message) => {
        this.#hear(message);
        checkRefusal(message, this.sourceFile.live, this.#report);
      });
      await using primary = await Primary.open({ ...this.#disguise(ports, "primary"), log }, options);
      const check = () => this.#checkShown(primary.lastTid);
      check();
      using _subscription = primary.subscribe(check);
      await primary.run(signal);
    });
  }

  /** What the primary shows to replicas is on the source's platter. */
  #checkShown(tid: bigint): void {
    const { durable } = this.sourceFile;
    // What was on the platter under this name is gone only when the operator has put another file there.
    if (tid === 0n || this.#states.hasHad(tid)) return;
    // A power loss may leave a transaction with sound ends and damage between: it is shown, and cannot be sent.
    if (durable.outcome === "damaged") return;
    this.scheduler.fail(new PromiseBroken("DurableChecker", `the primary shows ${tid}, which can be lost`));
  }

  async #comeToRest(): Promise<void> {
    const { scheduler } = this;
    this.calm = true;
    this.writer?.stop();
    await scheduler.runUntil(() => this.mayWrite && this.source.up && !this.writer?.running, {
      durationMs: CALM_MS,
    });
    this.#startLastWriter(this.random.fork("last commit").chance(0.7));
    for (const replica of this.replicas) replica.wanted = true;
    await scheduler.runUntil(() => !this.writer!.running, { durationMs: CALM_MS });
    await scheduler.runFor(LOOKED_MS);
    const rest = new Rest(this.sourceFile, this.history, scheduler.nowMs, this.#report);
    try {
      await scheduler.runUntil(() => this.replicas.every((each) => rest.hasReached(each)), {
        durationMs: CALM_MS,
        events: 500_000,
      });
    } catch (error) {
      const restless = this.replicas.filter((each) => !rest.hasReached(each)).map((each) => each.name);
      if (restless.length === 0 || !(error instanceof SimulationFailure) || error.cause !== undefined) {
        throw error;
      }
      const what = new PromiseBroken("ConvergenceChecker", `${restless.join(", ")} did not come to rest`);
      what.cause = error;
      throw scheduler.broken(what);
    }
    await scheduler.runFor(REST_MS);
    for (const replica of this.replicas) replica.checkBeats();
    for (const replica of this.replicas) this.count(rest.check(replica));
    await scheduler.runFor(0);
  }

  /** Everything stops when asked, and leaves an index that is right. */
  async #closeDown(): Promise<void> {
    const { scheduler } = this;
    const processes = [this.primary!, ...this.replicas.map((replica) => replica.process!)];
    for (const replica of this.replicas) replica.wanted = false;
    for (const process of processes) process.stop();
    await scheduler.runUntil(() => processes.every((process) => !process.running), { durationMs: STOP_MS });
    for (const replica of this.replicas) replica.lookAtSavedIndex();
    await scheduler.runFor(0);
  }

  #summary(): Summary {
    const { scheduler, history } = this;
    const lost = history.recoveries.filter((recovery) => recovery.lost.length > 0).length;
    this.count("commits", history.ever.size);
    this.count("aborts", history.aborts);
    this.count("packs", history.packs.length);
    this.count("rollbacks of the source", lost);
    this.count("refusals heard", this.replicas.reduce((sum, { refusals }) => sum + refusals.length, 0));
    this.count("rewinds", this.replicas.reduce((sum, { rewinds }) => sum + rewinds.count, 0));
    this.count("crash images", this.replicas.reduce((sum, { images }) => sum + images, 0));
    this.count(
      "waiting at the end",
      this.replicas.reduce((sum, { received }) => sum + (received?.waiting ?? 0), 0),
    );
    this.count("indexes compared", this.replicas.reduce((sum, each) => sum + each.indexesCompared, 0));
    return {
      simulatedMs: scheduler.nowMs,
      events: scheduler.eventCount,
      hash: scheduler.trace.hash,
      counts: this.counts,
    };
  }
}
