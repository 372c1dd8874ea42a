/** What a secondary does with the native stream, step by step. */
import assert from "node:assert/strict";
import { dataFs } from "../kit/data_fs.ts";
import { othersHaveRun } from "../kit/manual_clock.ts";
import { control } from "../kit/native_wire.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import {
  beginningOf,
  bytesOf,
  digestOf,
  FILE,
  HISTORY,
  LAST,
  RESTORED,
  SMALL,
  TID,
  tidText,
  TRANSACTIONS,
  welcomed,
} from "./native_kit.ts";
import { COPY, Scene } from "./scene.ts";

/** All of the history in one run. */
const RUN = { bytes: bytesOf(FILE, 0, 3), tid: LAST, count: 4 };

Deno.test("a secondary says hello with nothing, and asks for all", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using _secondary = await scene.startSecondary({
    protocol: "native",
    software: "zrs test",
    peerTimeoutMs: 20_000,
    buffers: { readBytes: 1_000, runBytes: 5_000, sendBytes: 1_000 },
  });
  const wire = await primary.acceptNative();
  const { capabilities, ...fields } = await wire.receiveMessage("hello");
  assert.deepEqual(fields, {
    type: "hello",
    version: 1,
    software: "zrs test",
    lastTid: tidText(0n),
    end: 4,
    runBytes: 1_666,
    beatMs: 5_000,
    required: [],
  });
  assert(Array.isArray(capabilities) && capabilities.includes("raw"));
});

Deno.test("a secondary says hello with its last transaction, what is in it, and where its file ends", async () => {
  const scene = new Scene();
  scene.disk.put(COPY, beginningOf(FILE, 2));
  using primary = await scene.listen();
  await using _secondary = await scene.startSecondary({ protocol: "native" });
  const { hello } = await welcomed(primary);
  assert.equal(hello.lastTid, tidText(TID + 1n));
  assert.equal(hello.end, FILE.transactions[1]!.end);
  assert.equal(hello.digest, digestOf(HISTORY[1]!));
});

Deno.test("runs are stored as they lie in the source's file, cancelled transactions too", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native" });
  const { wire } = await welcomed(primary);
  const { writer } = wire;
  await wire.send(writer.run({ bytes: bytesOf(FILE, 0), tid: TID, count: 1, frameBytes: 7 }));
  assert.deepEqual(await wire.receiveAcknowledgement(), {
    receivedTid: TID,
    durableTid: TID,
    bytes: writer.sum.bytes,
    checksum: writer.sum.value,
  });
  await wire.send(writer.run({ bytes: bytesOf(FILE, 1, 2), tid: TID + 1n, count: 2 }));
  await wire.receiveDurable(TID + 1n);
  await wire.send(writer.run({ bytes: bytesOf(FILE, 3), tid: LAST, count: 1 }));
  assert.deepEqual(await wire.receiveDurable(LAST), {
    receivedTid: LAST,
    durableTid: LAST,
    bytes: writer.sum.bytes,
    checksum: writer.sum.value,
  });
  assertSameBytes(scene.disk.bytes(COPY), FILE.bytes);
  await wire.sendMessage({ type: "complete", lastTid: tidText(LAST), end: FILE.end });
  await secondary.log.waitFor(/has all that the source has, up to 036c900000000004/);
  assert.deepEqual(secondary.log.complaints(), []);
});

Deno.test("transactions that come record by record are stored as in a file of their own", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native" });
  const { wire } = await welcomed(primary);
  for (const transaction of TRANSACTIONS) {
    await wire.send(wire.writer.transaction(transaction));
    const { bytes, checksum } = await wire.receiveDurable(transaction.tid);
    assert.deepEqual([bytes, checksum], [wire.writer.sum.bytes, wire.writer.sum.value]);
  }
  assertSameBytes(scene.disk.bytes(COPY), RESTORED.bytes);
  assert.deepEqual(secondary.log.complaints(), []);
});

