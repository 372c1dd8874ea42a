/** A secondary that applies later than it receives: when, what it tells and serves meanwhile, and what it survives. */
import assert from "node:assert/strict";
import { DiskError, DivergedError, UnavailableError, UsageError } from "../../lib/errors.ts";
import { Storage } from "../../lib/filestorage/mod.ts";
import { Secondary } from "../../lib/replica/mod.ts";
import { tidOfTime } from "../../lib/zodb/mod.ts";
import { CollectedLog } from "../kit/collected_log.ts";
import { dataFs } from "../kit/data_fs.ts";
import { othersHaveRun } from "../kit/manual_clock.ts";
import { type RunningNode, startSecondary } from "../kit/node.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import type { Wire, WireTransaction } from "../kit/zrs_wire.ts";
import { COPY, HERE, Scene, type ScriptedPrimary, SOURCE } from "./scene.ts";

const HOUR = 3_600_000;

/** The tid of a moment so many minutes from now. */
function tidAfter(scene: Scene, minutes: number): bigint {
  return tidOfTime(scene.clock.now() + minutes * 60_000);
}

function transactionAt(tid: bigint, number: number): WireTransaction {
  return { tid, records: [{ oid: BigInt(number % 3), data: new TextEncoder().encode(`number ${number}`) }] };
}

function waiting(scene: Scene): string[] {
  return scene.disk.paths().filter((path) => path.includes(".pending."));
}

/** The transactions in the Data.fs. */
function appliedIn(scene: Scene): bigint[] {
  return scene.copied().map(({ tid }) => tid);
}

/** Waits until the Data.fs has so many transactions. */
async function applied(scene: Scene, secondary: RunningNode<Secondary>, tid: bigint): Promise<void> {
  while (secondary.node.status().delay?.appliedTid !== tid) await othersHaveRun();
  await othersHaveRun();
  assert.equal(appliedIn(scene).at(-1), tid);
}

async function send(wire: Wire, tids: readonly bigint[]): Promise<void> {
  for (const [at, tid] of tids.entries()) await wire.sendTransaction(transactionAt(tid, at));
}

/** Has the secondary connect and receive transactions. */
async function receive(
  primary: ScriptedPrimary,
  secondary: RunningNode<Secondary>,
  tids: readonly bigint[],
): Promise<Wire> {
  const wire = await primary.accept();
  await wire.receiveGreeting();
  await send(wire, tids);
  await secondary.waitForTid(tids.at(-1)!);
  return wire;
}

Deno.test("each transaction is applied when the delay has passed since its time, and served at once", async () => {
  const scene = new Scene();
  const tids = [-61, -59, -30, 0].map((minutes) => tidAfter(scene, minutes));
  using primary = await scene.listen();
  await using secondary = await startSecondary({
    ...{ path: COPY, replicateFrom: SOURCE, replicateTo: HERE, protocol: "zrs2" },
    ...{ retryMaxMs: 60_000, keepAliveMs: 0, applyDelayMs: HOUR },
  }, scene);
  await receive(primary, secondary, tids);
  await applied(scene, secondary, tids[0]!);

  {
    const chained = { path: "/copy/chained.fs", replicateFrom: HERE, keepAliveMs: 0 };
    await using downstream = await startSecondary(chained, scene);
    await downstream.waitForTid(tids[3]!);
    assert.deepEqual(transactionsOf(scene.disk.bytes("/copy/chained.fs")).map(({ tid }) => tid), tids);
  }
  const status = secondary.node.status();
  assert.equal(status.lastTid, tids[3]);
  assert.deepEqual(status.source?.lag.bytes, 0);
  const end = scene.copied().at(-1)!.end;
  const { nextDueMs, ...delay } = status.delay!;
  assert.deepEqual(delay, {
    delayMs: HOUR,
    appliedTid: tids[0],
    appliedBytes: end,
    waitingBytes: status.bytes - end,
  });
  assert.equal(Math.round(nextDueMs! - scene.clock.now()), 60_000);

  scene.clock.advance(59_999);
  await othersHaveRun();
  assert.equal(appliedIn(scene).length, 1);
  await scene.clock.waitForTimer(1, 10_000);
  scene.clock.advance(2);
  await applied(scene, secondary, tids[1]!);
  await scene.clock.waitForTimer(10_000);
  scene.clock.advance(HOUR);
  await applied(scene, secondary, tids[3]!);
  assert.equal(secondary.node.status().delay!.nextDueMs, undefined);

  await secondary.stop();
  assert.deepEqual(waiting(scene), []);
  assert(scene.disk.paths().includes(`${COPY}.index`));
  await using plain = await scene.startSecondary();
  assert.deepEqual([plain.lastTid, plain.log.matching(/scanned/)], [tids[3], []]);
});

