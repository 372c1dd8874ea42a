/** What a primary does with the native stream, step by step. */
import assert from "node:assert/strict";
import { dataFs } from "../kit/data_fs.ts";
import { othersHaveRun } from "../kit/manual_clock.ts";
import { control, frame, framesOf, hello, NativeReader } from "../kit/native_wire.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { eight, framed, join } from "../kit/zrs_wire.ts";
import {
  acknowledge,
  answerAs,
  attach,
  beginningOf,
  bytesOf,
  digestOf,
  FILE,
  helloWith,
  HISTORY,
  LAST,
  NEXT,
  receiveOnly,
  receiveRuns,
  RESTORED,
  sceneWith,
  SMALL,
  TID,
  tidText,
  TRANSACTIONS,
} from "./native_kit.ts";
import { ORIGINAL, Scene } from "./scene.ts";

Deno.test("a primary welcomes an empty secondary, sends its file as it lies, and says when that is complete", async () => {
  const scene = sceneWith();
  await using primary = await scene.startPrimary({ software: "zrs test", peerTimeoutMs: 20_000 });
  const { wire, welcome } = await attach(scene);
  assert.deepEqual(welcome, {
    type: "welcome",
    version: 1,
    software: "zrs test",
    capabilities: ["raw"],
    lastTid: tidText(LAST),
    end: FILE.end,
    beatMs: 5_000,
  });
  const { bytes, tids, count } = await receiveRuns(wire);
  assertSameBytes(bytes, FILE.bytes.subarray(4));
  assert.deepEqual([tids.at(-1), count], [LAST, 4]);
  await acknowledge(wire, LAST);

  scene.disk.put(ORIGINAL, dataFs([...HISTORY, NEXT]).bytes);
  const next = await wire.receiveEvent();
  assert(next?.kind === "run" && next.tid === NEXT.tid);
  const complete = await receiveOnly(wire, "complete");
  assert.equal(complete.lastTid, tidText(NEXT.tid));
  await acknowledge(wire, NEXT.tid);
  await primary.log.waitFor(/connected with a script, has/);
  assert.deepEqual(primary.log.complaints(), []);
});

Deno.test("a primary sends what is later than a secondary's last transaction, as bytes where the files agree", async () => {
  const scene = sceneWith();
  await using _primary = await scene.startPrimary();
  const { wire } = await attach(scene, helloWith(2));
  assertSameBytes((await receiveRuns(wire)).bytes, bytesOf(FILE, 2, 3));
});

Deno.test("a secondary whose file ends with cancelled transactions goes on behind them, as bytes", async () => {
  const cancelled = [3n, 4n, 5n].map((i) => {
    return { tid: TID + i, status: "u" as const, records: [{ oid: 0n, data: `${i}` }] };
  });
  const file = dataFs([...HISTORY.slice(0, 2), ...cancelled, NEXT]);
  for (const count of [2, 3, 4, 5]) {
    const scene = sceneWith(file.bytes);
    await using _primary = await scene.startPrimary();
    const { wire } = await attach(scene, helloWith(2, { end: file.transactions[count - 1]!.end }));
    assertSameBytes((await receiveRuns(wire)).bytes, bytesOf(file, count, 5));
    await acknowledge(wire, NEXT.tid);
  }
});

Deno.test("a primary says complete to a secondary that has all, and nothing else", async () => {
  const scene = sceneWith(beginningOf(FILE, 2));
  await using _primary = await scene.startPrimary();
  const { wire } = await attach(scene, helloWith(2));
  assert.deepEqual(await receiveRuns(wire), { bytes: new Uint8Array(), tids: [], count: 0 });
});

