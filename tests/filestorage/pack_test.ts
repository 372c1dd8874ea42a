import assert from "node:assert/strict";
import fc from "fast-check";
import { CorruptError, DiskError, DiskFullError, UsageError } from "../../lib/errors.ts";
import { type PackOptions, type PackReport, packStorage, Storage } from "../../lib/filestorage/mod.ts";
import { dataFs, type RecordDescription, type TransactionDescription } from "../kit/data_fs.ts";
import { MemoryDisk, type Operation } from "../kit/memory_disk.ts";
import { type ReadRecord, transactionsOf } from "../kit/transactions_of.ts";
import { data, findReferences, histories, history, reachableStates } from "./pack_kit.ts";
import { tidAt } from "./random_history.ts";

const PATH = "/data/Data.fs";

function diskWith(bytes: Uint8Array): MemoryDisk {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  return disk;
}

const USUAL = {
  findReferences,
  keepOld: true,
  patience: {},
  warn: (message: string) => assert.fail(message),
} as const;

async function pack(disk: MemoryDisk, options: Partial<PackOptions> & { stop: bigint }): Promise<PackReport> {
  await using storage = await Storage.open(disk, PATH);
  return await packStorage(disk, storage, { ...USUAL, ...options });
}

/** Which objects' revisions there are: "oid of tid index". */
function revisionsOf(bytes: Uint8Array): string[] {
  return transactionsOf(bytes).flatMap(({ tid, status, records }) =>
    records.map(({ oid }) =>
      `${oid} of ${(tid - tidAt(0)) / (tidAt(1) - tidAt(0))}${status === "p" ? " p" : ""}`
    )
  );
}

Deno.test("a pack keeps what was current at that time, inlines its data, and copies what came later", async () => {
  const { bytes } = dataFs(history(
    [{ oid: 0n, data: data([1, 2]) }, { oid: 1n, data: data([]) }, {
      oid: 2n,
      data: data([], "garbage later"),
    }],
    [{ oid: 1n, data: data([3]) }, { oid: 3n, data: data([], "undone") }],
    [{ oid: 1n, backPointer: [0, 1] }],
    [{ oid: 0n, data: data([1]) }],
    [{ oid: 1n, data: data([], "after") }],
  ));
  const disk = diskWith(bytes);
  const report = await pack(disk, { stop: tidAt(3) });
  const packed = disk.bytes(PATH);
  assert.deepEqual(revisionsOf(packed), ["1 of 2 p", "0 of 3 p", "1 of 4"]);
  const [first, , last] = transactionsOf(packed);
  assert.equal(first!.records[0]!.backPointer, null, "it has its data now");
  assert.deepEqual(transactionsOf(packed).map(({ records }) => records[0]!.previous !== 0), [
    false,
    false,
    true,
  ]);
  assert.equal(last!.records[0]!.previous, first!.records[0]!.position);
  assert.deepEqual(disk.bytes(`${PATH}.old`), bytes);
  assert.deepEqual(report, {
    isPacked: true,
    tid: tidAt(3),
    bytesBefore: bytes.length,
    bytesAfter: packed.length,
    transactionsBefore: 5,
    transactionsAfter: 3,
    keptAs: `${PATH}.old`,
  });
});

Deno.test("a pack writes byte for byte what Python's writes: no undo, an undo behind the pack time, no gc", async () => {
  const undone = history(
    [{ oid: 0n, data: data([1, 2]) }, { oid: 1n, data: data([]) }, { oid: 2n, data: data([]) }],
    [{ oid: 1n, data: data([3]) }, { oid: 3n, data: data([]) }],
    [{ oid: 1n, data: data([]) }],
    [{ oid: 0n, data: data([1]) }],
    [{ oid: 1n, backPointer: [1, 0] }],
  );
  // What is not packed any more stands in the packed file as if it had been written there.
  const cases: [TransactionDescription[], number, boolean, TransactionDescription[]][] = [
    [undone, 2, true, [
      { ...undone[0]!, status: "p", records: undone[0]!.records.toSpliced(1, 1) },
      { ...undone[1]!, status: "p" },
      { ...undone[2]!, status: "p" },
      undone[3]!,
      { ...undone[4]!, records: [{ oid: 1n, backPointer: [1, 0], previous: [2, 0] }] },
    ]],
    [undone.slice(0, 4), 3, true, [
      { ...undone[2]!, status: "p" },
      { ...undone[3]!, status: "p" },
    ]],
    [undone.slice(0, 4), 3, false, [
      { ...undone[0]!, status: "p", records: [{ oid: 2n, data: data([]) }] },
      { ...undone[1]!, status: "p", records: [{ oid: 3n, data: data([]) }] },
      { ...undone[2]!, status: "p" },
      { ...undone[3]!, status: "p" },
    ]],
  ];
  for (const [before, stop, gc, after] of cases) {
    const disk = diskWith(dataFs(before).bytes);
    await pack(disk, { stop: tidAt(stop), findReferences: gc ? findReferences : undefined });
    assert.deepEqual(disk.bytes(PATH), dataFs(after).bytes, `${before.length} packed to ${stop}, gc ${gc}`);
  }
});

