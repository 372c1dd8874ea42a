/** A file and its segments read and write as one file would. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { DiskError, DiskFullError } from "../../lib/errors.ts";
import { JoinedFile } from "../../lib/filestorage/pending/joined_file.ts";
import { findSegments, segmentPaths } from "../../lib/filestorage/pending/segment.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";

const PATH = "/data/Data.fs";
const BEGINNING = new Uint8Array(50).fill(0x42);

function diskWith(): MemoryDisk {
  const disk = new MemoryDisk();
  disk.put(PATH, BEGINNING);
  return disk;
}

/** @param end where the beginning ends: what lies behind in it is not looked at */
function open(disk: MemoryDisk, segmentBytes: number, end = BEGINNING.length): JoinedFile {
  const beginning = { path: PATH, file: disk.openRead(PATH), end };
  return new JoinedFile(disk, beginning, findSegments(disk, PATH).segments, segmentBytes);
}

function contentOf(file: JoinedFile): Uint8Array {
  const bytes = new Uint8Array(file.size() + 10);
  return bytes.slice(0, file.readAt(bytes, 0));
}

type Step =
  | { readonly kind: "append"; readonly length: number; readonly awaited: boolean }
  | { readonly kind: "overwrite"; readonly at: number; readonly length: number }
  | { readonly kind: "truncate"; readonly at: number }
  | { readonly kind: "sync" | "reopen" };

const at = fc.nat(999);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant("append"), length: fc.nat(60), awaited: fc.boolean() }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("overwrite"), at, length: fc.nat(90) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("truncate"), at }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("sync", "reopen") }) },
);

Deno.test("whatever is written, cut and read, it is as in one file, and in the segments when it is opened again", async () => {
  let most = 0;
  const property = fc.asyncProperty(
    fc.array(step, { minLength: 10, maxLength: 60, size: "max" }),
    async (steps) => {
      const disk = diskWith();
      let file = open(disk, 40);
      let model = BEGINNING.slice();
      let written = 0;
      const put = (bytes: Uint8Array, position: number) => {
        const grown = new Uint8Array(Math.max(model.length, position + bytes.length));
        grown.set(model);
        grown.set(bytes, position);
        model = grown;
      };
      for (const each of steps) {
        const fresh = (length: number) => new Uint8Array(length).fill(++written % 256);
        if (each.kind === "append") {
          file.beginAt(model.length, BigInt(written));
          const bytes = fresh(each.length);
          if (each.awaited) await file.write(bytes, model.length);
          else file.writeAt(bytes, model.length);
          put(bytes, model.length);
        } else if (each.kind === "overwrite" && model.length > BEGINNING.length) {
          const position = BEGINNING.length + each.at % (model.length - BEGINNING.length);
          const bytes = fresh(Math.min(each.length, model.length - position));
          file.writeAt(bytes, position);
          put(bytes, position);
        } else if (each.kind === "truncate") {
          const size = BEGINNING.length + each.at % (model.length - BEGINNING.length + 1);
          file.truncate(size);
          model = model.slice(0, size);
        } else if (each.kind === "sync") {
          await file.sync();
        } else if (each.kind === "reopen") {
          file.close();
          file = open(disk, 40);
        }
        assert.equal(file.size(), model.length);
        assertSameBytes(contentOf(file), model);
        most = Math.max(most, segmentPaths(disk, PATH).length);
      }
      assertSameBytes(disk.bytes(PATH), BEGINNING);
      for (const { path, base, length } of findSegments(disk, PATH).segments) {
        assertSameBytes(disk.bytes(path).slice(28), model.slice(base, base + length));
      }
    },
  );
  await fc.assert(property, { numRuns: 300 });
  assert(most > 5, `at most ${most} segments`);
});

/** A hundred segments of ten bytes each. */
async function manySegments(disk: MemoryDisk): Promise<JoinedFile> {
  const file = open(disk, 10);
  for (let i = 0; i < 100; i++) {
    file.beginAt(50 + i * 10, 0n);
    file.writeAt(new Uint8Array(10).fill(i), 50 + i * 10);
    await file.sync();
  }
  return file;
}

