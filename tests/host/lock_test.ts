/** The lock beside a FileStorage, alone and with Python's zc.lockfile. */

import assert from "node:assert/strict";
import { LockedError, NotFoundError } from "../../lib/errors.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { inTempDir, linesOf, spawnDeno } from "./kit.ts";

const { disk, pid } = systemHost();
const python = Deno.env.get("ZRS_PYTHON_ZODB55");

function lockedBy(holder: number, path: string): (error: unknown) => boolean {
  return (error) =>
    error instanceof LockedError && error.facts.path === path &&
    error.message === `Cannot lock ${path}: process ${holder} holds it`;
}

Deno.test("a second lock is refused with the holder's process id until the first is closed", () =>
  inTempDir((dir) => {
    const path = `${dir}/Data.fs.lock`;
    const first = disk.lock(path);
    assert.equal(Deno.readTextFileSync(path), ` ${pid}\n`);
    assert.throws(() => disk.lock(path), lockedBy(pid, path));
    first.close();
    first.close();
    assert.equal(Deno.readTextFileSync(path), ` ${pid}\n`, "the file stays");
    using _second = disk.lock(path);
    assert.throws(() => disk.lock(path), LockedError);
  }));

Deno.test("a longer old content is cut when the lock is taken, and kept when it is not", () =>
  inTempDir((dir) => {
    const path = `${dir}/Data.fs.lock`;
    const old = " 99999999999999999999 on some host\n";
    Deno.writeTextFileSync(path, old);
    {
      using holder = Deno.openSync(path, { read: true });
      assert.ok(holder.tryLockSync(true));
      assert.throws(() => disk.lock(path), /another process holds it$/);
      assert.equal(Deno.readTextFileSync(path), old);
    }
    using _lock = disk.lock(path);
    assert.equal(Deno.readTextFileSync(path), ` ${pid}\n`);
  }));

Deno.test("a lock in a directory that is missing is NotFoundError", () =>
  inTempDir((dir) => {
    assert.throws(() => disk.lock(`${dir}/none/Data.fs.lock`), NotFoundError);
  }));

Deno.test("a killed process leaves no lock", () =>
  inTempDir(async (dir) => {
    const path = `${dir}/Data.fs.lock`;
    const child = spawnDeno(
      `import { systemHost } from "host";
       const lock = systemHost().disk.lock(Deno.args[0]);
       console.log("locked");
       await Deno.stdin.read(new Uint8Array(1));
       lock.close();`,
      [path],
    );
    const lines = linesOf(child.stdout);
    assert.equal((await lines.next()).value, "locked");
    assert.throws(() => disk.lock(path), lockedBy(child.pid, path));
    child.kill("SIGKILL");
    await Promise.all([child.status, child.stderr.cancel(), child.stdin.close().catch(() => {})]);
    await lines.return(undefined);
    disk.lock(path).close();
  }));

Deno.test({
  name: "zc.lockfile and we keep each other out",
  ignore: python === undefined,
  fn: () =>
    inTempDir(async (dir) => {
      const path = `${dir}/Data.fs.lock`;
      // Takes the lock, reports, and gives it back at the end of its input.
      const script = [
        "import sys, zc.lockfile",
        "try: lock = zc.lockfile.LockFile(sys.argv[1])",
        "except zc.lockfile.LockError: print('refused', flush=True)",
        "else: print('locked', flush=True); sys.stdin.read(); lock.close()",
      ].join("\n");
      const spawn = () =>
        new Deno.Command(python!, {
          args: ["-c", script, path],
          stdin: "piped",
          stdout: "piped",
          stderr: "null",
        }).spawn();

      const ours = disk.lock(path);
      const refused = spawn();
      await refused.stdin.close();
      const { stdout } = await refused.output();
      assert.equal(new TextDecoder().decode(stdout), "refused\n");
      ours.close();

      const holder = spawn();
      const lines = linesOf(holder.stdout);
      assert.equal((await lines.next()).value, "locked");
      assert.throws(() => disk.lock(path), lockedBy(holder.pid, path));
      await holder.stdin.close();
      await holder.status;
      await lines.return(undefined);
      disk.lock(path).close();
    }),
});
