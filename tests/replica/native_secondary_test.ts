/** What a secondary does with the native stream, step by step, whatever its source says. */
import assert from "node:assert/strict";
import { dataFs } from "../kit/data_fs.ts";
import {
  content,
  control,
  framesOf,
  hello,
  messageOf,
  type NativeWire,
  NativeWriter,
  welcome,
} from "../kit/native_wire.ts";
import { othersHaveRun } from "../kit/manual_clock.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { join } from "../kit/zrs_wire.ts";
import {
  beginningOf,
  bytesOf,
  digestOf,
  FILE,
  HISTORY,
  RESTORED,
  TID,
  tidText,
  TRANSACTIONS,
  welcomed,
} from "./native_kit.ts";
import { COPY, Scene } from "./scene.ts";

const LAST = TID + 3n;

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
    runBytes: 4_999,
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

Deno.test("one form may follow the other", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using _secondary = await scene.startSecondary({ protocol: "native" });
  const { wire } = await welcomed(primary);
  const { writer } = wire;
  await wire.send(
    writer.run({ bytes: bytesOf(RESTORED, 0), tid: TID, count: 1 }),
    control({ type: "packed", tid: tidText(TID) }),
    writer.transaction(TRANSACTIONS[1]!),
    writer.run({ bytes: bytesOf(RESTORED, 2), tid: LAST, count: 1 }),
  );
  await wire.receiveDurable(LAST);
  assertSameBytes(scene.disk.bytes(COPY), RESTORED.bytes);
});

/** What a source says behind a good run, and what the log must say then. */
const ATTACKS: readonly {
  readonly what: string;
  readonly send: (wire: NativeWire, writer: NativeWriter) => Uint8Array;
  readonly says: RegExp;
  /** The transactions that came whole, with the right checksum, stay although what is said of them is wrong. */
  readonly keeps?: number;
}[] = [
  { what: "a second welcome", send: () => control(welcome()), says: /Cannot take welcome: it has been said/ },
  {
    what: "a question behind the welcome",
    send: () => control({ type: "ask", question: { kind: "marks", after: null, before: null, count: 1 } }),
    says: /Cannot take message ask/,
  },
  { what: "a hello", send: () => control(hello()), says: /Cannot take message hello/ },
  {
    what: "an answer",
    send: () => control({ type: "answer", answer: 1 }),
    says: /Cannot take message answer/,
  },
  {
    what: "an HTTP answer",
    send: () => new TextEncoder().encode("HTTP/1.1 400 Bad\r\n"),
    says: /HTTP server/,
  },
  {
    what: "an acknowledgement",
    send: () => join(new Uint8Array([0, 0, 0, 29, 0x41]), new Uint8Array(28)),
    says: /Cannot take acknowledgement: this end has sent no transaction/,
  },
  {
    what: "what must be understood",
    send: () => control({ type: "new", mustUnderstand: 1 }),
    says: /Cannot understand message new/,
  },
  {
    what: "a wrong checksum",
    send: (_, writer) => writer.run({ bytes: bytesOf(FILE, 1), tid: TID + 1n, count: 1, checksum: 0 }),
    says: /its checksum is wrong/,
  },
  {
    what: "a wrong count",
    send: (_, writer) => writer.run({ bytes: bytesOf(FILE, 1), tid: TID + 1n, count: 2 }),
    says: /it must have 2 transactions .* and has 1/,
    keeps: 2,
  },
  {
    what: "a wrong tid",
    send: (_, writer) => writer.run({ bytes: bytesOf(FILE, 1), tid: TID + 2n, count: 1 }),
    says: /end with 036c900000000003 .* ends with 036c900000000002/,
    keeps: 2,
  },
  {
    what: "a wrong checksum of a transaction",
    send: (_, writer) => writer.transaction(TRANSACTIONS[1]!, 0),
    says: /its checksum is wrong/,
  },
  {
    what: "the same tid again",
    send: (_, writer) => writer.transaction({ tid: TID, records: [] }),
    says: /its tid must be greater than the last/,
  },
  {
    what: "a status of u",
    send: (_, writer) => writer.transaction({ tid: TID + 1n, status: "u", records: [] }),
    says: /its status must be ' ' or 'p'/,
  },
];

for (const { what, send, says, keeps = 1 } of ATTACKS) {
  Deno.test(`a secondary survives ${what} from its source, and tells it`, async () => {
    const scene = new Scene();
    using primary = await scene.listen();
    await using secondary = await scene.startSecondary({ protocol: "auto" });
    const { wire } = await welcomed(primary);
    await wire.send(wire.writer.run({ bytes: bytesOf(FILE, 0), tid: TID, count: 1 }));
    await wire.receiveDurable(TID);
    const from = secondary.log.lines.items.length;
    await wire.send(send(wire, wire.writer));
    const bye = await wire.receiveMessage("bye");
    assert.equal(bye.code, "trouble");
    assert.match(`${bye.reason}`, says);
    assert.match((await secondary.log.waitFor(/connecting again/, { from })).message, says);

    const delayMs = await scene.clock.waitForTimer(1, 1_000);
    scene.clock.advance(delayMs);
    const again = await welcomed(primary);
    assert.equal(again.hello.lastTid, tidText(HISTORY[keeps - 1]!.tid));
    const rest = { bytes: bytesOf(FILE, keeps, 3), tid: LAST, count: 4 - keeps };
    await again.wire.send(again.wire.writer.run(rest));
    await again.wire.receiveDurable(LAST);
    assertSameBytes(scene.disk.bytes(COPY), FILE.bytes);
  });
}

