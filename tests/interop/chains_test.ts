/** Real zc.zrs nodes before, behind and between ours. */
import assert from "node:assert/strict";
import { addressOf, startPrimary, startSecondary } from "../kit/node.ts";
import { OpenCheck, peerTest, ZodbWriter, ZrsPrimary, ZrsSecondary } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";
import { randomSteps, take } from "./random_history.ts";
import { assertSameDatabase, assertSameFile } from "./sameness.ts";

/** Everything that a zc.zrs primary sends in its own words: metadata, undos, records without data, big records. */
async function writeOfEverything(writer: ZodbWriter): Promise<string> {
  await writer.commit([["a", 100], ["b", "text"]], {
    user: "bob",
    description: "né 日本 😀",
    extension: { k: 1, "naïve": ["é", 2.5, null, true, { deep: [1, [2], {}] }], big: 2 ** 40, negative: -3 },
  });
  const many = Object.fromEntries(Array.from({ length: 1_200 }, (_, i) => [`key ${i}`, i]));
  await writer.commit([["a", 1_000_000], ["c", 3 * 1024 * 1024]], { extension: many });
  await writer.commitMany({ count: 20, size: 300, objects: 5, keys: 12 });
  await writer.undo([1]);
  await writer.undo([1], { description: "undo of an undo" });
  await writer.undo([1], { description: "undo of an undo of an undo" });
  const oid = "0000000000000099";
  await writer.store([{ records: [{ oid, text: "one" }] }]);
  await writer.undo([1], { description: "undo of a creation" });
  await writer.undo([1], { description: "creation again" });
  await writer.store([{ records: [{ oid, delete: true }] }]);
  await writer.undo([1]);
  return (await writer.undo([3, 4], { description: "two at once" })).tid;
}

peerTest("our secondary copies a zc.zrs primary byte by byte, live and late", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const [source, live, late] = [
    directory.join("Data.fs"),
    directory.join("live.fs"),
    directory.join("late.fs"),
  ];
  await using writer = await ZodbWriter.start("zodb55", { path: source, replicateTo: "127.0.0.1:0" });
  await using follows = await startSecondary({ path: live, replicateFrom: writer.address, keepAliveMs: 20 });
  const tid = await writeOfEverything(writer);
  await using catchesUp = await startSecondary({ path: late, replicateFrom: writer.address });
  await follows.waitForTid(tid);
  await catchesUp.waitForTid(tid);
  await assertSameFile(live, source);
  await assertSameFile(late, source);
  assert.deepEqual([...follows.log.complaints(), ...catchesUp.log.complaints()], []);
});

peerTest("a zc.zrs secondary copies our primary byte by byte, live and late", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const [source, live, late] = [
    directory.join("Data.fs"),
    directory.join("live.fs"),
    directory.join("late.fs"),
  ];
  await using writer = await ZodbWriter.start("zodb55", { path: source });
  await using primary = await startPrimary({ path: source });
  await using follows = await ZrsSecondary.start({
    path: live,
    replicateFrom: primary.address,
    keepAliveDelay: 1,
  });
  const tid = await writeOfEverything(writer);
  await using catchesUp = await ZrsSecondary.start({ path: late, replicateFrom: primary.address });
  await follows.waitFor(tid);
  await catchesUp.waitFor(tid);
  await follows.close();
  await catchesUp.close();
  await assertSameFile(live, source);
  await assertSameFile(late, source);
  assert.deepEqual(primary.log.complaints(), []);
});

peerTest("Python, ours, Python: each has the same file, over Unix sockets too", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const path = (name: string) => directory.join(name);
  await using writer = await ZodbWriter.start("zodb55", {
    path: path("Data.fs"),
    replicateTo: path("first"),
  });
  await using ours = await startSecondary({
    path: path("ours.fs"),
    replicateFrom: writer.address,
    replicateTo: addressOf(path("second")),
  });
  await using last = await ZrsSecondary.start({ path: path("last.fs"), replicateFrom: ours.address });
  const tid = await writeOfEverything(writer);
  const end = await last.waitFor(tid);
  assert.deepEqual(await writer.status(), end);
  await last.close();
  await assertSameFile(path("ours.fs"), path("Data.fs"));
  await assertSameFile(path("last.fs"), path("Data.fs"));
});

