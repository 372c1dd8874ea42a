/** Random histories of a few objects, as descriptions for tests/kit/data_fs.ts. */
import fc from "fast-check";
import type { RecordDescription, RecordReference, TransactionDescription } from "../kit/data_fs.ts";

/** One thing done to an object; the numbers are turned into what is possible at that point. */
type Deed = readonly [oid: number, kind: number, choice: number, size: number];

const deed: fc.Arbitrary<Deed> = fc.tuple(
  fc.nat(5),
  fc.nat(9),
  fc.nat(),
  fc.oneof({ weight: 6, arbitrary: fc.nat(40) }, { weight: 1, arbitrary: fc.nat(3000) }),
);

const text = fc.oneof(
  { weight: 3, arbitrary: fc.constant(new Uint8Array()) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 30 }) },
);

/**
 * Up to 20 transactions, of which a beginning may have been packed: objects are created, changed, deleted,
 * undone (also several times, also to a creation undone), and written twice in one transaction. Everything is
 * linked as ZODB links it: a back pointer leads to the last record of the object in its transaction.
 */
export const randomHistory: fc.Arbitrary<TransactionDescription[]> = fc
  .record({
    packed: fc.oneof(fc.constant(0), fc.nat(10)),
    transactions: fc.array(
      fc.record({ deeds: fc.array(deed, { maxLength: 6 }), user: text, description: text, extension: text }),
      { maxLength: 20 },
    ),
    step: fc.bigInt({ min: 1n, max: 1n << 34n }),
  })
  .map(({ packed, transactions, step }) => {
    /** Where each object's last records in finished transactions are. */
    const revisions = new Map<number, RecordReference[]>();
    return transactions.map(({ deeds, ...texts }, index) => {
      const isPacked = index < packed;
      const written = new Map<number, RecordReference>();
      const records = deeds
        .map((each, at) => {
          written.set(each[0], [index, at]);
          return recordOf(each, revisions.get(each[0]) ?? [], isPacked);
        });
      for (const [oid, reference] of written) {
        revisions.set(oid, [...revisions.get(oid) ?? [], reference]);
      }
      return { tid: tidAt(index, step), status: isPacked ? "p" : " ", ...texts, records };
    });
  });

function recordOf(
  [oid, kind, choice, size]: Deed,
  revisions: readonly RecordReference[],
  isPacked: boolean,
): RecordDescription {
  const id = OIDS[oid]!;
  if (kind === 0) return { oid: id, undone: true };
  if (kind < 5 && revisions.length > 0 && !isPacked) {
    return { oid: id, backPointer: revisions[choice % revisions.length]! };
  }
  // Few different contents, so that equal data in different revisions is not rare.
  const data = new Uint8Array(size + 1).fill(0x41 + choice % 3);
  return { oid: id, data };
}

/** Neighbours, and oids that need all 64 bits. */
const OIDS = [0n, 1n, 2n, 0x1_0000_0001n, 0x8000_0000_0000_0000n, 0xffff_ffff_ffff_fffen];

export function tidAt(index: number, step = 1n << 32n): bigint {
  return 0x03f5_9458_0000_0000n + BigInt(index) * step;
}
