import assert from "node:assert/strict";
import { DiskError } from "../../lib/errors.ts";
import fc from "fast-check";
import { Restorer, Storage } from "../../lib/filestorage/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { randomHistory, tidAt } from "./random_history.ts";
import { replay, type Replayed, type ReplayOptions } from "./replay.ts";

const PATH = "/data/Data.fs";

function emptyDisk(): MemoryDisk {
  const disk = new MemoryDisk();
  disk.addDirectory("/data");
  return disk;
}

/** Restores a file from nothing, and opens the result again. */
async function restored(
  source: Uint8Array,
  options: ReplayOptions = {},
): Promise<{ bytes: Uint8Array; replayed: Replayed }> {
  const disk = emptyDisk();
  let replayed: Replayed;
  {
    await using storage = await Storage.open(disk, PATH);
    replayed = await replay(source, storage, options);
  }
  await using storage = await Storage.open(disk, PATH);
  assert.equal(storage.report.cut, undefined);
  return { bytes: disk.bytes(PATH), replayed };
}

function data(character: string, length: number): Uint8Array {
  return new Uint8Array(length).fill(character.charCodeAt(0));
}

/** All that can happen to an object, each in a transaction of its own. */
const LIFE: readonly TransactionDescription[] = [
  { tid: tidAt(0), description: "initial database creation", records: [{ oid: 0n, data: "root" }] },
  { tid: tidAt(1), user: "bob", records: [{ oid: 1n, data: "one" }, { oid: 2n, data: "two" }] },
  { tid: tidAt(2), records: [{ oid: 1n, data: "changed" }] },
  { tid: tidAt(3), description: "undo", records: [{ oid: 1n, backPointer: [1, 0] }] },
  { tid: tidAt(4), description: "undo of the undo", records: [{ oid: 1n, backPointer: [2, 0] }] },
  { tid: tidAt(5), description: "a chain", records: [{ oid: 1n, backPointer: [3, 0] }] },
  { tid: tidAt(6), description: "creation undone", records: [{ oid: 2n, undone: true }] },
  { tid: tidAt(7), description: "and redone", records: [{ oid: 2n, backPointer: [1, 1] }] },
  { tid: tidAt(8), description: "and undone by a chain", records: [{ oid: 2n, backPointer: [6, 0] }] },
  { tid: tidAt(9), records: [] },
  { tid: tidAt(10), extension: data("x", 65_535), records: [{ oid: 3n, data: data("b", 100_000) }] },
  {
    tid: tidAt(11),
    description: "several undos in one transaction",
    records: [{ oid: 1n, backPointer: [4, 0] }, { oid: 1n, backPointer: [1, 0] }, { oid: 3n, undone: true }],
  },
  { tid: tidAt(12), records: [{ oid: 1n, data: "after" }, { oid: 1n, data: "twice" }] },
  { tid: tidAt(13), records: [{ oid: 1n, backPointer: [11, 1] }] },
];

Deno.test("a restored file is byte-identical with a source that was never packed", async () => {
  const source = dataFs(LIFE);
  const { bytes } = await restored(source.bytes);
  assert.deepEqual(bytes, source.bytes);
});

Deno.test("a restored file is the same whatever the sizes of runs, buffers and parts", async () => {
  const source = dataFs(LIFE);
  for (const bufferBytes of [1, 30, 100, 1000, 70_000]) {
    for (const runBytes of [1, 60, 150, 1000, 66_000]) {
      for (const partBytes of [1000, 40_000]) {
        const { bytes, replayed } = await restored(source.bytes, {
          bufferBytes,
          runBytes: () => runBytes,
          partBytes: () => partBytes,
        });
        assert.deepEqual(bytes, source.bytes, `buffer ${bufferBytes}, run ${runBytes}, part ${partBytes}`);
        assert.equal(replayed.large > 0, runBytes < 170_000, `large at run ${runBytes}`);
      }
    }
  }
});

Deno.test("back pointers into a packed beginning are restored", async () => {
  const source = dataFs([
    { tid: tidAt(0), status: "p", records: [{ oid: 0n, data: "root" }, { oid: 2n, data: "two" }] },
    { tid: tidAt(1), status: "p", records: [{ oid: 1n, data: "old" }, { oid: 3n, data: "three" }] },
    { tid: tidAt(2), status: "p", records: [{ oid: 1n, data: "older than the pack" }] },
    { tid: tidAt(3), records: [{ oid: 0n, data: "new root" }] },
    { tid: tidAt(4), records: [{ oid: 1n, backPointer: [1, 0] }] },
    { tid: tidAt(5), records: [{ oid: 1n, backPointer: [2, 0] }, { oid: 0n, backPointer: [0, 0] }] },
  ]);
  const { bytes } = await restored(source.bytes);
  assert.deepEqual(bytes, source.bytes);
  assert.equal(
    transactionsOf(bytes)[4]!.records[0]!.backPointer,
    source.transactions[1]!.records[0]!.position,
  );
});

