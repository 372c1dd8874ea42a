/**
 * One exchange by the native stream between a primary and a replica of ours, short enough to be gone through whole:
 * the link is cut behind any byte of it, or the replica dies at any step of its disk. All checkers of the
 * simulation watch.
 */
import type { Connection, Disk } from "../../lib/ports/mod.ts";
import { Primary } from "../../lib/replica/mod.ts";
import { BLOB_DIRECTORY, type SimulatedBlob } from "./blobs.ts";
import { PromiseBroken } from "./checkers.ts";
import { DisguisedConnection, DisguisedNetwork } from "./disguise.ts";
import { type Ports, SimulatedMachine, type SimulatedProcess } from "./machine.ts";
import { SimulatedNetwork } from "./network.ts";
import { SeededRandom } from "./random.ts";
import { DATA_FS, Replica } from "./replica.ts";
import { Scheduler } from "./scheduler.ts";
import { SourceStates } from "./source_states.ts";
import { TrackedFile } from "./tracked_file.ts";

const PORT = 5_000;
const RESTARTED_EVERY_MS = 20;
const CUT_AFTER_MS = 100;
const OPTIONS = {
  peerTimeoutMs: 2_000,
  buffers: { readBytes: 512, runBytes: 512, sendBytes: 256 },
  compress: "off",
} as const;

export interface ExchangeOptions {
  /** Default: native. */
  readonly protocol?: "native" | "zrs2";
  readonly seed: string;
  /** What the source had before, and what it has. */
  readonly before: Uint8Array;
  readonly source: Uint8Array;
  /** What the replica begins with; undefined for nothing. */
  readonly replica: Uint8Array | undefined;
  /** What the source has of blobs. */
  readonly blobs?: readonly SimulatedBlob[];
  /** Changes the disk that the replica sees; for planting bugs. */
  readonly disguise?: (disk: Disk) => Disk;
  /** Cuts the link once so many bytes have passed, both ways together. */
  readonly cutBehind?: number;
  /** What happens to the replica, or its disk, in the middle of the change of its disk that so many come before. */
  readonly death?: {
    readonly skip: number;
    readonly kind: "killed" | "power lost" | "disk error" | "disk full";
  };
}

export interface Exchanged {
  /** How many bytes have passed. */
  readonly bytes: number;
  /** Whether what was to happen has happened. */
  readonly befell: boolean;
  readonly rewinds: number;
}

