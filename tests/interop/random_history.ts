/** Histories made up from a seed, and written by real ZODB. */
import fc from "fast-check";
import { PeerError } from "../kit/peer.ts";
import type { LogEnd, StoredRecord, StoredTransaction, ZodbWriter } from "../kit/peers.ts";

export type Step =
  | { readonly kind: "store"; readonly transaction: StoredTransaction }
  /** Counted from the newest, which is 1; several are undone in one transaction. */
  | { readonly kind: "undo"; readonly transactions: readonly number[] };

/** Few objects and few values, so that steps meet: undos fail or find the value they want back there already. */
const oid = fc.integer({ min: 0, max: 6 }).map((each) =>
  (2n ** 32n - 3n + BigInt(each)).toString(16).padStart(16, "0")
);
const content = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom("a", "b", "a longer text", "é").map((text) => ({ text })) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 5_000 }).map((size) => ({ size })) },
  { weight: 1, arbitrary: fc.constant({ delete: true as const }) },
);
const record = fc.record({ oid, content }).map(({ oid, content }): StoredRecord => ({ oid, ...content }));
const metadata = fc.record({
  user: fc.string({ unit: "binary", maxLength: 10 }),
  description: fc.string({ unit: "grapheme", maxLength: 30 }),
  extension: fc.dictionary(fc.string({ minLength: 1 }), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 3 }),
}, { requiredKeys: [] });

/**
 * A list of steps.
 * @param duplicates whether a transaction may hold an object more than once
 */
export function randomSteps(options: { seed: number; count: number; duplicates: boolean }): Step[] {
  const { seed, count, duplicates } = options;
  const records = duplicates
    ? fc.array(record, { minLength: 1, maxLength: 4 })
    : fc.uniqueArray(record, { minLength: 1, maxLength: 4, selector: (each) => each.oid });
  const back = fc.integer({ min: 1, max: 6 });
  const step: fc.Arbitrary<Step> = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ metadata, records })
        .map(({ metadata, records }) => ({ kind: "store" as const, transaction: { ...metadata, records } })),
    },
    {
      weight: 2,
      arbitrary: (duplicates ? fc.uniqueArray(back, { minLength: 1, maxLength: 3 }) : fc.tuple(back))
        .map((transactions) => ({ kind: "undo" as const, transactions })),
    },
  );
  return fc.sample(fc.array(step, { minLength: count, maxLength: count }), { seed, numRuns: 1 })[0]!;
}

/** Takes the steps, leaving out those that ZODB refuses. @returns the end of the file after them */
export async function take(steps: readonly Step[], writer: ZodbWriter): Promise<LogEnd> {
  for (const step of steps) {
    try {
      if (step.kind === "store") await writer.store([step.transaction]);
      else await writer.undo(step.transactions);
    } catch (error) {
      if (!(error instanceof PeerError) || !REFUSALS.has(error.type)) throw error;
    }
  }
  return await writer.status();
}

/** What a storage says to an undo, or to deleting what is not there. */
const REFUSALS: ReadonlySet<string> = new Set([
  "UndoError",
  "MultipleUndoErrors",
  "POSKeyError",
  "IndexError",
]);