Deno.test("a packed beginning is the same when it was received in two goes", async () => {
  const source = dataFs([
    { tid: tidAt(0), status: "p", records: [{ oid: 0n, data: "root" }] },
    { tid: tidAt(1), status: "p", records: [{ oid: 1n, data: "one" }] },
    { tid: tidAt(2), status: "p", records: [{ oid: 1n, data: "two" }] },
    { tid: tidAt(3), records: [{ oid: 1n, data: "three" }] },
  ]);
  const disk = emptyDisk();
  for (const end of [2, 4]) {
    await using storage = await Storage.open(disk, PATH);
    await replay(source.bytes.subarray(0, source.transactions[end - 1]!.end), storage, {
      after: storage.lastTid,
    });
  }
  assert.deepEqual(disk.bytes(PATH), source.bytes);
});

Deno.test("transactions that were packed before they came are linked to older revisions", async () => {
  const before: TransactionDescription[] = [
    { tid: tidAt(0), status: "p", records: [{ oid: 0n, data: "root" }, { oid: 1n, data: "one" }] },
    { tid: tidAt(1), records: [{ oid: 1n, data: "two" }] },
  ];
  const since: TransactionDescription[] = [
    { tid: tidAt(2), status: "p", records: [{ oid: 0n, data: "changed" }] },
    { tid: tidAt(3), status: "p", records: [{ oid: 1n, data: "three" }] },
    { tid: tidAt(4), records: [{ oid: 1n, data: "four" }] },
  ];
  const disk = emptyDisk();
  disk.put(PATH, dataFs(before).bytes);
  {
    await using storage = await Storage.open(disk, PATH);
    await replay(dataFs(since).bytes, storage);
  }
  const records = transactionsOf(disk.bytes(PATH)).flatMap((each) => each.records);
  const positions = records.map((record) => record.position);
  assert.deepEqual(
    records.map((record) => positions.indexOf(record.previous)),
    [-1, -1, 1, 0, 2, 4],
  );
});

Deno.test("cancelled transactions are left out", async () => {
  const kept: TransactionDescription[] = [
    { tid: tidAt(0), records: [{ oid: 0n, data: "root" }] },
    { tid: tidAt(2), records: [{ oid: 0n, data: "new root" }] },
  ];
  const cancelled: TransactionDescription = {
    tid: tidAt(1),
    status: "u",
    records: [{ oid: 0n, data: "never" }],
  };
  const { bytes } = await restored(dataFs([kept[0]!, cancelled, kept[1]!]).bytes);
  assert.deepEqual(bytes, dataFs(kept).bytes);
});

Deno.test("data is written where the revision it refers to is not there or differs", async () => {
  // The second source was packed after the first: what the undo refers to is another transaction's there.
  const first = dataFs([{ tid: tidAt(0), records: [{ oid: 1n, data: "one" }] }]);
  const second = dataFs([
    { tid: tidAt(0), records: [{ oid: 1n, data: "eno" }] },
    { tid: tidAt(1), records: [{ oid: 1n, data: "two" }] },
    { tid: tidAt(2), records: [{ oid: 1n, backPointer: [0, 0] }] },
    { tid: tidAt(3), records: [{ oid: 2n, data: "new" }] },
    { tid: tidAt(4), records: [{ oid: 2n, backPointer: [3, 0] }] },
  ]);
  const disk = emptyDisk();
  disk.put(PATH, first.bytes);
  await using storage = await Storage.open(disk, PATH);
  await replay(second.bytes, storage, { after: tidAt(0) });
  const records = transactionsOf(disk.bytes(PATH)).flatMap((each) => each.records);
  assert.deepEqual(records.map((record) => record.backPointer), [
    null,
    null,
    null,
    null,
    records[3]!.position,
  ]);
  assert.equal(new TextDecoder().decode(records[2]!.data!), "eno");
});

