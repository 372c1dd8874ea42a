/**
 * What is to go wrong with a disk, and when: the n-th operation of a kind fails, or the process is killed or
 * the power lost in the middle of it.
 *
 *     disk.faults.add({ on: "sync", path: "/db/Data.fs", effect: "error" });
 *     disk.faults.add({ on: "write", process: "zrs", skip: 16, effect: "full", times: 3 });
 *     disk.faults.add({ on: "change", skip: random.int(200), effect: () => machine.crash() });
 */

export type Operation =
  | "open"
  | "read"
  | "write"
  | "truncate"
  | "sync"
  | "create"
  | "rename"
  | "link"
  | "remove"
  | "sync directory";

/** The operations that change the disk or make changes durable. */
const CHANGES: ReadonlySet<Operation> = new Set<Operation>([
  "write",
  "truncate",
  "sync",
  "create",
  "rename",
  "link",
  "remove",
  "sync directory",
]);

export interface Fault {
  /** "change" is any operation but open and read. */
  readonly on: Operation | "change";
  /** Only at this path. */
  readonly path?: string;
  /** Only by the process that was started with this name. */
  readonly process?: string;
  /** How many such operations go well first; none unless given. */
  readonly skip?: number;
  /** How many operations it hits; 1 unless given. */
  readonly times?: number;
  /**
   * "error" and "full" throw DiskError and DiskFullError, after a part of a write has been written. A function
   * is called in the middle of the operation, to kill the process or crash the machine; if the process lives
   * on, the operation goes well.
   */
  readonly effect: "error" | "full" | (() => void);
}

export class Faults {
  /** How many have happened. */
  hits = 0;
  readonly #planned: { readonly fault: Fault; skip: number; times: number }[] = [];

  add(fault: Fault): void {
    this.#planned.push({ fault, skip: fault.skip ?? 0, times: fault.times ?? 1 });
  }

  /** Forgets what was planned and has not happened. */
  clear(): void {
    this.#planned.length = 0;
  }

  /** Whether faults are planned that have not happened yet. */
  get pending(): boolean {
    return this.#planned.length > 0;
  }

  /** Counts an operation. @returns what is to befall it */
  take(on: Operation, path: string, process: string): Fault["effect"] | undefined {
    if (this.#planned.length === 0) return undefined;
    let effect: Fault["effect"] | undefined;
    for (const plan of [...this.#planned]) {
      const { fault } = plan;
      if (fault.on !== on && !(fault.on === "change" && CHANGES.has(on))) continue;
      if (fault.path !== undefined && fault.path !== path) continue;
      if (fault.process !== undefined && fault.process !== process) continue;
      if (plan.skip > 0) {
        plan.skip--;
      } else if (effect === undefined) {
        effect = fault.effect;
        if (--plan.times === 0) this.#planned.splice(this.#planned.indexOf(plan), 1);
      }
    }
    if (effect !== undefined) this.hits++;
    return effect;
  }
}
