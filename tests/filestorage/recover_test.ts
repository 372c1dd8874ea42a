import assert from "node:assert/strict";
import fc from "fast-check";
import { CorruptError, DiskError, UsageError } from "../../lib/errors.ts";
import { FIRST_POSITION, FollowedFile, MAGIC, Storage, TRANSACTION } from "../../lib/filestorage/mod.ts";
import { NO_TID } from "../../lib/zodb/mod.ts";
import { type BuiltFile, dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { randomHistory, tidAt } from "./random_history.ts";

const PATH = "/data/Data.fs";
const INDEX = `${PATH}.index`;

const SMALL = dataFs([
  { tid: tidAt(0), description: "initial database creation", records: [{ oid: 0n, data: "root" }] },
  { tid: tidAt(1), user: "bob", records: [{ oid: 0n, data: "changed" }, { oid: 1n, data: "one" }] },
  { tid: tidAt(2), records: [] },
  { tid: tidAt(3), status: "u", records: [{ oid: 1n, data: "cancelled" }] },
  { tid: tidAt(4), records: [{ oid: 1n, backPointer: [1, 1] }, { oid: 2n, undone: true }] },
]);

function diskWith(bytes: Uint8Array): MemoryDisk {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  return disk;
}

/** The greatest transaction end that is not behind `size`. */
function boundaryBefore(file: BuiltFile, size: number): number {
  return Math.max(FIRST_POSITION, ...file.transactions.map(({ end }) => end).filter((end) => end <= size));
}

/** Each object's current position, found the slow way. */
function currentPositions(bytes: Uint8Array): Map<bigint, number> {
  const current = new Map<bigint, number>();
  for (const { records } of transactionsOf(bytes)) {
    for (const { oid, position } of records) current.set(oid, position);
  }
  return current;
}

function indexOf(storage: Storage): Map<bigint, number> {
  const found = new Map<bigint, number>();
  storage.index.forEach((high, low, position) => found.set((BigInt(high) << 32n) | BigInt(low), position));
  return found;
}

Deno.test("an owner cuts any truncated file at the last whole transaction, and saves what it cuts", async () => {
  for (let size = 0; size <= SMALL.bytes.length; size++) {
    const disk = diskWith(SMALL.bytes.slice(0, size));
    await using storage = await Storage.open(disk, PATH);
    const end = boundaryBefore(SMALL, size);
    assert.deepEqual(disk.bytes(PATH), SMALL.bytes.slice(0, end), `${size} bytes`);
    assert.equal(storage.end, end, `${size} bytes`);
    const torn = Math.max(0, size - end);
    const savedTo = torn > TRANSACTION.size ? `${PATH}.tr0` : undefined;
    assert.deepEqual(storage.report.cut, torn === 0 ? undefined : { bytes: torn, savedTo }, `${size} bytes`);
    if (savedTo !== undefined) assert.deepEqual(disk.bytes(savedTo), SMALL.bytes.slice(end, size));
  }
});

Deno.test("a follower sees the whole transactions of any truncated file, and touches nothing", async () => {
  for (let size = 0; size <= SMALL.bytes.length; size++) {
    const disk = diskWith(SMALL.bytes.slice(0, size));
    const opening = FollowedFile.open(disk, PATH, () => Promise.resolve());
    if (size > 0 && size < MAGIC.length) {
      await assert.rejects(opening, UsageError, `${size} bytes`);
      continue;
    }
    const followed = await opening;
    assert.equal(followed.view.end, boundaryBefore(SMALL, size), `${size} bytes`);
    followed.close();
    assert.deepEqual(disk.bytes(PATH), SMALL.bytes.slice(0, size));
    assert.deepEqual(disk.paths(), [PATH]);
    assert.deepEqual(
      new Set(disk.performed.map(({ operation }) => operation)),
      new Set(["open", "read", "sync", "syncDirectory"]),
    );
  }
});

Deno.test("what is cut goes to the first free name, and nothing is overwritten", async () => {
  const disk = diskWith(SMALL.bytes.slice(0, -1));
  const taken = new Uint8Array([1, 2, 3]);
  for (const suffix of [".tr0", ".tr1", ".tr3"]) disk.put(PATH + suffix, taken);
  await using storage = await Storage.open(disk, PATH);
  assert.equal(storage.report.cut?.savedTo, `${PATH}.tr2`);
  for (const suffix of [".tr0", ".tr1", ".tr3"]) assert.deepEqual(disk.bytes(PATH + suffix), taken);
});

Deno.test("nothing is cut before it has been saved", async () => {
  const torn = SMALL.bytes.slice(0, -1);
  for (const operation of ["create", "write", "sync", "syncDirectory"] as const) {
    for (const error of ["io", "full"] as const) {
      const disk = diskWith(torn);
      disk.fail({
        operation,
        error,
        written: 10,
        ...(operation === "syncDirectory" ? {} : { path: ".tr0" }),
      });
      await assert.rejects(Storage.open(disk, PATH), DiskError, operation);
      assert.deepEqual(disk.bytes(PATH), torn, operation);
      assert.equal(disk.status(`${PATH}.tr0`), undefined, "a half saved tail must not be left");
      await using storage = await Storage.open(disk, PATH);
      assert.equal(storage.report.cut?.savedTo, `${PATH}.tr0`);
    }
  }
});

Deno.test("the index after opening is the same from any saved index, and without one", async () => {
  let fromIndex = 0;
  await fc.assert(
    fc.asyncProperty(randomHistory, fc.nat(), fc.nat(), async (history, savedAt, cutAt) => {
      const file = dataFs(history);
      const boundaries = [FIRST_POSITION, ...file.transactions.map(({ end }) => end)];
      const saved = boundaries[savedAt % boundaries.length]!;
      const disk = diskWith(file.bytes.slice(0, saved));
      {
        await using before = await Storage.open(disk, PATH);
        await before.saveIndex();
      }
      // The file has grown since, or was cut back behind the index's end.
      const size = FIRST_POSITION + cutAt % (file.bytes.length - FIRST_POSITION + 1);
      const end = boundaryBefore(file, size);
      disk.put(PATH, file.bytes.slice(0, size));
      await using storage = await Storage.open(disk, PATH);
      assert.equal(storage.end, end);
      const kept = file.bytes.slice(0, end);
      assert.deepEqual(indexOf(storage), currentPositions(kept));
      assert.equal(storage.lastTid, transactionsOf(kept).at(-1)?.tid ?? NO_TID);
      if (storage.report.indexReason === undefined) {
        fromIndex++;
        assert.equal(storage.report.scanned, boundaries.filter((each) => each > saved && each <= end).length);
      }
    }),
    { numRuns: 300 },
  );
  assert(fromIndex > 20, `the index was used ${fromIndex} times`);
});

Deno.test("an owner finishes the beginning of a file whose creation was cut short", async () => {
  for (const beginning of [[], [0x46], [0, 0], [0x46, 0x53, 0, 0], [...MAGIC]]) {
    const disk = diskWith(new Uint8Array(beginning));
    await using storage = await Storage.open(disk, PATH);
    assert.equal(storage.end, FIRST_POSITION);
    assert.deepEqual(disk.bytes(PATH), MAGIC);
    const last = disk.performed.map(({ operation }) => operation).filter((each) => each.startsWith("sync"));
    assert.deepEqual(last.slice(0, 2), ["sync", "syncDirectory"]);
  }
});

Deno.test("what is no FileStorage, or one of Python 2, is refused and left alone", async () => {
  for (const bytes of ["FS21", "FS31", "PK\x03\x04 and so on", "F\0x"]) {
    const content = new TextEncoder().encode(bytes);
    const disk = diskWith(content);
    await assert.rejects(Storage.open(disk, PATH), UsageError);
    assert.deepEqual(disk.bytes(PATH), content);
    assert.equal(disk.status(INDEX), undefined);
  }
});

Deno.test("a new database is not made where an old one has left its traces", async () => {
  for (const trace of [".old", ".pack", ".index"]) {
    const disk = new MemoryDisk();
    disk.put(PATH + trace, SMALL.bytes);
    await assert.rejects(Storage.open(disk, PATH), (error) => {
      assert(error instanceof UsageError);
      assert.match(error.message, /there was a database before/);
      return true;
    });
    assert.equal(disk.status(PATH), undefined);
  }
});

/** Transactions of 6 MB each: any three are more than one crash leaves. */
function largeHistory(damage: TransactionDescription["damage"], last: Partial<TransactionDescription> = {}) {
  const data = new Uint8Array(6_000_000).fill(0x2e);
  const all: TransactionDescription[] = [0, 1, 2, 3, 4].map((n) => ({
    tid: tidAt(n),
    records: [{ oid: BigInt(n), data }],
  }));
  all[1] = { ...all[1]!, ...(damage !== undefined && { damage }) };
  all[4] = { ...all[4]!, ...last };
  return dataFs(all);
}

Deno.test("history behind a damaged length or status in the middle of a file is not cut away", async () => {
  const beyond = { length: 1n << 40n };
  for (
    const [file, words] of [
      [largeHistory(beyond), /would end at .* behind the end of the file/],
      [largeHistory(beyond, { records: [] }), /would end at .* behind the end of the file/],
      [largeHistory(beyond, { status: "u" }), /would end at .* behind the end of the file/],
      [largeHistory({ status: 0x63 }), /its status says that it was not finished/],
    ] as const
  ) {
    const disk = diskWith(file.bytes);
    await assert.rejects(Storage.open(disk, PATH), (error) => {
      assert(error instanceof CorruptError);
      assert.match(error.message, words);
      assert.equal(error.facts.position, file.transactions[1]!.position);
      return true;
    });
    assert.deepEqual(disk.paths().filter((path) => path.includes(".tr")), []);
    assert.equal(disk.bytes(PATH).length, file.bytes.length);
  }
});

Deno.test("what may be the rest of a transaction under way is cut, however much it is", async () => {
  const beyond = { length: 1n << 40n };
  const unfinished = { ...beyond, status: 0x63 };
  const good = largeHistory(undefined);
  const cases: Uint8Array[] = [
    largeHistory(unfinished).bytes, // large, in parts, and its data may look like anything
    largeHistory(beyond).bytes.subarray(0, -1),
    largeHistory(beyond, { status: "c" }).bytes,
    largeHistory(beyond, { records: [{ oid: 4n, data: "x", damage: { transaction: 4n } }] }).bytes,
    new Uint8Array(20_000_000).fill(0x20),
  ];
  for (const [number, bytes] of cases.entries()) {
    const disk = diskWith(number < 4 ? bytes : joined(good.bytes, bytes));
    const end = number < 4 ? good.transactions[1]!.position : good.bytes.length;
    await using storage = await Storage.open(disk, PATH);
    assert.equal(storage.end, end, `case ${number}`);
    assert.notEqual(storage.report.cut?.savedTo, undefined);
  }
});

function joined(one: Uint8Array, other: Uint8Array): Uint8Array {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

Deno.test("what was found in a file is on disk before anybody is told of it", async () => {
  for (const bytes of [SMALL.bytes, SMALL.bytes.slice(0, -1)]) {
    const disk = diskWith(bytes);
    disk.fail({ operation: "sync", path: "Data.fs" });
    await assert.rejects(Storage.open(disk, PATH), DiskError);
    await using _ = await Storage.open(disk, PATH);
  }
});
