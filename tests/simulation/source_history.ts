/**
 * What a simulated source has done, seen from outside: it outlives the source's process and machine, and is
 * what replicas are compared with.
 *
 *     history.transactions    // what Data.fs holds now, in order
 *     history.ever            // by tid, every form a transaction has had while readers could see it
 *     history.lost            // visible once, gone after a crash
 *     history.packs           // what Data.fs held before each pack
 *     history.bytes()         // what Data.fs must hold, without an unfinished transaction
 */
import { Buffer } from "node:buffer";
import { MAGIC, type Scan } from "./source_format.ts";

export interface SourceTransaction {
  readonly tid: bigint;
  readonly position: number;
  /** As it lies in the file, with its final status. */
  readonly bytes: Uint8Array;
  /** When its status became final, in simulated milliseconds. */
  readonly visibleMs: number;
  /** When the source's own sync of it returned; a power loss before may lose it. */
  syncedMs: number | undefined;
}

export interface Recovery {
  readonly atMs: number;
  readonly outcome: Scan["outcome"] | "created";
  /** Tids that had been visible and are gone. */
  readonly lost: readonly bigint[];
  /** Tids whose bytes have changed: the power loss took a part that FileStorage does not check. */
  readonly altered: readonly bigint[];
}

export class SourceHistory {
  transactions: SourceTransaction[] = [];
  readonly ever = new Map<bigint, Uint8Array[]>();
  readonly lost: SourceTransaction[] = [];
  readonly recoveries: Recovery[] = [];
  readonly packs: { readonly atMs: number; readonly before: readonly SourceTransaction[] }[] = [];
  /** How many transactions were voted and then aborted. */
  aborts = 0;
  readonly #time: { readonly nowMs: number };

  /** @param time says what time it is: the scheduler */
  constructor(time: { readonly nowMs: number }) {
    this.#time = time;
  }

  /** The last visible tid, 0 when there is none. */
  get lastTid(): bigint {
    return this.transactions.at(-1)?.tid ?? 0n;
  }

  /** The last tid that the source's own sync has covered, 0 when there is none. */
  get lastSyncedTid(): bigint {
    return this.transactions.findLast((transaction) => transaction.syncedMs !== undefined)?.tid ?? 0n;
  }

  bytes(): Uint8Array {
    const parts = [MAGIC, ...this.transactions.map((transaction) => transaction.bytes)];
    const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  }

  /** Readers can see this transaction from now on. */
  visible(tid: bigint, position: number, bytes: Uint8Array): void {
    this.#remember(tid, bytes);
    this.transactions.push({ tid, position, bytes, visibleMs: this.#time.nowMs, syncedMs: undefined });
  }

  /** The source's sync, called when there were `count` transactions, has returned. */
  synced(count: number): void {
    for (const transaction of this.transactions.slice(0, count)) transaction.syncedMs ??= this.#time.nowMs;
  }

  /** A pack has put another file in place. */
  packed(scan: Scan): void {
    this.packs.push({ atMs: this.#time.nowMs, before: this.transactions });
    this.#replace(scan);
  }

  /** The source has opened its file. */
  recovered(scan: Scan, outcome: Recovery["outcome"]): void {
    const before = this.transactions;
    const known = new Map(before.map((transaction) => [transaction.tid, transaction]));
    this.#replace(scan);
    const now = new Map(this.transactions.map((transaction) => [transaction.tid, transaction]));
    const lost = before.filter((transaction) => !now.has(transaction.tid));
    const altered = this.transactions.filter((transaction) => {
      const old = known.get(transaction.tid);
      return old !== undefined && !sameBytes(old.bytes, transaction.bytes);
    });
    this.lost.push(...lost);
    this.recoveries.push({
      atMs: this.#time.nowMs,
      outcome,
      lost: lost.map((transaction) => transaction.tid),
      altered: altered.map((transaction) => transaction.tid),
    });
  }

  #replace(scan: Scan): void {
    const known = new Map(this.transactions.map((transaction) => [transaction.tid, transaction]));
    this.transactions = scan.transactions.map(({ tid, position, bytes }) => {
      this.#remember(tid, bytes);
      const old = known.get(tid);
      const syncedMs = old !== undefined && sameBytes(old.bytes, bytes) ? old.syncedMs : undefined;
      return { tid, position, bytes, visibleMs: old?.visibleMs ?? this.#time.nowMs, syncedMs };
    });
  }

  #remember(tid: bigint, bytes: Uint8Array): void {
    const forms = this.ever.get(tid) ?? [];
    if (!forms.some((form) => sameBytes(form, bytes))) forms.push(bytes);
    this.ever.set(tid, forms);
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
