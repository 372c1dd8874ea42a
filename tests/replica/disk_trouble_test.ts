/** A secondary whose disk is full stands still without harm; one whose disk fails stops. */
import assert from "node:assert/strict";
import { DiskError, DiskFullError, LockedError, UsageError } from "../../lib/errors.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { othersHaveRun } from "../kit/manual_clock.ts";
import type { Fault } from "../kit/memory_disk.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { messagesOf, type WireTransaction } from "../kit/zrs_wire.ts";
import { bytesOf, FILE, LAST, tidText, welcomed } from "./native_kit.ts";
import { COPY, HERE, Scene, SOURCE } from "./scene.ts";
import { startSecondary } from "../kit/node.ts";

const TID = 0x036c_9000_0000_0001n;
const KIB = 1024;

function transaction(i: number, dataBytes = 10): WireTransaction {
  return { tid: TID + BigInt(i), records: [{ oid: BigInt(i), data: new Uint8Array(dataBytes).fill(i) }] };
}

Deno.test("on a full disk a secondary stands still, takes no more than it can hold, and goes on when there is room", async () => {
  const scene = new Scene({ capacity: 16 * KIB });
  const buffers = { readBytes: 16 * KIB, runBytes: 64 * KIB, sendBytes: 16 * KIB };
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ buffers, keepAliveMs: 0 });
  const wire = await primary.accept();
  await wire.receiveGreeting();
  await wire.sendTransaction(transaction(0));
  await secondary.waitForTid(TID);
  const before = scene.disk.bytes(COPY);
  scene.disk.capacity = before.length + 50;

  let sent = 0;
  const sending = (async () => {
    for (let i = 1; i <= 100; i++) {
      await wire.sendTransaction(transaction(i, 10 * KIB));
      sent = i;
    }
  })();
  const { level } = await secondary.log.waitFor(/disk is full; the replica stands still/);
  assert.equal(level, "error");
  for (let i = 0; i < 20; i++) {
    await scene.clock.waitForTimer(5_000);
    scene.clock.advance(5_000);
  }
  await scene.clock.waitForTimer(5_000);
  assert.ok(sent * 10 * KIB < 64 * KIB + 4 * 16 * KIB + 2 * 64 * KIB, `${sent} transactions were taken`);
  const standing = scene.disk.bytes(COPY);
  assertSameBytes(standing.slice(0, before.length), before);
  assert.ok(standing.length <= before.length + 23, "nothing stands behind but a header that does not count");
  assert.equal(secondary.log.matching(/stands still/).length, 1);

  scene.disk.capacity = Infinity;
  scene.clock.advance(5_000);
  await sending;
  await secondary.waitForTid(TID + 100n);
  assert.equal(secondary.log.matching(/There is room again/).length, 1);
  assert.equal(scene.copied().length, 101);
});

Deno.test("a secondary says that it has all only when all is on its disk", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native" });
  const { wire } = await welcomed(primary);
  await wire.send(wire.writer.run({ bytes: bytesOf(FILE, 0), tid: TID, count: 1 }));
  await wire.receiveDurable(TID);
  scene.disk.capacity = scene.disk.bytes(COPY).length + 50;
  await wire.send(wire.writer.run({ bytes: bytesOf(FILE, 1, 3), tid: LAST, count: 3 }));
  await wire.sendMessage({ type: "complete", lastTid: tidText(LAST), end: FILE.end });
  await secondary.log.waitFor(/stands still/);
  await othersHaveRun();
  assert.deepEqual(secondary.log.matching(/has all/), []);
  scene.disk.capacity = Infinity;
  await scene.clock.waitForTimer(5_000);
  scene.clock.advance(5_000);
  await secondary.log.waitFor(/has all that the source has, up to 036c900000000004/);
});