Deno.test("of many segments few are open at a time, and all can be read, in any order", async () => {
  const disk = diskWith();
  const openFiles = new Set<string>();
  let most = 0;
  const openRead = disk.openRead.bind(disk);
  disk.openRead = (path) => {
    const file = openRead(path);
    const close = file.close.bind(file);
    openFiles.add(path);
    most = Math.max(most, openFiles.size);
    file.close = () => {
      openFiles.delete(path);
      close();
    };
    return file;
  };
  using file = await manySegments(disk);
  for (let turn = 0; turn < 3; turn++) {
    for (let i = 0; i < 100; i++) {
      const segment = (i * 37) % 100;
      const bytes = new Uint8Array(20);
      assert.equal(file.readAt(bytes, 45 + segment * 10), segment === 99 ? 15 : 20);
      assert.equal(bytes[5], segment);
      assert.equal(bytes[4], segment === 0 ? 0x42 : segment - 1);
    }
  }
  assert(most > 10 && most < 50, `${most} were open`);
});

Deno.test("a segment that goes while it is used is a failure of the disk, and named", async () => {
  const disk = diskWith();
  using file = await manySegments(disk);
  const gone = segmentPaths(disk, PATH)[50]!;
  disk.remove(gone);
  assert.throws(() => file.readAt(new Uint8Array(600), BEGINNING.length), (error) => {
    assert(error instanceof DiskError, String(error));
    assert(error.message.includes(`${gone} has gone`), error.message);
    return true;
  });
});

Deno.test("segments that are wholly in the file go, but for the last, and what they held is read there", async () => {
  const disk = diskWith();
  const file = await manySegments(disk);
  const whole = contentOf(file);
  file.close();
  disk.put(PATH, whole.slice(0, 555));
  using again = open(disk, 10, 555);
  again.release(555);
  assert.equal(segmentPaths(disk, PATH).length, 50);
  assertSameBytes(contentOf(again), whole);
  again.release(10_000);
  assert.equal(segmentPaths(disk, PATH).length, 1);
  await again.removeAll();
  assert.deepEqual(segmentPaths(disk, PATH), []);
  assert.equal(again.size(), 555);
});

Deno.test("a segment for which there is no room is not begun, and can be later", async () => {
  const disk = diskWith();
  using file = open(disk, 10);
  for (const written of [0, 5, 27]) {
    disk.fail({ operation: "write", error: "full", written });
    assert.throws(() => file.beginAt(50, 7n), DiskFullError);
    assert.deepEqual(segmentPaths(disk, PATH), []);
  }
  file.beginAt(50, 7n);
  file.writeAt(new Uint8Array([1]), 50);
  await file.sync();
  const [found] = findSegments(disk, PATH).segments;
  assert.deepEqual([found!.base, found!.lastTid, found!.length], [50, 7n, 1]);
  const done = disk.performed.map(({ operation }) => operation);
  assert(done.lastIndexOf("syncDirectory") > done.lastIndexOf("sync"), "its name is durable, too");
});

Deno.test("a segment without a header that could not be taken away at once is made anew at the next attempt", async () => {
  const disk = diskWith();
  using file = open(disk, 10);
  disk.fail({ operation: "write", error: "full", written: 5 });
  disk.fail({ operation: "remove" });
  assert.throws(() => file.beginAt(50, 7n), DiskFullError);
  assert.equal(segmentPaths(disk, PATH).length, 1);
  file.beginAt(50, 7n);
  file.writeAt(new Uint8Array([1]), 50);
  await file.sync();
  const [found] = findSegments(disk, PATH).segments;
  assert.deepEqual([found!.base, found!.lastTid, found!.length], [50, 7n, 1]);
});

Deno.test("what could be written before a failure counts as the file's size, so that it can be cut off", () => {
  const disk = diskWith();
  using file = open(disk, 1000);
  file.beginAt(50, 0n);
  disk.fail({ operation: "write", error: "full", written: 4 });
  assert.throws(() => file.writeAt(new Uint8Array(10), 50), DiskFullError);
  assert.equal(file.size(), 54);
  file.truncate(50);
  assert.equal(file.size(), 50);
});
