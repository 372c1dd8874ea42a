/** `replaceFile`: whatever fails, and whenever the power does, a whole database is there, the old one or the new one. */
import assert from "node:assert/strict";
import { DiskError, ZrsError } from "../../lib/errors.ts";
import { directoryOf, likePermissions, replaceFile, Storage } from "../../lib/filestorage/mod.ts";
import { systemHost } from "../../lib/host/mod.ts";
import type { Disk } from "../../lib/ports/mod.ts";
import { dataFs } from "../kit/data_fs.ts";
import { MemoryDisk, type Operation } from "../kit/memory_disk.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { TempDirectory } from "../kit/temp.ts";
import { diskAfter, type Left, onMachine } from "./on_machine.ts";
import { tidAt } from "./random_history.ts";

const PATH = "/data/Data.fs";
const NEW_PATH = "/data/Data.fs.new";
const KEPT = `${PATH}.old`;

/**
 * Both files have the same length, tids and last transaction, and an object that lies elsewhere before: the index of
 * either would be believed beside the other.
 */
const OLD = twoObjects("x".repeat(700), "one");
const NEW = twoObjects("one", "x".repeat(700));

function twoObjects(first: string, second: string): Uint8Array {
  return dataFs([
    { tid: tidAt(0), records: [{ oid: 0n, data: first }, { oid: 1n, data: second }] },
    { tid: tidAt(1), records: [{ oid: 2n, data: "two" }] },
  ]).bytes;
}

/** Both files and the old one's index, and an older `.old` with an index of its own. */
async function filesBefore(): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  disk.put(PATH, OLD);
  {
    await using storage = await Storage.open(disk, PATH);
    await storage.saveIndex();
  }
  disk.put(NEW_PATH, NEW);
  disk.put(KEPT, new TextEncoder().encode("older"));
  disk.put(`${KEPT}.index`, new TextEncoder().encode("of the older one"));
  return disk;
}

/** Replaces the database as its owner does. */
async function replaceIn(disk: Disk, keepOld: boolean, path = PATH, newPath = NEW_PATH) {
  await using _old = await Storage.open(disk, path);
  await using storage = await Storage.open(disk, newPath);
  return await replaceFile(disk, path, { path: newPath, index: storage.index, end: storage.end }, {
    keepOld,
  });
}

function entriesOf({ index }: Storage): number[][] {
  const entries: number[][] = [];
  index.forEach((...entry) => void entries.push(entry));
  return entries;
}

/** Asserts that the bytes are one of the two files, and that whoever opens it knows where its records are. */
async function assertOneOfBoth(files: Left, label: string): Promise<"old" | "new"> {
  const disk = diskAfter(files);
  const bytes = disk.bytes(PATH);
  const which = bytes.every((byte, at) => byte === OLD[at]) ? "old" : "new";
  assertSameBytes(bytes, which === "old" ? OLD : NEW, label);
  await using storage = await Storage.open(disk, PATH);
  const scanned = new MemoryDisk();
  scanned.put(PATH, bytes);
  await using other = await Storage.open(scanned, PATH);
  assert.deepEqual(entriesOf(storage), entriesOf(other), `${label}: its index is of another file`);
  return which;
}

const WAYS = [
  { keepOld: false, hasLinks: true },
  { keepOld: true, hasLinks: true },
  { keepOld: true, hasLinks: false },
] as const;

