/** What verify finds in damaged, odd and hostile files, by name. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { describe, gravityOf } from "../../lib/filestorage/mod.ts";
import { type BuiltFile, dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { latin1 } from "../kit/hex.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { damagedFile } from "./damage.ts";
import { randomHistory, tidAt } from "./random_history.ts";
import { kindsIn, PATH, verify, verifyOn } from "./verify_kit.ts";

const [A, B, C] = [0n, 0x0101n, 0x0202n];

/** Five transactions: two objects, changes, an undo. */
const HISTORY: readonly TransactionDescription[] = [
  { tid: tidAt(0), records: [{ oid: A, data: "root" }, { oid: B, data: "one" }] },
  { tid: tidAt(1), records: [{ oid: B, data: "two" }] },
  { tid: tidAt(2), user: "bob", description: "undo", records: [{ oid: B, backPointer: [0, 1] }] },
  { tid: tidAt(3), records: [{ oid: B, data: "three" }, { oid: C, data: "c" }, { oid: A, data: "rest" }] },
  { tid: tidAt(4), records: [{ oid: A, data: "again" }] },
];

/** The history with overrides of one transaction, and of one record of it. */
function damagedAt(
  transaction: number,
  damage: TransactionDescription["damage"],
  record?: number,
  recordDamage: TransactionDescription["records"][number]["damage"] = {},
): Uint8Array {
  return dataFs(HISTORY.map((each, index) =>
    index !== transaction ? each : {
      ...each,
      damage: damage ?? {},
      records: each.records.map((one, at) => at === record ? { ...one, damage: recordDamage } : one),
    }
  )).bytes;
}

const FILE = dataFs(HISTORY);
const positionOf = (transaction: number, record: number) =>
  BigInt(FILE.transactions[transaction]!.records[record]!.position);

/** A transaction that has lost its header is known by its records, which name its position. */
const RECOGNISED = ["bad-status", "length-mismatch", "tid-order", "tid-mismatch"];

/** What is done to the file, and what is found. */
const MUTILATIONS: readonly (readonly [what: string, bytes: () => Uint8Array, kinds: readonly string[]])[] = [
  ["nothing", () => FILE.bytes, []],
  ["the header's length is too large", () => damagedAt(1, { length: 200n }), ["length-mismatch"]],
  ["the header's length leads behind the end", () => damagedAt(1, { length: 1n << 50n }), [
    "length-mismatch",
  ]],
  ["the header's length is 0", () => damagedAt(1, { length: 0n }), ["length-mismatch"]],
  ["the last header's length leads behind the end", () => damagedAt(4, { length: 9999n }), [
    "length-mismatch",
  ]],
  ["a trailer is wrong", () => damagedAt(2, { trailer: 1n }), ["length-mismatch"]],
  ["the last trailer is wrong", () => damagedAt(4, { trailer: 1n }), ["length-mismatch"]],
  ["a status is no status", () => damagedAt(1, { status: 0xff }), ["bad-status"]],
  ["a transaction in the middle was never finished", () => damagedAt(1, { status: 0x63 }), ["unfinished"]],
  ["the last transaction was never finished", () => damagedAt(4, { status: 0x63 }), ["torn-tail"]],
  ["a tid is lower than the one before", () => damagedAt(3, { tid: 5n }), ["tid-order", "tid-mismatch"]],
  ["a tid is too high", () => damagedAt(1, { tid: 1n << 62n }), ["tid-mismatch", "tid-order"]],
  ["texts are longer than the transaction", () => damagedAt(1, { userLength: 9999 }), ["metadata-length"]],
  ["texts are longer than they are", () => damagedAt(2, { userLength: 30 }), ["metadata-length"]],
  ["a record has another tid", () => damagedAt(3, {}, 1, { tid: 7n }), ["tid-mismatch"]],
  ["a record names another transaction", () => damagedAt(3, {}, 1, { transaction: 4n }), [
    "wrong-transaction",
  ]],
  ["data is longer than the transaction", () => damagedAt(3, {}, 1, { dataLength: 999n }), ["record-length"]],
  ["data is a little longer", () => damagedAt(3, {}, 0, { dataLength: 20n }), ["record-length"]],
  ["data is a little shorter", () => damagedAt(3, {}, 2, { dataLength: 2n }), ["record-length"]],
  ["a record is of a version", () => damagedAt(4, {}, 0, { versionLength: 3 }), ["version"]],
  ["a link leads nowhere", () => damagedAt(3, {}, 0, { previous: 77n }), ["previous"]],
  ["a link leads to an older revision", () => damagedAt(3, {}, 0, { previous: positionOf(0, 1) }), [
    "previous",
  ]],
  ["a link is missing", () => damagedAt(3, {}, 0, { previous: 0n }), ["previous"]],
  ["a link leads forth", () => damagedAt(3, {}, 0, { previous: positionOf(4, 0) }), ["previous"]],
  ["a back pointer leads forth", () => damagedAt(2, {}, 0, { backPointer: positionOf(4, 0) }), [
    "back-pointer",
  ]],
  ["a back pointer leads to itself", () => damagedAt(2, {}, 0, { backPointer: positionOf(2, 0) }), [
    "back-pointer",
  ]],
  ["a back pointer leads to another object", () => {
    return damagedAt(2, {}, 0, { backPointer: positionOf(0, 0) });
  }, ["back-pointer"]],
  ["a back pointer leads into data", () => damagedAt(2, {}, 0, { backPointer: positionOf(0, 0) + 42n }), [
    "back-pointer",
  ]],
  ["a header is zeros", () => withZeros(FILE, 1, 23), RECOGNISED],
  ["a whole transaction is zeros", () => withZeros(FILE, 1, 76), ["bad-status", "lost"]],
  ["the last header is zeros", () => withZeros(FILE, 4, 23), RECOGNISED],
  ["zeros follow the last transaction", () => dataFs(HISTORY, { tail: new Uint8Array(500) }).bytes, [
    "torn-tail",
  ]],
  ["letters follow the last transaction", () => dataFs(HISTORY, { tail: "A".repeat(500) }).bytes, [
    "torn-tail",
  ]],
  ["five bytes follow", () => dataFs(HISTORY, { tail: "AAAAA" }).bytes, ["torn-tail"]],
];

