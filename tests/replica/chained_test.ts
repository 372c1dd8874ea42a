/** A secondary that serves others while it still gets what its own source has. */
import assert from "node:assert/strict";
import type { SecondaryOptions } from "../../lib/replica/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { beforeDeadline } from "../kit/feed.ts";
import { type ManualClock, othersHaveRun } from "../kit/manual_clock.ts";
import { startSecondary } from "../kit/node.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { CountingDisk } from "./counting_disk.ts";
import { COPY, HERE, ORIGINAL, Scene } from "./scene.ts";

const TID = 0x036c_9000_0000_0001n;
const MIDDLE = { transport: "tcp", host: "middle", port: 1 } as const;
const MIDDLE_OPTIONS = { path: "/copy/middle.fs", replicateFrom: HERE, replicateTo: MIDDLE } as const;

/** One object, once in each transaction. @param packed how many of the transactions a pack has left */
function history(count: number, packed = 0): TransactionDescription[] {
  return Array.from({ length: count }, (_, i) => ({
    tid: TID + BigInt(i),
    status: i < packed ? "p" : " ",
    records: [{ oid: BigInt(i), data: `revision ${i}` }],
  }));
}

/** The same object in each transaction. */
function revisions(count: number): TransactionDescription[] {
  return Array.from({ length: count }, (_, i) => ({
    tid: TID + BigInt(i),
    records: [{ oid: 0n, data: `revision ${i}` }],
  }));
}

Deno.test("a chained node that has nothing yet serves each transaction as soon as it is on its disk", async () => {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, dataFs(history(20)).bytes);
  await using middle = await startSecondary(MIDDLE_OPTIONS, scene);
  await using last = await startSecondary({ path: COPY, replicateFrom: MIDDLE }, scene);
  await last.log.waitFor(/Connected to/);
  await using _primary = await scene.startPrimary();
  scene.clock.advance(1_000); // past the waits before connecting again
  await last.waitForTid(TID + 19n);
  assert.equal(middle.lastTid, last.lastTid);
  assertSameBytes(scene.disk.bytes(COPY), scene.disk.bytes(ORIGINAL));
});

for (const protocol of ["native", "zrs2"] as const) {
  Deno.test(`a node whose end is packed only because the rest has yet to come lets others wait, by ${protocol}`, async () => {
    const scene = new Scene();
    const whole = dataFs(history(5, 3)).bytes;
    scene.disk.put(MIDDLE_OPTIONS.path, dataFs(history(2, 2)).bytes);
    scene.disk.put(COPY, dataFs(history(4, 3)).bytes);
    scene.disk.put(ORIGINAL, whole);
    await using middle = await startSecondary(MIDDLE_OPTIONS, scene);
    const options: Partial<SecondaryOptions> = { protocol, peerTimeoutMs: 1e9 };
    await using last = await startSecondary({ ...options, path: COPY, replicateFrom: MIDDLE }, scene);
    await middle.log.waitFor(/ahead of this replica: has .*waits until this replica has caught up/);
    await using _primary = await scene.startPrimary();
    scene.clock.advance(1_000); // past the waits before connecting again
    await last.waitForTid(TID + 4n);
    assertSameBytes(scene.disk.bytes(COPY), whole);
    for (const { log } of [middle, last]) assert.deepEqual(log.matching(/beyond the pack|refuse/), []);
  });
}

for (const protocol of ["native", "zrs2"] as const) {
  Deno.test(`a secondary that waits keeps no file open that a pack has replaced, by ${protocol}`, async () => {
    const disk = new CountingDisk();
    const scene = new Scene({ disk });
    disk.put(MIDDLE_OPTIONS.path, dataFs(revisions(3)).bytes);
    disk.put(COPY, dataFs(revisions(4)).bytes);
    const unpacked = disk.status(MIDDLE_OPTIONS.path)!.identity;
    await using middle = await startSecondary(MIDDLE_OPTIONS, scene);
    const options: Partial<SecondaryOptions> = { protocol, peerTimeoutMs: 1e9 };
    await using _last = await startSecondary({ ...options, path: COPY, replicateFrom: MIDDLE }, scene);
    await middle.log.waitFor(/waits until this replica has caught up/);
    assert.ok(disk.open.get(unpacked)! > 0);
    const { isPacked } = await middle.node.pack({
      stop: TID + 9n,
      findReferences: undefined,
      keepOld: false,
      signal: new AbortController().signal,
      warn: (message) => assert.fail(message),
    });
    assert.ok(isPacked);
    assert.equal(disk.open.get(unpacked), 0);
  });
}

Deno.test("a secondary that is ahead of its source says so, in its log and status, and not when that is over", async () => {
  const scene = new Scene();
  scene.disk.put(MIDDLE_OPTIONS.path, dataFs(history(2)).bytes);
  scene.disk.put(COPY, dataFs(history(4)).bytes);
  scene.disk.put(ORIGINAL, dataFs(history(5)).bytes);
  await using _middle = await startSecondary(MIDDLE_OPTIONS, scene);
  await using last = await startSecondary(
    { path: COPY, replicateFrom: MIDDLE, peerTimeoutMs: 30_000 },
    scene,
  );
  await last.log.waitFor(/Connected to/);
  const warned = last.log.waitFor(/is behind this replica: it ends with .*; nothing comes from it until/);
  const { level } = await beforeDeadline("a beat", timePassesUntil(scene.clock, warned));
  assert.equal(level, "warning");
  assert.equal(last.node.status().source?.lastTid, TID + 1n);
  await using _primary = await scene.startPrimary();
  await beforeDeadline("the rest", timePassesUntil(scene.clock, last.waitForTid(TID + 4n)));
  assert.equal(last.node.status().source?.lastTid, TID + 4n);
  assert.equal(last.log.matching(/is behind this replica/).length, 1);
});

/** Lets a second pass at a time. */
async function timePassesUntil<T>(clock: ManualClock, event: Promise<T>): Promise<T> {
  let isOver = false;
  const over = () => void (isOver = true);
  event.then(over, over);
  while (!isOver) {
    clock.advance(1_000);
    await othersHaveRun();
  }
  return await event;
}
