/**
 * Where a replica's transactions go: built in one buffer while the run before is written and synced from the
 * other, so that durability costs little speed. Blobs come to their places before the run that has their records
 * is appended: a crash in between leaves files that no record names, never the other way round. A full disk stops the writing without harm until there is
 * room; meanwhile no more is taken from the source than the buffers hold.
 */
import { GrowingDigest, Restorer, type Run, type Storage } from "../../filestorage/mod.ts";
import { DiskFullError } from "../../errors.ts";
import type { Begun } from "../../native/mod.ts";
import type { BufferSizes } from "../buffers.ts";
import type { IncomingBlobs } from "./incoming_blobs.ts";
import type { Ports } from "../ports.ts";
import { pauser, sleep } from "../waiting.ts";

/** How often a full disk is looked at again. */
export const FULL_RETRY_MS = 5_000;

export interface SinkOptions {
  readonly onFull?: "wait" | "fail";
  readonly blobs?: IncomingBlobs | undefined;
}

type KeptBlobs = ReturnType<IncomingBlobs["takeKept"]>;

export class Sink {
  readonly restorer: Restorer;
  /** Called when nothing can be written any more, for whoever waits for something else meanwhile. */
  onFailure: () => void = () => {};
  readonly #ports: Ports;
  readonly #storage: Storage;
  readonly #signal: AbortSignal;
  /** A buffer is handed on for writing when it holds so much, at the latest. */
  readonly #runBytes: number;
  readonly #onFull: "wait" | "fail";
  /** The run on its way to disk. */
  #writing: Promise<void> | undefined;
  #failure: unknown;
  #failed = false;
  /** The contents of blobs, where they are replicated. */
  readonly #blobs: IncomingBlobs | undefined;
  /** Of what is kept of a transaction. */
  #digest: GrowingDigest | undefined;
  /** Why nothing can be written for the time being. */
  problem: string | undefined;
  /** How many transactions it has made durable, cancelled ones included. */
  transactions = 0;

  /**
   * @param signal ends waiting for room on a full disk; what waits to be written is then given up
   * @param options.onFull whether to wait for room at all; default: wait
   * @param options.blobs where the contents of blobs come, if they are taken
   */
  constructor(
    ports: Ports,
    storage: Storage,
    buffers: BufferSizes,
    signal: AbortSignal,
    { onFull = "wait", blobs }: SinkOptions = {},
  ) {
    this.#onFull = onFull;
    this.#ports = ports;
    this.#blobs = blobs;
    this.#storage = storage;
    this.#signal = signal;
    this.#runBytes = buffers.runBytes;
    this.restorer = new Restorer(
      storage.file,
      storage.index,
      storage.end,
      storage.lastTid,
      // And what one chunk from the network may add; messages are not longer in the file than on the wire.
      buffers.runBytes + 4 * buffers.readBytes,
    );
  }

