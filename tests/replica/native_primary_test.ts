/** What a primary does with the native stream, step by step, whatever its secondary says. */
import assert from "node:assert/strict";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import {
  acknowledgement,
  control,
  frame,
  framesOf,
  hello,
  type NativeEvent,
  NativeReader,
  type NativeWire,
} from "../kit/native_wire.ts";
import { othersHaveRun } from "../kit/manual_clock.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { eight, framed, join } from "../kit/zrs_wire.ts";
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
} from "./native_kit.ts";
import { ORIGINAL, Scene } from "./scene.ts";

const LAST = TID + 3n;
const NEXT: TransactionDescription = { tid: TID + 9n, records: [{ oid: 0n, data: "later" }] };

/** A scene with a file to follow. */
function sceneWith(bytes: Uint8Array = FILE.bytes, options: { capacity?: number } = {}): Scene {
  const scene = new Scene(options);
  scene.disk.put(ORIGINAL, bytes);
  return scene;
}

/** What a secondary says that has the first transactions of {@link HISTORY}. */
function helloWith(count: number, fields: Record<string, unknown> = {}) {
  const last = HISTORY[count - 1];
  if (last === undefined) return hello(fields);
  const end = FILE.transactions[count - 1]!.end;
  return hello({ lastTid: tidText(last.tid), digest: digestOf(last), end, ...fields });
}

/** Connects, says hello and hears the welcome. */
async function attach(
  scene: Scene,
  message = hello(),
): Promise<{ wire: NativeWire; welcome: Record<string, unknown> }> {
  const wire = await scene.connectNative();
  await wire.sendMessage(message);
  return { wire, welcome: await wire.receiveMessage("welcome") };
}

/** The next event must be this message; beats are left out. */
async function receiveOnly(wire: NativeWire, type: string): Promise<Record<string, unknown>> {
  const event = await wire.receiveEvent();
  assert(event?.kind === "message", `expected ${type}, received ${event?.kind}`);
  assert.equal(event.message.type, type);
  return event.message;
}

/** Runs up to `complete`, put together. */
async function receiveRuns(wire: NativeWire): Promise<{ bytes: Uint8Array; tids: bigint[]; count: number }> {
  const parts = [];
  const tids = [];
  let count = 0;
  for (let event: NativeEvent | null; (event = await wire.receiveEvent()) !== null;) {
    if (event.kind === "message" && event.message.type === "complete") break;
    assert(event.kind === "run", `expected a run, received ${event.kind}`);
    parts.push(event.bytes);
    tids.push(event.tid);
    count += event.count;
  }
  return { bytes: join(...parts), tids, count };
}

/** Acknowledges all that has been received. */
async function acknowledge(wire: NativeWire, tid: bigint): Promise<void> {
  const { bytes, value: checksum } = wire.reader.sum;
  await wire.send(acknowledgement({ receivedTid: tid, durableTid: tid, bytes, checksum }));
}

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

/** A hello that is refused in words, and the code. */
const REFUSED:
  readonly (readonly [what: string, hello: ReturnType<typeof hello>, code: string, reason: RegExp])[] = [
    [
      "of version 2",
      hello({ version: 2 }),
      "version",
      /speaks version 1 of the native stream, a script speaks 2/,
    ],
    ["of version 0", hello({ version: 0 }), "version", /a script speaks 0/],
    [
      "that requires what nobody can do",
      hello({ capabilities: ["raw", "blobs"], required: ["raw", "blobs"] }),
      "capability",
      /cannot do what is required: blobs$/,
    ],
    [
      "from a secondary that is ahead",
      hello({ lastTid: tidText(NEXT.tid), digest: digestOf(NEXT), end: 1_000 }),
      "ahead",
      /^ahead: your last transaction is 036c90000000000a/,
    ],
    [
      "from a secondary with another last transaction",
      helloWith(2, { digest: "0".repeat(32) }),
      "forked",
      /^forked: your last transaction is 036c900000000002/,
    ],
    [
      "from a secondary whose last transaction is nowhere",
      hello({ lastTid: tidText(TID + 2n), digest: "0".repeat(32) }),
      "forked",
      /^forked: your last transaction is 036c900000000003/,
    ],
  ];

/** Answers like a secondary that has the first `common` transactions, and others instead of the rest. */
async function answerAs(
  wire: NativeWire,
  history: readonly TransactionDescription[],
  common: number,
): Promise<Record<string, unknown> | null> {
  for (;;) {
    const event = await wire.receiveEvent();
    if (event === null) return null;
    assert(event.kind === "message");
    const { message } = event;
    if (message.type !== "ask") return message;
    const question = message.question as {
      kind: string;
      after: string | null;
      before: string | null;
      transactions: { tid: string }[];
    };
    const isCommon = (tid: string) => history.slice(0, common).some((each) => tidText(each.tid) === tid);
    const marks = history
      .filter(({ tid, status }) =>
        status !== "u" && tidText(tid) > (question.after ?? "") && tidText(tid) < (question.before ?? "g")
      )
      .map(({ tid }) => ({ tid: tidText(tid), body: "0".repeat(32), packed: false, records: [] }));
    const answer = question.kind === "marks"
      ? { kind: "marks", marks, whole: true }
      : { kind: "holds", held: question.transactions.map(({ tid }) => isCommon(tid) ? "same" : "other") };
    await wire.sendMessage({ type: "answer", answer });
  }
}