/** Runs until the replica is the source's file, byte by byte. @throws SimulationFailure */
export async function exchange(options: ExchangeOptions): Promise<Exchanged> {
  const random = new SeededRandom(options.seed);
  await using scheduler = new Scheduler(random);
  const network = new SimulatedNetwork(scheduler, random);
  const machineOf = (name: string) => {
    const machine = new SimulatedMachine({ scheduler, network, random }, name);
    machine.disk.makeDirectory("/db");
    return machine;
  };
  const source = machineOf("S");
  const file = new TrackedFile(source.disk, DATA_FS);
  const states = new SourceStates(file);
  source.disk.place(DATA_FS, options.before);
  source.disk.place(DATA_FS, options.source);
  for (const { path, content } of options.blobs ?? []) {
    if (content !== undefined) source.disk.place(`${BLOB_DIRECTORY}/${path}`, content);
    source.disk.place(`${BLOB_DIRECTORY}/.layout`, new TextEncoder().encode("bushy"));
  }
  let bytes = 0;
  let befell = false;
  let hits = () => 0;
  const pass = (count: number) => {
    const left = befell || options.cutBehind === undefined ? Infinity : options.cutBehind - bytes;
    befell ||= left < count;
    bytes += Math.min(left, count);
    return Math.min(left, count);
  };
  // A moment later, so that what has passed has come.
  const cut = () => scheduler.delay(CUT_AFTER_MS).then(() => network.cut("S", "R"));
  const replica = new Replica({
    machine: machineOf("R"),
    upstream: { machine: source, port: PORT, file, secret: undefined },
    port: PORT,
    states,
    random,
    report: (checker, what) => scheduler.fail(new PromiseBroken(checker, what)),
    secondary: {
      ...OPTIONS,
      protocol: options.protocol ?? "native",
      keepAliveMs: 1_000,
      retryMaxMs: 100,
      indexSaveMs: 1,
    },
    blobs: options.blobs,
    rewindLimit: 100,
    applyDelayMs: 0,
    secret: undefined,
    imageLikelihood: options.death === undefined ? 0.01 : 0.2,
    isCalm: () => false,
    judged: () => {},
    heard: () => {},
    disguise: (ports: Ports) => ({
      ...ports,
      disk: options.disguise?.(ports.disk) ?? ports.disk,
      network: new DisguisedNetwork(
        ports.network,
        (connection, how) =>
          how === "accepted" ? connection : new ShortLivedConnection(connection, pass, cut),
      ),
    }),
  });
  replica.beginAnew(options.replica);
  const { death } = options;
  if (death !== undefined) {
    const { faults } = replica.machine.disk;
    const effect = {
      "killed": () => replica.process!.kill(),
      "power lost": () => replica.machine.crash(),
      "disk error": "error",
      "disk full": "full",
    } as const;
    const chosen = effect[death.kind];
    faults.add({
      on: "change",
      process: "zrs",
      skip: death.skip,
      effect: typeof chosen === "string" ? chosen : () => {
        befell = true;
        chosen();
      },
    });
    hits = () => faults.hits;
  }
  startPrimary(source, options.blobs !== undefined);
  const tend = () => {
    if (!replica.machine.up) replica.machine.restart();
    if (!replica.process?.running) replica.start();
    scheduler.after(RESTARTED_EVERY_MS, tend);
  };
  tend();
  const isEqual = () => replica.process!.running && replica.opened && equal(replica, options.source);
  await scheduler.runUntil(isEqual, { events: 100_000, durationMs: 60_000 });
  // So that everything which follows, the index included, is seen as well.
  await scheduler.runFor(300);
  await scheduler.runUntil(isEqual, { events: 100_000, durationMs: 60_000 });
  befell ||= hits() > 0;
  replica.machine.disk.faults.clear();
  replica.process!.stop();
  await scheduler.runUntil(() => !replica.process!.running, { durationMs: 60_000 });
  replica.lookAtSavedIndex();
  await scheduler.runFor(0);
  return { bytes, befell, rewinds: replica.rewinds.count };
}

function startPrimary(machine: SimulatedMachine, hasBlobs: boolean): SimulatedProcess {
  return machine.start("primary", async (ports, signal) => {
    await using primary = await Primary.open(ports, {
      ...OPTIONS,
      path: DATA_FS,
      replicateTo: { transport: "tcp", host: "0.0.0.0", port: PORT },
      ...(hasBlobs ? { blobs: "replicate", blobDir: BLOB_DIRECTORY } : { blobs: "refuse" }),
    });
    await primary.run(signal);
  });
}

function equal({ file, machine }: Replica, expected: Uint8Array): boolean {
  if (file.durable.end !== expected.length) return false;
  const bytes = machine.disk.bytes(DATA_FS);
  return bytes !== undefined && bytes.length === expected.length &&
    bytes.every((byte, i) => byte === expected[i]);
}

/** A connection that is cut when so much has passed. */
class ShortLivedConnection extends DisguisedConnection {
  readonly #pass: (count: number) => number;
  readonly #cut: () => Promise<void>;

  /**
   * @param pass how many of so many bytes may still pass
   * @param cut resolves when it has been cut
   */
  constructor(connection: Connection, pass: (count: number) => number, cut: () => Promise<void>) {
    super(connection);
    this.#pass = pass;
    this.#cut = cut;
  }

  override async write(bytes: Uint8Array): Promise<void> {
    const passing = this.#pass(bytes.length);
    if (passing > 0) await super.write(bytes.subarray(0, passing));
    if (passing === bytes.length) return;
    await this.#cut();
    await super.write(bytes.subarray(passing)); // leads nowhere
  }

  override async read(into: Uint8Array): Promise<number | null> {
    const count = await super.read(into);
    if (count === null) return null;
    const passing = this.#pass(count);
    if (passing < count) await this.#cut();
    return passing > 0 ? passing : await super.read(into);
  }
}
