/** A large transaction that comes as bytes goes on where a connection broke off, and is whole and right or does not count. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { dataFs } from "../kit/data_fs.ts";
import { content, hello, type NativeMessage, type NativeWire } from "../kit/native_wire.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import {
  attach,
  bytesOf,
  digestOf,
  HISTORY,
  receiveRuns,
  sceneWith,
  TID,
  tidText,
  welcomed,
} from "./native_kit.ts";
import { COPY, Scene, type ScriptedPrimary } from "./scene.ts";

const LARGE_TID = TID + 5n;
const SOURCE_FILE = dataFs([
  HISTORY[0]!,
  { tid: LARGE_TID, records: [0n, 1n, 2n].map((oid) => ({ oid, data: `${oid}`.repeat(150) })) },
  { tid: TID + 6n, records: [{ oid: 7n, data: "behind" }] },
]);
const LARGE = bytesOf(SOURCE_FILE, 1);
/** Less than the large transaction, and more than the others. */
const BUFFERS = { readBytes: 64, runBytes: 200, sendBytes: 1_024 };

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function begun(bytes: number, fields: Record<string, unknown> = {}) {
  return { tid: tidText(LARGE_TID), bytes, digest: sha256(LARGE.subarray(0, bytes)), ...fields };
}

/** A secondary that has the first transaction, and so many bytes of the large one when the connection ends. */
async function interrupted(
  scene: Scene,
  primary: ScriptedPrimary,
  cut: number,
): Promise<void> {
  const { wire } = await welcomed(primary);
  await wire.send(wire.writer.run({ bytes: bytesOf(SOURCE_FILE, 0), tid: TID, count: 1 }));
  await wire.receiveDurable(TID);
  await wire.send(content(LARGE.subarray(0, cut), 100));
  wire.close();
  scene.clock.advance(await scene.clock.waitForTimer(1, 1_000));
}

/** Its next connection, with the welcome still to be said. */
async function returned(primary: ScriptedPrimary): Promise<{ wire: NativeWire; hello: NativeMessage }> {
  const wire = await primary.acceptNative();
  return { wire, hello: await wire.receiveMessage("hello") };
}

function welcomeBack(fields: Record<string, unknown>): NativeMessage {
  const known = { version: 1, software: "a script", capabilities: ["raw"], lastTid: tidText(0n), end: 4 };
  return { type: "welcome", ...known, beatMs: 10_000, ...fields };
}

async function sendRest(wire: NativeWire, from: number): Promise<void> {
  await wire.send(wire.writer.run({ bytes: LARGE.subarray(from), tid: LARGE_TID, count: 1 }));
  const { bytes, checksum } = await wire.receiveDurable(LARGE_TID);
  assert.deepEqual([bytes, checksum], [wire.writer.sum.bytes, wire.writer.sum.value]);
  await wire.send(wire.writer.run({ bytes: bytesOf(SOURCE_FILE, 2), tid: TID + 6n, count: 1 }));
  await wire.receiveDurable(TID + 6n);
}

for (const isResumed of [true, false]) {
  const what = isResumed ? "goes on behind what is there" : "begins anew at a source that does not go on";
  Deno.test(`a large transaction cut at any byte ${what}`, async () => {
    let kept = 0;
    for (let cut = 1; cut <= LARGE.length; cut++) {
      const scene = new Scene();
      using primary = await scene.listen();
      await using secondary = await scene.startSecondary({ protocol: "native", buffers: BUFFERS });
      await interrupted(scene, primary, cut);
      const { wire, hello } = await returned(primary);
      if (cut > BUFFERS.runBytes + 100) assert.deepEqual(hello.begun, begun(cut));
      else if (hello.begun !== undefined) assert.deepEqual(hello.begun, begun(cut));
      kept += hello.begun === undefined ? 0 : 1;
      assert.equal(secondary.lastTid, TID, "what has come in part does not count");
      const from = isResumed && hello.begun !== undefined ? cut : 0;
      await wire.sendMessage(welcomeBack(from === 0 ? {} : { resumeAt: from }));
      await sendRest(wire, from);
      assertSameBytes(scene.disk.bytes(COPY), SOURCE_FILE.bytes);
    }
    assert(kept > LARGE.length / 2);
  });
}

Deno.test("what has come stays through several connections, and grows", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using _secondary = await scene.startSecondary({ protocol: "native", buffers: BUFFERS });
  await interrupted(scene, primary, 300);
  for (let from = 300; from < 400; from += 20) {
    const { wire, hello } = await returned(primary);
    assert.deepEqual(hello.begun, begun(from));
    await wire.sendMessage(welcomeBack({ resumeAt: from }));
    await wire.send(content(LARGE.subarray(from, from + 20)));
    wire.close();
    scene.clock.advance(await scene.clock.waitForTimer(1, 1_000));
  }
  const { wire, hello } = await returned(primary);
  assert.deepEqual(hello.begun, begun(400));
  await wire.sendMessage(welcomeBack({ resumeAt: 400 }));
  await sendRest(wire, 400);
  assertSameBytes(scene.disk.bytes(COPY), SOURCE_FILE.bytes);
});

