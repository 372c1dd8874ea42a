/** What a source remembers of its secondaries: how far each is, by its own word; for packing. */
import { ZrsError } from "../../errors.ts";
import { type KnownSecondary, readKnownSecondaries, writeKnownSecondaries } from "../../filestorage/mod.ts";
import type { Timer } from "../../ports/mod.ts";
import { NO_TID } from "../../zodb/mod.ts";
import type { Ports } from "../ports.ts";

/** Whoever can connect can call himself what he likes: those that were heard of last are remembered. */
const MAX_KNOWN = 1000;
/** How soon a secondary that is new is written down, and how soon that one has come further. */
const NEW_MS = 1_000;
const FURTHER_MS = 300_000;

export class SecondaryMemory {
  readonly #ports: Ports;
  readonly #path: string;
  readonly #known = new Map<string, KnownSecondary>();
  #timer: Timer | undefined;
  #dueMs = Infinity;
  #isChanged = false;
  /** What is being written. */
  #writing: Promise<void> = Promise.resolve();
  #hasFailed = false;

  private constructor(ports: Ports, path: string) {
    this.#ports = ports;
    this.#path = path;
  }

  /** @param path of the database */
  static open(ports: Ports, path: string): SecondaryMemory {
    const memory = new SecondaryMemory(ports, path);
    try {
      for (const each of readKnownSecondaries(ports.disk, path)) memory.#known.set(each.name, each);
    } catch (error) {
      if (!(error instanceof ZrsError)) throw error;
      ports.log.warning(`${error.message}; it is written anew`);
    }
    return memory;
  }

  get known(): KnownSecondary[] {
    return [...this.#known.values()];
  }

  /** A secondary has said what is on its disk. */
  heard(name: string, tid: bigint): void {
    if (tid === NO_TID) return;
    const { clock } = this.#ports;
    const isNew = !this.#known.has(name);
    this.#known.delete(name); // who was heard of last stands last
    this.#known.set(name, { name, tid, heardMs: clock.now() });
    if (this.#known.size > MAX_KNOWN) this.#known.delete(this.#known.keys().next().value!);
    this.#isChanged = true;
    const dueMs = clock.monotonic() + (isNew ? NEW_MS : FURTHER_MS);
    if (dueMs >= this.#dueMs) return;
    this.#timer?.cancel();
    this.#dueMs = dueMs;
    this.#timer = clock.schedule(dueMs - clock.monotonic(), () => void this.#write());
  }

  /** Writes what has changed; resolves when that is done. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    await this.#write();
  }

  #write(): Promise<void> {
    this.#dueMs = Infinity;
    return this.#writing = this.#writing.then(() => this.#writeNow());
  }

  /** A node that cannot write it does all the rest: failing is told once. */
  async #writeNow(): Promise<void> {
    if (!this.#isChanged) return;
    this.#isChanged = false;
    const { disk, clock, log } = this.#ports;
    try {
      await writeKnownSecondaries(disk, this.#path, this.known, clock.now());
      this.#hasFailed = false;
    } catch (error) {
      if (!(error instanceof ZrsError)) throw error;
      if (!this.#hasFailed) {
        log.warning(
          `${error.message}; a pack cannot know how far the secondaries of ${this.#path} are, and what they need`,
        );
      }
      this.#hasFailed = true;
    }
  }
}
