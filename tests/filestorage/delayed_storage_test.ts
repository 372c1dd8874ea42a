/** What is received is on disk at once, what is due is in the Data.fs, and nothing on the way can lose either. */
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  CorruptError,
  DiskError,
  DiskFullError,
  DivergedError,
  UsageError,
  ZrsError,
} from "../../lib/errors.ts";
import { checkIndex, readIndexFile } from "../../lib/filestorage/index/index_file.ts";
import {
  DelayedStorage,
  History,
  listTransactions,
  openWithPending,
  rewindStorage,
  Storage,
} from "../../lib/filestorage/mod.ts";
import { segmentPaths } from "../../lib/filestorage/pending/segment.ts";
import type { Disk } from "../../lib/ports/mod.ts";
import { dataFs } from "../kit/data_fs.ts";
import { MemoryDisk, type Operation } from "../kit/memory_disk.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { MachineDisk } from "../simulation/disk.ts";
import { Life } from "../simulation/life.ts";
import { SeededRandom } from "../simulation/random.ts";
import { Scheduler } from "../simulation/scheduler.ts";
import { randomHistory, tidAt } from "./random_history.ts";
import { replay } from "./replay.ts";

const PATH = "/data/Data.fs";
/** Small enough for several segments in a file of a few transactions. */
const SEGMENT_BYTES = 400;

const FILE = dataFs(Array.from({ length: 9 }, (_, at) => ({
  tid: tidAt(at),
  user: "bob",
  records: [
    { oid: BigInt(at % 3), data: new Uint8Array(60 + 35 * at).fill(0x61 + at) },
    at > 4 ? { oid: 9n, backPointer: [at - 4, 1] as const } : { oid: 9n, data: `revision ${at}` },
  ],
})));
const ENDS = FILE.transactions.map(({ end }) => end);

function diskWith(bytes: Uint8Array = new Uint8Array(0)): MemoryDisk {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  return disk;
}

async function open(disk: Disk): Promise<DelayedStorage> {
  return await DelayedStorage.open(disk, PATH, { segmentBytes: SEGMENT_BYTES });
}

/** Receives what of the file is not there yet, up to a number of transactions, a run for each. */
async function receive(storage: DelayedStorage, transactions = FILE.transactions.length): Promise<void> {
  const bytes = FILE.bytes.slice(0, ENDS[transactions - 1] ?? 4);
  await replay(bytes, storage.received, { after: storage.received.lastTid, runBytes: () => 1 });
}

async function apply(storage: DelayedStorage, lastTid = tidAt(100)): Promise<void> {
  while (await storage.applyNext((tid) => tid <= lastTid));
}

function segmentsOf(disk: MemoryDisk): string[] {
  return disk.paths().filter((path) => path.includes(".pending."));
}

Deno.test("what is received is there at once, and the Data.fs gets what is due, and is then as ever", async () => {
  const disk = diskWith(FILE.bytes.slice(0, ENDS[1]));
  {
    await using storage = await open(disk);
    await receive(storage);
    assert.equal(storage.received.end, FILE.end);
    assert.equal(storage.received.view.lastTid, tidAt(8));
    assertSameBytes(disk.bytes(PATH), FILE.bytes.slice(0, ENDS[1]));
    assert(segmentsOf(disk).length > 2, segmentsOf(disk).join());
    assert.equal(storage.nextTid, tidAt(2));
    assert.equal(storage.waitingBytes, FILE.end - ENDS[1]!);

    await apply(storage, tidAt(5));
    assertSameBytes(disk.bytes(PATH), FILE.bytes.slice(0, ENDS[5]));
    assert.equal(storage.applied.lastTid, tidAt(5));
    assert.equal(storage.nextTid, tidAt(6));
    await storage.applied.saveIndex();
    const read = readIndexFile(disk, PATH);
    assert(read.kind === "read" && read.position === ENDS[5]);
    using file = disk.openRead(PATH);
    assert.equal(checkIndex(file, read.index, read.position).kind, "good");
    const whole = new Uint8Array(FILE.end);
    assert.equal(storage.received.view.generation.file.readAt(whole, 0), FILE.end);
    assertSameBytes(whole, FILE.bytes);

    await apply(storage);
    assert.equal(storage.nextTid, undefined);
    assert.equal(segmentsOf(disk).length, 1, "the last is kept for what is yet to come");
    await storage.tidy();
  }
  assert.deepEqual(segmentsOf(disk), []);
  assertSameBytes(disk.bytes(PATH), FILE.bytes);
  await using _ = await Storage.open(disk, PATH);
});

