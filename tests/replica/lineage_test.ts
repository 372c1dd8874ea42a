import assert from "node:assert/strict";
import fc from "fast-check";
import type { TransactionDescription } from "../kit/data_fs.ts";
import { compare, endOf, NaiveJudge, packed } from "./lineage_kit.ts";

/** A transaction whose data say which database wrote it: nothing is the same in two databases by accident. */
function transaction(database: string, tid: bigint, oids: readonly number[]): TransactionDescription {
  return {
    tid,
    user: database,
    records: oids.map((oid) => ({ oid: BigInt(oid), data: `${database} ${tid} ${oid}` })),
  };
}

/** Transactions 10, 20, 30… */
function history(database: string, count: number, from = 1): TransactionDescription[] {
  return Array.from(
    { length: count },
    (_, at) => transaction(database, BigInt(10 * (from + at)), [0, 1 + at]),
  );
}

Deno.test("a fork or a cut anywhere is found exactly", async () => {
  const length = 12;
  for (let common = 0; common <= length; common++) {
    for (const ours of [0, 1, 5]) {
      for (const theirs of [0, 1, 5]) {
        for (const offset of [0n, 1n]) { // by the same tids or by others
          const shared = history("common", common);
          const branch = (database: string, count: number, offset: bigint) =>
            history(database, count, common + 1).map((each) => ({ ...each, tid: each.tid + offset }));
          const source = endOf([...shared, ...branch("ours", ours, 0n)]);
          const replica = endOf([...shared, ...branch("theirs", theirs, offset)]);
          const lastCommon = common === 0 ? undefined : BigInt(10 * common);
          const next = BigInt(10 * (common + 1));
          const position = common === 0 ? 4 : source.built.transactions[common - 1]!.end;
          const { lineage } = await compare(source, replica);
          assert.deepEqual(
            lineage,
            theirs === 0
              ? { kind: "shared", position }
              : ours === 0
              ? { kind: "ahead", common: lastCommon }
              : { kind: "forked", common: lastCommon, here: next, there: next + offset, exact: true },
            `${common} common, ${ours} here, ${theirs} there, offset ${offset}`,
          );
        }
      }
    }
  }
});

/** Branches of one history, each packed at some time with some objects garbage. */
const pair = fc.record({
  common: fc.nat(20),
  ours: fc.oneof(fc.constant(0), fc.nat(12)),
  theirs: fc.oneof(fc.constant(0), fc.nat(12)),
  offset: fc.nat(1),
  oids: fc.array(fc.array(fc.nat(9), { maxLength: 3 }), { minLength: 45, maxLength: 45 }),
  cancelled: fc.array(fc.nat(9), { minLength: 45, maxLength: 45 }),
  ourPack: fc.oneof(fc.constant(0), fc.nat(30)),
  theirPack: fc.oneof(fc.constant(0), fc.nat(30)),
  ourGarbage: fc.nat(1023),
  theirGarbage: fc.nat(1023),
});

Deno.test("every verdict is what comparing all that both files hold gives", async () => {
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(pair, async (drawn) => {
      const { common, ours, theirs, oids, cancelled } = drawn;
      const make = (database: string, at: number, offset: number) => {
        const made = transaction(database, BigInt(10 * (at + 1) + offset), oids[at]!);
        return cancelled[at] === 0 ? { ...made, status: "u" as const } : made;
      };
      const shared = Array.from({ length: common }, (_, at) => make("common", at, 0));
      const branch = (database: string, count: number, offset: number) =>
        Array.from({ length: count }, (_, at) => make(database, common + at, offset));
      const pack = (transactions: TransactionDescription[], count: number, garbage: number) =>
        packed(transactions, count, (oid) => (garbage >> Number(oid) & 1) === 1);
      const source = endOf(pack([...shared, ...branch("ours", ours, 0)], drawn.ourPack, drawn.ourGarbage));
      const replica = endOf(
        pack([...shared, ...branch("theirs", theirs, drawn.offset)], drawn.theirPack, drawn.theirGarbage),
      );
      const { lineage, questions } = await compare(source, replica);
      assert.deepEqual(lineage, new NaiveJudge(source.built, replica.built).lineage());
      assert.ok(questions <= 8, `${questions} questions`);
      const kind = lineage.kind === "forked" ? `forked, ${lineage.exact}` : lineage.kind;
      seen.set(kind, (seen.get(kind) ?? 0) + 1);

      // What is true whatever the packs left.
      if (lineage.kind === "shared" || lineage.kind === "beyond the pack") {
        const last = replica.view.lastTid;
        for (const { position, tid } of new NaiveJudge(source.built, replica.built).source) {
          assert.equal(position >= lineage.position, tid > last);
        }
      } else if (lineage.common !== undefined) {
        assert.ok(lineage.common <= BigInt(10 * common), "only what is common is called so");
      }
    }),
    { seed: 1, numRuns: 3000 },
  );
  const kinds = ["ahead", "beyond the pack", "forked, false", "forked, true", "shared"];
  assert.deepEqual([...seen.keys()].sort(), kinds);
  assert.ok(Math.min(...seen.values()) > 50, "each verdict is drawn often");
});
