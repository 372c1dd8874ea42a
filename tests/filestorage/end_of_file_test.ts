import assert from "node:assert/strict";
import { CorruptError } from "../../lib/errors.ts";
import { FIRST_POSITION, FollowedFile, Storage } from "../../lib/filestorage/mod.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { readerOf } from "./bytes_source.ts";
import { BEFORE, LAST_TID, type Tail, TAILS } from "./tails.ts";

const PATH = "/data/Data.fs";
const noPause = () => Promise.resolve();

function diskWith(bytes: Uint8Array): MemoryDisk {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  return disk;
}

function fileWith(tail: Tail): Uint8Array {
  return new Uint8Array([...BEFORE.bytes, ...tail.bytes]);
}

/** The tid that counts once the tail has been taken. */
function lastTidOf(tail: Tail, bytes: Uint8Array): bigint {
  if (tail.owner !== "keeps" || tail.bytes.length === 0 || tail.name === "a cancelled transaction") {
    return LAST_TID;
  }
  return new DataView(bytes.buffer).getBigUint64(BEFORE.end);
}

for (const tail of TAILS) {
  Deno.test(`${tail.name} at the end of a file is "${tail.state}" to a reader`, () => {
    const bytes = fileWith(tail);
    const reader = readerOf(bytes);
    let position = FIRST_POSITION;
    for (let count = 0; count < 2; count++, position = reader.end) {
      assert.equal(reader.read(position), "whole");
    }
    assert.equal(position, BEFORE.end);
    assert.equal(reader.read(position), tail.state);
    if (tail.problem !== undefined) assert.match(reader.damage, tail.problem);
  });

  Deno.test(`an owner ${tail.owner} ${tail.name} at the end of its file`, async () => {
    const bytes = fileWith(tail);
    const disk = diskWith(bytes);
    if (tail.owner === "refuses") {
      const before = disk.paths();
      await assert.rejects(Storage.open(disk, PATH), (error) => {
        assert(error instanceof CorruptError);
        assert.match(error.message, /^Cannot open \/data\/Data\.fs: /);
        assert.equal(error.facts.path, PATH);
        assert((error.facts.position ?? 0) >= BEFORE.end);
        return true;
      });
      assert.deepEqual(disk.bytes(PATH), bytes, "the file must be left alone");
      assert.deepEqual(disk.paths().filter((path) => !before.includes(path)), [`${PATH}.lock`]);
      await assert.rejects(Storage.open(disk, PATH), CorruptError, "the lock must have been released");
      return;
    }
    await using storage = await Storage.open(disk, PATH);
    const kept = tail.owner === "keeps" ? bytes : BEFORE.bytes;
    assert.deepEqual(disk.bytes(PATH), kept);
    assert.equal(storage.end, kept.length);
    assert.equal(storage.lastTid, lastTidOf(tail, bytes));
    const saved = tail.owner === "cuts and saves" ? `${PATH}.tr0` : undefined;
    assert.deepEqual(
      storage.report.cut,
      tail.owner === "keeps" ? undefined : { bytes: tail.bytes.length, savedTo: saved },
    );
    assert.equal(disk.status(`${PATH}.tr0`) !== undefined, saved !== undefined);
    if (saved !== undefined) assert.deepEqual(disk.bytes(saved), tail.bytes);
  });

  Deno.test(`a follower that comes to ${tail.name}, or opens it, sees what is whole`, async () => {
    const bytes = fileWith(tail);
    const isWhole = tail.state === "whole";
    const end = isWhole ? bytes.length : BEFORE.end;
    const lastTid = isWhole && tail.name !== "a cancelled transaction"
      ? new DataView(bytes.buffer).getBigUint64(BEFORE.end)
      : LAST_TID;

    const disk = diskWith(BEFORE.bytes);
    const growing = await FollowedFile.open(disk, PATH, noPause);
    disk.put(PATH, bytes);
    const problems = (await growing.refresh()).filter((change) => change.kind === "unreadable");
    assert.equal(growing.view.end, end);
    assert.equal(growing.view.lastTid, lastTid);
    assert.equal(problems.length, tail.problem === undefined ? 0 : 1);
    if (tail.problem !== undefined) assert.match(problems[0]!.problem, tail.problem);
    assert.deepEqual(await growing.refresh(), [], "a problem is told once");
    growing.close();

    const opened = await FollowedFile.open(diskWith(bytes), PATH, noPause);
    assert.equal(opened.view.end, end);
    assert.equal(opened.view.lastTid, lastTid);
    opened.close();
  });
}