function withZeros({ bytes, transactions }: BuiltFile, transaction: number, length: number): Uint8Array {
  const { position } = transactions[transaction]!;
  return bytes.slice().fill(0, position, position + length);
}

Deno.test("each kind of damage is found under its name, once, and nothing else with it", async () => {
  for (const [what, bytes, expected] of MUTILATIONS) {
    const { findings } = await verify(bytes());
    const kinds = findings.map(({ kind }) => kind);
    assert.deepEqual(kinds, expected, `${what}: ${findings.map(describe).join("; ")}`);
  }
});

Deno.test("behind damage everything is checked as before, and what is lost is told", async () => {
  const damaged = withZeros(FILE, 1, 65);
  const { findings, verified } = await verify(damaged);
  const [, lost] = findings;
  assert.deepEqual(lost, {
    kind: "lost",
    position: FILE.transactions[1]!.position,
    end: FILE.transactions[1]!.end,
    before: tidAt(0),
    behind: tidAt(2),
  });
  assert.equal(verified.transactions, 4);
  assert.equal(verified.lastTid, tidAt(4));
  // Two damages far from each other are two, also where one good transaction stands between.
  damaged.fill(0, FILE.transactions[3]!.position, FILE.transactions[3]!.end);
  assert.deepEqual(await kindsIn(damaged), ["bad-status", "lost", "bad-status", "lost"]);
});

Deno.test("a Data.fs inside a record is never taken for transactions of the file", async () => {
  const inner = dataFs(HISTORY).bytes;
  // Also one that a crash has left behind the end, and one with later tids.
  const later = dataFs(HISTORY.map((each) => ({ ...each, tid: each.tid + (1n << 50n) }))).bytes;
  const file = dataFs([
    HISTORY[0]!,
    { tid: tidAt(1), records: [{ oid: B, data: inner }, { oid: C, data: later }] },
    { tid: tidAt(2), records: [{ oid: B, data: "after" }] },
  ]);
  assert.deepEqual(await kindsIn(file.bytes), []);
  const { position, end, records } = file.transactions[1]!;
  // Without its header, without its trailer, and without anything but what is in its records.
  const cases: [number, number][] = [[position, 23], [position, 65], [end - 8, 8], [
    records[1]!.position,
    42,
  ]];
  for (const [from, length] of cases) {
    const damaged = file.bytes.slice().fill(0, from, from + length);
    const { findings, verified } = await verify(damaged);
    assert(findings.length > 0);
    assert.equal(verified.lastTid, tidAt(2));
    assert(verified.transactions <= 3, `${verified.transactions}`);
    for (const finding of findings) if (finding.kind === "lost") assert.deepEqual(finding.end, end);
  }
  const torn = await verify(new Uint8Array([...file.bytes.subarray(0, end - 30)]));
  assert.equal(torn.findings[0]?.kind, "torn-tail");
  assert.equal(torn.verified.lastTid, tidAt(0));
});

Deno.test("transactions without records are found behind damage, when one with records follows", async () => {
  const file = dataFs([
    ...HISTORY.slice(0, 2),
    { tid: tidAt(2), records: [] },
    { tid: tidAt(3), description: "empty", records: [] },
    { tid: tidAt(4), records: [{ oid: C, data: "c" }] },
  ]);
  const { findings, verified } = await verify(withZeros(file, 1, 65));
  assert.deepEqual(findings.map(({ kind }) => kind), ["bad-status", "lost"]);
  assert.equal(verified.transactions, 4);
});

Deno.test("a version's record is told, and gone on behind", async () => {
  const name = "abc";
  const fields = new Uint8Array([...new Uint8Array(16), ...latin1(name), ...latin1("data")]);
  const file = dataFs([
    {
      tid: tidAt(0),
      records: [{ oid: A, data: fields, damage: { versionLength: 3, dataLength: 4n } }, {
        oid: B,
        data: "b",
      }],
    },
    { tid: tidAt(1), records: [{ oid: B, data: "c" }] },
  ], { magic: "FS21" });
  assert.deepEqual(await kindsIn(file.bytes), ["version"]);
});

