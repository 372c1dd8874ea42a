/** Blobs of a copy that is brought up to date once: full disks, holes that were marked, and new copies. */
import assert from "node:assert/strict";
import { DiskFullError, UnavailableError } from "../../lib/errors.ts";
import { openFileSource, type SyncOptions } from "../../lib/replica/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { latin1 } from "../kit/hex.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { sceneWith, tidText } from "./native_kit.ts";
import { COPY, ORIGINAL, type Scene } from "./scene.ts";
import { syncFrom, TID } from "./sync_kit.ts";

const BLOB = latin1("\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.");
const SOURCE_BLOBS = "/source/blobs";
const COPY_BLOBS = "/copy/blobs";
const LIST = `${COPY}.missing-blobs`;

/** A revision of one of three blobs in each transaction. */
function history(from: number, to: number, packed = 0): TransactionDescription[] {
  return Array.from({ length: to - from }, (_, at) => ({
    tid: TID + BigInt(from + at),
    status: at < packed ? "p" as const : " " as const,
    records: [{ oid: 0n, data: `root ${from + at}` }, { oid: 1n + BigInt((from + at) % 3), data: BLOB }],
  }));
}

function pathOf(directory: string, at: number): string {
  return `${directory}/${"0x00/".repeat(7)}0x0${1 + at % 3}/0x${tidText(TID + BigInt(at))}.blob`;
}

function contentOf(at: number): Uint8Array {
  return new Uint8Array(1_000 * at).fill(at);
}

function sceneOf(descriptions: readonly TransactionDescription[], ...missing: number[]): Scene {
  const scene = sceneWith(dataFs(descriptions).bytes);
  scene.disk.put(`${SOURCE_BLOBS}/.layout`, latin1("bushy"));
  for (let at = 0; at < 12; at++) {
    if (!missing.includes(at)) scene.disk.put(pathOf(SOURCE_BLOBS, at), contentOf(at));
  }
  return scene;
}

async function sync(scene: Scene, options: Partial<SyncOptions> = {}) {
  const blobs = "replicate";
  return await syncFrom(
    scene,
    (ports) => openFileSource(ports, { path: ORIGINAL, blobs, blobDir: SOURCE_BLOBS }),
    { blobs, blobDir: COPY_BLOBS, ...options },
  );
}

function listOf({ disk }: Scene): string[] {
  return disk.status(LIST) === undefined
    ? []
    : new TextDecoder().decode(disk.bytes(LIST)).trimEnd().split("\n");
}

function lineOf(at: number): string {
  return `0x0${1 + at % 3} 0x${tidText(TID + BigInt(at))}`;
}

/** All blobs that the records need, whole, but for those; and nothing on its way. */
function assertBlobs({ disk }: Scene, from: number, to: number, ...missing: number[]): void {
  for (let at = from; at < to; at++) {
    const path = pathOf(COPY_BLOBS, at);
    if (missing.includes(at)) assert.equal(disk.status(path), undefined);
    else assertSameBytes(disk.bytes(path), contentOf(at), path);
  }
  assert.deepEqual(disk.paths().filter((path) => path.startsWith(`${COPY_BLOBS}/tmp/`)), []);
}

Deno.test("a disk that is full in the middle of a blob ends the run, and the next one goes on", async () => {
  const descriptions = history(0, 12);
  const scene = sceneOf(descriptions);
  const { disk } = scene;
  const used = disk.paths().reduce((sum, path) => sum + disk.bytes(path).length, 0);
  const file = dataFs(descriptions);
  let kept = 0;
  for (const room of [6_000, 20_000, 40_000]) {
    disk.capacity = used + room;
    const full = await sync(scene);
    assert.ok(full.failure instanceof DiskFullError, String(full.failure));
    const end = disk.status(COPY)?.size ?? 4;
    const transactions = file.transactions.filter((each) => each.end <= end).length;
    assert.ok(transactions >= kept);
    kept = transactions;
    if (end > 4) assertSameBytes(disk.bytes(COPY), file.bytes.subarray(0, file.transactions[kept - 1]!.end));
    for (let at = 0; at < kept; at++) assertSameBytes(disk.bytes(pathOf(COPY_BLOBS, at)), contentOf(at));
  }
  // What has come of blobs is kept, and gone on with.
  assert.ok(disk.paths().some((path) => path.endsWith(".part") && disk.bytes(path).length > 0));
  disk.capacity = Infinity;
  const { report } = await sync(scene);
  assert.equal(report?.transactions, 12 - kept);
  assertSameBytes(disk.bytes(COPY), file.bytes);
  assertBlobs(scene, 0, 12);
});

