/**
 * Secondaries that pack their files while they replicate and are replicated from, in a chain, by both protocols: they
 * are killed, and lose their power, at any moment. Each file is whole always; what was shown is never lost; behind the
 * time of the last pack it says what the source says; and before it everything that can be reached is there.
 *
 * In some worlds the source is restored from a backup, and they take back by themselves what it has lost, though never
 * to before the time of a pack.
 */
import assert from "node:assert/strict";
import { ZrsError } from "../../lib/errors.ts";
import { Storage } from "../../lib/filestorage/mod.ts";
import { Primary, Secondary } from "../../lib/replica/mod.ts";
import type { BuiltFile } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { type ReadRecord, transactionsOf } from "../kit/transactions_of.ts";
import { findReferences, reachableStates } from "../filestorage/pack_kit.ts";
import { FileView } from "./file_view.ts";
import { LENGTH, linkedHistory } from "./linked_history.ts";
import { TappedLog } from "./log.ts";
import { type Ports, SimulatedMachine, type SimulatedProcess } from "./machine.ts";
import { SimulatedNetwork } from "./network.ts";
import { SeededRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";

const SEEDS = 40;
const DATA_FS = "/db/Data.fs";
const PORT = 5000;
const BUFFERS = { readBytes: 1024, runBytes: 2048, sendBytes: 1024 };

/** What happened in all worlds. */
interface Seen {
  packs: number;
  refused: number;
  deaths: number;
  images: number;
  rewinds: number;
  /** Nodes that stayed as they were when their source was restored: they have been packed to a later time. */
  left: number;
}

/** A history of the source, from the beginning on. */
interface Past {
  readonly file: BuiltFile;
  readonly tids: readonly bigint[];
}

function pastOf(file: BuiltFile): Past {
  return { file, tids: transactionsOf(file.bytes).map(({ tid }) => tid) };
}

class World {
  readonly random: SeededRandom;
  readonly scheduler: Scheduler;
  readonly network: SimulatedNetwork;
  /** What the source has now. */
  past: Past;
  /** How many of its first transactions the source's backup has, and what comes behind these; undefined: there is none. */
  readonly backup: { readonly length: number; readonly past: Past } | undefined;
  readonly #first: Past;
  readonly source: SimulatedMachine;
  readonly nodes: readonly PackingNode[];
  readonly seen: Seen;
  /** How many of the history's transactions the source has. */
  written = 1;

  constructor(random: SeededRandom, scheduler: Scheduler, seen: Seen) {
    this.random = random;
    this.scheduler = scheduler;
    this.seen = seen;
    this.network = new SimulatedNetwork(scheduler, random);
    this.#first = this.past = pastOf(linkedHistory(random.fork("history")));
    const length = 5 + random.int(LENGTH - 20);
    const fork = { at: length, random: random.fork("fork") };
    this.backup = random.chance(0.4)
      ? { length, past: pastOf(linkedHistory(random.fork("history"), fork)) }
      : undefined;
    this.source = new SimulatedMachine(this, "S");
    this.#place();
    const first = new PackingNode(this, "A", undefined);
    this.nodes = [first, new PackingNode(this, "B", first), new PackingNode(this, "C", first)];
  }

  get isRestored(): boolean {
    return this.past !== this.#first;
  }

  /** The history to which a transaction belongs. */
  pastWith(tid: bigint): Past {
    return this.past.tids.includes(tid) ? this.past : this.#first;
  }

  /** The source is restored from its backup, and will go on from there in another way. */
  restore(): void {
    if (this.backup === undefined || this.isRestored || this.written <= this.backup.length) return;
    this.source.kill();
    this.past = this.backup.past;
    this.written = this.backup.length;
    this.source.disk.erase(DATA_FS);
    this.#place();
    this.startSource();
  }

  /** The source has so many transactions, all on disk. */
  #place(): void {
    const { bytes, transactions } = this.past.file;
    this.source.disk.place(DATA_FS, bytes.slice(0, transactions[this.written - 1]!.end));
  }

  startSource(): void {
    this.source.start("zrs", async (ports, signal) => {
      const replicateTo = { transport: "tcp", host: "0.0.0.0", port: PORT } as const;
      const options = { path: DATA_FS, replicateTo, blobs: "refuse", buffers: BUFFERS } as const;
      await using primary = await Primary.open(ports, options);
      await primary.run(signal);
    });
  }

  /** Whoever writes the source's file appends some transactions. */
  write(count: number): void {
    this.source.start("writer", async ({ disk }) => {
      using file = disk.openWrite(DATA_FS);
      const { bytes, transactions } = this.past.file;
      for (; count > 0 && this.written < transactions.length; count--) {
        const { position, end } = transactions[this.written++]!;
        file.writeAt(bytes.subarray(position, end), position);
        await file.sync();
      }
    });
  }
}

