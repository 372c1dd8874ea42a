/**
 * The promises (docs/architecture.md, "Promises"), one checker each. A checker watches from outside: it reads
 * files by the naive model of the format (source_format.ts) and never asks the code under test whether it is
 * right. What it finds wrong it reports; the run then fails with the checker's name.
 */
import { checkIndex, readIndexFile } from "../../lib/filestorage/index/index_file.ts";
import { readIndexPosition } from "../../lib/filestorage/index/index_position.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import type { MachineDisk } from "./disk.ts";
import { endOf, FileView, sameBytes, sayTheSame } from "./file_view.ts";
import type { RewindChecker } from "./rewinds.ts";
import { type FoundTransaction, MAGIC, PACKED } from "./source_format.ts";
import type { SourceStates } from "./source_states.ts";

/** A promise was broken. */
export class PromiseBroken extends Error {
  /** The checker that found it. */
  readonly checker: string;

  constructor(checker: string, what: string) {
    super(`${checker}: ${what}`);
    this.name = "PromiseBroken";
    this.checker = checker;
  }
}

export type Report = (checker: string, what: string) => void;

/**
 * A replica is a prefix of what the source had on its platter at some time. Where no pack has been it is the
 * same bytes; elsewhere it says the same, transaction by transaction.
 */
export class PrefixChecker {
  readonly #name: string;
  readonly #states: SourceStates;
  readonly #report: Report;
  /** For each transaction of the replica's file, up to where it has been checked, whether all are exact so far. */
  #exact: boolean[] = [];

  constructor(name: string, states: SourceStates, report: Report) {
    this.#name = name;
    this.#states = states;
    this.#report = report;
  }

  /** The replica's file has changed. */
  live(view: FileView, unchanged: number): void {
    this.#exact.length = Math.min(this.#exact.length, unchanged);
    this.#check(view, this.#exact, "");
  }

  /** What a power loss would leave. @param live the file as it was at that moment */
  image(view: FileView, live: FileView): void {
    let same = 0;
    const { transactions } = view;
    while (same < transactions.length && same < this.#exact.length) {
      if (!sameBytes(transactions[same]!.bytes, live.transactions[same]!.bytes)) break;
      same++;
    }
    this.#check(view, this.#exact.slice(0, same), "after a power loss, ");
  }

  #check(view: FileView, exact: boolean[], when: string): void {
    for (let i = exact.length; i < view.transactions.length; i++) {
      const found = this.#find(view, i, exact[i - 1] ?? true);
      if (typeof found === "string") {
        this.#report(
          "PrefixChecker",
          `${when}transaction ${i} of ${this.#name}, ${hex(view.transactions[i]!.tid)}, ${found}`,
        );
        return;
      }
      exact.push(found);
    }
  }

  /** @returns whether the replica is exact up to this transaction, or what is wrong */
  #find(view: FileView, at: number, exactSoFar: boolean): boolean | string {
    const transaction = view.transactions[at]!;
    const before = view.transactions[at - 1]?.tid ?? 0n;
    if (transaction.tid <= before) return "does not rise";
    let problem = "was never on the source's disk";
    for (const state of this.#states.states.toReversed()) {
      const index = state.view.indexOf(transaction.tid);
      if (index < 0) continue;
      if (!isNext(state.view.transactions, index, before)) {
        problem = `did not follow ${hex(before)} on the source's disk`;
        continue;
      }
      const there = state.view.transactions[index]!;
      if (sameBytes(transaction.bytes, there.bytes) && transaction.position === there.position) {
        return exactSoFar && index < state.exactCount;
      }
      if (exactSoFar && index < state.exactCount && isAligned(view, state.view, at, index)) {
        problem = `is not byte for byte what the source had: ${firstDifference(transaction, there)}`;
        continue;
      }
      if (sayTheSame(transaction, view, there, state.view)) return false;
      problem = "does not say what the source's said";
    }
    return problem;
  }
}

function firstDifference(found: FoundTransaction, expected: FoundTransaction): string {
  const at = found.bytes.findIndex((byte, i) => byte !== expected.bytes[i]);
  return `it has ${found.bytes[at]} at ${at} of ${found.bytes.length}, the source's ${
    expected.bytes[at]
  } of ${expected.bytes.length}`;
}

/** Whether a replica's file and a source's have been the same up to this transaction. */
function isAligned(replica: FileView, source: FileView, at: number, index: number): boolean {
  if (at !== index) return false;
  const mine = replica.transactions[at - 1];
  const theirs = source.transactions[index - 1];
  if (mine === undefined || theirs === undefined) return true;
  return mine.position === theirs.position && sameBytes(mine.bytes, theirs.bytes);
}

/**
 * Whether the transaction at `index` is what a replica gets that ends with `before`: its neighbour, or the next
 * behind where a pack has taken `before` away.
 */
function isNext(transactions: readonly FoundTransaction[], index: number, before: bigint): boolean {
  const previous = transactions[index - 1];
  if (before === (previous?.tid ?? 0n)) return true;
  if (before === 0n || (previous !== undefined && previous.tid > before)) return false;
  return (previous ?? transactions[index]!).status === PACKED;
}

/** Python opens the file: it is not damaged, and at most its end is torn. */
export class OpensChecker {
  readonly #name: string;
  readonly #report: Report;

  constructor(name: string, report: Report) {
    this.#name = name;
    this.#report = report;
  }

  check(view: FileView, when: string): void {
    if (view.outcome !== "damaged" || isUnborn(view)) return;
    this.#report("OpensChecker", `${when}${this.#name} is damaged behind ${view.end} of ${view.size}`);
  }
}

