/** What a crash at any moment of a rewind leaves: the file as it was, or rewound, with what went in its file. */
import assert from "node:assert/strict";
import { CorruptError, DiskError } from "../../lib/errors.ts";
import { readIndexFile } from "../../lib/filestorage/index/index_file.ts";
import { Appender, Storage, TRANSACTION } from "../../lib/filestorage/mod.ts";
import { type BuiltFile, dataFs } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { rewind } from "../kit/rewind.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { CrashFile } from "./crash_file.ts";
import { diskAfter, type Left, onMachine } from "./on_machine.ts";
import { tidAt } from "./random_history.ts";
import { fileFrom } from "./runs.ts";

const PATH = "/data/Data.fs";

async function opened(bytes: Uint8Array): Promise<Uint8Array> {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  await using _ = await Storage.open(disk, PATH);
  return disk.bytes(PATH);
}

/** Takes back all transactions but the first. */
async function takeBack(file: BuiltFile, target: CrashFile): Promise<void> {
  const appender = new Appender(target, file.end, tidAt(file.transactions.length - 1));
  await appender.takeBack(file.transactions[0]!.end, tidAt(0));
  assert.equal(appender.end, file.transactions[0]!.end);
  assert.equal(appender.lastTid, tidAt(0));
}

/** Asserts that every crash leaves a file that opens to the whole or to the beginning. */
async function assertSurvivesCrashes(file: BuiltFile, target: CrashFile, label: string): Promise<number> {
  let count = 0;
  const allowed = [file.bytes, file.bytes.slice(0, file.transactions[0]!.end)];
  for (const { bytes } of target.crashImages()) {
    const kept = await opened(bytes).catch((error) => {
      throw new Error(`${label}: image ${count} does not open`, { cause: error });
    });
    const expected = allowed.find(({ length }) => length === kept.length);
    assert(expected !== undefined, `${label}: image ${count} opens to ${kept.length}`);
    assert.deepEqual(kept, expected, label);
    count++;
  }
  return count;
}

Deno.test("the first header that goes says so, byte by byte in an order, before anything is cut", async () => {
  const file = fileFrom(200, 100, 200);
  const target = new CrashFile(file.bytes);
  await takeBack(file, target);
  assert.deepEqual(target.performed, [
    ...["write 1 at 216", "sync", "write 8 at 208", "sync", "write 8 at 200", "sync"],
    ...["write 23 at 200", "sync", "truncate to 223", "sync", "truncate to 200", "sync"],
  ]);
  assert.deepEqual(target.bytes, file.bytes.slice(0, 200));
});

Deno.test("after any crash while a file is taken back it opens whole or cut", async () => {
  let count = 0;
  // Beginning at each offset around a sector's end, so that the header is torn everywhere.
  for (let end = 486; end <= 514; end++) {
    const file = fileFrom(end, 300, 400, 500);
    const target = new CrashFile(file.bytes);
    await takeBack(file, target);
    assert.deepEqual(target.bytes, file.bytes.slice(0, end));
    count += await assertSurvivesCrashes(file, target, `from ${end}`);
  }
  assert(count > 200, `only ${count} images`);
});

Deno.test("any failure while a file is taken back is final, and the file opens whole or cut", async () => {
  let faults = 0;
  for (const end of [490, 600]) {
    const file = fileFrom(end, 300, 400, 500);
    for (const error of ["io", "full"] as const) {
      for (const written of [0, 1, 5]) {
        for (let nth = 1;; nth++) {
          const label = `${error} at operation ${nth}, ${written} bytes written, from ${end}`;
          const target = new CrashFile(file.bytes, { nth, error, written });
          const appender = new Appender(target, file.end, tidAt(3));
          const failure = await appender.takeBack(end, tidAt(0)).catch((error) => error);
          await assertSurvivesCrashes(file, target, label);
          if (failure === undefined) break;
          assert(failure instanceof DiskError, label);
          assert.equal(appender.end, file.end, label);
          const before = target.performed;
          await assert.rejects(appender.beginLarge(), DiskError);
          await assert.rejects(appender.takeBack(end, tidAt(0)), DiskError);
          assert.deepEqual(target.performed, before, label);
          faults++;
        }
      }
    }
  }
  assert(faults > 60, `only ${faults} faults`);
});

