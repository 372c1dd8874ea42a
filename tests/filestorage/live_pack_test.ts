/** Packing a storage that grows meanwhile, and goes on afterwards. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { DiskError, UnavailableError, UsageError, ZrsError } from "../../lib/errors.ts";
import {
  type PackOptions,
  type PackReport,
  packStorage,
  Restorer,
  rewindStorage,
  Storage,
} from "../../lib/filestorage/mod.ts";
import type { Disk } from "../../lib/ports/mod.ts";
import {
  type BuiltFile,
  dataFs,
  type RecordDescription,
  type TransactionDescription,
} from "../kit/data_fs.ts";
import { MemoryDisk, type Operation } from "../kit/memory_disk.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { diskAfter, type Left, onMachine } from "./on_machine.ts";
import { data, findReferences, histories, history } from "./pack_kit.ts";
import { tidAt } from "./random_history.ts";
import { runOf } from "./runs.ts";

const PATH = "/data/Data.fs";

/** A file of which some transactions are there from the beginning, and others come. */
class Growing {
  readonly file: BuiltFile;
  readonly #transactions: readonly TransactionDescription[];
  #next: number;

  constructor(transactions: readonly TransactionDescription[], first: number) {
    this.#transactions = transactions;
    this.file = dataFs([...transactions]);
    this.#next = first;
  }

