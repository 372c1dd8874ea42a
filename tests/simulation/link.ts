/** The way from one simulated host to another; each direction is a link of its own. */
import type { SeededRandom } from "./random.ts";
import type { Scheduler } from "./scheduler.ts";

export class Link {
  readonly scheduler: Scheduler;
  readonly random: SeededRandom;
  /** How long a byte is under way at least, in milliseconds. */
  latencyMs: number;
  bytesPerMs: number;
  #silent = false;
  #stalled: (() => void)[] = [];

  constructor(scheduler: Scheduler, random: SeededRandom, local: boolean) {
    this.scheduler = scheduler;
    this.random = random;
    this.latencyMs = local ? 0.02 : random.pick([0.1, 0.5, 5, 40]) * (0.5 + random.unit());
    this.bytesPerMs = local ? 4_000_000 : random.pick([1_000, 12_500, 125_000, 1_250_000]);
  }

  get silent(): boolean {
    return this.#silent;
  }

  /** Nothing arrives any more; what is sent waits, as TCP would send it again. */
  silence(): void {
    this.#silent = true;
  }

  /** What waits goes on, one latency later. */
  heal(): void {
    this.#silent = false;
    const stalled = this.#stalled;
    this.#stalled = [];
    for (const action of stalled) this.scheduler.after(this.latencyMs, () => this.pass(action));
  }

  /** Lets something arrive now, or once the link delivers again. */
  pass(action: () => void): void {
    if (this.#silent) this.#stalled.push(action);
    else action();
  }
}
