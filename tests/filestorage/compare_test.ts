/** Two files compared: by an independent judge, with differences planted everywhere, packed at either end. */
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type Comparison,
  describeDifference,
  type Difference,
  FileComparison,
  History,
} from "../../lib/filestorage/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { bytesOf } from "../kit/hex.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { packed } from "../replica/lineage_kit.ts";
import { changes, type Descriptions, replace, replaceRecord, withoutBackPointers } from "./changes.ts";
import { naiveDifferences } from "./naive_compare.ts";
import { randomHistory, tidAt } from "./random_history.ts";

interface Compared {
  readonly found: Difference[];
  readonly result: Comparison;
}

async function compareBytes(
  here: Uint8Array,
  there: Uint8Array,
  options: { since?: bigint; bytes?: boolean } = {},
): Promise<Compared> {
  const disk = new MemoryDisk();
  disk.put("/data/here.fs", here);
  disk.put("/data/there.fs", there);
  using own = await History.open(disk, "/data/here.fs");
  using other = await History.open(disk, "/data/there.fs");
  const comparison = new FileComparison(own, other, { ...options, pause: () => Promise.resolve() });
  const found: Difference[] = [];
  for await (const difference of comparison.differences()) found.push(difference);
  return { found, result: comparison.result };
}

async function compare(here: Descriptions, there: Descriptions, options = {}): Promise<Compared> {
  return await compareBytes(dataFs(here).bytes, dataFs(there).bytes, options);
}

/** Holds the comparison of two files to the naive one. */
async function checkPair(here: Uint8Array, there: Uint8Array): Promise<Difference[]> {
  const { found } = await compareBytes(here, there);
  assert.deepEqual(found.map(({ kind, tid }) => [kind, tid]), naiveDifferences(here, there));
  return found;
}

const SMALL: TransactionDescription[] = Array.from({ length: 12 }, (_, at) => ({
  tid: tidAt(at),
  user: `user ${at}`,
  records: [{ oid: 1n, data: `one ${at}` }, { oid: BigInt(at + 2), data: "x".repeat(300) }],
}));

Deno.test("a file and its beginning are the same, and what is newer at the other end is no difference", async () => {
  await fc.assert(
    fc.asyncProperty(randomHistory, fc.nat(), async (history, choice) => {
      const count = choice % (history.length + 1);
      const { found, result } = await compare(history.slice(0, count), history);
      assert.deepEqual(found, []);
      assert.equal(result.same, count);
      assert.equal(result.hasNewer, count < history.length);
    }),
    { numRuns: 100 },
  );
});

for (const [name, change] of Object.entries(changes)) {
  Deno.test(`a difference planted anywhere is found, in both directions: ${name}`, async () => {
    let changed = 0;
    await fc.assert(
      fc.asyncProperty(randomHistory, fc.nat(), fc.nat(), async (random, at, choice) => {
        fc.pre(random.length > 0);
        const history = withoutBackPointers(random);
        const here = dataFs(history).bytes;
        const there = dataFs(change(history, at % history.length, choice)).bytes;
        changed += (await checkPair(here, there)).length;
        changed += (await checkPair(there, here)).length;
      }),
      { numRuns: 100 },
    );
    assert(changed > 50, `only ${changed} differences were found`);
  });
}

Deno.test("a back pointer that leads to other data is found where it stands, and the data where they stand", async () => {
  const history = (data: string, to: 0 | 1): TransactionDescription[] => [
    { tid: tidAt(0), records: [{ oid: 1n, data: "first" }] },
    { tid: tidAt(1), records: [{ oid: 1n, data }] },
    { tid: tidAt(2), records: [{ oid: 1n, backPointer: [to, 0] }] },
    { tid: tidAt(3), records: [{ oid: 2n, data: "behind" }] },
  ];
  const bytes = (data: string, to: 0 | 1) => dataFs(history(data, to)).bytes;
  assert.deepEqual((await checkPair(bytes("other", 0), bytes("other", 1))).map(({ tid }) => tid), [tidAt(2)]);
  // The same bytes in the record with the back pointer, and not the same data.
  const found = await checkPair(bytes("other", 1), bytes("OTHER", 1));
  assert.deepEqual(found.map(({ tid }) => tid), [tidAt(1), tidAt(2)]);
  assert(found[1]?.kind === "data");
  assert.equal(found[1].offset, 0);
  // Data, or a back pointer to the same data: no difference.
  const copy = dataFs([...history("other", 0).slice(0, 2), {
    tid: tidAt(2),
    records: [{ oid: 1n, data: "first" }],
  }, history("other", 0)[3]!]).bytes;
  assert.deepEqual(await checkPair(copy, bytes("other", 0)), []);
});

