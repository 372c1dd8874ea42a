/** The blob directory: what it is taken for, where its files lie, and in what order they come to their places. */
import assert from "node:assert/strict";
import { DiskError, NotFoundError, UsageError } from "../../lib/errors.ts";
import { BlobDirectory } from "../../lib/filestorage/mod.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { TempDirectory } from "../kit/temp.ts";

const KEY = { oid: 0x0123n, tid: 0x03f5945817777777n };

function text(words: string): Uint8Array {
  return new TextEncoder().encode(words);
}

/** A disk with a blob directory, /blobs, that has these files. */
function diskWith(files: Readonly<Record<string, string>>): MemoryDisk {
  const disk = new MemoryDisk();
  disk.addDirectory("/blobs");
  for (const [name, content] of Object.entries(files)) disk.put(`/blobs/${name}`, text(content));
  return disk;
}

/** Puts a temporary file there, as it is when it is whole. */
async function receive(directory: BlobDirectory, key: typeof KEY, content: string): Promise<void> {
  using file = directory.disk.create(directory.temporaryPathOf(key));
  file.writeAt(text(content), 0);
  directory.finish(key);
  await file.sync();
}

Deno.test("the files of both layouts lie where ZODB looks for them", () => {
  const pathIn = (layout: string, key = KEY) =>
    BlobDirectory.open(diskWith({ ".layout": layout }), "/blobs").pathOf(key);
  assert.equal(
    pathIn("bushy"),
    "/blobs/0x00/0x00/0x00/0x00/0x00/0x00/0x01/0x23/0x03f5945817777777.blob",
  );
  assert.equal(pathIn("lawn\n"), "/blobs/0x0123/0x03f5945817777777.blob");
  assert.equal(pathIn("lawn", { oid: 0n, tid: 1n }), "/blobs/0x00/0x01.blob");
});

Deno.test("the layout is what the marker says, else bushy where there is nothing, else lawn", async () => {
  const layoutOf = async (files: Record<string, string>) =>
    (await BlobDirectory.prepare(diskWith(files), "/blobs")).layout;
  assert.equal(await layoutOf({ ".layout": "bushy" }), "bushy");
  assert.equal(await layoutOf({ ".layout": " lawn\n" }), "lawn");
  assert.equal(await layoutOf({ ".hidden": "" }), "bushy");
  assert.equal(await layoutOf({ "0x01/0x02.blob": "" }), "lawn");
});

Deno.test("a directory that is none of blobs is refused before anything is put into it", async () => {
  const refusals: [Record<string, string>, RegExp][] = [
    [{ ".layout": "shrub" }, /its layout must be bushy or lawn, found "shrub"/],
    [{ ".layout": "" }, /its layout must be bushy or lawn, found ""/],
    [{ "photo.jpg": "" }, /something else than blobs: photo\.jpg/],
    [{ "0x00/0x00/0x00/0x00/0x00/0x00/0x00/0x01/0x01.blob": "" }, /its contents are bushy/],
  ];
  for (const [files, words] of refusals) {
    const disk = diskWith(files);
    const before = disk.paths();
    await assert.rejects(() => BlobDirectory.prepare(disk, "/blobs"), (error) => {
      assert(error instanceof UsageError && error.hint !== undefined);
      assert.match(error.message, words);
      return true;
    });
    assert.deepEqual(disk.paths(), before);
  }
});

Deno.test("a file in the directory's place, and a directory that is not there, are refused", async () => {
  const disk = diskWith({});
  disk.put("/file", text(""));
  await assert.rejects(() => BlobDirectory.prepare(disk, "/file"), UsageError);
  assert.throws(() => BlobDirectory.open(disk, "/file"), UsageError);
  assert.throws(() => BlobDirectory.open(disk, "/nowhere"), NotFoundError);
  await assert.rejects(() => BlobDirectory.prepare(disk, "/nowhere/blobs"), NotFoundError);
});

Deno.test("a directory that cannot be written, or whose tmp is elsewhere, is told at once", async () => {
  for (const operation of ["create", "rename"] as const) {
    const disk = diskWith({ ".layout": "bushy" });
    disk.fail({ operation, path: "tmp/zrs-try" });
    await assert.rejects(() => BlobDirectory.prepare(disk, "/blobs"), DiskError);
    await BlobDirectory.prepare(disk, "/blobs"); // nothing is left that would be in the way
    assert.deepEqual(disk.paths(), ["/blobs/.layout"]);
  }
});

