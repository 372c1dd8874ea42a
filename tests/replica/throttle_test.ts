/** A limit on what a node sends keeps nobody waiting so long that it looks dead. */
import assert from "node:assert/strict";
import { dataFs } from "../kit/data_fs.ts";
import { othersHaveRun } from "../kit/manual_clock.ts";
import type { MemoryConnection } from "../kit/memory_network.ts";
import { hello, NativeWire } from "../kit/native_wire.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { attach, receiveRuns, sceneWith, SMALL, TID } from "./native_kit.ts";
import { HERE } from "./scene.ts";

const FILE = dataFs([{ tid: TID, records: [{ oid: 0n, data: "x".repeat(3_000) }] }]);
const BEAT_MS = 10_000;

Deno.test("however low the limit and however many share it, each of them gets something with every beat", async () => {
  const scene = sceneWith(FILE.bytes);
  await using primary = await scene.startPrimary({ bytesPerSecond: 2 });
  const connections: MemoryConnection[] = [];
  for (let i = 0; i < 5; i++) {
    const connection = await scene.network.connect(HERE);
    await new NativeWire(connection).sendMessage(hello());
    connections.push(connection);
  }
  for (let i = 0; i < 10; i++) await othersHaveRun();
  // The welcome of the last one has its turn in many minutes.
  for (let beat = 0; beat < 30; beat++) {
    const before = connections.map(({ unread }) => unread);
    scene.clock.advance(BEAT_MS);
    for (let i = 0; i < 10; i++) await othersHaveRun();
    for (const [i, { unread }] of connections.entries()) {
      assert(unread > before[i]!, `secondary ${i} got nothing in ${BEAT_MS} ms`);
    }
    for (const connection of connections) await new NativeWire(connection).sendMessage(BEAT);
  }
  assert.deepEqual(primary.log.complaints(), []);
});

const BEAT = { type: "beat", lastTid: "0".repeat(16), end: 4, time: 0 };

Deno.test("what is sent ahead of its turn is sent once", async () => {
  const scene = sceneWith(FILE.bytes);
  await using _primary = await scene.startPrimary({ bytesPerSecond: 200 });
  const done = attach(scene, hello({ beatMs: 100 })).then(({ wire }) => receiveRuns(wire));
  let isDone = false;
  void done.finally(() => isDone = true);
  while (!isDone) {
    scene.clock.advance(1_000);
    for (let i = 0; i < 3; i++) await othersHaveRun();
  }
  assertSameBytes((await done).bytes, FILE.bytes.subarray(4));
});

Deno.test("on a slow link a run ends early, so that what has come counts before the link breaks", async () => {
  const transactions = Array.from({ length: 60 }, (_, at) => ({
    tid: TID + BigInt(at),
    records: [{ oid: 0n, data: "x".repeat(1_000) }],
  }));
  const { bytes } = dataFs(transactions);
  for (const bytesPerSecond of [2_000, undefined]) {
    const scene = sceneWith(bytes);
    await using _primary = await scene.startPrimary({ bytesPerSecond, buffers: SMALL, compress: "off" });
    const done = attach(scene, hello({ beatMs: 1_000 })).then(({ wire }) => receiveRuns(wire));
    let isDone = false;
    void done.finally(() => isDone = true);
    while (!isDone) {
      if (bytesPerSecond !== undefined) scene.clock.advance(100);
      for (let i = 0; i < 3; i++) await othersHaveRun();
    }
    const { bytes: received, tids } = await done;
    assertSameBytes(received, bytes.subarray(4));
    // Two buffers are filled ahead of the link; with them a run has some 10 kB of the 65.
    if (bytesPerSecond === undefined) assert.equal(tids.length, 1);
    else assert(tids.length >= 5, `${tids.length} runs`);
  }
});