Deno.test("what waits can be read by nobody who may not read the Data.fs", async () => {
  const disk = diskWith(FILE.bytes.slice(0, ENDS[1]));
  await using storage = await open(disk);
  await receive(storage);
  const segments = segmentsOf(disk);
  assert(segments.length > 1);
  assert.deepEqual(segments.map((path) => disk.permissions.get(path)), segments.map(() => PATH));
});

Deno.test("however it is received and applied, with whatever in it, the Data.fs is a beginning of what came", async () => {
  const step = fc.record({
    apply: fc.nat(25),
    runBytes: fc.nat(900),
    upTo: fc.nat(20),
    reopens: fc.boolean(),
  });
  let several = 0;
  const property = fc.asyncProperty(
    randomHistory,
    fc.array(step, { maxLength: 6 }),
    async (history, steps) => {
      const file = dataFs(history);
      const disk = diskWith();
      let storage = await open(disk);
      for (const { apply, runBytes, upTo, reopens } of steps) {
        const until = file.bytes.slice(0, file.transactions[upTo]?.end ?? file.end);
        const after = storage.received.lastTid;
        await replay(until, storage.received, { after, runBytes: () => runBytes, bufferBytes: 64 });
        several += Number(segmentsOf(disk).length > 1);
        const { lastTid } = storage.received;
        const limit = history[apply]?.tid ?? -1n;
        while (await storage.applyNext((tid) => tid <= limit));
        const applied = transactionsOf(disk.bytes(PATH));
        assert(applied.every(({ tid }) => tid <= limit || tid <= storage.applied.lastTid));
        assertSameBytes(disk.bytes(PATH), file.bytes.slice(0, applied.at(-1)?.end ?? 4));
        if (!reopens) continue;
        await storage[Symbol.asyncDispose]();
        storage = await open(disk);
        assert.equal(storage.received.lastTid, lastTid);
      }
      await replay(file.bytes, storage.received, { after: storage.received.lastTid });
      await apply(storage);
      await storage.tidy();
      await storage[Symbol.asyncDispose]();
      assertSameBytes(disk.bytes(PATH), file.bytes);
      assert.deepEqual(segmentsOf(disk), []);
    },
  );
  await fc.assert(property, { numRuns: 150 });
  assert(several > 50, `${several} times there were several segments`);
});

Deno.test("a transaction larger than the buffer is applied in parts", async () => {
  const large = dataFs([
    { tid: tidAt(0), records: [{ oid: 0n, data: "small" }] },
    {
      tid: tidAt(1),
      records: [{ oid: 1n, data: new Uint8Array(9_000_000).fill(7) }, { oid: 0n, data: "too" }],
    },
    { tid: tidAt(2), records: [{ oid: 0n, data: "last" }] },
  ]);
  const disk = diskWith();
  await using storage = await open(disk);
  await replay(large.bytes, storage.received, {});
  await apply(storage, tidAt(0));
  assert.equal(disk.bytes(PATH).length, large.transactions[0]!.end);
  await apply(storage);
  assertSameBytes(disk.bytes(PATH), large.bytes);
  assert.equal(storage.applied.index.get(0, 0), storage.received.index.get(0, 0));
  assert.equal(storage.applied.index.count, 2);
});

Deno.test("what waits can be taken back, across segments, and something else received in its place", async () => {
  for (let kept = 3; kept < 9; kept++) {
    const disk = diskWith();
    await using storage = await open(disk);
    await receive(storage);
    await apply(storage, tidAt(2));
    await rewindStorage(disk, storage.received, tidAt(kept - 1));
    assert.equal(storage.received.end, ENDS[kept - 1]);
    assert.deepEqual(disk.status(`${PATH}.index`), undefined, "an index of what is not in the file");
    if (kept < 9) {
      const saved = transactionsOf(
        disk.bytes(`${PATH}.rewound-${tidAt(kept).toString(16).padStart(16, "0")}`),
      );
      assert.deepEqual(
        saved.map(({ tid }) => tid),
        FILE.transactions.slice(kept).map((_, at) => tidAt(kept + at)),
      );
    }
    await receive(storage);
    await apply(storage);
    assertSameBytes(disk.bytes(PATH), FILE.bytes);
  }
});