  get beginning(): Uint8Array {
    return this.file.bytes.slice(0, this.file.transactions[this.#next - 1]!.end);
  }

  /** Appends the next ones, as whoever owns the storage does. */
  async append(storage: Storage, count = 1): Promise<void> {
    for (; count > 0 && this.#next < this.#transactions.length; count--) {
      const { records } = this.file.transactions[this.#next]!;
      this.#transactions[this.#next]!.records.forEach(({ oid }, at) => {
        storage.index.set(Number(oid >> 32n), Number(oid & 0xffff_ffffn), records[at]!.position);
      });
      await storage.append(runOf(this.file, this.#next++), () => false);
    }
  }

  get rest(): number {
    return this.#transactions.length - this.#next;
  }
}

const USUAL = { findReferences, keepOld: true, patience: {}, warn: () => {} } as const;

/** What `zrs pack` makes of the whole file when nothing comes. */
async function packedWhole(bytes: Uint8Array, options: Partial<PackOptions> & { stop: bigint }) {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  await using storage = await Storage.open(disk, PATH);
  const report = await packStorage(disk, storage, { ...USUAL, ...options });
  return { report, bytes: disk.bytes(PATH) };
}

/** One more transaction, as a secondary appends it. */
async function appendOne(storage: Storage, tid: bigint): Promise<void> {
  const restorer = new Restorer(storage.file, storage.index, storage.end, storage.lastTid, 10_000);
  const none = new Uint8Array();
  restorer.begin({ tid, status: 0x20, user: none, description: none, extension: none });
  const bytes = new TextEncoder().encode(data([], "one more"));
  restorer.record(0, 0, tid, undefined, bytes.length);
  restorer.data(bytes, 0, bytes.length);
  restorer.endRecord();
  restorer.commit();
  await storage.append(restorer.take(), () => false);
}

function entriesOf({ index }: Storage): string {
  const entries: string[] = [];
  index.forEach((high, low, position) => void entries.push(`${high}.${low}@${position}`));
  return entries.sort().join(" ");
}

/** Opens the file with its index and without: both must say the same. */
async function assertIndexed(disk: MemoryDisk, label: string): Promise<void> {
  await using storage = await Storage.open(disk, PATH);
  const other = new MemoryDisk();
  other.put(PATH, disk.bytes(PATH));
  await using scanned = await Storage.open(other, PATH);
  assert.equal(entriesOf(storage), entriesOf(scanned), `${label}: its index is of another file`);
}

Deno.test("whatever comes during a pack, the packed file is the one that a pack of all of it makes", async () => {
  const seen = { packed: 0, refused: 0, nothing: 0, again: 0 };
  await fc.assert(
    fc.asyncProperty(
      histories.filter((each) => each.length > 2),
      fc.nat(10),
      fc.nat(10),
      fc.array(fc.nat(2), { minLength: 30, maxLength: 30 }),
      fc.boolean(),
      async (transactions, at, from, counts, gc) => {
        const first = 2 + from % (transactions.length - 1);
        const stop = tidAt(at % (first - 1));
        const growing = new Growing(transactions, Math.min(first, transactions.length));
        const disk = new MemoryDisk();
        disk.put(PATH, growing.beginning);
        await using storage = await Storage.open(disk, PATH);
        const later = [...counts];
        const options = { stop, findReferences: gc ? findReferences : undefined };
        let rounds = 0;
        let done: PackReport | ZrsError;
        try {
          done = await packStorage(disk, storage, {
            ...USUAL,
            ...options,
            patience: { pause: () => growing.append(storage, later.pop() ?? 0) },
            alone: async (work) => {
              rounds++;
              await growing.append(storage, later.pop() ?? 0);
              const { end } = storage;
              const pausing = later.splice(0); // nobody appends now
              await work();
              later.push(...pausing);
              assert.ok(rounds === 0 || storage.end <= end);
            },
          });
        } catch (error) {
          if (!(error instanceof UsageError || error instanceof UnavailableError)) throw error;
          done = error;
        }
        if (rounds > 1) seen.again++;
        const { bytes } = growing.file;
        const whole = bytes.slice(0, bytes.length - restOf(growing));
        const view = storage.view;
        if (done instanceof ZrsError) {
          seen.refused++;
          assertSameBytes(disk.bytes(PATH), whole);
        } else if (!done.isPacked) {
          seen.nothing++;
          assertSameBytes(disk.bytes(PATH), whole);
          assert.equal(view.generation.number, 0);
        } else {
          seen.packed++;
          const expected = await packedWhole(whole, options);
          assertSameBytes(disk.bytes(PATH), expected.bytes);
          assert.deepEqual({ ...done }, expected.report);
          assertSameBytes(disk.bytes(`${PATH}.old`), whole);
          assert.deepEqual([view.generation.number, view.end], [1, expected.bytes.length]);
          assert.equal(view.generation.file.size(), expected.bytes.length);
        }
        assert.ok(!disk.paths().includes(`${PATH}.pack`));
        await appendOne(storage, tidAt(transactions.length));
        await storage.saveIndex();
        assert.equal(storage.view.lastTid, tidAt(transactions.length));
        const entries = entriesOf(storage);
        await storage[Symbol.asyncDispose]();
        await using opened = await Storage.open(disk, PATH);
        assert.deepEqual([opened.lastTid, entriesOf(opened)], [tidAt(transactions.length), entries]);
        await opened[Symbol.asyncDispose]();
        await assertIndexed(disk, "in the end");
      },
    ),
    { numRuns: 600 },
  );
  assert.ok(seen.packed > 50 && seen.again > 0 && seen.nothing > 50, JSON.stringify(seen));
});

/** How many bytes of the file have not come. */
function restOf(growing: Growing): number {
  const { bytes, transactions } = growing.file;
  const next = transactions[transactions.length - growing.rest];
  return next === undefined ? 0 : bytes.length - next.position;
}

const LEFT_OUT = history(
  [{ oid: 0n, data: data([1]) }, { oid: 1n, data: data([2]) }, { oid: 2n, data: data([], "far") }],
  [{ oid: 0n, data: data([], "without") }],
  [{ oid: 0n, data: data([], "again without") }],
  [{ oid: 0n, data: data([1], "with it again") }],
  [{ oid: 0n, backPointer: [0, 0] }],
);

Deno.test("what had been left out, and is needed by what comes at the last moment, is in the packed file", async () => {
  for (const [what, gc] of [["a reference", true], ["an undo", true], ["an undo", false]] as const) {
    const transactions = what === "a reference"
      ? LEFT_OUT.slice(0, 4)
      : [...LEFT_OUT.slice(0, 3), { ...LEFT_OUT[4]!, tid: tidAt(3) }];
    const growing = new Growing(transactions, 3);
    const disk = new MemoryDisk();
    disk.put(PATH, growing.beginning);
    await using storage = await Storage.open(disk, PATH);
    let copies = 0;
    const options = { stop: tidAt(1), findReferences: gc ? findReferences : undefined };
    const report = await packStorage(disk, storage, {
      ...USUAL,
      ...options,
      alone: async (work) => {
        copies++;
        await growing.append(storage);
        await work();
      },
    });
    const expected = await packedWhole(growing.file.bytes, options);
    assert.equal(report.isPacked, expected.report.isPacked, what);
    assert.equal(copies, 2, what);
    assertSameBytes(disk.bytes(PATH), expected.bytes, what);
  }
});

Deno.test("a pack is given up where what comes needs again and again what was left out", async () => {
  const oids = Array.from({ length: 10 }, (_, i) => i + 1);
  const transactions = history(
    [
      { oid: 0n, data: data(oids) },
      ...oids.map((oid): RecordDescription => ({ oid: BigInt(oid), data: data([]) })),
    ],
    [{ oid: 0n, data: data([]) }],
    ...oids.map((oid): RecordDescription[] => [{ oid: 0n, data: data([oid]) }]),
  );
  const growing = new Growing(transactions, 2);
  const disk = new MemoryDisk();
  disk.put(PATH, growing.beginning);
  await using storage = await Storage.open(disk, PATH);
  const alone = async (work: () => Promise<void>) => {
    await growing.append(storage);
    await work();
  };
  await assert.rejects(packStorage(disk, storage, { ...USUAL, stop: tidAt(1), alone }), (error: Error) => {
    assert.ok(error instanceof UnavailableError);
    assert.match(error.message, /5 times what was written meanwhile needed/);
    return true;
  });
  assert.deepEqual(disk.paths(), [PATH, `${PATH}.lock`]);
  await growing.append(storage, Infinity);
  assertSameBytes(disk.bytes(PATH), growing.file.bytes);
});

Deno.test("whoever reads the old file goes on reading it, and it is let go with its last reader", async () => {
  const growing = new Growing(LEFT_OUT, 4);
  const disk = new MemoryDisk();
  disk.put(PATH, growing.beginning);
  await using storage = await Storage.open(disk, PATH);
  let told = 0;
  using _subscription = storage.subscribe(() => told++);
  const { generation } = storage.view;
  generation.hold();
  await packStorage(disk, storage, { ...USUAL, keepOld: false, stop: tidAt(2) });
  assert.equal(told, 1);
  assert.notEqual(storage.view.generation, generation);
  const bytes = new Uint8Array(growing.beginning.length);
  assert.equal(generation.file.readAt(bytes, 0), bytes.length);
  assertSameBytes(bytes, growing.beginning);
  generation.release();
  assert.throws(() => generation.file.size(), /closed/);
});

Deno.test("a pack of a storage that is rewound meanwhile changes nothing", async () => {
  const growing = new Growing(LEFT_OUT, 4);
  const disk = new MemoryDisk();
  disk.put(PATH, growing.beginning);
  await using storage = await Storage.open(disk, PATH);
  const end = growing.file.transactions[2]!.end;
  const alone = async (work: () => Promise<void>) => {
    await storage.takeBack({ end, lastTid: tidAt(2) });
    await work();
  };
  await assert.rejects(
    packStorage(disk, storage, { ...USUAL, stop: tidAt(1), alone }),
    /has been rewound meanwhile/,
  );
  assertSameBytes(disk.bytes(PATH), growing.file.bytes.slice(0, end));
  assert.ok(!disk.paths().includes(`${PATH}.pack`));
});

/** Changes, one of which comes at the last moment. */
const CHANGES = history(
  [{ oid: 0n, data: data([1]) }, { oid: 1n, data: data([]) }],
  [{ oid: 0n, data: data([1], "2") }],
  [{ oid: 1n, data: data([], "3") }],
  [{ oid: 0n, data: data([1], "4") }],
);

Deno.test("a storage shows up to where it has been packed, until it is rewound to before that", async () => {
  const disk = new MemoryDisk();
  disk.put(PATH, dataFs(CHANGES).bytes);
  await using storage = await Storage.open(disk, PATH);
  const shown: (bigint | undefined)[] = [];
  using _subscription = storage.subscribe(() => shown.push(storage.view.packedTo));
  assert.equal(storage.view.packedTo, undefined);
  await packStorage(disk, storage, { ...USUAL, stop: tidAt(2) - 1n });
  await appendOne(storage, tidAt(4));
  await rewindStorage(disk, storage, tidAt(1));
  await rewindStorage(disk, storage, tidAt(0));
  assert.deepEqual(shown, [tidAt(1), tidAt(1), tidAt(1), undefined]);
});

const WAYS = [
  { keepOld: false, hasLinks: true },
  { keepOld: true, hasLinks: true },
  { keepOld: true, hasLinks: false },
] as const;

async function packWhileItGrows(disk: Disk, storage: Storage, keepOld: boolean): Promise<void> {
  const growing = new Growing(CHANGES, 3);
  await packStorage(disk, storage, {
    ...USUAL,
    keepOld,
    stop: tidAt(1),
    alone: async (work) => {
      await growing.append(storage);
      await work();
    },
  });
}

for (const { keepOld, hasLinks } of WAYS) {
  const how = keepOld ? `, keeping the old file where files have ${hasLinks ? "two names" : "one name"}` : "";

  Deno.test(`whichever operation of a live pack fails, the storage goes on, or whoever opens it next${how}`, async () => {
    const { bytes } = dataFs([...CHANGES]);
    const packed = (await packedWhole(bytes, { stop: tidAt(1) })).bytes;
    const operations: Operation[] = ["open", "create", "read", "write", "truncate", "sync", "rename", "link"];
    operations.push("chmod", "remove", "syncDirectory");
    const seen = { old: 0, new: 0, ended: 0, elsewhere: 0 };
    for (const operation of operations) {
      for (const lasting of [false, true]) {
        for (let nth = 1;; nth++) {
          const label = `${operation} ${nth}, ${lasting ? "and all later" : "alone"}`;
          const disk = new MemoryDisk();
          disk.hasLinks = hasLinks;
          disk.put(PATH, new Growing(CHANGES, 3).beginning);
          disk.put(`${PATH}.old`, new Uint8Array([1]));
          await using storage = await Storage.open(disk, PATH);
          await storage.saveIndex();
          disk.performed.length = 0;
          disk.fail({ operation, nth, lasting });
          let failure: unknown;
          await packWhileItGrows(disk, storage, keepOld).catch((error) => failure = error);
          const happened = disk.performed.filter((each) => each.operation === operation).length;
          if (happened < nth) break;
          assert.ok(failure === undefined || failure instanceof ZrsError, `${label}: ${failure}`);
          disk.mend();
          const last = storage.lastTid; // its own append may have failed, too
          if (storage.failure !== undefined) {
            seen.ended++;
            assert.ok(failure instanceof DiskError, label);
            await assert.rejects(appendOne(storage, tidAt(9)), DiskError, label);
          } else {
            seen[storage.view.generation.number === 0 ? "old" : "new"]++;
            await appendOne(storage, tidAt(9));
            await storage.saveIndex();
            assert.ok(!disk.paths().includes(`${PATH}.pack`) || operation === "remove", label);
          }
          const isOver = storage.failure !== undefined;
          await storage[Symbol.asyncDispose]();
          if (!disk.paths().includes(PATH)) {
            // The only way: it could be renamed, and then nothing could be any more.
            assert.ok(isOver && !hasLinks && lasting, label);
            assertSameBytes(disk.bytes(`${PATH}.old`), bytes, label);
            seen.elsewhere++;
            continue;
          }
          await assertIndexed(disk, label);
          await using opened = await Storage.open(disk, PATH);
          assert.equal(opened.lastTid, isOver ? last : tidAt(9), label);
          const now = disk.bytes(PATH);
          const begins = (file: Uint8Array) => file.every((byte, at) => byte === now[at]);
          const old = last < tidAt(3) ? new Growing(CHANGES, 3).beginning : bytes;
          if (failure !== undefined && begins(old)) continue;
          assertSameBytes(now.slice(0, packed.length), packed, label);
        }
      }
    }
    assert.ok(seen.old > 20 && seen.new > 0 && seen.ended > 0, JSON.stringify(seen));
  });

  Deno.test(`a power loss at any moment of a live pack loses nothing that was durable${how}`, async () => {
    const { bytes } = dataFs([...CHANGES]);
    const seen = { old: 0, new: 0, elsewhere: 0 };
    for (let seed = 1; seed <= 25; seed++) {
      const losses: { files: Left; durable: bigint }[] = [];
      await onMachine(seed, async (machine) => {
        const { disk } = machine;
        disk.hasLinks = hasLinks;
        disk.makeDirectory("/data");
        disk.place(PATH, new Growing(CHANGES, 3).beginning);
        const port = machine.start();
        let durable = tidAt(2);
        const look = (count = 1) => {
          for (const files of machine.losses(count)) losses.push({ files, durable });
        };
        disk.observers.add({ operated: () => look() });
        {
          await using storage = await Storage.open(port, PATH);
          using _subscription = storage.subscribe(() => durable = storage.lastTid);
          await packWhileItGrows(port, storage, keepOld);
          await appendOne(storage, tidAt(9));
        }
        look(5);
      });
      for (const [at, { files, durable }] of losses.entries()) {
        const label = `seed ${seed}, image ${at}`;
        if (!files.has(PATH)) {
          assert.ok(keepOld && !hasLinks, label);
          assertSameBytes(files.get(`${PATH}.old`)!, bytes, label);
          seen.elsewhere++;
          continue;
        }
        const found = diskAfter(files);
        await using storage = await Storage.open(found, PATH);
        assert.ok(storage.lastTid >= durable, `${label}: ${storage.lastTid} of ${durable}`);
        seen[whichOf(found)]++;
        await storage[Symbol.asyncDispose]();
        await assertIndexed(found, label);
      }
    }
    assert.ok(seen.old > 50 && seen.new > 50, JSON.stringify(seen));
  });
}

/** Packed transactions say so. */
function whichOf(disk: MemoryDisk): "old" | "new" {
  return disk.bytes(PATH)[4 + 16] === 0x70 ? "new" : "old";
}
