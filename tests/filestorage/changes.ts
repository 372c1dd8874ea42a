/** Differences to plant in a history, and what packs make of it. */
import fc from "fast-check";
import type { RecordDescription, TransactionDescription } from "../kit/data_fs.ts";
import { bytesOf } from "../kit/hex.ts";
import { randomHistory, tidAt } from "./random_history.ts";

export type Descriptions = readonly TransactionDescription[];

/** One change of a history; what cannot be changed so stays as it is. */
export type Change = (history: TransactionDescription[], at: number, choice: number) => Descriptions;

export const changes: Record<string, Change> = {
  "a text's byte": (history, at) => replace(history, at, { user: "!" }),
  "the extension": (history, at) => replace(history, at, { extension: bytesOf("80037d2e2e") }),
  "a record's data": (history, at, choice) =>
    replaceRecord(history, at, choice, ({ oid }) => [{ oid, data: `changed ${choice}` }]),
  "no data any more": (history, at, choice) =>
    replaceRecord(history, at, choice, ({ oid }) => [{ oid, undone: true }]),
  "another object": (history, at, choice) =>
    replaceRecord(history, at, choice, () => [{ oid: 77n, data: "another" }]),
  "a record too many": (history, at, choice) =>
    replaceRecord(history, at, choice, (record) => [record, { oid: 77n, data: "added" }]),
  "a record too few": (history, at, choice) => replaceRecord(history, at, choice, () => []),
  "a transaction too few": (history, at) => [...history.slice(0, at), ...history.slice(at + 1)],
  "another tid": (history, at) => {
    const tid = history[at]!.tid + 1n;
    return tid === history[at + 1]?.tid ? history : replace(history, at, { tid });
  },
  "a later one": (history) => [...history, { tid: tidAt(1 << 20), records: [{ oid: 3n, data: "later" }] }],
};

export function replace(
  history: Descriptions,
  at: number,
  by: Partial<TransactionDescription>,
): TransactionDescription[] {
  return history.map((each, index) => index === at ? { ...each, ...by } : each);
}

export function replaceRecord(
  history: Descriptions,
  at: number,
  choice: number,
  by: (record: RecordDescription) => readonly RecordDescription[],
): Descriptions {
  const records = history[at]!.records;
  if (records.length === 0) return history;
  const chosen = choice % records.length;
  return replace(history, at, {
    records: records.flatMap((each, index) => index === chosen ? by(each) : [each]),
  });
}

/** Every back pointer's data written out, so that records can be moved. */
export function withoutBackPointers(history: Descriptions): TransactionDescription[] {
  return history.map((transaction) => ({
    ...transaction,
    records: transaction.records.map((record) =>
      "backPointer" in record ? { oid: record.oid, data: "was a back pointer" } : record
    ),
  }));
}

/**
 * What a pack leaves: of the first `count` transactions the current records of the objects that are not garbage.
 * A replica that had `from` transactions before its source was packed still has these as they were.
 */
export function packed(
  transactions: readonly TransactionDescription[],
  count: number,
  isGarbage: (oid: bigint) => boolean,
  from = 0,
): TransactionDescription[] {
  const current = new Map<bigint, RecordDescription>();
  const region = transactions.slice(0, count);
  for (const { records, status } of region) {
    if (status !== "u") { for (const record of records) current.set(record.oid, record); }
  }
  return [
    ...region.flatMap((transaction, at) => {
      if (at < from) return [transaction];
      const records = transaction.records.filter((record) =>
        current.get(record.oid) === record && !isGarbage(record.oid)
      );
      return records.length === 0 || transaction.status === "u"
        ? []
        : [{ ...transaction, status: "p" as const, records }];
    }),
    ...transactions.slice(count),
  ];
}

/** A history at two ends, each packed to somewhere; one of them may have garbage removed, the other may be changed. */
export const packedPairs = fc
  .tuple(
    randomHistory.filter((history) => history.length > 0),
    fc.nat(20),
    fc.nat(20),
    fc.nat(),
    fc.constantFrom(undefined, ...Object.values(changes)),
  )
  .map(([random, first, second, choice, change]) => {
    const history = withoutBackPointers(random).map((each) => ({ ...each, status: " " as const }));
    const other = change === undefined ? history : change(history, choice % history.length, choice);
    return {
      here: packed(history, first, (oid) => oid === BigInt(choice % 3)),
      there: packed(other, second, () => false),
      isChanged: change !== undefined,
    };
  });