/** The same before the welcome. */
const EARLY: readonly { readonly what: string; readonly sent: Uint8Array; readonly says: RegExp }[] = [
  {
    what: "a run",
    sent: new NativeWriter().run({ bytes: bytesOf(FILE, 0), tid: TID, count: 1 }),
    says: /Cannot take transaction: it comes before the welcome/,
  },
  {
    what: "a transaction",
    sent: new NativeWriter().transaction(TRANSACTIONS[0]!),
    says: /Cannot take transaction: it comes before the welcome/,
  },
  {
    what: "complete",
    sent: control({ type: "complete", lastTid: tidText(0n), end: 4 }),
    says: /Cannot take message complete/,
  },
  {
    what: "a welcome of version 2",
    sent: control(welcome({ version: 2 })),
    says: /version 1 .* the source 2/,
  },
  {
    what: "two questions at once",
    sent: join(control({ type: "ask", question: 1 }), control({ type: "ask", question: 2 })),
    says: /Cannot take message ask/,
  },
  {
    what: "a question that is none",
    sent: control({ type: "ask", question: { kind: "why" } }),
    says: /Cannot answer/,
  },
  {
    what: "a question for too much",
    sent: control({ type: "ask", question: { kind: "marks", after: null, before: null, count: 65 } }),
    says: /its count must be from 1 to 64/,
  },
];

for (const { what, sent, says } of EARLY) {
  Deno.test(`a secondary takes no ${what} before the welcome`, async () => {
    const scene = new Scene();
    scene.disk.put(COPY, beginningOf(FILE, 2));
    using primary = await scene.listen();
    await using secondary = await scene.startSecondary({ protocol: "native" });
    const wire = await primary.acceptNative();
    await wire.receiveMessage("hello");
    await wire.sendMessage({ type: "beat", lastTid: tidText(0n), end: 4, time: scene.clock.now() });
    await wire.send(sent);
    assert.match(`${(await wire.receiveMessage("bye")).reason}`, says);
    await secondary.log.waitFor(says);
    assertSameBytes(scene.disk.bytes(COPY), beginningOf(FILE, 2));
  });
}

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

for (const code of ["ahead", "forked", "busy", "version", "capability", "trouble", "a later code"]) {
  Deno.test(`a secondary that is refused as ${code} says so, changes nothing, and asks again much later`, async () => {
    const scene = new Scene();
    scene.disk.put(COPY, beginningOf(FILE, 2));
    using primary = await scene.listen();
    await using secondary = await scene.startSecondary({ protocol: "auto" });
    const wire = await primary.acceptNative();
    await wire.receiveMessage("hello");
    await wire.sendMessage({ type: "refused", code, reason: `${code}: so it is`, commonTid: tidText(TID) });
    wire.close();
    const { level } = await secondary.log.waitFor(new RegExp(`: ${code}: so it is`));
    assert.equal(level, "error");
    await scene.clock.waitForTimer(30_000);
    scene.clock.advance(30_000);
    const again = await welcomed(primary);
    assert.equal(again.hello.lastTid, tidText(TID + 1n), "it goes on with the native stream");
    assertSameBytes(scene.disk.bytes(COPY), beginningOf(FILE, 2));
  });
}

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

Deno.test("a notice of the source is told to the administrator, and all goes on", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native" });
  const { wire } = await welcomed(primary, { notice: "something may be missing" });
  await wire.send(wire.writer.run(RUN));
  await secondary.waitForTid(LAST);
  assert.equal((await secondary.log.waitFor(/something may be missing/)).level, "warning");
});

Deno.test("a run that does not fit is asked for again record by record, and what fits of it stays", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native" });
  const { wire } = await welcomed(primary);
  const misfit = dataFs([
    HISTORY[0]!,
    { tid: TID + 1n, records: [{ oid: 1n, data: "x" }, { oid: 0n, data: "two", damage: { previous: 5n } }] },
  ]);
  await wire.send(wire.writer.run({ bytes: bytesOf(misfit, 0, 1), tid: TID + 1n, count: 2 }));
  await secondary.log.waitFor(/does not fit behind this one: .*; asking source:5000 for it record by record/);
  const again = await welcomed(primary);
  assert.equal(again.hello.lastTid, tidText(TID));
  assert.deepEqual((again.hello.capabilities as string[]).includes("raw"), false);
  for (const each of TRANSACTIONS.slice(1)) await again.wire.send(again.wire.writer.transaction(each));
  await again.wire.receiveDurable(LAST);
  assertSameBytes(scene.disk.bytes(COPY), RESTORED.bytes);
  assert.deepEqual(secondary.log.complaints(), []);
  await again.wire.send(content("x"));
  await secondary.log.waitFor(/Cannot take bytes of a file: they were not asked for/);
});

