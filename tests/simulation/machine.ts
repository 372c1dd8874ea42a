/**
 * A simulated machine: a disk, a place in the network, a clock, and processes that use them.
 *
 *     const machine = new SimulatedMachine({ scheduler, network, random }, "secondary");
 *     const process = machine.start("zrs", async (ports, signal) => { … });
 *     process.stop();        // as SIGTERM: the signal is aborted, the task ends by itself
 *     process.kill();        // as SIGKILL: the page cache survives, connections are closed
 *     machine.crash();       // power loss: all processes die, the disk loses what it may lose, silence
 *     machine.restart();     // the machine is there again; start its processes anew
 *     process.outcome;       // { state: "running" | "finished" | "killed" } | { state: "failed", error }
 *
 * A task that ends with an error that is none of ours (lib/errors.ts) fails the run: it is a bug. One that
 * ends with one of ours has merely failed; the scenario says whether that is right.
 */
import { ZrsError } from "../../lib/errors.ts";
import type { Clock, Disk, Log, Network, Random } from "../../lib/ports/mod.ts";
import { MachineClock, ProcessClock } from "./clock.ts";
import { MachineDisk } from "./disk.ts";
import { Life, ProcessDead } from "./life.ts";
import { CollectingLog, type LogEntry } from "./log.ts";
import type { SimulatedNetwork } from "./network.ts";
import type { SeededRandom } from "./random.ts";
import type { Scheduler } from "./scheduler.ts";

/** What a process is handed. */
export interface Ports {
  readonly disk: Disk;
  readonly network: Network;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export type Task = (ports: Ports, signal: AbortSignal) => Promise<void>;

export type Outcome =
  | { readonly state: "running" | "finished" | "killed" }
  | { readonly state: "failed"; readonly error: ZrsError };

/** What the machines of a world share. */
export interface Surroundings {
  readonly scheduler: Scheduler;
  readonly network: SimulatedNetwork;
  readonly random: SeededRandom;
}

export class SimulatedProcess {
  readonly life: Life;
  readonly #stop = new AbortController();
  #outcome: Outcome = { state: "running" };

  constructor(life: Life) {
    this.life = life;
  }

  get outcome(): Outcome {
    return this.#outcome;
  }

  get running(): boolean {
    return this.#outcome.state === "running";
  }

  /** Asks the task to end. */
  stop(): void {
    this.#stop.abort();
  }

  /** Ends the process without asking. Harmless when it has ended. */
  kill(): void {
    if (this.running) this.#outcome = { state: "killed" };
    this.life.end();
  }

  /** Runs the task to its end; the machine calls it once. */
  run(task: Task, ports: Ports, scheduler: Scheduler): void {
    const ended = (outcome: Outcome, error?: unknown) => {
      if (!this.running) return;
      this.#outcome = outcome;
      if (error !== undefined && !(error instanceof ZrsError)) scheduler.fail(error);
      scheduler.note(this.life.name, `ended: ${outcome.state}`);
      this.life.end(); // the system closes what the process left open
    };
    scheduler.after(0, () => {
      if (!this.life.alive) return;
      new Promise<void>((resolve) => resolve(task(ports, this.#stop.signal))).then(
        () => ended({ state: "finished" }),
        (error: unknown) => {
          if (error instanceof ProcessDead) return;
          if (error instanceof ZrsError) ended({ state: "failed", error });
          else ended({ state: "killed" }, error);
        },
      );
    });
  }
}

export class SimulatedMachine {
  readonly name: string;
  readonly disk: MachineDisk;
  readonly clock: MachineClock;
  /** What all processes of this machine have logged. */
  readonly log: LogEntry[] = [];
  readonly #surroundings: Surroundings;
  readonly #random: SeededRandom;
  #processes: SimulatedProcess[] = [];
  #started = 0;

  constructor(surroundings: Surroundings, name: string) {
    this.name = name;
    this.#surroundings = surroundings;
    this.#random = surroundings.random.fork(`machine ${name}`);
    this.disk = new MachineDisk(surroundings.scheduler, surroundings.random, name);
    this.clock = new MachineClock(surroundings.scheduler, this.#random.int(1e9));
    surroundings.network.addHost(name);
  }

  /** Whether the machine is on. */
  get up(): boolean {
    return !this.#surroundings.network.isDown(this.name);
  }

  /**
   * Starts a process.
   * @param process what it is called in faults and logs: "zrs", "writer"
   */
  start(process: string, task: Task): SimulatedProcess {
    if (!this.up) throw new Error(`Cannot start ${process}: ${this.name} is switched off`);
    const { scheduler, network } = this.#surroundings;
    const number = ++this.#started;
    const life = new Life(`${this.name}/${process}#${number}`, process, 1000 + number);
    const started = new SimulatedProcess(life);
    this.#processes = this.#processes.filter((other) => other.running);
    this.#processes.push(started);
    scheduler.note(life.name, "starts");
    started.run(
      task,
      {
        disk: this.disk.port(life),
        network: network.port(life, this.name),
        clock: new ProcessClock(this.clock, life),
        random: new ProcessRandom(this.#random.fork(`${process}#${number}`), life),
        log: new CollectingLog(this.log, scheduler, life),
      },
      scheduler,
    );
    return started;
  }

  /** Kills all processes; the machine stays on. */
  kill(): void {
    for (const process of this.#processes.splice(0)) process.kill();
  }

  /** The power is lost. Harmless when the machine is off. */
  crash(): void {
    if (!this.up) return;
    this.#surroundings.scheduler.note(this.name, "crashes");
    this.#surroundings.network.switchOff(this.name);
    this.kill();
    this.disk.crash();
  }

  /** The power is back. Nothing runs yet. */
  restart(): void {
    this.#surroundings.scheduler.note(this.name, "is back");
    this.#surroundings.network.switchOn(this.name);
  }
}

class ProcessRandom implements Random {
  readonly #random: SeededRandom;
  readonly #life: Life;

  constructor(random: SeededRandom, life: Life) {
    this.#random = random;
    this.#life = life;
  }

  unit(): number {
    this.#life.check();
    return this.#random.unit();
  }

  bytes(count: number): Uint8Array {
    this.#life.check();
    return this.#random.bytes(count);
  }
}
