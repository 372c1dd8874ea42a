/** Secondaries that take back by themselves what their source lacks: how far, when not, and what stays. */
import assert from "node:assert/strict";
import { DiskError } from "../../lib/errors.ts";
import { encodeControl } from "../../lib/native/mod.ts";
import type { Secondary } from "../../lib/replica/mod.ts";
import { describeTid, formatTid } from "../../lib/zodb/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import type { LoggedLine } from "../kit/collected_log.ts";
import { type RunningNode, startSecondary } from "../kit/node.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { COPY, HERE, ORIGINAL, Scene, type ScriptedPrimary } from "./scene.ts";

const TID = 0x036c_9000_0000_0001n;
const MIDDLE = { transport: "tcp", host: "middle", port: 5000 } as const;
const CHAINED = "/chained/Data.fs";

/** Transactions by number; those of another history differ in content, and in tid where `tids` says so. */
function history(
  numbers: readonly number[],
  { name = "shared", tids = 0n }: { name?: string; tids?: bigint } = {},
): TransactionDescription[] {
  return numbers.map((number) => ({
    tid: TID + 16n * BigInt(number) + tids,
    description: name,
    records: [{ oid: BigInt(number % 7), data: `${name} ${number}` }],
  }));
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, at) => from + at);
}

/** A scene whose original and copy hold these. */
function sceneOf(
  original: readonly TransactionDescription[],
  copy: readonly TransactionDescription[],
): Scene {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, dataFs(original).bytes);
  scene.disk.put(COPY, dataFs(copy).bytes);
  return scene;
}

/** Replicates by the native stream, and rewinds by itself up to a limit. */
async function startCopy(scene: Scene, rewindLimit: number): Promise<RunningNode<Secondary>> {
  const options = { retryMaxMs: 60_000, path: COPY, replicateFrom: HERE, rewindLimit };
  return await startSecondary({ ...options, replicateTo: MIDDLE }, scene);
}

async function rewound(node: RunningNode<Secondary>): Promise<LoggedLine> {
  return await node.log.waitFor(/^Rewound /);
}

function savedIn({ disk }: Scene): string[] {
  return disk.paths().filter((path) => path.includes(".rewound-"));
}

Deno.test("a replica that is ahead takes that back, saves it, says so, and goes on", async () => {
  const scene = sceneOf(history(range(0, 10)), history(range(0, 13)));
  await using _primary = await scene.startPrimary();
  await using secondary = await startCopy(scene, 100);
  const { level, message } = await rewound(secondary);
  assert.equal(level, "warning");
  const [last, first, end] = [9, 10, 12].map((number) => describeTid(TID + 16n * BigInt(number)));
  const saved = `${COPY}.rewound-${formatTid(TID + 160n)}`;
  assert.equal(
    message,
    `Rewound ${COPY} to ${last}, since here:5000 refuses it: ahead: your last transaction is ${end}, ` +
      `this source ends with ${last}, which you have too. 3 transactions taken back: ${first} to ${end}, ` +
      `saved in ${saved}`,
  );
  assertSameBytes(scene.disk.bytes(COPY), scene.disk.bytes(ORIGINAL));
  assert.deepEqual(
    transactionsOf(scene.disk.bytes(saved)).map(({ tid }) => tid),
    [160n, 176n, 192n].map((n) => TID + n),
  );

  const more = dataFs([...history(range(0, 10)), ...history(range(20, 25), { name: "new" })]).bytes;
  scene.disk.put(ORIGINAL, more);
  await secondary.waitForTid(TID + 16n * 24n);
  await secondary.stop();
  assertSameBytes(scene.disk.bytes(COPY), more);
});

