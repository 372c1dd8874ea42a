/** `--missing-blobs mark`: what a source has no file for is missing at the replica, too, and goes on being told. */
import assert from "node:assert/strict";
import { DiskError, DiskFullError } from "../../lib/errors.ts";
import { run } from "../../lib/cli/mod.ts";
import { BlobDirectory, type Finding, MissingBlobs, Verification } from "../../lib/filestorage/mod.ts";
import { ScriptedHost } from "../cli/scripted_host.ts";
import { dataFs } from "../kit/data_fs.ts";
import { latin1 } from "../kit/hex.ts";
import type { MemoryDisk } from "../kit/memory_disk.ts";
import { startPrimary, startSecondary } from "../kit/node.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { sceneWith, tidText } from "./native_kit.ts";
import { COPY, HERE, ORIGINAL, type Scene } from "./scene.ts";

const BLOB = latin1("\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.");
const TID = 0x036c_9000_0000_0001n;
const HISTORY = [
  { tid: TID, records: [{ oid: 0n, data: "root" }] },
  { tid: TID + 1n, records: [{ oid: 7n, data: BLOB }, { oid: 8n, data: BLOB }] },
  { tid: TID + 2n, records: [{ oid: 7n, data: BLOB }] },
];
const FILE = dataFs(HISTORY);
const HERE_IS = latin1("the content");
const SOURCE_BLOBS = "/source/blobs";
const COPY_BLOBS = "/copy/blobs";
const LIST = `${COPY}.missing-blobs`;
const LINES = `0x07 0x${tidText(TID + 1n)}\n0x07 0x${tidText(TID + 2n)}\n`;

function nameOf(oid: number, tid: bigint): string {
  return `${"0x00/".repeat(7)}0x0${oid}/0x${tidText(tid)}.blob`;
}

/** A source that has the file of but one of its three blobs. */
function scene(): Scene {
  const scene = sceneWith(FILE.bytes);
  scene.disk.put(`${SOURCE_BLOBS}/.layout`, latin1("bushy"));
  scene.disk.put(`${SOURCE_BLOBS}/${nameOf(8, TID + 1n)}`, HERE_IS);
  scene.disk.addDirectory(COPY_BLOBS);
  return scene;
}

const PRIMARY = { blobs: "replicate", blobDir: SOURCE_BLOBS } as const;
const SECONDARY = {
  path: COPY,
  replicateFrom: HERE,
  blobs: "replicate",
  blobDir: COPY_BLOBS,
  protocol: "native",
  missingBlobs: "mark",
} as const;

/** Makes the copy, with holes. */
async function copy(scene: Scene): Promise<void> {
  await using _primary = await scene.startPrimary(PRIMARY);
  await using secondary = await startSecondary(SECONDARY, scene);
  await secondary.waitForTid(TID + 2n);
}

async function verify(disk: MemoryDisk, blobDir?: string): Promise<Finding[]> {
  using verification = Verification.open(disk, COPY);
  return await Array.fromAsync(verification.findings({ blobDir }));
}

Deno.test("a replica that marks what its source lacks has all records, the other blobs, and a list", async () => {
  const all = scene();
  const { disk } = all;
  await using _primary = await all.startPrimary(PRIMARY);
  await using secondary = await startSecondary(SECONDARY, all);
  await secondary.waitForTid(TID + 2n);
  assertSameBytes(disk.bytes(COPY), FILE.bytes);
  assertSameBytes(disk.bytes(`${COPY_BLOBS}/${nameOf(8, TID + 1n)}`), HERE_IS);
  assert.equal(new TextDecoder().decode(disk.bytes(LIST)), LINES);
  assert.equal(secondary.node.status().missingBlobs, 2);
  const told = secondary.log.matching(
    /^here:5000 has no file for blob 0x0\d of transaction .* lists the blob$/,
  );
  assert.equal(told.length, 2);
});