Deno.test("what a later undo brings back is kept with all that it refers to", async () => {
  // Python keeps object 1, and loses object 2.
  const disk = diskWith(
    dataFs(history(
      [{ oid: 0n, data: data([1]) }, { oid: 1n, data: data([2]) }, { oid: 2n, data: data([], "needed") }],
      [{ oid: 0n, data: data([]) }, { oid: 1n, data: data([]) }],
      [{ oid: 0n, backPointer: [0, 0] }, { oid: 1n, backPointer: [0, 1] }],
    )).bytes,
  );
  const before = reachableStates(disk.bytes(PATH), tidAt(2));
  await pack(disk, { stop: tidAt(1) });
  assert.deepEqual(reachableStates(disk.bytes(PATH), tidAt(2)), before);
  assert.equal(before.size, 3);
});

Deno.test("an object that did not exist, until a later undo brought it back, does not exist before that", async () => {
  // In a file that Python has packed it does.
  const { bytes } = dataFs(history(
    [{ oid: 0n, data: data([]) }, { oid: 1n, data: data([], "one") }],
    [{ oid: 1n, undone: true }],
    [{ oid: 0n, data: data([], "2") }],
    [{ oid: 1n, backPointer: [0, 1] }],
  ));
  for (const gc of [true, false]) {
    const disk = diskWith(bytes);
    await pack(disk, { stop: tidAt(1), findReferences: gc ? findReferences : undefined });
    const records = transactionsOf(disk.bytes(PATH)).flatMap(({ tid, records }) =>
      records.filter(({ oid }) => oid === 1n).map(({ data }) => [tid, data && new TextDecoder().decode(data)])
    );
    assert.deepEqual(records, [[tidAt(0), "|one"], [tidAt(1), null], [tidAt(3), "|one"]]);
  }
});

Deno.test("garbage that a later transaction refers to again is no garbage", async () => {
  const disk = diskWith(
    dataFs(history(
      [{ oid: 0n, data: data([1]) }, { oid: 1n, data: data([2]) }, { oid: 2n, data: data([]) }],
      [{ oid: 0n, data: data([]) }],
      [{ oid: 0n, data: data([1], "pasted") }],
    )).bytes,
  );
  const before = reachableStates(disk.bytes(PATH), tidAt(2));
  await pack(disk, { stop: tidAt(1) });
  assert.deepEqual(reachableStates(disk.bytes(PATH), tidAt(2)), before);
});

Deno.test("whatever could be reached at the pack time or later can be reached, and is the same", async () => {
  let packed = 0;
  await fc.assert(
    fc.asyncProperty(histories, fc.nat(12), fc.boolean(), async (transactions, at, gc) => {
      const stop = Math.min(at, transactions.length - 1);
      const { bytes } = dataFs(transactions);
      const disk = diskWith(bytes);
      let report: PackReport;
      try {
        report = await pack(disk, { stop: tidAt(stop), findReferences: gc ? findReferences : undefined });
      } catch (error) {
        // An object that is referred to has been deleted: nothing is dropped then.
        assert.ok(error instanceof UsageError && /which is not there/.test(error.message));
        assert.deepEqual(disk.bytes(PATH), bytes);
        assert.deepEqual(disk.paths().filter((path) => path.endsWith(".pack")), []);
        return;
      }
      if (report.isPacked) packed++;
      const after = disk.bytes(PATH);
      for (let t = stop; t < transactions.length; t++) {
        assert.deepEqual(reachableStates(after, tidAt(t)), reachableStates(bytes, tidAt(t)));
      }
      const late = (all: Uint8Array) => transactionsOf(all).filter(({ tid }) => tid > tidAt(stop));
      const said = ({ oid, tid, data }: ReadRecord) => ({ oid, tid, data });
      assert.deepEqual(
        late(after).map(({ records }) => records.map(said)),
        late(bytes).map(({ records }) => records.map(said)),
        "later transactions say what they said",
      );
      await using storage = await Storage.open(disk, PATH);
      if (report.isPacked && after.length >= 100) assert.equal(storage.report.indexReason, undefined);
      const again = await pack2(disk, storage, tidAt(stop), gc);
      assert.equal(again.isPacked, false, "a second pack finds nothing to do");
    }),
    { numRuns: 400 },
  );
  assert.ok(packed > 50, `only ${packed} packed something`);
});

