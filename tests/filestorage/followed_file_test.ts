import assert from "node:assert/strict";
import { DiskError, NotFoundError, UsageError } from "../../lib/errors.ts";
import { type Change, FIRST_POSITION, FollowedFile, Storage } from "../../lib/filestorage/mod.ts";
import { NO_TID } from "../../lib/zodb/mod.ts";
import { type BuiltFile, dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { tidAt } from "./random_history.ts";

const PATH = "/data/Data.fs";
const noPause = () => Promise.resolve();

/** Transactions numbered as given, each changing the root. */
function history(...numbers: number[]): TransactionDescription[] {
  return numbers.map((number) => ({ tid: tidAt(number), records: [{ oid: 0n, data: `root ${number}` }] }));
}

function packed(...numbers: number[]): TransactionDescription[] {
  return history(...numbers).map((each) => ({ ...each, status: "p" }));
}

function voted(number: number): TransactionDescription {
  return { ...history(number)[0]!, status: "c" };
}

/** A follower of a file that a test changes under it. */
class Followed {
  readonly disk = new MemoryDisk();
  readonly file: FollowedFile;
  /** The views that subscribers saw. */
  readonly seen: bigint[] = [];

  private constructor(disk: MemoryDisk, file: FollowedFile) {
    this.disk = disk;
    this.file = file;
    file.subscribe(() => this.seen.push(file.view.lastTid));
  }

  static async open(transactions: TransactionDescription[], tail?: Uint8Array): Promise<Followed> {
    const disk = new MemoryDisk();
    disk.put(PATH, dataFs(transactions, tail && { tail }).bytes);
    return new Followed(disk, await FollowedFile.open(disk, PATH, noPause));
  }

  /** Lets the writer write in place, and looks. */
  async write(transactions: TransactionDescription[], tail?: Uint8Array): Promise<Change[]> {
    this.disk.put(PATH, dataFs(transactions, tail && { tail }).bytes);
    return await this.look();
  }

  /** Puts another file in the place of the one that is there, and looks. */
  async replace(bytes: Uint8Array, keepAs?: string): Promise<Change[]> {
    this.disk.put(`${PATH}.pack`, bytes);
    if (keepAs !== undefined) this.disk.rename(PATH, keepAs);
    this.disk.rename(`${PATH}.pack`, PATH);
    return await this.look();
  }

  /** Looks twice: what is told once is not told again. */
  async look(): Promise<Change[]> {
    const changes = await this.file.refresh();
    assert.deepEqual(await this.file.refresh(), []);
    return changes;
  }

  /** Asserts that the view ends with the last of these transactions, in this file. */
  assertSees(built: BuiltFile, number: number | undefined): void {
    const { view } = this.file;
    assert.equal(view.end, built.end);
    assert.equal(view.lastTid, number === undefined ? NO_TID : tidAt(number));
    const bytes = new Uint8Array(view.end);
    assert.equal(view.generation.file.readAt(bytes, 0), view.end);
    assert.deepEqual(bytes, built.bytes.slice(0, built.end));
  }
}

Deno.test("the view grows by whole transactions, and subscribers see each growth", async () => {
  const followed = await Followed.open([]);
  followed.assertSees(dataFs([]), undefined);
  assert.deepEqual(await followed.write(history(1)), [{ kind: "grown", lastTid: tidAt(1) }]);
  assert.deepEqual(await followed.write(history(1, 2, 3)), [{ kind: "grown", lastTid: tidAt(3) }]);
  followed.assertSees(dataFs(history(1, 2, 3)), 3);
  assert.deepEqual(followed.seen, [tidAt(1), tidAt(3)]);
  assert.equal(followed.file.view.generation.number, 0);
});

Deno.test("what is seen has been synced before, through the follower's own handle", async () => {
  const followed = await Followed.open(history(1));
  followed.disk.fail({ operation: "sync" });
  followed.disk.put(PATH, dataFs(history(1, 2)).bytes);
  await assert.rejects(followed.file.refresh(), DiskError);
  followed.assertSees(dataFs(history(1)), 1);
  assert.deepEqual(followed.seen, []);
  assert.deepEqual(await followed.look(), [{ kind: "grown", lastTid: tidAt(2) }]);
});

Deno.test("what could not be synced is not remembered for searches: it may be gone, and others in its place", async () => {
  const followed = await Followed.open([]);
  followed.disk.fail({ operation: "sync" });
  const [long] = history(1);
  const data = "the crash takes it away";
  await assert.rejects(
    followed.write([{ ...long!, records: [{ oid: 0n, data }] }, ...history(2)]),
    DiskError,
  );
  const { map } = followed.file.view.generation;
  assert.equal(map.ceiling(NO_TID), undefined);
  assert.deepEqual(await followed.write(history(3, 4)), [{ kind: "grown", lastTid: tidAt(4) }]);
  assert.equal(map.ceiling(tidAt(2)), FIRST_POSITION);
});

Deno.test("nothing is locked, created or written", async () => {
  const followed = await Followed.open(history(1));
  await followed.write([...history(1), voted(2)]);
  await followed.write(history(1, 2));
  await followed.replace(dataFs([...packed(2), ...history(3)]).bytes, `${PATH}.old`);
  await followed.write(history(2));
  followed.file.close();
  followed.file.close();
  // The renames are the test's.
  const own = followed.disk.performed.filter(({ operation }) => operation !== "rename");
  assert.deepEqual(
    new Set(own.map(({ operation }) => operation)),
    new Set(["open", "read", "sync", "syncDirectory"]),
  );
  assert.deepEqual(followed.disk.paths(), [PATH, `${PATH}.old`]);
});

Deno.test("a transaction seen at any moment of its being written is taken once it is whole and final", async () => {
  const whole = dataFs(history(1, 2));
  const half = dataFs([...history(1), voted(2)]);
  for (let size = whole.transactions[1]!.position; size < whole.end; size++) {
    for (const bytes of [half.bytes.slice(0, size), half.bytes]) {
      const followed = await Followed.open(history(1));
      followed.disk.put(PATH, bytes);
      assert.deepEqual(await followed.look(), [], `${size} bytes`);
      followed.assertSees(dataFs(history(1)), 1);
      assert.deepEqual(await followed.write(history(1, 2)), [{ kind: "grown", lastTid: tidAt(2) }]);
    }
  }
});

Deno.test("a voted transaction that is taken away, or followed by another in its place, was never seen", async () => {
  const followed = await Followed.open([...history(1), voted(2)]);
  followed.assertSees(dataFs(history(1)), 1);
  assert.deepEqual(await followed.write(history(1)), []);
  assert.deepEqual(await followed.write([...history(1), voted(3)]), []);
  // The same length, at the same place, under another tid.
  assert.deepEqual(await followed.write([...history(1), voted(4)]), []);
  assert.deepEqual(await followed.write(history(1, 4)), [{ kind: "grown", lastTid: tidAt(4) }]);
  followed.assertSees(dataFs(history(1, 4)), 4);
});

Deno.test("a cancelled transaction is passed over, at the end too", async () => {
  const cancelled: TransactionDescription = { ...history(2)[0]!, status: "u" };
  const followed = await Followed.open(history(1));
  assert.deepEqual(await followed.write([...history(1), cancelled]), []);
  followed.assertSees(dataFs([...history(1), cancelled]), 1);
  assert.deepEqual(followed.seen, [tidAt(1)]);
  const opened = await Followed.open([...history(1), cancelled]);
  opened.assertSees(dataFs([...history(1), cancelled]), 1);
  assert.deepEqual(await opened.write([...history(1), cancelled, ...history(3)]), [
    { kind: "grown", lastTid: tidAt(3) },
  ]);
});

Deno.test("after a pack the new file is followed, with the old one kept or not", async () => {
  for (const keepAs of [undefined, `${PATH}.old`]) {
    const followed = await Followed.open(history(1, 2, 3));
    const held = followed.file.view.generation.hold();
    const now = [...packed(2), ...history(3)];
    assert.deepEqual(await followed.replace(dataFs(now).bytes, keepAs), [
      { kind: "replaced", lastTid: tidAt(3) },
    ]);
    followed.assertSees(dataFs(now), 3);
    assert.equal(followed.file.view.generation.number, 1);
    assert.deepEqual(await followed.write([...now, ...history(4)]), [{ kind: "grown", lastTid: tidAt(4) }]);
    // Whoever is still reading the old one may go on.
    assert.equal(held.file.size(), dataFs(history(1, 2, 3)).end);
    held.release();
    assert.throws(() => held.file.size());
  }
});

Deno.test("what was committed before the swap of a pack is seen in the old file first", async () => {
  const followed = await Followed.open(history(1, 2));
  followed.disk.put(PATH, dataFs(history(1, 2, 3)).bytes);
  assert.deepEqual(await followed.replace(dataFs([...packed(2), ...history(3, 4)]).bytes), [
    { kind: "grown", lastTid: tidAt(3) },
    { kind: "replaced", lastTid: tidAt(4) },
  ]);
  followed.assertSees(dataFs([...packed(2), ...history(3, 4)]), 4);
});

Deno.test("the last transaction may have been packed away", async () => {
  for (const now of [[...packed(1), ...history(5)], packed(1), packed(4, 5)]) {
    const followed = await Followed.open(history(1, 2, 3));
    const last = now.at(-1)!.tid;
    assert.deepEqual(await followed.replace(dataFs(now).bytes), [{ kind: "replaced", lastTid: last }]);
    assert.equal(followed.file.view.lastTid, last);
  }
});

Deno.test("while the path is absent the old file is followed on, and what comes back is compared", async () => {
  const followed = await Followed.open(history(1));
  followed.disk.rename(PATH, `${PATH}.old`);
  followed.disk.put(`${PATH}.old`, dataFs(history(1, 2)).bytes);
  assert.deepEqual(await followed.look(), [{ kind: "absent" }, { kind: "grown", lastTid: tidAt(2) }]);
  followed.disk.rename(`${PATH}.old`, PATH);
  assert.deepEqual(await followed.look(), [{ kind: "back" }]);
  assert.equal(followed.file.view.generation.number, 0);
  followed.disk.rename(PATH, `${PATH}.old`);
  await followed.look();
  followed.disk.put(PATH, dataFs(history(1)).bytes);
  assert.deepEqual(await followed.look(), [
    { kind: "back" },
    { kind: "rolled back", from: tidAt(2), to: tidAt(1) },
  ]);
});

Deno.test("a file that lost its tail is told by tids, in place and by replacement", async () => {
  const cases: [now: TransactionDescription[], to: bigint][] = [
    [history(1), tidAt(1)],
    [[], NO_TID],
    // Others have been committed where the lost ones were.
    [history(1, 4), tidAt(1)],
    [history(1, 4, 5, 6), tidAt(1)],
    [[...history(1, 2), ...history(4)], tidAt(2)],
    // Another history altogether.
    [history(8, 9), NO_TID],
    [[...packed(1), ...history(2)], tidAt(2)],
  ];
  for (const inPlace of [true, false]) {
    for (const [now, to] of cases) {
      const followed = await Followed.open(history(1, 2, 3));
      const changes = inPlace ? await followed.write(now) : await followed.replace(dataFs(now).bytes);
      assert.deepEqual(changes, [{ kind: "rolled back", from: tidAt(3), to }]);
      followed.assertSees(dataFs(now), [1, 2, 4, 6, 9].find((each) => tidAt(each) === now.at(-1)?.tid));
      assert.equal(followed.file.view.generation.number, 1);
      assert.deepEqual(followed.seen, [now.at(-1)?.tid ?? NO_TID]);
    }
  }
});

Deno.test("a restored backup that is as long, or has the same end, is told apart by its last tid", async () => {
  const followed = await Followed.open(history(1, 2, 3));
  assert.deepEqual(await followed.write(history(1, 2, 4)), [
    { kind: "rolled back", from: tidAt(3), to: tidAt(2) },
  ]);
  assert.deepEqual(await followed.replace(dataFs(history(1, 2, 4)).bytes), [
    { kind: "replaced", lastTid: tidAt(4) },
  ]);
});

Deno.test("a file that is being copied over is followed through every length, and is whole in the end", async () => {
  const target = dataFs(history(1, 2, 3, 4));
  for (const step of [1, 7, 100]) {
    const followed = await Followed.open(history(1, 2, 3));
    for (let size = 0; size < target.end; size += step) {
      followed.disk.put(PATH, target.bytes.slice(0, size));
      await followed.file.refresh();
      // The file that was seen before is gone: until its magic is back nothing new is seen.
      if (size >= FIRST_POSITION) {
        const { end } = followed.file.view;
        const ends = [FIRST_POSITION, ...target.transactions.map((each) => each.end)];
        assert.equal(end, ends.findLast((each) => each <= size), `${size} bytes`);
      }
    }
    followed.disk.put(PATH, target.bytes);
    await followed.file.refresh();
    followed.assertSees(target, 4);
  }
});

Deno.test("a replacement that is no FileStorage, or damaged, is told once, and what was seen stays", async () => {
  const damaged = dataFs([...history(1), { ...history(3)[0]!, damage: { trailer: 9n } }, ...history(4, 5)]);
  for (const bytes of [new TextEncoder().encode("something else"), damaged.bytes]) {
    const followed = await Followed.open(history(1, 2));
    const before = followed.file.view;
    const changes = await followed.replace(bytes);
    assert.deepEqual(changes.map(({ kind }) => kind), ["unreadable"]);
    assert.equal(followed.file.view, before);
    assert.equal(before.generation.file.size(), dataFs(history(1, 2)).end);
    assert.deepEqual(await followed.replace(dataFs(history(1, 2)).bytes), [
      { kind: "replaced", lastTid: tidAt(2) },
    ]);
  }
});

Deno.test("damage at the end is told once for each place, and nothing behind it is seen", async () => {
  const followed = await Followed.open(history(1));
  const zeros = await followed.write(history(1), new Uint8Array(100));
  assert.deepEqual(zeros.map(({ kind }) => kind), ["unreadable"]);
  assert.deepEqual(await followed.write(history(1), new Uint8Array(200)), []);
  const next = await followed.write(history(1, 2), new Uint8Array(200));
  assert.deepEqual(next.map(({ kind }) => kind), ["grown", "unreadable"]);
  followed.assertSees(dataFs(history(1, 2)), 2);
});

Deno.test("a last transaction that a power loss has left without its tid does not make the file an empty one", async () => {
  const { bytes, transactions } = dataFs(history(1, 2, 3));
  bytes.fill(0, transactions[2]!.position, transactions[2]!.position + 8);
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  const file = await FollowedFile.open(disk, PATH, noPause);
  assert.deepEqual([file.view.lastTid, file.view.end], [tidAt(2), transactions[1]!.end]);
  file.close();
});

Deno.test("an unfinished end is found from the index, and without one by walking through the file", async () => {
  const transactions = history(...Array.from({ length: 5000 }, (_, at) => at + 1));
  const built = dataFs([...transactions, voted(5001)]);
  const readBytes = async (savedAfter: number | undefined, indexBytes?: Uint8Array) => {
    const disk = new MemoryDisk();
    if (savedAfter !== undefined) {
      disk.put(PATH, dataFs(transactions.slice(0, savedAfter)).bytes);
      await using storage = await Storage.open(disk, PATH);
      await storage.saveIndex();
    }
    if (indexBytes !== undefined) disk.put(`${PATH}.index`, indexBytes);
    disk.put(PATH, built.bytes);
    disk.performed.length = 0;
    const file = await FollowedFile.open(disk, PATH, noPause);
    assert.equal(file.view.end, built.transactions[4999]!.end);
    assert.equal(file.view.lastTid, tidAt(5000));
    return disk.performed.filter(({ operation }) => operation === "read").length;
  };
  const without = await readBytes(undefined);
  const withIndex = await readBytes(4999);
  assert(withIndex < without, `${withIndex} reads with an index, ${without} without`);
  // Indexes that do not fit are no help and no harm.
  await readBytes(undefined, new TextEncoder().encode("nonsense"));
  await readBytes(undefined, new Uint8Array([0x80, 3, 0x4d, 0x99, 1, 0x2e, 0x80, 3, 0x4e, 0x2e])); // 409: amid
  await readBytes(undefined, new Uint8Array([0x80, 3, 0x4a, 0xff, 0xff, 0xff, 0x7f, 0x2e])); // beyond the end
});

Deno.test("transactions behind one that is not finished do not count, when opened and when followed", async () => {
  // A replica's own file while a run is being appended to it.
  const run = [...history(1), voted(2), ...history(3, 4)];
  const opened = await Followed.open(run);
  opened.assertSees(dataFs(history(1)), 1);
  assert.deepEqual(await opened.write(history(1, 2, 3, 4)), [{ kind: "grown", lastTid: tidAt(4) }]);
  const followed = await Followed.open(history(1));
  assert.deepEqual(await followed.write(run), []);
  const replaced = await Followed.open(history(1));
  assert.deepEqual(await replaced.replace(dataFs(run).bytes), [{ kind: "replaced", lastTid: tidAt(1) }]);
  replaced.assertSees(dataFs(history(1)), 1);
});

Deno.test("a database stored as data at the very end of what is written does not fool the follower", async () => {
  const inner = dataFs(history(7, 8)).bytes;
  const outer = dataFs([...history(1), { tid: tidAt(2), records: [{ oid: 1n, data: inner }] }]);
  const disk = new MemoryDisk();
  disk.put(PATH, outer.bytes.slice(0, outer.end - 8)); // the file ends where the inner one ends
  const file = await FollowedFile.open(disk, PATH, noPause);
  assert.equal(file.view.lastTid, tidAt(1));
  assert.equal(file.view.end, outer.transactions[0]!.end);
});

Deno.test("what cannot be followed is refused at once", async () => {
  const disk = new MemoryDisk();
  disk.put("/data/text", new TextEncoder().encode("no database"));
  const open = (path: string) => FollowedFile.open(disk, path, noPause);
  await assert.rejects(open(PATH), NotFoundError);
  await assert.rejects(open("/data"), UsageError);
  await assert.rejects(open("/data/text"), UsageError);
});

Deno.test("a file of Python 2 can be followed", async () => {
  const disk = new MemoryDisk();
  const built = dataFs(history(1), { magic: "FS21" });
  disk.put(PATH, built.bytes);
  const file = await FollowedFile.open(disk, PATH, noPause);
  assert.equal(file.view.end, built.end);
});

Deno.test("failures of the disk are thrown, and the next look goes on", async () => {
  const now = dataFs([...packed(2), ...history(3, 4)]).bytes;
  for (const operation of ["open", "read", "sync"] as const) {
    for (let nth = 1;; nth++) {
      const followed = await Followed.open(history(1, 2));
      followed.disk.put(PATH, dataFs(history(1, 2, 3)).bytes);
      followed.disk.put(`${PATH}.pack`, now);
      followed.disk.rename(`${PATH}.pack`, PATH);
      followed.disk.performed.length = 0;
      followed.disk.fail({ operation, nth });
      const failed = await followed.file.refresh().then(() => false, (error) => {
        assert(error instanceof DiskError, `${error}`);
        return true;
      });
      // Whoever subscribed has seen as much as there is to see.
      assert.equal(followed.seen.at(-1) ?? tidAt(2), followed.file.view.lastTid, `${operation} ${nth}`);
      if (!failed) break;
      await followed.file.refresh();
      assert.equal(followed.file.view.lastTid, tidAt(4), `${operation} ${nth}`);
      assert.equal(followed.seen.at(-1), tidAt(4));
    }
  }
});
