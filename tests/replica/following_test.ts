/** What a primary says and does while the file it follows has troubles. */
import assert from "node:assert/strict";
import { UsageError } from "../../lib/errors.ts";
import type { Disk, FileStatus } from "../../lib/ports/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import type { ScriptedSecondary } from "./scene.ts";
import { ORIGINAL, Scene } from "./scene.ts";

const TID = 0x036c_9000_0000_0001n;

function history(count: number): TransactionDescription[] {
  return Array.from({ length: count }, (_, i) => ({
    tid: TID + BigInt(i),
    records: [{ oid: BigInt(i), data: `record ${i}` }],
  }));
}

/** Reads one transaction. @returns the data of its record */
async function receiveData(peer: ScriptedSecondary): Promise<string> {
  const [, , data, commit] = [
    await peer.receive(),
    await peer.receive(),
    await peer.receive(),
    await peer.receive(),
  ];
  assert(commit != null);
  return new TextDecoder().decode(data!);
}

/** A scene with a primary's file of two transactions. */
function newScene(): Scene {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, dataFs(history(2)).bytes);
  return scene;
}

Deno.test("a file that is away for a moment is nothing to tell, one that stays away is told of once", async () => {
  const scene = newScene();
  await using primary = await scene.startPrimary();
  const peer = await scene.connect();
  await peer.greet(TID);
  assert.equal(await receiveData(peer), "record 1");

  const away = `${ORIGINAL}.away`;
  scene.disk.rename(ORIGINAL, away);
  await scene.clock.waitForTimer(1_000);
  scene.clock.advance(500);
  scene.disk.rename(away, ORIGINAL);
  for (let i = 0; i < 5; i++) {
    await scene.clock.waitForTimer(1_000);
    scene.clock.advance(1_000);
  }
  assert.deepEqual(primary.log.complaints(), []);

  scene.disk.rename(ORIGINAL, away);
  await scene.clock.waitForTimer(1_000);
  const told = primary.log.waitFor(/is not there any more; going on with the file that was/);
  for (let left = 5; left > 0; left--) {
    scene.clock.advance(1_000);
    await Promise.race([told, scene.clock.waitForTimer(1_000)]);
  }
  assert.equal((await told).level, "warning");
  // Meanwhile the file that was is served.
  const other = await scene.connect();
  await other.greet(0n);
  assert.equal(await receiveData(other), "record 0");

  scene.disk.put(away, dataFs(history(3)).bytes);
  scene.disk.rename(away, ORIGINAL);
  await primary.log.waitFor(/is back/);
  assert.equal(await receiveData(peer), "record 2");
  assert.equal(primary.log.matching(/is not there any more/).length, 1);
});

Deno.test("damage at the end is told of once, and what comes when it is mended is sent", async () => {
  const scene = newScene();
  await using primary = await scene.startPrimary();
  const peer = await scene.connect();
  await peer.greet(TID + 1n);
  await primary.log.waitFor(/connected/);
  const damaged = dataFs([...history(2), { ...history(3)[2]!, damage: { trailer: 5n } }]).bytes;
  scene.disk.put(ORIGINAL, damaged);
  assert.match(
    (await primary.log.waitFor(/cannot be followed further/)).message,
    /its trailing length must be/,
  );
  for (let i = 0; i < 5; i++) {
    await scene.clock.waitForTimer(1_000);
    scene.clock.advance(1_000);
  }
  scene.disk.put(ORIGINAL, dataFs(history(3)).bytes);
  assert.equal(await receiveData(peer), "record 2");
  assert.equal(primary.log.matching(/cannot be followed further/).length, 1);
});

for (
  const [what, bytes] of [
    ["is no FileStorage", new TextEncoder().encode("something else entirely")],
    [
      "is damaged in its midst",
      dataFs([history(1)[0]!, { ...history(2)[1]!, damage: { length: 3n } }, history(3)[2]!]).bytes,
    ],
  ] as const
) {
  Deno.test(`a file that ${what} when it is put in place is not followed, and does not end the primary`, async () => {
    const scene = newScene();
    await using primary = await scene.startPrimary();
    const peer = await scene.connect();
    await peer.greet(TID + 1n);
    await primary.log.waitFor(/connected/);
    scene.disk.put(`${ORIGINAL}.new`, bytes);
    scene.disk.rename(`${ORIGINAL}.new`, ORIGINAL);
    await primary.log.waitFor(/cannot be followed further|rolled back/);
    scene.disk.put(`${ORIGINAL}.new`, dataFs(history(4)).bytes);
    scene.disk.rename(`${ORIGINAL}.new`, ORIGINAL);
    const again = await scene.connect();
    await again.greet(TID + 1n);
    assert.equal(await receiveData(again), "record 2");
    assert.equal(await receiveData(again), "record 3");
  });
}

