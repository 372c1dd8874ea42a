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

/** Two that are heard of by turns for so long are two indeed, and not one that has come again. */
const SAME_NAME_MS = 10_000;

/** A secondary while it is attached. */
export interface Remembered extends Disposable {
  /** It has said what is on its disk. */
  heard(tid: bigint): void;
}

interface Attached {
  readonly sinceMs: number;
  /** Undefined while it has nothing. */
  tid: bigint | undefined;
}

export class SecondaryMemory {
  readonly #ports: Ports;
  readonly #path: string;
  readonly #known = new Map<string, KnownSecondary>();
  /** When those in the file were heard of, as this process has last read or written it. */
  #written: ReadonlyMap<string, number> = new Map();
  /** Those that are attached, by name, the one that came first in front. */
  readonly #attached = new Map<string, Set<Attached>>();
  /** Names that several have. */
  readonly #told = new Set<string>();
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

  /** A secondary has come that calls itself so; it is to be disposed of when it goes. */
  enter(name: string): Remembered {
    const own: Attached = { sinceMs: this.#ports.clock.monotonic(), tid: undefined };
    const all = this.#attached.get(name) ?? new Set();
    this.#attached.set(name, all.add(own));
    return {
      heard: (tid) => {
        if (tid === NO_TID) return;
        own.tid = tid;
        if (all.size > 1) this.#tellSameName(name, [...all].at(-1)!, own);
        const known = [...all].flatMap((each) => each.tid === undefined ? [] : [each.tid]);
        this.#heard(name, known.reduce((least, each) => each < least ? each : least));
      },
      [Symbol.dispose]: () => {
        all.delete(own);
        if (all.size === 0 && this.#attached.get(name) === all) this.#attached.delete(name);
      },
    };
  }

  /** Of several, what the one needs that has least is kept for as long as it is attached, and for no longer. */
  #tellSameName(name: string, last: Attached, heard: Attached): void {
    const { clock, log } = this.#ports;
    const isOne = heard === last || clock.monotonic() - last.sinceMs < SAME_NAME_MS;
    if (isOne || this.#told.has(name) || this.#told.size >= MAX_KNOWN) return;
    this.#told.add(name);
    log.warning(
      `Several secondaries of ${this.#path} call themselves ${name}: a pack cannot know what one of them needs when ` +
        `that is away; give each a --name of its own`,
    );
  }

  #heard(name: string, tid: bigint): void {
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
