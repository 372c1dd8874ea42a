/** Compares two files by everything that is in them, slowly: an oracle for lib/filestorage/compare/compare.ts. */
import { type ReadRecord, type ReadTransaction, transactionsOf } from "../kit/transactions_of.ts";

/** What kind of difference, in which transaction. */
export type NaiveDifference = readonly [kind: string, tid: bigint];

export function naiveDifferences(here: Uint8Array, there: Uint8Array): NaiveDifference[] {
  const own = counted(here);
  const others = counted(there);
  const tids = [...new Set([...own, ...others].map(({ tid }) => tid))].sort((a, b) => a < b ? -1 : 1);
  const found: NaiveDifference[] = [];
  for (const tid of tids) {
    const a = own.find((each) => each.tid === tid);
    const b = others.find((each) => each.tid === tid);
    if (a !== undefined && b !== undefined) {
      const kind = kindOf(a, b);
      if (kind !== undefined) found.push([kind, tid]);
    } else if (a !== undefined) {
      if (isExplained(a, others)) continue;
      const isAhead = tid > (others.at(-1)?.tid ?? 0n);
      found.push([isAhead ? "ahead" : "extra", tid]);
      if (isAhead) break;
    } else {
      if (tid > (own.at(-1)?.tid ?? 0n)) break;
      if (!isExplained(b!, own)) found.push(["missing", tid]);
    }
  }
  return found;
}

function counted(bytes: Uint8Array): ReadTransaction[] {
  return transactionsOf(bytes).filter(({ status }) => status !== "u");
}

function isExplained({ tid, records }: ReadTransaction, others: readonly ReadTransaction[]): boolean {
  const before = others.findLast((each) => each.tid < tid);
  const after = others.find((each) => each.tid > tid);
  return before?.status === "p" || after?.status === "p" || records.length === 0;
}

function kindOf(a: ReadTransaction, b: ReadTransaction): string | undefined {
  const texts = ({ user, description, extension }: ReadTransaction) =>
    JSON.stringify([user, description, extension].map((each) => [...each]));
  if (texts(a) !== texts(b)) return "metadata";
  const first = firstDifference(a, b);
  if (first === undefined || a.status !== "p" && b.status !== "p") return first;
  const lastOf = ({ records }: ReadTransaction) => new Map(records.map((each) => [each.oid, each]));
  const [here, there] = [lastOf(a), lastOf(b)];
  for (const record of a.records) {
    if (here.get(record.oid) !== record) continue;
    const other = there.get(record.oid);
    if (other === undefined && b.status !== "p") return "record";
    if (other !== undefined && dataOf(other) !== dataOf(record)) return "data";
  }
  return a.status !== "p" && [...there.keys()].some((oid) => !here.has(oid)) ? "record" : undefined;
}

function firstDifference(a: ReadTransaction, b: ReadTransaction): string | undefined {
  for (let at = 0; at < Math.max(a.records.length, b.records.length); at++) {
    const [x, y] = [a.records[at], b.records[at]];
    if (x === undefined || y === undefined || x.oid !== y.oid) return "record";
    if (dataOf(x) !== dataOf(y)) return "data";
  }
  return undefined;
}

function dataOf({ data }: ReadRecord): string {
  return data === null ? "none" : `${[...data]}`;
}