for (const [what, message, code, reason] of REFUSED) {
  Deno.test(`a primary refuses a hello ${what} by that name`, async () => {
    const scene = sceneWith();
    await using primary = await scene.startPrimary();
    const wire = await scene.connectNative();
    await wire.sendMessage(message);
    const common = code === "ahead" ? 4 : 1;
    const there = code === "ahead" ? [...HISTORY, NEXT] : [HISTORY[0]!, { ...HISTORY[1]!, tid: TID + 1n }];
    const answered = await answerAs(wire, there, common);
    assert(answered !== null);
    assert.deepEqual([answered.type, answered.code], ["refused", code]);
    assert.match(`${answered.reason}`, reason);
    if (code === "forked") assert.equal(answered.commonTid, tidText(TID));
    if (code === "ahead") assert.equal(answered.commonTid, tidText(LAST));
    assert.equal(await wire.receiveFrame(), null);
    await primary.log.waitFor(new RegExp(reason.source.replace("^", "")));
  });
}

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
  assert.equal((await primary.log.waitFor(/beyond the pack/)).level, "warning");
});

/** Everything that drops a secondary: sent behind its hello, or in its place. */
const DROPPED: readonly {
  readonly what: string;
  readonly sent: (wire: NativeWire) => Promise<void>;
  readonly says: RegExp;
}[] = [
  ...Object.keys(hello()).filter((name) => name !== "type").map((name) => ({
    what: `a hello without ${name}`,
    sent: async (wire: NativeWire) => {
      const { [name]: _, ...rest } = hello() as Record<string, unknown>;
      await wire.send(control({ type: "hello", ...rest }));
    },
    says: new RegExp(`its field ${name} must be`),
  })),
  {
    what: "a hello with a last transaction and no digest",
    sent: (wire) => wire.sendMessage(helloWith(2, { digest: undefined })),
    says: /is no digest/,
  },
  {
    what: "a second hello",
    sent: (wire) => wire.send(control(hello()), control(hello())),
    says: /message hello/,
  },
  {
    what: "a welcome",
    sent: (wire) => wire.sendMessage({ ...hello(), type: "welcome" }),
    says: /message welcome/,
  },
  {
    what: "an answer that nobody asked for",
    sent: (wire) =>
      wire.send(control(hello()), control({ type: "answer", answer: { kind: "holds", held: [] } })),
    says: /Cannot take message answer/,
  },
  {
    what: "a beat without fields",
    sent: (wire) => wire.send(control(hello()), control({ type: "beat" })),
    says: /lastTid/,
  },
  {
    what: "an acknowledgement before the welcome",
    sent: (wire) =>
      wire.send(control(helloWith(2, { digest: "0".repeat(32) })), frame("A", new Uint8Array(28))),
    says: /Cannot take acknowledgement: nothing has been sent/,
  },
  {
    what: "a transaction",
    sent: (wire) => wire.send(control(hello()), frame("D", "x")),
    says: /this end is the source/,
  },
  {
    what: "compressed content",
    sent: (wire) => wire.send(control(hello()), frame("Z")),
    says: /"Z" cannot stand here/,
  },
  {
    what: "a frame of 4 GiB",
    sent: (wire) => wire.send(control(hello()), new Uint8Array([255, 255, 255, 255])),
    says: /at most 1048581 bytes/,
  },
  {
    what: "an unknown message that must be understood",
    sent: (wire) => wire.send(control(hello()), control({ type: "new", mustUnderstand: true })),
    says: /Cannot understand message new/,
  },
  ...[
    { kind: "holds", held: [] },
    { kind: "holds", held: ["same", "other", "unknown", "same", "same"] },
    { kind: "holds", held: ["yes"] },
    { kind: "marks", marks: [], whole: true },
    null,
    "same",
    [],
  ].map((answer) => ({
    what: `the answer ${JSON.stringify(answer)} to a question for another thing`,
    sent: async (wire: NativeWire) => {
      await wire.sendMessage(helloWith(2, { digest: "0".repeat(32) }));
      await wire.receiveMessage("ask");
      await wire.sendMessage({ type: "answer", answer });
    },
    says: /Cannot use the answer/,
  })),
];