for (const common of [1, 2, 19, 20, 99]) {
  for (const tids of [0n, 1n]) {
    const how = tids === 0n ? "the same tids" : "other tids";
    Deno.test(`a replica that forked behind ${common} transactions, with ${how}, gets the source's instead`, async () => {
      const fork = history(range(common, 100), { name: "fork", tids });
      const source = [...history(range(0, common)), ...history(range(common, 110), { name: "source" })];
      const scene = sceneOf(source, [...history(range(0, common)), ...fork]);
      await using _primary = await scene.startPrimary();
      await using secondary = await startCopy(scene, 100 - common);
      await secondary.waitForTid(TID + 16n * 109n);
      assert.match((await rewound(secondary)).message, new RegExp(`${formatTid(fork[0]!.tid)}.*, saved in`));
      await secondary.stop();
      assertSameBytes(scene.disk.bytes(COPY), scene.disk.bytes(ORIGINAL));
      const [saved] = savedIn(scene);
      assert.deepEqual(
        transactionsOf(scene.disk.bytes(saved!)).map(({ tid }) => tid),
        fork.map(({ tid }) => tid),
      );
      assert.equal(secondary.log.matching(/refuses this replica/).length, 0);
      await using again = await startCopy(scene, 0);
      assert.equal(again.lastTid, TID + 16n * 109n);
      assert.deepEqual(again.log.matching(/scanned/), []);
    });
  }
}

Deno.test("what a packed source cannot tell for sure is taken back all the same, and that is said", async () => {
  const source = history(range(0, 10));
  const packed = source.map((each, at) => at === 5 ? { ...each, status: "p" as const } : each);
  const fork = history(range(6, 9), { name: "fork" });
  const scene = sceneOf(packed, [...source.slice(0, 6), ...fork]);
  await using _primary = await scene.startPrimary();
  await using secondary = await startCopy(scene, 100);
  await secondary.waitForTid(TID + 16n * 9n);
  assert.match((await rewound(secondary)).message, /is not known for sure: packs have removed/);
});

Deno.test("a replica that has been packed is taken back as far as to the time of the pack, and no further", async () => {
  for (const last of [5, 6]) {
    // The pack has dropped what object 0 was until it changed for the last time before it.
    const whole = history(range(0, 9)).map((each, at) => ({
      ...each,
      records: [...each.records, ...(at === 0 || at === 6 ? [{ oid: 99n, data: `${at}` }] : [])],
    }));
    const packed = whole.map((each, at) => ({
      ...each,
      ...(at <= 6 && { status: "p" as const }),
      ...(at === 0 && { records: each.records.slice(0, 1) }),
    }));
    const restored = [...whole.slice(0, last + 1), ...history(range(20, 22), { name: "after the restore" })];
    const scene = sceneOf(restored, packed);
    await using _primary = await scene.startPrimary();
    await using secondary = await startCopy(scene, 100);
    if (last === 6) {
      await secondary.waitForTid(TID + 16n * 21n);
      await rewound(secondary);
      continue;
    }
    const { level, message } = await secondary.log.waitFor(/is not rewound: /);
    assert.equal(level, "error");
    assert.match(message, /packed to a later time than .*may lack objects.*make a new copy/);
    assertSameBytes(scene.disk.bytes(COPY), dataFs(packed).bytes);
    assert.deepEqual(savedIn(scene), []);
  }
});

/** Everything as it was: nothing is taken back, and the source is asked again at the longest wait. */
async function assertLeftAlone(scene: Scene, secondary: RunningNode<Secondary>, why: RegExp): Promise<void> {
  const before = dataFs(FORKED).bytes;
  assert.equal((await secondary.log.waitFor(/is not rewound: /)).level, "error");
  assert.match((await secondary.log.waitFor(/is not rewound: /)).message, why);
  await secondary.log.waitFor(/refuses this replica: .*nothing was changed/);
  await scene.clock.waitForTimer(30_000);
  assertSameBytes(scene.disk.bytes(COPY), before);
  assert.deepEqual(savedIn(scene), []);
}

const FORKED = [...history(range(0, 10)), ...history(range(10, 15), { name: "fork" })];
const SOURCE_OF_FORKED = history(range(0, 20));

Deno.test("without being told to, and beyond the limit, nothing is taken back", async () => {
  const scene = sceneOf(SOURCE_OF_FORKED, FORKED);
  await using _primary = await scene.startPrimary();
  {
    await using secondary = await startCopy(scene, 0);
    await secondary.log.waitFor(/refuses this replica: .*nothing was changed/);
    assert.deepEqual(secondary.log.matching(/rewound/), []);
    assertSameBytes(scene.disk.bytes(COPY), dataFs(FORKED).bytes);
  }
  {
    await using secondary = await startCopy(scene, 4);
    await assertLeftAlone(scene, secondary, /: 5 transactions behind .* would go, and no more than 4 may/);
  }
  await using secondary = await startCopy(scene, 5);
  await secondary.waitForTid(TID + 16n * 19n);
  assertSameBytes(scene.disk.bytes(COPY), scene.disk.bytes(ORIGINAL));
});