function pack2(disk: MemoryDisk, storage: Storage, stop: bigint, gc: boolean): Promise<PackReport> {
  return packStorage(disk, storage, {
    ...USUAL,
    stop,
    findReferences: gc ? findReferences : undefined,
  });
}

Deno.test("garbage is not told, and nothing dropped, where references cannot be read or lead nowhere", async () => {
  const cases: [string, RecordDescription[], RegExp][] = [
    [
      "unreadable",
      [{ oid: 0n, data: data([1]) }, { oid: 1n, data: "compressed" }],
      /0000000000000001 refers to cannot be read/,
    ],
    [
      "dangling",
      [{ oid: 0n, data: data([7]) }],
      /object 0{16} refers to object 0000000000000007, which is not there/,
    ],
    ["no root", [{ oid: 1n, data: data([]) }], /no root object/],
  ];
  for (const [what, records, words] of cases) {
    const { bytes } = dataFs(history(records, [{ oid: 9n, data: data([]) }], [{ oid: 9n, data: data([]) }]));
    const disk = diskWith(bytes);
    await assert.rejects(pack(disk, { stop: tidAt(2) }), (error: Error) => {
      assert.ok(error instanceof UsageError, what);
      assert.match(error.message, words);
      assert.match(error.hint!, /--no-gc/);
      return true;
    });
    assert.deepEqual(disk.bytes(PATH), bytes);
    assert.deepEqual(disk.paths().sort(), [PATH, `${PATH}.lock`]);
    const report = await pack(disk, { stop: tidAt(2), findReferences: undefined });
    assert.equal(report.isPacked, true, `${what}: without gc`);
  }
});

Deno.test("there is nothing to pack before the first transaction, in an empty file, and twice", async () => {
  const { bytes } = dataFs(history(
    [{ oid: 0n, data: data([]) }],
    [{ oid: 0n, data: data([], "2") }],
    [{ oid: 0n, data: data([], "3") }],
  ));
  const disk = diskWith(bytes);
  assert.equal((await pack(disk, { stop: tidAt(0) - 1n })).isPacked, false);
  assert.equal((await pack(disk, { stop: tidAt(0) })).isPacked, false, "nothing would be saved");
  assert.deepEqual(disk.bytes(PATH), bytes);
  assert.equal((await pack(disk, { stop: tidAt(1) })).isPacked, true);
  const packed = disk.bytes(PATH);
  assert.equal((await pack(disk, { stop: tidAt(1) })).isPacked, false);
  assert.equal((await pack(disk, { stop: tidAt(0) })).isPacked, false);
  assert.deepEqual(disk.bytes(PATH), packed);
  assert.equal((await pack(diskWith(dataFs([]).bytes), { stop: tidAt(5) })).isPacked, false);
});

Deno.test("a damaged file is not packed", async () => {
  const { bytes, transactions } = dataFs(history(
    [{ oid: 0n, data: data([1]) }, { oid: 1n, data: data([]) }],
    [{ oid: 0n, data: data([1], "2") }],
    [{ oid: 1n, backPointer: [0, 1] }],
  ));
  const damaged = bytes.slice();
  new DataView(damaged.buffer).setBigUint64(transactions[0]!.records[1]!.position, 5n); // another oid
  const disk = diskWith(damaged);
  await assert.rejects(pack(disk, { stop: tidAt(2) }), (error: Error) => {
    return error instanceof CorruptError || error instanceof UsageError;
  });
  assert.deepEqual(disk.bytes(PATH), damaged);
});

