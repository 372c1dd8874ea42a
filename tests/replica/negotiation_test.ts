/** Which protocol a secondary speaks with a source that it knows nothing of, and with one that it knows. */
import assert from "node:assert/strict";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { framed, join } from "../kit/zrs_wire.ts";
import { FILE, RESTORED, TID, tidText, TRANSACTIONS, welcomed } from "./native_kit.ts";
import { COPY, HERE, ORIGINAL, Scene, type ScriptedPrimary, SOURCE } from "./scene.ts";
import { startSecondary } from "../kit/node.ts";

const LAST = TID + 3n;
const MEMORY_MS = 600_000;

/** Transactions as zrs2 takes them. */
const ZRS_TRANSACTIONS = TRANSACTIONS.map(({ tid, user, description, records }) => ({
  tid,
  ...(user !== undefined && { user }),
  ...(description !== undefined && { description }),
  records: records.map(({ oid, data, dataTid }) => ({
    oid,
    data,
    ...(dataTid !== undefined && { dataTxn: dataTid }),
  })),
}));

/** What a source that does not speak the native stream may answer to a hello before it closes. */
const WORDLESS: readonly (readonly [what: string, answer: Uint8Array])[] = [
  ["nothing", new Uint8Array()],
  ["zrs2's own refusal", framed(join(new TextEncoder().encode("(X\x07\0\0\0refused)t.")))],
  ["an HTTP server's words", new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n")],
  ["an empty message", framed("")],
  ["half a length", new Uint8Array(2)],
  ["a run", join(new Uint8Array([0, 0, 0, 2]), new TextEncoder().encode("Dx"))],
  ["a message of a type that nobody knows", framed('{"type":"unheard of"}')],
];

for (const [what, answer] of WORDLESS) {
  Deno.test(`a source that answers ${what} to a hello is asked by zrs2 at once, and for ten minutes`, async () => {
    const scene = new Scene();
    using primary = await scene.listen();
    await using secondary = await scene.startSecondary({ protocol: "auto" });
    const hello = await primary.acceptNative();
    await hello.receiveMessage("hello");
    await hello.send(answer).catch(() => {});
    hello.close();
    const wire = await primary.accept();
    assert.deepEqual(await wire.receiveGreeting(), { version: "zrs2.1", tid: 0n });
    await secondary.log.waitFor(/source:5000 does not speak zrs's native stream: going on with zrs2/);
    for (const each of ZRS_TRANSACTIONS) await wire.sendTransaction(each);
    await secondary.waitForTid(LAST);
    assertSameBytes(scene.disk.bytes(COPY), RESTORED.bytes);
    assert.deepEqual(secondary.log.complaints(), []);

    scene.clock.advance(MEMORY_MS - 200);
    wire.close();
    scene.clock.advance(await scene.clock.waitForTimer(50, 100));
    const again = await primary.accept();
    assert.equal((await again.receiveGreeting()).tid, LAST);
    scene.clock.advance(200);
    again.close();
    scene.clock.advance(await scene.clock.waitForTimer(50, 200));
    const { hello: later } = await welcomed(primary);
    assert.equal(later.lastTid, tidText(LAST), "after ten minutes it may be another program");
  });
}

Deno.test("a source that takes the hello and stays silent is asked by zrs2 after the time limit", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using _secondary = await scene.startSecondary({ protocol: "auto", peerTimeoutMs: 20_000 });
  const wire = await primary.acceptNative();
  await wire.receiveMessage("hello");
  await scene.clock.waitForTimer(20_000);
  scene.clock.advance(20_000);
  await wire.receiveEnd();
  assert.equal((await (await primary.accept()).receiveGreeting()).version, "zrs2.1");
});

/** Closes without a word as often as it is said hello to. */
async function closeUnheard(scene: Scene, primary: ScriptedPrimary, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const wire = await primary.acceptNative();
    await wire.receiveMessage("hello");
    wire.close();
    if (i + 1 < count) scene.clock.advance(await scene.clock.waitForTimer(50, 8_000));
  }
}

Deno.test("a source that has spoken the native stream must be silent three times before it is asked by zrs2", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "auto" });
  const { wire } = await welcomed(primary);
  wire.close();
  scene.clock.advance(await scene.clock.waitForTimer(50, 100));
  await closeUnheard(scene, primary, 2);
  scene.clock.advance(await scene.clock.waitForTimer(50, 8_000));
  (await welcomed(primary)).wire.close(); // it counts from the beginning again
  scene.clock.advance(await scene.clock.waitForTimer(50, 8_000));
  await closeUnheard(scene, primary, 3);
  assert.equal((await (await primary.accept()).receiveGreeting()).version, "zrs2.1");
  assert.equal(secondary.log.matching(/going on with zrs2/).length, 1);
});

Deno.test("a refusal shows that a source speaks the native stream as a welcome does", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "auto", retryMaxMs: 1_000 });
  const wire = await primary.acceptNative();
  await wire.receiveMessage("hello");
  await wire.sendMessage({ type: "refused", code: "busy", reason: "busy: too many" });
  wire.close();
  scene.clock.advance(await scene.clock.waitForTimer(500));
  await closeUnheard(scene, primary, 2);
  scene.clock.advance(await scene.clock.waitForTimer(50, 1_000));
  await welcomed(primary);
  assert.deepEqual(secondary.log.matching(/going on with zrs2/), []);
});

Deno.test("a secondary that is told to speak the native stream never speaks zrs2", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native" });
  await closeUnheard(scene, primary, 4);
  scene.clock.advance(await scene.clock.waitForTimer(50, 2_000));
  await welcomed(primary);
  assert.deepEqual(secondary.log.matching(/zrs2/), []);
});

Deno.test("secondaries by both protocols are served on one port at once", async () => {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, RESTORED.bytes);
  scene.disk.addDirectory("/other");
  await using primary = await scene.startPrimary();
  const common = { replicateFrom: HERE };
  await using native = await startSecondary({ ...common, path: COPY, protocol: "native" }, scene);
  await using zrs2 = await startSecondary({ ...common, path: "/other/Data.fs", protocol: "zrs2" }, scene);
  await native.waitForTid(LAST);
  await zrs2.waitForTid(LAST);
  assertSameBytes(scene.disk.bytes(COPY), RESTORED.bytes);
  assertSameBytes(scene.disk.bytes("/other/Data.fs"), RESTORED.bytes);
  for (const node of [primary, native, zrs2]) assert.deepEqual(node.log.complaints(), []);
});

Deno.test("a chain by the native stream, by zrs2 and by the native stream again has the same transactions", async () => {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, FILE.bytes);
  await using _primary = await scene.startPrimary();
  let from = HERE;
  const expected = [FILE.bytes, RESTORED.bytes, RESTORED.bytes];
  await using nodes = new AsyncDisposableStack();
  for (const [i, protocol] of (["auto", "zrs2", "auto"] as const).entries()) {
    const path = `/${i}/Data.fs`;
    scene.disk.addDirectory(`/${i}`);
    const replicateTo = { ...SOURCE, port: 6_000 + i };
    const node = nodes.use(await startSecondary({ path, replicateFrom: from, replicateTo, protocol }, scene));
    await node.waitForTid(LAST);
    assertSameBytes(scene.disk.bytes(path), expected[i]!, path);
    assert.deepEqual(node.log.complaints(), []);
    from = replicateTo;
  }
});
