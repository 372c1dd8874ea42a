/** What a source remembers of its secondaries, and what a pack keeps for them. */
import assert from "node:assert/strict";
import { UsageError } from "../../lib/errors.ts";
import {
  keepForSecondaries,
  type KnownSecondary,
  readKnownSecondaries,
  writeKnownSecondaries,
} from "../../lib/filestorage/mod.ts";
import { SecondaryMemory } from "../../lib/replica/sending/secondary_memory.ts";
import { CollectedLog } from "../kit/collected_log.ts";
import { startPrimary, startSecondary } from "../kit/node.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { dataFs } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { data, findReferences, history } from "../filestorage/pack_kit.ts";
import { tidAt } from "../filestorage/random_history.ts";
import { HERE, ORIGINAL, Scene } from "./scene.ts";

const DAY_MS = 86_400_000;
const FILE = dataFs(history(
  ...Array.from({ length: 8 }, (_, at) => [{ oid: 0n, data: data([], `${at}`) }]),
));

async function attachedScene(path: string, options: { name?: string } = {}) {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, FILE.bytes);
  scene.disk.addDirectory("/far");
  const primary = await scene.startPrimary({ remember: true });
  const secondary = await startSecondary(
    { path, replicateFrom: HERE, protocol: "native", retryMaxMs: 60_000, ...options },
    scene,
  );
  return { scene, primary, secondary };
}

Deno.test("a source remembers how far a secondary is, by its name, over its own end", async () => {
  const { scene, primary, secondary } = await attachedScene("/far/Data.fs", { name: "db2:/far/Data.fs" });
  await secondary.waitForTid(tidAt(7));
  await scene.clock.waitForTimer(1_000); // it is new
  await secondary.stop();
  await primary.stop();
  const known = readKnownSecondaries(scene.disk, ORIGINAL);
  assert.deepEqual(known.map(({ name, heardMs }) => [name, heardMs]), [[
    "db2:/far/Data.fs",
    scene.clock.now(),
  ]]);
  assert.deepEqual(scene.disk.paths().filter((path) => path.startsWith(ORIGINAL)), [
    ORIGINAL,
    `${ORIGINAL}.secondaries`,
  ]);
  await using again = await scene.startPrimary({ remember: true });
  await again.stop();
  assert.deepEqual(readKnownSecondaries(scene.disk, ORIGINAL), known);
});

Deno.test("of two secondaries of one name the needs of both are kept, and that is told; one that comes again is one", () => {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, FILE.bytes);
  const log = new CollectedLog();
  const memory = SecondaryMemory.open({ ...scene, log }, ORIGINAL);
  const tids = () => memory.known.map(({ tid }) => tid);
  using ahead = memory.enter("same");
  ahead.heard(tidAt(5));
  {
    using behind = memory.enter("same");
    behind.heard(tidAt(2));
    ahead.heard(tidAt(6));
    assert.deepEqual(tids(), [tidAt(2)]);
    assert.deepEqual(log.complaints(), []);
    scene.clock.advance(20_000);
    behind.heard(tidAt(3));
    for (let times = 0; times < 2; times++) ahead.heard(tidAt(6));
    assert.deepEqual(tids(), [tidAt(3)]);
    assert.match(log.complaints().join(), /^[^]*call themselves same: .*give each a --name of its own$/);
    assert.equal(log.complaints().length, 1);
  }
  ahead.heard(tidAt(7));
  assert.deepEqual(tids(), [tidAt(7)]);

  using gone = memory.enter("again"); // its end has not been noticed yet
  gone.heard(tidAt(4));
  using back = memory.enter("again");
  scene.clock.advance(20_000);
  back.heard(tidAt(5));
  assert.equal(log.complaints().length, 1);
});

