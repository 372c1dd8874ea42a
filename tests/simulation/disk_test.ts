import assert from "node:assert/strict";
import { DiskError, DiskFullError, LockedError, NotFoundError, UsageError } from "../../lib/errors.ts";
import type { Disk } from "../../lib/ports/mod.ts";
import { MachineDisk } from "./disk.ts";
import { Life, ProcessDead } from "./life.ts";
import { SeededRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";

const SEEDS = 300;
const PATH = "/db/file";

interface Bench extends AsyncDisposable {
  readonly scheduler: Scheduler;
  readonly disk: MachineDisk;
  readonly life: Life;
  readonly port: Disk;
  /** Waits in simulated time. */
  done<T>(promise: Promise<T>): Promise<T>;
  /** Ends the process, loses the power, and gives a new process's port. */
  crash(): Disk;
}

function bench(seed: number): Bench {
  const random = new SeededRandom(seed);
  const scheduler = new Scheduler(random);
  const disk = new MachineDisk(scheduler, random, "m");
  disk.makeDirectory("/db");
  const life = new Life("m/test#1", "test");
  return {
    scheduler,
    disk,
    life,
    port: disk.port(life),
    async done<T>(promise: Promise<T>): Promise<T> {
      let settled = false;
      const both = promise.finally(() => settled = true);
      both.catch(() => {});
      await scheduler.runUntil(() => settled);
      return await both;
    },
    crash() {
      life.end();
      disk.crash();
      return disk.port(new Life("m/test#2", "test"));
    },
    [Symbol.asyncDispose]: () => scheduler[Symbol.asyncDispose](),
  };
}

/** Bytes that tell which sector they belong to, and which write they come from. */
function sectors(from: number, count: number, generation: number): Uint8Array {
  const bytes = new Uint8Array(count * 512);
  for (let i = 0; i < count; i++) bytes.fill(generation * 64 + from + i, i * 512, (i + 1) * 512);
  return bytes;
}

Deno.test("what was written is read back, also by a reader that opened the file before", async () => {
  await using b = bench(1);
  using file = b.port.create(PATH);
  using reader = b.port.openRead(PATH);
  file.writeAt(new Uint8Array([1, 2, 3]), 2);
  const into = new Uint8Array(10);
  assert.equal(reader.readAt(into, 1), 4);
  assert.deepEqual([...into.subarray(0, 4)], [0, 1, 2, 3]);
  assert.equal(reader.size(), 5);
  file.truncate(3);
  file.truncate(5);
  assert.deepEqual([...b.disk.bytes(PATH)!], [0, 0, 1, 0, 0]);
});

Deno.test("names behave as on a POSIX system", async () => {
  await using b = bench(1);
  const { port } = b;
  using first = port.create("/db/a");
  using second = port.create("/db/b");
  second.writeAt(new Uint8Array([7]), 0);
  assert.throws(() => port.create("/db/a"), UsageError);
  assert.throws(() => port.openRead("/db/none"), NotFoundError);
  assert.throws(() => port.create("/none/a"), NotFoundError);
  assert.throws(() => port.openRead("/db"), UsageError);
  assert.notEqual(first.identity(), second.identity());
  assert.deepEqual(port.list("/db").sort(), ["a", "b"]);
  port.rename("/db/b", "/db/a");
  assert.deepEqual(port.list("/db"), ["a"]);
  assert.equal(port.status("/db/a")?.identity, second.identity());
  assert.equal(port.status("/db/a")?.size, 1);
  assert.equal(first.size(), 0);
  port.remove("/db/a");
  port.remove("/db/a");
  assert.equal(port.status("/db/a"), undefined);
  assert.equal(second.size(), 1);
  assert.equal(port.status("/db")?.kind, "directory");
});

Deno.test("a crash keeps whatever was synced", async () => {
  for (let seed = 0; seed < SEEDS; seed++) {
    await using b = bench(seed);
    const file = b.port.create(PATH);
    file.writeAt(sectors(0, 8, 0), 0);
    await b.done(file.sync());
    await b.done(b.port.syncDirectory("/db"));
    file.writeAt(sectors(4, 8, 1), 4 * 512);
    const port = b.crash();
    using again = port.openRead(PATH);
    const bytes = new Uint8Array(again.size());
    again.readAt(bytes, 0);
    assert.ok(bytes.length >= 8 * 512, `seed ${seed}`);
    assert.deepEqual(bytes.subarray(0, 4 * 512), sectors(0, 4, 0), `seed ${seed}`);
    assert.deepEqual(b.disk.durableBytes(PATH), bytes);
  }
});

Deno.test("a crash makes of each unsynced sector the old one, the new one, or zeros behind the old end", async () => {
  const seen = { lost: 0, kept: 0, torn: 0, zeros: 0, outOfOrder: 0, shortSize: 0, oddSize: 0 };
  for (let seed = 0; seed < SEEDS; seed++) {
    await using b = bench(seed);
    b.disk.place(PATH, sectors(0, 4, 0));
    const file = b.port.openWrite(PATH);
    file.writeAt(sectors(0, 8, 1), 0);
    file.writeAt(sectors(8, 8, 1).subarray(0, 8 * 512 - 100), 8 * 512);
    b.crash();
    const bytes = b.disk.bytes(PATH)!;
    const states: string[] = [];
    for (let i = 0; i * 512 < bytes.length; i++) {
      const sector = bytes.subarray(i * 512, (i + 1) * 512);
      assert.ok(sector.every((byte) => byte === sector[0]), `seed ${seed}: sector ${i} is torn`);
      const state = sector[0] === 64 + i ? "new" : sector[0] === i && i < 4 ? "old" : "zero";
      assert.ok(state !== "zero" || (sector[0] === 0 && i >= 4), `seed ${seed}: sector ${i} is ${sector[0]}`);
      states.push(state);
    }
    assert.ok(
      bytes.length >= 4 * 512 && bytes.length <= 16 * 512 - 100,
      `seed ${seed}: ${bytes.length} bytes`,
    );
    const kept = states.filter((state) => state === "new").length;
    if (kept === 0 && states.length === 4) seen.lost++;
    else if (kept === 16) seen.kept++;
    else seen.torn++;
    if (states.includes("zero")) seen.zeros++;
    if (states.lastIndexOf("new") > states.indexOf("zero") && states.includes("zero")) seen.outOfOrder++;
    if (kept > 0 && bytes.length === 4 * 512) seen.shortSize++;
    if (![4 * 512, 8 * 512, 16 * 512 - 100].includes(bytes.length)) seen.oddSize++;
  }
  for (const [what, count] of Object.entries(seen)) assert.ok(count > 3, `${what} occurred ${count} times`);
});

Deno.test("a crash during a sync leaves any part, one after it everything", async () => {
  const kept = { all: 0, none: 0, some: 0 };
  for (let seed = 0; seed < SEEDS; seed++) {
    await using b = bench(seed);
    b.disk.place(PATH, new Uint8Array(0));
    b.disk.syncLatencyMs = { least: 5, most: 5 };
    const file = b.port.openWrite(PATH);
    file.writeAt(sectors(0, 8, 1), 0);
    let resolved = false;
    void file.sync().then(() => resolved = true);
    await b.scheduler.runFor(4);
    b.crash();
    await b.scheduler.runFor(100);
    assert.equal(resolved, false);
    const count = new Set(b.disk.bytes(PATH)!.filter((byte) => byte !== 0)).size;
    kept[count === 8 ? "all" : count === 0 ? "none" : "some"]++;
  }
  for (const [what, count] of Object.entries(kept)) assert.ok(count > 10, `${what}: ${count}`);
});

Deno.test("a sync covers what was written before it was called, also through another handle", async () => {
  const later = { lost: 0, kept: 0 };
  for (let seed = 0; seed < 100; seed++) {
    await using b = bench(seed);
    b.disk.place(PATH, new Uint8Array(0));
    const writer = b.port.openWrite(PATH);
    const reader = b.port.openRead(PATH);
    writer.writeAt(sectors(0, 1, 1), 0);
    const synced = reader.sync();
    writer.writeAt(sectors(1, 1, 1), 512);
    await b.done(synced);
    b.crash();
    assert.deepEqual(b.disk.bytes(PATH)!.subarray(0, 512), sectors(0, 1, 1), `seed ${seed}`);
    later[b.disk.bytes(PATH)!.length === 1024 ? "kept" : "lost"]++;
  }
  assert.ok(later.lost > 10 && later.kept > 10);
});

Deno.test("a crash may undo a rename whose directory was not synced, whole or not at all", async () => {
  const seen = { undone: 0, kept: 0 };
  for (let seed = 0; seed < SEEDS; seed++) {
    await using b = bench(seed);
    b.disk.place("/db/old", new Uint8Array([1]));
    b.disk.place("/db/new", new Uint8Array([2]));
    b.port.rename("/db/new", "/db/old");
    const port = b.crash();
    const names = port.list("/db").sort().join();
    const content = b.disk.bytes("/db/old")![0];
    if (names === "new,old" && content === 1) seen.undone++;
    else if (names === "old" && content === 2) seen.kept++;
    else assert.fail(`seed ${seed}: ${names} with ${content}`);
  }
  assert.ok(seen.undone > 50 && seen.kept > 50, JSON.stringify(seen));
});

Deno.test("a crash undoes nothing in a directory that was synced, and may in another one", async () => {
  const others = new Set<string>();
  for (let seed = 0; seed < 100; seed++) {
    await using b = bench(seed);
    b.disk.place("/db/a", new Uint8Array([1]));
    b.disk.place("/db/b", new Uint8Array([2]));
    b.disk.makeDirectory("/other");
    b.port.rename("/db/a", "/db/c");
    b.port.remove("/db/b");
    b.port.create("/db/d");
    b.port.create("/other/e");
    await b.done(b.port.syncDirectory("/db"));
    const port = b.crash();
    assert.deepEqual(port.list("/db").sort(), ["c", "d"], `seed ${seed}`);
    others.add(port.list("/other").join());
  }
  assert.deepEqual([...others].sort(), ["", "e"]);
});

Deno.test("over many crashes a created and a removed file come and go", async () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 100; seed++) {
    await using b = bench(seed);
    b.disk.place("/db/a", new Uint8Array([1]));
    b.port.remove("/db/a");
    b.port.create("/db/b");
    seen.add(b.crash().list("/db").sort().join());
  }
  assert.deepEqual([...seen].sort(), ["", "a", "a,b", "b"]);
});

