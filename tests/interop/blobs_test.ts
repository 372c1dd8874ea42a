/**
 * Blobs of real ZODB, from and to real ends: records and files arrive together; or the records stop a stream, or pass
 * without the files where that was asked for.
 */
import assert from "node:assert/strict";
import { ANY_PORT, startPrimary, startSecondary } from "../kit/node.ts";
import { type LogEnd, OpenCheck, peerTest, ZodbWriter, ZrsSecondary } from "../kit/peers.ts";
import { assertSameBlobs, blobFilesOf } from "../kit/blob_files.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { TempDirectory } from "../kit/temp.ts";
import { walk } from "../kit/walk.ts";
import { assertSameFile } from "./sameness.ts";

/** Commits, then blobs of all kinds of sizes and an undo of one, then a commit. @returns the ends before and after */
async function writeBlobs(writer: ZodbWriter): Promise<{ before: LogEnd; after: LogEnd }> {
  const before = await writer.commit([["a", 100]]);
  await writer.commitBlobs([["empty", 0], ["small", 10], ["block", 65_536], ["big", 1_000_000]]);
  await writer.commitBlobs([["small", 20]]);
  await writer.undo([1]);
  return { before, after: await writer.commit([["a", 200]]) };
}

peerTest(
  "the first blob of a zc.zrs primary ends the stream, and everything before is kept",
  ["zodb55"],
  async () => {
    await using directory = await TempDirectory.make();
    const path = (name: string) => directory.join(name);
    await using writer = await ZodbWriter.start("zodb55", {
      path: path("Data.fs"),
      blobDir: path("blobs"),
      replicateTo: "127.0.0.1:0",
      fsync: false,
    });
    await using secondary = await startSecondary({ path: path("copy.fs"), replicateFrom: writer.address });
    const { before } = await writeBlobs(writer);
    const { message } = await secondary.log.waitFor(/it is a blob, and there is no directory for blobs/);
    assert.match(message, /give --blob-dir to replicate blobs, or --blobs none/);
    await secondary.log.waitFor(/3 connections in a row .* What follows there cannot be taken/);
    await secondary.stop();
    const source = await Deno.readFile(path("Data.fs"));
    assertSameBytes(await Deno.readFile(path("copy.fs")), source.slice(0, before.size));
  },
);

peerTest("with --blobs none our copy of a zc.zrs primary has all records", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const path = (name: string) => directory.join(name);
  await using writer = await ZodbWriter.start("zodb55", {
    path: path("Data.fs"),
    blobDir: path("blobs"),
    replicateTo: "127.0.0.1:0",
    fsync: false,
  });
  await using secondary = await startSecondary({
    path: path("copy.fs"),
    replicateFrom: writer.address,
    blobs: "none",
  });
  const { after } = await writeBlobs(writer);
  await secondary.waitForTid(after.tid);
  await assertSameFile(path("copy.fs"), path("Data.fs"));
});

peerTest(
  "by zrs2 our primary ends the stream at the first blob, and says why to copies of both kinds",
  ["zodb55"],
  async () => {
    await using directory = await TempDirectory.make();
    const path = (name: string) => directory.join(name);
    await using writer = await ZodbWriter.start("zodb55", {
      path: path("Data.fs"),
      blobDir: path("blobs"),
      fsync: false,
    });
    const { before } = await writeBlobs(writer);
    await using primary = await startPrimary({ path: path("Data.fs") });
    await using ours = await startSecondary({
      path: path("ours.fs"),
      replicateFrom: primary.address,
      protocol: "zrs2",
    });
    await using python = await ZrsSecondary.start({
      path: path("python.fs"),
      replicateFrom: primary.address,
      fsync: false,
    });
    const reason =
      /Cannot send object .* it is a blob, .* start the source with --blob-dir, or both ends with --blobs none/;
    assert.match((await ours.log.waitFor(/cannot go on behind/)).message, reason);
    assert.match((await python.waitForLog(/refused: /)).message, reason);
    await primary.log.waitFor(reason);
    assert.equal((await python.status()).tid, before.tid);
    await ours.stop();
    const source = await Deno.readFile(path("Data.fs"));
    assertSameBytes(await Deno.readFile(path("ours.fs")), source.slice(0, before.size));
  },
);