Deno.test("a power loss at any moment loses nothing that was told of, and the Data.fs gets nothing that is not due", async () => {
  let images = 0;
  let behind = 0;
  for (let seed = 1; seed <= 25; seed++) {
    const random = new SeededRandom(seed);
    const scheduler = new Scheduler(random);
    await using _ = scheduler;
    const disk = new MachineDisk(scheduler, random, "m");
    disk.place(PATH, FILE.bytes.slice(0, ENDS[0]));
    const port = disk.port(new Life("m/delayed#1", "delayed"));
    const draws = new SeededRandom(seed + 1000);
    const losses: { files: Map<string, Uint8Array>; received: number; applied: number; due: number }[] = [];
    let told = { received: ENDS[0]!, applied: ENDS[0]! };
    let due = ENDS[0]!;
    disk.observers.add({ operated: () => void losses.push({ files: disk.crashImage(draws), ...told, due }) });
    let done = false;
    const work = (async () => {
      await using storage = await open(port);
      const note = () => told = { received: storage.received.end, applied: storage.applied.end };
      using _received = storage.received.subscribe(note);
      using _applied = storage.applied.subscribe(note);
      for (const upTo of [4, 6, 9]) {
        // Both at once, as a node does it.
        const receiving = replay(FILE.bytes.slice(0, ENDS[upTo - 1]), storage.received, {
          after: storage.received.lastTid,
          runBytes: () => 200 + seed * 10,
        });
        due = ENDS[upTo - 3]!;
        await apply(storage, tidAt(upTo - 3));
        await receiving;
        await apply(storage, tidAt(upTo - 3));
      }
      await rewindStorage(port, storage.received, tidAt(7));
      told = { received: ENDS[7]!, applied: storage.applied.end };
      due = FILE.end;
      await apply(storage);
      await storage.tidy();
    })().finally(() => done = true);
    const settled = work.catch((error) => error);
    await scheduler.runUntil(() => done);
    assert.equal(await settled, undefined);

    for (const { files, received, applied, due } of losses) {
      const label = `seed ${seed}, image ${images++}`;
      const after = new MemoryDisk();
      for (const [path, bytes] of files) after.put(path, bytes);
      await using storage = await open(after).catch((error) => {
        throw new Error(`${label} does not open: ${after.paths().join(" ")}`, { cause: error });
      });
      const bytes = after.bytes(PATH);
      assertSameBytes(bytes, FILE.bytes.slice(0, bytes.length));
      // What is being taken back is told of as received until it is gone.
      assert(
        storage.received.end >= Math.min(received, ENDS[7]!),
        `${label}: ${storage.received.end} < ${received}`,
      );
      assert(bytes.length >= applied, label);
      assert(bytes.length <= due, `${label}: ${bytes.length} > ${due}`);
      behind += Number(bytes.length < storage.received.end);
      await receive(storage);
      await apply(storage);
      await storage.tidy();
      assertSameBytes(after.bytes(PATH), FILE.bytes);
      assert.deepEqual(segmentsOf(after), []);
    }
  }
  assert(images > 1000 && behind > 300, `${images} images, ${behind} with something waiting`);
});

for (
  const [kept, what] of [[0, "all of it applied"], [4, "some of it kept elsewhere"]] as const
) {
  Deno.test(`a power loss while the segments are removed, with ${what}, leaves what can be opened again`, async () => {
    const scheduler = new Scheduler(new SeededRandom(1));
    await using _ = scheduler;
    const disk = new MachineDisk(scheduler, new SeededRandom(2), "m");
    disk.place(PATH, FILE.bytes.slice(0, 4));
    const draws = new SeededRandom(3);
    const images: Map<string, Uint8Array>[] = [];
    let done = false;
    const work = (async () => {
      await using storage = await open(disk.port(new Life("m/delayed#1", "delayed")));
      await receive(storage);
      const operated = () => {
        for (let i = 0; i < 40; i++) images.push(disk.crashImage(draws));
      };
      disk.observers.add({ operated });
      await apply(storage, tidAt(8 - kept));
      await storage.discardWaiting();
      operated();
    })().finally(() => done = true);
    const settled = work.catch((error) => error);
    await scheduler.runUntil(() => done);
    assert.equal(await settled, undefined);

    let left = 0;
    for (const files of images) {
      const after = new MemoryDisk();
      for (const [path, bytes] of files) after.put(path, bytes);
      left += Number(segmentsOf(after).length > 0);
      await using storage = await open(after);
      assertSameBytes(after.bytes(PATH), FILE.bytes.slice(0, storage.applied.end));
      await receive(storage);
      await apply(storage);
      assertSameBytes(after.bytes(PATH), FILE.bytes);
    }
    assert(left > 100 && left < images.length, `segments are left in ${left} of ${images.length} images`);
  });
}