Deno.test("a disk that fails is told of once, tried again, and its recovery told", async () => {
  const scene = newScene();
  await using primary = await scene.startPrimary();
  const peer = await scene.connect();
  await peer.greet(TID + 1n);
  await primary.log.waitFor(/connected/);
  for (let nth = 1; nth <= 3; nth++) scene.disk.fail({ operation: "sync", path: ORIGINAL });
  scene.disk.put(ORIGINAL, dataFs(history(3)).bytes);
  assert.equal((await primary.log.waitFor(/input\/output error; trying again every second/)).level, "error");
  for (let i = 0; i < 4; i++) {
    await scene.clock.waitForTimer(1_000);
    scene.clock.advance(1_000);
  }
  await primary.log.waitFor(/can be read again/);
  assert.equal(await receiveData(peer), "record 2");
  assert.equal(primary.log.matching(/trying again/).length, 1);
});

/** A disk that tells nobody of changes, as network file systems do not. */
class SilentDisk extends MemoryDisk {
  override watch(..._: Parameters<Disk["watch"]>): Disposable {
    return { [Symbol.dispose]: () => {} };
  }
}

/** A disk whose permissions can be taken away, as by `chmod 700` on the directory. */
class ForbiddingDisk extends SilentDisk {
  forbidden = false;

  override status(path: string): FileStatus | undefined {
    if (this.forbidden) throw new UsageError(`Cannot look at ${path}: permission denied`, { path });
    return super.status(path);
  }
}

Deno.test("a primary that may not look at its file is told of once, tries again after a second, and goes on", async () => {
  const disk = new ForbiddingDisk();
  const scene = new Scene({ disk });
  disk.put(ORIGINAL, dataFs(history(2)).bytes);
  await using primary = await scene.startPrimary({ lookEveryMs: 700 });
  const peer = await scene.connect();
  await peer.greet(TID + 1n);
  await scene.clock.waitForTimer(700);
  disk.forbidden = true;
  scene.clock.advance(700);
  await primary.log.waitFor(/permission denied; trying again every second/);
  for (let i = 0; i < 3; i++) {
    await scene.clock.waitForTimer(1_000);
    scene.clock.advance(1_000);
  }
  await scene.clock.waitForTimer(1_000);
  disk.forbidden = false;
  disk.put(ORIGINAL, dataFs(history(3)).bytes);
  scene.clock.advance(1_000);
  await primary.log.waitFor(/can be read again/);
  assert.equal(await receiveData(peer), "record 2");
  assert.equal(primary.log.matching(/trying again/).length, 1);
});

Deno.test("where the file system tells of no changes, they are found within a second", async () => {
  const disk = new SilentDisk();
  const scene = new Scene({ disk });
  disk.put(ORIGINAL, dataFs(history(2)).bytes);
  await using _primary = await scene.startPrimary();
  const peer = await scene.connect();
  await peer.greet(TID + 1n);
  await scene.clock.waitForTimer(1_000);
  disk.put(ORIGINAL, dataFs(history(3)).bytes);
  scene.clock.advance(1_000);
  assert.equal(await receiveData(peer), "record 2");
});

Deno.test("nothing is ever written beside or into what a primary follows", async () => {
  const scene = newScene();
  const before = scene.disk.paths();
  {
    await using primary = await scene.startPrimary();
    const peer = await scene.connect();
    await peer.greet(0n);
    await receiveData(peer);
    scene.disk.put(ORIGINAL, dataFs(history(1)).bytes);
    await primary.log.waitFor(/rolled back/);
    scene.disk.put(ORIGINAL, dataFs(history(5)).bytes);
    await primary.waitForTid(TID + 4n);
  }
  assert.deepEqual(scene.disk.paths(), before);
  const changing = ["create", "write", "truncate", "rename", "remove"];
  assert.deepEqual(scene.disk.performed.filter(({ operation }) => changing.includes(operation)), []);
});