Deno.test("bushy blobs whose marker got lost in copying are not looked for in the other layout", () => {
  const files = { "0x00/0x00/0x00/0x00/0x00/0x00/0x00/0x01/0x01.blob": "" };
  assert.throws(() => BlobDirectory.open(diskWith(files), "/blobs"), (error) => {
    assert(error instanceof UsageError);
    assert.match(error.message, /it has no \.layout, .* and its contents are bushy/);
    assert.equal(error.hint, "put the word bushy into /blobs/.layout");
    return true;
  });
  assert.equal(BlobDirectory.open(diskWith({ "0x01/0x02.blob": "" }), "/blobs").layout, "lawn");
  assert.equal(BlobDirectory.open(diskWith({ ...files, ".layout": "bushy" }), "/blobs").layout, "bushy");
});

Deno.test("a new directory is made with the marker and tmp that ZODB expects", async () => {
  const disk = new MemoryDisk();
  await BlobDirectory.prepare(disk, "/blobs");
  assert.deepEqual(disk.paths(), ["/blobs/.layout"]);
  assert.deepEqual(disk.bytes("/blobs/.layout"), text("bushy"));
  assert.deepEqual(disk.list("/blobs").sort(), [".layout", "tmp"]);
});

Deno.test("files come to their places with the modes that ZODB gives", async () => {
  await using temp = await TempDirectory.make();
  const { disk } = systemHost();
  const directory = await BlobDirectory.prepare(disk, temp.join("blobs"));
  await receive(directory, KEY, "content");
  await directory.place([KEY]);
  const path = directory.pathOf(KEY);
  assert.equal(await Deno.readTextFile(path), "content");
  const above = disk.status(path.slice(0, path.lastIndexOf("/")))!.mode;
  assert.equal(disk.status(path)!.mode & 0o222, 0);
  assert.equal(disk.status(path)!.mode & 0o444, above & 0o444 | 0o400);
  assert.deepEqual(directory.temporaryFiles(), []);
});

Deno.test("a revision that comes again takes the place of what a crash left", async () => {
  const disk = diskWith({});
  const directory = await BlobDirectory.prepare(disk, "/blobs");
  for (const content of ["first", "second"]) {
    await receive(directory, KEY, content);
    await directory.place([KEY]);
  }
  assert.deepEqual(disk.bytes(directory.pathOf(KEY)), text("second"));
});

Deno.test("whatever fails in placing, trying again brings every file to its place, and all is synced", async () => {
  const other = { oid: 0x01_0000n, tid: 7n };
  for (let nth = 1;; nth++) {
    const disk = diskWith({});
    const directory = await BlobDirectory.prepare(disk, "/blobs");
    for (const key of [KEY, other]) await receive(directory, key, "content");
    disk.performed.length = 0;
    disk.fail({ operation: "rename", path: ".part", nth });
    const failed = await directory.place([KEY, other]).then(() => false, () => true);
    await directory.place([KEY, other]);
    for (const key of [KEY, other]) {
      assert(directory.has(key));
      const path = directory.pathOf(key);
      const renamed = disk.performed.findLastIndex(({ operation, path }) =>
        operation === "rename" && path === directory.temporaryPathOf(key)
      );
      // Every directory from the file's up to the root of all has been synced since.
      for (let above = path; above !== "/blobs";) {
        above = above.slice(0, above.lastIndexOf("/"));
        assert(
          disk.performed.slice(renamed).some((each) =>
            each.operation === "syncDirectory" && each.path === above
          ),
          above,
        );
      }
    }
    if (!failed) break;
    assert(nth < 10);
  }
});

Deno.test("temporary files of ours are found again, those of others left alone", async () => {
  const disk = diskWith({ ".layout": "lawn", "tmp/BUCabc": "", "tmp/zrs-nonsense": "" });
  const directory = await BlobDirectory.prepare(disk, "/blobs");
  disk.create(directory.temporaryPathOf(KEY)).close();
  assert.deepEqual(directory.temporaryFiles(), [KEY]);
});
