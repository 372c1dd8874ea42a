/**
 * What befalls a world: cut and silent links, crashes and kills at any step of a disk, full and failing disks,
 * clocks that are set, operators who stop nodes or begin anew. Each world has its own choice of these.
 */
import type { SimulatedMachine, SimulatedProcess } from "./machine.ts";
import type { SeededRandom } from "./random.ts";
import { DATA_FS, type Replica } from "./replica.ts";
import type { Tracked } from "./tracked_file.ts";
import type { World } from "./world.ts";

/** By name, how often each happens beside the others, and what it is. */
const HAPPENINGS = {
  "cut links": [3, (weather) => weather.cut()],
  "silences": [2, (weather) => weather.silence()],
  "partitions": [1, (weather) => weather.partition()],
  "slow links": [1, (weather) => weather.slow()],
  "clocks set": [1, (weather) => weather.setClock()],
  "writers killed": [1, (weather) => weather.kill(weather.world.source, "writer")],
  "source crashes": [1.5, (weather) => weather.crash(weather.world.source, "writer")],
  "source crashes while it syncs": [1, (weather) => weather.crashAtSync()],
  "primaries killed": [1, (weather) => weather.world.primary?.kill()],
  "primaries stopped": [0.5, (weather) => weather.stop(weather.world.primary, "the primary")],
  "primaries failing to read": [0.5, (weather) => weather.failReads()],
  "replicas killed": [2, (weather) => weather.kill(weather.replica().machine, "zrs")],
  "replica crashes": [3, (weather) => weather.crash(weather.replica().machine, "zrs")],
  "replicas stopped": [1, (weather) => weather.stopReplica()],
  "replicas full": [1, (weather) => weather.fill()],
  "replicas' disks failing": [1.5, (weather) => weather.failDisk()],
  "replicas begun anew": [0.3, (weather) => weather.beginAnew()],
  "replicas restored": [0.2, (weather) => weather.restoreReplica()],
  "sources restored": [0.4, (weather) => weather.restoreSource()],
  "nothing": [1, () => {}],
} as const satisfies Readonly<Record<string, readonly [weight: number, befall: (weather: Weather) => void]>>;

/** The name of something that can befall a world. */
export type Happening = keyof typeof HAPPENINGS;