peerTest(
  "with --blobs none our primary sends all records to copies of both kinds",
  ["zodb55", "zodb6"],
  async () => {
    await using directory = await TempDirectory.make();
    const path = (name: string) => directory.join(name);
    await using writer = await ZodbWriter.start("zodb6", {
      path: path("Data.fs"),
      blobDir: path("blobs"),
      fsync: false,
    });
    await using primary = await startPrimary({ path: path("Data.fs"), blobs: "none" });
    const options = { replicateFrom: primary.address, blobs: "none" } as const;
    await using ours = await startSecondary({ path: path("ours.fs"), ...options });
    await using python = await ZrsSecondary.start({
      path: path("python.fs"),
      replicateFrom: primary.address,
      fsync: false,
    });
    const { after } = await writeBlobs(writer);
    await ours.waitForTid(after.tid);
    await python.waitFor(after.tid);
    await python.close();
    await assertSameFile(path("ours.fs"), path("Data.fs"));
    await assertSameFile(path("python.fs"), path("Data.fs"));
    await using zodb = await OpenCheck.start("zodb6");
    assert.equal((await zodb.check(path("ours.fs"))).fstest, null);
  },
);

for (const layout of ["bushy", "lawn"]) {
  peerTest(
    `a copy of a zc.zrs primary has its blobs, too, and ZODB loads them: ${layout}`,
    ["zodb55"],
    async () => {
      await using directory = await TempDirectory.make();
      const path = (name: string) => directory.join(name);
      await Deno.mkdir(path("blobs"));
      await Deno.writeTextFile(path("blobs/.layout"), layout);
      await using writer = await ZodbWriter.start("zodb55", {
        path: path("Data.fs"),
        blobDir: path("blobs"),
        replicateTo: "127.0.0.1:0",
        fsync: false,
      });
      await Deno.mkdir(path("copy"));
      await Deno.writeTextFile(path("copy/.layout"), layout);
      await using secondary = await startSecondary({
        path: path("copy.fs"),
        replicateFrom: writer.address,
        blobs: "replicate",
        blobDir: path("copy"),
      });
      const { after } = await writeBlobs(writer);
      await secondary.waitForTid(after.tid);
      await secondary.stop();
      await assertSameFile(path("copy.fs"), path("Data.fs"));
      await assertSameBlobs(path("copy"), path("blobs"));
      assert.equal((await blobFilesOf(path("copy"))).size, 6);
      await using zodb = await OpenCheck.start("zodb55");
      const { tid } = await zodb.check(path("copy.fs"), { readOnly: false, blobDir: path("copy") });
      assert.equal(tid, after.tid);
    },
  );
}

peerTest("a zc.zrs secondary gets our blobs, the empty one as well", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const path = (name: string) => directory.join(name);
  await using writer = await ZodbWriter.start("zodb55", {
    path: path("Data.fs"),
    blobDir: path("blobs"),
    fsync: false,
  });
  await using primary = await startPrimary({
    path: path("Data.fs"),
    blobs: "replicate",
    blobDir: path("blobs"),
  });
  await using python = await ZrsSecondary.start({
    path: path("python.fs"),
    blobDir: path("python"),
    replicateFrom: primary.address,
    fsync: false,
  });
  const { after } = await writeBlobs(writer);
  await python.waitFor(after.tid);
  await python.close();
  await assertSameFile(path("python.fs"), path("Data.fs"));
  await assertSameBlobs(path("python"), path("blobs"));
  assert([...(await blobFilesOf(path("python"))).values()].some(({ size }) => size === 0));
});

peerTest(
  "a zc.zrs secondary without a blob directory is refused by a source with blobs",
  ["zodb55"],
  async () => {
    await using directory = await TempDirectory.make();
    const path = (name: string) => directory.join(name);
    await using writer = await ZodbWriter.start("zodb55", {
      path: path("Data.fs"),
      blobDir: path("blobs"),
      fsync: false,
    });
    await using primary = await startPrimary({
      path: path("Data.fs"),
      blobs: "replicate",
      blobDir: path("blobs"),
    });
    await using python = await ZrsSecondary.start({
      path: path("python.fs"),
      replicateFrom: primary.address,
      fsync: false,
    });
    await writer.commit([["a", 100]]);
    const reason = /zrs2\.0 cannot carry: give the secondary a blob directory/;
    assert.match((await python.waitForLog(/refused: /)).message, reason);
    await primary.log.waitFor(reason);
    assert.equal((await python.status()).tid, "0".repeat(16));
  },
);

