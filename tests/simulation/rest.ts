/**
 * How a world ends: all is healed and the writer has stopped. Every replica becomes equal to the source, or is
 * refused by the right word because the source has lost what it has, or waits, being chained, for such a one.
 */
import type { Report } from "./checkers.ts";
import { canContinue, difference, isPacked, tooMany } from "./convergence.ts";
import { sayTheSame } from "./file_view.ts";
import { Replica, type Upstream } from "./replica.ts";
import type { SourceHistory } from "./source_history.ts";
import type { TrackedFile } from "./tracked_file.ts";

export class Rest {
  readonly #source: TrackedFile;
  readonly #history: SourceHistory;
  readonly #sinceMs: number;
  readonly #report: Report;

  /** @param sinceMs when the source came to its end: only refusals from then on count */
  constructor(source: TrackedFile, history: SourceHistory, sinceMs: number, report: Report) {
    this.#source = source;
    this.#history = history;
    this.#sinceMs = sinceMs;
    this.#report = report;
  }

  /** Whether nothing more is to be expected of a replica. */
  hasReached(replica: Replica): boolean {
    if (!replica.process?.running) return false;
    if (replica.stranger.isStranger) return (replica.stranger.refusedMs ?? 0) > this.#sinceMs;
    const upstream = replica.upstream.file.live;
    const { lastTid } = replica.file.live;
    if (lastTid === upstream.lastTid) return lastTid === this.#endOf(replica.upstream);
    if (this.#waits(replica) || isBeyondThePack(replica)) return true;
    const refusal = replica.refusals.at(-1);
    if (replica.refusal.refused === undefined || refusal!.timeMs <= this.#sinceMs) return false;
    if (replica.refusal.isByContent) return !this.#mayRewind(replica);
    // By zrs2, which may be spoken for a while: the native stream will tell more. Of an empty source both tell the same.
    const mayLearn = replica.rewinds.limit > 0 && replica.speaksNative && upstream.lastTid !== 0n;
    return !mayLearn && !canContinue(upstream, lastTid);
  }

  /** Whether a replica that has been refused is to rewind by itself, as far as content tells where nothing was packed. */
  #mayRewind({ rewinds, upstream, file, received }: Replica): boolean {
    const source = upstream.file.live;
    if (rewinds.limit === 0 || isPacked(source) || isPacked(file.live)) return false;
    const { count, isAll } = tooMany(source, file.live);
    // What has been applied stays.
    return !isAll && count <= rewinds.left && count <= (received?.waiting ?? Infinity);
  }

  /** Judges a replica that has rested for a while. @returns what became of it, for the summary */
  check(replica: Replica): string {
    const { name, refusal, upstream, file } = replica;
    if (!this.hasReached(replica)) this.#broken(`${name} does not stay at rest`);
    replica.received?.checkAtRest();
    if (replica.stranger.isStranger) return "refused for the secret";
    if (this.#waits(replica)) return "waiting for what the source has lost";
    refusal.atRest(upstream.file.live, file.live);
    if (refusal.refused !== undefined && file.live.lastTid !== upstream.file.live.lastTid) {
      return `refused as ${refusal.refused}`;
    }
    const source = this.#source.live;
    if (file.live.lastTid !== source.lastTid) return "at rest as its source, or behind a pack";
    const differs = difference(source, file.live);
    if (differs === undefined) return "converged";
    if (!this.#holdsLostTransactions(replica)) this.#broken(`${name} is not equal to its source: ${differs}`);
    return "forks that tids alone cannot tell";
  }

  /** Whether a chained replica waits, as it should, for one that will never get so far: the source lost that. */
  #waits({ upstream, file }: Replica): boolean {
    const { lastTid } = file.live;
    if (!(upstream instanceof Replica) || lastTid <= upstream.file.live.lastTid) return false;
    return this.#isStuck(upstream) || !this.#source.live.has(lastTid);
  }

  /** What an upstream will end with: the source's last tid, unless it is stuck. */
  #endOf(upstream: Upstream): bigint {
    const stuck = upstream instanceof Replica && this.#isStuck(upstream);
    return stuck ? upstream.file.live.lastTid : this.#source.live.lastTid;
  }

  /** Whether a replica, or one between it and the source, gets nothing more. */
  #isStuck(replica: Replica): boolean {
    if (replica.stranger.isStranger) return true;
    if (replica.refusal.refused !== undefined || isBeyondThePack(replica)) return true;
    if (this.#waits(replica)) return true;
    return replica.upstream instanceof Replica && this.#isStuck(replica.upstream);
  }

  /**
   * Behind a pack, or where a clock that was set back has made the source give a tid twice, a replica can hold
   * what the source has lost, and nobody notices.
   */
  #holdsLostTransactions({ file: { live } }: Replica): boolean {
    const source = this.#source.live;
    return this.#history.lost.some(({ tid }) => {
      const held = live.transactions[live.indexOf(tid)];
      const there = source.transactions[source.indexOf(tid)];
      return held !== undefined && (there === undefined || !sayTheSame(held, live, there, source));
    });
  }

  #broken(what: string): void {
    this.#report("ConvergenceChecker", what);
  }
}

/** Whether a replica's end has been packed away, or might have been: so it is taken for one that has caught up. */
function isBeyondThePack({ upstream, file }: Replica): boolean {
  const source = upstream.file.live;
  return file.live.lastTid > source.lastTid && canContinue(source, file.live.lastTid);
}
