/**
 * A Data.fs on a simulated disk, watched as it changes: what processes see of it, and what is on the platter.
 *
 *     const file = new TrackedFile(machine.disk, "/db/Data.fs");
 *     file.onLive = (first) => …;       // transactions from index `first` on are new or gone
 *     file.live.lastTid; file.durable.lastTid;
 */
import type { DiskObserver, MachineDisk } from "./disk.ts";
import { FileView, sameBytes } from "./file_view.ts";
import type { Inode } from "./inode.ts";
import type { FoundTransaction } from "./source_format.ts";

const NOTHING = new Uint8Array(0);
const STATES_REMEMBERED = 20;

/** What a node has, in one file or several. */
export abstract class Tracked {
  readonly disk: MachineDisk;
  /** What processes see. */
  readonly live = new FileView();
  /** What a power loss leaves for sure. */
  readonly durable = new FileView();
  /** Called when the live file has changed; transactions before the index are as they were. */
  onLive: (unchanged: number) => void = () => {};
  /** The same for what is on the platter. */
  onDurable: (unchanged: number) => void = () => {};
  /** What processes saw until it was no more a beginning of what they see, the latest last. */
  readonly past: { readonly untilMs: number; readonly view: FileView }[] = [];
  /** How many of these there have been, also those that are forgotten. */
  pastCount = 0;

  constructor(disk: MachineDisk) {
    this.disk = disk;
  }

  /** Whether there is a Data.fs, as processes see it. */
  abstract get exists(): boolean;

  /** Whether there is sure to be one after a power loss. */
  abstract get existsDurably(): boolean;

  /**
   * @param from bytes before are as they were
   * @returns what {@link onLive} is to be told
   */
  protected updateLive(bytes: Uint8Array, from: number): number {
    const before = [...this.live.transactions];
    const kept = this.live.update(bytes, from);
    const isSame = before.every((each, i) => i < kept || isAt(each, this.live.transactions[i]));
    if (!isSame) this.#remember(before);
    return kept;
  }

  /** The same for {@link onDurable}. */
  protected updateDurable(bytes: Uint8Array, from: number): number {
    return this.durable.update(bytes, from);
  }

  #remember(transactions: readonly FoundTransaction[]): void {
    const view = new FileView();
    view.append(transactions);
    this.pastCount++;
    this.past.push({ untilMs: this.disk.scheduler.nowMs, view });
    if (this.past.length > STATES_REMEMBERED) this.past.shift();
  }
}

export class TrackedFile extends Tracked {
  readonly path: string;
  /** Called when the file that the path named durably before is synced once more, by who still has it open. */
  onDurableBefore: (bytes: Uint8Array) => void = () => {};
  #liveInode: Inode | undefined;
  #durableInode: Inode | undefined;
  #durableBefore: Inode | undefined;

  constructor(disk: MachineDisk, path: string) {
    super(disk);
    this.path = path;
    const observer: DiskObserver = {
      changed: (_path, inode, from) => {
        if (inode === this.#liveInode) this.onLive(this.#readLive(from));
      },
      settled: (_path, inode, from) => {
        if (from === Infinity) return;
        if (inode === this.#durableInode) this.onDurable(this.#readDurable(from));
        else if (inode === this.#durableBefore) this.onDurableBefore(inode.durableView());
      },
      renamed: () => this.#look(false),
      crashed: () => this.#look(true),
    };
    disk.observers.add(observer);
    this.#look(true);
  }

  override get exists(): boolean {
    return this.#liveInode !== undefined;
  }

  override get existsDurably(): boolean {
    return this.#durableInode !== undefined;
  }

  /** Whoever is told of one of both sees the other as it is, too: a power loss changes them at once. */
  #look(again: boolean): void {
    const live = this.disk.names.get(this.path);
    const durable = this.disk.names.durable(this.path);
    const isOtherLive = again || live !== this.#liveInode;
    const isOtherDurable = again || durable !== this.#durableInode;
    this.#liveInode = live;
    if (isOtherDurable) this.#durableBefore = this.#durableInode ?? this.#durableBefore;
    this.#durableInode = durable;
    const keptLive = isOtherLive ? this.#readLive(0) : undefined;
    const keptDurable = isOtherDurable ? this.#readDurable(0) : undefined;
    if (keptLive !== undefined) this.onLive(keptLive);
    if (keptDurable !== undefined) this.onDurable(keptDurable);
  }

  #readLive(from: number): number {
    return this.updateLive(this.#liveInode?.cache.view() ?? NOTHING, from);
  }

  #readDurable(from: number): number {
    return this.updateDurable(this.#durableInode?.durableView() ?? NOTHING, from);
  }
}

function isAt(transaction: FoundTransaction, other: FoundTransaction | undefined): boolean {
  return other !== undefined && sameBytes(transaction.bytes, other.bytes);
}