Deno.test("compressed content is stored like any other, unless none was asked for", async () => {
  for (const compress of ["auto", "off"] as const) {
    const scene = new Scene();
    using primary = await scene.listen();
    await using secondary = await scene.startSecondary({ protocol: "native", compress });
    const { wire, hello } = await welcomed(primary);
    assert.equal((hello.capabilities as string[]).includes("zstd"), compress === "auto");
    const first = wire.writer.run({ bytes: bytesOf(FILE, 0), tid: TID, count: 1, isCompressed: true });
    const rest = wire.writer.run({ bytes: bytesOf(FILE, 1, 3), tid: LAST, count: 3, isCompressed: true });
    await wire.send(first, rest);
    if (compress === "off") {
      await secondary.log.waitFor(/kind "Z" cannot stand here/);
    } else {
      await wire.receiveDurable(LAST);
      assertSameBytes(scene.disk.bytes(COPY), FILE.bytes);
    }
  }
});

Deno.test("a record's own tid is stored as it comes: in odd old files it is not the transaction's", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using _secondary = await scene.startSecondary({ protocol: "native", buffers: SMALL });
  const { wire } = await welcomed(primary);
  for (const [i, length] of [10, 9_000].entries()) {
    const tid = TID + BigInt(i);
    await wire.send(
      wire.writer.transaction({ tid, records: [{ oid: 1n, tid: TID - 1n, data: "x".repeat(length) }] }),
    );
    await wire.receiveDurable(tid);
  }
  const file = dataFs([10, 9_000].map((length, i) => ({
    tid: TID + BigInt(i),
    records: [{ oid: 1n, data: "x".repeat(length), damage: { tid: TID - 1n } }],
  })));
  assertSameBytes(scene.disk.bytes(COPY), file.bytes);
});

Deno.test("one form may follow the other", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using _secondary = await scene.startSecondary({ protocol: "native" });
  const { wire } = await welcomed(primary);
  const { writer } = wire;
  await wire.send(
    writer.run({ bytes: bytesOf(RESTORED, 0), tid: TID, count: 1 }),
    control({ type: "news of a later version", tid: tidText(TID) }),
    writer.transaction(TRANSACTIONS[1]!),
    writer.run({ bytes: bytesOf(RESTORED, 2), tid: LAST, count: 1 }),
  );
  await wire.receiveDurable(LAST);
  assertSameBytes(scene.disk.bytes(COPY), RESTORED.bytes);
});

Deno.test("a secondary answers what a source asks about its history", async () => {
  const scene = new Scene();
  scene.disk.put(COPY, beginningOf(FILE, 2));
  using primary = await scene.listen();
  await using _secondary = await scene.startSecondary({ protocol: "native" });
  const wire = await primary.acceptNative();
  await wire.receiveMessage("hello");
  await wire.sendMessage({ type: "ask", question: { kind: "marks", after: null, before: null, count: 64 } });
  const { answer } = await wire.receiveMessage("answer");
  const { marks, whole } = answer as { marks: Record<string, unknown>[]; whole: boolean };
  assert.equal(whole, true);
  assert.deepEqual(marks.map(({ tid, packed }) => ({ tid, packed })), [
    { tid: tidText(TID), packed: false },
    { tid: tidText(TID + 1n), packed: false },
  ]);
  const other = { ...marks[1]!, body: "0".repeat(32) };
  for (const [transactions, held] of [[marks, ["same", "same"]], [[other], ["other"]]] as const) {
    await wire.sendMessage({ type: "ask", question: { kind: "holds", transactions } });
    assert.deepEqual((await wire.receiveMessage("answer")).answer, { kind: "holds", held });
  }
});

Deno.test("a secondary waits a moment for a bye that asks for it, short for stopping, long for trouble", async () => {
  for (
    const [code, level, leastMs, mostMs] of [
      ["again", "info", 50, 100],
      ["stopping", "warning", 50, 100],
      ["a later code", "warning", 50, 100],
      ["trouble", "error", 30_000, 60_000],
    ] as const
  ) {
    const scene = new Scene();
    using primary = await scene.listen();
    await using secondary = await scene.startSecondary({ protocol: "auto" });
    const { wire } = await welcomed(primary);
    await wire.sendMessage({ type: "bye", code, reason: `because of ${code}` });
    const line = await secondary.log.waitFor(new RegExp(`because of ${code}`));
    assert.equal(line.level, level);
    const delayMs = await scene.clock.waitForTimer(leastMs, mostMs);
    await wire.receiveEnd();
    scene.clock.advance(delayMs);
    await welcomed(primary);
  }
});

