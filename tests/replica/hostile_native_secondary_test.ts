/** Whatever a secondary says by the native stream, a primary drops it or refuses it by name, and others do not notice. */
import assert from "node:assert/strict";
import type { MemoryConnection } from "../kit/memory_network.ts";
import { dataFs } from "../kit/data_fs.ts";
import { othersHaveRun } from "../kit/manual_clock.ts";
import { acknowledgement, control, frame, hello, type NativeWire } from "../kit/native_wire.ts";
import {
  acknowledge,
  answerAs,
  attach,
  digestOf,
  helloWith,
  HISTORY,
  LAST,
  NEXT,
  receiveOnly,
  receiveRuns,
  sceneWith,
  TID,
  tidText,
} from "./native_kit.ts";
import { ORIGINAL } from "./scene.ts";

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
    says: /this end takes none/,
  },
  {
    what: "compressed content",
    sent: (wire) => wire.send(control(hello()), frame("Z")),
    says: /Cannot take transaction: this end takes none/,
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

Deno.test("a secondary that acknowledges nothing costs no more and more memory: it gets no more until it does", async () => {
  const most = 100_000;
  const file = dataFs(Array.from({ length: most + 5 }, (_, i) => ({ tid: TID + BigInt(i), records: [] })));
  const scene = sceneWith(file.bytes);
  await using primary = await scene.startPrimary();
  const { wire } = await attach(scene, hello({ capabilities: [] }));
  const { connection } = wire as unknown as { connection: MemoryConnection };
  for (let i = 0; i < most; i++) assert.equal((await wire.receiveEvent())?.kind, "transaction");
  for (let i = 0; i < 20; i++) await othersHaveRun(); // time enough for one that would not wait
  assert.equal(connection.unread, 0);
  await acknowledge(wire, TID + BigInt(most - 1));
  for (let i = 0; i < 5; i++) assert.equal((await wire.receiveEvent())?.kind, "transaction");
  await receiveOnly(wire, "complete");
  assert.deepEqual(primary.log.complaints(), []);
});

Deno.test("a forked secondary is refused however fast the source grows", async () => {
  const scene = sceneWith();
  await using primary = await scene.startPrimary();
  const wire = await scene.connectNative();
  await wire.sendMessage(helloWith(2, { digest: "0".repeat(32) }));
  const grown = [...HISTORY];
  for (let asked = 0;; asked++) {
    const event = await wire.receiveEvent();
    assert(event?.kind === "message");
    const { message } = event;
    if (message.type === "refused") {
      assert.equal(message.code, "forked");
      break;
    }
    assert(asked < 20, "the comparison must come to an end");
    const tid = TID + 100n + BigInt(asked);
    grown.push({ tid, records: [{ oid: 0n, data: "more" }] });
    scene.disk.put(ORIGINAL, dataFs(grown).bytes);
    await primary.log.waitFor(new RegExp(`has grown to ${tidText(tid)}`));
    const question = message.question as { kind: string; transactions: { tid: string }[] };
    const marks = [{ tid: tidText(TID + 1n), body: "0".repeat(32), packed: false, records: [] }];
    const answer = question.kind === "marks" ? { kind: "marks", marks, whole: true } : {
      kind: "holds",
      held: question.transactions.map(({ tid }) => tid === tidText(TID) ? "same" : "other"),
    };
    await wire.sendMessage({ type: "answer", answer });
  }
});
