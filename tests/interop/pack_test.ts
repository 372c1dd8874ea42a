/** What `zrs pack` makes of files that real ZODB wrote, beside what ZODB's own pack makes of them. */
import assert from "node:assert/strict";
import { run } from "../../lib/cli/mod.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { PeerError } from "../kit/peer.ts";
import type { EnvironmentName } from "../kit/environments.ts";
import { OpenCheck, peerTest, ZodbWriter } from "../kit/peers.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { blobFilesOf } from "../kit/blob_files.ts";
import { TempDirectory } from "../kit/temp.ts";
import { walk } from "../kit/walk.ts";
import { directoryOf } from "../../lib/filestorage/mod.ts";

/** Objects that come and go, undos, deletions of objects that nothing refers to; packed in the middle or not. */
async function writeHistory(
  environment: EnvironmentName,
  path: string,
  isPacked: boolean,
): Promise<string[]> {
  const tids: string[] = [];
  await using writer = await ZodbWriter.start(environment, { path });
  const note = ({ tid }: { tid: string }) => void tids.push(tid);
  note(await writer.commit([["a", 500], ["b", 20], ["c", 100]], { user: "zoë", extension: { n: 1 } }));
  note(await writer.commitMany({ count: 8, size: 60, objects: 2, keys: 5 }));
  if (isPacked) await writer.pack();
  note(await writer.commit([["a", 30]], { description: "shorter" }));
  note(await writer.undo([1]));
  note(await writer.undo([1]));
  note(await writer.commit([["c", null]]));
  note(
    await writer.store([{ records: [{ oid: "0000000000abcdef", size: 99 }] }]).then(() => writer.status()),
  );
  note(
    await writer.store([{ records: [{ oid: "0000000000abcdef", delete: true }] }]).then(() =>
      writer.status()
    ),
  );
  note(await writer.commit([["d", 300_000], ["b", null]]));
  note(await writer.undo([1]));
  note(await writer.commitMany({ count: 3, size: 60, objects: 4, keys: 5 }));
  await writer.close();
  return tids;
}

for (const environment of ["zodb55", "zodb6"] satisfies EnvironmentName[]) {
  peerTest(
    `zrs pack writes the same bytes and index as ${environment}, at whatever time`,
    [environment],
    async () => {
      await using directory = await TempDirectory.make();
      await using zodb = await OpenCheck.start(environment);
      let compared = 0;
      for (const isPacked of [false, true]) {
        const original = directory.join(`original-${isPacked}.fs`);
        const tids = await writeHistory(environment, original, isPacked);
        const before = await zodb.check(original);
        for (const [i, tid] of tids.entries()) {
          if (isPacked && i % 3 !== 1) continue;
          for (const gc of [true, false]) {
            const what = `packed before: ${isPacked}, at transaction ${i}, gc: ${gc}`;
            const [ours, theirs] = [directory.join("ours.fs"), directory.join("theirs.fs")];
            for (const path of [ours, theirs]) {
              await Deno.copyFile(original, path);
              for (const suffix of [".index", ".old"]) await Deno.remove(path + suffix).catch(() => {});
            }
            const code = await run([
              "pack",
              ours,
              "--to",
              tid,
              ...gc ? [] : ["--no-gc"],
              "-q",
            ], systemHost());
            assert.equal(code, 0, what);
            const opened = await zodb.check(ours, { fsrefs: true });
            assert.equal(opened.fstest, null, what);
            if (gc) assert.deepEqual(opened.current, current(before, opened), what);
            if (!await packs(environment, theirs, tid, gc)) continue; // ZODB's own pack cannot do it
            assertSameBytes(await Deno.readFile(ours), await Deno.readFile(theirs), what);
            const isThere = await Deno.stat(`${ours}.old`).then(() => true, () => false);
            if (isThere) {
              assert.ok(opened.usedIndex, what);
              assertSameBytes(
                await Deno.readFile(`${ours}.index`),
                await Deno.readFile(`${theirs}.index`),
                what,
              );
              assertSameBytes(await Deno.readFile(`${ours}.old`), await Deno.readFile(original), what);
              compared++;
            }
          }
        }
      }
      assert.ok(compared >= 20, `only ${compared} packs did something`);
    },
  );
}

/** What the objects that a pack has left were before it. */
function current(
  before: { current?: readonly { oid: string }[] },
  after: { current?: readonly { oid: string }[] },
) {
  const left = new Set(after.current!.map(({ oid }) => oid));
  return before.current!.filter(({ oid }) => left.has(oid));
}

/** @returns false when ZODB fails to pack: without gc it drops what later undos point back to */
async function packs(environment: EnvironmentName, path: string, tid: string, gc: boolean): Promise<boolean> {
  await using writer = await ZodbWriter.start(environment, { path });
  try {
    await writer.pack({ tid, gc });
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    assert.equal(gc, false, error.message);
    return false;
  }
  await writer.close();
  return true;
}

for (const environment of ["zodb55", "zodb6"] satisfies EnvironmentName[]) {
  peerTest(`zrs pack leaves the same blobs as ${environment}, and keeps the same with the old file`, [
    environment,
  ], async () => {
    await using directory = await TempDirectory.make();
    for (const keepOld of [true, false]) {
      const at = (name: string) => directory.join(`${keepOld}-${name}`);
      let tid: string;
      {
        await using writer = await ZodbWriter.start(environment, {
          path: at("ours.fs"),
          blobDir: at("ours"),
        });
        await writer.commitBlobs([["a", 10], ["b", 20], ["garbage", 30]]);
        await writer.commitBlobs([["a", 11], ["b", 21]]);
        await writer.undo([1]);
        await writer.commit([["garbage", null]]);
        ({ tid } = await writer.commitBlobs([["a", 12]]));
        await writer.commitBlobs([["a", 13], ["c", 5]]);
        await writer.close();
      }
      for (const path of await walk(at("ours"))) {
        await Deno.mkdir(directoryOf(`${at("theirs")}/${path}`), { recursive: true });
        await Deno.copyFile(`${at("ours")}/${path}`, `${at("theirs")}/${path}`);
      }
      await Deno.copyFile(at("ours.fs"), at("theirs.fs"));
      const keep = keepOld ? [] : ["--no-keep-old"];
      assert.equal(
        await run(
          ["pack", at("ours.fs"), "--to", tid, "--blob-dir", at("ours"), "-q", ...keep],
          systemHost(),
        ),
        0,
      );
      {
        await using writer = await ZodbWriter.start(environment, {
          path: at("theirs.fs"),
          blobDir: at("theirs"),
        });
        await writer.pack({ tid, keepOld });
        await writer.close();
      }
      assertSameBytes(await Deno.readFile(at("ours.fs")), await Deno.readFile(at("theirs.fs")));
      const sorted = async (name: string) => [...(await blobFilesOf(at(name))).keys()].sort();
      assert.deepEqual(await sorted("ours"), await sorted("theirs"));
      assert.equal((await sorted("ours")).length, 4);
      if (keepOld) assert.deepEqual(await sorted("ours.old"), await sorted("theirs.old"));
      assert.equal(await run(["verify", at("ours.fs"), "--blob-dir", at("ours"), "--json"], quietHost()), 0);
    }
  });
}

/** Says nothing. */
function quietHost() {
  return { ...systemHost(), out: () => {}, err: () => {} };
}