Deno.test("any history is restored byte for byte, in runs and parts of any size", async () => {
  let spilled = 0;
  await fc.assert(
    fc.asyncProperty(
      randomHistory,
      fc.infiniteStream(fc.integer({ min: 1, max: 2000 })),
      fc.integer({ min: 1, max: 3000 }),
      async (history, sizes, bufferBytes) => {
        const source = dataFs(history);
        const next = () => sizes.next().value!;
        const { bytes, replayed } = await restored(source.bytes, {
          bufferBytes,
          runBytes: next,
          partBytes: next,
        });
        assert.deepEqual(bytes, source.bytes);
        spilled += replayed.large;
      },
    ),
    { numRuns: 400 },
  );
  assert(spilled > 100, `only ${spilled} transactions were written in parts`);
});

Deno.test("a transaction that is broken off and begun again leaves no trace", async () => {
  const total = { brokenOff: 0, cut: 0 };
  await fc.assert(
    fc.asyncProperty(
      randomHistory,
      fc.infiniteStream(fc.integer({ min: 1, max: 600 })),
      fc.infiniteStream(fc.nat(5)),
      async (history, sizes, breaks) => {
        const source = dataFs(history);
        const next = () => sizes.next().value!;
        const { bytes, replayed } = await restored(source.bytes, {
          bufferBytes: 200,
          runBytes: next,
          partBytes: next,
          breaksOff: () => breaks.next().value === 0,
        });
        assert.deepEqual(bytes, source.bytes);
        total.brokenOff += replayed.brokenOff;
        total.cut += replayed.cut;
      },
    ),
    { numRuns: 200 },
  );
  assert(total.brokenOff > 1000, `only ${total.brokenOff} were broken off`);
  assert(total.cut > 100, `only ${total.cut} of them had been written in part`);
});

Deno.test("objects of a transaction that was broken off are not indexed", async () => {
  await using storage = await Storage.open(emptyDisk(), PATH);
  const restorer = new Restorer(storage.file, storage.index, storage.end, storage.lastTid, 1000);
  const empty = new Uint8Array();
  const head = { status: 0x20, user: empty, description: empty, extension: empty };
  restorer.begin({ tid: tidAt(1), ...head });
  restorer.record(0, 7, tidAt(1), undefined, 3);
  restorer.data(data("x", 3), 0, 3);
  restorer.endRecord();
  assert.equal(restorer.abort(), false);
  assert.equal(restorer.abort(), false);
  assert.equal(restorer.lastTid, 0n);
  restorer.begin({ tid: tidAt(2), ...head });
  restorer.record(0, 8, tidAt(2), undefined, 0);
  restorer.endRecord();
  assert.equal(storage.index.get(0, 8), 0, "not before the transaction is whole");
  restorer.commit();
  assert.equal(storage.index.get(0, 7), 0);
  assert.equal(storage.index.get(0, 8), 4 + 23);
  assert.equal(restorer.lastTid, tidAt(2));
});

Deno.test("a transaction written in parts is indexed from the file, its records taken back included", async () => {
  const other: TransactionDescription = { tid: tidAt(0), records: [{ oid: 5n, data: data("before", 500) }] };
  const large: TransactionDescription = {
    tid: tidAt(1),
    records: [
      ...Array.from({ length: 200 }, (_, oid) => ({ oid: BigInt(oid), data: data(`${oid}`, 40) })),
      { oid: 5n, backPointer: [0, 0] }, // its data comes, is spilled, and is taken back
      { oid: 7n, data: data("again", 400) }, // the last record of an object counts
      { oid: 900n, undone: true },
    ],
  };
  const later: TransactionDescription = { tid: tidAt(2), records: [{ oid: 7n, data: "later" }] };
  const source = dataFs([other, large, later]);
  for (const runBytes of [30, 100, 1000, 20_000]) {
    const disk = emptyDisk();
    await using storage = await Storage.open(disk, PATH);
    const replayed = await replay(source.bytes, storage, {
      bufferBytes: 64,
      runBytes: () => runBytes,
      partBytes: () => 70,
    });
    assert.equal(replayed.large > 0, runBytes < 20_000);
    assert.deepEqual(disk.bytes(PATH), source.bytes);
    const expected = new Map<bigint, number>();
    for (const { records } of transactionsOf(source.bytes)) {
      for (const { oid, position } of records) expected.set(oid, position);
    }
    for (const [oid, position] of expected) assert.equal(storage.index.get(0, Number(oid)), position);
    assert.equal(storage.index.count, expected.size);
  }
});