Deno.test("a segment whose first sync has failed is as good as any when the disk works again", async () => {
  const scheduler = new Scheduler(new SeededRandom(1));
  await using _ = scheduler;
  const machine = new MachineDisk(scheduler, new SeededRandom(2), "m");
  machine.place(PATH, FILE.bytes.slice(0, 4));
  machine.faults.add({ on: "sync", path: `${PATH}.pending.0000000000000004`, effect: "error" });
  const images: Map<string, Uint8Array>[] = [];
  const draws = new SeededRandom(3);
  let done = false;
  const work = (async () => {
    {
      await using storage = await open(machine.port(new Life("m/delayed#1", "delayed")));
      await assert.rejects(receive(storage), DiskError);
    }
    await using storage = await open(machine.port(new Life("m/delayed#2", "delayed")));
    await receive(storage);
    for (let i = 0; i < 40; i++) images.push(machine.crashImage(draws));
  })().finally(() => done = true);
  const settled = work.catch((error) => error);
  await scheduler.runUntil(() => done);
  assert.equal(await settled, undefined);
  for (const files of images) {
    const after = new MemoryDisk();
    for (const [path, bytes] of files) after.put(path, bytes);
    await using storage = await open(after);
    assert.equal(storage.received.lastTid, tidAt(8));
  }
});

Deno.test("whoever reads what waits while segments are applied and go reads all of it", async () => {
  const [early, late] = [diskWith(), diskWith()];
  await using storage = await open(late);
  await receive(storage);
  await apply(storage, tidAt(1));
  for (const path of late.paths()) early.put(path, late.bytes(path));
  await apply(storage, tidAt(6));
  assert(segmentsOf(late).length < segmentsOf(early).length);
  // The Data.fs is opened before, and its directory is looked at after that.
  let disk = early;
  const changing = new Proxy(early, {
    get(_, name) {
      if (name === "list") disk = late;
      const value = Reflect.get(disk, name, disk);
      return typeof value === "function" ? value.bind(disk) : value;
    },
  });
  using history = await openWithPending(changing, PATH);
  const entries = await Array.fromAsync(listTransactions(history, {}));
  assert.equal(entries.length, FILE.transactions.length);
});

Deno.test("what a killed process has left in the segments, and a new one shows, is on disk by then", async () => {
  const scheduler = new Scheduler(new SeededRandom(1));
  await using _ = scheduler;
  const before = diskWith();
  {
    await using storage = await open(before);
    await receive(storage);
  }
  const machine = new MachineDisk(scheduler, new SeededRandom(2), "m");
  machine.place(PATH, before.bytes(PATH));
  const killed = new Life("m/delayed#1", "delayed");
  const port = machine.port(killed);
  for (const path of segmentsOf(before)) {
    using file = port.create(path);
    file.writeAt(before.bytes(path), 0);
  }
  killed.end();
  const images: Map<string, Uint8Array>[] = [];
  const draws = new SeededRandom(3);
  let done = false;
  const work = (async () => {
    await using storage = await open(machine.port(new Life("m/delayed#2", "delayed")));
    assert.equal(storage.received.lastTid, tidAt(8));
    for (let i = 0; i < 40; i++) images.push(machine.crashImage(draws));
  })().finally(() => done = true);
  const settled = work.catch((error) => error);
  await scheduler.runUntil(() => done);
  assert.equal(await settled, undefined);
  for (const files of images) {
    const after = new MemoryDisk();
    for (const [path, bytes] of files) after.put(path, bytes);
    await using storage = await open(after);
    assert.equal(storage.received.lastTid, tidAt(8));
  }
});

