import assert from "node:assert/strict";
import { DiskError, LockedError, NotFoundError, UsageError } from "../../lib/errors.ts";
import { FIRST_POSITION, MAGIC, Storage } from "../../lib/filestorage/mod.ts";
import { NO_TID } from "../../lib/zodb/mod.ts";
import { dataFs } from "../kit/data_fs.ts";
import { MemoryDisk, type Operation } from "../kit/memory_disk.ts";
import { tidAt } from "./random_history.ts";
import { replay } from "./replay.ts";

const PATH = "/data/Data.fs";

const FILE = dataFs([
  { tid: tidAt(0), description: "initial database creation", records: [{ oid: 0n, data: "root" }] },
  { tid: tidAt(1), records: [{ oid: 0n, data: "changed" }, { oid: 1n, data: "one" }] },
  { tid: tidAt(2), records: [{ oid: 1n, data: "two" }] },
]);
/** The end of all but the last transaction. */
const BEFORE = FILE.transactions[2]!.position;

function emptyDisk(): MemoryDisk {
  const disk = new MemoryDisk();
  disk.addDirectory("/data");
  return disk;
}

function diskWith(bytes: Uint8Array): MemoryDisk {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  return disk;
}

Deno.test("a database is created where there is none, durably, and is empty", async () => {
  const disk = emptyDisk();
  await using storage = await Storage.open(disk, PATH);
  assert.deepEqual(disk.bytes(PATH), MAGIC);
  assert.equal(storage.report.created, true);
  assert.equal(storage.end, FIRST_POSITION);
  assert.equal(storage.lastTid, NO_TID);
  const done = disk.performed.map(({ operation }) => operation);
  assert(done.indexOf("syncDirectory") > done.indexOf("sync"));
  assert(done.indexOf("sync") > done.indexOf("write"));
});

Deno.test("only one may own a file, until it is closed", async () => {
  const disk = diskWith(FILE.bytes);
  {
    await using storage = await Storage.open(disk, PATH);
    await assert.rejects(Storage.open(disk, PATH), LockedError);
    await storage[Symbol.asyncDispose](); // closing twice is harmless
    await using _ = await Storage.open(disk, PATH);
  }
  await using _ = await Storage.open(disk, PATH);
});

Deno.test("a directory, and a path into nowhere, cannot be opened", async () => {
  const disk = diskWith(FILE.bytes);
  await assert.rejects(Storage.open(disk, "/data"), UsageError);
  await assert.rejects(Storage.open(disk, "/nowhere/Data.fs"), NotFoundError);
});

Deno.test("subscribers learn of what is durable, and see it", async () => {
  const disk = emptyDisk();
  await using storage = await Storage.open(disk, PATH);
  const seen: [end: number, tid: bigint][] = [];
  const subscription = storage.subscribe(() => {
    const { end, lastTid, generation } = storage.view;
    const found = new Uint8Array(end);
    assert.equal(generation.file.readAt(found, 0), end);
    assert.deepEqual(found, FILE.bytes.slice(0, end));
    seen.push([end, lastTid]);
  });
  await replay(FILE.bytes.slice(0, BEFORE), storage, { runBytes: () => 1 });
  assert.deepEqual(seen, FILE.transactions.slice(0, 2).map(({ end }, at) => [end, tidAt(at)]));
  subscription[Symbol.dispose]();
  await replay(FILE.bytes, storage, { after: tidAt(1) });
  assert.equal(seen.length, 2);
  assert.equal(storage.view.end, FILE.end);
});

Deno.test("the index is saved only when it is behind, and then read at the next opening", async () => {
  const disk = diskWith(FILE.bytes);
  {
    await using storage = await Storage.open(disk, PATH);
    assert.match(storage.report.indexReason ?? "", /no such file/);
    assert.equal(storage.report.scanned, 3);
    await storage.saveIndex();
    const writes = () => disk.performed.filter(({ operation }) => operation === "write").length;
    const before = writes();
    await storage.saveIndex();
    assert.equal(writes(), before);
  }
  await using storage = await Storage.open(disk, PATH);
  assert.equal(storage.report.indexReason, undefined);
  assert.equal(storage.report.scanned, 0);
  assert.equal(storage.lastTid, tidAt(2));
});

