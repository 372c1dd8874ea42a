import assert from "node:assert/strict";
import fc from "fast-check";
import { CorruptError } from "../../lib/errors.ts";
import { ObjectIndex } from "../../lib/filestorage/mod.ts";
import { RevisionFinder } from "../../lib/filestorage/revision_finder.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { sourceOf } from "./bytes_source.ts";
import { randomHistory, tidAt } from "./random_history.ts";

function halves(oid: bigint): [high: number, low: number] {
  return [Number(oid >> 32n), Number(oid & 0xffff_ffffn)];
}

function finderOn(bytes: Uint8Array, noteSpacing?: number): RevisionFinder {
  const index = new ObjectIndex();
  for (const { records } of transactionsOf(bytes)) {
    for (const { oid, position } of records) index.set(...halves(oid), position);
  }
  return new RevisionFinder(sourceOf(bytes), index, noteSpacing);
}

Deno.test("the last record of an object in a transaction is found, and its data, as by looking at all", () => {
  let found = 0;
  fc.assert(
    fc.property(
      randomHistory,
      fc.nat(300),
      fc.array(fc.tuple(fc.nat(), fc.nat(), fc.integer({ min: -1, max: 1 })), { maxLength: 30 }),
      (history, noteSpacing, questions) => {
        const { bytes, end } = dataFs(history);
        const transactions = transactionsOf(bytes);
        const records = transactions.flatMap((each) => each.records);
        if (records.length === 0) return;
        const finder = finderOn(bytes, noteSpacing);
        for (const [choice, other, offset] of questions) {
          const { oid, tid: own } = records[choice % records.length]!;
          const tid = other % 2 === 0 ? own : transactions[other % transactions.length]!.tid + BigInt(offset);
          const expected = records.findLast((each) => each.oid === oid && each.tid === tid);
          const position = finder.find(...halves(oid), tid, end);
          assert.equal(position, expected?.position ?? 0);
          if (expected === undefined) continue;
          found++;
          const data = finder.dataOf(position, ...halves(oid));
          assert.equal(data?.length, expected.data?.length);
          if (data === undefined) continue;
          assert.deepEqual(bytes.slice(data.position, data.position + data.length), expected.data);
        }
      },
    ),
    { numRuns: 500 },
  );
  assert(found > 1000, `only ${found} were found`);
});

Deno.test("stretches of a file are compared, of any length", () => {
  const bytes = new Uint8Array(400_000);
  for (let at = 0; at < 200_000; at++) bytes[at] = bytes[at + 200_000] = at % 253;
  const finder = new RevisionFinder(sourceOf(bytes), new ObjectIndex());
  for (const length of [0, 1, 65_535, 65_536, 65_537, 200_000]) {
    assert.equal(finder.isSame(0, 200_000, length), true);
  }
  assert.equal(finder.isSame(0, 200_000, 200_001), false, "the file ends there");
  for (const at of [0, 65_535, 65_536, 199_999]) {
    bytes[at]! ^= 1;
    assert.equal(finder.isSame(0, 200_000, 200_000), false, `byte ${at}`);
    assert.equal(finder.isSame(0, 200_000, at), true);
    bytes[at]! ^= 1;
  }
});

Deno.test("objects of packed transactions are found in turn without walking through these each time", () => {
  const count = 2000;
  const records = Array.from({ length: count }, (_, oid) => ({ oid: BigInt(oid), data: "data" }));
  const packed: TransactionDescription[] = [1, 2].map((n) => ({ tid: tidAt(n), status: "p", records }));
  const later: TransactionDescription = { tid: tidAt(3), records: [{ oid: 9999n, data: "unpacked" }] };
  const { bytes, transactions, end } = dataFs([...packed, later]);
  const index = new ObjectIndex();
  for (const [oid, { position }] of transactions[1]!.records.entries()) index.set(0, oid, position);
  let read = 0;
  const source = sourceOf(bytes);
  const finder = new RevisionFinder({
    readAt(into, position) {
      const found = source.readAt(into, position);
      read += found;
      return found;
    },
  }, index);
  for (let oid = 0; oid < count; oid++) {
    for (const n of [0, 1]) {
      assert.equal(finder.find(0, oid, tidAt(n + 1), end), transactions[n]!.records[oid]!.position);
    }
    assert.equal(finder.find(0, count + oid, tidAt(1), end), 0, "an object that is not there");
    assert.equal(finder.find(0, count + oid, tidAt(3), end), 0, "a transaction that is not packed");
  }
  assert(read < 4 * bytes.length, `${read} bytes were read of ${bytes.length}`);
});

Deno.test("more packed transactions than tables are kept of are found, and found again", () => {
  const history: TransactionDescription[] = Array.from({ length: 3000 }, (_, n) => ({
    tid: tidAt(n),
    status: "p",
    records: [{ oid: BigInt(n), data: `${n}` }],
  }));
  const { bytes, transactions, end } = dataFs(history);
  const finder = new RevisionFinder(sourceOf(bytes), new ObjectIndex(), 1000);
  for (const step of [1, 7, 2999]) {
    for (let i = 0; i < 3000; i++) {
      const n = (i * step) % 3000;
      assert.equal(finder.find(0, n, tidAt(n), end), transactions[n]!.records[0]!.position);
    }
  }
});

Deno.test("links that do not lead backwards to the same object are damage, and end every search", () => {
  const good: TransactionDescription[] = [
    { tid: tidAt(0), records: [{ oid: 1n, data: "one" }, { oid: 2n, data: "two" }] },
    { tid: tidAt(1), records: [{ oid: 1n, data: "changed" }] },
    { tid: tidAt(2), records: [{ oid: 1n, backPointer: [1, 0] }] },
  ];
  const built = dataFs(good);
  const [one, two] = built.transactions[0]!.records;
  const last = built.transactions[2]!.records[0]!;
  const links: [field: "previous" | "backPointer", position: number][] = [
    ["previous", two!.position],
    ["previous", last.position],
    ["previous", 1e9],
    ["backPointer", two!.position],
    ["backPointer", last.position],
    ["backPointer", one!.position + 1],
  ];
  for (const [field, position] of links) {
    const damage = { [field]: BigInt(position) };
    const { bytes, end } = dataFs([...good.slice(0, 2), {
      tid: tidAt(2),
      records: [{ oid: 1n, backPointer: [1, 0], damage }],
    }]);
    const index = new ObjectIndex();
    index.set(0, 1, last.position);
    const finder = new RevisionFinder(sourceOf(bytes), index);
    assert.throws(
      () => field === "previous" ? finder.find(0, 1, tidAt(0), end) : finder.dataOf(last.position, 0, 1),
      (error) => {
        assert(error instanceof CorruptError);
        assert.equal(error.facts.oid, 1n);
        return true;
      },
    );
  }
});
