/** Secondaries go each at their own speed: a slow one costs a bounded amount, and nobody waits for it. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { StreamDecoder, type StreamHandler } from "../../lib/zrs/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { startSecondary } from "../kit/node.ts";
import { CountingDisk } from "./counting_disk.ts";
import { COPY, HERE, ORIGINAL, Scene, type ScriptedSecondary } from "./scene.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";

const TID = 0x036c_9000_0000_0001n;
const KIB = 1024;
const CAPACITY = 16 * KIB;
const BUFFERS = { sendBytes: 64 * KIB, readBytes: 64 * KIB, runBytes: 256 * KIB };
/** What one secondary may have had read from the source, besides what it was sent. */
const READ_AHEAD = 2 * BUFFERS.sendBytes + 256 * KIB + 64 * KIB;

/** Transactions of some records each, all different. */
function history(count: number, dataBytes: number): TransactionDescription[] {
  return Array.from({ length: count }, (_, i) => ({
    tid: TID + BigInt(i),
    records: [0, 1, 2].map((k) => ({
      oid: BigInt(i * 3 + k),
      data: new Uint8Array(dataBytes).fill(i * 3 + k),
    })),
  }));
}

function sceneWith(transactions: readonly TransactionDescription[]): { scene: Scene; disk: CountingDisk } {
  const disk = new CountingDisk();
  const scene = new Scene({ capacity: CAPACITY, disk });
  disk.put(ORIGINAL, dataFs(transactions).bytes);
  return { scene, disk };
}

/** The transactions of a stream, as far as they have come: tids with the sums of their data. */
class Transcript implements StreamHandler {
  readonly transactions: { tid: bigint; oids: number[]; dataBytes: number }[] = [];
  #open = { tid: 0n, oids: [] as number[], dataBytes: 0 };

  transaction({ tid }: { tid: bigint }): void {
    this.#open = { tid, oids: [], dataBytes: 0 };
  }

  record(_oidHigh: number, oidLow: number): void {
    this.#open.oids.push(oidLow);
  }

  data(_source: Uint8Array, from: number, to: number): void {
    this.#open.dataBytes += to - from;
  }

  blobBlock(): void {}

  recordEnd(): void {}