Deno.test("a killed process leaves what it wrote, and loses its handles and locks", async () => {
  await using b = bench(1);
  const file = b.port.create(PATH);
  b.port.lock("/db/lock");
  file.writeAt(sectors(0, 3, 1), 0);
  let resolved = false;
  void file.sync().then(() => resolved = true);
  const other = b.disk.port(new Life("m/other#2", "other"));
  assert.throws(() => other.lock("/db/lock"), LockedError);
  b.life.end();
  assert.throws(() => file.readAt(new Uint8Array(1), 0), ProcessDead);
  assert.throws(() => file.writeAt(new Uint8Array(1), 0), ProcessDead);
  assert.throws(() => b.port.list("/db"), ProcessDead);
  file.close();
  await b.scheduler.runFor(100);
  assert.equal(resolved, false);
  assert.deepEqual(b.disk.bytes(PATH), sectors(0, 3, 1));
  assert.deepEqual(b.disk.durableBytes(PATH), sectors(0, 3, 1)); // the kernel went on with the sync
  using _lock = other.lock("/db/lock");
  assert.throws(() => other.lock("/db/lock"), LockedError);
});

Deno.test("a process can be killed at any operation, and a write is then cut between sectors", async () => {
  const lengths = new Set<number>();
  for (let seed = 0; seed < 100; seed++) {
    await using b = bench(seed);
    const file = b.port.create(PATH);
    file.writeAt(new Uint8Array([1]), 0);
    b.disk.faults.add({ on: "change", process: "test", skip: 1, effect: () => b.life.end() });
    file.writeAt(new Uint8Array(99), 1);
    assert.throws(() => file.writeAt(sectors(0, 4, 1), 100), ProcessDead);
    lengths.add(b.disk.bytes(PATH)!.length);
  }
  assert.deepEqual([...lengths].sort((x, y) => x - y), [100, 512, 1024, 1536, 2048]);
});

