/** The disk of this machine: what the ports promise, on real files. */

import assert from "node:assert/strict";
import { DiskFullError, NotFoundError, UsageError } from "../../lib/errors.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { CAN_MOUNT, makeReadOnly, withSmallDisk } from "../kit/small_disk.ts";
import { inTempDir, run } from "./kit.ts";

const { disk } = systemHost();
const text = new TextEncoder();

function contentOf(path: string): string {
  using file = disk.openRead(path);
  const bytes = new Uint8Array(file.size());
  assert.equal(file.readAt(bytes, 0), bytes.length);
  return new TextDecoder().decode(bytes);
}

Deno.test("what is written at a position is read there, and reading stops at the end", () =>
  inTempDir((dir) => {
    using file = disk.create(`${dir}/Data.fs`);
    file.writeAt(text.encode("ABCDEF"), 2);
    const into = new Uint8Array(10).fill(0xff);
    assert.equal(file.readAt(into, 3), 5);
    assert.deepEqual(into.subarray(0, 6), new Uint8Array([66, 67, 68, 69, 70, 0xff]));
    assert.equal(file.readAt(into, 100), 0);
    assert.equal(file.size(), 8);
    file.truncate(4);
    assert.equal(contentOf(`${dir}/Data.fs`), "\0\0AB");
  }));

Deno.test("positions above 4 GB are exact", () =>
  inTempDir((dir) => {
    using file = disk.create(`${dir}/Data.fs`);
    const position = 5 * 2 ** 30 + 3;
    file.writeAt(text.encode("far"), position);
    using reader = disk.openRead(`${dir}/Data.fs`);
    assert.equal(reader.size(), position + 3);
    const into = new Uint8Array(3);
    reader.readAt(into, position);
    assert.equal(new TextDecoder().decode(into), "far");
    reader.readAt(into, position % 2 ** 32);
    assert.deepEqual(into, new Uint8Array(3));
  }));

Deno.test("a reader keeps the file it opened when the path is given to another", () =>
  inTempDir((dir) => {
    Deno.writeTextFileSync(`${dir}/a`, "old");
    Deno.writeTextFileSync(`${dir}/b`, "new");
    using first = disk.openRead(`${dir}/a`);
    using second = disk.openRead(`${dir}/a`);
    assert.equal(first.identity(), second.identity());
    disk.rename(`${dir}/b`, `${dir}/a`);
    const into = new Uint8Array(3);
    first.readAt(into, 0);
    assert.equal(new TextDecoder().decode(into), "old");
    assert.equal(contentOf(`${dir}/a`), "new");
    const now = disk.status(`${dir}/a`);
    assert.notEqual(now?.identity, first.identity());
    using third = disk.openRead(`${dir}/a`);
    assert.equal(third.identity(), now?.identity);
  }));

Deno.test("a second name leads to the same file, and must be free", () =>
  inTempDir((dir) => {
    Deno.writeTextFileSync(`${dir}/a`, "one");
    assert.equal(disk.link(`${dir}/a`, `${dir}/b`), true);
    assert.equal(disk.status(`${dir}/b`)?.identity, disk.status(`${dir}/a`)?.identity);
    assert.throws(() => disk.link(`${dir}/a`, `${dir}/b`), UsageError);
    assert.throws(() => disk.link(`${dir}/none`, `${dir}/c`), NotFoundError);
    disk.remove(`${dir}/a`);
    assert.equal(contentOf(`${dir}/b`), "one");
  }));

Deno.test("a file takes another's permissions, all of them", () =>
  inTempDir((dir) => {
    Deno.writeTextFileSync(`${dir}/a`, "");
    Deno.writeTextFileSync(`${dir}/b`, "");
    for (const mode of [0o400, 0o2664]) {
      Deno.chmodSync(`${dir}/a`, mode);
      disk.copyPermissions(`${dir}/a`, `${dir}/b`);
      assert.equal(disk.status(`${dir}/b`)?.mode, mode);
    }
    assert.throws(() => disk.copyPermissions(`${dir}/none`, `${dir}/b`), NotFoundError);
  }));

