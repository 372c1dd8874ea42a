/** A pack asked of a running secondary: alone, ended with its node, and also while the source is away. */
import assert from "node:assert/strict";
import { LockedError, UnavailableError, UsageError } from "../../lib/errors.ts";
import type { PackRequest } from "../../lib/replica/mod.ts";
import { formatTid } from "../../lib/zodb/mod.ts";
import { dataFs } from "../kit/data_fs.ts";
import { beforeDeadline } from "../kit/feed.ts";
import { startSecondary } from "../kit/node.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { data, findReferences, history } from "../filestorage/pack_kit.ts";
import { tidAt } from "../filestorage/random_history.ts";
import { attach, receiveRuns } from "./native_kit.ts";
import { COPY, HERE, Scene } from "./scene.ts";

const FILE = dataFs(history(
  [{ oid: 0n, data: data([1]) }, { oid: 1n, data: data([]) }],
  [{ oid: 0n, data: data([], "2") }],
  [{ oid: 0n, data: data([], "3") }],
)).bytes;

const REQUEST: PackRequest = {
  stop: tidAt(9),
  findReferences,
  keepOld: false,
  signal: new AbortController().signal,
  warn: (message) => assert.fail(message),
};

function scene(): Scene {
  const scene = new Scene();
  scene.disk.put(COPY, FILE);
  return scene;
}

Deno.test("a replica is packed while its source is away, and its last transaction stays as it is", async () => {
  const world = scene();
  const { disk } = world;
  await using secondary = await world.startSecondary();
  await secondary.log.waitFor(/connecting again in/);
  let told = 0;
  using _subscription = secondary.node.subscribe(() => told++);
  const report = await beforeDeadline("the pack", secondary.node.pack(REQUEST));
  assert.deepEqual([report.isPacked, report.tid, told], [true, tidAt(1), 1]);
  const left = transactionsOf(disk.bytes(COPY));
  assert.deepEqual(left.map(({ tid, status }) => [tid, status]), [[tidAt(1), "p"], [tidAt(2), " "]]);
  await secondary.stop();
  assert.deepEqual(disk.paths(), [COPY, `${COPY}.index`, `${COPY}.lock`]);
});

Deno.test("a second pack is refused, and the first ends with its node, the file unchanged", async () => {
  const world = scene();
  await using secondary = await world.startSecondary();
  const begun = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const first = secondary.node.pack({
    ...REQUEST,
    pause: () => {
      begun.resolve();
      return held.promise;
    },
  });
  const outcome = first.catch((error) => error);
  await begun.promise;
  await assert.rejects(secondary.node.pack(REQUEST), (error: Error) => {
    assert.ok(error instanceof LockedError);
    assert.match(error.message, /is being packed already/);
    return true;
  });
  const stopping = secondary.stop();
  held.resolve();
  await stopping;
  const error = await outcome;
  assert.ok(error instanceof UnavailableError, `${error}`);
  assert.match(error.message, /the node stops/);
  assertSameBytes(world.disk.bytes(COPY), FILE);
  assert.ok(!world.disk.paths().includes(`${COPY}.pack`));
});

Deno.test("a pack that cannot put its file in place leaves the node working, and one that leaves doubt ends it", async () => {
  for (const [operation, path, nth] of [["rename", ".pack", 1], ["syncDirectory", "/copy", 2]] as const) {
    const world = scene();
    const secondary = await world.startSecondary();
    world.disk.fail({ operation, path, nth });
    await assert.rejects(secondary.node.pack(REQUEST), /input\/output error/, operation);
    if (operation === "rename") {
      assertSameBytes(world.disk.bytes(COPY), FILE);
      assert.equal((await secondary.node.pack(REQUEST)).isPacked, true);
    } else assert.match(`${await secondary.failure()}`, /syncDirectory .*input\/output error/);
    await secondary.stop();
  }
});

Deno.test("a replica with a delay is not packed while it runs", async () => {
  const world = scene();
  await using secondary = await world.startSecondary({ applyDelayMs: 1_000 });
  await assert.rejects(secondary.node.pack(REQUEST), (error: Error) => {
    assert.ok(error instanceof UsageError);
    assert.match(`${error.message}; ${error.hint}`, /runs with --apply-delay; .*zrs promote/);
    return true;
  });
});

/** A native secondary of the node that is packed. */
async function startChained(world: Scene, directory: string) {
  world.disk.addDirectory(directory);
  const path = `${directory}/Data.fs`;
  return await startSecondary({ path, replicateFrom: HERE, protocol: "native", retryMaxMs: 60_000 }, world);
}

Deno.test("a node that has packed its file tells the secondaries that it has, and each that comes later", async () => {
  const world = scene();
  await using node = await world.startSecondary({ replicateTo: HERE });
  await using chained = await startChained(world, "/chained");
  await chained.waitForTid(tidAt(2));
  const before = await attach(world);
  assert.ok(!("packedTo" in before.welcome), "a node that has packed nothing says nothing of it");
  await receiveRuns(before.wire);
  assert.equal(chained.node.status().source?.packedTo, undefined);

  assert.equal((await node.node.pack(REQUEST)).tid, tidAt(1));
  const bye = await before.wire.receiveMessage("bye", ["complete"]);
  assert.deepEqual([bye.code, bye.packedTo], ["again", formatTid(tidAt(1))]);
  const said = /^here:5000 has packed its file up to .*; this replica keeps what it has until/;
  const { level, facts } = await chained.log.waitFor(said);
  assert.deepEqual([level, facts], ["info", { tid: formatTid(tidAt(1)) }]);
  assert.equal(chained.node.status().source?.packedTo, tidAt(1));

  await chained.log.waitFor(/packed, replaced or rolled back; connecting again/);
  const from = chained.log.lines.items.length;
  world.clock.advance(await world.clock.waitForTimer(1, 50));
  await chained.log.waitFor(/has all that the source has/, { from });
  assert.equal(chained.log.matching(said).length, 1, "it is told once, though the welcome says it again");

  await using later = await startChained(world, "/later");
  await later.log.waitFor(said);
  assert.equal(later.node.status().source?.packedTo, tidAt(1));
  const after = await attach(world);
  assert.equal(after.welcome["packedTo"], formatTid(tidAt(1)));
  for (const { wire } of [before, after]) wire.close();
});

Deno.test("that a pack ends the connection for a moment is no trouble with the source", async () => {
  const world = scene();
  await using _node = await world.startSecondary({ replicateTo: HERE });
  await using chained = await startChained(world, "/chained");
  await chained.waitForTid(tidAt(2));
  const from = chained.log.lines.items.length;
  assert.ok((await beforeDeadline("the pack", chained.node.pack(REQUEST))).isPacked);
  await chained.log.waitFor(/^Connected to/, { from });
  assert.equal(chained.node.status().source?.lastError, undefined);
});