Deno.test("a packed beginning has no links, but only a beginning", async () => {
  const packed = (index: number, data: string) =>
    ({ tid: tidAt(index), status: "p", records: [{ oid: B, data }] }) as const;
  const rest = { tid: tidAt(2), records: [{ oid: B, data: "x" }] } as const;
  assert.deepEqual(await kindsIn(dataFs([packed(0, "a"), packed(1, "b"), rest]).bytes), []);
  assert.deepEqual(await kindsIn(dataFs([rest, packed(3, "c")]).bytes), ["previous"]);
  const linked = { ...packed(3, "c"), records: [{ oid: B, data: "c", previous: [0, 0] as const }] };
  assert.deepEqual(await kindsIn(dataFs([rest, linked]).bytes), []);
});

Deno.test("cancelled transactions count as nothing", async () => {
  const cancelled = { tid: tidAt(1), status: "u", records: [{ oid: B, data: "never" }] } as const;
  const { findings, verified } = await verify(
    dataFs([HISTORY[0]!, cancelled, { tid: tidAt(2), records: [{ oid: B, data: "next" }] }]).bytes,
  );
  assert.deepEqual(findings, []);
  assert.equal(verified.transactions, 2);
});

Deno.test("an empty database, and one without bytes, are in order", async () => {
  assert.deepEqual(await kindsIn(latin1("FS30")), []);
  assert.deepEqual(await kindsIn(new Uint8Array()), []);
});

Deno.test("random histories of every shape give no finding", async () => {
  await fc.assert(fc.asyncProperty(randomHistory, async (history) => {
    const { findings, verified } = await verify(dataFs(history).bytes);
    assert.deepEqual(findings, []);
    assert.equal(verified.transactions, history.length);
    assert.equal(verified.records, history.reduce((sum, { records }) => sum + records.length, 0));
  }));
});

Deno.test("no damage makes it fail, and every finding can be told in words", async () => {
  await fc.assert(
    fc.asyncProperty(damagedFile, async (bytes) => {
      const { findings } = await verify(bytes, { pickles: true, references: true });
      for (const finding of findings) {
        assert.match(describe(finding), /\S/);
        assert(!describe(finding).includes("undefined"), describe(finding));
        assert(["damage", "torn", "note"].includes(gravityOf(finding)));
      }
    }),
    { numRuns: 1000 },
  );
});

Deno.test("a record of a version behind one of another tid is gone behind", async () => {
  const { bytes } = dataFs(HISTORY.map((each, index) =>
    index !== 3 ? each : {
      ...each,
      records: each.records.map((one, at) => ({
        ...one,
        damage: at === 0 ? { tid: 7n } : at === 2 ? { versionLength: 0xfb00 } : {},
      })),
    }
  ));
  assert.deepEqual(await kindsIn(bytes), ["version", "tid-mismatch"]);
});

Deno.test("a file of nothing but traps is gone through once", async () => {
  // Headers that all but pass: every byte of a stretch could begin a transaction with a far first record.
  const trap = new Uint8Array(23);
  new DataView(trap.buffer).setBigUint64(8, 300_000n);
  trap.fill(0x20, 16, 17).fill(0xff, 17, 23);
  const bytes = new Uint8Array(1 << 20);
  for (let at = 0; at + 23 <= bytes.length; at += 23) bytes.set(trap, at);
  bytes.set(latin1("FS30"));
  const { findings } = await verify(bytes);
  assert(findings.length < 10);
});

Deno.test("what is under way at the end while it looks is no finding", async () => {
  for (const change of ["grows", "is finished", "is aborted"] as const) {
    const voted = damagedAt(4, { status: 0x63 });
    const disk = new MemoryDisk();
    disk.put(PATH, voted);
    let waits = 0;
    const { findings, verified } = await verifyOn(disk, {
      wait: () => {
        if (++waits < 3) return Promise.resolve();
        if (change === "grows") disk.put(PATH, new Uint8Array([...voted, 1]));
        else {disk.put(
            PATH,
            change === "is finished" ? FILE.bytes : voted.slice(0, FILE.transactions[4]!.position),
          );}
        return Promise.resolve();
      },
    });
    assert.deepEqual(findings, [], change);
    assert.equal(verified.end, FILE.transactions[4]!.position);
  }
});

Deno.test("much that is no transaction is lost, and no torn tail; a large transaction that was cut is one", async () => {
  const garbage = new Uint8Array(17 << 20).fill(0x41);
  assert.deepEqual(await kindsIn(dataFs(HISTORY, { tail: garbage }).bytes), ["length-mismatch", "lost"]);
  const large = dataFs([...HISTORY, { tid: tidAt(5), records: [{ oid: C, data: garbage }] }]);
  assert.deepEqual(await kindsIn(large.bytes.slice(0, -1)), ["torn-tail"]);
  const zeros = dataFs(HISTORY, { tail: garbage.fill(0) });
  assert.deepEqual(await kindsIn(zeros.bytes), ["torn-tail"]);
});