Deno.test("writes in another thread go to their positions, and to the file that was opened", () =>
  inTempDir(async (dir) => {
    const path = `${dir}/Data.fs`;
    using file = disk.create(path);
    disk.rename(path, `${path}.old`);
    Deno.writeTextFileSync(path, "another");
    const [long, short] = [new Uint8Array(1 << 20).fill(65), text.encode("BCD")];
    await Promise.all([file.write(long, 2), file.write(short, 0), file.write(short, 1 << 20)]);
    assert.equal(contentOf(`${path}.old`), `BCD${"A".repeat((1 << 20) - 3)}BCD`);
    assert.equal(contentOf(path), "another");
  }));

Deno.test("a file may be written, read and closed while it is being synced", () =>
  inTempDir(async (dir) => {
    const file = disk.create(`${dir}/Data.fs`);
    file.writeAt(new Uint8Array(1 << 20), 0);
    const synced = file.sync();
    file.writeAt(text.encode("x"), 0);
    assert.equal(file.readAt(new Uint8Array(1), 0), 1);
    file.close();
    file.close();
    await synced;
    assert.throws(() => file.size(), /has been closed/);
  }));

Deno.test("a file is synced again and again, after little and after much, until it is closed", () =>
  inTempDir(async (dir) => {
    const file = disk.create(`${dir}/Data.fs`);
    for (const length of [1, 10, 100, 1 << 20, 10, 10, 10]) {
      file.writeAt(new Uint8Array(length), file.size());
      await file.sync();
    }
    assert.equal(file.size(), (1 << 20) + 141);
    file.close();
    await assert.rejects(file.sync(), /has been closed/);
  }));

Deno.test("a file opened for reading only, and a directory, can be synced", () =>
  inTempDir(async (dir) => {
    Deno.writeTextFileSync(`${dir}/Data.fs`, "FS21");
    using file = disk.openRead(`${dir}/Data.fs`);
    await file.sync();
    await disk.syncDirectory(dir);
    await assert.rejects(disk.syncDirectory(`${dir}/none`), NotFoundError);
  }));

Deno.test("what is missing is NotFoundError, which names the path", () =>
  inTempDir((dir) => {
    const path = `${dir}/none`;
    for (const open of [() => disk.openRead(path), () => disk.openWrite(path), () => disk.list(path)]) {
      assert.throws(open, (error: unknown) => error instanceof NotFoundError && error.facts.path === path);
    }
    assert.throws(() => disk.create(`${path}/Data.fs`), NotFoundError);
    Deno.writeTextFileSync(`${dir}/file`, "");
    assert.throws(() => disk.openRead(`${dir}/file/Data.fs`), NotFoundError);
    assert.throws(() => disk.rename(path, `${dir}/other`), NotFoundError);
    assert.equal(disk.status(path), undefined);
    assert.equal(disk.status(`${dir}/file/Data.fs`), undefined);
    disk.remove(path);
  }));

Deno.test("a directory, a pipe, a socket or a device is refused by name, without waiting for it", () =>
  inTempDir((dir) => {
    run("mkfifo", [`${dir}/pipe`]);
    using _listener = Deno.listen({ transport: "unix", path: `${dir}/socket` });
    const kinds = [
      [dir, "directory"],
      [`${dir}/pipe`, "pipe or device"],
      [`${dir}/socket`, "socket"],
      ["/dev/null", "pipe or device"],
    ] as const;
    for (const [path, words] of kinds) {
      for (const open of [() => disk.openRead(path), () => disk.openWrite(path), () => disk.lock(path)]) {
        assert.throws(open, (error: unknown) => {
          return error instanceof UsageError && error.message.includes(`${path}`) &&
            error.message.endsWith(`is a ${words}`);
        });
      }
    }
    assert.equal(disk.status(`${dir}/pipe`)?.kind, "other");
    assert.equal(disk.status(`${dir}/socket`)?.kind, "socket");
    assert.equal(disk.status(dir)?.kind, "directory");
  }));

