import assert from "node:assert/strict";
import { DiskError, DiskFullError, LockedError, NotFoundError, UsageError } from "../../lib/errors.ts";
import { MemoryDisk } from "./memory_disk.ts";

const bytes = (...values: number[]) => new Uint8Array(values);

Deno.test("a file reads back what was written, zeros in between, and short only at its end", () => {
  const disk = new MemoryDisk();
  disk.addDirectory("/data");
  using file = disk.create("/data/f");
  file.writeAt(bytes(1, 2), 0);
  file.writeAt(bytes(9), 4);
  const into = new Uint8Array(8);
  assert.equal(file.readAt(into, 1), 4);
  assert.deepEqual(into, bytes(2, 0, 0, 9, 0, 0, 0, 0));
  assert.equal(file.readAt(into, 5), 0);
  file.truncate(1);
  file.truncate(3);
  assert.deepEqual(disk.bytes("/data/f"), bytes(1, 0, 0));
  assert.deepEqual(disk.list("/data"), ["f"]);
  assert.throws(() => disk.create("/data/f"), UsageError);
  assert.throws(() => disk.create("/none/f"), NotFoundError);
  assert.throws(() => disk.openRead("/data"), UsageError);
});

Deno.test("an open handle keeps the file it opened when the path is given to another", () => {
  const disk = new MemoryDisk();
  disk.put("/f", bytes(1));
  disk.put("/g", bytes(2));
  using old = disk.openRead("/f");
  disk.rename("/g", "/f");
  using now = disk.openRead("/f");
  const into = new Uint8Array(1);
  old.readAt(into, 0);
  assert.deepEqual(into, bytes(1));
  assert.notEqual(old.identity(), now.identity());
  assert.equal(disk.status("/f")?.identity, now.identity());
  assert.equal(disk.status("/g"), undefined);
  now.close();
  assert.throws(() => now.size(), DiskError);
});

Deno.test("the ordered operation fails, and only that", async () => {
  const disk = new MemoryDisk();
  using file = disk.create("/f");
  disk.fail({ operation: "write", path: "/f", nth: 2, written: 1 });
  file.writeAt(bytes(1, 1), 0);
  assert.throws(() => file.writeAt(bytes(2, 2), 2), DiskError);
  assert.deepEqual(disk.bytes("/f"), bytes(1, 1, 2));
  file.writeAt(bytes(3), 3);

  disk.fail({ operation: "sync", lasting: true });
  await assert.rejects(file.sync(), DiskError);
  await assert.rejects(file.sync(), DiskError);
  disk.fail({ operation: "rename" });
  assert.throws(() => disk.rename("/f", "/g"), DiskError);
  assert.deepEqual(disk.paths(), ["/f"]);
  disk.rename("/f", "/g");
  assert.deepEqual(disk.performed.map((each) => each.operation), [
    "create",
    ...["write", "write", "write"],
    ...["sync", "sync"],
    ...["rename", "rename"],
  ]);
});

Deno.test("a full disk takes what there is room for, and overwriting needs none", () => {
  const disk = new MemoryDisk();
  disk.put("/other", new Uint8Array(5));
  using file = disk.create("/f");
  disk.capacity = 8;
  assert.throws(() => file.writeAt(bytes(1, 2, 3, 4), 0), DiskFullError);
  assert.deepEqual(disk.bytes("/f"), bytes(1, 2, 3));
  file.writeAt(bytes(7, 7), 1);
  assert.deepEqual(disk.bytes("/f"), bytes(1, 7, 7));
  disk.capacity = 9;
  file.writeAt(bytes(8), 3);
});

Deno.test("a lock is held once, until it is closed, and its file stays", () => {
  const disk = new MemoryDisk();
  const lock = disk.lock("/f.lock");
  assert.throws(() => disk.lock("/f.lock"), LockedError);
  lock.close();
  const again = disk.lock("/f.lock");
  lock.close();
  assert.throws(() => disk.lock("/f.lock"), LockedError);
  again.close();
  assert.deepEqual(disk.paths(), ["/f.lock"]);
});

Deno.test("a watcher hears of changes in its directory until it is disposed of", async () => {
  const disk = new MemoryDisk();
  disk.addDirectory("/elsewhere");
  let calls = 0;
  const watcher = disk.watch("/", () => calls++);
  disk.put("/f", bytes(1));
  await Promise.resolve();
  assert.equal(calls, 1);
  disk.put("/elsewhere/f", bytes(1));
  watcher[Symbol.dispose]();
  disk.remove("/f");
  await Promise.resolve();
  assert.equal(calls, 1);
});
