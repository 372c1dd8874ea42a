import assert from "node:assert/strict";
import { viewOf } from "../../lib/bytes/mod.ts";
import { checkIndex, type IndexCheck } from "../../lib/filestorage/index/index_check.ts";
import { ObjectIndex } from "../../lib/filestorage/index/object_index.ts";
import {
  type BuiltFile,
  dataFs,
  type RecordDescription,
  type TransactionDescription,
} from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";

const PATH = "/db/Data.fs";

function record(oid: bigint): RecordDescription {
  return { oid, data: `data of ${oid}.` };
}

/** Two transactions, and a last one with six records. */
const PLAIN: readonly TransactionDescription[] = [
  { tid: 10n, user: "bob", description: "first", records: [record(0n), record(1n)] },
  { tid: 20n, records: [record(2n ** 63n + 1n)] },
  { tid: 30n, records: [record(1n), record(2n), record(3n), record(2n ** 40n), record(5n), record(6n)] },
];

/** What a scan would find; a later record of an oid wins, and records of a status 'u' do not count. */
function indexOf(transactions: readonly TransactionDescription[], built: BuiltFile): ObjectIndex {
  const index = new ObjectIndex();
  transactions.forEach(({ records, status }, i) => {
    if (status === "u") return;
    records.forEach(({ oid }, j) => {
      const { position } = built.transactions[i]!.records[j]!;
      index.set(Number(oid >> 32n), Number(oid & 0xffff_ffffn), position);
    });
  });
  return index;
}

function check(bytes: Uint8Array, index: ObjectIndex, position: number): IndexCheck {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  using file = disk.openRead(PATH);
  return checkIndex(file, index, position);
}

/** Checks the index that a scan of the described file would make, up to its end. */
function checkDescribed(transactions: readonly TransactionDescription[], tail = ""): IndexCheck {
  const built = dataFs(transactions, { tail });
  return check(built.bytes, indexOf(transactions, built), built.end);
}

function replaceLast(change: Partial<TransactionDescription>): TransactionDescription[] {
  return [...PLAIN.slice(0, -1), { ...PLAIN.at(-1)!, ...change }];
}

Deno.test("an index that fits is good, and the last tid is that of the last transaction it covers", () => {
  assert.deepEqual(checkDescribed(PLAIN), { kind: "good", lastTid: 30n });
  assert.deepEqual(checkDescribed(replaceLast({ status: "p" })), { kind: "good", lastTid: 30n });
});

Deno.test("an index that covers a part of the file is good, whatever lies behind", () => {
  assert.deepEqual(checkDescribed(PLAIN, "garbage"), { kind: "good", lastTid: 30n });
  const built = dataFs(PLAIN);
  const index = indexOf(PLAIN.slice(0, 2), built);
  assert.deepEqual(check(built.bytes, index, built.transactions[1]!.end), { kind: "good", lastTid: 20n });
});

Deno.test("tids of any 64 bits are told exactly", () => {
  const tid = 2n ** 64n - 3n;
  assert.deepEqual(checkDescribed(replaceLast({ tid })), { kind: "good", lastTid: tid });
});

Deno.test("undone and empty transactions at the end are passed over, and give the last tid", () => {
  const ends: TransactionDescription[][] = [
    [{ tid: 40n, records: [] }],
    [{ tid: 40n, status: "u", records: [record(1n)] }],
    [{ tid: 35n, status: "u", records: [record(77n)] }, { tid: 40n, description: "nothing", records: [] }],
  ];
  for (const end of ends) {
    assert.deepEqual(checkDescribed([...PLAIN, ...end]), { kind: "good", lastTid: 40n });
  }
});

Deno.test("a file of nothing but empty transactions has no good index", () => {
  const empty = Array.from(
    { length: 9 },
    (_, i) => ({ tid: BigInt(i + 1), description: "nothing", records: [] }),
  );
  assert.equal(checkDescribed(empty).kind, "bad");
});

Deno.test("an index of less than 100 bytes, or of more than the file has, is bad", () => {
  const built = dataFs(PLAIN);
  const index = indexOf(PLAIN, built);
  const first = dataFs([{ tid: 1n, records: [record(1n)] }]);
  assert.ok(first.end < 100);
  assert.equal(
    check(first.bytes, indexOf([{ tid: 1n, records: [record(1n)] }], first), first.end).kind,
    "bad",
  );
  for (const position of [0, 4, -1, NaN, Infinity, 2 ** 60, built.end + 1, built.end - 1, built.end - 8]) {
    assert.equal(check(built.bytes, index, position).kind, "bad", `${position}`);
  }
});

