/** Histories whose objects say what they refer to, for tests of packing. */
import fc from "fast-check";
import { PickleError } from "../../lib/errors.ts";
import type { RecordDescription, TransactionDescription } from "../kit/data_fs.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { tidAt } from "./random_history.ts";

/** Data that says which objects it refers to. */
export function data(refs: readonly number[], text = ""): string {
  return `${refs.join(",")}|${text}`;
}

export function referencesOf(bytes: Uint8Array): number[] {
  const text = new TextDecoder().decode(bytes);
  if (!text.includes("|")) throw new PickleError("it is no list of references");
  return text.split("|")[0]!.split(",").filter((each) => each !== "").map(Number);
}

export function findReferences(bytes: Uint8Array, found: (oidHigh: number, oidLow: number) => void): void {
  for (const oid of referencesOf(bytes)) found(0, oid);
}

/** Transaction i has tid tidAt(i). */
export function history(...transactions: RecordDescription[][]): TransactionDescription[] {
  return transactions.map((records, i) => ({ tid: tidAt(i), user: "u", description: `t${i}`, records }));
}

/** One thing done to an object. */
export interface Step {
  readonly kind: "write" | "undo" | "delete";
  readonly oid: number;
  readonly refs: readonly number[];
}

/** Histories in which nothing refers to what is not there when it is written. */
export const histories = fc.array(
  fc.array(
    fc.record<Step>({
      kind: fc.constantFrom("write", "write", "write", "undo", "delete"),
      oid: fc.nat(6),
      refs: fc.array(fc.nat(6), { maxLength: 3 }),
    }),
    { minLength: 1, maxLength: 3 },
  ),
  { minLength: 1, maxLength: 12 },
).map((steps) => describe(steps));

/** Transaction i has tid tidAt(i); what is not possible becomes something that is. */
export function describe(steps: readonly (readonly Step[])[], oids = 7): TransactionDescription[] {
  const records: [number, number][][] = Array.from({ length: oids }, () => []); // of each object, where
  const exists = new Set<number>();
  return steps.map((transaction, t) => {
    const used = new Set<number>();
    const described: RecordDescription[] = [];
    for (const { kind, oid, refs } of t === 0 ? [{ kind: "write", oid: 0, refs: [] } as Step] : transaction) {
      if (used.has(oid)) continue;
      used.add(oid);
      const older = records[oid]!.at(-2) ?? records[oid]!.at(-1);
      if (kind === "undo" && older !== undefined) {
        described.push({ oid: BigInt(oid), backPointer: older });
      } else if (kind === "delete" && oid !== 0 && exists.has(oid)) {
        described.push({ oid: BigInt(oid), undone: true });
      } else {
        const there = refs.filter((ref) => exists.has(ref) || ref === oid);
        described.push({ oid: BigInt(oid), data: data(there, `${t}`) });
      }
      const last = described.at(-1)!;
      if ("undone" in last) exists.delete(oid);
      else exists.add(oid);
      records[oid]!.push([t, described.length - 1]);
    }
    return { tid: tidAt(t), records: described };
  });
}

/** All objects that exist after the transaction with this tid, and can be reached. */
export function reachableStates(bytes: Uint8Array, tid: bigint): Map<number, string> {
  const states = new Map<number, Uint8Array>();
  for (const transaction of transactionsOf(bytes)) {
    if (transaction.tid > tid) break;
    for (const { oid, data } of transaction.records) {
      if (data === null) states.delete(Number(oid));
      else states.set(Number(oid), data);
    }
  }
  const found = new Map<number, string>();
  const waiting = [0];
  for (let oid = waiting.pop(); oid !== undefined; oid = waiting.pop()) {
    const state = states.get(oid);
    if (state === undefined || found.has(oid)) continue;
    found.set(oid, new TextDecoder().decode(state));
    waiting.push(...referencesOf(state));
  }
  return found;
}
