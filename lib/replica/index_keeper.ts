/** Saving the index of a file that grows: now and then, and when all is done. */
import { DiskError, ZrsError } from "../errors.ts";
import type { Storage } from "../filestorage/mod.ts";
import type { Ports } from "./ports.ts";

export const DEFAULT_INDEX_SAVE_MS = 60_000;

export class IndexKeeper {
  readonly #ports: Pick<Ports, "clock" | "log">;
  readonly #storage: Storage;
  readonly #everyMs: number;
  #nextSaveMs: number;

  constructor(
    ports: Pick<Ports, "clock" | "log">,
    storage: Storage,
    everyMs: number = DEFAULT_INDEX_SAVE_MS,
  ) {
    this.#ports = ports;
    this.#storage = storage;
    this.#everyMs = everyMs;
    this.#nextSaveMs = ports.clock.monotonic() + everyMs;
  }

  /** @param drain makes durable what is whole: the index holds it, so it must be in the file before */
  async saveWhenDue(drain?: () => Promise<void>): Promise<void> {
    if (this.#ports.clock.monotonic() < this.#nextSaveMs) return;
    await drain?.();
    await this.save();
  }

  /** Leaves nothing but whole transactions, and an index of them. */
  async leaveInOrder(isIndexRight: boolean): Promise<void> {
    try {
      await this.#storage.cut();
    } catch (error) {
      if (!(error instanceof DiskError)) throw error; // what made it fail is told, and the next opening cuts
      return;
    }
    if (isIndexRight) await this.save();
  }

  /** A replica without a saved index is as good, it only opens more slowly: failing is told, not fatal. */
  async save(): Promise<void> {
    this.#nextSaveMs = this.#ports.clock.monotonic() + this.#everyMs;
    try {
      await this.#storage.saveIndex();
    } catch (error) {
      if (!(error instanceof ZrsError)) throw error;
      this.#ports.log.warning(`Cannot save the index of ${this.#storage.path}: ${error.message}`);
    }
  }
}