Deno.test("a secondary that is told to come again and again waits longer each time, and says so, until something comes", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native", retryMaxMs: 800 });
  const bye = { type: "bye", code: "again", reason: "once more" };
  for (const delayMs of [50, 100, 200, 400, 400]) {
    const { wire } = await welcomed(primary);
    await wire.sendMessage(bye);
    await scene.clock.waitForTimer(delayMs);
    scene.clock.advance(delayMs);
  }
  const line = await secondary.log.waitFor(/has ended 3 connections in a row .*: once more/);
  assert.equal(line.level, "warning");
  const { wire } = await welcomed(primary);
  await wire.send(wire.writer.run(RUN));
  await wire.receiveDurable(LAST);
  await wire.sendMessage(bye);
  await scene.clock.waitForTimer(50);
});

Deno.test("a secondary that is stopped while it looks for a long answer does not look on", async () => {
  // 16 MiB of data, and transactions that have the same data again.
  const objects = Array.from({ length: 16 }, (_, i) => BigInt(i));
  const data = new Uint8Array(1024 * 1024);
  const again = objects.map((oid, at) => ({ oid, backPointer: [0, at] as const }));
  const long = dataFs([
    { tid: TID, records: objects.map((oid) => ({ oid, data })) },
    ...Array.from({ length: 30 }, (_, i) => ({ tid: TID + BigInt(i + 1), records: again })),
    { tid: TID + 99n, records: [] },
  ]);
  const scene = new Scene();
  scene.disk.put(COPY, long.bytes);
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native" });
  const wire = await primary.acceptNative();
  await wire.receiveMessage("hello");
  const schedule = scene.clock.schedule.bind(scene.clock);
  let pauses = 0;
  let stopped: Promise<void> | undefined;
  scene.clock.schedule = (delayMs, callback) => {
    if (delayMs === 0 && ++pauses === 3) stopped = secondary.stop();
    return schedule(delayMs, callback);
  };
  await wire.sendMessage({ type: "ask", question: { kind: "marks", after: null, before: null, count: 64 } });
  await wire.receiveEnd();
  await stopped;
  assert(pauses >= 3 && pauses < 10, `the whole answer takes 30 pauses, it took ${pauses}`);
});

Deno.test("a notice of the source is told to the administrator, and all goes on", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native" });
  const { wire } = await welcomed(primary, { notice: "something may be missing" });
  await wire.send(wire.writer.run(RUN));
  await secondary.waitForTid(LAST);
  assert.equal((await secondary.log.waitFor(/something may be missing/)).level, "warning");
});

for (const status of [" ", "p", "u"] as const) {
  Deno.test(`a transaction with status ${JSON.stringify(status)} may be larger than all buffers`, async () => {
    const scene = new Scene();
    using primary = await scene.listen();
    await using secondary = await scene.startSecondary({ protocol: "native", buffers: SMALL });
    const { wire } = await welcomed(primary);
    const records = Array.from({ length: 5 }, (_, i) => ({ oid: BigInt(i), data: `${i}`.repeat(5_000) }));
    const file = dataFs([HISTORY[0]!, { tid: TID + 1n, status, records }, {
      tid: TID + 2n,
      records: [{ oid: 9n, data: "behind" }],
    }]);
    const { writer } = wire;
    await wire.send(writer.run({ bytes: bytesOf(file, 0), tid: TID, count: 1 }));
    const tid = status === "u" ? TID : TID + 1n;
    await wire.send(writer.run({ bytes: bytesOf(file, 1), tid, count: 1, frameBytes: 1_500 }));
    if (tid !== TID) await wire.receiveDurable(tid);
    await wire.send(writer.run({ bytes: bytesOf(file, 2), tid: TID + 2n, count: 1 }));
    await wire.receiveDurable(TID + 2n);
    assertSameBytes(scene.disk.bytes(COPY), file.bytes);
    assert.deepEqual(secondary.log.complaints(), []);
  });
}

