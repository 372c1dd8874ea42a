/** Differences to plant in a history. */
import type { RecordDescription, TransactionDescription } from "../kit/data_fs.ts";
import { bytesOf } from "../kit/hex.ts";
import { tidAt } from "./random_history.ts";

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