/** What a source says to a secondary that has 400 bytes, and what the secondary says then. */
const LIES: readonly {
  readonly what: string;
  readonly resumeAt: number;
  readonly send: (wire: NativeWire) => Uint8Array;
  readonly says: RegExp;
}[] = [
  {
    what: "more than there is",
    resumeAt: 401,
    send: () => new Uint8Array(),
    says: /behind 401 bytes .* has 400/,
  },
  {
    what: "less than there is",
    resumeAt: 399,
    send: () => new Uint8Array(),
    says: /behind 399 bytes .* has 400/,
  },
  {
    what: "another transaction's end",
    resumeAt: 400,
    send: ({ writer }) => writer.run({ bytes: LARGE.subarray(390), tid: LARGE_TID, count: 1 }),
    says: /does not fit behind this one/,
  },
  {
    what: "an end that is too short",
    resumeAt: 400,
    send: ({ writer }) => writer.run({ bytes: LARGE.subarray(410), tid: LARGE_TID, count: 1 }),
    says: /does not fit behind this one/,
  },
  {
    what: "nothing more",
    resumeAt: 400,
    send: ({ writer }) => writer.run({ bytes: new Uint8Array(), tid: LARGE_TID, count: 1 }),
    says: /does not fit behind this one/,
  },
  {
    what: "a wrong checksum",
    resumeAt: 400,
    send: ({ writer }) => writer.run({ bytes: LARGE.subarray(400), tid: LARGE_TID, count: 1, checksum: 0 }),
    says: /its checksum is wrong/,
  },
  {
    what: "another tid",
    resumeAt: 400,
    send: ({ writer }) => writer.run({ bytes: LARGE.subarray(400), tid: LARGE_TID + 1n, count: 1 }),
    says: /Cannot take run/,
  },
  {
    what: "a transaction record by record within it",
    resumeAt: 400,
    send: ({ writer }) => writer.transaction({ tid: LARGE_TID, records: [] }),
    says: /kind "T" cannot stand here/,
  },
];

for (const { what, resumeAt, send, says } of LIES) {
  Deno.test(`a source that promises to go on and sends ${what} is left`, async () => {
    const scene = new Scene();
    using primary = await scene.listen();
    await using secondary = await scene.startSecondary({ protocol: "native", buffers: BUFFERS });
    await interrupted(scene, primary, 400);
    const { wire } = await returned(primary);
    await wire.sendMessage(welcomeBack({ resumeAt }));
    const sent = send(wire);
    if (sent.length > 0) await wire.send(sent);
    assert.match(`${(await wire.receiveMessage("bye")).reason}`, says);
    await wire.receiveEnd();
    if (!/Cannot take run/.test(says.source)) assert.equal(secondary.lastTid, TID);
  });
}

Deno.test("a welcome that goes on in what was never begun is refused", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using _secondary = await scene.startSecondary({ protocol: "native" });
  const { wire } = await welcomed(primary, { resumeAt: 1 });
  assert.match(`${(await wire.receiveMessage("bye")).reason}`, /goes on behind 1 bytes .* this end has 0/);
});

function helloWithBegun(fields: Record<string, unknown>): NativeMessage {
  const { end } = SOURCE_FILE.transactions[0]!;
  return hello({ lastTid: tidText(TID), digest: digestOf(HISTORY[0]!), end, ...fields });
}

Deno.test("a source goes on behind any number of bytes that it has itself", async () => {
  for (let count = 1; count <= LARGE.length; count++) {
    const scene = sceneWith(SOURCE_FILE.bytes);
    await using _primary = await scene.startPrimary();
    const { wire, welcome } = await attach(scene, helloWithBegun({ begun: begun(count) }));
    assert.equal(welcome.resumeAt, count);
    const { bytes } = await receiveRuns(wire);
    assertSameBytes(bytes, bytesOf(SOURCE_FILE, 1, 2).subarray(count));
  }
});

/** What a secondary cannot have, or what does not help. */
const CLAIMS: readonly (readonly [what: string, fields: Record<string, unknown>])[] = [
  ["another digest", { begun: begun(100, { digest: "0".repeat(64) }) }],
  ["the digest of fewer bytes", { begun: begun(100, { bytes: 101 }) }],
  ["no bytes", { begun: begun(0) }],
  ["more bytes than there are", { begun: begun(LARGE.length, { bytes: LARGE.length + 1 }) }],
  ["as many bytes as can be said", { begun: begun(100, { bytes: Number.MAX_SAFE_INTEGER }) }],
  ["another transaction", { begun: begun(100, { tid: tidText(LARGE_TID + 1n) }) }],
];

for (const [what, fields] of CLAIMS) {
  Deno.test(`a source begins anew for a secondary that claims to have ${what}`, async () => {
    const scene = sceneWith(SOURCE_FILE.bytes);
    await using _primary = await scene.startPrimary();
    const { wire, welcome } = await attach(scene, helloWithBegun(fields));
    assert.equal(welcome.resumeAt, undefined);
    assertSameBytes((await receiveRuns(wire)).bytes, bytesOf(SOURCE_FILE, 1, 2));
  });
}

Deno.test("a secondary that does not ask for bytes gets records, whatever it has begun", async () => {
  const scene = sceneWith(SOURCE_FILE.bytes);
  await using _primary = await scene.startPrimary();
  const { wire, welcome } = await attach(scene, helloWithBegun({ begun: begun(100), capabilities: [] }));
  assert.equal(welcome.resumeAt, undefined);
  assert.equal((await wire.receiveEvent())?.kind, "transaction");
});