for (
  const [why, fields] of [
    ["does not ask for bytes", { capabilities: [] }],
    ["has the same in fewer bytes", { end: FILE.transactions[1]!.end - 1 }],
    ["ends within a cancelled transaction", { end: FILE.transactions[2]!.end - 1 }],
    ["ends with a transaction that it does not tell", { end: FILE.transactions[3]!.end }],
    ["ends behind our file", { end: FILE.end + 1_000 }],
  ] as const
) {
  Deno.test(`a primary sends record by record to a secondary that ${why}`, async () => {
    const scene = sceneWith();
    await using primary = await scene.startPrimary();
    const { wire } = await attach(scene, helloWith(2, fields));
    const event = await wire.receiveEvent();
    assert(event?.kind === "transaction");
    const { tid, records } = event.transaction;
    assert.equal(tid, LAST);
    const expected = TRANSACTIONS[2]!.records.map(({ oid, dataTid, data }) => ({
      oid,
      tid: LAST,
      dataTid: dataTid ?? 0n,
      data,
    }));
    const text = (bytes: Uint8Array | string) => new TextDecoder().decode(bytes as Uint8Array);
    assert.deepEqual(records.map((record) => ({ ...record, data: text(record.data) })), expected);
    await receiveOnly(wire, "complete");
    await acknowledge(wire, LAST);
    assert.deepEqual(primary.log.complaints(), []);
  });
}

Deno.test("a run has at most as many bytes as the secondary wants, and one transaction if that is more", async () => {
  const big = dataFs(Array.from({ length: 30 }, (_, i) => ({
    tid: TID + BigInt(i),
    records: [{ oid: BigInt(i), data: "x".repeat(i === 7 ? 3_000 : 100) }],
  })));
  for (const runBytes of [0, 1, 500, 2_000]) {
    const scene = sceneWith(big.bytes);
    await using _primary = await scene.startPrimary();
    const { wire } = await attach(scene, hello({ runBytes }));
    let at = 4;
    while (at < big.end) {
      const event = await wire.receiveEvent();
      assert(event?.kind === "run");
      assert(event.count === 1 || event.bytes.length <= runBytes, `${event.bytes.length} bytes`);
      assertSameBytes(event.bytes, big.bytes.subarray(at, at += event.bytes.length));
    }
    await receiveOnly(wire, "complete");
  }
});

Deno.test("a secondary beyond the pack gets what is later, with a notice", async () => {
  const packed = dataFs([
    { tid: TID + 4n, status: "p", records: [{ oid: 0n, data: "kept" }] },
    NEXT,
  ]);
  const scene = sceneWith(packed.bytes);
  await using primary = await scene.startPrimary();
  const wire = await scene.connectNative();
  await wire.sendMessage(helloWith(2));
  const answered = await answerAs(wire, HISTORY.slice(0, 2), 0);
  assert.equal(answered?.type, "welcome");
  assert.match(`${answered.notice}`, /beyond the pack: your last transaction is 036c900000000002/);
  for (const tid of [TID + 4n, NEXT.tid]) {
    const event = await wire.receiveEvent();
    assert(event?.kind === "transaction" && event.transaction.tid === tid);
  }
  await receiveOnly(wire, "complete");
  assert.match(
    `${answered.notice}`,
    /NOTHING that you have could be compared .* another database altogether/,
  );
  assert.equal((await primary.log.waitFor(/beyond the pack/)).level, "error");
});

Deno.test("where something could be compared, being beyond the pack is a warning", async () => {
  const common = { ...HISTORY[0]!, status: "p" as const };
  const scene = sceneWith(dataFs([common, { ...NEXT, status: "p" }]).bytes);
  await using primary = await scene.startPrimary();
  const wire = await scene.connectNative();
  await wire.sendMessage(helloWith(2));
  const answered = await answerAs(wire, HISTORY.slice(0, 2), 2);
  assert.match(`${answered?.notice}`, /the last that could be compared and is the same is 036c900000000001/);
  assert.equal((await primary.log.waitFor(/beyond the pack/)).level, "warning");
});

Deno.test("a hello may come byte by byte, and with fields that are not known", async () => {
  const scene = sceneWith();
  await using _primary = await scene.startPrimary();
  const wire = await scene.connectNative();
  for (const byte of control(hello({ later: { and: "more" } }))) await wire.send(new Uint8Array([byte]));
  await wire.receiveMessage("welcome");
  assertSameBytes((await receiveRuns(wire)).bytes, FILE.bytes.subarray(4));
});