Deno.test("an index that misplaces one of the last transaction's first five records is bad", () => {
  const built = dataFs(PLAIN);
  const records = PLAIN.at(-1)!.records;
  records.forEach(({ oid }, i) => {
    const index = indexOf(PLAIN, built);
    const [high, low] = [Number(oid >> 32n), Number(oid & 0xffff_ffffn)];
    index.set(high, low, index.get(high, low) + 1);
    assert.equal(check(built.bytes, index, built.end).kind, i < 5 ? "bad" : "good", `record ${i}`);
    index.delete(high, low);
    assert.equal(check(built.bytes, index, built.end).kind, i < 5 ? "bad" : "good", `record ${i}`);
  });
});

Deno.test("a last transaction that is not as written makes the index bad", () => {
  const [first, ...others] = PLAIN.at(-1)!.records;
  const damaged: Record<string, TransactionDescription[]> = {
    "voted only": replaceLast({ status: "c" }),
    "a status beyond ASCII": replaceLast({ damage: { status: 0xff } }),
    "a trailer of its own": replaceLast({ damage: { trailer: 40n } }),
    "a trailer of 0": replaceLast({ damage: { trailer: 0n } }),
    "a trailer beyond 2^53": replaceLast({ damage: { trailer: 2n ** 64n - 1n } }),
    "a length beyond the file": replaceLast({ damage: { length: 2n ** 63n } }),
    "a user that is too long": replaceLast({ damage: { userLength: 0xffff } }),
    "a record with a version": replaceLast({ records: [{ ...first!, damage: { versionLength: 4 } }] }),
    "a record of another transaction": replaceLast({ records: [{ ...first!, damage: { transaction: 4n } }] }),
    "a record too long": replaceLast({
      records: [{ ...first!, damage: { dataLength: 2n ** 62n } }, ...others],
    }),
    "a record of another oid": replaceLast({ records: [{ ...first!, damage: { oid: 99n } }] }),
    "an oid twice": replaceLast({ records: [first!, first!] }),
  };
  for (const [what, transactions] of Object.entries(damaged)) {
    assert.equal(checkDescribed(transactions).kind, "bad", what);
  }
});

Deno.test("an index is bad wherever the file is cut off", () => {
  const built = dataFs(PLAIN);
  const index = indexOf(PLAIN, built);
  for (let length = 0; length < built.end; length++) {
    assert.equal(check(built.bytes.subarray(0, length), index, built.end).kind, "bad", `cut at ${length}`);
  }
});

Deno.test("any flipped byte of the data file is found, or shown harmless for the check", () => {
  const built = dataFs(PLAIN);
  const index = indexOf(PLAIN, built);
  const { position, end, records } = built.transactions.at(-1)!;
  const checked = records.slice(0, 5);
  const within = (at: number, start: number, length: number) => at >= start && at < start + length;
  const isLookedAt = (at: number) =>
    within(at, position + 8, 8 + 1 + 6) || // length, status, and the lengths of the texts
    within(at, end - 8, 8) || // the length again
    checked.some((record) => within(at, record.position, 8) || within(at, record.position + 24, 8 + 2 + 8));
  let harmless = 0;
  for (let at = 0; at < built.bytes.length; at++) {
    for (let flip = 1; flip < 0x100; flip++) {
      const bytes = built.bytes.slice();
      bytes[at]! ^= flip;
      const result = check(bytes, index, built.end);
      if (!isLookedAt(at)) {
        if (within(at, position, 8)) assert.notDeepEqual(result, { kind: "good", lastTid: 30n });
        else assert.deepEqual(result, { kind: "good", lastTid: 30n });
      } else if (result.kind === "good") {
        // The other two legal statuses, and a length that makes the check go on at another record's start or,
        // behind the last record that it looks at, end within the transaction.
        const view = viewOf(bytes);
        const record = checked.find((each) => within(at, each.position + 34, 8));
        const next = record !== undefined
          ? record.position + 42 + Number(view.getBigUint64(record.position + 34))
          : position + 23 + view.getUint16(position + 17) + view.getUint16(position + 19) +
            view.getUint16(position + 21);
        const isLegal = at === position + 16
          ? [0x70, 0x75].includes(bytes[at]!)
          : records.some((each) => each.position === next || each.end === next) ||
            (record === checked.at(-1) && next <= end - 8);
        assert.ok(isLegal, `byte ${at} flipped by ${flip}`);
        harmless++;
      }
    }
  }
  assert.ok(harmless < 200, `${harmless} flips`);
});
