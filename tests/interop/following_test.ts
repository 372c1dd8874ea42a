/** A real ZODB writes, our primary follows the file, our secondary copies it: byte by byte the same. */
import assert from "node:assert/strict";
import { startPrimary, startSecondary } from "../kit/node.ts";
import { OpenCheck, peerTest, ZodbWriter } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";
import { assertSameDatabase, assertSameFile } from "./sameness.ts";

const MIB = 1024 * 1024;

peerTest(
  "a copy is byte-identical, and either ZODB opens it by its index and goes on",
  ["zodb55", "zodb6"],
  async () => {
    await using directory = await TempDirectory.make();
    const [source, copy] = [directory.join("Data.fs"), directory.join("copy.fs")];
    await using writer = await ZodbWriter.start("zodb55", { path: source });
    await using primary = await startPrimary({ path: source });
    await using secondary = await startSecondary({ path: copy, replicateFrom: primary.address });
    await writer.commit([["a", 100], ["b", "text"]], {
      user: "bøb",
      description: "né 日本 😀",
      extension: { k: 1, "naïve": ["é", 2.5, null, true, { deep: [1, [2]] }], big: 2 ** 40 },
    });
    await writer.commitMany({ count: 50, size: 200, objects: 7, keys: 40 });
    const { tid } = await writer.commitMany({ count: 5, size: 3_000, objects: 100, keys: 1000 });
    await secondary.waitForTid(tid);
    await assertSameFile(copy, source);
    await secondary.stop();
    await primary.stop();
    assert.deepEqual([...primary.log.complaints(), ...secondary.log.complaints()], []);
    assert.deepEqual(filesBeginning("copy.fs", directory.path), ["copy.fs", "copy.fs.index", "copy.fs.lock"]);

    for (const environment of ["zodb55", "zodb6"] as const) {
      await using zodb = await OpenCheck.start(environment);
      await assertSameDatabase(zodb, copy, source, { fsrefs: true });
      const taken = directory.join(`${environment}.fs`);
      await Deno.copyFile(copy, taken);
      await Deno.copyFile(`${copy}.index`, `${taken}.index`);
      assert.equal((await zodb.check(taken, { transactions: false })).usedIndex, true);
      await using goesOn = await ZodbWriter.start(environment, { path: taken });
      const end = await goesOn.commit([["a", 10], ["another", 10]]);
      assert.ok(end.tid > tid);
      await goesOn.close();
      assert.equal((await zodb.check(taken, { fsrefs: true })).fsrefs, null);
    }
  },
);

peerTest(
  "what refers to an object that its transaction holds twice is copied by value",
  ["zodb55"],
  async () => {
    await using directory = await TempDirectory.make();
    const [source, copy] = [directory.join("Data.fs"), directory.join("copy.fs")];
    await using writer = await ZodbWriter.start("zodb55", { path: source });
    await using primary = await startPrimary({ path: source });
    await using secondary = await startSecondary({ path: copy, replicateFrom: primary.address });
    const oid = "0000000000000007";
    await writer.store([{ records: [{ oid, text: "one" }] }]);
    await writer.store([{ records: [{ oid, text: "first" }, { oid, text: "last" }] }]);
    await writer.store([{ records: [{ oid, text: "two" }] }]);
    const { tid } = await writer.undo([1]);
    await secondary.waitForTid(tid);
    await secondary.stop();
    await writer.close();
    await using zodb = await OpenCheck.start("zodb55");
    await assertSameDatabase(zodb, copy, source, { links: false });
  },
);

peerTest("records and transactions larger than any buffer are copied byte by byte", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const [source, copy] = [directory.join("Data.fs"), directory.join("copy.fs")];
  await using writer = await ZodbWriter.start("zodb55", { path: source });
  await using primary = await startPrimary({ path: source });
  await using secondary = await startSecondary({ path: copy, replicateFrom: primary.address });
  const [small, big, huge] = ["0000000000000001", "0000000000000002", "0000000000000003"];
  await writer.store([
    { records: [{ oid: small, size: 100 }, { oid: big, size: 5 * MIB }, { oid: huge, size: 17 * MIB + 1 }] },
    { records: [{ oid: huge, size: 100 }] },
    { records: [{ oid: big, size: 256 * 1024 }, { oid: small, size: 256 * 1024 - 42 }] },
  ]);
  await writer.undo([2], { description: "a back pointer to a huge record" });
  await writer.fill({ transactions: 1, records: 60_000, size: 120 });
  const { tid } = await writer.commit([["a", 4 * MIB], ["b", 10]]);
  await secondary.waitForTid(tid);
  await assertSameFile(copy, source);
  assert.deepEqual([...primary.log.complaints(), ...secondary.log.complaints()], []);
  await secondary.stop();
  await using zodb = await OpenCheck.start("zodb55");
  assert.equal((await zodb.check(copy, { transactions: false })).fstest, null);
});

peerTest("any oid and any tid are copied, far beyond what a number holds exactly", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const [source, copy] = [directory.join("Data.fs"), directory.join("copy.fs")];
  await using writer = await ZodbWriter.start("zodb55", { path: source });
  await using primary = await startPrimary({ path: source });
  await using secondary = await startSecondary({ path: copy, replicateFrom: primary.address });
  const oids = [
    "0000000000000000",
    "0020000000000001",
    "7fffffffffffffff",
    "80ff00a5c3ffff7f",
    "ffffffffffffffff",
  ];
  const tids = [
    "0000000000000001",
    "00e980ff7f000a0d",
    "7ffffffffffffffe",
    "8000000000000000",
    "ffffffffffffffff",
  ];
  await writer.store(tids.map((tid) => ({ tid, records: oids.map((oid) => ({ oid, size: 40 })) })));
  await secondary.waitForTid(tids.at(-1)!);
  await assertSameFile(copy, source);
});

/** The names in a directory that begin so, sorted. */
function filesBeginning(beginning: string, directory: string): string[] {
  return [...Deno.readDirSync(directory)].map(({ name }) => name).filter((name) => name.startsWith(beginning))
    .sort();
}
