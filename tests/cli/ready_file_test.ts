import assert from "node:assert/strict";
import { ReadyFile } from "../../lib/cli/ready_file.ts";
import { DiskFullError, UsageError } from "../../lib/errors.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";

const PATH = "/run/zrs.ready";
const encoder = new TextEncoder();

function diskWith(text?: string): MemoryDisk {
  const disk = new MemoryDisk();
  disk.addDirectory("/run");
  if (text !== undefined) disk.put(PATH, encoder.encode(text));
  return disk;
}

function read(disk: MemoryDisk): string | undefined {
  if (disk.status(PATH) === undefined) return undefined;
  using file = disk.openRead(PATH);
  const bytes = new Uint8Array(file.size());
  file.readAt(bytes, 0);
  return new TextDecoder().decode(bytes);
}

const nobody = () => false;

Deno.test("a ready file appears whole under its name, and goes", () => {
  const disk = diskWith();
  const file = ReadyFile.prepare(disk, PATH, nobody);
  assert.equal(read(disk), undefined);
  file.write({ pid: 12, replicateTo: "127.0.0.1:5000" });
  assert.equal(read(disk), '{"pid":12,"replicateTo":"127.0.0.1:5000"}\n');
  assert.deepEqual(disk.list("/run"), ["zrs.ready"]);
  const written = disk.performed.filter(({ operation }) => operation === "write");
  assert.equal(written.some(({ path }) => path === PATH), false);
  file.remove();
  assert.equal(read(disk), undefined);
  file.remove();
});

Deno.test("what a killed process left is removed before there is anything to be ready", () => {
  const disk = diskWith('{"pid":99}');
  ReadyFile.prepare(disk, PATH, nobody);
  assert.equal(read(disk), undefined);
});

Deno.test("the ready file of a running process stays until it is replaced", () => {
  const disk = diskWith('{"pid":99}');
  const file = ReadyFile.prepare(disk, PATH, (pid) => pid === 99);
  file.remove();
  assert.equal(read(disk), '{"pid":99}');
  file.write({ pid: 12 });
  assert.equal(read(disk), '{"pid":12}\n');
});

Deno.test("a ready file that another process has put in our place is left to it", () => {
  const disk = diskWith();
  const ours = ReadyFile.prepare(disk, PATH, nobody);
  ours.write({ pid: 12 });
  ReadyFile.prepare(disk, PATH, (pid) => pid === 12).write({ pid: 13 });
  ours.remove();
  assert.equal(read(disk), '{"pid":13}\n');
});

Deno.test("an empty file, as mktemp makes it, may become the ready file", () => {
  const disk = diskWith("");
  ReadyFile.prepare(disk, PATH, () => true).write({ pid: 12 });
  assert.equal(read(disk), '{"pid":12}\n');
});

Deno.test("a file that is no ready file is refused and left alone", () => {
  const others = ["FS30", "{}", '{"pid":"12"}', '{"pid":1.5}', "[1]", "null", '{"pid":1', "x".repeat(70_000)];
  for (const text of others) {
    const disk = diskWith(text);
    assert.throws(() => ReadyFile.prepare(disk, PATH, nobody), UsageError, text.slice(0, 20));
    assert.equal(read(disk), text);
  }
});

Deno.test("a directory is refused as ready file", () => {
  const disk = diskWith();
  disk.addDirectory(PATH);
  assert.throws(() => ReadyFile.prepare(disk, PATH, nobody), UsageError);
});

Deno.test("a ready file that cannot be written whole does not appear", () => {
  const disk = diskWith();
  const file = ReadyFile.prepare(disk, PATH, nobody);
  disk.fail({ operation: "write", error: "full", written: 5 });
  assert.throws(() => file.write({ pid: 12 }), DiskFullError);
  assert.equal(read(disk), undefined);
});