for (const { keepOld, hasLinks } of WAYS) {
  const how = keepOld ? `, keeping the old one where files have ${hasLinks ? "two names" : "one name"}` : "";

  Deno.test(`a new file takes a database's place, with its index${how}`, async () => {
    const disk = await filesBefore();
    disk.hasLinks = hasLinks;
    const { keptAs, indexProblem } = await replaceIn(disk, keepOld);
    assert.deepEqual([keptAs, indexProblem], [keepOld ? KEPT : undefined, undefined]);
    assertSameBytes(disk.bytes(PATH), NEW);
    assert(!disk.paths().includes(NEW_PATH));
    if (keepOld) {
      assertSameBytes(disk.bytes(KEPT), OLD);
      assert(!disk.paths().includes(`${KEPT}.index`), "an index of another file lies beside .old");
    } else assert.equal(new TextDecoder().decode(disk.bytes(KEPT)), "older");
    await using storage = await Storage.open(disk, PATH);
    assert.equal(storage.report.indexReason, undefined);
  });

  Deno.test(`whatever operation fails, a whole database is there${how}`, async () => {
    const operations: Operation[] = [
      "open",
      "create",
      "write",
      "sync",
      "rename",
      "link",
      "remove",
      "syncDirectory",
    ];
    const seen = { old: 0, new: 0, elsewhere: 0 };
    for (const operation of operations) {
      for (const lasting of [false, true]) {
        for (let nth = 1;; nth++) {
          const label = `${operation} ${nth}, ${lasting ? "and all later" : "alone"}`;
          const disk = await filesBefore();
          disk.hasLinks = hasLinks;
          let failure: unknown;
          {
            await using _old = await Storage.open(disk, PATH);
            await using storage = await Storage.open(disk, NEW_PATH);
            disk.performed.length = 0;
            disk.fail({ operation, nth, lasting });
            const replacement = { path: NEW_PATH, index: storage.index, end: storage.end };
            const replaced = await replaceFile(disk, PATH, replacement, { keepOld }).catch((error) => error);
            failure = replaced instanceof Error ? replaced : undefined;
            if (replaced.indexProblem !== undefined) assertSameBytes(disk.bytes(PATH), NEW, label);
          }
          if (disk.performed.filter((each) => each.operation === operation).length < nth) break;
          assert(failure === undefined || failure instanceof ZrsError, `${label}: ${failure}`);
          const files = new Map(disk.paths().map((path) => [path, disk.bytes(path)]));
          if (!files.has(PATH)) {
            // The only way: it could be renamed, then nothing could be any more.
            assert(failure instanceof DiskError && !hasLinks && lasting, label);
            assert.match(failure.message, /^Cannot put \/data\/Data\.fs\.old back/);
            assertSameBytes(files.get(KEPT)!, OLD, label);
            assertSameBytes(files.get(NEW_PATH)!, NEW, label);
            seen.elsewhere++;
            continue;
          }
          const which = await assertOneOfBoth(files, label);
          if (failure === undefined) assert.equal(which, "new", label);
          if (which === "old") assertSameBytes(files.get(NEW_PATH)!, NEW, label);
          else if (keepOld) assertSameBytes(files.get(KEPT)!, OLD, label);
          seen[which]++;
        }
      }
    }
    assert(seen.old >= 6 && seen.new >= 8 && seen.elsewhere === (hasLinks ? 0 : 1), JSON.stringify(seen));
  });

  Deno.test(`a power loss at any moment leaves a whole database${how}`, async () => {
    const before = await filesBefore();
    const seen = { old: 0, new: 0, elsewhere: 0 };
    for (let seed = 1; seed <= 40; seed++) {
      const losses: Left[] = [];
      await onMachine(seed, async (machine) => {
        const { disk } = machine;
        disk.hasLinks = hasLinks;
        for (const path of before.paths()) disk.place(path, before.bytes(path));
        disk.observers.add({ operated: () => void losses.push(...machine.losses(2)) });
        await replaceIn(machine.start(), keepOld);
        for (const files of machine.losses(5)) {
          losses.push(files);
          assertSameBytes(files.get(PATH)!, NEW, `seed ${seed}: what is done was lost`);
        }
      });
      for (const [at, files] of losses.entries()) {
        const label = `seed ${seed}, image ${at}`;
        if (!files.has(PATH)) {
          assert(!hasLinks, label);
          assertSameBytes(files.get(KEPT)!, OLD, label);
          assertSameBytes(files.get(NEW_PATH)!, NEW, label);
          seen.elsewhere++;
          continue;
        }
        const which = await assertOneOfBoth(files, label);
        if (which === "new" && keepOld) assertSameBytes(files.get(KEPT)!, OLD, label);
        seen[which]++;
      }
    }
    assert(seen.old > 100 && seen.new > 100 && seen.elsewhere > 0 !== hasLinks, JSON.stringify(seen));
  });
}

Deno.test("of a database that is reached through a link, the file is replaced, and the link stays", async () => {
  const { disk } = systemHost();
  await using directory = await TempDirectory.make();
  const [file, link] = [directory.join("disk", "Data.fs"), directory.join("Data.fs")];
  Deno.mkdirSync(directoryOf(file));
  Deno.writeFileSync(file, OLD);
  Deno.symlinkSync("disk/Data.fs", link);
  Deno.writeFileSync(`${file}.new`, NEW);
  for (const path of [file, link]) {
    await using storage = await Storage.open(disk, path);
    await storage.saveIndex();
  }
  Deno.mkdirSync(`${link}.index.index_tmp`); // so no index can be written
  const { keptAs, indexProblem } = await replaceIn(disk, true, link, `${file}.new`);
  assert.equal(keptAs, `${Deno.realPathSync(file)}.old`);
  assert.match(indexProblem?.message ?? "", /^Cannot write index: /);
  assert.equal(Deno.readLinkSync(link), "disk/Data.fs");
  assertSameBytes(Deno.readFileSync(link), NEW);
  assertSameBytes(Deno.readFileSync(`${file}.old`), OLD);
  // Each name has an index of its own; one of the old file would be believed.
  for (const path of [file, link]) {
    await using storage = await Storage.open(disk, path);
    assert.notEqual(storage.report.indexReason, undefined, path);
  }
});

Deno.test("permissions that cannot be given are told, and no failure", () => {
  const disk = new MemoryDisk();
  disk.put(PATH, OLD);
  disk.put(NEW_PATH, NEW);
  const told: string[] = [];
  likePermissions(disk, PATH, NEW_PATH, (message) => told.push(message));
  assert.deepEqual([told, disk.permissions.get(NEW_PATH)], [[], PATH]);
  disk.fail({ operation: "chmod" });
  likePermissions(disk, PATH, NEW_PATH, (message) => told.push(message));
  assert.deepEqual(told, [
    "Cannot chmod /data/Data.fs.new: input/output error; look whether its owner and mode are right",
  ]);
});
