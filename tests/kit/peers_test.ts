import assert from "node:assert/strict";
import { OpenCheck, peerTest, ZodbWriter, ZrsPrimary, ZrsSecondary } from "./peers.ts";
import { assertSameHistory } from "./history.ts";
import { PeerError } from "./peer.ts";
import { TempDirectory } from "./temp.ts";

peerTest(
  "a Python primary and secondary write byte-identical files, also down a chain",
  ["zodb55"],
  async () => {
    await using directory = await TempDirectory.make();
    const path = (name: string) => directory.join(name);
    await using writer = await ZodbWriter.start("zodb55", {
      path: path("primary.fs"),
      blobDir: path("primary-blobs"),
      replicateTo: "127.0.0.1:0",
    });
    await writer.commit([["a", 100], ["b", "text"]], { user: "bob", description: "né", extension: { k: 1 } });
    await using near = await ZrsSecondary.start({
      path: path("near.fs"),
      blobDir: path("near-blobs"),
      replicateFrom: writer.address,
      replicateTo: path("socket"),
      keepAliveDelay: 1,
    });
    await using far = await ZrsSecondary.start({
      path: path("far.fs"),
      blobDir: path("far-blobs"),
      replicateFrom: near.address,
    });
    await writer.commitMany({ count: 10, size: 50, objects: 3, keys: 12 });
    await writer.commitBlobs([["blob", 100_000]]);
    await writer.undo([1]);
    await writer.undo([1], { description: "undo of an undo" });
    await writer.undo([4, 5], { description: "two at once" });
    const end = await writer.commit([["a", null]]);

    assert.deepEqual(await near.waitFor(end.tid), end);
    assert.deepEqual(await far.waitFor(end.tid), end);
    await far.close();
    await near.close();
    assert.deepEqual(await writer.close(), end);
    const written = await Deno.readFile(path("primary.fs"));
    assert.deepEqual(await Deno.readFile(path("near.fs")), written);
    assert.deepEqual(await Deno.readFile(path("far.fs")), written);

    await using zodb = await OpenCheck.start("zodb55");
    const [first, last] = [
      await zodb.check(path("primary.fs"), { blobDir: path("primary-blobs"), fsrefs: true }),
      await zodb.check(path("far.fs"), { blobDir: path("far-blobs") }),
    ];
    assert.equal(first.fstest, null);
    assert.equal(first.fsrefs, null);
    assertSameHistory(last.transactions ?? [], first.transactions ?? []);
  },
);

peerTest("a secondary comes back after its primary has gone and started again", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const path = directory.join("Data.fs");
  await using writer = await ZodbWriter.start("zodb55", { path, replicateTo: "127.0.0.1:0" });
  const { tid } = await writer.commit([["a", 10]]);
  await using secondary = await ZrsSecondary.start({
    path: directory.join("copy.fs"),
    replicateFrom: writer.address,
    reconnectDelay: 0.05,
  });
  await secondary.waitFor(tid);
  await writer.kill();
  await secondary.waitForLog(/Disconnected/);

  await using offline = await ZodbWriter.start("zodb55", { path });
  const end = await offline.commit([["a", 20]]);
  await offline.close();
  await using primary = await ZrsPrimary.start({ path, replicateTo: writer.address });
  assert.equal((await secondary.waitFor(end.tid)).size, end.size);
  await primary.close();
});

for (const environment of ["zodb55", "zodb6"] as const) {
  peerTest(`the writer does what its commands say (${environment})`, [environment], async () => {
    await using directory = await TempDirectory.make();
    const path = directory.join("Data.fs");
    await using writer = await ZodbWriter.start(environment, { path });
    const oid = "0020000000000001"; // beyond what a number holds exactly
    const { tids } = await writer.store([
      { tid: "0000000000000010", user: "u", records: [{ oid, text: "one" }, { oid, text: "two" }] },
      { tid: "0000000000000020", extension: { pickle: btoa("raw") }, records: [{ oid, size: 100 }] },
      { tid: "0000000000000030", status: "p", records: [{ oid, delete: true }] },
      { tid: "0000000000000040", records: [{ oid, dataTxn: "0000000000000010", text: "two" }] },
    ]);
    assert.deepEqual(tids, [0x10, 0x20, 0x30, 0x40].map((tid) => tid.toString(16).padStart(16, "0")));
    const history = await writer.history();
    assert.deepEqual(history.map((each) => each.records.length), [2, 1, 1, 1]);
    assert.deepEqual(history.map((each) => each.status), [" ", " ", "p", " "]);
    assert.equal(history[1]?.extension, btoa("raw"));
    assert.equal(history[1]?.records[0]?.length, 100);
    assert.equal(history[2]?.records[0]?.backPointer, 0);

    const before = await writer.status();
    const held = await writer.hold({ records: [{ oid, size: 1000 }] });
    assert.equal(held.size, before.size);
    assert.ok(Deno.statSync(path).size > before.size);
    await writer.abortHeld();
    assert.equal(Deno.statSync(path).size, before.size);
    await assert.rejects(writer.finishHeld(), PeerError);

    const empty = await writer.store([{ records: [] }]);
    assert.equal(empty.size > before.size, environment === "zodb6");
    const filled = await writer.fill({ transactions: 3, records: 5, size: 60, firstOid: "00000000000000aa" });
    assert.equal(filled.size, empty.size + 3 * (23 + 5 * (42 + 60) + 8));
    const undone = await writer.undo([1]);
    assert.equal((await writer.history()).at(-1)?.records[0]?.backPointer, 0);
    const packed = await writer.pack({ tid: undone.tid, gc: false });
    assert.ok(packed.size < undone.size);
    await writer.close();
  });

  peerTest(`a check tells a torn tail, a scan and an index (${environment})`, [environment], async () => {
    await using directory = await TempDirectory.make();
    const path = directory.join("Data.fs");
    await using writer = await ZodbWriter.start(environment, { path });
    const end = await writer.commit([["a", 100]]);
    await writer.hold({ records: [{ oid: "0000000000000001", size: 100 }] });
    await writer.kill();
    const torn = Deno.statSync(path).size;

    await using zodb = await OpenCheck.start(environment);
    const looked = await zodb.check(path, { transactions: false });
    assert.deepEqual([looked.size, looked.usedIndex, looked.savedTails], [end.size, false, []]);
    assert.match(looked.fstest ?? "", /checkpoint flag/);
    assert.equal(Deno.statSync(path).size, torn);

    const repaired = await zodb.check(path, { readOnly: false });
    assert.deepEqual([repaired.size, repaired.savedTails], [end.size, ["Data.fs.tr0"]]);
    assert.equal(Deno.statSync(path).size, end.size);
    const opened = await zodb.check(path);
    assert.deepEqual([opened.tid, opened.usedIndex, opened.fstest], [end.tid, true, null]);
    assert.equal(opened.transactions?.length, 2);
    await assert.rejects(zodb.check(directory.join("none.fs")), PeerError);
  });
}