Deno.test("status follows links and tells size and mode", () =>
  inTempDir((dir) => {
    Deno.writeTextFileSync(`${dir}/Data.fs`, "FS21");
    Deno.chmodSync(`${dir}/Data.fs`, 0o640);
    Deno.symlinkSync(`${dir}/Data.fs`, `${dir}/link`);
    using file = disk.openRead(`${dir}/link`);
    assert.deepEqual(disk.status(`${dir}/link`), {
      identity: file.identity(),
      kind: "file",
      size: 4,
      mode: 0o640,
    });
  }));

Deno.test("create refuses a path that is taken and leaves what is there", () =>
  inTempDir((dir) => {
    Deno.writeTextFileSync(`${dir}/Data.fs`, "FS21");
    assert.throws(() => disk.create(`${dir}/Data.fs`), UsageError);
    assert.equal(contentOf(`${dir}/Data.fs`), "FS21");
  }));

Deno.test("create says of a link to nothing that it is one", () =>
  inTempDir((dir) => {
    Deno.symlinkSync("unmounted/Data.fs", `${dir}/Data.fs`);
    assert.throws(() => disk.create(`${dir}/Data.fs`), (error) => {
      assert(error instanceof UsageError);
      assert.match(
        error.message,
        /^Cannot create .*: it is a link to unmounted\/Data\.fs, where nothing is$/,
      );
      return true;
    });
    assert.equal(Deno.readLinkSync(`${dir}/Data.fs`), "unmounted/Data.fs");
  }));

Deno.test("remove takes files and links, and never a directory", () =>
  inTempDir((dir) => {
    Deno.writeTextFileSync(`${dir}/file`, "");
    Deno.symlinkSync(`${dir}/file`, `${dir}/link`);
    Deno.mkdirSync(`${dir}/empty`);
    disk.remove(`${dir}/link`);
    assert.deepEqual(disk.list(dir).sort(), ["empty", "file"]);
    disk.remove(`${dir}/file`);
    assert.throws(() => disk.remove(`${dir}/empty`), UsageError);
    assert.deepEqual(disk.list(dir), ["empty"]);
  }));

Deno.test({
  name: "a full disk is DiskFullError, and there is room again after a cut",
  ignore: !CAN_MOUNT,
  fn: () =>
    inTempDir((dir) =>
      withSmallDisk(dir, 64, async (small) => {
        using file = disk.create(`${small}/Data.fs`);
        const bytes = new Uint8Array(1 << 20).fill(7);
        assert.throws(() => file.writeAt(bytes, 0), (error: unknown) => {
          return error instanceof DiskFullError && error.facts.path === `${small}/Data.fs`;
        });
        assert.ok(file.size() > 0, "what had room was written");
        file.truncate(0);
        await assert.rejects(file.write(bytes, 0), DiskFullError);
        assert.ok(file.size() < bytes.length);
        file.truncate(0);
        file.writeAt(bytes.subarray(0, 100), 0);
        assert.equal(file.size(), 100);
      })
    ),
});

Deno.test({
  name: "writing on a read-only file system is UsageError with a hint",
  ignore: !CAN_MOUNT,
  fn: () =>
    inTempDir((dir) =>
      withSmallDisk(dir, 64, (small) => {
        Deno.writeTextFileSync(`${small}/Data.fs`, "FS21");
        makeReadOnly(small);
        for (const open of [disk.openWrite, disk.create, disk.lock]) {
          assert.throws(() => open.call(disk, `${small}/Data.fs`), (error: unknown) => {
            return error instanceof UsageError && error.hint !== undefined;
          });
        }
        assert.equal(contentOf(`${small}/Data.fs`), "FS21");
      })
    ),
});

Deno.test("how much room is left is told as df tells it, also for a file that is not there yet", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const { stdout } = await new Deno.Command("df", { args: ["-B1", "--output=avail", directory] }).output();
    const expected = Number(new TextDecoder().decode(stdout).split("\n")[1]);
    const { disk } = systemHost();
    for (const path of [directory, `${directory}/later.fs`]) {
      const free = disk.freeBytes(path);
      // Others write to the same disk meanwhile.
      assert(free > expected / 2 && free < expected * 2 + 1, `${free} bytes, df says ${expected}`);
    }
    assert.throws(() => disk.freeBytes(`${directory}/none/later.fs`), NotFoundError);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
