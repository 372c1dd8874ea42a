import assert from "node:assert/strict";
import fc from "fast-check";
import type { TransactionDescription } from "../kit/data_fs.ts";
import { bytesOf } from "../kit/hex.ts";
import { describeLineage } from "../../lib/replica/lineage/lineage.ts";
import { compare, endOf, NaiveJudge, packed } from "./lineage_kit.ts";

/** A transaction whose data say which database wrote it: nothing is the same in two databases by accident. */
function transaction(database: string, tid: bigint, oids: readonly number[]): TransactionDescription {
  return {
    tid,
    user: database,
    // An object twice in one transaction has other data each time.
    records: oids.map((oid, at) => ({ oid: BigInt(oid), data: `${database} ${tid} ${oid} ${at}` })),
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

Deno.test("one transaction with other content is a fork where it is the last, and else goes unnoticed", async () => {
  const source = endOf(history("common", 6));
  for (let at = 0; at < 6; at++) {
    const changed = history("common", 6);
    changed[at] = transaction("another", changed[at]!.tid, [0, 1]);
    const { lineage } = await compare(source, endOf(changed));
    assert.deepEqual(
      lineage,
      at < 5
        ? { kind: "shared", position: source.built.end }
        : { kind: "forked", common: 50n, here: 60n, there: 60n, exact: true },
    );
  }
});

Deno.test("texts written anew by another program do not make a fork", async () => {
  const source = endOf(history("common", 6));
  const copy = history("common", 4).map((each) => ({
    ...each,
    user: "Common",
    extension: bytesOf("80037d2e"),
  }));
  const { lineage } = await compare(source, endOf(copy));
  assert.deepEqual(lineage, { kind: "shared", position: source.built.transactions[3]!.end });
});

Deno.test("a copy that lacks transactions without records is still ahead, or forked behind the right one", async () => {
  const empty = (tid: bigint): TransactionDescription => ({ tid, records: [] });
  const shared = history("common", 5);
  const replica = endOf([...shared, ...history("theirs", 2, 6)]);
  const last = endOf([...shared, empty(51n)]);
  assert.deepEqual((await compare(last, replica)).lineage, { kind: "ahead", common: 50n });
  const within = endOf([...shared, empty(51n), transaction("ours", 55n, [1])]);
  assert.deepEqual((await compare(within, replica)).lineage, {
    kind: "forked",
    common: 50n,
    here: 51n,
    there: 60n,
    exact: false,
  });
});

Deno.test("a fork among many transactions takes few questions, the fewer the younger it is", async () => {
  const count = 30_000;
  const many = (database: string, from: number, to: number): TransactionDescription[] =>
    Array.from({ length: to - from }, (_, at) => ({
      tid: BigInt(from + at),
      records: [{ oid: BigInt(at), data: `${database} ${at}`.padEnd(250) }],
    }));
  const source = endOf(many("common", 1, count + 1));
  assert.ok(source.built.end > 8 * 2 ** 20, "farther than the first look reaches");
  const forks: [fork: number, most: number][] = [
    [count - 2, 2],
    [count - 5, 5],
    [count / 2, 6],
    [1, 6],
  ];
  for (const [fork, most] of forks) {
    const replica = endOf([...many("common", 1, fork), ...many("theirs", fork, count + 1)]);
    const { lineage, questions } = await compare(source, replica);
    const tid = BigInt(fork);
    const common = fork === 1 ? undefined : tid - 1n;
    assert.deepEqual(lineage, { kind: "forked", common, here: tid, there: tid, exact: true });
    assert.ok(questions <= most, `fork at ${fork}: ${questions} questions`);
  }
});

Deno.test("a fork is found behind transactions as large as the search reaches", async () => {
  const many = (database: string, from: number, to: number): TransactionDescription[] =>
    Array.from({ length: to - from }, (_, at) => ({
      tid: BigInt(from + at),
      records: [{ oid: 0n, data: `${database} ${from + at}`.padEnd(700_000) }],
    }));
  const source = endOf(many("common", 1, 18));
  for (const fork of [1, 2, 5, 12]) {
    const replica = endOf([...many("common", 1, fork), ...many("theirs", fork, 18)]);
    const { lineage } = await compare(source, replica);
    const tid = BigInt(fork);
    const common = fork === 1 ? undefined : tid - 1n;
    assert.deepEqual(lineage, { kind: "forked", common, here: tid, there: tid, exact: true });
  }
});

Deno.test("of a replica that a pack has left little of, what is left is asked for", async () => {
  const count = 3000;
  const shared = Array.from({ length: count }, (_, at) => transaction("common", BigInt(10 * at + 10), [at]));
  // One transaction in 500 is left, the last of them 20,010.
  const rest = packed(shared, count, (oid) => oid % 500n !== 0n).slice(0, -1);
  const source = endOf([...shared, transaction("ours", 40_000n, [1])]);
  const replica = endOf([...rest, { ...transaction("theirs", 39_000n, [1]), status: "p" }]);
  const { lineage, questions } = await compare(source, replica);
  assert.deepEqual(lineage, { kind: "forked", common: 20_010n, here: 20_020n, there: 39_000n, exact: false });
  assert.ok(questions < 12, `${questions} questions`);
});

Deno.test("a verdict names both ends' transactions with their times", async () => {
  const describe = async (source: TransactionDescription[], replica: TransactionDescription[]) => {
    const ends = [endOf(source), endOf(replica)] as const;
    const { lineage } = await compare(...ends);
    return describeLineage(lineage, ends[1].view.lastTid, ends[0].view.lastTid)
      .replaceAll(/0{12}([0-9a-f]{4}) \(1900-01-01T00:00:00\.00\dZ\)/g, (_, tid) => `${parseInt(tid, 16)}`);
  };
  const all = history("common", 5);
  const other = history("other", 5);
  const rest = packed(all, 4, () => false).slice(1);
  const cases: [string, TransactionDescription[], TransactionDescription[]][] = [
    ["shared: you have no transaction yet", all, []],
    ["shared: your last transaction is 20, as here", all, all.slice(0, 2)],
    ["ahead: your last transaction is 50, this source is empty", [], all],
    [
      "ahead: your last transaction is 50, this source ends with 30, which you have too",
      all.slice(0, 3),
      all,
    ],
    [
      "ahead: your last transaction is 50, this source ends with 30; nothing is known to be common to both",
      all.slice(0, 3),
      packed(all, 4, () => false).slice(3),
    ],
    [
      "forked: your last transaction is 50; the last common one is 20, here it is followed by 30, there by 31",
      all,
      [
        ...all.slice(0, 2),
        ...other.slice(2).map((each) => ({ ...each, tid: each.tid + (each.tid < 50n ? 1n : 0n) })),
      ],
    ],
    [
      "forked: your last transaction is 50; no transaction is common to both, the first here is 10, there another one of the same tid",
      all,
      other,
    ],
    [
      "forked: your last transaction is 51; the last one known to be common is 20, here it is followed by 40, there by 30",
      packed(all, 3, (oid) => oid === 0n || oid === 3n),
      [...all.slice(0, 3), ...other.slice(3).map((each) => ({ ...each, tid: each.tid + 1n }))],
    ],
    [
      "beyond the pack: your last transaction is 10; NOTHING that you have could be compared with what is here: this " +
      "may be another database altogether; make sure that it is not before you rely on the copy; between 10 and 50 " +
      "transactions and records may have been packed away here, which you will not get",
      rest,
      all.slice(0, 1),
    ],
    [
      "beyond the pack: your last transaction is 41; the last that could be compared and is the same is 40; " +
      "between 41 and the end transactions and records may have been packed away here, which you will not get",
      rest.slice(0, -1),
      [...all.slice(0, 4), transaction("common", 41n, [])],
    ],
  ];
  for (const [expected, source, replica] of cases) assert.equal(await describe(source, replica), expected);
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
  ourPackFrom: fc.oneof(fc.constant(0), fc.nat(10)),
  theirPackFrom: fc.oneof(fc.constant(0), fc.nat(10)),
  ourGarbage: fc.nat(1023),
  theirGarbage: fc.nat(1023),
});

Deno.test("every verdict is what comparing all that both files hold gives", async () => {
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(pair, async (drawn) => {
      const { common, ours, theirs, oids, cancelled } = drawn;
      const make = (database: string, at: number, offset: number) => {
        const made = transaction(
          database,
          BigInt(10 * (at + 1) + offset),
          oids[database === "theirs" ? 44 - at : at]!,
        );
        return cancelled[at] === 0 ? { ...made, status: "u" as const } : made;
      };
      const shared = Array.from({ length: common }, (_, at) => make("common", at, 0));
      const branch = (database: string, count: number, offset: number) =>
        Array.from({ length: count }, (_, at) => make(database, common + at, offset));
      const pack = (transactions: TransactionDescription[], count: number, garbage: number, from: number) =>
        packed(transactions, count, (oid) => (garbage >> Number(oid) & 1) === 1, from);
      const here = pack(
        [...shared, ...branch("ours", ours, 0)],
        drawn.ourPack,
        drawn.ourGarbage,
        drawn.ourPackFrom,
      );
      const there = pack(
        [...shared, ...branch("theirs", theirs, drawn.offset)],
        drawn.theirPack,
        drawn.theirGarbage,
        drawn.theirPackFrom,
      );
      const source = endOf(here);
      const replica = endOf(there);
      const { lineage, questions } = await compare(source, replica);
      assert.deepEqual(lineage, new NaiveJudge(source.built, replica.built).lineage());
      assert.ok(questions <= 8, `${questions} questions`);
      const kind = lineage.kind === "forked" ? `forked, ${lineage.exact}` : lineage.kind;
      seen.set(kind, (seen.get(kind) ?? 0) + 1);

      // What is true whatever the packs left; but a real one leaves something, if only the root.
      const isReal = (count: number, transactions: TransactionDescription[]) =>
        count === 0 || transactions.some(({ status }) => status === "p");
      if (isReal(drawn.ourPack, here) && isReal(drawn.theirPack, there)) {
        if (theirs === 0) assert.match(lineage.kind, /shared|beyond the pack/);
        if (ours === 0) assert.notEqual(lineage.kind, "forked");
      }
      if (lineage.kind === "shared" || lineage.kind === "beyond the pack") {
        const last = replica.view.lastTid;
        for (const { position, tid } of new NaiveJudge(source.built, replica.built).source) {
          assert.equal(position >= lineage.position, tid > last);
        }
      } else if (lineage.common !== undefined) {
        assert.ok(lineage.common <= BigInt(10 * common), "only what is common is called so");
      }
    }),
    { numRuns: 3000 },
  );
  const kinds = ["ahead", "beyond the pack", "forked, false", "forked, true", "shared"];
  assert.deepEqual([...seen.keys()].sort(), kinds);
  assert.ok(Math.min(...seen.values()) > 50, "each verdict is drawn often");
});