peerTest("ours, Python, ours, ours: each has the same file", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const path = (name: string) => directory.join(name);
  await using writer = await ZodbWriter.start("zodb55", { path: path("Data.fs") });
  await using primary = await startPrimary({ path: path("Data.fs") });
  await using python = await ZrsSecondary.start({
    path: path("python.fs"),
    replicateFrom: primary.address,
    replicateTo: "127.0.0.1:0",
  });
  await using third = await startSecondary({
    path: path("third.fs"),
    replicateFrom: python.address,
    replicateTo: addressOf(path("third")),
  });
  await using fourth = await startSecondary({ path: path("fourth.fs"), replicateFrom: third.address });
  const tid = await writeOfEverything(writer);
  await fourth.waitForTid(tid);
  for (const name of ["python.fs", "third.fs", "fourth.fs"]) {
    await assertSameFile(path(name), path("Data.fs"));
  }
  assert.deepEqual(primary.node.status().peers.map(({ protocol }) => protocol), ["zrs2.0"]);
  assert.equal(third.node.status().source?.protocol, "zrs2.1");
  assert.equal(fourth.node.status().source?.protocol, "native");
  assert.deepEqual([...third.log.complaints(), ...fourth.log.complaints()], []);
  await python.close();
});

for (const duplicates of [false, true]) {
  const what = duplicates ? "an object several times in a transaction" : "an object once in a transaction";
  peerTest(`random histories with ${what} pass between zc.zrs and us`, ["zodb55"], async () => {
    await using directory = await TempDirectory.make();
    const path = (name: string) => directory.join(name);
    await using writer = await ZodbWriter.start("zodb55", {
      path: path("Data.fs"),
      replicateTo: "127.0.0.1:0",
    });
    await using primary = await startPrimary({ path: path("Data.fs") });
    await using ours = await startSecondary({ path: path("ours.fs"), replicateFrom: writer.address });
    await using python = await ZrsSecondary.start({
      path: path("python.fs"),
      replicateFrom: primary.address,
    });
    const { tid } = await take(randomSteps({ seed: 4, count: 300, duplicates }), writer);
    await ours.waitForTid(tid);
    await python.waitFor(tid);
    await python.close();
    await using zodb = await OpenCheck.start("zodb55");
    for (const copy of ["ours.fs", "python.fs"]) {
      if (duplicates) await assertSameDatabase(zodb, path(copy), path("Data.fs"), { links: false });
      else await assertSameFile(path(copy), path("Data.fs"));
    }
  });
}

peerTest(
  "a secondary comes back whenever its zc.zrs primary has been away, and the other way round",
  ["zodb55"],
  async () => {
    await using directory = await TempDirectory.make();
    const path = (name: string) => directory.join(name);
    await using writer = await ZodbWriter.start("zodb55", {
      path: path("Data.fs"),
      replicateTo: "127.0.0.1:0",
    });
    await using ours = await startSecondary({ path: path("ours.fs"), replicateFrom: writer.address });
    await using primary = await startPrimary({ path: path("Data.fs") });
    await using python = await ZrsSecondary.start({
      path: path("python.fs"),
      replicateFrom: primary.address,
      reconnectDelay: 0.05,
    });
    const { tid } = await writer.commit([["a", 10]]);
    await ours.waitForTid(tid);
    await python.waitFor(tid);
    for (let i = 0; i < 3; i++) {
      await python.disconnect();
      const next = await writer.commit([["a", i]]);
      await python.waitFor(next.tid);
    }
    const { address } = writer;
    await writer.kill();
    await ours.log.waitFor(/closed the connection|Cannot (read|connect)/);
    await using offline = await ZodbWriter.start("zodb55", { path: path("Data.fs") });
    const end = await offline.commit([["a", 20]]);
    await offline.close();
    await using again = await ZrsPrimary.start({ path: path("Data.fs"), replicateTo: address });
    await ours.waitForTid(end.tid);
    assert.deepEqual(await python.waitFor(end.tid), end);
    await assertSameFile(path("ours.fs"), path("Data.fs"));
    await again.close();
    await python.close();
  },
);