Deno.test("another database altogether is never taken back, whatever the limit", async () => {
  for (const source of [history(range(0, 20), { name: "other" }), []]) {
    const scene = sceneOf(source, FORKED);
    await using _primary = await scene.startPrimary();
    await using secondary = await startCopy(scene, 1_000_000);
    await assertLeftAlone(scene, secondary, /names no transaction that both have, so all would go/);
  }
});

Deno.test("without room for saving what would go nothing is changed, and it is tried again", async () => {
  const scene = sceneOf(SOURCE_OF_FORKED, FORKED);
  await using _primary = await scene.startPrimary();
  const used = scene.disk.paths().reduce((total, path) => total + scene.disk.bytes(path).length, 0);
  scene.disk.capacity = used + 100;
  await using secondary = await startCopy(scene, 100);
  await assertLeftAlone(scene, secondary, /needs about \d+ bytes, and \d+ are free/);

  scene.disk.capacity = Infinity;
  scene.clock.advance(30_000);
  await secondary.waitForTid(TID + 16n * 19n);
  await secondary.stop();
  assertSameBytes(scene.disk.bytes(COPY), scene.disk.bytes(ORIGINAL));
});

/** Lets the shortest wait pass after the source has asked to be connected to again. */
async function letConnectAgain(scene: Scene, node: RunningNode<Secondary>): Promise<void> {
  await node.log.waitFor(/packed, replaced or rolled back; connecting again/);
  await scene.clock.waitForTimer(50);
  scene.clock.advance(50);
}

Deno.test("a node chained behind one that rewinds is told, and rewinds as well once the source has gone on", async () => {
  const scene = new Scene();
  scene.disk.addDirectory("/chained");
  scene.disk.put(ORIGINAL, dataFs(FORKED).bytes);
  await using _primary = await scene.startPrimary();
  await using middle = await startCopy(scene, 100);
  const options = { path: CHAINED, replicateFrom: MIDDLE, retryMaxMs: 60_000, rewindLimit: 100 };
  await using chained = await startSecondary(options, scene);
  await chained.waitForTid(FORKED.at(-1)!.tid);

  // The source is restored from a backup.
  const backup = dataFs(history(range(0, 10))).bytes;
  scene.disk.put(`${ORIGINAL}.new`, backup);
  scene.disk.rename(`${ORIGINAL}.new`, ORIGINAL);
  await letConnectAgain(scene, middle);
  await rewound(middle);
  assertSameBytes(scene.disk.bytes(COPY), backup);
  await letConnectAgain(scene, chained);
  await middle.log.waitFor(/ahead of this replica: has .*waits/);
  assertSameBytes(scene.disk.bytes(CHAINED), dataFs(FORKED).bytes);

  const last = dataFs(SOURCE_OF_FORKED).bytes;
  scene.disk.put(ORIGINAL, last);
  await middle.waitForTid(SOURCE_OF_FORKED.at(-1)!.tid);
  await chained.waitForTid(SOURCE_OF_FORKED.at(-1)!.tid);
  await rewound(chained);
  await chained.stop();
  await middle.stop();
  assertSameBytes(scene.disk.bytes(COPY), last);
  assertSameBytes(scene.disk.bytes(CHAINED), last);
});

/** Takes the next connection and refuses what greets there. @returns the last tid of whoever greeted */
async function refuseNext(source: ScriptedPrimary, commonTid: bigint | undefined): Promise<bigint> {
  const wire = await source.accept();
  const hello = JSON.parse(new TextDecoder().decode((await wire.receive())!));
  const refused = { type: "refused", code: "forked", reason: "forked: so I say", commonTid } as const;
  await wire.send(encodeControl(refused));
  wire.close();
  return BigInt(`0x${hello.lastTid}`);
}