Deno.test("what waits is there after a kill, asked for only once, and applied when it is due", async () => {
  const scene = new Scene();
  const tids = [-50, -40, -30].map((minutes) => tidAfter(scene, minutes));
  using primary = await scene.listen();
  let killed: Scene;
  {
    await using secondary = await scene.startSecondary({ applyDelayMs: HOUR });
    await receive(primary, secondary, tids);
    killed = new Scene({ disk: scene.disk.copy() });
  }
  assert.equal(waiting(killed).length, 1);
  using source = await killed.listen();
  await using secondary = await killed.startSecondary({ applyDelayMs: HOUR });
  assert.match(
    secondary.log.matching(/bytes wait/)[0]!,
    /when they are 3600 s old; \d+ bytes wait, up to/,
  );
  assert.equal((await (await source.accept()).receiveGreeting()).tid, tids[2]);
  killed.clock.advance(10 * 60_000 + 10);
  await applied(killed, secondary, tids[0]!);
});

Deno.test("without the delay any more, all that waits is applied first, and that is said", async () => {
  const scene = new Scene();
  const tids = [-2, -1].map((minutes) => tidAfter(scene, minutes));
  using primary = await scene.listen();
  {
    await using secondary = await scene.startSecondary({ applyDelayMs: HOUR });
    await receive(primary, secondary, tids);
  }
  assert.deepEqual([appliedIn(scene), waiting(scene).length], [[], 1]);
  await using secondary = await scene.startSecondary();
  assert.equal(secondary.log.matching(/^Applying \d+ bytes that wait/).length, 1);
  assert.deepEqual([appliedIn(scene), waiting(scene)], [tids, []]);
  assert.equal(secondary.node.status().delay, undefined);
  assert.equal((await (await primary.accept()).receiveGreeting()).tid, tids[1]);
});

Deno.test("stopped while it applies all that waits, it goes on behind that the next time, without reading all again", async () => {
  const scene = new Scene();
  const tids = [-2, -1].map((minutes) => tidAfter(scene, minutes));
  using primary = await scene.listen();
  {
    await using secondary = await scene.startSecondary({ applyDelayMs: HOUR });
    const wire = await primary.accept();
    await wire.receiveGreeting();
    const data = new Uint8Array(3 * 1024 * 1024); // one at a time
    for (const [at, tid] of tids.entries()) {
      await wire.sendTransaction({ tid, records: [{ oid: BigInt(at), data }] });
    }
    await secondary.waitForTid(tids[1]!);
  }
  const stop = new AbortController();
  const log = new class extends CollectedLog {
    override info(message: string): void {
      super.info(message);
      if (message.startsWith("Applying")) stop.abort(new Error("stopped"));
    }
  }();
  const { disk, network, clock, random } = scene;
  const options = { path: COPY, replicateFrom: SOURCE, blobs: "refuse", signal: stop.signal } as const;
  await assert.rejects(Secondary.open({ disk, network, clock, random, log }, options), stop.signal.reason);
  assert.deepEqual(appliedIn(scene), tids.slice(0, 1));
  {
    await using applied = await Storage.open(disk, COPY, { mayHavePending: true });
    assert.equal(applied.report.scanned, 0);
  }
  await using _secondary = await scene.startSecondary();
  assert.deepEqual(appliedIn(scene), tids);
});

Deno.test("a transaction from the future waits for its time, and those behind it wait with it", async () => {
  const scene = new Scene();
  const tids = [-70, 600, 601].map((minutes) => tidAfter(scene, minutes));
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ applyDelayMs: HOUR });
  await receive(primary, secondary, tids);
  await applied(scene, secondary, tids[0]!);
  await scene.clock.waitForTimer(10_000);
  scene.clock.advance(10 * HOUR);
  await othersHaveRun();
  assert.deepEqual(appliedIn(scene), [tids[0]]);
  await scene.clock.waitForTimer(1, 10_000);
  scene.clock.advance(HOUR + 120_000);
  await applied(scene, secondary, tids[2]!);
});

