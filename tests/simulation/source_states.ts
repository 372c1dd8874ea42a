/**
 * Everything that the source ever had on its platter: what replicas are held against. The list gets a new
 * state whenever the file there stops being a continuation of what was: by a pack, or by a power loss that
 * took transactions away.
 */
import { FileView, sameBytes } from "./file_view.ts";
import { type FoundTransaction, PACKED } from "./source_format.ts";
import type { TrackedFile } from "./tracked_file.ts";

/** What the file held while it only grew. */
export interface SourceState {
  readonly view: FileView;
  /** How many of the first transactions a replica repeats byte for byte (docs/filestorage_format.md, "Restoring"). */
  readonly exactCount: number;
}

class GrowingState implements SourceState {
  readonly view: FileView;
  exactCount = 0;
  readonly #transactionOf = new Map<number, number>();
  readonly #several = new Set<string>();
  /** Where each object's last record is. */
  readonly #current = new Map<bigint, number>();

  constructor(view: FileView) {
    this.view = view;
  }

  /** Looks at transactions that are new in the view. */
  grown(): void {
    const { transactions } = this.view;
    while (this.exactCount < transactions.length && this.#isExact(transactions[this.exactCount]!)) {
      this.exactCount++;
    }
  }

  /**
   * Not where a pack has been; not where a back pointer leads to one of several records of an object; and not
   * where a power loss has put zeros in place of an oid or a link, which nobody checks.
   */
  #isExact(transaction: FoundTransaction): boolean {
    if (transaction.status === PACKED) return false;
    if (transaction.records.some(({ oid, previous }) => previous !== (this.#current.get(oid) ?? 0))) {
      return false;
    }
    const oids = new Set<bigint>();
    for (const { oid, position, payload } of transaction.records) {
      this.#current.set(oid, position);
      this.#transactionOf.set(position, transaction.position);
      if (oids.has(oid)) this.#several.add(`${transaction.position} ${oid}`);
      oids.add(oid);
      if ("backPointer" in payload && payload.backPointer !== 0) {
        const target = this.#transactionOf.get(payload.backPointer);
        if (this.#several.has(`${target} ${oid}`)) return false;
      }
    }
    return true;
  }
}

export class SourceStates {
  readonly file: TrackedFile;
  readonly states: GrowingState[] = [];

  /** @param file the source's; its `onDurable` is taken */
  constructor(file: TrackedFile) {
    this.file = file;
    file.onDurable = (unchanged) => this.#look(unchanged);
    file.onDurableBefore = (bytes) => this.#lookBefore(bytes);
    this.#look(0);
  }

  /** Whether a transaction has ever been on the platter. */
  hasHad(tid: bigint): boolean {
    return this.states.some((state) => state.view.has(tid));
  }

  #look(unchanged: number): void {
    if (!this.file.existsDurably) return; // between the renames of a pack
    const { transactions } = this.file.durable;
    const current = this.states.at(-1);
    if (current !== undefined && continues(current.view.transactions, transactions, unchanged)) {
      current.view.append(transactions.slice(current.view.transactions.length));
      current.grown();
      return;
    }
    this.states.push(stateOf(transactions));
  }

  /**
   * A follower may sync the file that a pack has just put aside, and send what came there last as it stood
   * there: the source has that on its platter, there and packed, as soon as the new file goes on behind it.
   */
  #lookBefore(bytes: Uint8Array): void {
    const before = new FileView();
    before.update(bytes, 0);
    const { lastTid } = before;
    const current = this.states.at(-1);
    if (current === undefined || !current.view.has(lastTid)) return;
    this.states.splice(-1, 0, stateOf(before.transactions));
  }
}

function stateOf(transactions: readonly FoundTransaction[]): GrowingState {
  const state = new GrowingState(new FileView());
  state.view.append(transactions);
  state.grown();
  return state;
}

/** Whether a file's transactions begin with those that were there. */
function continues(
  before: readonly FoundTransaction[],
  now: readonly FoundTransaction[],
  unchanged: number,
): boolean {
  if (now.length < before.length) return false;
  for (let i = Math.min(unchanged, before.length); i < before.length; i++) {
    if (!sameBytes(before[i]!.bytes, now[i]!.bytes)) return false;
  }
  return true;
}
