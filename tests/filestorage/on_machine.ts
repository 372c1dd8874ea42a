/** Work on the disk of a simulated machine, and what a loss of power at any moment of it would leave. */
import type { Disk } from "../../lib/ports/mod.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { MachineDisk } from "../simulation/disk.ts";
import { Life } from "../simulation/life.ts";
import { SeededRandom } from "../simulation/random.ts";
import { Scheduler } from "../simulation/scheduler.ts";

/** What a loss of power left, by path. */
export type Left = ReadonlyMap<string, Uint8Array>;

export class Machine {
  readonly disk: MachineDisk;
  readonly #draws: SeededRandom;
  #processes = 0;

  constructor(disk: MachineDisk, draws: SeededRandom) {
    this.disk = disk;
    this.#draws = draws;
  }

  /** The disk as a new process has it. @param life of the process, for whoever is to end it */
  start(life: Life = new Life(`m/zrs#${++this.#processes}`, "zrs")): Disk {
    return this.disk.port(life);
  }

  /** What losses of power at this moment may leave, so many of them. */
  losses(count = 1): Left[] {
    return Array.from({ length: count }, () => this.disk.crashImage(this.#draws));
  }
}

/** Lets work be done on a machine of its own, in simulated time. @throws what the work throws */
export async function onMachine<Result>(
  seed: number,
  work: (machine: Machine) => Promise<Result>,
): Promise<Result> {
  const random = new SeededRandom(seed);
  await using scheduler = new Scheduler(random);
  const machine = new Machine(new MachineDisk(scheduler, random, "m"), new SeededRandom(seed + 1000));
  let done = false;
  const working = work(machine).finally(() => done = true);
  working.catch(() => {}); // it is awaited below
  await scheduler.runUntil(() => done);
  return await working;
}

/** The machine's disk when it has power again. */
export function diskAfter(left: Left): MemoryDisk {
  const disk = new MemoryDisk();
  for (const [path, bytes] of left) disk.put(path, bytes);
  return disk;
}
