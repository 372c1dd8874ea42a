/** What a primary sends of a file's odd places, and in which order when the file changes under it. */
import assert from "node:assert/strict";
import type { Connection, Network } from "../../lib/ports/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { othersHaveRun } from "../kit/manual_clock.ts";
import type { MemoryConnection } from "../kit/memory_network.ts";
import { startPrimary } from "../kit/node.ts";
import { CountingDisk } from "./counting_disk.ts";
import { HERE, ORIGINAL, Scene, type ScriptedSecondary } from "./scene.ts";

const TID = 0x036c_9000_0000_0001n;
const KIB = 1024;

function history(count: number, dataBytes = 10): TransactionDescription[] {
  return Array.from({ length: count }, (_, i) => ({
    tid: TID + BigInt(i),
    records: [{ oid: BigInt(i), data: new Uint8Array(dataBytes).fill(i) }],
  }));
}

function sceneWith(transactions: readonly TransactionDescription[], capacity?: number) {
  const disk = new CountingDisk();
  const scene = new Scene({ disk, ...(capacity !== undefined && { capacity }) });
  disk.put(ORIGINAL, dataFs(transactions).bytes);
  return { scene, disk };
}

/** Reads transactions of one record each until something else comes. @returns the records' first bytes, and the rest */
async function receiveAll(peer: ScriptedSecondary): Promise<{ first: number[]; rest: string }> {
  const first: number[] = [];
  for (;;) {
    const head = await peer.receive();
    const text = new TextDecoder().decode(head ?? new Uint8Array());
    if (!text.includes("X\x01\0\0\0T")) return { first, rest: text };
    await peer.receive();
    first.push((await peer.receive())![0]!);
    await peer.receive();
  }
}

Deno.test("transactions that very old versions cancelled are passed over", async () => {
  const transactions = history(5).map((each, i) =>
    i === 1 || i === 4 ? { ...each, status: "u" as const } : each
  );
  const { scene } = sceneWith([...transactions, ...history(7).slice(5)]);
  await using _primary = await scene.startPrimary();
  const peer = await scene.connect();
  await peer.greet(0n);
  const received: number[] = [];
  for (let i = 0; i < 5; i++) {
    await peer.receive();
    await peer.receive();
    received.push((await peer.receive())![0]!);
    await peer.receive();
  }
  assert.deepEqual(received, [0, 2, 3, 5, 6]);
});

Deno.test("a tid that does not rise ends the stream, and is told to both sides", async () => {
  const [a, b, c] = history(3);
  const { scene } = sceneWith([a!, b!, { ...c!, tid: TID }]);
  await using primary = await scene.startPrimary();
  const peer = await scene.connect();
  await peer.greet(0n);
  const { first, rest } = await receiveAll(peer);
  assert.deepEqual(first, [0, 1]);
  assert.match(
    rest,
    /refused: Cannot read transaction 036c900000000001 .*its tid must be greater than the one before/,
  );
  await primary.log.waitFor(/dropped: Cannot read transaction/);
});

Deno.test("a secondary that lost its place gets what was under way before it is told", async () => {
  const { scene, disk } = sceneWith(history(50, 8 * KIB), 4 * KIB);
  const buffers = { sendBytes: 64 * KIB, readBytes: 64 * KIB, runBytes: 64 * KIB };
  await using primary = await scene.startPrimary({ buffers });
  const peer = await scene.connect();
  await peer.greet(0n);
  await primary.log.waitFor(/connected/);
  // Restored from a backup while two buffers are on their way to a secondary that takes its time.
  disk.put(`${ORIGINAL}.backup`, dataFs(history(3)).bytes);
  disk.rename(`${ORIGINAL}.backup`, ORIGINAL);
  await primary.log.waitFor(/rolled back/);
  const { first, rest } = await receiveAll(peer);
  assert.ok(first.length > 3 && first.length < 50, `${first.length} transactions came`);
  assert.deepEqual(first, first.map((_, i) => i));
  assert.match(rest, /refused: ahead: your last transaction is/);
  assert.equal(await peer.receive(), null);
});

Deno.test("whoever is refused holds no file open", async () => {
  const { scene, disk } = sceneWith(history(10));
  const old = disk.status(ORIGINAL)!.identity;
  await using primary = await scene.startPrimary();
  for (let i = 0; i < 3; i++) {
    const peer = await scene.connect();
    await peer.greet(TID + 100n);
    assert.match((await receiveAll(peer)).rest, /refused: ahead/);
    await peer.receiveEnd();
  }
  disk.put(`${ORIGINAL}.pack`, dataFs(history(11)).bytes);
  disk.rename(`${ORIGINAL}.pack`, ORIGINAL);
  await primary.log.waitFor(/has been packed or replaced/);
  assert.equal(disk.open.get(old), 0);
});

/** A connection on which writing fails as soon as the peer is gone, before reading tells of it. */
class LateReader implements Connection {
  readonly #connection: MemoryConnection;

  constructor(connection: MemoryConnection) {
    this.#connection = connection;
  }

  get peer(): string {
    return this.#connection.peer;
  }

  get written(): number {
    return this.#connection.written;
  }

  async read(into: Uint8Array): Promise<number | null> {
    const count = await this.#connection.read(into);
    if (count === null) await othersHaveRun();
    return count;
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#connection.write(bytes);
  }

  close(): void {
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

Deno.test("a secondary that leaves in the middle of what it is sent is nothing to complain of", async () => {
  const { scene } = sceneWith(history(50, 8 * KIB), 4 * KIB);
  const network: Network = {
    connect: (address) => scene.network.connect(address),
    listen: async (address) => {
      const listener = await scene.network.listen(address);
      const accept = listener.accept.bind(listener);
      return Object.assign(listener, {
        accept: async () => {
          const connection = await accept();
          return connection && new LateReader(connection);
        },
      });
    },
  };
  await using primary = await startPrimary({ path: ORIGINAL, replicateTo: HERE }, { ...scene, network });
  const peer = await scene.connect();
  await peer.greet(0n);
  await peer.receive();
  peer.close();
  await primary.log.waitFor(/disconnected|dropped/);
  assert.deepEqual(primary.log.complaints(), []);
});