Deno.test("what a pack at either end or both has removed is no difference, anything else is", async () => {
  await fc.assert(
    fc.asyncProperty(
      randomHistory,
      fc.nat(20),
      fc.nat(20),
      fc.nat(),
      fc.constantFrom(undefined, ...Object.values(changes)),
      async (random, first, second, choice, change) => {
        fc.pre(random.length > 0);
        const history = withoutBackPointers(random).map((each) => ({ ...each, status: " " as const }));
        const other = change === undefined ? history : change(history, choice % history.length, choice);
        const isGarbage = (oid: bigint) => oid === BigInt(choice % 3);
        const here = dataFs(packed(history, first, isGarbage)).bytes;
        const there = dataFs(packed(other, second, () => false)).bytes;
        const found = await checkPair(here, there);
        await checkPair(there, here);
        if (change === undefined) {
          // What was packed away at the very end may look ahead, and nothing else.
          assert.deepEqual(found.filter(({ kind }) => kind !== "ahead"), []);
        }
      },
    ),
    { numRuns: 400 },
  );
});

Deno.test("a record with another tid than its transaction is told at either end, shifted, packed or not", async () => {
  const tid = tidAt(99);
  const damaged = replaceRecord(SMALL, 5, 1, (record) => [{ ...record, damage: { tid } }]);
  // Garbage before moves all that follows, until a pack takes it away.
  const shifted = [{ tid: 1n, records: [] }, ...damaged];
  const isGarbage = (oid: bigint) => oid === 1n;
  const cases: [name: string, here: Descriptions, there: Descriptions][] = [
    ["at the same positions", damaged, SMALL],
    ["shifted", shifted, SMALL],
    ["packed here", packed(damaged, 8, isGarbage), SMALL],
    ["packed there", damaged, packed(SMALL, 8, isGarbage)],
    ["packed at both ends", packed(damaged, 8, isGarbage), packed(SMALL, 6, () => false)],
  ];
  for (const [name, here, there] of cases) {
    for (const [own, other] of [[here, there], [there, here]] as const) {
      const { found } = await compare(own, other);
      assert.deepEqual(found.map((each) => [each.kind, each.tid]), [["record-tid", tidAt(5)]], name);
      const [difference] = found;
      assert(difference?.kind === "record-tid");
      const tids = [difference.recordTidHere, difference.recordTidThere];
      assert.deepEqual(tids, own === here ? [tid, tidAt(5)] : [tidAt(5), tid], name);
    }
  }
});

Deno.test("of another tid and other data in one transaction the data are told, whichever comes first", async () => {
  const other = replaceRecord(SMALL, 5, 0, (record) => [{ ...record, damage: { tid: tidAt(99) } }]);
  const here = replaceRecord(other, 5, 1, ({ oid }) => [{ oid, data: "changed" }]);
  for (const status of [" ", "p"] as const) {
    const { found } = await compare(here, replace(SMALL, 5, { status }));
    assert.deepEqual(found.map((each) => [each.kind, each.tid]), [["data", tidAt(5)]]);
  }
});

Deno.test("another tid in a record is said with both tids and both places", async () => {
  const damaged = replaceRecord(SMALL, 5, 1, (record) => [{ ...record, damage: { tid: tidAt(6) } }]);
  const [here, there] = [dataFs(SMALL), dataFs([{ tid: 1n, records: [] }, ...damaged])];
  const { found } = await compareBytes(here.bytes, there.bytes);
  const [own, other] = [here.transactions[5]!, there.transactions[6]!];
  assert.deepEqual(found.map((each) => describeDifference(each, { here: "A", there: "B" })), [
    `transaction 03f5945d00000000 (2024-01-02T03:09:00.000Z), at ${own.position} in A, at ${other.position} in B: ` +
    `the record of object 0000000000000007 has tid 03f5945d00000000 (2024-01-02T03:09:00.000Z) in A and ` +
    `03f5945e00000000 (2024-01-02T03:10:00.000Z) in B ` +
    `(records at ${own.records[1]!.position} in A, at ${other.records[1]!.position} in B)`,
  ]);
});

Deno.test("positions of both ends, object, lengths and offset are told", async () => {
  const there = replaceRecord(
    SMALL,
    5,
    1,
    ({ oid }) => [{ oid, data: `${"x".repeat(100)}y${"x".repeat(199)}` }],
  );
  const built = [dataFs([{ tid: 1n, records: [] }, ...SMALL]), dataFs(there)] as const;
  const { found } = await compareBytes(built[0].bytes, built[1].bytes);
  const [difference] = found;
  assert(found.length === 1 && difference?.kind === "data");
  const [here, other] = [built[0].transactions[6]!, built[1].transactions[5]!];
  assert.deepEqual([difference.here, difference.there], [here.position, other.position]);
  assert.deepEqual(difference.recordHere, { position: here.records[1]!.position, length: 300 });
  assert.deepEqual(difference.recordThere, { position: other.records[1]!.position, length: 300 });
  assert.deepEqual([difference.oid, difference.offset], [7n, 100]);
  assert.equal(
    describeDifference(difference, { here: "A", there: "B" }),
    `transaction 03f5945d00000000 (2024-01-02T03:09:00.000Z), at ${here.position} in A, at ${other.position} in B: ` +
      `the 300 bytes of data of object 0000000000000007 differ from byte 100 on ` +
      `(records at ${here.records[1]!.position} in A, at ${other.records[1]!.position} in B)`,
  );
});

