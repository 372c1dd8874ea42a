/**
 * Packing the file of a running secondary. It goes on receiving; for the last moment, in which the packed file takes
 * the file's place, the connection to the source ends, and is made anew: by then the file lies in other places.
 *
 * The last transaction is never packed, so that the source knows it again as it was.
 */
import { DiskFullError, LockedError, UnavailableError } from "../errors.ts";
import {
  keepForSecondaries,
  type KnownSecondary,
  type PackOptions,
  type PackReport,
  packStorage,
  readKnownSecondaries,
  type Storage,
} from "../filestorage/mod.ts";
import { describeTid, NO_TID } from "../zodb/mod.ts";
import type { Ports } from "./ports.ts";
import type { Turn } from "./turn.ts";
import { politePauser } from "./waiting.ts";

/** What a node is to pack of its file. */
export interface PackRequest extends Omit<PackOptions, "patience" | "alone"> {
  /** What secondaries may need that were heard of within so many milliseconds is kept; default: nothing is. */
  readonly keepForMs?: number | undefined;
  /** Ends it: the file is as it was then. */
  readonly signal: AbortSignal;
  /** Lets others work; default: for as long as they have to, every few milliseconds. */
  readonly pause?: (() => Promise<void>) | undefined;
}

export class LivePack {
  readonly #ports: Ports;
  readonly #storage: Storage;
  readonly #turn: Turn;
  readonly #stopping = new AbortController();
  #running: Promise<unknown> | undefined;

  /** Why nothing can be written for the time being. */
  readonly #problem: () => string | undefined;

  /**
   * @param turn that whoever receives into the storage gives
   * @param problem why he cannot write for the time being, and gives no turn
   */
  constructor(ports: Ports, storage: Storage, turn: Turn, problem: () => string | undefined) {
    this.#ports = ports;
    this.#storage = storage;
    this.#turn = turn;
    this.#problem = problem;
  }

  /**
   * @param known how far secondaries are; undefined: what is written beside the file
   * @throws LockedError when a pack is under way, UnavailableError when the node stops, DiskFullError when what it has
   * received waits for room, the request's signal's reason, and as {@link packStorage}
   */
  async pack(request: PackRequest, known?: readonly KnownSecondary[]): Promise<PackReport> {
    const { path } = this.#storage;
    if (this.#running !== undefined) {
      throw new LockedError(`Cannot pack ${path}: it is being packed already`, {
        path,
        hint: "wait until that is done",
      });
    }
    const work = this.#pack(request, known);
    this.#running = work.catch(() => {}); // whoever asked is told
    try {
      return await work;
    } finally {
      this.#running = undefined;
    }
  }

  /** Whether a pack is under way, which replaces the file at its end. */
  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /** Ends a pack that is under way; then nothing reads or writes the file for it any more. */
  async stop(): Promise<void> {
    const { path } = this.#storage;
    const reason = new UnavailableError(`Cannot pack ${path}: the node stops`, { path });
    this.#stopping.abort(reason);
    this.#turn.close(reason);
    await this.#running;
  }

  async #pack(request: PackRequest, known?: readonly KnownSecondary[]): Promise<PackReport> {
    const { disk, clock, log } = this.#ports;
    const { path, lastTid } = this.#storage;
    const { findReferences, keepOld, warn, progress, keepForMs } = request;
    const wanted = request.stop < lastTid || lastTid === NO_TID ? request.stop : lastTid - 1n;
    const { stop, keptFor } = keepForMs === undefined
      ? { stop: wanted, keptFor: undefined }
      : keepForSecondaries(wanted, known ?? readKnownSecondaries(disk, path), clock.now() - keepForMs);
    const signal = AbortSignal.any([request.signal, this.#stopping.signal]);
    signal.throwIfAborted();
    this.#refuseWithoutRoom();
    log.info(`Packing ${path}`);
    try {
      const report = await packStorage(disk, this.#storage, {
        stop,
        findReferences,
        keepOld,
        blobs: request.blobs,
        missing: request.missing,
        patience: { pause: request.pause ?? politePauser(clock), signal },
        warn: (message) => {
          log.warning(message);
          warn(message);
        },
        ...(progress !== undefined && { progress }),
        alone: async (work) => {
          this.#refuseWithoutRoom();
          await this.#turn.take(work, signal);
        },
      });
      log.info(this.#describe(report));
      return { ...report, keptFor };
    } catch (error) {
      log.warning(`${path} has not been packed: ${error instanceof Error ? error.message : error}`);
      throw error;
    }
  }

  /** What has been received is to be written before a pack, and would be waited for. @throws DiskFullError */
  #refuseWithoutRoom(): void {
    const problem = this.#problem();
    if (problem === undefined) return;
    const { path } = this.#storage;
    throw new DiskFullError(
      `Cannot pack ${path}: the node has received what there is no room for: ${problem}`,
      {
        path,
        hint: "make room, or stop the node and pack then",
      },
    );
  }

  #describe({ isPacked, tid, bytesBefore, bytesAfter }: PackReport): string {
    const { path } = this.#storage;
    if (!isPacked) return `There was nothing to drop from ${path}`;
    return `Packed ${path} up to ${describeTid(tid)}: ${bytesAfter} of ${bytesBefore} bytes are left`;
  }
}