Deno.test("a rename in which the machine crashes has happened or not", async () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 100; seed++) {
    await using b = bench(seed);
    b.disk.place("/db/a", new Uint8Array([1]));
    b.disk.faults.add({ on: "rename", effect: () => void b.crash() });
    assert.throws(() => b.port.rename("/db/a", "/db/b"), ProcessDead);
    seen.add(b.disk.paths().join());
  }
  assert.deepEqual([...seen].sort(), ["/db/a", "/db/b"]);
});

Deno.test("planned errors hit the operation they are planned for, and only that", async () => {
  await using b = bench(1);
  const file = b.port.create(PATH);
  b.disk.faults.add({ on: "write", path: PATH, skip: 1, effect: "error" });
  b.disk.faults.add({ on: "read", effect: "error" });
  b.disk.faults.add({ on: "write", process: "somebody else", effect: "error" });
  file.writeAt(sectors(0, 1, 1), 0);
  assert.throws(() => file.writeAt(sectors(1, 1, 1), 512), DiskError);
  file.writeAt(sectors(1, 1, 1), 512);
  assert.throws(() => file.readAt(new Uint8Array(1), 0), DiskError);
  assert.equal(file.readAt(new Uint8Array(1), 0), 1);
});

Deno.test("after a failed sync the next one succeeds, and yet a crash may lose the data", async () => {
  const seen = { lost: 0, kept: 0 };
  for (let seed = 0; seed < 100; seed++) {
    await using b = bench(seed);
    b.disk.place(PATH, new Uint8Array(0));
    const file = b.port.openWrite(PATH);
    file.writeAt(sectors(0, 1, 1), 0);
    b.disk.faults.add({ on: "sync", effect: "error" });
    await assert.rejects(b.done(file.sync()), DiskError);
    assert.equal(b.disk.bytes(PATH)!.length, 512);
    await b.done(file.sync());
    b.crash();
    const bytes = b.disk.bytes(PATH)!;
    seen[bytes.length === 512 && bytes[0] === 64 ? "kept" : "lost"]++;
  }
  assert.ok(seen.lost > 10 && seen.kept > 10, JSON.stringify(seen));
});