for (const { what, sent, says } of DROPPED) {
  Deno.test(`a primary drops a secondary for ${what}, and others do not notice`, async () => {
    const scene = sceneWith();
    await using primary = await scene.startPrimary();
    const { wire: other } = await attach(scene);
    await receiveRuns(other);
    const wire = await scene.connectNative();
    await sent(wire);
    await wire.receiveEnd();
    assert.equal((await primary.log.waitFor(says)).level, "warning");
    scene.disk.put(ORIGINAL, dataFs([...HISTORY, NEXT]).bytes);
    assert.equal((await receiveRuns(other)).tids[0], NEXT.tid);
  });
}

/** What a secondary acknowledges that has received everything, and what is wrong with it. */
const WRONG: readonly (readonly [what: string, change: Record<string, unknown>, says: RegExp])[] = [
  [
    "from the future",
    { durableTid: LAST + 1n, receivedTid: LAST + 1n },
    /what was sent ends with 036c900000000004/,
  ],
  [
    "of a tid that was never sent",
    { durableTid: TID + 2n },
    /Cannot take acknowledgement of 036c900000000003/,
  ],
  ["that received what is later", { receivedTid: LAST + 1n }, /Cannot take acknowledgement/],
  ["that received less than is durable", { receivedTid: TID }, /Cannot take acknowledgement/],
  ["with another checksum", { checksum: 0 }, /the secondary has other bytes than were sent/],
  ["with fewer bytes", { bytes: 0 }, /the secondary has other bytes than were sent/],
  ["of nothing", { durableTid: 0n }, /Cannot take acknowledgement of/],
];

for (const [what, change, says] of WRONG) {
  Deno.test(`a primary drops a secondary for an acknowledgement ${what}`, async () => {
    const scene = sceneWith();
    await using primary = await scene.startPrimary();
    const { wire } = await attach(scene);
    await receiveRuns(wire);
    const { bytes, value: checksum } = wire.reader.sum;
    await wire.send(acknowledgement({ receivedTid: LAST, durableTid: LAST, bytes, checksum, ...change }));
    await wire.receiveEnd();
    await primary.log.waitFor(says);
  });
}

Deno.test("an acknowledgement counts once", async () => {
  const scene = sceneWith();
  await using primary = await scene.startPrimary();
  const { wire } = await attach(scene);
  await receiveRuns(wire);
  await acknowledge(wire, LAST);
  await acknowledge(wire, LAST);
  await wire.receiveEnd();
  await primary.log.waitFor(/up to 036c900000000004.* is acknowledged/);
});

Deno.test("a hello may come byte by byte, and with fields that are not known", async () => {
  const scene = sceneWith();
  await using _primary = await scene.startPrimary();
  const wire = await scene.connectNative();
  for (const byte of control(hello({ later: { and: "more" } }))) await wire.send(new Uint8Array([byte]));
  await wire.receiveMessage("welcome");
  assertSameBytes((await receiveRuns(wire)).bytes, FILE.bytes.subarray(4));
});

Deno.test("whoever begins a hello and does not end it is dropped after a while", async () => {
  const scene = sceneWith();
  await using primary = await scene.startPrimary({ peerTimeoutMs: 20_000 });
  const wire = await scene.connectNative();
  await wire.send(control(hello()).subarray(0, 50));
  await scene.clock.waitForTimer(20_000);
  scene.clock.advance(20_000);
  await wire.receiveEnd();
  await primary.log.waitFor(/it did not greet within 20 s/);
});

Deno.test("a secondary that says nothing for the time limit is dropped, one that says beats is not", async () => {
  const scene = sceneWith();
  await using primary = await scene.startPrimary({ peerTimeoutMs: 20_000 });
  const { wire } = await attach(scene);
  await receiveRuns(wire);
  const beat = { type: "beat", lastTid: tidText(0n), end: 4, time: 0 };
  for (let i = 0; i < 4; i++) {
    await wire.sendMessage(beat);
    for (let j = 0; j < 4; j++) {
      await othersHaveRun();
      scene.clock.advance(4_900);
    }
  }
  assert.deepEqual(primary.log.complaints(), []);
  for (let j = 0; j < 4; j++) {
    await othersHaveRun();
    scene.clock.advance(5_000);
  }
  await primary.log.waitFor(/it has said nothing for 20 s/);
  await wire.receiveEnd();
});

Deno.test("a secondary that takes nothing is dropped although it says beats", async () => {
  const records = Array.from({ length: 20 }, (_, i) => ({ oid: BigInt(i), data: "x".repeat(50_000) }));
  const scene = sceneWith(dataFs([{ tid: TID, records }]).bytes, { capacity: 4_096 });
  await using primary = await scene.startPrimary({ peerTimeoutMs: 20_000 });
  const wire = await scene.connectNative();
  await wire.sendMessage(hello());
  await scene.clock.waitForTimer(20_000);
  const beat = control({ type: "beat", lastTid: tidText(0n), end: 4, time: 0 });
  for (let i = 0; i < 9; i++) {
    await wire.send(beat).catch(() => {});
    await othersHaveRun();
    scene.clock.advance(5_000);
    await othersHaveRun();
  }
  await primary.log.waitFor(/it took nothing for 20 s/);
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
