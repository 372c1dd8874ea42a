/** What nodes say of themselves while they serve, wait, lag and have troubles. */
import assert from "node:assert/strict";
import type { NodeStatus } from "../../lib/replica/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { startSecondary } from "../kit/node.ts";
import { COPY, HERE, ORIGINAL, Scene, type ScriptedSecondary, SOURCE } from "./scene.ts";

/** The beginning of a minute, so that seconds between transactions come out even. */
const TID = 0x036c_9000_0000_0000n;
const MINUTE = 1n << 32n;
const KIB = 1024;
const SMALL_BUFFERS = { sendBytes: 64 * KIB, readBytes: 64 * KIB, runBytes: 64 * KIB };

/** One transaction a minute. */
function history(count: number, dataBytes = 10): TransactionDescription[] {
  return Array.from({ length: count }, (_, i) => ({
    tid: TID + BigInt(i) * MINUTE,
    records: [{ oid: BigInt(i), data: new Uint8Array(dataBytes).fill(i) }],
  }));
}

function tidOf(minute: number): bigint {
  return TID + BigInt(minute) * MINUTE;
}

/** Reads transactions of one record each: T, S, its data and C. */
async function receiveTransactions(peer: ScriptedSecondary, count: number): Promise<void> {
  for (let message = 0; message < 4 * count; message++) assert.notEqual(await peer.receive(), null);
}

function sourceOf(status: NodeStatus): NonNullable<NodeStatus["source"]> {
  assert(status.source !== undefined);
  return status.source;
}

Deno.test("a primary says of each secondary how far it has come, and of a slow one how far it is behind", async () => {
  const scene = new Scene({ capacity: 16 * KIB });
  const built = dataFs(history(100, 10 * KIB));
  scene.disk.put(ORIGINAL, built.bytes);
  await using primary = await scene.startPrimary({ buffers: SMALL_BUFFERS });
  const { peers: nobody, ...rest } = primary.node.status();
  assert.deepEqual(nobody, []);
  assert.deepEqual(rest, {
    role: "primary",
    path: ORIGINAL,
    lastTid: tidOf(99),
    bytes: built.end,
    blobs: "refuse",
    missingBlobs: undefined,
    problem: undefined,
    delay: undefined,
    source: undefined,
  });

  const stranger = await scene.connect(); // has not greeted: it is nobody yet
  const current = await scene.connect();
  await current.greet(tidOf(99));
  await primary.log.waitFor(/connected with zrs2\.1/);
  const slow = await scene.connect();
  await slow.greet(TID, "zrs2.0");
  await receiveTransactions(slow, 1);

  const [first, second, ...more] = primary.node.status().peers;
  assert.deepEqual(more, []);
  assert.deepEqual([first!.protocol, first!.sentTid, first!.position], ["zrs2.1", tidOf(99), built.end]);
  assert.deepEqual(first!.lag, { bytes: 0, seconds: 0 });
  assert.equal(first!.connectedMs, scene.clock.now());
  const sent = Number((second!.sentTid - TID) / MINUTE);
  assert(sent >= 1 && sent < 99, `${sent} were sent`);
  assert.equal(second!.protocol, "zrs2.0");
  assert.equal(second!.position, built.transactions[sent]!.end);
  assert.deepEqual(second!.lag, {
    bytes: built.end - built.transactions[sent]!.end,
    seconds: (99 - sent) * 60,
  });

  await receiveTransactions(slow, 98);
  assert.deepEqual(primary.node.status().peers[1]!.lag, { bytes: 0, seconds: 0 });
  slow.close();
  await primary.log.waitFor(/disconnected/);
  assert.equal(primary.node.status().peers.length, 1);
  for (const peer of [stranger, current]) peer.close();
});

Deno.test("of a secondary that has nothing yet no seconds are known, only bytes", async () => {
  const scene = new Scene({ capacity: 16 * KIB });
  const built = dataFs(history(2, 1024 * KIB));
  scene.disk.put(ORIGINAL, built.bytes);
  await using primary = await scene.startPrimary({ buffers: SMALL_BUFFERS });
  const peer = await scene.connect();
  await peer.greet(0n);
  assert.notEqual(await peer.receiveBytes(1), null);
  const [status] = primary.node.status().peers;
  assert.deepEqual([status!.sentTid, status!.position], [0n, 4]);
  assert.deepEqual(status!.lag, { bytes: built.end - 4, seconds: undefined });
  peer.close();
});

Deno.test("a secondary that is ahead of a lagging replica has no position there, and is not behind", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await startSecondary(
    { path: COPY, replicateFrom: SOURCE, replicateTo: HERE, protocol: "zrs2" },
    scene,
  );
  await (await primary.accept()).receiveGreeting();
  const peer = await scene.connect();
  await peer.greet(tidOf(1));
  await secondary.log.waitFor(/ahead of this replica/);
  const [status] = secondary.node.status().peers;
  assert.deepEqual([status!.sentTid, status!.position], [tidOf(1), undefined]);
  assert.deepEqual(status!.lag, { bytes: 0, seconds: 0 });
  peer.close();
});

Deno.test("a primary names what keeps it from reading on, until that has passed", async () => {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, dataFs(history(2)).bytes);
  await using primary = await scene.startPrimary();
  const damaged = [...history(2), { ...history(3)[2]!, damage: { trailer: 5n } }];
  scene.disk.put(ORIGINAL, dataFs(damaged).bytes);
  await primary.log.waitFor(/cannot be followed further/);
  assert.match(primary.node.status().problem!, /cannot be read: its trailing length must be/);
  scene.disk.put(ORIGINAL, dataFs(history(3)).bytes);
  await primary.waitForTid(tidOf(2));
  assert.equal(primary.node.status().problem, undefined);

  scene.disk.fail({ operation: "sync", path: ORIGINAL });
  scene.disk.put(ORIGINAL, dataFs(history(4)).bytes);
  await primary.log.waitFor(/trying again every second/);
  assert.match(primary.node.status().problem!, /Cannot sync \/source\/Data\.fs: input\/output error/);
  await scene.clock.waitForTimer(1_000);
  scene.clock.advance(1_000);
  await primary.log.waitFor(/can be read again/);
  assert.equal(primary.node.status().problem, undefined);
});