for (const protocol of ["native", "zrs2"] as const) {
  peerTest(
    `blobs travel along a chain of ours, to a zc.zrs secondary at its end: ${protocol}`,
    ["zodb55"],
    async () => {
      await using directory = await TempDirectory.make();
      const path = (name: string) => directory.join(name);
      await using writer = await ZodbWriter.start("zodb55", {
        path: path("Data.fs"),
        blobDir: path("blobs"),
        fsync: false,
      });
      await using primary = await startPrimary({
        path: path("Data.fs"),
        blobs: "replicate",
        blobDir: path("blobs"),
      });
      await using middle = await startSecondary({
        path: path("middle.fs"),
        replicateFrom: primary.address,
        replicateTo: ANY_PORT,
        blobs: "replicate",
        blobDir: path("middle"),
        protocol,
      });
      await using python = await ZrsSecondary.start({
        path: path("python.fs"),
        blobDir: path("python"),
        replicateFrom: middle.address,
        fsync: false,
      });
      const { after } = await writeBlobs(writer);
      await middle.waitForTid(after.tid);
      await python.waitFor(after.tid);
      await python.close();
      for (const copy of ["middle", "python"]) {
        await assertSameFile(path(`${copy}.fs`), path("Data.fs"));
        await assertSameBlobs(path(copy), path("blobs"));
      }
    },
  );
}

peerTest(
  "a packed source's blobs reach a new copy record by record and as they lie",
  ["zodb55"],
  async () => {
    await using directory = await TempDirectory.make();
    const path = (name: string) => directory.join(name);
    await using writer = await ZodbWriter.start("zodb55", {
      path: path("Data.fs"),
      blobDir: path("blobs"),
      fsync: false,
    });
    await using primary = await startPrimary({
      path: path("Data.fs"),
      blobs: "replicate",
      blobDir: path("blobs"),
    });
    const options = { replicateFrom: primary.address, blobs: "replicate", protocol: "native" } as const;
    // Its file lies otherwise once the source has been packed, so what follows comes record by record.
    await using old = await startSecondary({ path: path("old.fs"), blobDir: path("old"), ...options });
    const { after } = await writeBlobs(writer);
    await old.waitForTid(after.tid);
    await writer.pack();
    const { tid } = await writer.commitBlobs([["small", 30], ["new", 200_000]]);
    await old.waitForTid(tid);
    await using fresh = await startSecondary({ path: path("fresh.fs"), blobDir: path("fresh"), ...options });
    await fresh.waitForTid(tid);
    await assertSameFile(path("fresh.fs"), path("Data.fs"));
    await assertSameBlobs(path("fresh"), path("blobs"));
    const [kept, all] = [await blobFilesOf(path("blobs")), await blobFilesOf(path("old"))];
    assert(all.size > kept.size);
    for (const [name, { size }] of kept) assert.equal(all.get(name)?.size, size, name);
  },
);

peerTest(
  "a copy that shares the source's directory has all records, writes no blob, and ZODB loads them",
  ["zodb55"],
  async () => {
    await using directory = await TempDirectory.make();
    const path = (name: string) => directory.join(name);
    await using writer = await ZodbWriter.start("zodb55", {
      path: path("Data.fs"),
      blobDir: path("blobs"),
      fsync: false,
    });
    const { after } = await writeBlobs(writer);
    const stamps = async () =>
      await Promise.all((await walk(path("blobs"))).map(async (name) => {
        const { ino, ctime, mode } = await Deno.stat(path(`blobs/${name}`));
        return { name, ino, ctime, mode };
      }));
    const before = await stamps();
    const blobs = { blobs: "shared", blobDir: path("blobs") } as const;
    await using primary = await startPrimary({ path: path("Data.fs"), ...blobs });
    await using ours = await startSecondary({
      path: path("copy.fs"),
      replicateFrom: primary.address,
      ...blobs,
    });
    await ours.waitForTid(after.tid);
    assert.equal(ours.node.status().blobs, "shared");
    await ours.stop();
    await assertSameFile(path("copy.fs"), path("Data.fs"));
    assert.deepEqual(await stamps(), before);
    await using zodb = await OpenCheck.start("zodb55");
    const { tid } = await zodb.check(path("copy.fs"), { readOnly: false, blobDir: path("blobs") });
    assert.equal(tid, after.tid);
  },
);