/** Before its first sync a new file may have some of its first four bytes only. It holds nothing yet. */
function isUnborn(view: FileView): boolean {
  return view.size <= MAGIC.length;
}

/** What a node says that it has is on its platter, whatever of the rest a power loss takes, unless it rewinds. */
export class DurableChecker {
  readonly #name: string;
  readonly #rewinds: RewindChecker;
  readonly #report: Report;
  /** The last transaction that the node has shown to others. */
  published = 0n;

  constructor(name: string, rewinds: RewindChecker, report: Report) {
    this.#name = name;
    this.#rewinds = rewinds;
    this.#report = report;
  }

  /** The node shows transactions up to this one from now on. */
  publish(tid: bigint, durable: FileView, existsDurably: boolean): void {
    this.published = tid;
    if (!existsDurably) {
      this.#report("DurableChecker", `${this.#name} serves a file that has no durable name`);
    }
    this.check(durable, "", () => []);
    this.#rewinds.shows(tid, durable);
  }

  /**
   * What is on the platter, or would be after a power loss.
   * @param saved gives the files with what was rewound
   */
  check(view: FileView, when: string, saved: () => readonly FileView[]): void {
    if (this.published === 0n || view.has(this.published)) return;
    const objection = this.#rewinds.objection(view, saved);
    if (objection === undefined) return;
    this.#report(
      "DurableChecker",
      `${when}${this.#name} has lost ${hex(this.published)}, which it has shown: ${objection}`,
    );
  }

  /** The operator begins anew. */
  forget(): void {
    this.published = 0n;
    this.#rewinds.forget();
  }
}

/** Whoever follows a file writes nothing to its disk, and takes no lock there. */
export class NothingWrittenChecker {
  constructor(disk: MachineDisk, follower: string, report: Report) {
    const harmless = new Set<string>(["open", "read", "sync", "sync directory"]);
    disk.observers.add({
      operated: (operation, path, process) => {
        if (process !== follower || harmless.has(operation)) return;
        report("NothingWrittenChecker", `${follower} does ${operation} at ${path}`);
      },
    });
  }
}

/** An index file that is accepted with its data file is right. */
export class IndexChecker {
  readonly #name: string;
  readonly #report: Report;
  /** How many were compared in full. */
  compared = 0;

  constructor(name: string, report: Report) {
    this.#name = name;
    this.#report = report;
  }

  /** After a stop in order the index covers the whole file, unless that holds nothing. */
  atEnd(view: FileView, data: Uint8Array | undefined, index: Uint8Array | undefined): void {
    const when = "after a stop, ";
    if (data === undefined || view.transactions.every((transaction) => transaction.records.length === 0)) {
      return;
    }
    if (index === undefined) return this.#wrong(when, "there is none");
    this.check(view, data, index, true, when);
    const disk = new MemoryDisk();
    disk.put("/Data.fs.index", index);
    const position = readIndexPosition(disk, "/Data.fs");
    if (position !== view.end) this.#wrong(when, `it ends at ${position}, the file at ${view.end}`);
  }

  /** @param mustFit whether it has just been written, so that it must be accepted */
  check(view: FileView, data: Uint8Array, index: Uint8Array, mustFit: boolean, when: string): void {
    const disk = new MemoryDisk();
    disk.put("/Data.fs", data);
    disk.put("/Data.fs.index", index);
    const read = readIndexFile(disk, "/Data.fs");
    if (read.kind === "absent") return this.#reject(mustFit, when, read.reason);
    using file = disk.openRead("/Data.fs");
    const check = checkIndex(file, read.index, read.position);
    const covered = view.transactions.filter((transaction) => endOf(transaction) <= read.position);
    if (check.kind === "bad") return this.#reject(mustFit && canBeChecked(covered), when, check.reason);
    this.compared++;
    const end = covered.length === 0 ? MAGIC.length : endOf(covered.at(-1)!);
    if (end !== read.position) return this.#wrong(when, `it ends at ${read.position}, within a transaction`);
    const expected = new Map<bigint, number>();
    for (const record of covered.flatMap((transaction) => transaction.records)) {
      expected.set(record.oid, record.position);
    }
    if (read.index.count !== expected.size) {
      return this.#wrong(when, `it has ${read.index.count} objects, ${expected.size} are there`);
    }
    for (const [oid, position] of expected) {
      const found = read.index.get(Number(oid >> 32n), Number(oid & 0xffff_ffffn));
      if (found !== position) return this.#wrong(when, `object ${oid} is at ${position}, not at ${found}`);
    }
  }

  #reject(mustFit: boolean, when: string, reason: string): void {
    if (mustFit) this.#report("IndexChecker", `${when}the index of ${this.#name} is not accepted: ${reason}`);
  }

  #wrong(when: string, what: string): void {
    this.#report("IndexChecker", `${when}the index of ${this.#name} is wrong: ${what}`);
  }
}

/**
 * Whether Python takes an index of this file at all: not of a small one, nor where the last transaction with
 * records has several of one object, of which it expects each to be where the index has the object.
 */
function canBeChecked(covered: readonly FoundTransaction[]): boolean {
  const last = covered.findLast((transaction) => transaction.records.length > 0);
  if (last === undefined || endOf(covered.at(-1)!) < 100) return false;
  return new Set(last.records.map((record) => record.oid)).size === last.records.length;
}

export function hex(tid: bigint): string {
  return tid.toString(16).padStart(16, "0");
}