Deno.test("two processes that serve one file remember the secondaries of both", async () => {
  const { scene, primary, secondary } = await attachedScene("/far/one.fs", { name: "one" });
  await using other = await startPrimary(
    { path: ORIGINAL, replicateTo: { transport: "tcp", host: "other", port: 1 }, remember: true },
    scene,
  );
  await using second = await startSecondary(
    { path: "/far/two.fs", replicateFrom: other.address, retryMaxMs: 60_000, name: "two" },
    scene,
  );
  await secondary.waitForTid(tidAt(7));
  await second.waitForTid(tidAt(7));
  for (const node of [secondary, second, primary, other]) await node.stop();
  const known = readKnownSecondaries(scene.disk, ORIGINAL);
  assert.deepEqual(known.map(({ name }) => name).sort(), ["one", "two"]);
});

Deno.test("where the clock has been set back, what a secondary says now counts all the same", async () => {
  const { scene, primary, secondary } = await attachedScene("/far/Data.fs", { name: "one" });
  await secondary.waitForTid(tidAt(7));
  await secondary.stop();
  await primary.stop();
  const aheadMs = scene.clock.now() + DAY_MS;
  await writeKnownSecondaries(
    scene.disk,
    ORIGINAL,
    [{ name: "one", tid: tidAt(3), heardMs: aheadMs }],
    aheadMs,
  );
  for (let times = 0; times < 2; times++) {
    await using again = await scene.startPrimary({ remember: true });
    await using same = await startSecondary(
      { path: "/far/Data.fs", replicateFrom: HERE, protocol: "native", retryMaxMs: 60_000, name: "one" },
      scene,
    );
    await same.log.waitFor(/has all that the source has/);
    await same.stop();
    await again.stop();
    assert.deepEqual(readKnownSecondaries(scene.disk, ORIGINAL).map(({ tid }) => tid), [tidAt(7)]);
  }
});

Deno.test("however long secondaries say their names are, the file can be read again", async () => {
  const disk = new MemoryDisk();
  disk.put(ORIGINAL, FILE.bytes);
  const nowMs = 1_700_000_000_000;
  const known = Array.from({ length: 1_000 }, (_, at) => ({
    name: `${at} ${'"'.repeat(990)}\ud800`,
    tid: tidAt(7),
    heardMs: nowMs - at,
  }));
  await writeKnownSecondaries(disk, ORIGINAL, known, nowMs);
  const read = readKnownSecondaries(disk, ORIGINAL);
  assert.ok(read.length >= 100, `${read.length}`);
  assert.deepEqual(read, known.slice(0, read.length), "who was heard of last is kept");
});

Deno.test("a secondary without a name is remembered by where it comes from; unasked a source writes nothing", async () => {
  const { scene, primary, secondary } = await attachedScene("/far/Data.fs");
  await secondary.waitForTid(tidAt(7));
  await scene.clock.waitForTimer(1_000);
  await secondary.stop();
  await primary.stop();
  const [known] = readKnownSecondaries(scene.disk, ORIGINAL);
  assert.ok(known !== undefined && !/:\d+$/.test(known.name), known?.name);
  scene.disk.remove(`${ORIGINAL}.secondaries`);
  await using silent = await scene.startPrimary();
  await using next = await startSecondary({ path: "/far/Data.fs", replicateFrom: HERE }, scene);
  await next.waitForTid(tidAt(7));
  await next.stop();
  await silent.stop();
  assert.ok(!scene.disk.paths().includes(`${ORIGINAL}.secondaries`));
});

Deno.test("a node that cannot write what it remembers does all the rest, and says so once", async () => {
  const { scene, primary, secondary } = await attachedScene("/far/Data.fs");
  scene.disk.fail({ operation: "create", path: ".secondaries.new", lasting: true });
  await secondary.waitForTid(tidAt(7));
  await scene.clock.waitForTimer(1_000);
  scene.clock.advance(1_000);
  await primary.log.waitFor(/a pack cannot know how far the secondaries/);
  await secondary.stop();
  await primary.stop();
  assert.equal(primary.log.complaints().length, 1);
});

