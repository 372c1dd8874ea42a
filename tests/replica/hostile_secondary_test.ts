/** Whatever connects to a primary, it costs little, is told apart from a secondary, and others do not notice. */
import assert from "node:assert/strict";
import { latin1 } from "../kit/hex.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { eight, framed, type Wire } from "../kit/zrs_wire.ts";
import { ORIGINAL, Scene } from "./scene.ts";

const TID = 0x036c_9000_0000_0001n;
const HISTORY: TransactionDescription[] = [
  { tid: TID, records: [{ oid: 0n, data: "one" }] },
  { tid: TID + 1n, records: [{ oid: 0n, data: "two" }] },
];

/** A scene with a file to follow. */
function sceneWith(history: readonly TransactionDescription[] = HISTORY): Scene {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, dataFs(history).bytes);
  return scene;
}

/** How many messages a transaction of one record takes: T, S, data, C. */
const MESSAGES = 4;

async function receiveMessages(wire: Wire, count: number): Promise<void> {
  for (let i = 0; i < count; i++) assert.notEqual(await wire.receive(), null);
}

function textOf(message: Uint8Array | null): string {
  return new TextDecoder().decode(message ?? new Uint8Array());
}

/** What is sent in place of a greeting, and what the log must say. */
const STRANGERS: readonly { readonly what: string; readonly sent: Uint8Array[]; readonly says: RegExp }[] = [
  {
    what: "an HTTP client",
    sent: [latin1("GET / HTTP/1.1\r\nHost: here\r\n\r\n")],
    says: /looks like an HTTP request/,
  },
  {
    what: "a TLS client",
    sent: [latin1("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")],
    says: /looks like a TLS/,
  },
  { what: "an ssh client", sent: [latin1("SSH-2.0-OpenSSH_9.6\r\n")], says: /looks like an SSH connection/ },
  {
    what: "a proxy's header",
    sent: [latin1("PROXY TCP4 192.0.2.1 ")],
    says: /looks like a PROXY protocol header/,
  },
  {
    what: "a greeting without length",
    sent: [latin1("zrs2.1")],
    says: /looks like a greeting without its length/,
  },
  { what: "a length of 4 GiB", sent: [latin1("\xff\xff\xff\xff")], says: /at most 8 bytes/ },
  {
    what: "another version",
    sent: [framed("zrs2.2"), framed(eight(0n))],
    says: /must be "zrs2.0" or "zrs2.1"/,
  },
  { what: "a ZEO client", sent: [framed("Z310")], says: /must be "zrs2.0" or "zrs2.1"/ },
  { what: "an empty greeting", sent: [framed("")], says: /must be "zrs2.0" or "zrs2.1"/ },
  { what: "a tid of 7 bytes", sent: [framed("zrs2.1"), framed("1234567")], says: /must be 8 bytes/ },
  { what: "a keep-alive before the tid", sent: [framed("zrs2.1"), framed("")], says: /must be 8 bytes/ },
];

for (const { what, sent, says } of STRANGERS) {
  Deno.test(`a primary drops ${what}, and says what it took it for`, async () => {
    const scene = sceneWith();
    await using primary = await scene.startPrimary();
    const wire = await scene.connect();
    await wire.send(...sent).catch(() => {});
    assert.equal(await wire.receive(), null);
    assert.equal((await primary.log.waitFor(says)).level, "warning");
  });
}

Deno.test("a greeting may come byte by byte", async () => {
  const scene = sceneWith();
  await using primary = await scene.startPrimary();
  const wire = await scene.connect();
  for (const part of [framed("zrs2.0"), framed(eight(TID)), framed("")]) {
    for (const byte of part) await wire.send(new Uint8Array([byte]));
  }
  await receiveMessages(wire, MESSAGES);
  await primary.log.waitFor(/connected with zrs2.0, has 036c900000000001/);
  assert.deepEqual(primary.log.complaints(), []);
});

Deno.test("whoever connects and does not greet is dropped after a while", async () => {
  const scene = sceneWith();
  await using primary = await scene.startPrimary({ peerTimeoutMs: 20_000 });
  const silent = await scene.connect();
  const half = await scene.connect();
  await half.send(framed("zrs2.1"));
  const greeted = await scene.connect();
  await greeted.greet(TID);
  await receiveMessages(greeted, MESSAGES);
  await primary.log.waitFor(/client:\d+: connected/);
  scene.clock.advance(20_000);
  assert.equal(await silent.receive(), null);
  assert.equal(await half.receive(), null);
  await primary.log.waitFor(/it did not greet within 20 s/);
  // One that has all there is may be silent for as long as it likes.
  scene.clock.advance(24 * 3_600_000);
  scene.disk.put(
    ORIGINAL,
    dataFs([...HISTORY, { tid: TID + 2n, records: [{ oid: 1n, data: "three" }] }]).bytes,
  );
  await receiveMessages(greeted, MESSAGES);
});