Deno.test("however much is taken back, the torn header is never taken for damage", async () => {
  // More than a crash of anything else leaves: there the owner would refuse to cut.
  const file = fileFrom(500, 9_000_000, 9_000_000, 1000);
  const { bytes } = file;
  const saved = `${PATH}.rewound-03f5945900000000`;
  const fence = new Uint8Array(TRANSACTION.size);
  new DataView(fence.buffer).setBigUint64(TRANSACTION.tid, tidAt(0));
  new DataView(fence.buffer).setBigUint64(TRANSACTION.length, 2n ** 52n);
  fence[TRANSACTION.status] = 0x63;
  const images: Uint8Array[] = [];
  for (const [from, to] of [[16, 17], [8, 16], [0, 8]] as const) {
    for (let torn = from; torn <= to; torn++) {
      for (const [start, end] of [[from, torn], [torn, to]] as const) {
        const image = bytes.slice();
        image.set(fence.subarray(start, end), 500 + start);
        images.push(image);
      }
    }
    bytes.set(fence.subarray(from, to), 500 + from);
  }
  // Two of them are the whole file still.
  let whole = 0;
  for (const [at, image] of images.entries()) {
    const disk = new MemoryDisk();
    disk.put(PATH, image);
    disk.put(saved, new Uint8Array());
    await using storage = await Storage.open(disk, PATH).catch((error) => {
      throw new Error(`Image ${at} does not open`, { cause: error });
    });
    if (storage.end !== 500) whole++;
    assert([500, file.end].includes(storage.end), `image ${at} opens to ${storage.end}`);
    assert.equal(storage.lastTid, storage.end === 500 ? tidAt(0) : tidAt(3));
  }
  assert(whole <= 2);
});

Deno.test("without the file of what goes, such a status is damage as before", async () => {
  const file = fileFrom(500, 17_000_000, 1000);
  file.bytes[500 + TRANSACTION.status] = 0x63;
  await assert.rejects(opened(file.bytes), CorruptError);
});

Deno.test("a power loss at any moment leaves a database that is whole or rewound, and nothing lost", async () => {
  const file = dataFs([
    { tid: tidAt(0), records: [{ oid: 0n, data: new Uint8Array(300).fill(1) }, { oid: 1n, data: "one" }] },
    { tid: tidAt(1), records: [{ oid: 1n, data: "changed" }] },
    { tid: tidAt(2), records: [{ oid: 1n, backPointer: [0, 1] }, { oid: 2n, data: new Uint8Array(600) }] },
    { tid: tidAt(3), records: [{ oid: 0n, data: new Uint8Array(500).fill(3) }] },
  ]);
  const shorter = file.bytes.slice(0, file.transactions[1]!.end);
  const cut = transactionsOf(file.bytes).slice(2).map(({ tid }) => tid);
  let images = 0;
  let rewound = 0;
  for (let seed = 1; seed <= 40; seed++) {
    const losses: Left[] = [];
    const { savedTo } = await onMachine(seed, async (machine) => {
      machine.disk.place(PATH, file.bytes);
      machine.disk.observers.add({ operated: () => void losses.push(...machine.losses(2)) });
      const port = machine.start();
      {
        await using storage = await Storage.open(port, PATH);
        await storage.saveIndex();
      }
      const rewound = await rewind(port, PATH, tidAt(1));
      losses.push(...machine.losses());
      return rewound;
    });
    assert.deepEqual(losses.at(-1)!.get(PATH), shorter);

    for (const files of losses) {
      const label = `seed ${seed}, image ${images++}`;
      const after = diskAfter(files);
      await using storage = await Storage.open(after, PATH).catch((error) => {
        throw new Error(`${label} does not open`, { cause: error });
      });
      const bytes = after.bytes(PATH);
      const isRewound = bytes.length === shorter.length;
      assert.deepEqual(bytes, isRewound ? shorter : file.bytes, label);
      if (isRewound) {
        rewound++;
        assert.deepEqual(transactionsOf(after.bytes(savedTo)).map(({ tid }) => tid), cut, label);
      }
      const index = readIndexFile(after, PATH);
      if (index.kind === "read") assert(index.position <= bytes.length, label);
      assert.deepEqual(entriesOf(storage), await scanned(bytes), label);
    }
  }
  assert(images > 1000 && rewound > 200, `${images} images, ${rewound} of them rewound`);
});

Deno.test("where a sync fails while a file is taken back, no later power loss damages what the next process makes of it", async () => {
  const file = dataFs([0, 1, 2].map((at) => ({
    tid: tidAt(at),
    records: [{ oid: 0n, data: new Uint8Array(500).fill(at) }],
  })));
  let failures = 0;
  for (let skip = 0; skip < 7; skip++) {
    for (let seed = 1; seed <= 20; seed++) {
      const losses: Left[] = [];
      await onMachine(seed, async (machine) => {
        machine.disk.place(PATH, file.bytes);
        machine.disk.faults.add({ on: "sync", path: PATH, skip, effect: "error" });
        await rewind(machine.start(), PATH, tidAt(0)).catch((error) => {
          assert(error instanceof DiskError, String(error));
          failures++;
        });
        machine.disk.observers.add({ operated: () => void losses.push(...machine.losses(2)) });
        await using _ = await Storage.open(machine.start(), PATH);
      });
      for (const files of losses) {
        await using storage = await Storage.open(diskAfter(files), PATH);
        assert([tidAt(0), tidAt(2)].includes(storage.lastTid), `sync ${skip}, seed ${seed}`);
      }
    }
  }
  assert(failures > 60, `${failures}`);
});

function entriesOf({ index }: Storage): [number, number, number][] {
  const entries: [number, number, number][] = [];
  index.forEach((high, low, position) => void entries.push([high, low, position]));
  return entries;
}

async function scanned(bytes: Uint8Array): Promise<[number, number, number][]> {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  await using storage = await Storage.open(disk, PATH);
  return entriesOf(storage);
}
