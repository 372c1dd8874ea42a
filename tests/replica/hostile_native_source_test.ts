/** Whatever a source says by the native stream, a secondary keeps what was whole, says what was wrong, and asks again. */
import assert from "node:assert/strict";
import { dataFs } from "../kit/data_fs.ts";
import { latin1 } from "../kit/hex.ts";
import {
  content,
  control,
  hello,
  type NativeMessage,
  type NativeWire,
  NativeWriter,
  welcome,
} from "../kit/native_wire.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { join } from "../kit/zrs_wire.ts";
import {
  beginningOf,
  bytesOf,
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

const BLOB = latin1("\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.");

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
    says: /Cannot take acknowledgement: this end sends no transactions/,
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
    what: "a blob",
    send: (_, writer) => writer.transaction({ tid: TID + 1n, records: [{ oid: 1n, data: BLOB }] }),
    says: /it is a blob/,
  },
  {
    what: "a blob in a run",
    send: (_, writer) =>
      writer.run({
        bytes: bytesOf(dataFs([HISTORY[0]!, { tid: TID + 1n, records: [{ oid: 1n, data: BLOB }] }]), 1),
        tid: TID + 1n,
        count: 1,
      }),
    says: /it is a blob/,
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
    await using secondary = await scene.startSecondary({ protocol: "auto", buffers: SMALL });
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
  const bye = await wire.receiveMessage("bye");
  assert.equal(bye.code, "trouble");
  assert.match(
    `${bye.reason}`,
    /does not fit behind this one: Cannot read the data record at 5 of object 0x0/,
  );
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

Deno.test("what follows a stretch that did not fit may come as bytes again, on the next connection", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using _secondary = await scene.startSecondary({ protocol: "native" });
  const asksForBytes = ({ capabilities }: NativeMessage) => (capabilities as string[]).includes("raw");
  const reconnect = async () => scene.clock.advance(await scene.clock.waitForTimer(50, 100));
  const misfit = dataFs([{ tid: TID, records: [{ oid: 0n, data: "one", damage: { previous: 5n } }] }]);

  const first = await welcomed(primary);
  await first.wire.send(first.wire.writer.run({ bytes: bytesOf(misfit, 0), tid: TID, count: 1 }));
  const second = await welcomed(primary);
  assert(!asksForBytes(second.hello), "nothing of it has come yet");
  await second.wire.sendMessage({ type: "bye", code: "again", reason: "to hear what is asked for" });
  await reconnect();
  const third = await welcomed(primary);
  assert(!asksForBytes(third.hello), "and still nothing");
  await third.wire.send(third.wire.writer.transaction(TRANSACTIONS[0]!));
  await third.wire.receiveDurable(TID);
  await third.wire.sendMessage({ type: "bye", code: "again", reason: "to hear what is asked for" });
  await reconnect();
  const fourth = await welcomed(primary);
  assert(asksForBytes(fourth.hello));
  await fourth.wire.send(fourth.wire.writer.run({ bytes: bytesOf(FILE, 1, 3), tid: LAST, count: 3 }));
  await fourth.wire.receiveDurable(LAST);
  assertSameBytes(scene.disk.bytes(COPY), FILE.bytes);
});

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