Deno.test("objects of a large cancelled transaction that came as bytes are not indexed", async () => {
  const first: TransactionDescription = { tid: tidAt(1), records: [{ oid: 1n, data: "one" }] };
  const cancelled: TransactionDescription = {
    tid: tidAt(2),
    status: "u",
    records: [{ oid: 1n, data: data("x", 500) }, { oid: 2n, data: "never" }],
  };
  const source = dataFs([first, cancelled]);
  await using storage = await Storage.open(emptyDisk(), PATH);
  const restorer = new Restorer(storage.file, storage.index, storage.end, storage.lastTid, 1000);
  const take = (at: number) => {
    const { position, end } = source.transactions[at]!;
    restorer.beginRaw();
    restorer.data(source.bytes, position, end);
  };
  take(0);
  restorer.endRaw(() => {});
  const run = restorer.take();
  await storage.append(run, () => false);
  restorer.giveBack(run);
  take(1);
  await storage.beginLarge();
  restorer.spill((bytes, position) => storage.writePart(bytes, position));
  await restorer.endLargeRaw(() => {}, async () => {});
  assert.equal(storage.index.get(0, 1), 4 + 23);
  assert.equal(storage.index.get(0, 2), 0);
});

Deno.test("what is known of a transaction's records does not grow once it is written in parts", async () => {
  await using storage = await Storage.open(emptyDisk(), PATH);
  const restorer = new Restorer(storage.file, storage.index, storage.end, storage.lastTid, 1 << 20);
  const empty = new Uint8Array();
  const before = restorer.pendingBytes;
  await storage.beginLarge();
  restorer.begin({ tid: tidAt(1), status: 0x20, user: empty, description: empty, extension: empty });
  let most = 0;
  for (let oid = 0; oid < 200_000; oid++) {
    restorer.record(0, oid, tidAt(1), undefined, 0);
    restorer.endRecord();
    most = Math.max(most, restorer.pendingBytes);
    if (restorer.length > 1 << 20) restorer.spill((bytes, position) => storage.writePart(bytes, position));
  }
  assert(most < 1 << 20, `${most} bytes`);
  assert.equal(restorer.pendingBytes, before);
  restorer.commit();
  assert.equal(storage.index.count, 200_000);
});

Deno.test("a transaction written in parts that cannot be read back is not whole", async () => {
  const disk = emptyDisk();
  await using storage = await Storage.open(disk, PATH);
  const restorer = new Restorer(storage.file, storage.index, storage.end, storage.lastTid, 1000);
  const empty = new Uint8Array();
  await storage.beginLarge();
  restorer.begin({ tid: tidAt(1), status: 0x20, user: empty, description: empty, extension: empty });
  restorer.record(0, 1, tidAt(1), undefined, 2000);
  restorer.data(new Uint8Array(2000), 0, 2000);
  restorer.endRecord();
  restorer.spill((bytes, position) => storage.writePart(bytes, position));
  disk.fail({ operation: "read", path: PATH });
  assert.throws(() => restorer.commit(), DiskError);
  assert.equal(restorer.largeEnd, undefined, "nobody finishes it in the file");
  assert.ok(restorer.abort(), "what was written of it is to be cut");
});

Deno.test("what is asked of a restorer out of turn is refused", async () => {
  await using storage = await Storage.open(emptyDisk(), PATH);
  const restorer = new Restorer(storage.file, storage.index, storage.end, storage.lastTid, 1000);
  const empty = new Uint8Array();
  const head = { status: 0x20, user: empty, description: empty, extension: empty };
  const ignore = () => {};
  assert.throws(() => restorer.spill(ignore), RangeError);
  assert.throws(() => restorer.spillLast(ignore), RangeError);
  restorer.begin({ tid: tidAt(1), ...head });
  assert.throws(() => restorer.begin({ tid: tidAt(2), ...head }), RangeError);
  restorer.commit();
  const run = restorer.take();
  restorer.begin({ tid: tidAt(2), ...head });
  assert.throws(() => restorer.spill(ignore), RangeError);
  restorer.commit();
  assert.throws(() => restorer.take(), RangeError);
  assert.throws(() => restorer.giveBack({ ...run }), RangeError);
  restorer.giveBack(run);
  assert.equal(restorer.take().firstTid, tidAt(2));
  const extension = new Uint8Array(65_536);
  assert.throws(() => restorer.begin({ tid: tidAt(3), ...head, extension }), RangeError);
  restorer.begin({ tid: tidAt(3), ...head });
  restorer.record(0, 1, tidAt(3), undefined, 3);
  restorer.data(new Uint8Array(2), 0, 2);
  assert.throws(() => restorer.endRecord(), RangeError);
});
