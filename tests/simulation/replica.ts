/**
 * A replica in a simulated world: a machine with a real Secondary on it, the operator's handle on its process,
 * and the checkers that watch its disk. Besides checking every state that its file goes through, it takes what
 * a power loss would leave at chosen moments, and checks that, too.
 */
import { Secondary, type SecondaryOptions } from "../../lib/replica/mod.ts";
import type { Connection } from "../../lib/ports/mod.ts";
import { BLOB_DIRECTORY, BlobsChecker, type SimulatedBlob } from "./blobs.ts";
import { DurableChecker, IndexChecker, OpensChecker, PrefixChecker, type Report } from "./checkers.ts";
import { checkRefusal, RefusalChecker, refusalWord } from "./convergence.ts";
import { ConversationChecker } from "./conversation.ts";
import { DisguisedNetwork } from "./disguise.ts";
import { FileView } from "./file_view.ts";
import { TappedLog } from "./log.ts";
import type { Ports, SimulatedMachine, SimulatedProcess } from "./machine.ts";
import { TappedConnection } from "./native_tap.ts";
import type { SeededRandom } from "./random.ts";
import { joined, ReceivedFile } from "./received_file.ts";
import type { SourceStates } from "./source_states.ts";
import { durablySaved, RewindChecker, savedIn } from "./rewinds.ts";
import { secretOf, StrangerChecker } from "./strangers.ts";
import { type Tracked, TrackedFile } from "./tracked_file.ts";

export const DATA_FS = "/db/Data.fs";
const IMAGES_OF_A_CUT = 5;

/** What a replica replicates from. */
export interface Upstream {
  readonly machine: SimulatedMachine;
  readonly port: number;
  /** The file it serves. */
  readonly file: Tracked;
  /** What it and its secondaries must have; undefined for nothing. */
  readonly secret: string | undefined;
}

export interface ReplicaOptions {
  readonly machine: SimulatedMachine;
  readonly upstream: Upstream;
  readonly port: number;
  readonly states: SourceStates;
  readonly random: SeededRandom;
  readonly report: Report;
  readonly secondary: Omit<
    SecondaryOptions,
    "path" | "replicateFrom" | "replicateTo" | "blobs" | "rewindLimit" | "applyDelayMs"
  >;
  /** The blobs of the source, which it replicates; undefined where there are none. */
  readonly blobs?: readonly SimulatedBlob[] | undefined;
  /** How many transactions it may take back by itself; 0 for none. */
  readonly rewindLimit: number;
  /** How old a transaction must be to be applied; 0 for at once. */
  readonly applyDelayMs: number;
  readonly secret: string | undefined;
  /** How likely a moment is chosen for looking at what a power loss would leave. */
  readonly imageLikelihood: number;
  /** Whether the weather is over, and what it did mended. */
  readonly isCalm: () => boolean;
  /** Told of each word of a source that was found right. */
  readonly judged: (word: string) => void;
  /** Hears what its log says. */
  readonly heard: (message: string) => void;
  /** Changes the world that the process sees; for planting bugs. */
  readonly disguise: (ports: Ports) => Ports;
}

export class Replica implements Upstream {
  readonly machine: SimulatedMachine;
  readonly upstream: Upstream;
  readonly port: number;
  /** What it has received. */
  readonly file: Tracked;
  process: SimulatedProcess | undefined;
  /** The process has opened its file. From then on a full disk is no reason to end. */
  opened = false;
  #faultsBefore = 0;
  /** Whether the operator lets it run. */
  wanted = true;
  /** Crash images looked at. */
  images = 0;
  readonly refusals: { readonly timeMs: number; readonly word: string }[] = [];
  readonly #options: ReplicaOptions;
  readonly #prefix: PrefixChecker;
  readonly #opens: OpensChecker;
  readonly #durable: DurableChecker;
  readonly #index: IndexChecker;
  readonly refusal: RefusalChecker;
  readonly rewinds: RewindChecker;
  readonly stranger: StrangerChecker;
  readonly #blobs: BlobsChecker;
  #indexInode: unknown;
  readonly #rightWords = new Set<string>();
  #conversation: ConversationChecker | undefined;