Deno.test("a full disk holds up what is applied and not what is received, and is told as a problem", async () => {
  const scene = new Scene();
  const tids = [-50, -40, -1].map((minutes) => tidAfter(scene, minutes));
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ applyDelayMs: HOUR, keepAliveMs: 0 });
  const wire = await receive(primary, secondary, tids.slice(0, 2));
  for (let nth = 1; nth <= 4; nth++) {
    scene.disk.fail({ operation: "write", path: COPY, nth, error: "full", written: 7 });
  }
  await scene.clock.waitForTimer(10_000);
  scene.clock.advance(25 * 60_000);
  const { level } = await secondary.log.waitFor(/what is due is not applied/);
  assert.equal(level, "error");
  assert.match(secondary.node.status().problem!, /disk is full/);
  await send(wire, tids.slice(2));
  await secondary.waitForTid(tids[2]!);
  assert.deepEqual(transactionsOf(scene.disk.bytes(COPY).slice(0, 4)), []);
  for (let i = 0; i < 4; i++) {
    await scene.clock.waitForTimer(5_000);
    scene.clock.advance(5_000);
  }
  await applied(scene, secondary, tids[1]!);
  assert.equal(secondary.log.matching(/There is room again/).length, 1);
  assert.equal(secondary.node.status().problem, undefined);
});

Deno.test("an I/O error while applying ends the node, also when its source is idle, and loses nothing", async () => {
  const scene = new Scene();
  const tids = [-50, -40].map((minutes) => tidAfter(scene, minutes));
  using primary = await scene.listen();
  const secondary = await scene.startSecondary({ applyDelayMs: HOUR });
  await receive(primary, secondary, tids);
  scene.disk.fail({ operation: "sync", path: COPY });
  await scene.clock.waitForTimer(10_000);
  scene.clock.advance(25 * 60_000);
  assert(await secondary.failure() instanceof DiskError);
  await secondary.stop();
  await using again = await scene.startSecondary({ applyDelayMs: HOUR });
  assert.equal(again.lastTid, tids[1]);
  await applied(scene, again, tids[1]!);
});

Deno.test("a Data.fs that was written to meanwhile is refused at the start", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  const tid = tidAfter(scene, -1);
  {
    await using secondary = await scene.startSecondary({ applyDelayMs: HOUR });
    await receive(primary, secondary, [tid]);
  }
  const promoted = dataFs([{ tid: tid - 1n, records: [{ oid: 0n, data: "by Python" }] }]).bytes;
  scene.disk.put(COPY, promoted);
  for (const applyDelayMs of [HOUR, 0]) {
    await assert.rejects(scene.startSecondary({ applyDelayMs }), DivergedError);
    assertSameBytes(scene.disk.bytes(COPY), promoted);
    assert.equal(waiting(scene).length, 1);
  }
});

for (const isApplied of [false, true]) {
  const what = isApplied ? "is refused, and told, where it has been applied" : "is done";
  Deno.test(`taking back by itself what waits ${what}`, async () => {
    const scene = new Scene();
    const tids = [-90, -80, isApplied ? -70 : -20, -10].map((minutes) => tidAfter(scene, minutes));
    const common = tids.slice(0, 2);
    using primary = await scene.listen();
    {
      await using secondary = await scene.startSecondary({ applyDelayMs: HOUR });
      await receive(primary, secondary, tids);
      await applied(scene, secondary, tids[isApplied ? 2 : 1]!);
      primary.close();
    }
    const before = scene.disk.bytes(COPY);
    const source = [...scene.copied().slice(0, 2)].at(-1)!.end;
    scene.disk.put("/source/Data.fs", before.slice(0, source));
    await using _primary = await scene.startPrimary();
    const options = { path: COPY, replicateFrom: HERE, retryMaxMs: 60_000, rewindLimit: 10 };
    await using secondary = await startSecondary({ ...options, applyDelayMs: HOUR }, scene);
    if (isApplied) {
      assert.match((await secondary.log.waitFor(/is not rewound/)).message, /has been applied.*zrs promote/);
      assert.equal(secondary.lastTid, tids[3]);
    } else {
      await secondary.log.waitFor(/^Rewound .*2 transactions taken back/);
      assert.equal(secondary.lastTid, common[1]);
    }
    assertSameBytes(scene.disk.bytes(COPY), before);
  });
}