Deno.test("whoever asks for the next transaction while it is being taken back gets it, or hears of none", async () => {
  const scheduler = new Scheduler(new SeededRandom(1));
  await using _ = scheduler;
  const disk = new MachineDisk(scheduler, new SeededRandom(2), "m");
  disk.place(PATH, FILE.bytes.slice(0, ENDS[1]));
  const port = disk.port(new Life("m/delayed#1", "delayed"));
  const answers = new Set<bigint | undefined>();
  let done = false;
  const work = (async () => {
    await using storage = await open(port);
    await receive(storage);
    let isAsking = false;
    disk.observers.add({
      operated: () => {
        if (isAsking) return;
        isAsking = true;
        answers.add(storage.nextTid);
        isAsking = false;
      },
    });
    await rewindStorage(port, storage.received, tidAt(1));
    answers.add(storage.nextTid);
  })().finally(() => done = true);
  const settled = work.catch((error) => error);
  await scheduler.runUntil(() => done);
  assert.equal(await settled, undefined);
  assert.deepEqual(answers, new Set([tidAt(2), undefined]));
});

const OPERATIONS: readonly Operation[] = [
  ...["open", "create", "read", "write", "truncate", "sync", "remove", "syncDirectory"] as const,
];

Deno.test("whichever operation fails, or finds the disk full, nothing is lost, and the next opening goes on", async () => {
  let failures = 0;
  for (const operation of OPERATIONS) {
    for (const error of operation === "write" ? ["io", "full"] as const : ["io"] as const) {
      for (let nth = 1, isHit = true; isHit; nth++) {
        const label = `${operation} ${nth} (${error})`;
        const disk = diskWith(FILE.bytes.slice(0, ENDS[0]));
        disk.fail({ operation, nth, error, written: 10 });
        let received = ENDS[0]!;
        let applied = ENDS[0]!;
        const work = async () => {
          await using storage = await open(disk);
          using _received = storage.received.subscribe(() => received = storage.received.end);
          using _applied = storage.applied.subscribe(() => applied = storage.applied.end);
          for (let upTo = 2; upTo <= 9; upTo++) {
            await receive(storage, upTo);
            await apply(storage, tidAt(upTo - 3));
          }
          await apply(storage);
          await storage.tidy();
        };
        const failure = await work().then(() => undefined, (error) => error);
        isHit = disk.performed.filter((each) => each.operation === operation).length >= nth;
        failures += Number(failure !== undefined);
        assert(failure === undefined || failure instanceof ZrsError, `${label}: ${failure?.stack}`);
        assertSameBytes(disk.bytes(PATH).slice(0, applied), FILE.bytes.slice(0, applied));

        const after = copyOf(disk);
        await using storage = await open(after).catch((error) => {
          throw new Error(`${label}: does not open again`, { cause: error });
        });
        assert(storage.received.end >= received && storage.applied.end >= applied, label);
        await receive(storage);
        await apply(storage);
        assertSameBytes(after.bytes(PATH), FILE.bytes);
      }
    }
  }
  assert(failures > 100, `${failures} failures`);
});

Deno.test("on a full disk applying stands still with nothing done, and goes on when there is room", async () => {
  const disk = diskWith();
  await using storage = await open(disk);
  await receive(storage);
  const used = disk.paths().reduce((total, path) => total + disk.bytes(path).length, 0);
  disk.capacity = used + 30;
  for (let i = 0; i < 3; i++) {
    await assert.rejects(storage.applyNext(() => true), DiskFullError);
    assert.equal(storage.applied.end, 4);
  }
  disk.capacity = Infinity;
  await apply(storage);
  assertSameBytes(disk.bytes(PATH), FILE.bytes);
});

/** With two transactions applied, and all of them received. */
async function diskWithWaiting(): Promise<MemoryDisk> {
  const disk = diskWith();
  await using storage = await open(disk);
  await receive(storage);
  await apply(storage, tidAt(1));
  return disk;
}

function copyOf(disk: MemoryDisk): MemoryDisk {
  const copy = new MemoryDisk();
  for (const path of disk.paths()) copy.put(path, disk.bytes(path));
  return copy;
}

Deno.test("wherever the last segment ends, whole transactions of it are there", async () => {
  const original = await diskWithWaiting();
  const last = segmentsOf(original).at(-1)!;
  const bytes = original.bytes(last);
  const base = parseInt(last.slice(-16), 16);
  for (let length = 0; length <= bytes.length; length++) {
    const disk = copyOf(original);
    disk.put(last, bytes.slice(0, length));
    await using storage = await open(disk);
    const end = Math.max(base, base + length - 28);
    assert.equal(storage.received.end, ENDS.findLast((each) => each <= end), `cut at ${length}`);
    await receive(storage);
    await apply(storage);
    assertSameBytes(disk.bytes(PATH), FILE.bytes);
  }
});