  /**
   * Called after every chunk: sets off writing what is whole, and waits only when the buffer is full.
   * @throws DiskError final
   */
  async settle(): Promise<void> {
    const blobs = this.#blobs;
    if (blobs?.isBusy) await this.#untilRoom(() => blobs.settle());
    this.#begin();
    while (this.restorer.length >= this.#runBytes) {
      this.#check(); // nothing would make room any more
      if (this.#writing !== undefined) await this.#written();
      else if (this.restorer.largeEnd !== undefined || this.restorer.hasWhole) this.#begin();
      else await this.#spill();
    }
    this.#check();
  }

  /** Waits until everything whole is durable. @throws DiskError */
  async drain(): Promise<void> {
    for (;;) {
      this.#begin();
      if (this.#writing === undefined) break;
      await this.#written();
    }
    this.#check();
  }

  /**
   * The connection has been lost: writes what is whole, and keeps what can be gone on with. The rest is forgotten.
   * @throws DiskError
   */
  async interrupt(): Promise<void> {
    if (this.restorer.begun === undefined) await this.abort();
    else await this.drain();
  }

  /**
   * What is kept of a transaction, for a source to go on behind it.
   * @returns undefined when nothing is
   * @throws DiskError
   */
  async begun(): Promise<Begun | undefined> {
    const { begun, source } = this.restorer;
    if (begun === undefined) return undefined;
    const { tid, position, bytes } = begun;
    this.#digest ??= new GrowingDigest(source, position);
    const digest = await this.#digest.upTo(bytes, pauser(this.#ports.clock));
    if (digest !== undefined) return { tid, bytes, digest };
    await this.abort(); // somebody else has cut the file
    return undefined;
  }

  /** Forgets the transaction under way, and writes what is whole. @throws DiskError */
  async abort(): Promise<void> {
    this.#digest = undefined;
    this.#blobs?.leave(); // must not fail: a run may be on its way, and is waited for below
    const spilled = this.restorer.abort();
    if (spilled && this.#writing === undefined && !this.#failed) await this.#storage.cut();
    await this.drain();
  }

  /** Sets off the next run unless one is on its way. */
  #begin(): void {
    if (this.#writing !== undefined || this.#failed) return;
    const { restorer } = this;
    if (restorer.largeEnd === undefined && !restorer.hasWhole) return;
    const blobs = this.#blobs?.takeKept() ?? [];
    const run = restorer.largeEnd === undefined ? restorer.take() : undefined;
    this.#writing = (run === undefined ? this.#finishLarge(blobs) : this.#append(run, blobs))
      .catch((error) => {
        this.#failed = true;
        this.#failure = error;
        this.onFailure();
      })
      .finally(() => {
        this.#writing = undefined;
        this.#begin();
      });
  }

  async #written(): Promise<void> {
    await this.#writing;
    this.#check();
  }

  #check(): void {
    if (this.#failed) throw this.#failure;
  }

  async #append(run: Run, blobs: KeptBlobs): Promise<void> {
    await this.#place(blobs);
    await this.#untilRoom(() => this.#storage.append(run, this.#hasMore));
    this.transactions += run.transactions;
    this.restorer.giveBack(run);
  }

  /** Makes room in the buffer by writing the transaction under way as far as it has come. */
  async #spill(): Promise<void> {
    await this.#untilRoom(() => this.#storage.beginLarge());
    const parts: [Uint8Array, number][] = [];
    await this.#untilRoom(async () => {
      if (parts.length === 0) this.restorer.spill((bytes, position) => parts.push([bytes, position]));
      for (const [bytes, position] of parts) this.#storage.writePart(bytes, position);
      await Promise.resolve();
    });
  }

  async #place(blobs: KeptBlobs): Promise<void> {
    if (blobs.length > 0) await this.#untilRoom(() => this.#blobs!.place(blobs));
  }

  async #finishLarge(blobs: KeptBlobs): Promise<void> {
    await this.#place(blobs);
    const large = this.restorer.largeEnd!;
    await this.#untilRoom(async () => {
      this.restorer.spillLast((bytes, position) => this.#storage.writePart(bytes, position));
      await this.#storage.finishLarge(large, this.#hasMore);
    });
    this.transactions++;
    this.restorer.largeFinished();
  }

  readonly #hasMore = (): boolean => this.restorer.hasWhole;

  /** Repeats what the full disk refuses until there is room. */
  async #untilRoom(work: () => Promise<void>): Promise<void> {
    let told = false;
    for (;;) {
      try {
        await work();
        if (told) this.#ports.log.info(`There is room again for ${this.#storage.path}`);
        this.problem = undefined;
        return;
      } catch (error) {
        if (!(error instanceof DiskFullError) || this.#onFull === "fail" || this.#signal.aborted) throw error;
        if (!told) {
          this.#ports.log.error(
            `${error.message}; the replica stands still, complete as far as it goes, and goes on when there is room`,
          );
        }
        told = true;
        this.problem = error.message;
        await sleep(this.#ports.clock, FULL_RETRY_MS, this.#signal);
      }
    }
  }
}
