/** Files that real ZODB wrote, restored from nothing: the same bytes, and the same to real ZODB. */
import assert from "node:assert/strict";
import { Storage } from "../../lib/filestorage/mod.ts";
import { HostDisk } from "../../lib/host/disk.ts";
import type { EnvironmentName } from "../kit/environments.ts";
import { OpenCheck, peerTest, ZodbWriter } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";
import { replay } from "./replay.ts";

/** Restores the file at `path` and asserts that the copy is the same, with runs of several sizes. */
async function assertRestored(directory: TempDirectory, path: string, check: OpenCheck): Promise<void> {
  const source = Deno.readFileSync(path);
  for (const runBytes of [300, 20_000, 1 << 20]) {
    const copy = directory.join(`copy-${runBytes}.fs`);
    {
      await using storage = await Storage.open(new HostDisk(), copy);
      await replay(source, storage, {
        bufferBytes: 1 << 10,
        runBytes: () => runBytes,
        partBytes: () => 30_000,
      });
      await storage.saveIndex();
    }
    assert.deepEqual(Deno.readFileSync(copy), source, `runs of ${runBytes} bytes`);
    const opened = await check.check(copy, { readOnly: false, transactions: false });
    assert.equal(opened.fstest, null);
    assert.equal(opened.size, source.length);
    assert.deepEqual(Deno.readFileSync(copy), source, "after Python opened it");
    for (const suffix of ["", ".index", ".lock", ".tmp"]) await Deno.remove(copy + suffix);
  }
}

for (const environment of ["zodb55", "zodb6"] satisfies EnvironmentName[]) {
  peerTest(`what ${environment} wrote is restored byte for byte`, [environment], async () => {
    await using directory = await TempDirectory.make();
    const path = directory.join("Data.fs");
    await using writer = await ZodbWriter.start(environment, { path });
    await using check = await OpenCheck.start(environment);

    await writer.commit([["a", 100], ["b", "text"], ["c", 50_000]], {
      user: "bob",
      description: "objects of all kinds",
      extension: { note: "kept", count: 3, nested: [1, 2.5, null, true] },
    });
    await writer.commit([["a", 200]]);
    await writer.undo([1]);
    await writer.undo([1], { description: "undo of the undo" });
    await writer.undo([1], { description: "a chain" });
    await writer.commit([["a", 10], ["d", 20]]);
    await writer.commit([["a", 11]]);
    await writer.undo([1, 2], { description: "two in one transaction: a twice" });
    await writer.commit([["b", null]]);
    await writer.commitMany({ count: 50, size: 300, objects: 3, keys: 40 });
    const { tids } = await writer.store([
      { records: [{ oid: "00000000000000aa", text: "created" }] },
      { records: [{ oid: "00000000000000aa", delete: true }] },
      { records: [] },
      { records: [{ oid: "fffffffffffffffe", size: 200_000 }] },
      { records: [{ oid: "00000000000000bb", text: "1" }, { oid: "00000000000000bb", text: "2" }] },
    ]);
    await writer.undo([tids[1]!], { description: "deletion undone" });
    const unfinished = await writer.undo([tids[0]!], { description: "creation undone" });
    await writer.undo([unfinished.tids[0]!], { description: "and redone" });
    await assertRestored(directory, path, check);

    // Again with a packed beginning that undone transactions behind it still refer to.
    const changed = await writer.commit([["a", 500]]);
    const packTo = await writer.commit([["a", 600], ["d", 5]]);
    await writer.undo([packTo.tid, changed.tid]);
    await writer.undo([packTo.tid]).catch(() => {}); // refused where it conflicts: as good
    await writer.pack({ tid: packTo.tid });
    const statuses = new Set((await writer.history()).map((transaction) => transaction.status));
    assert.deepEqual(statuses, new Set(["p", " "]));
    await assertRestored(directory, path, check);
  });
}