function bytesOf(disk: MemoryDisk): Uint8Array | undefined {
  return disk.status(PATH) === undefined ? undefined : disk.bytes(PATH);
}

/** Files in every condition that opening treats in a way of its own. */
const CONDITIONS: readonly { readonly name: string; readonly disk: () => Promise<MemoryDisk> }[] = [
  { name: "none", disk: () => Promise.resolve(emptyDisk()) },
  { name: "whole, without an index", disk: () => Promise.resolve(diskWith(FILE.bytes)) },
  {
    name: "torn, with an index",
    disk: async () => {
      const disk = diskWith(FILE.bytes.slice(0, BEFORE));
      {
        await using storage = await Storage.open(disk, PATH);
        await storage.saveIndex();
      }
      disk.put(PATH, FILE.bytes.slice(0, -1));
      return disk;
    },
  },
];

const OPERATIONS: readonly Operation[] = [
  "open",
  "create",
  "read",
  "write",
  "truncate",
  "sync",
  "syncDirectory",
];

for (const { name, disk: make } of CONDITIONS) {
  Deno.test(`any failure while opening a file (${name}) is told by name and harms nothing`, async () => {
    const clean = await make();
    await (await Storage.open(clean, PATH))[Symbol.asyncDispose]();
    const expected = clean.bytes(PATH);
    let faults = 0;
    for (const operation of OPERATIONS) {
      for (const error of ["io", "full"] as const) {
        for (let nth = 1;; nth++) {
          const disk = await make();
          const content = bytesOf(disk);
          disk.performed.length = 0;
          disk.fail({ operation, nth, error, written: 2 });
          const label = `${operation} ${nth} (${error})`;
          try {
            await (await Storage.open(disk, PATH))[Symbol.asyncDispose]();
          } catch (failure) {
            assert(failure instanceof DiskError, `${label}: ${failure}`);
          }
          if (disk.performed.filter((each) => each.operation === operation).length < nth) break;
          faults++;
          const after = bytesOf(disk);
          if (after !== undefined && after.length !== content?.length) {
            const whole = content !== undefined && after.length < content.length ? content : expected;
            assert.deepEqual(after, whole.slice(0, after.length), label);
          }
          await using again = await Storage.open(disk, PATH);
          assert.deepEqual(disk.bytes(PATH), expected, label);
          assert.equal(again.end, expected.length, label);
        }
      }
    }
    assert(faults > 8, `only ${faults} faults`);
  });
}

Deno.test("a long scan pauses, and is given up when it is asked to", async () => {
  const tiny = Array.from({ length: 45_000 }, (_, n) => ({ tid: tidAt(n), records: [] }));
  const large = [1, 2, 3, 4].map((n) => ({
    tid: tidAt(45_000 + n),
    records: [{ oid: BigInt(n), data: new Uint8Array(30_000_000) }],
  }));
  const { bytes } = dataFs([...tiny, ...large]);
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  let pauses = 0;
  const stop = new AbortController();
  const reason = new Error("enough");
  const stopping = Storage.open(disk, PATH, {
    pause: () => {
      if (++pauses === 2) stop.abort(reason);
      return Promise.resolve();
    },
    signal: stop.signal,
  });
  await assert.rejects(stopping, (error) => error === reason);
  assert.equal(pauses, 2);
  assert.equal(disk.bytes(PATH).length, bytes.length);

  await using storage = await Storage.open(disk, PATH, { // the lock was released
    pause: () => {
      pauses++;
      return Promise.resolve();
    },
  });
  assert.equal(pauses, 2 + 2 + 1, "twice for 45,000 transactions, once for 120 MB");
  assert.equal(storage.report.scanned, 45_004);
});

Deno.test("nothing is left beside a file that is no FileStorage", async () => {
  const disk = new MemoryDisk();
  disk.put(PATH, new TextEncoder().encode("root:x:0:0:root\n"));
  const before = disk.paths();
  await assert.rejects(Storage.open(disk, PATH), UsageError);
  assert.deepEqual(disk.paths(), before);
});