Deno.test("a full disk takes the beginning of a write, and the rest when there is room again", async () => {
  await using b = bench(1);
  b.disk.capacityBytes = 1000;
  const file = b.port.create(PATH);
  file.writeAt(new Uint8Array(900).fill(1), 0);
  assert.throws(() => file.writeAt(new Uint8Array(200).fill(2), 900), DiskFullError);
  assert.equal(file.size(), 1000);
  file.writeAt(new Uint8Array(900).fill(3), 50); // overwriting needs no room
  b.disk.capacityBytes = 2000;
  file.writeAt(new Uint8Array(200).fill(2), 900);
  assert.equal(file.size(), 1100);
  b.port.remove(PATH);
  assert.equal(b.disk.usedBytes(), 1100); // it is still open
  file.close();
  assert.equal(b.disk.usedBytes(), 0);
});

Deno.test("a watcher hears late of changes in its directory, once for several, and not of all", async () => {
  let calls = 0;
  let changes = 0;
  let elsewhere = 0;
  await using b = bench(1);
  b.disk.makeDirectory("/other");
  using _other = b.port.watch("/other", () => elsewhere++);
  const watch = b.port.watch("/db", () => calls++);
  const file = b.port.create(PATH);
  for (let round = 0; round < 200; round++) {
    for (let i = 0; i < 3; i++, changes++) file.writeAt(new Uint8Array([i]), i);
    const before = calls;
    await Promise.resolve();
    assert.equal(calls, before);
    await b.scheduler.runFor(1);
  }
  assert.ok(calls > 30 && calls < 200, `${calls} calls for ${changes} changes`);
  assert.equal(elsewhere, 0);
  b.disk.missedChanges = 1;
  await b.scheduler.runFor(300);
  const before = calls;
  file.writeAt(new Uint8Array([1]), 0);
  await b.scheduler.runFor(300);
  assert.equal(calls, before);
  b.disk.missedChanges = 0;
  file.writeAt(new Uint8Array([1]), 0);
  watch[Symbol.dispose]();
  await b.scheduler.runFor(300);
  assert.equal(calls, before);
});

Deno.test("using a closed file or a position that is none is a bug and says so", async () => {
  await using b = bench(1);
  const file = b.port.create(PATH);
  assert.throws(() => file.readAt(new Uint8Array(1), -1), RangeError);
  assert.throws(() => file.writeAt(new Uint8Array(1), 0.5), RangeError);
  file.close();
  file.close();
  assert.throws(() => file.size(), /used after it was closed/);
});