Deno.test("a secondary that says more than keep-alives is dropped", async () => {
  for (
    const [said, says] of [[framed("x"), /message behind the greeting/], [
      latin1("\xff\xff\xff\xff"),
      /at most 0/,
    ]] as const
  ) {
    const scene = sceneWith();
    await using primary = await scene.startPrimary();
    const wire = await scene.connect();
    await wire.greet(TID + 1n);
    await wire.send(framed(""), framed(""), said);
    await wire.receiveEnd();
    assert.equal((await primary.log.waitFor(says)).level, "warning");
  }
});

Deno.test("a secondary that leaves, at any moment, is nothing to complain of", async () => {
  const scene = sceneWith();
  await using primary = await scene.startPrimary();
  for (
    const parts of [[], [framed("zrs2.1").subarray(0, 5)], [framed("zrs2.1")], [
      framed("zrs2.1"),
      framed(eight(0n)),
    ]]
  ) {
    const wire = await scene.connect();
    await wire.send(...parts);
    const from = primary.log.lines.items.length;
    wire.close();
    await primary.log.waitFor(/disconnected/, { from });
  }
  assert.deepEqual(primary.log.complaints(), []);
});

Deno.test("a secondary that takes nothing is dropped, one that takes a little is not", async () => {
  const scene = new Scene({ capacity: 4_096 });
  const records = Array.from({ length: 20 }, (_, i) => ({ oid: BigInt(i), data: "x".repeat(50_000) }));
  scene.disk.put(ORIGINAL, dataFs([{ tid: TID, records }]).bytes);
  await using primary = await scene.startPrimary({ peerTimeoutMs: 20_000 });
  const slow = await scene.connect();
  await slow.greet(0n);
  for (let i = 0; i < 10; i++) {
    assert.notEqual(await slow.receiveBytes(4_096), null); // all that is under way
    await scene.clock.waitForTimer(20_000);
    scene.clock.advance(20_000);
  }
  assert.deepEqual(primary.log.complaints(), []);
  await scene.clock.waitForTimer(20_000);
  scene.clock.advance(40_000);
  assert.match((await primary.log.waitFor(/dropped/)).message, /it took nothing for 20 s/);
  await slow.receiveEnd();
});

const BLOB = latin1("\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.");
const BLOB_IN_IT: TransactionDescription = {
  tid: TID + 2n,
  records: [{ oid: 6n, data: "before it" }, { oid: 7n, data: BLOB }],
};

Deno.test("a primary that may not send blobs ends the stream at the first, and says so to both sides", async () => {
  const scene = sceneWith([...HISTORY, BLOB_IN_IT]);
  await using primary = await scene.startPrimary();
  const wire = await scene.connect();
  await wire.greet(0n);
  await receiveMessages(wire, 2 * MESSAGES);
  await receiveMessages(wire, 3); // of the transaction that is not finished
  const reason = /object 0x07 of transaction 036c900000000003 .* is a blob.*--blobs none/;
  assert.match(textOf(await wire.receive()), reason);
  assert.equal(await wire.receive(), null);
  assert.match((await primary.log.waitFor(/dropped/)).message, reason);
});

Deno.test("a blob that a back pointer leads to is noticed before anything of its record is sent", async () => {
  const scene = sceneWith([BLOB_IN_IT, {
    tid: TID + 3n,
    records: [{ oid: 7n, backPointer: [0, 1] }],
  }]);
  await using primary = await scene.startPrimary();
  const wire = await scene.connect();
  await wire.greet(BLOB_IN_IT.tid);
  await receiveMessages(wire, 1);
  assert.match(textOf(await wire.receive()), /is a blob/);
  assert.equal(await wire.receive(), null);
  assert.match((await primary.log.waitFor(/dropped/)).message, /transaction 036c900000000004/);
});

Deno.test("damage in the source ends the stream there, and is told to both sides with its place", async () => {
  const scene = sceneWith([...HISTORY, {
    tid: TID + 2n,
    records: [{ oid: 6n, data: "before it" }, { oid: 7n, data: "damaged", damage: { transaction: 99n } }],
  }, { tid: TID + 3n, records: [{ oid: 0n, data: "four" }] }]);
  await using primary = await scene.startPrimary();
  const wire = await scene.connect();
  await wire.greet(0n);
  await receiveMessages(wire, 2 * MESSAGES + 3);
  const reason =
    /Cannot read data record at \d+ of transaction 036c900000000003 .*: its transaction must be at/;
  assert.match(textOf(await wire.receive()), reason);
  assert.equal(await wire.receive(), null);
  assert.match((await primary.log.waitFor(/dropped/)).message, reason);
});

Deno.test("a primary with --blobs none sends the records of blobs, and says at its start what is left out", async () => {
  const scene = sceneWith([{ tid: TID, records: [{ oid: 7n, data: BLOB }] }]);
  await using primary = await scene.startPrimary({ blobs: "none" });
  await primary.log.waitFor(/replicas of .* have the records of blobs, not their files/);
  const wire = await scene.connect();
  await wire.greet(0n, "zrs2.0");
  await receiveMessages(wire, 2);
  assert.deepEqual(await wire.receive(), BLOB);
  await receiveMessages(wire, 1);
});