Deno.test("a source that refuses again and again gets no further than the limit, until it sends something", async () => {
  const scene = new Scene();
  const own = history(range(0, 20));
  const tidOf = (number: number) => own[number]!.tid;
  scene.disk.put(COPY, dataFs(own).bytes);
  using source = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native", rewindLimit: 5 });
  assert.equal(await refuseNext(source, tidOf(17)), tidOf(19));
  assert.equal(await refuseNext(source, tidOf(15)), tidOf(17));
  assert.equal(await refuseNext(source, tidOf(13)), tidOf(15));
  const { message } = await secondary.log.waitFor(/is not rewound/);
  assert.match(
    message,
    /: 2 transactions behind .* would go besides the 4 that have gone already, and no more/,
  );
  await scene.clock.waitForTimer(30_000);
  assertSameBytes(scene.disk.bytes(COPY), dataFs(own.slice(0, 16)).bytes);
  assert.equal(savedIn(scene).length, 2);
});

Deno.test("what a source says that cannot be is not done, and asking again takes its time", async () => {
  for (
    const [number, why] of [[19, /as the last common/], [25, /as the last common/], [-1, /names no/]] as const
  ) {
    const scene = new Scene();
    const own = dataFs(history(range(0, 20))).bytes;
    scene.disk.put(COPY, own);
    using source = await scene.listen();
    await using secondary = await scene.startSecondary({ protocol: "native", rewindLimit: 50 });
    await refuseNext(source, number < 0 ? 0n : TID + 16n * BigInt(number));
    assert.match((await secondary.log.waitFor(/is not rewound/)).message, why);
    await scene.clock.waitForTimer(30_000);
    assertSameBytes(scene.disk.bytes(COPY), own);
  }
  // Earlier than the last, and not there.
  const scene = new Scene();
  scene.disk.put(COPY, dataFs(history(range(0, 20))).bytes);
  using source = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native", rewindLimit: 50 });
  await refuseNext(source, TID + 1n);
  assert.match((await secondary.log.waitFor(/is not rewound/)).message, /there is no such transaction/);
  await scene.clock.waitForTimer(30_000);
});

Deno.test("a source that has not proved that it has the secret rewinds nothing", async () => {
  const scene = new Scene();
  const own = history(range(0, 20));
  scene.disk.put(COPY, dataFs(own).bytes);
  using source = await scene.listen();
  const secret = { bytes: new TextEncoder().encode("a secret of ours") };
  await using secondary = await scene.startSecondary({ protocol: "native", rewindLimit: 50, secret });
  const wire = await source.accept();
  await wire.receive();
  const refused = {
    type: "refused",
    code: "forked",
    reason: "forked: so I say",
    commonTid: own[9]!.tid,
  } as const;
  await wire.send(encodeControl(refused));
  await secondary.log.waitFor(/forked: so I say/);
  await scene.clock.waitForTimer(30_000);
  assert.deepEqual(savedIn(scene), []);
  assertSameBytes(scene.disk.bytes(COPY), dataFs(own).bytes);
});

Deno.test("a source of zrs2 rewinds nothing by what it says", async () => {
  const forked = [...history(range(0, 10)), ...history(range(10, 15), { name: "fork", tids: 1n })];
  const scene = sceneOf(SOURCE_OF_FORKED, forked);
  await using _primary = await scene.startPrimary();
  const options = { path: COPY, replicateFrom: HERE, protocol: "zrs2", rewindLimit: 100 } as const;
  await using secondary = await startSecondary(options, scene);
  await secondary.log.waitFor(/refuses this replica: forked: .*nothing was changed/);
  assert.deepEqual(secondary.log.matching(/rewound/), []);
  assertSameBytes(scene.disk.bytes(COPY), dataFs(forked).bytes);
});

Deno.test("a disk that fails in a rewind ends the node, and the next start goes on with a whole file", async () => {
  for (const nth of [1, 2, 3, 4]) {
    const scene = sceneOf(SOURCE_OF_FORKED, FORKED);
    const secondary = await startCopy(scene, 100);
    scene.disk.fail({ operation: "sync", path: COPY, nth });
    await using _primary = await scene.startPrimary();
    await scene.clock.waitForTimer(50);
    scene.clock.advance(50);
    assert(await secondary.failure() instanceof DiskError);
    await secondary.stop();
    await using again = await startCopy(scene, 100);
    await again.waitForTid(TID + 16n * 19n);
    await again.stop();
    assertSameBytes(scene.disk.bytes(COPY), scene.disk.bytes(ORIGINAL));
  }
});