export class Weather {
  readonly world: World;
  readonly #random: SeededRandom;
  readonly #happenings: {
    readonly name: string;
    readonly weight: number;
    befall: (weather: Weather) => void;
  }[];
  #over = false;

  constructor(world: World) {
    this.world = world;
    this.#random = world.random.fork("weather");
    const drawn = Object.entries(HAPPENINGS)
      .map(([name, [weight, befall]]) => ({ name, weight: weight * this.#random.unit(), befall }))
      .filter(({ name }) => name === "nothing" || this.#random.chance(0.6));
    this.#happenings = world.plan.weather === undefined
      ? drawn
      : world.plan.weather.map((name) => ({ name, weight: 1, befall: HAPPENINGS[name][1] }));
    this.#schedule();
  }

  /** From now on nothing befalls anybody, and what did is mended. */
  end(): void {
    this.#over = true;
    const { network, machines } = this.world;
    for (const machine of machines) {
      machine.disk.faults.clear();
      machine.disk.capacityBytes = Infinity;
      machine.disk.syncLatencyMs = { least: 0.1, most: 8 };
      for (const other of machines) {
        const link = network.link(machine.name, other.name);
        link.latencyMs = Math.min(link.latencyMs, 40);
        link.bytesPerMs = Math.max(link.bytesPerMs, 1_000);
      }
    }
    network.healAll();
  }

  cut(): void {
    this.world.network.cut(...this.#pair());
  }

  silence(): void {
    const [a, b] = this.#pair();
    this.world.network.silence(...(this.#random.chance(0.5) ? [a, b] as const : [b, a] as const));
    this.#later(20_000, () => this.world.network.heal(a, b));
  }

  partition(): void {
    const [a, b] = this.#pair();
    this.world.network.partition(a, b);
    this.#later(20_000, () => this.world.network.heal(a, b));
  }

  slow(): void {
    const [a, b] = this.#pair();
    for (const link of [this.world.network.link(a, b), this.world.network.link(b, a)]) {
      const { latencyMs, bytesPerMs } = link;
      link.latencyMs = this.#random.pick([300, 3_000]);
      link.bytesPerMs = this.#random.pick([1, 10, 100]);
      this.#later(5_000, () => {
        link.latencyMs = latencyMs;
        link.bytesPerMs = bytesPerMs;
      });
    }
  }

  setClock(): void {
    const by = this.#random.pick([1_000, 60_000, 3_600_000]) * (this.#random.chance(0.5) ? 1 : -1);
    this.#random.pick(this.world.machines).clock.step(by);
  }

  /** At once, or in the middle of one of its next changes of the disk. */
  kill(machine: SimulatedMachine, process: string): void {
    const running = process === "writer" ? this.world.writer : this.#replicaOn(machine).process;
    this.#atSomeStep(machine, process, () => running?.kill());
  }

  crash(machine: SimulatedMachine, process: string): void {
    this.#atSomeStep(machine, process, () => machine.crash());
  }

  /** The writer has shown what it has not synced yet. */
  crashAtSync(): void {
    const { source } = this.world;
    source.disk.faults.add({
      on: "sync",
      process: "writer",
      skip: this.#random.int(4),
      effect: () => source.crash(),
    });
  }

  stopReplica(): void {
    const replica = this.replica();
    this.stop(replica.process, replica.name);
    replica.wanted = false;
    this.#later(3_000, () => replica.wanted = true);
  }

  /** A process that is asked to stop does so, unless something worse befalls it first. */
  stop(process: SimulatedProcess | undefined, who: string): void {
    process?.stop();
    this.world.scheduler.after(60_000, () => {
      if (process?.running) this.world.scheduler.fail(new Error(`${who} was asked to stop and still runs`));
    });
  }

  /** Leaves a little room for a while. */
  fill(): void {
    const { disk } = this.replica().machine;
    disk.capacityBytes = disk.usedBytes() + this.#random.int(30_000);
    this.#later(8_000, () => disk.capacityBytes = Infinity);
  }

  failDisk(): void {
    const on = this.#random.pick(["sync", "sync", "write", "change", "read", "open"] as const);
    const { faults } = this.replica().machine.disk;
    if (faults.pending) return;
    const mayBeFull = on !== "read" && on !== "open";
    faults.add({
      on,
      process: "zrs",
      skip: this.#random.int(20),
      times: this.#random.between(1, 2),
      effect: mayBeFull && this.#random.chance(0.2) ? "full" : "error",
    });
  }

  failReads(): void {
    this.world.source.disk.faults.add({
      on: this.#random.pick(["read", "open"]),
      process: "primary",
      skip: this.#random.int(10),
      times: this.#random.between(1, 3),
      effect: "error",
    });
  }

  /** The operator takes a replica's files away and starts it again, empty or with a copy of the source's. */
  beginAnew(): void {
    const replica = this.replica();
    replica.process?.kill();
    replica.beginAnew(this.#random.chance(0.5) ? this.world.copyOfSource() : undefined);
  }

  /** The operator puts an older copy of a replica's own file back: chained replicas are ahead of it for a while. */
  restoreReplica(): void {
    const replica = this.replica();
    const older = this.#older(replica.file, replica.file.durable.bytesOf(Infinity));
    replica.process?.kill();
    replica.beginAnew(older);
  }

  /** The operator puts a backup of the source's file in place: replicas may now have what the source lacks. */
  restoreSource(): void {
    const { world } = this;
    if (!world.mayWrite) return;
    world.mayWrite = false;
    world.writer?.kill();
    world.scheduler.after(this.#random.between(1_500, 4_000), () => {
      const { disk } = world.source;
      const older = this.#older(world.sourceFile, disk.durableBytes(DATA_FS));
      if (older !== undefined && world.sourceFile.exists && this.#random.chance(0.3)) {
        disk.cut(DATA_FS, older.length);
      } else if (older !== undefined) {
        disk.place(DATA_FS, older);
      }
      world.mayWrite = true;
    });
  }

  /** The first transactions of what is on a platter. */
  #older({ durable: { transactions } }: Tracked, bytes: Uint8Array | undefined): Uint8Array | undefined {
    if (bytes === undefined || transactions.length === 0) return undefined;
    const back = this.#random.pick([1, 3, transactions.length]);
    const first = Math.max(0, transactions.length - 1 - this.#random.int(back));
    return bytes.slice(0, transactions[first]!.position);
  }

  replica(): Replica {
    return this.#random.pick(this.world.replicas);
  }

  #schedule(): void {
    const random = this.#random;
    this.world.scheduler.after(2 * this.world.plan.weatherEveryMs * random.unit(), () => {
      if (this.#over) return;
      const sum = this.#happenings.reduce((total, { weight }) => total + weight, 0);
      let at = random.unit() * sum;
      const next = this.#happenings.find(({ weight }) => (at -= weight) < 0) ?? this.#happenings[0]!;
      this.world.count(next.name);
      this.world.scheduler.note("weather", next.name);
      next.befall(this);
      this.#schedule();
    });
  }

  /** A pair of machines of which one replicates from the other. */
  #pair(): [string, string] {
    const replica = this.replica();
    return [replica.name, replica.upstream.machine.name];
  }

  #replicaOn(machine: SimulatedMachine): Replica {
    return this.world.replicas.find((replica) => replica.machine === machine)!;
  }

  #atSomeStep(machine: SimulatedMachine, process: string, effect: () => void): void {
    if (this.#random.chance(0.3)) return effect();
    machine.disk.faults.add({ on: "change", process, skip: this.#random.int(25), effect });
  }

  #later(mostMs: number, action: () => void): void {
    this.world.scheduler.after(this.#random.unit() * mostMs, () => {
      if (!this.#over) action();
    });
  }
}
