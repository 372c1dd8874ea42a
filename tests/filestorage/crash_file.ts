/**
 * A file in memory that remembers what was done to it, and can tell everything that a loss of power at any
 * moment may leave: each sector as it was at the last sync or at any time since, and any size in between.
 */
import { DiskError, DiskFullError } from "../../lib/errors.ts";
import type { BlockFile } from "../../lib/ports/mod.ts";

const SECTOR = 512;

type Step =
  | { readonly kind: "write"; readonly position: number; readonly bytes: Uint8Array }
  | { readonly kind: "truncate"; readonly size: number }
  | { readonly kind: "sync" }
  /** Whoever wrote was told that so much is durable. */
  | { readonly kind: "told"; readonly end: number };

/** One failure to come, counted in writes, truncations and syncs. */
export interface FileFault {
  readonly nth: number;
  readonly error: "io" | "full";
  /** Of a write: how much of it goes through. */
  readonly written: number;
}

export class CrashFile implements BlockFile {
  readonly path = "/data/Data.fs";
  readonly #initial: Uint8Array;
  readonly #steps: Step[] = [];
  #bytes: Uint8Array;
  #fault: FileFault | undefined;
  #operations = 0;

  /** @param initial what is on disk already */
  constructor(initial: Uint8Array, fault?: FileFault) {
    this.#initial = initial.slice();
    this.#bytes = initial.slice();
    this.#fault = fault;
  }

  get bytes(): Uint8Array {
    return this.#bytes.slice();
  }

  /** What was done, in order: "write 23 at 231", "sync". */
  get performed(): string[] {
    return this.#steps.flatMap((step) => {
      if (step.kind === "write") return [`write ${step.bytes.length} at ${step.position}`];
      if (step.kind === "truncate") return [`truncate to ${step.size}`];
      return step.kind === "sync" ? ["sync"] : [];
    });
  }

  /** Whether the fault has hit. */
  get faultIsOver(): boolean {
    return this.#fault !== undefined && this.#operations >= this.#fault.nth;
  }

  /** Notes what the writer says is durable from now on. */
  tell(end: number): void {
    this.#steps.push({ kind: "told", end });
  }

  readAt(into: Uint8Array, position: number): number {
    const found = this.#bytes.subarray(Math.min(position, this.#bytes.length), position + into.length);
    into.set(found);
    return found.length;
  }

  writeAt(bytes: Uint8Array, position: number): void {
    const fault = this.#take();
    const part = bytes.slice(0, fault?.written ?? bytes.length);
    if (part.length > 0) this.#do({ kind: "write", position, bytes: part });
    if (fault !== undefined) throw failure(fault);
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    await Promise.resolve();
    this.writeAt(bytes, position);
  }

  truncate(size: number): void {
    const fault = this.#take();
    if (fault !== undefined) throw failure(fault);
    this.#do({ kind: "truncate", size });
  }

  async sync(): Promise<void> {
    await Promise.resolve();
    const fault = this.#take();
    if (fault !== undefined) throw failure(fault);
    this.#steps.push({ kind: "sync" });
  }

  size(): number {
    return this.#bytes.length;
  }

  identity(): string {
    return this.path;
  }

  close(): void {}

  [Symbol.dispose](): void {}

  /**
   * Every different file that a crash may leave, and the end that had been told of as durable before.
   * Sectors that were written since the last sync are taken independently of each other.
   */
  *crashImages(): Generator<{ readonly bytes: Uint8Array; readonly told: number }> {
    const seen = new Set<string>();
    let told = this.#initial.length;
    let durable = this.#initial;
    let pending: Step[] = [];
    for (const step of [undefined, ...this.#steps]) {
      if (step?.kind === "told") told = step.end;
      else if (step?.kind === "sync") {
        durable = pending.reduce(applied, durable);
        pending = [];
      } else if (step !== undefined) pending.push(step);
      for (const bytes of imagesOf(durable, pending)) {
        const key = `${told} ${text(bytes)}`;
        if (seen.has(key)) continue;
        seen.add(key);
        yield { bytes, told };
      }
    }
  }

  #do(step: Step): void {
    this.#steps.push(step);
    this.#bytes = applied(this.#bytes, step);
  }

  #take(): FileFault | undefined {
    return ++this.#operations === this.#fault?.nth ? this.#fault : undefined;
  }
}

function failure({ error }: FileFault): DiskError {
  return error === "full" ? new DiskFullError("the disk is full") : new DiskError("input/output error");
}

function applied(bytes: Uint8Array, step: Step): Uint8Array {
  if (step.kind !== "write" && step.kind !== "truncate") return bytes;
  const end = step.kind === "truncate" ? step.size : step.position + step.bytes.length;
  const size = step.kind === "truncate" ? step.size : Math.max(bytes.length, end);
  const changed = new Uint8Array(size);
  changed.set(bytes.subarray(0, size));
  if (step.kind === "write") changed.set(step.bytes, step.position);
  return changed;
}

/** All mixtures of the sectors' states, and of the sizes, from the durable file to the last pending step. */
function* imagesOf(durable: Uint8Array, pending: readonly Step[]): Generator<Uint8Array> {
  const states = [durable];
  for (const step of pending) states.push(applied(states.at(-1)!, step));
  const sizes = new Set(states.map((state) => state.length));
  const sectors = Math.ceil(Math.max(...sizes) / SECTOR);
  const choices: { start: number; versions: Uint8Array[] }[] = [];
  for (let sector = 0; sector < sectors; sector++) {
    const start = sector * SECTOR;
    const versions = new Map(states.map((state) => {
      const version = new Uint8Array(SECTOR); // what was never written reads as zeros
      version.set(state.subarray(start, start + SECTOR));
      return [text(version), version];
    }));
    if (versions.size > 1) choices.push({ start, versions: [...versions.values()] });
  }
  for (const size of sizes) {
    const image = new Uint8Array(sectors * SECTOR);
    image.set(durable);
    yield* mixtures(image, size, choices);
  }
}

function* mixtures(
  image: Uint8Array,
  size: number,
  [first, ...others]: readonly { start: number; versions: Uint8Array[] }[],
): Generator<Uint8Array> {
  if (first === undefined) {
    yield image.slice(0, size);
    return;
  }
  for (const version of first.versions) {
    image.set(version, first.start);
    yield* mixtures(image, size, others);
  }
}

function text(bytes: Uint8Array): string {
  return new TextDecoder("latin1").decode(bytes);
}
