/** Catching up once by zrs2, by which no source tells its end; and asking a ZEO server for it. */
import assert from "node:assert/strict";
import { DivergedError, ProtocolError, UnavailableError } from "../../lib/errors.ts";
import { type Address, formatAddress } from "../../lib/ports/mod.ts";
import { askLastTid } from "../../lib/replica/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { othersHaveRun } from "../kit/manual_clock.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { COPY, ORIGINAL, Scene } from "./scene.ts";
import { history, syncFrom, TID } from "./sync_kit.ts";

const ZEO: Address = { transport: "tcp", host: "zeo", port: 8100 };

/** One run by zrs2 from a primary of ours, while time passes. */
async function sync(
  original: readonly TransactionDescription[],
  copy: readonly TransactionDescription[] | undefined,
  options: Parameters<typeof syncFrom>[2] = {},
) {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, dataFs(original).bytes);
  if (copy !== undefined) scene.disk.put(COPY, dataFs(copy).bytes);
  await using _primary = await scene.startPrimary();
  let done = false;
  const running = syncFrom(scene, "node", { protocol: "zrs2", ...options });
  running.finally(() => done = true);
  while (!done) {
    for (let turns = 0; turns < 20; turns++) await othersHaveRun();
    scene.clock.advance(1_000);
  }
  return { scene, ...await running };
}

Deno.test("a source that is quiet has sent all, and that is said", async () => {
  for (const copy of [undefined, history(2), history(5)]) {
    const { scene, report, failure } = await sync(history(5), copy);
    assert.equal(failure, undefined);
    assert.deepEqual([report?.restsOn, report?.protocol], ["quiet", "zrs2.1"]);
    assert.equal(report?.transactions, 5 - (copy?.length ?? 0));
    assertSameBytes(scene.disk.bytes(COPY), dataFs(history(5)).bytes);
  }
});

Deno.test("nothing later than asked for is taken, wherever the copy is", async () => {
  for (let until = 1; until <= 5; until++) {
    for (const has of [0, 2]) {
      const { scene, report } = await sync(history(5), history(has), { until: TID + BigInt(until - 1) });
      assert.equal(report?.restsOn, "reached");
      assertSameBytes(scene.disk.bytes(COPY), dataFs(history(Math.max(until, has))).bytes, `${until} ${has}`);
    }
  }
});

Deno.test("a source that is known to have more must send it", async () => {
  const answered = await sync(history(5), history(2), { askLastTid: () => Promise.resolve(TID + 4n) });
  assert.deepEqual([answered.report?.restsOn, answered.report?.transactions], ["reached", 3]);
  const { failure, scene } = await sync(history(5), history(2), {
    askLastTid: () => Promise.resolve(TID + 9n),
  });
  assert(failure instanceof UnavailableError, String(failure));
  assert.match(
    failure.message,
    /should have 04c91f000000000a .*, has sent nothing for 60 s; what had come is kept/,
  );
  assertSameBytes(scene.disk.bytes(COPY), dataFs(history(5)).bytes);
});

Deno.test("a copy that is ahead of what the source is known to have is refused", async () => {
  const { failure, scene } = await sync(history(5), history(5), {
    askLastTid: () => Promise.resolve(TID + 2n),
  });
  assert(failure instanceof DivergedError, String(failure));
  assert.match(failure.message, /ahead of it: it ends with 04c91f0000000003/);
  assertSameBytes(scene.disk.bytes(COPY), dataFs(history(5)).bytes);
});

Deno.test("what comes out of a pack is no continuation: a new copy is made", async () => {
  const packed = [...history(5, { status: "p" }).slice(1), ...history(7, { from: 5 })];
  const { scene, report, log } = await sync(packed, history(3));
  assert.match(report?.newCopy ?? "", /has been packed since/);
  assert.match(log.complaints().join("\n"), /making a complete new copy/);
  assert.deepEqual(scene.copied().map(({ tid }) => tid), packed.map(({ tid }) => tid));
  assert.deepEqual(scene.disk.paths().filter((path) => path.includes(".sync")), []);
});

/** A ZEO server that says this to whoever connects. */
async function ask(...said: Uint8Array[]): Promise<bigint> {
  const scene = new Scene();
  using listener = await scene.network.listen(ZEO);
  const asking = askLastTid(scene, ZEO, new AbortController().signal);
  asking.catch(() => {});
  const connection = (await listener.accept())!;
  const question = new Uint8Array(8);
  assert.equal(await connection.read(question), 8);
  assert.equal(new TextDecoder().decode(question), "\0\0\0\x04ruok");
  for (const bytes of said) await connection.write(bytes);
  connection.close();
  return await asking;
}

function frame(text: string): Uint8Array {
  const body = new TextEncoder().encode(text);
  const framed = new Uint8Array(4 + body.length);
  new DataView(framed.buffer).setUint32(0, body.length);
  framed.set(body, 4);
  return framed;
}

Deno.test("a ZEO server names its last transaction, however its answer is cut", async () => {
  const storage = { "connections": 2, "last-transaction": "040d2846e2635caa" };
  const table = [{ "1": storage }, { "main": storage }, { "1": storage, "2": { "last-transaction": "00" } }];
  for (const storages of table) {
    const said = [...frame("Z5"), ...frame(JSON.stringify(storages))];
    assert.equal(await ask(Uint8Array.from(said)), 0x040d2846e2635caan);
    assert.equal(await ask(...said.map((byte) => Uint8Array.of(byte))), 0x040d2846e2635caan);
  }
});

Deno.test("what is no ZEO server is named, and not believed", async () => {
  const bad = [
    [frame("Z5"), frame("{}")],
    [frame("Z5"), frame('{"1":{"last-transaction":7}}')],
    [frame("Z5"), frame("null")],
    [frame("Z5"), frame("no JSON")],
    [new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n")],
  ];
  for (const said of bad) {
    await assert.rejects(
      ask(...said),
      (error) => error instanceof ProtocolError && error.message.includes("zeo:8100"),
    );
  }
  await assert.rejects(
    ask(frame("Z5")),
    (error) => error instanceof UnavailableError && error.message.includes(formatAddress(ZEO)),
  );
});

Deno.test("a source that has been packed to a later time than asked for is noticed by what comes behind that", async () => {
  const packed = [
    ...history(3, { status: "p" }),
    ...history(6, { from: 4, status: "p" }),
    ...history(8, { from: 6 }),
  ];
  const early = await sync(packed, [], { until: TID + 3n }); // between two that the pack has left
  assert(early.failure instanceof UnavailableError, `${early.failure}`);
  assert.match(
    early.failure.message,
    / it has been packed to a later time than 04c91f0000000004 /,
  );
  const later = await sync(packed, [], { until: TID + 6n });
  assert.deepEqual([later.failure, later.report?.after.lastTid], [undefined, TID + 6n]);
});