Deno.test("a large transaction that is cancelled is never told as the last one", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native", buffers: SMALL });
  const { wire } = await welcomed(primary);
  const file = dataFs([HISTORY[0]!, {
    tid: TID + 1n,
    status: "u",
    records: [{ oid: 0n, data: "x".repeat(20_000) }],
  }]);
  const { writer } = wire;
  await wire.send(writer.run({ bytes: bytesOf(file, 0), tid: TID, count: 1 }));
  await wire.send(writer.run({ bytes: bytesOf(file, 1), tid: TID, count: 1, frameBytes: 1_500 }));
  await wire.sendMessage({ type: "bye", code: "again", reason: "to hear what it has" });
  const delayMs = await scene.clock.waitForTimer(50, 100);
  scene.clock.advance(delayMs);
  const { hello } = await welcomed(primary);
  assert.equal(hello.lastTid, tidText(TID));
  assert.equal(hello.end, file.end);
  assert.equal(secondary.lastTid, TID);
});

Deno.test("a large transaction comes record by record too", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using _secondary = await scene.startSecondary({ protocol: "native", buffers: SMALL });
  const { wire } = await welcomed(primary);
  const records = Array.from({ length: 5 }, (_, i) => ({ oid: BigInt(i), data: `${i}`.repeat(5_000) }));
  await wire.send(wire.writer.transaction({ tid: TID, records }));
  await wire.receiveDurable(TID);
  assertSameBytes(scene.disk.bytes(COPY), dataFs([{ tid: TID, records }]).bytes);
});

Deno.test("a source that says nothing for the time limit is left, one that says beats is not", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "auto", peerTimeoutMs: 20_000 });
  const { wire } = await welcomed(primary);
  for (let i = 0; i < 5; i++) {
    await wire.sendMessage({ type: "beat", lastTid: tidText(0n), end: 4, time: scene.clock.now() });
    await othersHaveRun();
    scene.clock.advance(19_000);
    await othersHaveRun();
  }
  assert.deepEqual(secondary.log.complaints(), []);
  scene.clock.advance(20_000);
  await secondary.log.waitFor(/the source has said nothing for 20 s/);
  await wire.receiveEnd();
  const delayMs = await scene.clock.waitForTimer(50, 100);
  scene.clock.advance(delayMs);
  await welcomed(primary);
});

Deno.test("a secondary says beats as often as the more impatient end wants, with what is durable", async () => {
  for (const [wanted, agreed] of [[30_000, 5_000], [5_000, 5_000], [700, 700], [0, 100]] as const) {
    const scene = new Scene();
    scene.disk.put(COPY, beginningOf(FILE, 1));
    using primary = await scene.listen();
    await using _secondary = await scene.startSecondary({ protocol: "native", peerTimeoutMs: 20_000 });
    const { wire } = await welcomed(primary, { beatMs: wanted });
    await othersHaveRun();
    scene.clock.advance(5_000); // the one that was set off before the welcome
    const first = await wire.receiveMessage("beat", []);
    assert.deepEqual([first.lastTid, first.end], [tidText(TID), FILE.transactions[0]!.end]);
    assert.equal(first.time, scene.clock.now());
    await scene.clock.waitForTimer(agreed);
  }
});

Deno.test("a clock that differs from the source's is told once", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native" });
  const { wire } = await welcomed(primary);
  for (const aheadMs of [59_000, -59_000, 120_000, 180_000]) {
    const time = scene.clock.now() + aheadMs;
    await wire.sendMessage({ type: "beat", lastTid: tidText(0n), end: 4, time });
  }
  await wire.send(wire.writer.run(RUN));
  await wire.receiveDurable(LAST);
  assert.deepEqual(secondary.log.matching(/clock of/).length, 1);
  await secondary.log.waitFor(/is 120 s ahead of this machine's/);
});

Deno.test("a secondary that is stopped says goodbye", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native" });
  const { wire } = await welcomed(primary);
  const stopped = secondary.stop();
  assert.equal((await wire.receiveMessage("bye")).code, "stopping");
  await stopped;
});
