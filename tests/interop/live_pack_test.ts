/** Our secondaries pack while real writers commit, undo and delete; real ZODB reads what is left. */
import assert from "node:assert/strict";
import { run } from "../../lib/cli/mod.ts";
import { findReferences } from "../../lib/cli/pack/pack_references.ts";
import { systemHost } from "../../lib/host/mod.ts";
import type { Secondary } from "../../lib/replica/mod.ts";
import { parseTid } from "../../lib/zodb/mod.ts";
import type { EnvironmentName } from "../kit/environments.ts";
import { type RunningNode, startPrimary, startSecondary } from "../kit/node.ts";
import { OpenCheck, peerTest, ZodbWriter, ZrsSecondary } from "../kit/peers.ts";
import { blobFilesOf } from "../kit/blob_files.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { TempDirectory } from "../kit/temp.ts";

const SOURCES: readonly (readonly [string, EnvironmentName, "ours" | "zc.zrs"])[] = [
  ["a ZODB 5.5 writer behind our primary", "zodb55", "ours"],
  ["a ZODB 6 writer behind our primary", "zodb6", "ours"],
  ["a zc.zrs primary", "zodb55", "zc.zrs"],
];

/** Changes, garbage, an undo of the last one. @returns the last tid */
async function write(writer: ZodbWriter, round: number): Promise<string> {
  await writer.commit([["stays", 100], [`garbage ${round}`, 5_000], ["big", 60_000]]);
  await writer.commitMany({ count: 20, size: 200, objects: 4, keys: 10 });
  await writer.commit([["stays", 200], [`garbage ${round}`, null]]);
  await writer.undo([1]);
  return (await writer.commit([["stays", round], [`garbage ${round}`, null]])).tid;
}

async function pack({ node }: RunningNode<Secondary>, tid: string) {
  return await node.pack({
    stop: parseTid(tid),
    findReferences,
    keepOld: false,
    signal: new AbortController().signal,
    warn: (message) => assert.fail(message),
  });
}

for (const [what, environment, kind] of SOURCES) {
  peerTest(
    `secondaries pack while they follow ${what}, and others follow them`,
    ["zodb55", environment],
    async () => {
      await using directory = await TempDirectory.make();
      const path = (name: string) => directory.join(`${name}.fs`);
      await using writer = await ZodbWriter.start(environment, {
        path: path("source"),
        ...(kind === "zc.zrs" && { replicateTo: "127.0.0.1:0" }),
      });
      const first = await write(writer, 0);
      await using stack = new AsyncDisposableStack();
      const address = kind === "zc.zrs"
        ? writer.address
        : stack.use(await startPrimary({ path: path("source") })).address;
      const port = { transport: "tcp", host: "127.0.0.1", port: 0 } as const;
      await using middle = await startSecondary({
        path: path("middle"),
        replicateFrom: address,
        replicateTo: port,
      });
      const replicateFrom = middle.address;
      await using native = await startSecondary({ path: path("native"), replicateFrom });
      await using zrs2 = await startSecondary({ path: path("zrs2"), replicateFrom, protocol: "zrs2" });
      await using python = await ZrsSecondary.start({
        path: path("python"),
        replicateFrom,
        reconnectDelay: 0.05,
      });
      await middle.waitForTid(first);
      let last = first;
      let packs = 0;
      for (let round = 1; round < 6; round++) {
        const before = last;
        const writing = write(writer, round);
        // What was written in the round before is there; what it is packed to has nothing undone behind it.
        const packing = round % 2 === 0 ? [middle, native] : [middle, zrs2];
        for (const node of packing) {
          await node.waitForTid(before);
          if ((await pack(node, before)).isPacked) packs++;
        }
        last = await writing;
      }
      for (const node of [middle, native, zrs2]) await node.waitForTid(last);
      await python.waitFor(last);
      assert.ok(packs >= 6, `only ${packs} packs dropped something`);
      await python.close();
      for (const node of [zrs2, native, middle]) await node.stop();
      await writer.close();
      await using zodb = await OpenCheck.start(environment);
      const source = await zodb.check(path("source"), { fsrefs: true });
      for (const name of ["middle", "native", "zrs2", "python"]) {
        const found = await zodb.check(path(name), { fsrefs: true });
        assert.deepEqual([found.fstest, found.fsrefs, found.tid], [null, null, source.tid], name);
        const left = new Set(found.current!.map(({ oid }) => oid));
        assert.ok(left.size > 3, name);
        assert.deepEqual(found.current, source.current!.filter(({ oid }) => left.has(oid)), name);
      }
      // What was received in the meantime is where a pack of the whole source has it.
      const [ours, theirs] = [path("middle"), path("source")];
      for (const each of [ours, theirs]) {
        assert.equal(await run(["pack", each, "--to", last, "-q"], systemHost()), 0);
      }
      assertSameBytes(await Deno.readFile(ours), await Deno.readFile(theirs), "packed once more");
    },
  );
}

peerTest(
  "a secondary packs its blobs with its file, and those behind it have theirs",
  ["zodb6"],
  async () => {
    await using directory = await TempDirectory.make();
    const path = (name: string) => directory.join(name);
    const [fs, blobDir] = [path("source.fs"), path("source")];
    await using writer = await ZodbWriter.start("zodb6", { path: fs, blobDir });
    await writer.commitBlobs([["a", 10], ["b", 200_000], ["garbage", 30]]);
    await writer.commitBlobs([["a", 11]]);
    const { tid } = await writer.commit([["garbage", null]]);
    const use = (
      name: string,
    ) => ({ path: path(`${name}.fs`), blobs: "replicate", blobDir: path(name) } as const);
    await using primary = await startPrimary({ path: fs, blobs: "replicate", blobDir });
    await using middle = await startSecondary({
      ...use("middle"),
      replicateFrom: primary.address,
      replicateTo: { transport: "tcp", host: "127.0.0.1", port: 0 },
    });
    await using last = await startSecondary({ ...use("last"), replicateFrom: middle.address });
    await last.waitForTid(tid);
    // The last transaction is never packed, so there is another one by then.
    await middle.waitForTid((await writer.commitBlobs([["a", 12], ["c", 100_000]])).tid);
    const writing = writer.commitBlobs([["a", 13]]);
    const { blobsDropped } = await pack(middle, tid);
    const end = await writing;
    await last.waitForTid(end.tid);
    for (const node of [last, middle]) await node.stop();
    await primary.stop();
    await writer.close();
    // The garbage goes; a has been written once more since it was to be packed, and its first revision goes.
    assert.equal(blobsDropped, 2);
    for (const name of ["middle", "last"]) {
      const verified = await run(
        ["verify", path(`${name}.fs`), "--blob-dir", path(name), "--refs"],
        quietHost(),
      );
      assert.equal(verified, 0, name);
    }
    const source = await blobFilesOf(blobDir);
    const [left, all] = [await blobFilesOf(path("middle")), await blobFilesOf(path("last"))];
    assert.deepEqual([left.size, all.size], [source.size - 2, source.size]);
    for (const [name, file] of left) assert.deepEqual(file, source.get(name));
  },
);

/** Says nothing. */
function quietHost() {
  return { ...systemHost(), out: () => {}, err: () => {} };
}