  commit(): void {
    this.transactions.push(this.#open);
  }
}

/** Reads until the transaction has come. @returns all that came, and a digest of the bytes */
async function readUntil(peer: ScriptedSecondary, tid: bigint) {
  const decoder = new StreamDecoder(0n);
  const transcript = new Transcript();
  const digest = createHash("md5");
  const chunk = new Uint8Array(64 * KIB);
  while (decoder.lastTid < tid) {
    const count = await peer.connection.read(chunk);
    assert(count !== null, "The stream ended early");
    digest.update(chunk.subarray(0, count));
    decoder.push(chunk, 0, count, transcript);
  }
  return { transactions: transcript.transactions, digest: digest.digest("hex") };
}

Deno.test("twenty secondaries that take nothing cost a bounded amount, and a fast one goes on", async () => {
  const transactions = history(400, 7 * KIB);
  const { scene, disk } = sceneWith(transactions);
  const size = disk.bytes(ORIGINAL).length;
  const lastTid = transactions.at(-1)!.tid;
  await using primary = await scene.startPrimary({ buffers: BUFFERS });
  const atOpening = disk.bytesRead.get(ORIGINAL)!;
  const slow: ScriptedSecondary[] = [];
  for (let i = 0; i < 20; i++) {
    const peer = await scene.connect();
    await peer.greet(0n);
    slow.push(peer);
  }
  await primary.log.lines.waitFor(
    "all to be connected",
    () => primary.log.matching(/connected with/).length === slow.length,
  );
  await using fast = await startSecondary({ path: COPY, replicateFrom: HERE, buffers: BUFFERS }, scene);
  await fast.waitForTid(lastTid);
  assertSameBytes(disk.bytes(COPY), disk.bytes(ORIGINAL));

  for (const { connection } of slow) assert.equal(connection.unread, CAPACITY);
  const forSlow = disk.bytesRead.get(ORIGINAL)! - atOpening - size;
  assert.ok(forSlow < 21 * READ_AHEAD, `${forSlow} bytes were read ahead`);
  assert.ok(21 * READ_AHEAD < 2 * size, "the file must be large enough to tell");

  // All of them get all of it once they take it, whatever order they go in.
  const streams = await Promise.all(slow.map((peer) => readUntil(peer, lastTid)));
  assert.equal(new Set(streams.map(({ digest }) => digest)).size, 1);
  assert.deepEqual(
    streams[0]!.transactions,
    transactions.map(({ tid, records }) => ({
      tid,
      oids: records.map(({ oid }) => Number(oid)),
      dataBytes: 3 * 7 * KIB,
    })),
  );
  assert.deepEqual(primary.log.complaints(), []);
});

Deno.test("a secondary in the middle of a transaction gets the rest of it from the file that was", async () => {
  const before = history(10, 100 * KIB);
  const { scene, disk } = sceneWith(before);
  await using primary = await scene.startPrimary({ buffers: BUFFERS });
  const peer = await scene.connect();
  await peer.greet(0n);
  await primary.log.waitFor(/connected with/);
  const old = disk.status(ORIGINAL)!.identity;

  // Packed: of the first transactions only the last records are left.
  const packed = before.map((transaction, i) =>
    i < 8 ? { ...transaction, status: "p" as const, records: transaction.records.slice(2) } : transaction
  );
  const after = [...packed, { tid: TID + 10n, records: [{ oid: 99n, data: "new" }] }];
  disk.put(`${ORIGINAL}.pack`, dataFs(after).bytes);
  disk.rename(ORIGINAL, `${ORIGINAL}.old`);
  disk.rename(`${ORIGINAL}.pack`, ORIGINAL);
  await primary.log.waitFor(/has been packed/);
  assert.ok(disk.open.get(old)! > 0, "the old file must stay open for who reads it");

  const { transactions } = await readUntil(peer, TID + 10n);
  const whole = transactions.filter(({ oids }) => oids.length === 3);
  assert.deepEqual(transactions.map(({ tid }) => tid), after.map(({ tid }) => tid));
  assert.ok(whole.length > 2 && whole.length < 10, `${whole.length} transactions came from the old file`);
  assert.equal(whole[0]?.tid, TID);
  assert.equal(disk.open.get(old), 0);
  assert.deepEqual(primary.log.complaints(), []);
});

Deno.test("a secondary in the middle of a transaction that is rolled back in place never gets a mixture", async () => {
  const before = history(2, 300 * KIB);
  const { scene, disk } = sceneWith(before);
  await using primary = await scene.startPrimary({ buffers: BUFFERS });
  const peer = await scene.connect();
  await peer.greet(TID);
  await primary.log.waitFor(/connected with/);
  const other = before[1]!.records.map(({ oid }) => ({ oid, data: new Uint8Array(300 * KIB).fill(0xee) }));
  disk.put(ORIGINAL, dataFs([before[0]!, { tid: TID + 5n, records: other }]).bytes);
  await primary.log.waitFor(/rolled back/);

  const decoder = new StreamDecoder(TID);
  const transcript = new Transcript();
  const chunk = new Uint8Array(64 * KIB);
  for (;;) {
    const count = await peer.connection.read(chunk);
    if (count === null) break;
    decoder.push(chunk, 0, count, transcript);
  }
  assert.deepEqual(transcript.transactions, []);
  await primary.log.waitFor(/dropped: .*has been taken out of the file meanwhile/);
});

Deno.test("secondaries that have all there is cost no buffers", async () => {
  const { scene } = sceneWith(history(2, KIB));
  const sendBytes = 16 * 1024 * KIB;
  await using primary = await scene.startPrimary({ buffers: { ...BUFFERS, sendBytes } });
  const before = Deno.memoryUsage().external;
  for (let i = 0; i < 20; i++) await (await scene.connect()).greet(TID + 1n);
  await primary.log.lines.waitFor(
    "all to be connected",
    () => primary.log.matching(/connected with/).length === 20,
  );
  const last = await scene.connect();
  await last.greet(0n);
  await readUntil(last, TID + 1n); // by now the others have been let wait
  const cost = Deno.memoryUsage().external - before;
  assert.ok(cost < 2 * sendBytes, `${cost} bytes`);
});

Deno.test("a secondary that is dropped lets the file go that it was in", async () => {
  const { scene, disk } = sceneWith(history(10, 100 * KIB));
  await using primary = await scene.startPrimary({ buffers: BUFFERS, peerTimeoutMs: 20_000 });
  const peer = await scene.connect();
  await peer.greet(0n);
  await primary.log.waitFor(/connected with/);
  const old = disk.status(ORIGINAL)!.identity;
  disk.put(`${ORIGINAL}.pack`, dataFs(history(10, 100 * KIB)).bytes);
  disk.rename(`${ORIGINAL}.pack`, ORIGINAL);
  await primary.log.waitFor(/has been packed or replaced/);
  await scene.clock.waitForTimer(20_000);
  scene.clock.advance(40_000);
  await primary.log.waitFor(/took nothing for 20 s/);
  await peer.receiveEnd();
  assert.equal(disk.open.get(old), 0);
});

Deno.test("a primary stops at once, however many secondaries take nothing", async () => {
  const { scene, disk } = sceneWith(history(20, 100 * KIB));
  const primary = await scene.startPrimary({ buffers: BUFFERS });
  const peers: ScriptedSecondary[] = [];
  for (let i = 0; i < 50; i++) {
    const peer = await scene.connect();
    if (i % 3 > 0) await peer.greet(i % 3 === 1 ? 0n : TID + 19n);
    peers.push(peer);
  }
  await primary.stop();
  for (const peer of peers) await peer.receiveEnd();
  assert.deepEqual([...disk.open.values()], [0]);
  assert.deepEqual(scene.clock.delays, []);
  assert.deepEqual(primary.log.complaints(), []);
});