Deno.test("by zrs2 a secondary says that it has all that was sent only when all is on its disk", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ keepAliveMs: 0 });
  const wire = await primary.accept();
  await wire.receiveGreeting();
  await wire.sendTransaction(transaction(0));
  await secondary.waitForTid(TID);
  scene.disk.capacity = scene.disk.bytes(COPY).length + 50;
  await wire.sendTransaction(transaction(1, 1_000));
  await secondary.log.waitFor(/stands still/);
  await scene.clock.waitForTimer(1_000);
  scene.clock.advance(1_000);
  assert.deepEqual(secondary.log.matching(/has all/), []);
  scene.disk.capacity = Infinity;
  scene.clock.advance(5_000);
  await secondary.log.waitFor(/has all that the source has sent, up to 036c900000000002/);
});

Deno.test("a secondary that waits for room refuses to pack, and says what it waits for", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary();
  const wire = await primary.accept();
  await wire.receiveGreeting();
  await wire.sendTransaction(transaction(0));
  await secondary.waitForTid(TID);
  scene.disk.capacity = scene.disk.bytes(COPY).length + 50;
  await wire.sendTransaction(transaction(1, 1_000));
  await secondary.log.waitFor(/stands still/);
  const { signal } = new AbortController();
  const request = { stop: TID, findReferences: undefined, keepOld: true, signal, warn: () => {} };
  await assert.rejects(secondary.node.pack(request), (error) => {
    assert(error instanceof DiskFullError);
    assert.match(
      error.message,
      /^Cannot pack \/copy\/Data\.fs: the node has received .*: Cannot write .*full$/,
    );
    return true;
  });
  scene.disk.capacity = Infinity;
  await scene.clock.waitForTimer(5_000);
  scene.clock.advance(5_000);
  await secondary.waitForTid(TID + 1n);
  assert.equal((await secondary.node.pack(request)).isPacked, false, "one transaction cannot lose anything");
});

Deno.test("a secondary that is stopped while its disk is full keeps what is whole, and nothing else", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  const secondary = await scene.startSecondary();
  const wire = await primary.accept();
  await wire.receiveGreeting();
  await wire.sendTransaction(transaction(0));
  await secondary.waitForTid(TID);
  const before = scene.disk.bytes(COPY);
  scene.disk.capacity = before.length + 50;
  await wire.sendTransaction(transaction(1, 1_000));
  await secondary.log.waitFor(/stands still/);
  await secondary.stop();
  scene.disk.capacity = Infinity;
  assertSameBytes(scene.disk.bytes(COPY), before);
  // Had the index been saved, it would hold what is not in the file.
  assert.deepEqual(scene.disk.paths().filter((path) => path.endsWith(".index")), []);
  await using again = await scene.startSecondary();
  assert.equal(again.lastTid, TID);
});

const FINAL: readonly Fault[] = [
  { operation: "write", path: COPY },
  { operation: "sync", path: COPY },
  { operation: "sync", path: COPY, nth: 2 },
  { operation: "sync", path: COPY, nth: 3 },
  { operation: "sync", path: COPY, error: "full" },
];

for (const fault of FINAL) {
  const what = `${fault.operation} ${fault.nth ?? 1} ${
    fault.error === "full" ? "for want of room" : "with an I/O error"
  }`;
  Deno.test(`a secondary stops for good when it fails to ${what}, also when its source is idle`, async () => {
    const scene = new Scene();
    using primary = await scene.listen();
    const secondary = await scene.startSecondary();
    const wire = await primary.accept();
    await wire.receiveGreeting();
    await wire.sendTransaction(transaction(0));
    await secondary.waitForTid(TID);
    scene.disk.fail(fault);
    await wire.sendTransaction(transaction(1));
    assert(await secondary.failure() instanceof DiskError);
    await wire.receiveEnd();
    await secondary.stop();
    // What is on disk now may be either; it is whole in any case, and the next start goes on from it.
    await using again = await scene.startSecondary();
    assert.ok(again.lastTid === TID || again.lastTid === TID + 1n);
    const next = await primary.accept();
    assert.equal((await next.receiveGreeting()).tid, again.lastTid);
  });
}

