/**
 * The file of a secondary, opened: a Storage that it receives into and serves from. With a delay that is not yet
 * what the Data.fs holds.
 */
import { DiskFullError, UsageError } from "../errors.ts";
import {
  type DelayedOptions,
  DelayedStorage,
  type Patience,
  planPromotion,
  promote,
  type PromotionPlan,
  segmentPaths,
  Storage,
} from "../filestorage/mod.ts";
import { type Address, type Disk, formatAddress, isThisMachineOnly } from "../ports/mod.ts";
import { describeTid } from "../zodb/mod.ts";
import { DelayedApply } from "./delayed_apply.ts";
import { IndexKeeper } from "./index_keeper.ts";
import type { Ports } from "./ports.ts";
import { tellCut, tellOpened } from "./tell_opened.ts";

/** What has become of a replica that was promoted. */
export interface Promotion {
  readonly lastTid: bigint;
  /** What waited and has been applied. */
  readonly applied: { readonly transactions: number; readonly bytes: number };
  /** What waited and has not. */
  readonly kept: { readonly transactions: number; readonly bytes: number };
  /** Where the latter is; undefined when there is none. */
  readonly savedTo: string | undefined;
}

export interface ReplicaFileOptions extends DelayedOptions {
  readonly path: string;
  readonly replicateFrom: Address;
  /** 0: what is received is applied at once. */
  readonly applyDelayMs: number;
  readonly indexSaveMs: number;
}

export class ReplicaFile implements AsyncDisposable {
  /** What has been received. */
  readonly storage: Storage;
  /** Transactions that had to be scanned at open. */
  readonly scanned: number;
  readonly #opened: Storage | DelayedStorage;
  #applying: DelayedApply | undefined;

  private constructor(opened: Storage | DelayedStorage, applying: DelayedApply | undefined) {
    this.#opened = opened;
    this.storage = opened instanceof DelayedStorage ? opened.received : opened;
    this.scanned = opened instanceof DelayedStorage ? 0 : opened.report.scanned;
    this.#applying = applying;
  }

  /**
   * Opens the file, creating it when there is none. Without a delay, what waits from a time with one is applied first.
   * @throws LockedError, UsageError, CorruptError, DivergedError, DiskError, and the signal's reason
   */
  static async open(ports: Ports, options: ReplicaFileOptions): Promise<ReplicaFile> {
    const { path, applyDelayMs, replicateFrom } = options;
    await using owned = new AsyncDisposableStack();
    if (applyDelayMs > 0) {
      const delayed = owned.use(await DelayedStorage.open(ports.disk, path, options));
      refuseItself(delayed.applied, replicateFrom);
      tellOpened(ports.log, delayed.applied);
      tellWaiting(ports, delayed, applyDelayMs);
      owned.move();
      const { indexSaveMs } = options;
      return new ReplicaFile(
        delayed,
        new DelayedApply(ports, delayed, { delayMs: applyDelayMs, indexSaveMs }),
      );
    }
    if (segmentPaths(ports.disk, path).length > 0) await applyAll(ports, options);
    const storage = owned.use(await Storage.open(ports.disk, path, options));
    refuseItself(storage, replicateFrom);
    tellOpened(ports.log, storage);
    owned.move();
    return new ReplicaFile(storage, undefined);
  }

  /** With a delay, and until it is promoted: what applies it to the Data.fs. */
  get applying(): DelayedApply | undefined {
    return this.#applying;
  }

  /** To be called when nothing is received or applied any more: removes segments that nothing waits in. */
  async tidy(): Promise<void> {
    if (this.#opened instanceof DelayedStorage) await this.#opened.tidy();
  }

  /**
   * Finds out what promoting means; see {@link planPromotion}.
   * @throws UsageError when what is not to be applied has been; CorruptError, DiskError
   */
  async planPromotion(disk: Disk, before: bigint | undefined, patience: Patience): Promise<PromotionPlan> {
    return await planPromotion(disk, this.storage, this.#applied.end, before, patience);
  }

  /**
   * Applies what is to be applied, keeps the rest beside the file, and lets go of it. To be called as {@link tidy}.
   * @throws as {@link planPromotion}, DiskFullError
   */
  async promote(disk: Disk, before: bigint | undefined, patience: Patience): Promise<Promotion> {
    const plan = await this.planPromotion(disk, before, patience);
    this.#applying = undefined; // what waits is gone then, so nothing of it is told any more
    if (this.#opened instanceof DelayedStorage) await promote(disk, this.#opened, plan, patience);
    await this[Symbol.asyncDispose](); // so that whoever waits for this may open it at once
    const { applied, kept, savedTo } = plan;
    return {
      lastTid: this.#applied.lastTid,
      applied: { transactions: applied.transactions, bytes: applied.bytes },
      kept: { transactions: kept.transactions, bytes: kept.bytes },
      savedTo: kept.transactions > 0 ? savedTo : undefined,
    };
  }

  /** What is in the Data.fs. */
  get #applied(): Storage {
    return this.#opened instanceof DelayedStorage ? this.#opened.applied : this.#opened;
  }

  /** Closing twice is harmless. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened[Symbol.asyncDispose]();
  }
}

async function applyAll({ disk, clock, log }: Ports, options: ReplicaFileOptions): Promise<void> {
  const { path, signal } = options;
  await using delayed = await DelayedStorage.open(disk, path, options);
  refuseItself(delayed.applied, options.replicateFrom);
  const { waitingBytes, received } = delayed;
  if (waitingBytes > 0) {
    log.info(
      `Applying ${waitingBytes} bytes that wait for ${path} from a time with --apply-delay, ` +
        `up to ${describeTid(received.lastTid)}`,
    );
  }
  const index = new IndexKeeper({ clock, log }, delayed.applied);
  try {
    while (await delayed.applyNext(() => true)) signal?.throwIfAborted();
  } catch (error) {
    // Parts of a large transaction may lie there, for which there was no room; and who stops goes on behind the rest.
    const isIndexRight = error instanceof DiskFullError || error === signal?.reason;
    await index.leaveInOrder(isIndexRight);
    throw error;
  }
  await index.save();
  await delayed.tidy();
}

/** @throws UsageError when the file is most likely the one that the source follows */
function refuseItself({ report, path }: Storage, from: Address): void {
  if (!report.followed || !isThisMachineOnly(from)) return;
  throw new UsageError(
    `Cannot replicate from ${formatAddress(from)} to ${path}: a zrs primary on this machine follows that ` +
      `very file, so source and copy would be the same`,
    { path, hint: "name another file for the copy" },
  );
}

function tellWaiting({ log }: Ports, { received, waitingBytes }: DelayedStorage, delayMs: number): void {
  const { path, lastTid } = received;
  tellCut(log, `${path}.pending`, received.report);
  const waiting = waitingBytes === 0
    ? "nothing waits"
    : `${waitingBytes} bytes wait, up to ${describeTid(lastTid)}`;
  log.info(`${path} gets transactions when they are ${delayMs / 1000} s old; ${waiting}`);
}
