/** A secondary that has to scan its file before it can begin. */
import assert from "node:assert/strict";
import { Secondary } from "../../lib/replica/mod.ts";
import { CollectedLog } from "../kit/collected_log.ts";
import { dataFs } from "../kit/data_fs.ts";
import { COPY, Scene, SOURCE } from "./scene.ts";

const TID = 0x036c_9000_0000_0001n;

function history(count: number): Uint8Array {
  const records = [{ oid: 0n, data: "root" }];
  return dataFs(Array.from({ length: count }, (_, n) => ({ tid: TID + BigInt(n), records }))).bytes;
}

Deno.test("the index is saved at once after a scan that took long, and a killed node need not scan again", async () => {
  for (const [count, saves] of [[1000, false], [1001, true]] as const) {
    const scene = new Scene();
    scene.disk.put(COPY, history(count));
    await using secondary = await scene.startSecondary();
    assert.equal(secondary.lastTid, TID + BigInt(count - 1));
    assert.equal(scene.disk.status(`${COPY}.index`) !== undefined, saves, `${count} transactions`);
    if (!saves) continue;
    const afterKill = new Scene();
    for (const path of [COPY, `${COPY}.index`]) afterKill.disk.put(path, scene.disk.bytes(path));
    await using again = await afterKill.startSecondary();
    assert.deepEqual(again.log.matching(/scanned/), []);
  }
});

Deno.test("a secondary that is stopped while it scans its file gives up, and lets the file go", async () => {
  const scene = new Scene();
  const bytes = history(20_001);
  scene.disk.put(COPY, bytes);
  const stop = new AbortController();
  const ports = { ...scene, log: new CollectedLog() };
  const opening = Secondary.open(ports, {
    path: COPY,
    replicateFrom: SOURCE,
    blobs: "refuse",
    signal: stop.signal,
  });
  await scene.clock.waitForTimer(0);
  stop.abort();
  await assert.rejects(opening, (error) => error === stop.signal.reason);
  assert.deepEqual(scene.disk.bytes(COPY), bytes);
  scene.disk.lock(`${COPY}.lock`).close();
});
