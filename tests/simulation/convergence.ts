/**
 * When all is healed and the writer has stopped, every replica becomes equal to the source or is refused by the
 * right word; and a replica that has been refused is left as it is.
 */
import type { Report } from "./checkers.ts";
import { hex } from "./checkers.ts";
import { type FileView, sameBytes, sayTheSame } from "./file_view.ts";
import { PACKED } from "./source_format.ts";

/** Whether a source with this file can go on behind a replica's last transaction, as far as tids tell. */
export function canContinue(source: FileView, tid: bigint): boolean {
  if (tid === 0n || source.has(tid)) return true;
  const after = source.transactions.findIndex((transaction) => transaction.tid > tid);
  const before = after < 0 ? source.transactions.at(-1) : source.transactions[after - 1];
  return (before ?? source.transactions[after])?.status === PACKED;
}

/** How many transactions a replica has behind the last one that both have, and whether there is such a one. */
export function tooMany(source: FileView, replica: FileView): { count: number; isAll: boolean } {
  const common = replica.transactions.findLastIndex((each) => {
    const there = source.transactions[source.indexOf(each.tid)];
    return there !== undefined && sayTheSame(each, replica, there, source);
  });
  return { count: replica.transactions.length - 1 - common, isAll: common < 0 };
}

/** What is right to tell a replica by its content, where neither end was packed. */
function wordByContent(source: FileView, replica: FileView): "shared" | "ahead" | "forked" {
  const isSame = (tid: bigint) => {
    const [one, other] = [source, replica].map((view) => view.transactions[view.indexOf(tid)]);
    return one !== undefined && other !== undefined && sayTheSame(one, source, other, replica);
  };
  if (isSame(replica.lastTid)) return "shared";
  return source.lastTid === 0n || isSame(source.lastTid) ? "ahead" : "forked";
}

export function isPacked(view: FileView): boolean {
  return view.transactions.some(({ status }) => status === PACKED);
}

/** A refusal that rests on the content of both ends says more of what is common than tids can tell. */
const BY_CONTENT =
  /; (the last (common one|one known|known)|no transaction is|nothing is known)|, which you have too/;

/** The word that a refused replica was told; undefined when a log's message tells of no refusal. */
export function refusalWord(message: string): string | undefined {
  return / refuses this replica: .*?\b(ahead|forked): /.exec(message)?.[1];
}

/**
 * What a node's log says when it refuses a secondary must be so.
 * @param source the file that the node serves
 */
export function checkRefusal(message: string, source: FileView, report: Report): void {
  const [, peer, word, tid] =
    /^(\w+):\d+: refused: (ahead|forked): your last transaction is ([0-9a-f]{16})\b/.exec(message) ?? [];
  if (tid === undefined || !canContinue(source, BigInt(`0x${tid}`))) return;
  if (BY_CONTENT.test(message)) return; // content can tell more; whether it does, the checker of the replica asks
  report("RefusalChecker", `${peer} is refused as ${word}, and the source has ${tid}`);
}

export class RefusalChecker {
  readonly #name: string;
  readonly #report: Report;
  /** What the replica held when it was refused. */
  #refused: { readonly tid: bigint; readonly word: string; readonly byContent: boolean } | undefined;

  constructor(name: string, report: Report) {
    this.#name = name;
    this.#report = report;
  }

  /** Why the replica stands still; undefined unless it does. */
  get refused(): string | undefined {
    return this.#refused?.word;
  }

  /** Whether the refusal rests on more than tids. */
  get isByContent(): boolean {
    return this.#refused?.byContent ?? false;
  }

  /** At rest the word must be right, too. */
  atRest(source: FileView, replica: FileView): void {
    if (this.#refused === undefined) return;
    const { word, tid, byContent } = this.#refused;
    if (byContent ? isPacked(source) || isPacked(replica) : canContinue(source, tid)) return;
    const right = byContent ? wordByContent(source, replica) : tid > source.lastTid ? "ahead" : "forked";
    if (word !== right) {
      this.#report("RefusalChecker", `${this.#name} is refused as ${word}, and it is ${right}`);
    }
  }

  /** The replica hears that it is refused. */
  told(word: string, message: string, replica: FileView): void {
    this.#refused = { tid: replica.lastTid, word, byContent: BY_CONTENT.test(message) };
  }

  /**
   * The replica's file has changed.
   * @param mayRewind whether it may take back something by itself: then another checker looks at what goes
   */
  changed(replica: FileView, source: FileView, mayRewind: boolean): void {
    const refused = this.#refused;
    if (refused === undefined || replica.lastTid === refused.tid) return;
    this.#refused = undefined;
    if (mayRewind && replica.lastTid < refused.tid) return;
    if (source.lastTid === 0n) return; // for a moment of its pack there is none: what came is of another file
    if (canContinue(source, refused.tid)) return; // a pack has since taken away what could tell
    this.#report(
      "RefusalChecker",
      `${this.#name} was refused at ${hex(refused.tid)} and now ends with ${hex(replica.lastTid)}`,
    );
  }

  /** The operator begins anew. */
  forget(): void {
    this.#refused = undefined;
  }
}

/**
 * What differs between a source and a replica that has caught up with it; undefined when nothing does.
 * Where the source has been packed a replica may have more.
 */
export function difference(source: FileView, replica: FileView): string | undefined {
  for (const transaction of source.transactions) {
    const index = replica.indexOf(transaction.tid);
    if (transaction.status === PACKED) continue;
    if (index >= 0 && replica.transactions[index]!.status === PACKED) continue; // before the source was restored
    if (index < 0) return `${hex(transaction.tid)} is missing`;
    if (!sayTheSame(transaction, source, replica.transactions[index]!, replica)) {
      return `${hex(transaction.tid)} does not say the same`;
    }
  }
  const firstUnpacked = source.transactions.find((transaction) => transaction.status !== PACKED);
  for (const { tid } of replica.transactions) {
    const expected = firstUnpacked === undefined || tid < firstUnpacked.tid || source.has(tid);
    if (!expected) return `${hex(tid)} is too many`;
  }
  const states = replica.states();
  for (const [oid, data] of source.states()) {
    const other = states.get(oid);
    if (other === undefined || !sameBytes(data, other)) return `object ${oid} differs`;
  }
  return undefined;
}
