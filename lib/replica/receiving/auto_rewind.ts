/**
 * A secondary that was told to follow its source whatever becomes of it: where the source refuses it as ahead or
 * forked, and names the last common transaction, it takes back what it has beyond that, within a limit.
 *
 * The limit holds for all that is taken back until the source has sent something new. So a source that refuses
 * again and again, each time with an earlier transaction, does not get further than one that refuses once.
 */
import { CorruptError, DiskFullError, UsageError, type ZrsError } from "../../errors.ts";
import {
  type Patience,
  planRewind,
  type RewindPlan,
  rewindStorage,
  type Storage,
} from "../../filestorage/mod.ts";
import { describeTid, formatTid } from "../../zodb/mod.ts";
import type { DelayedApply } from "../delayed_apply.ts";
import type { Ports } from "../ports.ts";
import { HistoryRefusedError } from "../lineage/refusal.ts";
import { countOf } from "../transaction_words.ts";
import { pauser } from "../waiting.ts";

export class AutoRewind {
  readonly #ports: Ports;
  readonly #storage: Storage;
  readonly #limit: number;
  readonly #applying: DelayedApply | undefined;
  /** How many transactions have been taken back since the source has sent any. */
  #takenBack = 0;

  /**
   * @param limit how many transactions may go; 0 for never
   * @param applying applies from the storage to the Data.fs what is due; only what waits is taken back
   */
  constructor(ports: Ports, storage: Storage, limit: number, applying?: DelayedApply) {
    this.#applying = applying;
    this.#ports = ports;
    this.#storage = storage;
    this.#limit = limit;
  }

  /** The source has sent something new. */
  grown(): void {
    this.#takenBack = 0;
  }

  /**
   * Rewinds the storage if that is what the failure calls for. Nothing may be on its way into it.
   * @param source its address, for the log
   * @param signal ends it; then nothing has been changed
   * @returns whether it was rewound: whatever was built on its end is of no use any more
   * @throws DiskError final
   */
  async heed(failure: ZrsError, source: string, signal: AbortSignal): Promise<boolean> {
    if (this.#limit === 0 || !(failure instanceof HistoryRefusedError)) return false;
    const { disk, clock, log } = this.#ports;
    const patience = { pause: pauser(clock), signal };
    const { path } = this.#storage;
    using _held = await this.#applying?.hold();
    try {
      const obstacle = await this.#obstacle(failure.common, patience);
      if (obstacle === undefined) {
        const done = await rewindStorage(disk, this.#storage, failure.common!, patience);
        this.#takenBack += done.transactions;
        log.warning(this.#describe(done, failure, source), { tid: formatTid(done.tid) });
        return true;
      }
      log.error(`${path} is not rewound: ${obstacle}`);
    } catch (error) {
      if (signal.aborted && error === signal.reason) return false;
      if (!leavesAllAsItWas(error)) throw error;
      log.error(`${path} is not rewound: ${error.message}`);
    }
    return false;
  }

  /** Why not to rewind to what the source says is common; undefined when nothing stands against it. */
  async #obstacle(common: bigint | undefined, patience: Patience): Promise<string | undefined> {
    const { lastTid } = this.#storage;
    if (common === undefined) return "the source names no transaction that both have, so all would go";
    if (common >= lastTid) {
      return `the source names ${describeTid(common)} as the last common transaction, the last here is ` +
        describeTid(lastTid);
    }
    const plan = await planRewind(this.#ports.disk, this.#storage, common, patience);
    const { transactions, end, isWithinPack } = plan;
    if (isWithinPack) {
      return `it has been packed to a later time than ${
        describeTid(common)
      }, and may lack objects as they were then, ` +
        `which no source would send again. Stop the node, move the file away, and let it make a new copy`;
    }
    if (end < (this.#applying?.appliedEnd ?? 0)) {
      return `what comes behind ${
        describeTid(common)
      } has been applied to the file in part. Stop the node, apply or ` +
        `keep what waits with zrs promote, and then use zrs rewind`;
    }
    if (this.#takenBack + transactions <= this.#limit) return undefined;
    const besides = this.#takenBack === 0 ? "" : ` besides the ${this.#takenBack} that have gone already`;
    return `${countOf(transactions)} behind ${describeTid(common)} would go${besides}, and no more than ` +
      `${this.#limit} may (--rewind-limit)`;
  }

  #describe(
    { transactions, tid, firstTid, lastTid, savedTo }: RewindPlan,
    { message, isExact }: HistoryRefusedError,
    source: string,
  ): string {
    const range = transactions === 1
      ? describeTid(firstTid)
      : `${describeTid(firstTid)} to ${describeTid(lastTid)}`;
    const unsure = isExact
      ? ""
      : " (that no later one is common is not known for sure: packs have removed what would tell)";
    return `Rewound ${this.#storage.path} to ${
      describeTid(tid)
    }${unsure}, since ${source} refuses it: ${message}. ` +
      `${countOf(transactions)} taken back: ${range}, saved in ${savedTo}`;
  }
}

/** See {@link rewindStorage}; anything else may have gone wrong on the way. */
function leavesAllAsItWas(error: unknown): error is ZrsError {
  return error instanceof DiskFullError || error instanceof CorruptError || error instanceof UsageError;
}
