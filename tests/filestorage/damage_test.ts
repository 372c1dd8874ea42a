import assert from "node:assert/strict";
import fc from "fast-check";
import { CorruptError } from "../../lib/errors.ts";
import { FollowedFile, locateTid, Storage, TidMap, walkingReader } from "../../lib/filestorage/mod.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { readerOf, sourceOf } from "./bytes_source.ts";
import { damagedFile } from "./damage.ts";
import { tidAt } from "./random_history.ts";

const PATH = "/data/Data.fs";
const noPause = () => Promise.resolve();

Deno.test("an owner opens any damaged file, or refuses it by name and leaves it alone", async () => {
  const outcomes = { opened: 0, cut: 0, refused: 0 };
  await fc.assert(
    fc.asyncProperty(damagedFile, async (bytes) => {
      const disk = new MemoryDisk();
      disk.put(PATH, bytes);
      try {
        await using storage = await Storage.open(disk, PATH);
        outcomes[storage.report.cut === undefined ? "opened" : "cut"]++;
        assert.deepEqual(disk.bytes(PATH), bytes.slice(0, storage.end));
      } catch (error) {
        assert(error instanceof CorruptError, `${error}`);
        outcomes.refused++;
        assert.deepEqual(disk.bytes(PATH), bytes);
        return;
      }
      await using storage = await Storage.open(disk, PATH);
      assert.equal(storage.report.cut, undefined, "what was cut once is whole");
    }),
    { numRuns: 1000 },
  );
  for (const [outcome, count] of Object.entries(outcomes)) assert(count > 50, `${outcome}: ${count}`);
});

Deno.test("a follower opens any damaged file, and sees no more than what is whole", async () => {
  await fc.assert(
    fc.asyncProperty(damagedFile, async (bytes) => {
      const disk = new MemoryDisk();
      disk.put(PATH, bytes);
      const file = await FollowedFile.open(disk, PATH, noPause);
      const changes = await file.refresh();
      assert.deepEqual(changes.filter(({ kind }) => kind !== "unreadable"), []);
      const { end } = file.view;
      assert(end <= bytes.length);
      const reader = readerOf(bytes.slice(0, end));
      if (end > 4) assert.equal(reader.read(reader.startOf(end)), "whole");
      file.close();
    }),
    { numRuns: 1000 },
  );
});

Deno.test("a search in any damaged file ends, with an answer or with where the damage is", async () => {
  await fc.assert(
    fc.asyncProperty(damagedFile, fc.nat(25), fc.nat(1000), async (bytes, number, spacing) => {
      const reader = walkingReader(sourceOf(bytes), bytes.length);
      const map = new TidMap(spacing);
      for (const tid of [tidAt(number), tidAt(number) + 1n, tidAt(number, 1n)]) {
        try {
          const location = await locateTid(reader, bytes.length, tid, map, noPause);
          if (location.kind === "found") assert.equal(location.place.tid, tid);
        } catch (error) {
          assert(error instanceof CorruptError, `${error}`);
          assert(error.facts.position !== undefined);
        }
      }
    }),
    { numRuns: 1000 },
  );
});