Deno.test("a running replica is promoted up to just before a mistake, that and no more, and ends", async () => {
  const scene = new Scene();
  const tids = [-90, -60, -30, -20].map((minutes) => tidAfter(scene, minutes));
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ applyDelayMs: HOUR });
  await receive(primary, secondary, tids);
  await applied(scene, secondary, tids[1]!);

  await assert.rejects(secondary.node.promote(tids[1]!), (error) => {
    assert(error instanceof UsageError);
    assert.match(error.message, /has been applied/);
    return true;
  });
  assert.equal(secondary.node.status().delay?.appliedTid, tids[1], "all goes on as before");

  // The mistake is due at the very moment at which it is taken out.
  const promoting = secondary.node.promote(tids[2]!);
  scene.clock.advance(30 * 60_000);
  const { lastTid, kept, savedTo, ...rest } = await promoting;
  await secondary.ended;
  assert.equal(secondary.node.status().delay, undefined, "and asking for the status does no harm");
  assert.equal(lastTid, tids[1]);
  assert.deepEqual(rest.applied, { transactions: 0, bytes: 0 });
  assert.equal(kept.transactions, 2);
  assert.deepEqual(appliedIn(scene), tids.slice(0, 2));
  assert.deepEqual(transactionsOf(scene.disk.bytes(savedTo!)).map(({ tid }) => tid), tids.slice(2));
  assert.deepEqual(waiting(scene), []);
  await assert.rejects(secondary.node.promote(undefined), /is stopping, or being promoted/);
});

Deno.test("a running replica is promoted with all that it has, also with nothing to wait for", async () => {
  for (const applyDelayMs of [HOUR, 0]) {
    const scene = new Scene();
    const tids = [-90, -30].map((minutes) => tidAfter(scene, minutes));
    using primary = await scene.listen();
    await using secondary = await scene.startSecondary({ applyDelayMs });
    await receive(primary, secondary, tids);
    const { lastTid, savedTo } = await secondary.node.promote(undefined);
    await using _ready = await Storage.open(scene.disk, COPY); // nobody has it any more
    await secondary.ended;
    assert.deepEqual([lastTid, savedTo], [tids[1], undefined]);
    assert.deepEqual(appliedIn(scene), tids);
    assert.deepEqual(waiting(scene), []);
    assert(scene.disk.status(`${COPY}.index`) !== undefined);
  }
});

Deno.test("where promoting fails, whoever asked hears it, the node ends, and what waits is there", async () => {
  const scene = new Scene();
  const tids = [-90, -30].map((minutes) => tidAfter(scene, minutes));
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ applyDelayMs: HOUR });
  await receive(primary, secondary, tids);
  await applied(scene, secondary, tids[0]!);
  await secondary.waitForTid(tids[1]!);
  scene.disk.fail({ operation: "sync", path: COPY });
  await assert.rejects(secondary.node.promote(undefined), DiskError);
  assert(await secondary.failure() instanceof DiskError);
  assert.equal(waiting(scene).length, 1);
});

Deno.test("a node that is to stop while it promotes stops, says so, and can be promoted again", async () => {
  const scene = new Scene();
  const tids = [-50, -40, -30].map((minutes) => tidAfter(scene, minutes));
  using primary = await scene.listen();
  {
    await using secondary = await scene.startSecondary({ applyDelayMs: HOUR });
    const wire = await primary.accept();
    await wire.receiveGreeting();
    await send(wire, tids);
    await secondary.waitForTid(tids[2]!);
    const promoting = secondary.node.promote(tids[2]!).catch((error) => error);
    await secondary.log.waitFor(/^Stopping, to promote/);
    await secondary.stop();
    const error = await promoting;
    assert(error instanceof UnavailableError, `${error}`);
    assert.match(`${error.message}; ${error.hint}`, /the node stops before.*what waits is still there/);
  }
  assert.equal(waiting(scene).length, 1);
  assert.deepEqual(scene.disk.paths().filter((path) => path.includes(".rewound-")), []);
  await using again = await scene.startSecondary({ applyDelayMs: HOUR });
  const { lastTid, kept } = await again.node.promote(tids[2]!);
  assert.deepEqual([lastTid, kept.transactions], [tids[1], 1]);
  assert.deepEqual(appliedIn(scene), tids.slice(0, 2));
});