Deno.test("what the source has packed away meanwhile is not marked as missing", async () => {
  const all = scene();
  const { disk } = all;
  disk.put(`${SOURCE_BLOBS}/${nameOf(7, TID + 2n)}`, HERE_IS);
  const packed = dataFs([
    { tid: TID, status: "p", records: [{ oid: 0n, data: "root" }] },
    { tid: TID + 1n, status: "p", records: [{ oid: 8n, data: BLOB }] },
    { tid: TID + 2n, records: [{ oid: 7n, data: BLOB }] },
  ]).bytes;
  const openRead = disk.openRead.bind(disk);
  let packs = 0;
  disk.openRead = (path) => {
    if (path.endsWith(nameOf(7, TID + 1n)) && packs++ === 0) {
      disk.put("/source/Data.fs.pack", packed);
      disk.rename("/source/Data.fs.pack", "/source/Data.fs");
    }
    return openRead(path);
  };
  await using _primary = await all.startPrimary(PRIMARY);
  await using secondary = await startSecondary(SECONDARY, all);
  await secondary.log.waitFor(/connecting again/);
  all.clock.advance(60_000);
  await secondary.waitForTid(TID + 2n);
  assert.equal(packs, 1);
  assert.equal(secondary.node.status().missingBlobs, 0);
  assert.deepEqual(disk.status(LIST), undefined);
});

Deno.test("it goes on being told, also by a process that marks nothing, until the files are there", async () => {
  const all = scene();
  await copy(all);
  {
    await using again = await startSecondary({ ...SECONDARY, missingBlobs: "fail" }, all);
    assert.equal(again.node.status().missingBlobs, 2);
    all.disk.put(`${COPY_BLOBS}/${nameOf(7, TID + 1n)}`, HERE_IS);
    assert.equal(again.node.status().missingBlobs, 1);
  }
  {
    await using again = await startSecondary(SECONDARY, all);
    assert.equal(again.node.status().missingBlobs, 1);
    assert.equal(new TextDecoder().decode(all.disk.bytes(LIST)), LINES.split("\n")[1] + "\n");
  }
  all.disk.put(`${COPY_BLOBS}/${nameOf(7, TID + 2n)}`, HERE_IS);
  await using again = await startSecondary(SECONDARY, all);
  assert.equal(again.node.status().missingBlobs, 0);
  assert.equal(all.disk.status(LIST), undefined);
});

Deno.test("verify tells what is on the list, with the blob directory and without", async () => {
  const all = scene();
  await copy(all);
  assert.deepEqual(await verify(all.disk), [{ kind: "blobs-marked", blobs: 2, path: LIST }]);
  const kinds = (findings: Finding[]) => findings.map((each) => [each.kind, "marked" in each && each.marked]);
  assert.deepEqual(kinds(await verify(all.disk, COPY_BLOBS)), [["blob-missing", true], [
    "blob-missing",
    true,
  ]]);
  all.disk.remove(`${COPY_BLOBS}/${nameOf(8, TID + 1n)}`);
  all.disk.put(`${COPY_BLOBS}/${nameOf(7, TID + 1n)}`, HERE_IS);
  const found = kinds(await verify(all.disk, COPY_BLOBS)).filter(([kind]) => kind === "blob-missing");
  assert.deepEqual(found, [["blob-missing", false], ["blob-missing", true]]);
});

Deno.test("holes travel on only to who marks them, too", async () => {
  const all = scene();
  await copy(all);
  const { bytes } = FILE;
  await using _primary = await startPrimary(
    { path: COPY, replicateTo: HERE, blobs: "replicate", blobDir: COPY_BLOBS },
    all,
  );
  const next = { ...SECONDARY, path: "/copy/Next.fs", blobDir: "/copy/next" };
  all.disk.addDirectory("/copy/next");
  {
    await using refusing = await startSecondary({ ...next, missingBlobs: "fail" }, all);
    await refusing.log.waitFor(/object 0x07 .*its file is missing/);
    assert.equal(refusing.lastTid, TID);
  }
  await using marking = await startSecondary(next, all);
  await marking.waitForTid(TID + 2n);
  assertSameBytes(all.disk.bytes("/copy/Next.fs"), bytes);
  assert.equal(new TextDecoder().decode(all.disk.bytes("/copy/Next.fs.missing-blobs")), LINES);
});