const SMALL = { readBytes: 512, runBytes: 4_096, sendBytes: 4_096 };

Deno.test("a run of more bytes than were asked for is no transaction, and is asked for record by record", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native", buffers: SMALL });
  const { wire } = await welcomed(primary);
  const file = dataFs(
    [0n, 1n].map((i) => ({ tid: TID + i, records: [{ oid: i, data: "x".repeat(3_000) }] })),
  );
  await wire.send(wire.writer.run({ bytes: bytesOf(file, 0, 1), tid: TID + 1n, count: 2 }));
  await secondary.log.waitFor(/record by record/);
  const { hello } = await welcomed(primary);
  assert.equal(hello.lastTid, tidText(0n));
  assert.equal(scene.disk.bytes(COPY).length, 4);
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

/** A disk whose syncs of the copy take until the test lets them go. */
class SlowDisk extends MemoryDisk {
  isHeld = false;
  readonly #held: (() => void)[] = [];

  override async sync(path: string): Promise<void> {
    if (this.isHeld && path === COPY) await new Promise<void>((resolve) => this.#held.push(resolve));
    await super.sync(path);
  }

  /** How many syncs are under way. */
  get heldCount(): number {
    return this.#held.length;
  }

  letOneGo(): void {
    this.#held.shift()!();
  }
}

Deno.test("nothing is acknowledged before the disk has made it durable", async () => {
  const disk = new SlowDisk();
  const scene = new Scene({ disk });
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native" });
  const { wire } = await welcomed(primary);
  disk.isHeld = true;
  await wire.send(wire.writer.run(RUN));
  const { connection } = wire as unknown as { connection: { unread: number } };
  let syncs = 0;
  for (; secondary.lastTid !== LAST; syncs++) {
    while (disk.heldCount === 0) await othersHaveRun();
    for (let i = 0; i < 20; i++) await othersHaveRun(); // time enough for one that would not wait
    assert.equal(connection.unread, 0, "an acknowledgement must not come before the sync");
    disk.letOneGo();
    for (let i = 0; i < 20; i++) await othersHaveRun();
  }
  assert(syncs >= 2);
  assert.equal((await wire.receiveDurable(LAST)).checksum, wire.writer.sum.value);
  disk.isHeld = false;
});

Deno.test("a sync that fails is never acknowledged", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native" });
  const { wire } = await welcomed(primary);
  scene.disk.fail({ operation: "sync", path: COPY, nth: 2, lasting: true });
  await wire.send(wire.writer.run(RUN));
  assert.match(`${await secondary.failure()}`, /input\/output error/);
  for (let received; (received = await wire.receiveFrame()) !== null;) {
    assert.equal(received.kind, "{");
    assert.notEqual(messageOf(received.body).type, "answer");
  }
});

/** Everything that a source sends from the welcome on, in both forms. */
function exchange(): { stream: Uint8Array; wholeAt: { at: number; end: number }[]; file: Uint8Array } {
  const writer = new NativeWriter();
  const parts = [
    control(welcome()),
    writer.run({ bytes: bytesOf(RESTORED, 0), tid: TID, count: 1, frameBytes: 40 }),
    writer.transaction(TRANSACTIONS[1]!),
    writer.run({ bytes: bytesOf(RESTORED, 2), tid: LAST, count: 1 }),
  ];
  const wholeAt = [];
  let at = parts[0]!.length;
  for (const [i, part] of parts.slice(1).entries()) {
    at += part.length;
    wholeAt.push({ at, end: RESTORED.transactions[i]!.end });
  }
  return { stream: join(...parts), wholeAt, file: RESTORED.bytes };
}

Deno.test("a link cut at any byte leaves whole transactions only, and the next connection completes", async () => {
  const { stream, wholeAt, file } = exchange();
  assert.equal(framesOf(stream).length > 10, true);
  for (let cut = 0; cut <= stream.length; cut++) {
    const scene = new Scene();
    using primary = await scene.listen();
    await using secondary = await scene.startSecondary({ protocol: "native" });
    const wire = await primary.acceptNative();
    await wire.receiveMessage("hello");
    await wire.send(stream.subarray(0, cut));
    wire.close();
    const delayMs = await scene.clock.waitForTimer(50, 100);
    const end = wholeAt.findLast(({ at }) => at <= cut)?.end ?? 4;
    assertSameBytes(scene.disk.bytes(COPY), file.subarray(0, end), `cut at ${cut}`);
    scene.clock.advance(delayMs);

    const again = await welcomed(primary);
    assert.equal(again.hello.end, end);
    if (end < file.length) {
      const count = RESTORED.transactions.filter(({ position }) => position >= end).length;
      await again.wire.send(again.wire.writer.run({ bytes: file.subarray(end), tid: LAST, count }));
      await secondary.waitForTid(LAST);
    }
    assertSameBytes(scene.disk.bytes(COPY), file, `cut at ${cut}`);
  }
});
