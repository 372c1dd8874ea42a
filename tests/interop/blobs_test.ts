/** Blobs of real ZODB: their records stop a stream, or pass without the files where that was asked for. */
import assert from "node:assert/strict";
import { startPrimary, startSecondary } from "../kit/node.ts";
import { type LogEnd, OpenCheck, peerTest, ZodbWriter, ZrsSecondary } from "../kit/peers.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { TempDirectory } from "../kit/temp.ts";
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
    const { message } = await secondary.log.waitFor(/is a blob, and blobs are not replicated yet/);
    assert.match(message, /start with --blobs none/);
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
    const reason = /Cannot send object .* it is a blob, .* start both ends with --blobs none/;
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