Deno.test("what a pack drops is taken off the list, in a running node and without one", async () => {
  const all = scene();
  const { disk } = all;
  disk.put(`${SOURCE_BLOBS}/${nameOf(7, TID + 3n)}`, HERE_IS);
  disk.put(ORIGINAL, dataFs([...HISTORY, { tid: TID + 3n, records: [{ oid: 7n, data: BLOB }] }]).bytes);
  {
    await using _primary = await all.startPrimary(PRIMARY);
    await using secondary = await startSecondary(SECONDARY, all);
    await secondary.waitForTid(TID + 3n);
    assert.equal(secondary.node.status().missingBlobs, 2);
    await secondary.node.pack({
      stop: TID + 2n,
      findReferences: undefined,
      keepOld: true,
      signal: new AbortController().signal,
      warn: (message) => assert.fail(message),
    });
    assert.equal(secondary.node.status().missingBlobs, 1);
    assert.equal(new TextDecoder().decode(disk.bytes(LIST)), LINES.split("\n")[1] + "\n");
  }
  const host = new ScriptedHost(disk);
  const options = ["--no-gc", "--blob-dir", COPY_BLOBS, "--ignore-secondaries"];
  assert.equal(await run(["pack", COPY, ...options], host), 0, host.written.err);
  assert.equal(disk.status(LIST), undefined);
});

Deno.test("what is rewound is not on the list when the replica has grown again", async () => {
  const all = scene();
  const { disk } = all;
  await using _primary = await all.startPrimary(PRIMARY);
  await using secondary = await startSecondary({ ...SECONDARY, rewindLimit: 10 }, all);
  await secondary.waitForTid(TID + 2n);
  const others = [...HISTORY.slice(0, 2), { tid: TID + 5n, records: [{ oid: 0n, data: "other" }] }];
  disk.put("/source/Data.fs.restored", dataFs(others).bytes);
  disk.rename("/source/Data.fs.restored", ORIGINAL);
  await secondary.log.waitFor(/connecting again/);
  all.clock.advance(60_000);
  await secondary.log.waitFor(/^Rewound /);
  await secondary.waitForTid(TID + 5n);
  assert.equal(secondary.node.status().missingBlobs, 1);
  assert.equal(new TextDecoder().decode(disk.bytes(LIST)), LINES.split("\n")[0] + "\n");
});

Deno.test("whatever fails in writing the list, trying again writes it whole, once", async () => {
  const keys = [{ oid: 7n, tid: TID + 1n }, { oid: 7n, tid: TID + 2n }];
  for (const error of ["io", "full"] as const) {
    for (const operation of ["create", "write", "sync", "syncDirectory"] as const) {
      const { disk } = scene();
      const directory = await BlobDirectory.prepare(disk, COPY_BLOBS);
      const list = await MissingBlobs.open(disk, COPY, directory, TID + 2n);
      disk.fail({ operation, error, written: 5 });
      await assert.rejects(list.add(keys), error === "full" ? DiskFullError : DiskError);
      await list.add(keys);
      await list.add(keys);
      assert.equal(new TextDecoder().decode(disk.bytes(LIST)), LINES);
      disk.put(LIST, disk.bytes(LIST).slice(0, -3));
      const torn = await MissingBlobs.open(disk, COPY, directory, TID + 2n);
      assert.equal(torn.count(directory), 1, "a line that is not whole says nothing");
      const earlier = await MissingBlobs.open(disk, COPY, directory, TID);
      assert.equal(
        earlier.count(directory),
        0,
        "what belongs to transactions that do not count says nothing",
      );
    }
  }
});
