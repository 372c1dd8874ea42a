/** Two ends that compare their histories, and a naive judge of the same files. */
import assert from "node:assert/strict";
import { Generation, type LogView } from "../../lib/filestorage/mod.ts";
import {
  answerQuestion,
  compareLineage,
  lastDigest,
  type Lineage,
} from "../../lib/replica/lineage/lineage.ts";
import { NO_TID } from "../../lib/zodb/mod.ts";
import { type BuiltFile, dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { type ReadTransaction, transactionsOf } from "../kit/transactions_of.ts";

const PATH = "/data/Data.fs";
export const noPause = () => Promise.resolve();

export interface End {
  readonly built: BuiltFile;
  readonly view: LogView;
}

export function endOf(transactions: readonly TransactionDescription[]): End {
  const built = dataFs(transactions);
  const lastTid = transactions.findLast(({ status }) => status !== "u")?.tid ?? NO_TID;
  return { built, view: viewOf(built.bytes, lastTid) };
}

/** A log's view of a file that is these bytes. */
export function viewOf(bytes: Uint8Array, lastTid: bigint): LogView {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  return { generation: new Generation(0, disk.openRead(PATH)), end: bytes.length, lastTid };
}

/** Every message travels as JSON. */
export async function compare(
  source: { readonly view: LogView },
  replica: { readonly view: LogView },
): Promise<{ lineage: Lineage; questions: number }> {
  let questions = 0;
  const lineage = await compareLineage(
    source.view,
    { lastTid: replica.view.lastTid, digest: await lastDigest(replica.view, noPause) },
    async (question) => {
      questions++;
      const answer = await answerQuestion(replica.view, JSON.parse(JSON.stringify(question)), noPause);
      return JSON.parse(JSON.stringify(answer));
    },
    noPause,
  );
  return { lineage, questions };
}

type Holding = "same" | "other" | "unknown";

/** Compares by everything that both files hold. */
export class NaiveJudge {
  /** The source's transactions that count. */
  readonly source: readonly ReadTransaction[];
  readonly #replica: readonly ReadTransaction[];

  /** @param source a whole file, as `replica` is. @throws AssertionError, RangeError for anything irregular */
  constructor(source: Pick<BuiltFile, "bytes">, replica: Pick<BuiltFile, "bytes">) {
    const counted = ({ bytes }: Pick<BuiltFile, "bytes">) =>
      transactionsOf(bytes).filter(({ status }) => status !== "u");
    this.source = counted(source);
    this.#replica = counted(replica);
  }

  lineage(): Lineage {
    const source = this.source;
    const replica = this.#replica;
    const last = replica.at(-1);
    if (last === undefined) return { kind: "shared", position: 4 };
    if (source.length === 0) return { kind: "ahead", common: undefined };
    const found = source.find(({ tid }) => tid === last.tid);
    const before = found ?? source.findLast(({ tid }) => tid < last.tid);
    const after = source.find(({ tid }) => tid > last.tid);
    const packedAway = isPackedGap(before, after)
      ? { after: last.tid, before: source.find(({ tid, status }) => tid > last.tid && status !== "p")?.tid }
      : undefined;
    const shared = (position: number): Lineage => ({
      kind: "shared",
      position,
      ...(packedAway && { packedAway }),
    });
    if (found !== undefined && bodyOf(found) === bodyOf(last)) return shared(found.end);

    const evidence = [
      ...source.filter(({ tid }) => tid <= last.tid).map((each) =>
        [each.tid, holding(each, replica)] as const
      ),
      ...replica.map((each) => [each.tid, holding(each, source)] as const),
    ];
    const common = greatest(evidence.filter(([, holding]) => holding === "same").map(([tid]) => tid));
    const isBehind = ({ tid }: { tid: bigint }) => common === undefined || tid > common;
    const firstOther = evidence.filter(([tid, holding]) => holding === "other" && isBehind({ tid }))
      .map(([tid]) => tid).reduce<bigint | undefined>((a, b) => a === undefined || b < a ? b : a, undefined);
    const isPacked = found === undefined ? isPackedGap(before, after) : found.status === "p";
    if (firstOther !== undefined || (found === undefined && !isPacked && after !== undefined)) {
      const here = source.find(isBehind);
      const there = replica.find(isBehind);
      assert(here && there);
      // Whatever the source has behind the last common one is known to differ, or later than the replica.
      const isKnown = here.tid >= (firstOther ?? last.tid);
      const hasPacked = source.some(({ tid, status }) => tid === common && status === "p") ||
        here.status === "p" || there.status === "p";
      return { kind: "forked", common, here: here.tid, there: there.tid, exact: isKnown && !hasPacked };
    }
    if (found === undefined && !isPacked) return { kind: "ahead", common };
    if (found !== undefined && !isPacked && holding(found, replica) === "same") return shared(found.end);
    return { kind: "beyond the pack", position: before?.end ?? 4, common, packedAway };
  }
}

function holding(subject: ReadTransaction, others: readonly ReadTransaction[]): Holding {
  if (subject.tid > (others.at(-1)?.tid ?? 0n)) return "unknown";
  const found = others.find(({ tid }) => tid === subject.tid);
  if (found === undefined) {
    const isGap = isPackedGap(
      others.findLast(({ tid }) => tid < subject.tid),
      others.find(({ tid }) => tid > subject.tid),
    );
    return isGap || subject.records.length === 0 ? "unknown" : "other";
  }
  if (bodyOf(subject) === bodyOf(found)) return "same";
  if (subject.status !== "p" && found.status !== "p") return "other";
  let same = 0;
  for (const [oid, data] of lastRecords(subject)) {
    const other = lastRecords(found).get(oid);
    if (other === data) same++;
    else if (other !== undefined || found.status !== "p") return "other";
  }
  return same > 0 ? "same" : "unknown";
}

function lastRecords({ records }: ReadTransaction): Map<bigint, string> {
  return new Map(records.map(({ oid, data }) => [oid, String(data)]));
}

function bodyOf({ records, user }: ReadTransaction): string {
  return records.length === 0
    ? `empty, by ${user}`
    : records.map(({ oid, data }) => `${oid}:${data}`).join(";");
}

function isPackedGap(before: ReadTransaction | undefined, after: ReadTransaction | undefined): boolean {
  return before?.status === "p" || after?.status === "p";
}

function greatest(tids: readonly bigint[]): bigint | undefined {
  return tids.reduce<bigint | undefined>((a, b) => a === undefined || b > a ? b : a, undefined);
}
