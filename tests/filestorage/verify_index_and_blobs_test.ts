/** What stands beside the data file: the index, and the blob directory. */
import assert from "node:assert/strict";
import { Verification } from "../../lib/filestorage/mod.ts";
import { writeIndexFile } from "../../lib/filestorage/index/index_file.ts";
import { ObjectIndex } from "../../lib/filestorage/index/object_index.ts";
import { HostDisk } from "../../lib/host/disk.ts";
import { dataFs } from "../kit/data_fs.ts";
import { latin1 } from "../kit/hex.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { TempDirectory } from "../kit/temp.ts";
import { tidAt } from "./random_history.ts";
import { PATH, verifyOn } from "./verify_kit.ts";

const FILE = dataFs([
  { tid: tidAt(0), records: [{ oid: 0n, data: "root" }, { oid: 1n, data: "one" }] },
  { tid: tidAt(1), records: [{ oid: 1n, data: "two" }] },
  { tid: tidAt(2), records: [{ oid: 2n, data: "three" }] },
]);
const [ROOT, OLD] = FILE.transactions[0]!.records.map(({ position }) => position) as [number, number];
const [NEW, LAST] = [FILE.transactions[1]!, FILE.transactions[2]!].map(({ records }) =>
  records[0]!.position
) as [
  number,
  number,
];

/** What is found with an index of these entries, saved for this position. */
async function withIndex(entries: readonly (readonly [oid: number, position: number])[], position: number) {
  const disk = new MemoryDisk();
  disk.put(PATH, FILE.bytes);
  const index = new ObjectIndex();
  for (const [oid, at] of entries) index.set(0, oid, at);
  await writeIndexFile(disk, PATH, index, position);
  return (await verifyOn(disk)).findings;
}

Deno.test("an index that is right is right, also one that was saved some time ago", async () => {
  assert.deepEqual(await withIndex([[0, ROOT], [1, NEW], [2, LAST]], FILE.end), []);
  assert.deepEqual(await withIndex([[0, ROOT], [1, NEW]], FILE.transactions[1]!.end), []);
  assert.deepEqual(await withIndex([[0, ROOT], [1, OLD]], FILE.transactions[0]!.end), []);
});

Deno.test("each wrong, missing and surplus entry of an index is found", async () => {
  assert.deepEqual(await withIndex([[0, ROOT], [1, OLD], [7, LAST]], FILE.end), [
    { kind: "index-entry", oid: 1n, expected: NEW, found: OLD },
    { kind: "index-entry", oid: 7n, expected: 0, found: LAST },
    { kind: "index-entry", oid: 2n, expected: LAST, found: 0 },
  ]);
});

Deno.test("an index of another file is found by its position, or told by a part of its entries", async () => {
  const position = FILE.end - 1;
  assert.deepEqual(await withIndex([[0, ROOT]], position), [{
    kind: "index-position",
    found: position,
    end: FILE.end,
  }]);
  const beyond = FILE.end + 500;
  assert.deepEqual(await withIndex([[0, ROOT]], beyond), [{
    kind: "index-position",
    found: beyond,
    end: FILE.end,
  }]);
  const others = Array.from({ length: 500 }, (_, oid) => [oid + 1000, 4 + oid % 100] as const);
  const found = await withIndex(others, FILE.end);
  assert.equal(found.length, 101);
  assert.deepEqual(found.at(-1), { kind: "index-further", entries: 500 + 3 - 100 });
});

Deno.test("an index that cannot be read is found", async () => {
  for (const bytes of [latin1("nonsense"), new Uint8Array(), latin1("\x80\x03K\x04.\x80\x03C")]) {
    const disk = new MemoryDisk();
    disk.put(PATH, FILE.bytes);
    disk.put(`${PATH}.index`, bytes);
    const kinds = (await verifyOn(disk)).findings.map(({ kind }) => kind);
    assert.equal(kinds.length, 1);
    assert.match(kinds[0]!, /^index-(unreadable|position)$/);
  }
});