  constructor(options: ReplicaOptions) {
    this.#options = options;
    const { machine, states, report } = options;
    const { name } = machine;
    this.machine = machine;
    this.upstream = options.upstream;
    this.port = options.port;
    this.#prefix = new PrefixChecker(name, states, report);
    this.#opens = new OpensChecker(name, report);
    this.rewinds = new RewindChecker(name, options.rewindLimit, report);
    this.stranger = new StrangerChecker(name, this.secret !== this.upstream.secret, report);
    this.#durable = new DurableChecker(name, this.rewinds, report);
    this.#index = new IndexChecker(name, report);
    this.refusal = new RefusalChecker(name, report);
    this.#blobs = new BlobsChecker(name, options.blobs ?? [], report);
    this.file = options.applyDelayMs === 0
      ? new TrackedFile(machine.disk, DATA_FS)
      : new ReceivedFile(machine, DATA_FS, options.applyDelayMs, report);
    const saved = () => durablySaved(machine.disk);
    this.file.onLive = (unchanged) => {
      this.#prefix.live(this.file.live, unchanged);
      this.stranger.changed(this.file.live);
      this.#opens.check(this.file.live, "");
      this.#opens.check(this.#applied.live, "");
      this.#durable.check(this.file.live, "", saved);
      this.#blobs.check(this.file.live, (path) => machine.disk.bytes(path), "");
      this.refusal.changed(this.file.live, this.#upstreamView(), this.rewinds.limit > 0);
    };
    this.file.onDurable = () => this.#durable.check(this.file.durable, "", saved);
    const look = () => {
      if (options.random.chance(options.imageLikelihood)) this.#lookAtImage();
    };
    machine.disk.observers.add({
      changed: (_path, inode, from) => {
        look();
        // A file that has been cut is rare, and what is left of it less obvious.
        if (from === inode.cache.size) { for (let i = 0; i < IMAGES_OF_A_CUT; i++) this.#lookAtImage(); }
      },
      settled: look,
      renamed: () => {
        this.#lookAtIndex();
        look();
      },
    });
  }

  /** With a delay. */
  get received(): ReceivedFile | undefined {
    return this.file instanceof ReceivedFile ? this.file : undefined;
  }

  /** What is in its Data.fs. */
  get #applied(): Tracked {
    return this.received?.applied ?? this.file;
  }

  get name(): string {
    return this.machine.name;
  }

  /** Whether it hears of its source by content. */
  get speaksNative(): boolean {
    return this.#options.secondary.protocol !== "zrs2" || this.secret !== undefined;
  }

  get secret(): string | undefined {
    return this.#options.secret;
  }

  /** Indexes compared in full. */
  get indexesCompared(): number {
    return this.#index.compared;
  }

  /**
   * Whether the process has ended in a way after which the page cache may show what the platter does not have, and
   * nobody can tell: a sync failed while the file was opened; or, after a sync had failed, the disk failed again
   * or the process was killed before it could take back what it had written. Linux counts the pages of a failed
   * sync as clean, so that the next sync succeeds. An operator starts such a machine again.
   */
  get leavesDoubt(): boolean {
    const outcome = this.process?.outcome;
    if (outcome === undefined || this.process!.running) return false;
    const { faults } = this.machine.disk;
    if (outcome.state === "failed" && !this.opened && outcome.error.message.startsWith("Cannot sync")) {
      return true;
    }
    return faults.hits - this.#faultsBefore > 1;
  }

  start(): void {
    this.#faultsBefore = this.machine.disk.faults.hits;
    this.rewinds.started();
    const options: SecondaryOptions = {
      ...this.#options.secondary,
      rewindLimit: this.rewinds.limit,
      applyDelayMs: this.#options.applyDelayMs,
      secret: secretOf(this.secret),
      path: DATA_FS,
      replicateFrom: { transport: "tcp", host: this.upstream.machine.name, port: this.upstream.port },
      replicateTo: { transport: "tcp", host: "0.0.0.0", port: this.port },
      ...(this.#options.blobs === undefined
        ? { blobs: "refuse" }
        : { blobs: "replicate", blobDir: BLOB_DIRECTORY }),
      missingBlobs: this.#options.blobs?.some(({ content }) => content === undefined) ? "mark" : "fail",
    };
    this.opened = false;
    this.process = this.machine.start("zrs", async (ports, signal) => {
      const log = new TappedLog(ports.log, (message) => this.#hear(message));
      const network = new DisguisedNetwork(
        ports.network,
        (connection, how) => how === "made" ? this.#tapped(connection) : connection,
      );
      const seen = this.#options.disguise({ ...ports, network });
      await using secondary = await Secondary.open({ ...seen, log }, options);
      this.opened = true;
      const publish = () =>
        this.#durable.publish(secondary.lastTid, this.file.durable, this.file.existsDurably);
      publish();
      using _subscription = secondary.subscribe(publish);
      await secondary.run(signal);
    });
  }

  /** Takes everything away; the process must have ended. @param copy what to begin with, nothing unless given */
  beginAnew(copy: Uint8Array | undefined): void {
    this.#durable.forget();
    this.refusal.forget();
    this.stranger.begun(copy === undefined ? 0 : FileView.of(copy).transactions.length);
    this.machine.disk.eraseAll();
    const { blobs } = this.#options;
    if (blobs !== undefined) {
      // The directories are still there, and without the marker they would not say of which layout they are.
      this.machine.disk.place(`${BLOB_DIRECTORY}/.layout`, new TextEncoder().encode("bushy"));
    }
    if (copy === undefined) return;
    for (const { path, content } of blobs ?? []) {
      if (content !== undefined) this.machine.disk.place(`${BLOB_DIRECTORY}/${path}`, content);
    }
    this.received?.placed(FileView.of(copy));
    this.machine.disk.place(DATA_FS, copy);
  }

  /** After the process was stopped in order. */
  lookAtSavedIndex(): void {
    this.#index.atEnd(
      this.#applied.live,
      this.machine.disk.bytes(DATA_FS),
      this.machine.disk.bytes(`${DATA_FS}.index`),
    );
  }

  /** The connection to its source is at rest. */
  checkBeats(): void {
    this.#conversation?.checkBeats();
  }

  #tapped(connection: Connection): Connection {
    const { scheduler } = this.machine.disk;
    this.#conversation = new ConversationChecker({
      name: this.name,
      replica: this.file,
      source: this.upstream.file,
      nowMs: () => scheduler.nowMs,
      isCalm: this.#options.isCalm,
      report: this.#options.report,
      right: this.#rightWords,
      judged: this.#options.judged,
    });
    return new TappedConnection(connection, this.#conversation);
  }

  #upstreamView(): FileView {
    return this.upstream.file.live;
  }

  #hear(message: string): void {
    const { nowMs } = this.machine.disk.scheduler;
    this.stranger.hear(message, nowMs);
    this.#options.heard(message);
    checkRefusal(message, this.file.live, this.#options.report);
    if (/: refused: ahead: /.test(message)) {
      this.#options.report(
        "RefusalChecker",
        `${this.name} refuses one that is ahead: it may only lag itself`,
      );
    }
    if (message.startsWith("Connected to ")) this.rewinds.connected(this.#upstreamView());
    this.rewinds.told(message, this.#upstreamView(), (path) => this.machine.disk.bytes(path));
    if (/ has all that the source has/.test(message)) this.refusal.forget(); // the source has come to agree
    const word = refusalWord(message);
    if (word === undefined) return;
    this.refusals.push({ timeMs: nowMs, word });
    this.refusal.told(word, message, this.file.live);
  }

  #lookAtImage(): void {
    const files = this.machine.disk.crashImage(this.#options.random);
    const when = "after a power loss, ";
    const data = files.get(DATA_FS);
    const applied = FileView.like(this.#applied.live, data ?? new Uint8Array(0));
    this.images++;
    this.#opens.check(applied, when);
    const view = this.received === undefined
      ? applied
      : FileView.like(this.file.live, joined(applied, data ?? new Uint8Array(0), files));
    this.#opens.check(view, when);
    this.#prefix.image(view, this.file.live);
    this.#durable.check(view, when, () => savedIn(files));
    this.#blobs.check(view, (path) => files.get(path), when);
    const index = files.get(`${DATA_FS}.index`);
    if (data !== undefined && index !== undefined) this.#index.check(applied, data, index, false, when);
  }

  #lookAtIndex(): void {
    const { disk } = this.machine;
    const path = `${DATA_FS}.index`;
    const inode = disk.names.get(path);
    if (inode === this.#indexInode) return;
    this.#indexInode = inode;
    const data = disk.names.get(DATA_FS);
    if (inode === undefined || data === undefined) return;
    this.#index.check(this.#applied.live, data.cache.view(), inode.cache.view(), true, "");
  }
}