Deno.test("a primary says beats at the rate that the more impatient end wants, with what it has", async () => {
  for (const [wanted, agreed] of [[30_000, 5_000], [700, 700], [0, 100]] as const) {
    const scene = sceneWith();
    await using _primary = await scene.startPrimary({ peerTimeoutMs: 20_000 });
    const { wire, welcome } = await attach(scene, hello({ beatMs: wanted }));
    assert.equal(welcome.beatMs, agreed);
    await receiveRuns(wire);
    for (let i = 0; i < 3; i++) {
      await scene.clock.waitForTimer(agreed);
      scene.clock.advance(agreed);
      const beat = await wire.receiveMessage("beat", []);
      assert.deepEqual(beat, {
        type: "beat",
        lastTid: tidText(LAST),
        end: FILE.end,
        time: scene.clock.now(),
      });
    }
  }
});

Deno.test("a primary that stops says goodbye", async () => {
  const scene = sceneWith();
  await using primary = await scene.startPrimary();
  const { wire } = await attach(scene);
  await receiveRuns(wire);
  const stopped = primary.stop();
  assert.equal((await receiveOnly(wire, "bye")).code, "stopping");
  assert.equal(await wire.receiveFrame(), null);
  await stopped;
});

Deno.test("a secondary that says goodbye is nothing to complain of", async () => {
  const scene = sceneWith();
  await using primary = await scene.startPrimary();
  const { wire } = await attach(scene);
  await receiveRuns(wire);
  await wire.sendMessage({ type: "bye", code: "stopping", reason: "that is all" });
  await wire.receiveEnd();
  await primary.log.waitFor(/disconnected/);
  assert.deepEqual(primary.log.complaints(), []);
});

Deno.test("why a secondary cannot go on is told to the source's administrator", async () => {
  const scene = sceneWith();
  await using primary = await scene.startPrimary();
  const { wire } = await attach(scene);
  await receiveRuns(wire);
  await wire.sendMessage({ type: "bye", code: "trouble", reason: "What follows does not fit" });
  await wire.receiveEnd();
  const { level } = await primary.log.waitFor(/cannot go on: What follows does not fit/);
  assert.equal(level, "warning");
});

Deno.test("a secondary whose source is packed or rolled back is told to come again", async () => {
  const packed = dataFs([{ ...HISTORY[0]!, status: "p" }, ...HISTORY.slice(1, 2)]).bytes;
  const changes: ((scene: Scene) => void)[] = [
    (scene) => {
      scene.disk.put("/source/Data.fs.pack", packed);
      scene.disk.rename("/source/Data.fs.pack", ORIGINAL);
    },
    (scene) => scene.disk.put(ORIGINAL, beginningOf(FILE, 2)),
  ];
  for (const change of changes) {
    const scene = sceneWith();
    await using _primary = await scene.startPrimary();
    const { wire } = await attach(scene);
    await receiveRuns(wire);
    change(scene);
    assert.equal((await receiveOnly(wire, "bye")).code, "again");
    assert.equal(await wire.receiveFrame(), null);
  }
});

for (const capabilities of [["raw"], []]) {
  const form = capabilities.length > 0 ? "bytes of it are" : "it is";
  Deno.test(`a secondary is told to come again where the file is cut while ${form} sent`, async () => {
    const transactions = [0, 1, 2, 3].map((at) => ({
      tid: TID + BigInt(at),
      records: [{ oid: BigInt(at), data: "x".repeat(at === 2 ? 600_000 : 10) }],
    }));
    const { bytes, transactions: places } = dataFs(transactions);
    const scene = sceneWith(bytes, { capacity: 4_096 });
    await using _primary = await scene.startPrimary({ buffers: SMALL });
    const { wire } = await attach(scene, hello({ capabilities, runBytes: 1 }));
    for (let i = 0; i < 20; i++) await othersHaveRun(); // the first of it waits to be taken
    scene.disk.put(ORIGINAL, bytes.slice(0, places[1]!.end + 300_000)); // within the third
    const tids = [];
    for (;;) {
      const event = await wire.receiveEvent();
      assert(event !== null, "it must say why it ends");
      if (event.kind !== "message") {
        tids.push(event.kind === "run" ? event.tid : event.transaction.tid);
        continue;
      }
      assert.deepEqual([event.message.type, event.message.code], ["bye", "again"]);
      break;
    }
    assert(tids.every((tid) => tid <= TID + 1n), "nothing is whole that has gone");
    const { wire: next } = await attach(scene, hello());
    assert.equal((await receiveRuns(next)).tids.at(-1), TID + 1n);
  });
}