Deno.test("an extension pickled anew is no difference, another one is", async () => {
  const [one, anew, other] = ["80037d71005801000000616201004b01732e", "80047d94", "80037d2e"];
  const same = "80037d7100580100000061" + "71014b01732e";
  const withoutMemo = "7d58010000006" + "14b01732e";
  const with_ = (hex: string) => replace(SMALL, 3, { extension: bytesOf(hex) });
  const { found, result } = await compare(with_(same), with_(withoutMemo));
  assert.deepEqual([found, result.rewritten], [[], 1]);
  for (const hex of [one, anew, other]) {
    const { found } = await compare(with_(same), with_(hex));
    assert(found[0]?.kind === "metadata", hex);
    assert.deepEqual(found[0].fields, ["extension"]);
  }
});

Deno.test("transactions and records larger than every buffer are compared to their last byte", async () => {
  const large = (end: string, shift = 0): TransactionDescription[] => [
    { tid: tidAt(0), records: [{ oid: 1n, data: "small" }] },
    { tid: tidAt(1), records: [{ oid: 2n, data: `${"a".repeat(5_000_001)}${end}` }, { oid: 3n, data: "b" }] },
    { tid: tidAt(2), records: [{ oid: 2n, data: `${"c".repeat(300_000)}` }] },
    { tid: tidAt(3), records: [{ oid: 2n, backPointer: [1 + shift, 0] }] },
  ];
  const first: TransactionDescription = { tid: 1n, records: [] };
  for (const here of [large("x"), [first, ...large("x", 1)]]) {
    const { found, result } = await compare(here, large("x"));
    assert.deepEqual([found, result.same], [[], 4]);
    const others = await compare(here, large("y"));
    assert.deepEqual(others.found.map((each) => each.kind === "data" ? each.offset : each), [
      5_000_001,
      5_000_001,
    ]);
  }
});

Deno.test("only what is not earlier than a tid is compared, where that is wanted", async () => {
  const there = replace(SMALL, 2, { user: "other" });
  assert.equal((await compare(SMALL, there)).found.length, 1);
  assert.equal((await compare(SMALL, there, { since: tidAt(2) })).found.length, 1);
  const { found, result } = await compare(SMALL, there, { since: tidAt(3) });
  assert.deepEqual([found, result.same], [[], SMALL.length - 3]);
});

Deno.test("byte by byte, the first byte that differs is named, whatever it means", async () => {
  const { bytes } = dataFs(SMALL);
  assert.deepEqual((await compareBytes(bytes, bytes, { bytes: true })).found, []);
  const shorter = dataFs(SMALL.slice(0, 7));
  const newer = await compareBytes(shorter.bytes, bytes, { bytes: true });
  assert.deepEqual([newer.found, newer.result.hasNewer], [[], true]);
  const [ahead] = (await compareBytes(bytes, shorter.bytes, { bytes: true })).found;
  assert(ahead?.kind === "bytes");
  assert.deepEqual([ahead.position, ahead.byteThere, ahead.tid], [shorter.end, undefined, tidAt(7)]);
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 4, max: bytes.length - 1 }), async (position) => {
      const other = bytes.slice();
      other[position]! ^= 0x01;
      const { found } = await compareBytes(bytes, other, { bytes: true });
      // A file that is damaged there ends before it.
      assert(found[0]?.kind === "bytes");
      assert(found[0].position === position || found[0].byteThere === undefined);
    }),
    { numRuns: 100 },
  );
});

Deno.test("any flipped byte of a copy is a difference, or a link or status that says nothing of content", async () => {
  const { bytes, transactions } = dataFs(SMALL);
  const linkBytes = new Set<number>();
  for (const { position, records } of transactions) {
    linkBytes.add(position + 16);
    for (const record of records) {
      for (let at = record.position + 16; at < record.position + 24; at++) linkBytes.add(at);
    }
  }
  for (let position = 4; position < bytes.length; position++) {
    const damaged = bytes.slice();
    damaged[position]! ^= 0x50; // ' ' becomes 'p'
    const { found, result } = await compareBytes(damaged, bytes);
    const isShown = found.length > 0 || result.hasNewer || linkBytes.has(position);
    assert(isShown, `byte ${position} differs and nothing is found`);
  }
});

Deno.test("a record that cannot be read is a finding of its side, and what follows is compared", async () => {
  const damage = replaceRecord(SMALL, 6, 1, ({ oid }) => [{ oid, data: "x", damage: { transaction: 5n } }]);
  const other = replace(SMALL, 9, { user: "other" });
  const found = async (here: Descriptions, there: Descriptions) =>
    (await compare(here, there)).found.map((each) => [each.kind, each.tid, "side" in each && each.side]);
  const rest = ["metadata", tidAt(9), false];
  assert.deepEqual(await found(damage, other), [["damaged", tidAt(6), "here"], rest]);
  assert.deepEqual(await found(other, damage), [["damaged", tidAt(6), "there"], rest]);
});
