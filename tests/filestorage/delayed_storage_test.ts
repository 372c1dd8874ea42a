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
  History,
  listTransactions,
  openWithPending,
  rewindStorage,
  Storage,
} from "../../lib/filestorage/mod.ts";
import { segmentPaths } from "../../lib/filestorage/pending/segment.ts";
import { dataFs } from "../kit/data_fs.ts";
import type { MemoryDisk, Operation } from "../kit/memory_disk.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { apply, diskWith, ENDS, FILE, open, PATH, receive, segmentsOf } from "./delayed_kit.ts";
import { onMachine } from "./on_machine.ts";
import { randomHistory, tidAt } from "./random_history.ts";
import { replay } from "./replay.ts";

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

Deno.test("whoever reads what waits while segments are applied and go reads all of it", async () => {
  const late = diskWith();
  await using storage = await open(late);
  await receive(storage);
  await apply(storage, tidAt(1));
  const early = late.copy();
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

Deno.test("whoever asks for the next transaction while it is being taken back gets it, or hears of none", async () => {
  const answers = new Set<bigint | undefined>();
  await onMachine(1, async (machine) => {
    machine.disk.place(PATH, FILE.bytes.slice(0, ENDS[1]));
    const port = machine.start();
    await using storage = await open(port);
    await receive(storage);
    let isAsking = false;
    machine.disk.observers.add({
      operated: () => {
        if (isAsking) return;
        isAsking = true;
        answers.add(storage.nextTid);
        isAsking = false;
      },
    });
    await rewindStorage(port, storage.received, tidAt(1));
    answers.add(storage.nextTid);
  });
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

        const after = disk.copy();
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

Deno.test("wherever the last segment ends, whole transactions of it are there", async () => {
  const original = await diskWithWaiting();
  const last = segmentsOf(original).at(-1)!;
  const bytes = original.bytes(last);
  const base = parseInt(last.slice(-16), 16);
  for (let length = 0; length <= bytes.length; length++) {
    const disk = original.copy();
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
      const disk = original.copy();
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
    const disk = original.copy();
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
