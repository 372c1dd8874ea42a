import assert from "node:assert/strict";
import fc from "fast-check";
import { CorruptError, DiskError, DiskFullError, LockedError, UsageError } from "../../lib/errors.ts";
import { readIndexFile } from "../../lib/filestorage/index/index_file.ts";
import { type ObjectIndex, rewindStorage, Storage } from "../../lib/filestorage/mod.ts";
import { HostDisk } from "../../lib/host/disk.ts";
import { NO_TID } from "../../lib/zodb/mod.ts";
import { type BuiltFile, dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { MemoryDisk, type Operation } from "../kit/memory_disk.ts";
import { rewind } from "../kit/rewind.ts";
import { TempDirectory } from "../kit/temp.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { randomHistory, tidAt } from "./random_history.ts";

const PATH = "/data/Data.fs";

function diskWith(bytes: Uint8Array): MemoryDisk {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  return disk;
}

function entriesOf(index: ObjectIndex): [number, number, number][] {
  const entries: [number, number, number][] = [];
  index.forEach((high, low, position) => void entries.push([high, low, position]));
  return entries;
}

/** The index that a scan of a file gives. */
async function scannedIndex(bytes: Uint8Array): Promise<[number, number, number][]> {
  await using storage = await Storage.open(diskWith(bytes), PATH);
  return entriesOf(storage.index);
}

/** What the transactions say, wherever they lie. */
function contentOf(bytes: Uint8Array, from = 0, isThere = (_tid: bigint) => true): unknown {
  return transactionsOf(bytes).slice(from).map(({ position: _, end: __, records, ...head }) => ({
    ...head,
    records: records.map(({ oid, tid, data, dataTid }) => ({
      oid,
      tid,
      data,
      dataTid: dataTid !== null && data !== null && isThere(dataTid) ? dataTid : null,
    })),
  }));
}

/** What sharing is kept: the data of a target that goes as well, where the target is its object's last record. */
function contentOfCut(bytes: Uint8Array, from: number): unknown {
  const firstTid = transactionsOf(bytes)[from]!.tid;
  return contentOf(bytes, from, (tid) => tid >= firstTid);
}

function endOf(file: BuiltFile, count: number): number {
  return count === 0 ? 4 : file.transactions[count - 1]!.end;
}

Deno.test("any history rewound anywhere: the beginning stays, the rest is saved, and the index is right", async () => {
  await fc.assert(
    fc.asyncProperty(randomHistory, fc.nat(), fc.boolean(), async (history, choice, withIndex) => {
      const file = dataFs(history);
      const kept = choice % (history.length + 1);
      const disk = diskWith(file.bytes);
      if (withIndex) {
        await using storage = await Storage.open(disk, PATH);
        await storage.saveIndex();
      }
      const tid = kept === 0 ? NO_TID : history[kept - 1]!.tid;
      const plan = await rewind(disk, PATH, tid);
      const expected = file.bytes.slice(0, endOf(file, kept));
      assert.deepEqual(disk.bytes(PATH), expected);
      assert.equal(plan.transactions, history.length - kept);
      assert.equal(plan.bytes, file.bytes.length - expected.length);
      if (kept === history.length) {
        assert(!disk.paths().some((path) => path.includes("rewound")));
        return;
      }
      assert.equal(plan.firstTid, history[kept]!.tid);
      assert.equal(plan.lastTid, history.at(-1)!.tid);
      assert.deepEqual(contentOf(disk.bytes(plan.savedTo)), contentOfCut(file.bytes, kept));
      const index = readIndexFile(disk, PATH);
      const entries = await scannedIndex(expected);
      assert.deepEqual(index.kind === "read" ? entriesOf(index.index) : [], entries);
      assert.equal(index.kind === "read" ? index.position : expected.length, expected.length);
    }),
    { numRuns: 400 },
  );
});

/** Ten transactions with all that a record can be. */
const HISTORY: TransactionDescription[] = [
  { tid: tidAt(0), user: "bob", records: [{ oid: 0n, data: "root" }, { oid: 1n, data: "one" }] },
  { tid: tidAt(1), records: [{ oid: 1n, data: "one, changed" }, { oid: 2n, data: "two" }] },
  { tid: tidAt(2), description: "undo", records: [{ oid: 1n, backPointer: [0, 1] }] },
  { tid: tidAt(3), extension: new Uint8Array([0x80, 3, 0x7d, 0x2e]), records: [{ oid: 2n, undone: true }] },
  { tid: tidAt(4), records: [{ oid: 1n, backPointer: [2, 0] }, { oid: 2n, backPointer: [1, 1] }] },
  { tid: tidAt(5), records: [] },
  { tid: tidAt(6), records: [{ oid: 3n, data: "three" }, { oid: 3n, data: "three again" }] },
  { tid: tidAt(7), records: [{ oid: 3n, backPointer: [6, 1] }, { oid: 0n, data: "root, changed" }] },
];
const FILE = dataFs(HISTORY);

Deno.test("data that lies before the cut is copied, and shared within what goes", async () => {
  const disk = diskWith(FILE.bytes);
  const { savedTo } = await rewind(disk, PATH, tidAt(1));
  const saved = transactionsOf(disk.bytes(savedTo));
  const undo = saved[0]!.records[0]!;
  assert.equal(undo.backPointer, null);
  assert.deepEqual(new TextDecoder().decode(undo.data!), "one");
  const [again, redone] = saved[2]!.records;
  assert.equal(again!.backPointer, undo.position);
  assert.equal(redone!.backPointer, null);
  assert.deepEqual(new TextDecoder().decode(redone!.data!), "two");
});

Deno.test("cancelled transactions go with the others, and are not saved", async () => {
  const cancelled = { tid: tidAt(2), status: "u", records: [{ oid: 1n, data: "never" }] } as const;
  const file = dataFs([HISTORY[0]!, cancelled, { tid: tidAt(3), records: [{ oid: 1n, data: "then" }] }]);
  const disk = diskWith(file.bytes);
  const plan = await rewind(disk, PATH, tidAt(0));
  assert.equal(plan.transactions, 1);
  assert.deepEqual(disk.bytes(PATH), file.bytes.slice(0, endOf(file, 1)));
  assert.deepEqual(transactionsOf(disk.bytes(plan.savedTo)).map(({ tid }) => tid), [tidAt(3)]);
});

Deno.test("a transaction larger than any buffer is saved, with records larger than any buffer", async () => {
  const megabytes = (count: number, fill: number) => new Uint8Array(count * 1_000_000 + 7).fill(fill);
  const file = dataFs([
    HISTORY[0]!,
    { tid: tidAt(1), records: [{ oid: 1n, data: megabytes(2, 1) }, { oid: 2n, data: "small" }] },
    {
      tid: tidAt(2),
      records: [
        { oid: 1n, backPointer: [1, 0] },
        { oid: 3n, data: megabytes(3, 3) },
        { oid: 2n, backPointer: [1, 1] },
      ],
    },
    { tid: tidAt(3), records: [{ oid: 1n, backPointer: [2, 0] }] },
  ]);
  for (const [kept, shared] of [[1, [tidAt(1), tidAt(2)]], [2, [tidAt(2)]]] as const) {
    const disk = diskWith(file.bytes);
    const { savedTo } = await rewind(disk, PATH, tidAt(kept - 1));
    const saved = disk.bytes(savedTo);
    assert.deepEqual(contentOf(saved), contentOfCut(file.bytes, kept));
    const found = transactionsOf(saved).flatMap(({ records }) => records)
      .filter(({ oid, dataTid }) => oid === 1n && dataTid !== null);
    assert.deepEqual(found.map(({ dataTid }) => dataTid), shared);
  }
});

Deno.test("what was saved before is never written over", async () => {
  const disk = diskWith(FILE.bytes);
  const names: string[] = [];
  const contents: Uint8Array[] = [];
  for (let again = 0; again < 3; again++) {
    disk.put(PATH, FILE.bytes);
    const { savedTo } = await rewind(disk, PATH, tidAt(5));
    names.push(savedTo);
    contents.push(disk.bytes(savedTo));
  }
  const name = `${PATH}.rewound-03f5945e00000000`;
  assert.deepEqual(names, [name, `${name}.1`, `${name}.2`]);
  for (const [at, content] of contents.entries()) assert.deepEqual(disk.bytes(names[at]!), content);
});

Deno.test("a tid that is not there is refused with its neighbours, and nothing is changed", async () => {
  const table: [bigint, RegExp][] = [
    [tidAt(0) - 1n, /there is no such transaction; the first one is 03f5945800000000 \(2024-01-02T/],
    [tidAt(3) + 1n, /the one before is 03f5945b00000000 \(.*\), the one after 03f5945c00000000 \(/],
    [tidAt(9), /the last one is 03f5945f00000000 \(/],
  ];
  for (const [tid, message] of table) {
    const disk = diskWith(FILE.bytes);
    await assert.rejects(rewind(disk, PATH, tid), (error) => {
      assert(error instanceof UsageError);
      assert.match(error.message, message);
      return true;
    });
    assert.deepEqual(disk.bytes(PATH), FILE.bytes);
    assert.deepEqual(disk.paths(), [PATH, `${PATH}.lock`]);
  }
});

Deno.test("a locked file is left alone", async () => {
  const disk = diskWith(FILE.bytes);
  using _lock = disk.lock(`${PATH}.lock`);
  await assert.rejects(rewind(disk, PATH, tidAt(0)), LockedError);
  assert.deepEqual(disk.bytes(PATH), FILE.bytes);
  assert.deepEqual(disk.paths(), [PATH, `${PATH}.lock`]);
});

Deno.test("damage in what would go is found before anything is changed", async () => {
  const damaged = dataFs(
    HISTORY.with(6, {
      ...HISTORY[6]!,
      records: [{ oid: 3n, data: "three", damage: { transaction: 99n } }],
    }).slice(0, 7),
  ).bytes;
  const disk = diskWith(dataFs(HISTORY.slice(0, 3)).bytes);
  {
    await using storage = await Storage.open(disk, PATH);
    await storage.saveIndex();
  }
  disk.put(PATH, damaged);
  // With an index up to the end nothing is scanned when it is opened.
  await assert.rejects(rewind(disk, PATH, tidAt(2)), CorruptError);
  assert.deepEqual(disk.bytes(PATH), damaged);
});

Deno.test("an opened file goes on from where it was rewound to, and those who read it are told", async () => {
  const disk = diskWith(FILE.bytes);
  await using storage = await Storage.open(disk, PATH);
  await storage.saveIndex();
  const before = storage.view;
  let told = 0;
  using _subscription = storage.subscribe(() => told++);
  await rewindStorage(disk, storage, tidAt(3));
  assert.equal(told, 1);
  assert.notEqual(storage.view.generation, before.generation);
  assert.equal(storage.view.end, endOf(FILE, 4));
  assert.equal(storage.lastTid, tidAt(3));
  assert.deepEqual(entriesOf(storage.index), await scannedIndex(FILE.bytes.slice(0, endOf(FILE, 4))));
  const { position } = FILE.transactions[4]!;
  const bytes = FILE.bytes.slice(position);
  const run = { position, bytes, transactions: 4, firstTid: tidAt(4), lastTid: tidAt(7) };
  await storage.append(run, () => false);
  assert.deepEqual(disk.bytes(PATH), FILE.bytes);
});

const OPERATIONS: Operation[] = [
  ...["open", "create", "read", "write", "truncate", "sync", "rename", "remove", "syncDirectory"] as const,
];

// With more than half of the file kept, its index comes from links.
for (const kept of [4, 6]) {
  Deno.test(`whatever fails, a file is as it was or rewound to ${kept}, what went is saved, the index fits`, async () => {
    const whole = FILE.bytes;
    const shorter = whole.slice(0, endOf(FILE, kept));
    const cutContent = contentOfCut(whole, kept);
    let failures = 0;
    let completed = 0;
    for (const error of ["io", "full"] as const) {
      for (const operation of OPERATIONS) {
        for (let nth = 1;; nth++) {
          const label = `${error} at ${operation} ${nth}`;
          const disk = diskWith(whole);
          {
            await using storage = await Storage.open(disk, PATH);
            await storage.saveIndex();
          }
          {
            await using storage = await Storage.open(disk, PATH);
            const indexBefore = entriesOf(storage.index);
            disk.performed.length = 0;
            disk.fail({ operation, nth, error, written: 1 });
            try {
              await rewindStorage(disk, storage, tidAt(kept - 1));
              completed++;
            } catch (failure) {
              assert(failure instanceof DiskError, `${label}: ${failure}`);
              failures++;
              const isUntouched = storage.view.lastTid === tidAt(7) && bytesEqual(disk.bytes(PATH), whole);
              const began = disk.performed.some((each) => each.operation === "write" && each.path === PATH);
              assert(isUntouched || began, label);
              if (failure instanceof DiskFullError) {
                assert(isUntouched && !disk.paths().some((path) => path.includes(".rewound-")), label);
              }
              // What was not rewound is not half rewound: it can be tried again.
              if (!began) {
                assert.deepEqual(entriesOf(storage.index), indexBefore, label);
                await rewindStorage(disk, storage, tidAt(kept - 1));
                assert.deepEqual(disk.bytes(PATH), shorter, label);
              }
              await storage.saveIndex().catch(() => {});
            }
          }
          const hit = disk.performed.filter((each) => each.operation === operation).length >= nth;
          const healthy = disk.copy();
          await using storage = await Storage.open(healthy, PATH);
          const bytes = healthy.bytes(PATH);
          assert(bytesEqual(bytes, whole) || bytesEqual(bytes, shorter), label);
          assert.deepEqual(entriesOf(storage.index), await scannedIndex(bytes), label);
          const saved = disk.paths().filter((path) => path.includes(".rewound-"));
          if (!bytesEqual(bytes, whole)) {
            assert(saved.length > 0, label);
            for (const path of saved) assert.deepEqual(contentOf(disk.bytes(path)), cutContent, label);
          }
          if (!hit) break;
        }
      }
    }
    assert(failures > 40 && completed > 10, `${failures} failures, ${completed} completed`);
  });
}

Deno.test("an index in memory is saved only for the file that it is of", async () => {
  for (
    const fault of [
      { operation: "rename", path: ".index_tmp" },
      { operation: "write", path: PATH },
    ] as const
  ) {
    const disk = diskWith(FILE.bytes);
    await using storage = await Storage.open(disk, PATH);
    await storage.saveIndex();
    disk.fail(fault);
    await assert.rejects(rewindStorage(disk, storage, tidAt(5)), DiskError);
    await storage.saveIndex();
    const index = readIndexFile(disk, PATH);
    assert(index.kind === "read");
    // In the second case it is the one that was written before the file was to be cut.
    assert.equal(index.position, fault.operation === "rename" ? FILE.end : endOf(FILE, 6));
    assert.deepEqual(entriesOf(index.index), await scannedIndex(FILE.bytes.slice(0, index.position)));
  }
});

Deno.test("rewound by a link, a file keeps no index of what it was beside its own name", async () => {
  await using directory = await TempDirectory.make();
  const [real, link] = [directory.join("real.fs"), directory.join("link.fs")];
  await Deno.writeFile(real, FILE.bytes);
  await Deno.symlink("real.fs", link);
  const disk = new HostDisk();
  {
    await using storage = await Storage.open(disk, real);
    await storage.saveIndex();
  }
  await rewind(disk, link, tidAt(5));
  assert.equal(disk.status(`${real}.index`), undefined);
  const index = readIndexFile(disk, link);
  assert(index.kind === "read");
  assert.equal(index.position, endOf(FILE, 6));
  // The same name by another spelling is its own.
  await rewind(disk, `${directory.path}/./real.fs`, tidAt(3));
  assert.equal(readIndexFile(disk, real).kind, "read");
});

function bytesEqual(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}

Deno.test("without room for what goes, nothing is changed and nothing is left", async () => {
  const disk = diskWith(FILE.bytes);
  await (await Storage.open(disk, PATH))[Symbol.asyncDispose]();
  const paths = disk.paths();
  let room = 0;
  for (;; room++) {
    disk.capacity = FILE.bytes.length + 3 + room; // and the lock file's
    const failure = await rewind(disk, PATH, tidAt(3)).then(() => undefined, (error) => error);
    if (failure === undefined) break;
    assert(failure instanceof DiskFullError);
    assert.deepEqual(disk.bytes(PATH), FILE.bytes);
    assert.deepEqual(disk.paths(), paths);
  }
  assert(room > FILE.bytes.length - endOf(FILE, 4), `with ${room} bytes there was room`);
});

Deno.test("what is taken back can be read by nobody who may not read the file", async () => {
  await using directory = await TempDirectory.make();
  const path = directory.join("Data.fs");
  const history = [0, 1, 2].map((at) => ({ tid: tidAt(at), records: [{ oid: 0n, data: "secret" }] }));
  Deno.writeFileSync(path, dataFs(history).bytes);
  Deno.chmodSync(path, 0o600);
  const { savedTo } = await rewind(new HostDisk(), path, tidAt(1));
  assert.equal(Deno.statSync(savedTo).mode! & 0o777, 0o600);
});
