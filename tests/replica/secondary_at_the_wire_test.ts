/**
 * What a secondary does, step by step, as the documentation of zc.zrs tells it (src/zc/zrs/secondary.txt
 * there): greeting, transactions, undo, keep-alives, lost and refused connections.
 */
import assert from "node:assert/strict";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { messagesOf, type WireTransaction } from "../kit/zrs_wire.ts";
import { COPY, Scene } from "./scene.ts";

const FIRST: WireTransaction = {
  tid: 0x036c_9000_0000_0001n,
  description: "initial database creation",
  records: [{ oid: 0n, data: "a mapping, empty" }],
};
const SECOND: WireTransaction = {
  tid: 0x036c_9000_0000_0002n,
  user: "jim",
  records: [{ oid: 1n, data: "x" }, { oid: 0n, data: "a mapping with x" }],
};
const UNDO: WireTransaction = {
  tid: 0x036c_90fb_bbbb_bbbbn,
  records: [
    { oid: 0n, data: "a mapping, empty", dataTxn: FIRST.tid },
    { oid: 1n, data: "" },
  ],
};
const THIRD: WireTransaction = {
  tid: 0x036c_90fb_cccc_ccccn,
  records: [{ oid: 2n, data: "y" }, { oid: 0n, data: "a mapping with y" }],
};

/** The current data of an object in the copy, as text. */
function current(scene: Scene, oid: bigint): string | null {
  const records = scene.copied().flatMap(({ records }) => records).filter((record) => record.oid === oid);
  const data = records.at(-1)?.data ?? null;
  return data === null ? null : new TextDecoder().decode(data);
}

/** After so much silence a secondary takes it that the source has sent all it has. */
const CALM_MS = 1_000;

Deno.test("a secondary greets with its protocol and nothing, and stores what it is sent", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary();
  const wire = await primary.accept();
  assert.deepEqual(await wire.receiveGreeting(), { version: "zrs2.1", tid: 0n });

  await wire.sendTransaction(FIRST);
  await secondary.waitForTid(FIRST.tid);
  assert.equal(current(scene, 0n), "a mapping, empty");

  await wire.sendTransaction(SECOND);
  await secondary.waitForTid(SECOND.tid);
  assert.equal(current(scene, 0n), "a mapping with x");
  assert.equal(current(scene, 1n), "x");

  await wire.sendTransaction(UNDO);
  await secondary.waitForTid(UNDO.tid);
  assert.equal(current(scene, 0n), "a mapping, empty");
  assert.equal(current(scene, 1n), null);
  const [first, , undo] = scene.copied();
  assert.equal(undo?.records[0]?.backPointer, first?.records[0]?.position);
  assert.equal(undo?.records[1]?.backPointer, 0);
  assert.deepEqual(secondary.log.complaints(), []);
});

Deno.test("a secondary sends an empty message whenever its keep-alive delay has passed", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using _secondary = await scene.startSecondary({ keepAliveMs: 45_000 });
  const wire = await primary.accept();
  await wire.receiveGreeting();
  for (let i = 0; i < 3; i++) {
    await scene.clock.waitForTimer(45_000);
    scene.clock.advance(45_000);
    assert.deepEqual(await wire.receive(), new Uint8Array());
  }
});

Deno.test("a secondary without a keep-alive delay says nothing behind its greeting", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ keepAliveMs: 0 });
  const wire = await primary.accept();
  await wire.receiveGreeting();
  await wire.sendTransaction(FIRST);
  await secondary.waitForTid(FIRST.tid);
  await scene.clock.waitForTimer(CALM_MS);
  assert.deepEqual(scene.clock.delays, [CALM_MS], "no timer but that of the silence");
});

Deno.test("a secondary tells once for each connection that it has all that was sent", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ keepAliveMs: 0 });
  const wire = await primary.accept();
  await wire.receiveGreeting();
  await wire.sendTransaction(FIRST);
  await secondary.waitForTid(FIRST.tid);
  await scene.clock.waitForTimer(CALM_MS);
  assert.equal(secondary.log.matching(/has all that the source has sent/).length, 0);
  scene.clock.advance(CALM_MS);
  await wire.sendTransaction(SECOND);
  await secondary.waitForTid(SECOND.tid);
  scene.clock.advance(CALM_MS);
  assert.equal(secondary.log.matching(/has all that the source has sent, up to /).length, 1);
});

Deno.test("a secondary that lost its connection comes back with its last tid, and waits longer each time", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ keepAliveMs: 45_000 });
  const first = await primary.accept();
  await first.receiveGreeting();
  await first.sendTransaction(FIRST);
  await secondary.waitForTid(FIRST.tid);
  await scene.clock.waitForTimer(45_000);

  first.close();
  await scene.clock.waitForTimer(50);
  assert.deepEqual(scene.clock.delays, [50], "the keep-alive goes with the connection");
  scene.clock.advance(50);
  const second = await primary.accept();
  assert.equal((await second.receiveGreeting()).tid, FIRST.tid);
  await second.sendTransaction(SECOND);
  await secondary.waitForTid(SECOND.tid);

  // Progress was made, so waiting begins anew; from here on there is none.
  second.close();
  for (const delayMs of [50, 100, 200, 400, 800]) {
    await scene.clock.waitForTimer(delayMs);
    scene.clock.advance(delayMs);
    const wire = await primary.accept();
    assert.equal((await wire.receiveGreeting()).tid, SECOND.tid);
    wire.close();
  }
});

Deno.test("a transaction that does not come whole leaves nothing, and comes again", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary();
  let wire = await primary.accept();
  await wire.receiveGreeting();
  for (const transaction of [FIRST, SECOND, UNDO]) await wire.sendTransaction(transaction);
  await secondary.waitForTid(UNDO.tid);
  const before = scene.disk.bytes(COPY);

  const messages = messagesOf(THIRD);
  for (let count = 1; count <= messages.length; count++) {
    await wire.sendMessages(...messages.slice(0, count));
    wire.close();
    const delayMs = await scene.clock.waitForTimer(1, CALM_MS - 1);
    assertSameBytes(scene.disk.bytes(COPY), before);
    scene.clock.advance(delayMs);
    wire = await primary.accept();
    assert.equal((await wire.receiveGreeting()).tid, UNDO.tid);
  }
  await wire.sendTransaction(THIRD);
  await secondary.waitForTid(THIRD.tid);
  assert.equal(current(scene, 0n), "a mapping with y");
});

Deno.test("a secondary that is refused a connection tries again, up to its longest wait, until it is stopped", async () => {
  const scene = new Scene();
  await using secondary = await scene.startSecondary({ retryMaxMs: 1_000 });
  const delays = [50, 100, 200, 400, 500, 500, 500];
  for (const [i, delayMs] of delays.entries()) {
    await scene.network.attempts.waitFor("an attempt", () => true, { from: i });
    await scene.clock.waitForTimer(delayMs);
    scene.clock.advance(delayMs);
  }
  await scene.network.attempts.waitFor("an attempt", () => true, { from: delays.length });
  await secondary.stop();
  assert.deepEqual(scene.clock.delays, []);
  assert.equal(scene.network.attempts.items.length, delays.length + 1);
  assert.equal(secondary.log.matching(/nobody listens there/).length, delays.length + 1);
  assert.deepEqual(transactionsOf(scene.disk.bytes(COPY)), []);
});