Deno.test("a running secondary's pack keeps what its own secondary needs that has gone, for as long as told", async () => {
  const scene = new Scene();
  scene.disk.put("/copy/Data.fs", FILE.bytes);
  const heardMs = scene.clock.now() - 2 * DAY_MS;
  await writeKnownSecondaries(
    scene.disk,
    "/copy/Data.fs",
    [{ name: "gone", tid: tidAt(4), heardMs }],
    heardMs,
  );
  const request = {
    stop: tidAt(9),
    findReferences,
    keepOld: false,
    signal: new AbortController().signal,
    warn: (message: string) => assert.fail(message),
  };
  for (const replicateTo of [undefined, HERE]) {
    await using node = await scene.startSecondary({ remember: true, ...(replicateTo && { replicateTo }) });
    const report = await node.node.pack({ ...request, keepForMs: 3 * DAY_MS });
    assert.equal(report.keptFor?.name, "gone");
    assert.equal(report.tid, tidAt(3));
    assert.deepEqual(
      transactionsOf(scene.disk.bytes("/copy/Data.fs")).map(({ tid, status }) => [tid, status]),
      [[tidAt(3), "p"], ...[4, 5, 6, 7].map((at) => [tidAt(at), " "])],
    );
  }
  await using node = await scene.startSecondary({ remember: true });
  const report = await node.node.pack({ ...request, keepForMs: DAY_MS });
  assert.deepEqual([report.keptFor, report.tid], [undefined, tidAt(6)]);
});

Deno.test("the pack time moves back for the secondary that has least, of those that were heard of", () => {
  const known = (name: string, at: number, heardMs: number): KnownSecondary => ({
    name,
    tid: tidAt(at),
    heardMs,
  });
  const all = [known("a", 5, 100), known("b", 3, 90), known("c", 1, 10), {
    name: "new",
    tid: 0n,
    heardMs: 100,
  }];
  assert.deepEqual(keepForSecondaries(tidAt(7), all, 50), { stop: tidAt(3) - 1n, keptFor: all[1] });
  assert.deepEqual(keepForSecondaries(tidAt(7), all, 0), { stop: tidAt(1) - 1n, keptFor: all[2] });
  assert.deepEqual(keepForSecondaries(tidAt(7), all, 101), { stop: tidAt(7), keptFor: undefined });
  assert.deepEqual(keepForSecondaries(tidAt(3) - 1n, all, 50), { stop: tidAt(3) - 1n, keptFor: undefined });
});

Deno.test("the list is bounded, forgets in time, is replaced whole, and is not guessed from when it is damaged", async () => {
  const disk = new MemoryDisk();
  disk.put("/data/Data.fs", FILE.bytes);
  const nowMs = Date.UTC(2024, 5, 1);
  const many = Array.from(
    { length: 1_500 },
    (_, at) => ({ name: `n${at}`, tid: tidAt(at), heardMs: nowMs - at }),
  );
  const long = { name: "long ago", tid: tidAt(0), heardMs: nowMs - 101 * DAY_MS };
  await writeKnownSecondaries(disk, "/data/Data.fs", [long, ...many], nowMs);
  assert.deepEqual(readKnownSecondaries(disk, "/data/Data.fs"), many.slice(0, 1_000));
  await writeKnownSecondaries(disk, "/data/Data.fs", [long], nowMs);
  assert.deepEqual(readKnownSecondaries(disk, "/data/Data.fs"), []);
  for (const operation of ["create", "write", "sync", "rename"] as const) {
    disk.fail({ operation });
    await assert.rejects(writeKnownSecondaries(disk, "/data/Data.fs", many, nowMs));
    assert.deepEqual(readKnownSecondaries(disk, "/data/Data.fs"), []);
  }
  for (
    const text of ["", "{", "[]", `{"secondaries":[{"name":1}]}`, `{"secondaries":[{"name":"a","tid":"1"}]}`]
  ) {
    disk.put("/data/Data.fs.secondaries", new TextEncoder().encode(text));
    assert.throws(() => readKnownSecondaries(disk, "/data/Data.fs"), (error: Error) => {
      assert.ok(error instanceof UsageError);
      assert.match(error.hint!, /--ignore-secondaries/);
      return true;
    });
  }
});