Deno.test("a secondary says whether it is connected, since when, why not, and when it tries again", async () => {
  const scene = new Scene();
  await using secondary = await scene.startSecondary();
  const startedMs = scene.clock.now();
  await scene.clock.waitForTimer(50); // half of the first wait: chance gives the least
  const waiting = sourceOf(secondary.node.status());
  assert.deepEqual(waiting, {
    address: "source:5000",
    connected: false,
    sinceMs: startedMs,
    protocol: undefined,
    receivedTid: 0n,
    durableTid: 0n,
    lag: { bytes: 0, seconds: 0, against: "received" },
    lastTid: undefined,
    lastError: { words: "Cannot connect to source:5000: nobody listens there", atMs: startedMs },
    nextAttemptMs: startedMs + 50,
    packedTo: undefined,
  });
  scene.clock.advance(50);
  await scene.clock.waitForTimer(100);
  const again = sourceOf(secondary.node.status());
  assert.deepEqual(
    [again.sinceMs, again.lastError?.atMs, again.nextAttemptMs],
    [startedMs, startedMs + 50, startedMs + 150],
  );

  using primary = await scene.listen();
  scene.clock.advance(100);
  const wire = await primary.accept();
  await wire.receiveGreeting();
  await wire.sendTransaction({ tid: TID, records: [{ oid: 0n, data: "x" }] });
  await secondary.waitForTid(TID);
  assert.deepEqual(sourceOf(secondary.node.status()), {
    ...again,
    connected: true,
    sinceMs: startedMs + 150,
    protocol: "zrs2.1",
    receivedTid: TID,
    durableTid: TID,
    nextAttemptMs: undefined,
  });
  assert.equal(secondary.node.status().bytes, scene.disk.bytes(COPY).length);

  scene.clock.advance(1_500);
  const before = secondary.log.lines.items.length;
  wire.close();
  await secondary.log.waitFor(/connecting again/, { from: before });
  await scene.clock.waitForTimer(50);
  const lost = sourceOf(secondary.node.status());
  assert.deepEqual([lost.connected, lost.sinceMs, lost.protocol], [false, startedMs + 1_650, undefined]);
  assert.equal(lost.lastError?.words, "The source has closed the connection");
  assert.equal(lost.nextAttemptMs, startedMs + 1_700);
});

Deno.test("what has come and cannot be written is a secondary's lag, and the full disk its problem", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary();
  const wire = await primary.accept();
  await wire.receiveGreeting();
  await wire.sendTransaction({ tid: TID, records: [{ oid: 0n, data: "x" }] });
  await secondary.waitForTid(TID);
  scene.disk.capacity = scene.disk.bytes(COPY).length + 50;
  await wire.sendTransaction({ tid: tidOf(2), records: [{ oid: 1n, data: new Uint8Array(1_000) }] });
  await secondary.log.waitFor(/stands still/);
  const status = secondary.node.status();
  const { receivedTid, durableTid, lag, connected } = sourceOf(status);
  assert.match(status.problem!, /the disk is full$/);
  assert.deepEqual([status.lastTid, receivedTid, durableTid, connected], [TID, tidOf(2), TID, true]);
  // A transaction's header and trailer, and a record's header.
  assert.deepEqual(lag, { bytes: 23 + 42 + 1_000 + 8, seconds: 120, against: "received" });

  scene.disk.capacity = Infinity;
  await scene.clock.waitForTimer(5_000);
  scene.clock.advance(5_000);
  await secondary.waitForTid(tidOf(2));
  await secondary.log.waitFor(/There is room again/);
  const after = secondary.node.status();
  assert.equal(after.problem, undefined);
  assert.deepEqual(sourceOf(after).lag, { bytes: 0, seconds: 0, against: "received" });
});

Deno.test("it is a secondary's problem that its file is moved away or replaced, and no index is left there", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  const secondary = await scene.startSecondary();
  const wire = await primary.accept();
  await wire.receiveGreeting();
  await wire.sendTransaction({ tid: TID, records: [{ oid: 0n, data: "x" }] });
  await secondary.waitForTid(TID);
  assert.equal(secondary.node.status().problem, undefined);
  scene.disk.rename(COPY, "/copy/away");
  assert.equal(secondary.node.status().problem, `${COPY} is not there any more`);
  scene.disk.put(COPY, dataFs(history(3)).bytes);
  assert.equal(secondary.node.status().problem, `another file has taken the place of ${COPY}`);
  await secondary.stop();
  assert.deepEqual(scene.disk.paths().filter((path) => path.endsWith(".index")), []);
  assert.equal(
    secondary.log.matching(/^Cannot save the index of .*another file has taken the place/).length,
    1,
  );
});

Deno.test("a refused secondary says so in the source's words", async () => {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, dataFs(history(1)).bytes);
  scene.disk.put(COPY, dataFs(history(2)).bytes);
  await using primary = await scene.startPrimary();
  await using secondary = await startSecondary({ path: COPY, replicateFrom: HERE }, scene);
  await secondary.log.waitFor(/refuses this replica/);
  const { connected, lastError } = sourceOf(secondary.node.status());
  assert.equal(connected, false);
  assert.match(lastError!.words, /^refused: ahead: your last transaction is 036c90010{8}/);
  await primary.log.waitFor(/refused/);
});