Deno.test("damage in the middle of the source: what is before it gets through in either form, then the reason", async () => {
  const bad = (damage: object, record: object) => ({
    tid: TID + 4n,
    records: [{ oid: 7n, data: "damaged", damage: record }],
    damage,
  });
  for (
    const [capabilities, damage, record, reason] of [
      [["raw"], { trailer: 5n }, {}, /Cannot read transaction .*036c900000000005/],
      [[], { trailer: 5n }, {}, /Cannot read transaction .*036c900000000005/],
      [[], {}, { transaction: 99n }, /Cannot read data record at \d+ of transaction 036c900000000005/],
    ] as const
  ) {
    const file = dataFs([...HISTORY, bad(damage, record), NEXT]);
    const scene = sceneWith(file.bytes);
    await using primary = await scene.startPrimary();
    const { wire } = await attach(scene, hello({ capabilities: [...capabilities] }));
    const tids = [];
    let event = await wire.receiveEvent();
    for (; event !== null && event.kind !== "message"; event = await wire.receiveEvent()) {
      tids.push(event.kind === "run" ? event.tid : event.transaction.tid);
    }
    assert.equal(tids.at(-1), LAST);
    assert(event !== null);
    assert.deepEqual([event.message.type, event.message.code], ["bye", "trouble"]);
    assert.match(`${event.message.reason}`, reason);
    await wire.receiveEnd();
    assert.match((await primary.log.waitFor(/dropped/)).message, reason);
  }
});

Deno.test("a link cut at any byte that a secondary sends is nothing to complain of", async () => {
  const message = control(helloWith(1, { digest: "0".repeat(32) }));
  const answer = control({ type: "answer", answer: { kind: "holds", held: ["same"] } });
  const scene = sceneWith();
  await using primary = await scene.startPrimary();
  for (let cut = 0; cut <= message.length + answer.length; cut++) {
    const wire = await scene.connectNative();
    const from = primary.log.lines.items.length;
    await wire.send(join(message, answer).subarray(0, Math.min(cut, message.length)));
    if (cut > message.length) {
      await wire.receiveMessage("ask");
      await wire.send(answer.subarray(0, cut - message.length));
    }
    wire.close();
    await primary.log.waitFor(
      cut === message.length + answer.length ? /disconnected|refused/ : /disconnected/,
      { from },
    );
  }
  const { wire } = await attach(scene);
  assertSameBytes((await receiveRuns(wire)).bytes, FILE.bytes.subarray(4));
});

Deno.test("a link cut at any byte that a primary sends is nothing to complain of, and what came is the same each time", async () => {
  const whole = await (async () => {
    const scene = sceneWith();
    await using _primary = await scene.startPrimary();
    const wire = await scene.connectNative();
    await wire.sendMessage(hello({ runBytes: 100 }));
    const parts: Uint8Array[] = [];
    for (let received; (received = await wire.receiveFrame()) !== null;) {
      parts.push(frame(received.kind, received.body));
      if (received.kind === "{" && new TextDecoder().decode(received.body).includes('"complete"')) break;
    }
    return join(...parts);
  })();
  const reader = new NativeReader();
  const runs = framesOf(whole).map((each) => reader.push(each)).filter((event) => event?.kind === "run");
  assertSameBytes(
    join(...runs.map((event) => event!.kind === "run" ? event!.bytes : new Uint8Array())),
    FILE.bytes.subarray(4),
  );
  assert(runs.length >= 3);
  for (let cut = 0; cut < whole.length; cut++) {
    const scene = sceneWith();
    await using primary = await scene.startPrimary();
    const wire = await scene.connectNative();
    await wire.sendMessage(hello({ runBytes: 100 }));
    if (cut > 0) assertSameBytes((await wire.receiveBytes(cut))!, whole.subarray(0, cut));
    wire.close();
    await primary.log.waitFor(/disconnected/);
    assert.deepEqual(primary.log.complaints(), []);
  }
});