Deno.test("a pack that replaces the file meanwhile is told, and its index not held against the old file", async () => {
  const disk = new MemoryDisk();
  disk.put(PATH, FILE.bytes);
  using verification = Verification.open(disk, PATH);
  disk.put("/data/Data.fs.pack", FILE.bytes.slice(0, FILE.transactions[0]!.end));
  disk.rename("/data/Data.fs.pack", PATH);
  await writeIndexFile(disk, PATH, new ObjectIndex(), 4);
  disk.put(`${PATH}.index`, latin1("of the new one"));
  assert.deepEqual(await Array.fromAsync(verification.findings()), []);
  assert.equal(verification.verified.replaced, true);
  assert.equal(verification.verified.transactions, 3);
});

Deno.test("an index that is replaced in a moment, as behind a pack, is not held against the file", async () => {
  const disk = new MemoryDisk();
  disk.put(PATH, FILE.bytes);
  disk.put(`${PATH}.index`, latin1("of the file before the pack"));
  let waits = 0;
  const wait = () => {
    if (++waits === 3) {
      disk.put("/data/new", latin1("of this one"));
      disk.rename("/data/new", `${PATH}.index`);
    }
    return Promise.resolve();
  };
  assert.deepEqual((await verifyOn(disk, { wait })).findings, []);
});

const BLOB = latin1("\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.");

for (const layout of ["bushy", "lawn"] as const) {
  Deno.test(`records and files of blobs are compared both ways, in a ${layout} directory`, async () => {
    await using directory = await TempDirectory.make();
    const [path, blobDir] = [directory.join("Data.fs"), directory.join("blobs")];
    const tids = [0, 1, 2].map((index) => tidAt(index));
    await Deno.writeFile(
      path,
      dataFs([
        {
          tid: tids[0]!,
          records: [{ oid: 0n, data: "root" }, { oid: 0x0123n, data: BLOB }, { oid: 5n, data: BLOB }],
        },
        { tid: tids[1]!, records: [{ oid: 0x0123n, data: BLOB }] },
        { tid: tids[2]!, records: [{ oid: 0x0123n, backPointer: [0, 1] }, { oid: 5n, undone: true }] },
      ]).bytes,
    );
    const fileOf = (oid: "0x0123" | "0x05", tid: bigint) => {
      const parent = layout === "lawn"
        ? oid
        : oid.slice(2).padStart(16, "0").replace(/../g, (byte) => `0x${byte}/`).slice(0, -1);
      return `${blobDir}/${parent}/0x${tid.toString(16).padStart(16, "0")}.blob`;
    };
    const all = [...tids.map((tid) => fileOf("0x0123", tid)), fileOf("0x05", tids[0]!)];
    for (const each of all) {
      await Deno.mkdir(each.slice(0, each.lastIndexOf("/")), { recursive: true });
      await Deno.writeTextFile(each, "content", { mode: 0o444 });
    }
    await Deno.mkdir(`${blobDir}/tmp`);
    await Deno.writeTextFile(`${blobDir}/.layout`, layout);
    const found = async () => {
      using verification = Verification.open(new HostDisk(), path);
      const findings = await Array.fromAsync(verification.findings({ blobDir }));
      assert.equal(verification.verified.blobs, 4);
      return findings.map((each) => [each.kind, "path" in each ? each.path : ""]);
    };
    assert.deepEqual(await found(), []);

    await Deno.remove(all[2]!);
    await Deno.chmod(all[1]!, 0o644);
    await Deno.remove(all[3]!);
    await Deno.mkdir(all[3]!);
    const extra = fileOf("0x05", tids[1]!);
    await Deno.writeTextFile(extra, "left by an abort", { mode: 0o444 });
    await Deno.writeTextFile(fileOf("0x05", tidAt(99)), "a commit under way", { mode: 0o444 });
    assert.deepEqual((await found()).sort(), [
      ["blob-extra", extra],
      ["blob-missing", all[2]],
      ["blob-mode", all[1]],
      ["blob-not-a-file", all[3]],
    ]);
  });
}