Deno.test("a blob that vanishes from the source ends the run before it; put back, it comes", async () => {
  const scene = sceneOf(history(0, 12), 5);
  const failed = await sync(scene);
  assert.ok(failed.failure instanceof UnavailableError);
  assert.match(String(failed.failure), /its file is missing/);
  assert.equal(scene.copied().length, 5);
  scene.disk.put(pathOf(SOURCE_BLOBS, 5), contentOf(5));
  const { report } = await sync(scene);
  assert.deepEqual([report?.transactions, report?.blobs?.copied], [7, 7]);
  assertBlobs(scene, 0, 12);
});

Deno.test("marked holes stay on the list until their files come, or a new copy has no record of them", async () => {
  const scene = sceneOf(history(0, 8), 2, 6);
  const first = await sync(scene, { missingBlobs: "mark" });
  assert.deepEqual(first.report?.blobs, { copied: 6, bytes: 20_000, missing: 2 });
  assert.deepEqual(listOf(scene), [lineOf(2), lineOf(6)]);
  // Packed so that the new copy has no record of the first hole, and lacks one more of what is new.
  scene.disk.put(ORIGINAL, dataFs(history(4, 12, 4)).bytes);
  scene.disk.remove(pathOf(SOURCE_BLOBS, 10));
  const packed = await sync(scene, { missingBlobs: "mark", repack: true, keepOld: true });
  assert.equal(packed.failure, undefined);
  assert.notEqual(packed.report?.newCopy, undefined);
  assert.equal(packed.report?.blobs?.missing, 2);
  assert.deepEqual(listOf(scene).sort(), [lineOf(10), lineOf(6)].sort());
  assertBlobs(scene, 0, 12, 2, 6, 10);
  scene.disk.put(pathOf(COPY_BLOBS, 10), contentOf(10));
  assert.equal((await sync(scene)).report?.blobs?.missing, 1);
  assert.deepEqual(listOf(scene), [lineOf(6)]);
});

Deno.test("a new copy that is broken off by any failure goes on with its holes and its blobs", async () => {
  const packed = dataFs(history(4, 12, 4)).bytes;
  let failures = 0;
  for (const operation of ["write", "rename", "sync", "syncDirectory", "remove", "create"] as const) {
    for (let nth = 1;; nth += 3) {
      const scene = sceneOf(history(0, 8), 2, 6, 9);
      await sync(scene, { missingBlobs: "mark" });
      scene.disk.put(ORIGINAL, packed);
      scene.disk.performed.length = 0;
      scene.disk.fail({ operation, nth });
      const options = { missingBlobs: "mark", repack: true, keepOld: true } as const;
      const { failure } = await sync(scene, options);
      if (scene.disk.performed.filter((each) => each.operation === operation).length < nth) break;
      if (failure !== undefined) failures++;
      const when = `${operation} ${nth}: ${failure}`;
      // Whatever the file is, its holes are told.
      const isNew = scene.copied()[0]!.tid !== TID;
      for (const hole of isNew ? [6, 9] : [2, 6]) assert.ok(listOf(scene).includes(lineOf(hole)), when);
      const next = await sync(scene, options);
      assert.equal(next.failure, undefined, when);
      assertSameBytes(scene.disk.bytes(COPY), packed, when);
      assert.deepEqual(listOf(scene).sort(), [lineOf(6), lineOf(9)].sort(), when);
      assertBlobs(scene, 4, 12, 6, 9);
    }
  }
  assert.ok(failures > 10, `${failures} failed`);
});

Deno.test("a new copy after a pack uses the blobs that are here, up to the first that is not", async () => {
  for (const { gone, copied } of [{ gone: undefined, copied: 4 }, { gone: 6, copied: 6 }]) {
    const scene = sceneOf(history(0, 8));
    await sync(scene);
    scene.disk.put(ORIGINAL, dataFs(history(4, 12, 6)).bytes);
    if (gone !== undefined) scene.disk.remove(pathOf(COPY_BLOBS, gone));
    const { report, failure } = await sync(scene);
    assert.equal(failure, undefined);
    assert.notEqual(report?.newCopy, undefined);
    assert.deepEqual([report?.transactions, report?.blobs?.copied], [8, copied]);
    assertSameBytes(scene.disk.bytes(COPY), scene.disk.bytes(ORIGINAL));
    assertBlobs(scene, 0, 12);
  }
});