Deno.test("a primary that serves as many as it may refuses one more as busy", async () => {
  const scene = sceneWith();
  await using _primary = await scene.startPrimary({ maxSecondaries: 1 });
  const { wire: first } = await attach(scene);
  await receiveRuns(first);
  const second = await scene.connectNative();
  await second.sendMessage(hello());
  assert.equal((await second.receiveMessage("refused")).code, "busy");
  assert.equal(await second.receiveFrame(), null);
});

Deno.test("a secondary by zrs2 is served beside one by the native stream", async () => {
  const scene = sceneWith(RESTORED.bytes);
  await using primary = await scene.startPrimary();
  const { wire } = await attach(scene);
  const old = await scene.connect();
  await old.send(framed("zrs2.1"), framed(eight(TID + 1n)));
  assertSameBytes((await receiveRuns(wire)).bytes, RESTORED.bytes.subarray(4));
  for (let i = 0; i < 6; i++) assert.notEqual(await old.receive(), null); // T, two of S with data, C
  assert.deepEqual(primary.log.complaints(), []);
});

/** A file that takes several pauses to walk through, and a hello of one that has its first transaction. */
function longWalk() {
  const many = Array.from({ length: 70_000 }, (_, at) => ({ tid: TID + BigInt(at), records: [] }));
  return {
    bytes: dataFs(many).bytes,
    message: hello({ lastTid: tidText(TID + 35_000n), digest: digestOf(many[35_000]!), end: 4 }),
  };
}

Deno.test("a secondary hears beats while a primary walks through a long file for it", async () => {
  const { bytes, message } = longWalk();
  const scene = sceneWith(bytes);
  await using primary = await scene.startPrimary({ peerTimeoutMs: 60_000 });
  const wire = await scene.connectNative();
  await wire.sendMessage(message);
  await scene.clock.waitForTimer(0);
  scene.clock.advance(15_000);
  const first = await wire.receiveFrame();
  assert.equal(first?.kind, "{");
  assert.match(new TextDecoder().decode(first.body), /"beat"/);
  await wire.receiveMessage("welcome");
  assert.deepEqual(primary.log.complaints(), []);
});

Deno.test("a secondary hears beats while it thinks about a question", async () => {
  const scene = sceneWith();
  await using _primary = await scene.startPrimary({ peerTimeoutMs: 60_000 });
  const wire = await scene.connectNative();
  await wire.sendMessage(helloWith(2, { digest: "0".repeat(32) }));
  await wire.receiveMessage("ask");
  scene.clock.advance(15_000);
  const next = await wire.receiveFrame();
  assert(next?.kind === "{");
  assert.match(new TextDecoder().decode(next.body), /"beat"/);
});

Deno.test("a run is no mixture of two histories when the file is rolled back and grows again under it", async () => {
  const history = (from: number, character: string) =>
    dataFs([0, 1, 2].map((at) => ({
      tid: TID + BigInt(from + at),
      records: [{ oid: 0n, data: character.repeat(200_000) }],
    }))).bytes;
  const [before, after] = [history(0, "a"), history(10, "b")];
  const scene = sceneWith(before, { capacity: 4_096 });
  await using _primary = await scene.startPrimary({
    buffers: { readBytes: 512, runBytes: 4_096, sendBytes: 4_096 },
  });
  const { wire } = await attach(scene, hello({ runBytes: 8 * 1024 * 1024 }));
  for (let i = 0; i < 20; i++) await othersHaveRun(); // the first of it waits to be taken
  scene.disk.put(ORIGINAL, after);
  for (;;) {
    const event = await wire.receiveEvent().catch(() => null); // it may end within a frame
    if (event === null) break;
    assert(event.kind !== "run", "the run must not be finished");
  }
});
