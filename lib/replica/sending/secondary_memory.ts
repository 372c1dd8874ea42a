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
  /** When those in the file were heard of, as this process has last read or written it. */
  #written: ReadonlyMap<string, number> = new Map();
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
    const damage = memory.#takeOver();
    if (damage !== undefined) ports.log.warning(`${damage.message}; it is written anew`);
    return memory;
  }

  /** Also those of other processes that serve the same file. */
  get known(): KnownSecondary[] {
    this.#takeOver();
    return [...this.#known.values()];
  }

  /** A secondary has said what is on its disk. */
  heard(name: string, tid: bigint): void {
    if (tid === NO_TID) return;
    const { clock } = this.#ports;
    const isNew = !this.#known.has(name);
    this.#known.delete(name); // who was heard of last stands last
    this.#known.set(name, { name, tid, heardMs: clock.now() });
    this.#dropOldest();
    this.#isChanged = true;
    const dueMs = clock.monotonic() + (isNew ? NEW_MS : FURTHER_MS);
    if (dueMs >= this.#dueMs) return;
    this.#timer?.cancel();
    this.#dueMs = dueMs;
    this.#timer = clock.schedule(dueMs - clock.monotonic(), () => void this.#write());
  }

  /**
   * Takes what another process has written of its own secondaries. What this one has written itself is no news, though
   * the clock may have been set back since.
   * @returns why the file cannot be read
   */
  #takeOver(): ZrsError | undefined {
    const found = new Map<string, number>();
    try {
      for (const each of readKnownSecondaries(this.#ports.disk, this.#path)) {
        const { name, heardMs } = each;
        found.set(name, heardMs);
        const ownMs = this.#known.get(name)?.heardMs ?? -Infinity;
        if (this.#written.get(name) !== heardMs && heardMs > ownMs) this.#known.set(name, each);
      }
    } catch (error) {
      if (error instanceof ZrsError) return error;
      throw error;
    }
    this.#written = found;
    this.#dropOldest();
    return undefined;
  }

  #dropOldest(): void {
    for (const name of this.#known.keys()) {
      if (this.#known.size <= MAX_KNOWN) break;
      this.#known.delete(name);
    }
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
    const { known } = this;
    try {
      await writeKnownSecondaries(disk, this.#path, known, clock.now());
      this.#written = new Map(known.map(({ name, heardMs }) => [name, heardMs]));
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