class PackingNode {
  readonly machine: SimulatedMachine;
  readonly #world: World;
  readonly #upstream: PackingNode | undefined;
  readonly #random: SeededRandom;
  readonly #protocol: "native" | "zrs2";
  #process: SimulatedProcess | undefined;
  #node: Secondary | undefined;
  #ports: Ports | undefined;
  /** The last transaction that it has shown. */
  #shown = 0n;
  /** The latest time that a pack of its own may have been to. */
  #packedTo = 0n;
  /** It has said that it is not rewound: to before the time of a pack, or where packs have left nothing in common. */
  #isLeft = false;
  /** After packs at both ends nothing tells any more that its source was restored; it has said so. */
  #isUnsure = false;

  constructor(world: World, name: string, upstream: PackingNode | undefined) {
    this.#world = world;
    this.#upstream = upstream;
    this.#random = world.random.fork(name);
    this.#protocol = world.backup === undefined ? this.#random.pick(["native", "zrs2"]) : "native";
    this.machine = new SimulatedMachine(world, name);
    this.machine.disk.makeDirectory("/db");
    this.machine.disk.hasLinks = this.#random.chance(0.7);
    this.machine.disk.observers.add({
      operated: () => {
        if (this.#random.chance(0.02)) this.#lookAtImage();
      },
    });
  }

  get name(): string {
    return this.machine.name;
  }

  /** The latest time that what it holds may have been packed to. */
  get packedTo(): bigint {
    const above = this.#upstream?.packedTo ?? 0n;
    return above > this.#packedTo ? above : this.#packedTo;
  }

  /** Whether it stands still, or one between it and the source. */
  get isLeft(): boolean {
    return this.#isLeft || this.#upstream?.isLeft === true;
  }

  get isUnsure(): boolean {
    return this.#isUnsure || this.#upstream?.isUnsure === true;
  }

  get isRunning(): boolean {
    return this.#process?.running === true;
  }

  get lastTid(): bigint {
    return this.#node?.lastTid ?? 0n;
  }

  start(): void {
    this.#node = undefined;
    this.#process = this.machine.start("zrs", async (given, signal) => {
      const ports = { ...given, log: new TappedLog(given.log, (message) => this.#hear(message)) };
      const replicateTo = { transport: "tcp", host: "0.0.0.0", port: PORT } as const;
      await using secondary = await Secondary.open(ports, {
        ...{
          path: DATA_FS,
          blobs: "refuse",
          retryMaxMs: 200,
          buffers: BUFFERS,
          indexSaveMs: 300,
          replicateTo,
        },
        protocol: this.#protocol,
        name: this.name,
        remember: true,
        rewindLimit: LENGTH,
        replicateFrom: { transport: "tcp", host: this.#upstream?.name ?? "S", port: PORT },
      });
      this.#checkShown(secondary.lastTid);
      const show = () => this.#shown = secondary.lastTid;
      show();
      using _subscription = secondary.subscribe(show);
      this.#node = secondary;
      this.#ports = ports;
      await secondary.run(signal);
    });
  }

  #hear(message: string): void {
    if (message.startsWith("Rewound ")) this.#world.seen.rewinds++;
    if (/is not rewound: (.* packed to a later time|the source names no)/.test(message)) this.#isLeft = true;
    if (this.#world.isRestored && message.includes("beyond the pack")) this.#isUnsure = true;
  }

  /** What the source has lost may be taken back. */
  #checkShown(lastTid: bigint): void {
    if (this.#world.isRestored) return;
    assert.ok(lastTid >= this.#shown, `${this.name} has lost what it has shown`);
  }

  /** Packs up to one of the last transactions; gives up now and then. */
  pack(): void {
    const [node, ports] = [this.#node, this.#ports];
    if (node === undefined || ports === undefined || !this.isRunning) return;
    const random = this.#random;
    const { scheduler, seen } = this.#world;
    const { tids } = this.#world.pastWith(node.lastTid);
    const last = tids.findLastIndex((tid) => tid <= node.lastTid);
    if (last < 1) return;
    const stop = tids[Math.max(0, last - random.int(6))]!;
    if (stop > this.#packedTo) this.#packedTo = stop;
    const giveUp = new AbortController();
    if (random.chance(0.1)) scheduler.after(random.int(60), () => giveUp.abort(new GivenUp("given up")));
    node.pack({
      stop,
      findReferences: random.chance(0.8) ? findReferences : undefined,
      keepOld: random.chance(0.5),
      keepForMs: random.chance(0.3) ? Infinity : undefined,
      signal: giveUp.signal,
      warn: () => {},
      pause: () => new Promise((resolve) => void ports.clock.schedule(random.int(3), resolve)),
    }).then(({ isPacked }) => {
      if (isPacked) seen.packs++;
    }, (error) => {
      seen.refused++;
      if (!(error instanceof ZrsError || error instanceof GivenUp)) scheduler.fail(error);
    });
  }

  /** What befalls a process. */
  async die(how: "kill" | "power" | "stop"): Promise<void> {
    this.#world.seen.deaths++;
    if (how === "kill") this.machine.kill();
    else if (how === "power") {
      this.machine.crash();
      this.machine.restart();
    } else {
      this.#process?.stop();
      await this.#world.scheduler.runUntil(() => !this.isRunning);
    }
    await this.check(
      new Map(this.machine.disk.paths().map((path) => [path, this.machine.disk.bytes(path)!])),
    );
  }

  /** Does what the message says where the file system has one name for a file, and the power went between two renames. */
  putBack(): void {
    const { disk } = this.machine;
    if (disk.bytes(DATA_FS) !== undefined || disk.hasLinks) return;
    const old = disk.bytes(`${DATA_FS}.old`);
    if (old === undefined) return;
    disk.erase(`${DATA_FS}.old`);
    disk.place(DATA_FS, old);
  }

  /** What a process that nobody has ended has ended by. */
  checkAlive(): void {
    const outcome = this.#process?.outcome;
    if (outcome?.state === "failed") throw outcome.error;
  }

  /** Holds what files are there against what the source has. @param atRest everything must have come */
  async check(files: ReadonlyMap<string, Uint8Array>, atRest = false): Promise<void> {
    let path = DATA_FS;
    if (!files.has(path) && !this.machine.disk.hasLinks && files.has(`${DATA_FS}.old`)) {
      path = `${DATA_FS}.old`;
    }
    const whole = files.get(path) ?? new Uint8Array();
    const view = FileView.of(whole);
    assert.notEqual(whole.length > 4 ? view.outcome : "whole", "damaged", `${this.name} is damaged`);
    const bytes = whole.slice(0, view.end);
    const { random } = this.#world;
    const lastTid = view.lastTid;
    const { file: history, tids } = this.#world.pastWith(lastTid);
    this.#checkShown(lastTid);
    if (atRest) assert.equal(lastTid, this.#world.past.tids.at(-1));
    if (lastTid === 0n || this.isUnsure) return;
    const packedTo = this.packedTo;
    if (packedTo === 0n) return assertSameBytes(bytes, history.bytes.slice(0, bytes.length), this.name);
    const later = (all: Uint8Array) =>
      transactionsOf(all).filter(({ tid }) => tid > packedTo && tid <= lastTid).map(({ tid, records }) => ({
        tid,
        records: records.map(({ oid, tid, data }: ReadRecord) => ({ oid, tid, data })),
      }));
    assert.deepEqual(later(bytes), later(history.bytes), `${this.name} behind ${packedTo}`);
    const between = tids.filter((tid) => tid >= packedTo && tid <= lastTid);
    for (const tid of [lastTid, ...(between.length === 0 ? [] : [random.pick(between)])]) {
      if (tid < packedTo) continue;
      assert.deepEqual(
        reachableStates(bytes, tid),
        reachableStates(history.bytes, tid),
        `${this.name}: what can be reached at ${tid} is another`,
      );
    }
    await assertIndexed(files, path, this.name);
  }

  #lookAtImage(): void {
    this.#world.seen.images++;
    const files = this.machine.disk.crashImage(this.#random);
    this.check(files).catch((error) => this.#world.scheduler.fail(error));
  }
}

/** The operator has changed his mind. */
class GivenUp extends Error {}

/** An index that lies there and is believed is right. */
async function assertIndexed(
  files: ReadonlyMap<string, Uint8Array>,
  path: string,
  label: string,
): Promise<void> {
  const [disk, other] = [new MemoryDisk(), new MemoryDisk()];
  disk.put(DATA_FS, files.get(path)!);
  other.put(DATA_FS, files.get(path)!);
  const index = files.get(`${path}.index`);
  if (index === undefined) return;
  disk.put(`${DATA_FS}.index`, index);
  await using storage = await Storage.open(disk, DATA_FS);
  await using scanned = await Storage.open(other, DATA_FS);
  const entriesOf = ({ index }: Storage) => {
    const entries: string[] = [];
    index.forEach((high, low, position) => void entries.push(`${high}.${low}@${position}`));
    return entries.sort().join(" ");
  };
  assert.equal(entriesOf(storage), entriesOf(scanned), `${label}: the index is of another file`);
}

async function live(seed: number, seen: Seen): Promise<void> {
  const random = new SeededRandom(seed);
  await using scheduler = new Scheduler(random);
  const world = new World(random, scheduler, seen);
  world.startSource();
  for (const node of world.nodes) node.start();
  const steps = 10 + random.int(30);
  for (let step = 0; step < steps; step++) {
    await scheduler.runFor(random.int(150));
    for (const node of world.nodes) node.checkAlive();
    world.write(random.int(4));
    if (random.chance(0.08)) world.restore();
    const node = random.pick([world.nodes[0]!, ...world.nodes]);
    if (random.chance(0.5)) node.pack();
    if (random.chance(0.7)) continue;
    await scheduler.runFor(random.int(40));
    await node.die(random.pick(["kill", "power", "stop"]));
    node.putBack();
    node.start();
  }
  world.write(Infinity);
  const last = world.past.tids.at(-1)!;
  await scheduler.runUntil(() => world.nodes.every((node) => node.lastTid === last || node.isLeft));
  seen.left += world.nodes.filter(({ isLeft }) => isLeft).length;
  for (const node of world.nodes) node.pack();
  await scheduler.runFor(5_000);
  for (const node of world.nodes) {
    node.checkAlive();
    await node.die("stop");
    const { disk } = node.machine;
    await node.check(new Map(disk.paths().map((path) => [path, disk.bytes(path)!])), !node.isLeft);
  }
  await scheduler.runFor(0);
}

Deno.test(`in ${SEEDS} worlds secondaries pack while they replicate, and lose nothing`, async () => {
  const seen: Seen = { packs: 0, refused: 0, deaths: 0, images: 0, rewinds: 0, left: 0 };
  for (let seed = 1; seed <= SEEDS; seed++) {
    try {
      await live(seed, seen);
    } catch (error) {
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
    }
  }
  assert.ok(seen.packs > 3 * SEEDS && seen.deaths > SEEDS && seen.images > SEEDS, JSON.stringify(seen));
  assert.ok(seen.rewinds > 2 && seen.left > 5, JSON.stringify(seen));
});