Deno.test("a secondary that cannot save its index says so, and goes on", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  const secondary = await scene.startSecondary({ indexSaveMs: 10_000 });
  const wire = await primary.accept();
  await wire.receiveGreeting();
  await wire.sendTransaction(transaction(0));
  await secondary.waitForTid(TID);
  scene.disk.fail({ operation: "rename" });
  scene.clock.advance(10_000);
  await wire.sendTransaction(transaction(1));
  assert.equal((await secondary.log.waitFor(/Cannot save the index/)).level, "warning");
  await wire.sendTransaction(transaction(2));
  await secondary.waitForTid(TID + 2n);
  await secondary.stop();
  assert.ok(scene.disk.paths().includes(`${COPY}.index`));
  await using again = await scene.startSecondary();
  assert.deepEqual(again.log.matching(/scanned/), []);
});

Deno.test("the index is saved on a timer while transactions come, and covers them at the next start", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  const secondary = await scene.startSecondary({ indexSaveMs: 10_000, keepAliveMs: 0 });
  const wire = await primary.accept();
  await wire.receiveGreeting();
  for (let i = 0; i < 50; i++) await wire.sendTransaction(transaction(i));
  await secondary.waitForTid(TID + 49n);
  assert.ok(!scene.disk.paths().includes(`${COPY}.index`));
  // It is due when a transaction is whole that is not in the file yet.
  await wire.sendMessages(...messagesOf(transaction(50)));
  await othersHaveRun();
  scene.clock.advance(10_000);
  await wire.sendCommit();
  await secondary.waitForTid(TID + 50n);
  await wire.sendTransaction(transaction(51)); // by then the index has been written
  await secondary.waitForTid(TID + 51n);
  const afterCrash = new Scene();
  for (const path of [COPY, `${COPY}.index`]) afterCrash.disk.put(path, scene.disk.bytes(path));
  await secondary.stop();
  await using again = await afterCrash.startSecondary();
  assert.equal(again.lastTid, TID + 51n);
  assert.deepEqual(again.log.matching(/scanned/), []);
});

const HISTORY: TransactionDescription[] = [{ tid: TID, records: [{ oid: 0n, data: "one" }] }];

Deno.test("two secondaries cannot have one file, and the first does not notice", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary();
  await assert.rejects(scene.startSecondary(), LockedError);
  const wire = await primary.accept();
  await wire.receiveGreeting();
  await wire.sendTransaction(transaction(0));
  await secondary.waitForTid(TID);
});

Deno.test("a secondary that cannot listen does not begin, and lets its file go", async () => {
  const scene = new Scene();
  scene.disk.put(COPY, dataFs(HISTORY).bytes);
  using _other = await scene.network.listen(HERE);
  const options = { path: COPY, replicateFrom: SOURCE, replicateTo: HERE };
  await assert.rejects(startSecondary(options, scene), UsageError);
  await using secondary = await scene.startSecondary();
  assert.equal(secondary.lastTid, TID);
});

Deno.test("a torn end is cut off, saved, and told of", async () => {
  const scene = new Scene();
  const whole = dataFs(HISTORY).bytes;
  const torn =
    dataFs([...HISTORY, { tid: TID + 1n, status: "c", records: [{ oid: 1n, data: "unfinished" }] }]).bytes;
  scene.disk.put(COPY, torn);
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary();
  assert.match(
    (await secondary.log.waitFor(/cut/)).message,
    new RegExp(`cut ${torn.length - whole.length} bytes.*Data.fs.tr0`),
  );
  assertSameBytes(scene.disk.bytes(`${COPY}.tr0`), torn.slice(whole.length));
  assert.equal((await (await primary.accept()).receiveGreeting()).tid, TID);
  assert.deepEqual(transactionsOf(scene.disk.bytes(COPY)).length, 1);
});
