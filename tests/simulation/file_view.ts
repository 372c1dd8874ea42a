/**
 * A Data.fs as a naive reader sees it, read again from where it has changed. Says which transactions are whole
 * and what their records say, by the format's description alone (source_format.ts).
 */
import { Buffer } from "node:buffer";
import { type FoundTransaction, MAGIC, type NaiveRecord, type Scan, scan } from "./source_format.ts";

export class FileView {
  transactions: FoundTransaction[] = [];
  outcome: Scan["outcome"] = "whole";
  size = 0;
  readonly #indexOf = new Map<bigint, number>();
  #records: Map<number, NaiveRecord> | undefined;

  static of(bytes: Uint8Array): FileView {
    const view = new FileView();
    view.update(bytes, 0);
    return view;
  }

  /** A view of a whole file that is mostly like another; what is alike is taken from there. */
  static like(other: FileView, bytes: Uint8Array): FileView {
    const view = new FileView();
    const differs = other.transactions.findIndex((transaction) =>
      !sameBytes(transaction.bytes, bytes.subarray(transaction.position, endOf(transaction)))
    );
    view.append(differs < 0 ? other.transactions : other.transactions.slice(0, differs));
    view.update(bytes, view.end);
    return view;
  }

  /** The end of the last whole transaction. */
  get end(): number {
    const last = this.transactions.at(-1);
    return last === undefined ? MAGIC.length : endOf(last);
  }

  get lastTid(): bigint {
    return this.transactions.at(-1)?.tid ?? 0n;
  }

  /**
   * Reads what has changed.
   * @param from bytes before are as they were
   * @returns how many of the first transactions were not read again
   */
  update(bytes: Uint8Array, from: number): number {
    let kept = this.transactions.length;
    while (kept > 0 && endOf(this.transactions[kept - 1]!) > Math.min(from, bytes.length)) kept--;
    for (const dropped of this.transactions.splice(kept)) this.#indexOf.delete(dropped.tid);
    const result = scan(bytes, this.end);
    this.size = bytes.length;
    this.outcome = result.outcome;
    this.append(result.transactions);
    return kept;
  }

  /** Takes transactions that were read elsewhere. */
  append(transactions: readonly FoundTransaction[]): void {
    for (const transaction of transactions) {
      this.#indexOf.set(transaction.tid, this.transactions.length);
      this.transactions.push(transaction);
    }
    this.#records = undefined;
  }

  /** A file with the first so many transactions, as they lie in this one. */
  bytesOf(count: number): Uint8Array {
    return new Uint8Array(
      Buffer.concat([MAGIC, ...this.transactions.slice(0, count).map(({ bytes }) => bytes)]),
    );
  }

  /** Whether every tid is greater than the one before. */
  get rises(): boolean {
    return this.transactions.every(({ tid }, i) => tid > (this.transactions[i - 1]?.tid ?? 0n));
  }

  has(tid: bigint): boolean {
    return this.#indexOf.has(tid);
  }

  /** Where in {@link transactions} a tid is; -1 when it is not there. */
  indexOf(tid: bigint): number {
    return this.#indexOf.get(tid) ?? -1;
  }

  /** What a record says, back pointers followed; undefined when the object does not exist. */
  dataOf(record: NaiveRecord): Uint8Array | undefined {
    this.#records ??= new Map(
      this.transactions.flatMap((transaction) => transaction.records.map((each) => [each.position, each])),
    );
    let at: NaiveRecord | undefined = record;
    while (at !== undefined && "backPointer" in at.payload) {
      const next: NaiveRecord | undefined = this.#records.get(at.payload.backPointer);
      if (next !== undefined && next.oid !== record.oid) {
        throw new Error(`A back pointer of object ${record.oid} leads to object ${next.oid}`);
      }
      at = next;
    }
    return at === undefined || !("data" in at.payload) ? undefined : at.payload.data;
  }

  /** Every object's current state; those that do not exist are left out. */
  states(): Map<bigint, Uint8Array> {
    const states = new Map<bigint, Uint8Array>();
    for (const record of this.transactions.flatMap((transaction) => transaction.records)) {
      const data = this.dataOf(record);
      if (data === undefined) states.delete(record.oid);
      else states.set(record.oid, data);
    }
    return states;
  }
}

export function endOf(transaction: FoundTransaction): number {
  return transaction.position + transaction.bytes.length;
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** Whether two transactions say the same: tid, status, metadata, and of each record the oid and the data. */
export function sayTheSame(
  a: FoundTransaction,
  inA: FileView,
  b: FoundTransaction,
  inB: FileView,
): boolean {
  if (a.tid !== b.tid || a.status !== b.status || a.records.length !== b.records.length) return false;
  if (!sameBytes(a.user, b.user) || !sameBytes(a.description, b.description)) return false;
  if (!sameBytes(a.extension, b.extension)) return false;
  return a.records.every((record, i) => {
    const other = b.records[i]!;
    if (record.oid !== other.oid) return false;
    const data = inA.dataOf(record);
    const otherData = inB.dataOf(other);
    if (data === undefined || otherData === undefined) return data === otherData;
    return sameBytes(data, otherData);
  });
}