Deno.test("whichever operation fails, the database is the old one or the packed one, and opens", async () => {
  const { bytes } = dataFs(history(
    [{ oid: 0n, data: data([1]) }, { oid: 1n, data: data([]) }],
    [{ oid: 0n, data: data([1], "2") }],
    [{ oid: 1n, data: data([], "3") }],
    [{ oid: 0n, data: data([1], "4") }],
  ));
  const whole = diskWith(bytes);
  await pack(whole, { stop: tidAt(2) });
  const packed = whole.bytes(PATH);
  const operations: Operation[] = [
    "open",
    "create",
    "read",
    "write",
    "truncate",
    "sync",
    "rename",
    "link",
    "remove",
    "syncDirectory",
  ];
  for (const operation of operations) {
    for (let nth = 1;; nth++) {
      const disk = diskWith(bytes);
      disk.put(`${PATH}.old`, new Uint8Array([1]));
      await using storage = await Storage.open(disk, PATH);
      const before = disk.performed.length;
      disk.fail({ operation, nth });
      let failure: unknown;
      try {
        await packStorage(disk, storage, { ...USUAL, stop: tidAt(2), warn: () => {} });
      } catch (error) {
        failure = error;
      }
      const count = disk.performed.slice(before).filter((each) => each.operation === operation).length;
      if (count < nth) break; // it has not come to that
      if (failure !== undefined) assert.ok(failure instanceof DiskError, `${operation} ${nth}: ${failure}`);
      const now = disk.bytes(PATH);
      assert.ok(equal(now, bytes) || equal(now, packed), `${operation} ${nth}`);
      if (failure === undefined) assert.ok(equal(now, packed), `${operation} ${nth}`);
      await storage[Symbol.asyncDispose]();
      await using opened = await Storage.open(disk, PATH);
      assert.equal(opened.lastTid, tidAt(3));
    }
  }
});

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

Deno.test("a pack that is stopped leaves everything as it was", async () => {
  const transactions = Array.from({ length: 3_000 }, (_, i): RecordDescription[] => [
    { oid: 0n, data: data([], `${i}`) },
  ]);
  const { bytes } = dataFs(history(...transactions));
  const disk = diskWith(bytes);
  await using storage = await Storage.open(disk, PATH);
  const stopping = new AbortController();
  let phase: string | undefined;
  await assert.rejects(
    packStorage(disk, storage, {
      ...USUAL,
      stop: tidAt(1_500),
      patience: { pause: () => Promise.resolve(), signal: stopping.signal },
      progress: (progress) => {
        phase = progress.doing;
        if (phase === "copying") stopping.abort(new Error("stopped"));
      },
    }),
    /stopped/,
  );
  assert.equal(phase, "copying");
  assert.deepEqual(disk.bytes(PATH), bytes);
  assert.deepEqual(disk.paths().filter((path) => path.endsWith(".pack")), []);
});

Deno.test("a pack that may not fit is refused before it writes anything; an older .old makes room", async () => {
  const { bytes } = dataFs(history(
    [{ oid: 0n, data: data([1]) }, { oid: 1n, data: data([], "x".repeat(1_000)) }],
    [{ oid: 0n, data: data([1], "2") }],
    [{ oid: 1n, data: data([], "y".repeat(500)) }],
  ));
  const disk = diskWith(bytes);
  await using storage = await Storage.open(disk, PATH);
  const options = { ...USUAL, stop: tidAt(2) };
  const used = disk.paths().reduce((sum, path) => sum + disk.bytes(path).length, 0);
  disk.capacity = used + 400;
  await assert.rejects(packStorage(disk, storage, options), (error: Error) => {
    assert.ok(error instanceof DiskFullError);
    assert.match(error.message, /may take \d+ bytes beside it, and 400 are free/);
    return true;
  });
  disk.capacity = used + 400 + 1_000;
  disk.put(`${PATH}.old`, new Uint8Array(1_000));
  await assert.rejects(packStorage(disk, storage, { ...options, keepOld: false }), DiskFullError);
  assert.equal(disk.bytes(`${PATH}.old`).length, 1_000, "nobody said that it should go");
  assert.equal((await packStorage(disk, storage, { ...options, keepOld: true })).isPacked, true);
});