Deno.test("every byte of a segment's header is looked at, and a damaged one is not taken for a torn one", async () => {
  const original = await diskWithWaiting();
  for (const path of segmentsOf(original)) {
    for (let at = 0; at < 28; at++) {
      const disk = copyOf(original);
      const bytes = disk.bytes(path);
      bytes[at]! ^= 0x10;
      disk.put(path, bytes);
      await assert.rejects(open(disk), CorruptError);
      assertSameBytes(disk.bytes(path), bytes);
    }
  }
});

Deno.test("a segment that is missing, or of another history, is refused, and all is left as it is", async () => {
  const original = await diskWithWaiting();
  const segments = segmentsOf(original);
  const other = dataFs([{ tid: tidAt(0), records: [{ oid: 0n, data: "other" }] }]).bytes;
  const cases: readonly [string, (disk: MemoryDisk) => void, new (message: string) => Error][] = [
    ["the first is missing", (disk) => disk.remove(segments[0]!), DivergedError],
    ["one in the middle is missing", (disk) => disk.remove(segments[1]!), CorruptError],
    ["the Data.fs is shorter", (disk) => disk.put(PATH, FILE.bytes.slice(0, 4)), DivergedError],
    ["the Data.fs is another", (disk) => disk.put(PATH, other), DivergedError],
    ["there is no Data.fs", (disk) => disk.remove(PATH), UsageError],
  ];
  for (const [name, change, expected] of cases) {
    const disk = copyOf(original);
    change(disk);
    const before = segmentsOf(disk).map((path) => disk.bytes(path));
    await assert.rejects(open(disk), expected, name);
    assert.deepEqual(segmentsOf(disk).map((path) => disk.bytes(path)), before, name);
  }
});

Deno.test("a Data.fs that somebody else has written to meanwhile is refused, with what to do", async () => {
  const disk = await diskWithWaiting();
  const forked = dataFs([
    ...Array.from({ length: 2 }, (_, at) => ({
      tid: tidAt(at),
      user: "bob",
      records: [
        { oid: BigInt(at % 3), data: new Uint8Array(60 + 35 * at).fill(0x61 + at) },
        { oid: 9n, data: `revision ${at}` },
      ],
    })),
    { tid: tidAt(2, (1n << 32n) + 1n), records: [{ oid: 5n, data: "written by a promoted database" }] },
  ]);
  assertSameBytes(forked.bytes.slice(0, ENDS[1]), FILE.bytes.slice(0, ENDS[1]));
  disk.put(PATH, forked.bytes);
  await assert.rejects(open(disk), (error) => {
    assert(error instanceof DivergedError);
    assert.match(error.message, /Something else has written there/);
    assert.match(error.hint!, /move .*Data\.fs\.pending\.\* away/);
    return true;
  });
  assertSameBytes(disk.bytes(PATH), forked.bytes);
  assert(segmentsOf(disk).length > 0);
});

Deno.test("who does not know of what waits is refused to write, and may read", async () => {
  const disk = await diskWithWaiting();
  await assert.rejects(Storage.open(disk, PATH), (error) => {
    assert(error instanceof UsageError);
    assert.match(error.hint!, /zrs promote/);
    return true;
  });
  using history = await History.open(disk, PATH);
  assert.equal(history.lastTid, tidAt(1));
  using whole = await openWithPending(disk, PATH);
  assert.equal(whole.lastTid, tidAt(8));
  assert.equal(whole.end, FILE.end);
  assert.deepEqual(segmentPaths(disk, PATH), segmentsOf(disk));
});

Deno.test("a failed sync of what is received is final, and nothing of it is applied", async () => {
  const disk = diskWith();
  await using storage = await open(disk);
  await receive(storage, 3);
  disk.fail({ operation: "sync", path: segmentsOf(disk).at(-1)!.slice(-16) });
  await assert.rejects(receive(storage, 4), DiskError);
  await apply(storage);
  assertSameBytes(disk.bytes(PATH), FILE.bytes.slice(0, ENDS[2]));
});
