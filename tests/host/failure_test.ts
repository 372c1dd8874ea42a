/** Errors of the system, sorted by what happens next. */

import assert from "node:assert/strict";
import { DiskError, DiskFullError, NotFoundError, UsageError } from "../../lib/errors.ts";
import fs from "node:fs";
import { diskFailure, openFileFailure } from "../../lib/host/failure.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { inTempDir } from "./kit.ts";

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: as the runtime says it, write`), { code });
}

Deno.test("each system error becomes the class that decides what happens next", () => {
  const classes = [
    ["ENOSPC", DiskFullError],
    ["EDQUOT", DiskFullError],
    ["EIO", DiskError],
    ["EFBIG", DiskError],
    ["EMFILE", DiskError],
    ["EUNHEARDOF", DiskError],
    ["ENOENT", NotFoundError],
    ["EACCES", UsageError],
    ["EPERM", UsageError],
    ["EISDIR", UsageError],
    ["EEXIST", UsageError],
    ["EROFS", UsageError],
    ["EXDEV", UsageError],
  ] as const;
  for (const [code, expected] of classes) {
    const cause = systemError(code);
    const failure = diskFailure("Cannot write /data/Data.fs", "/data/Data.fs", cause);
    assert.equal(failure.constructor, expected, code);
    assert.equal(failure.cause, cause);
    assert.equal(failure.facts.path, "/data/Data.fs");
    assert.match(failure.message, /^Cannot write \/data\/Data\.fs: .*[^.]$/);
  }
});

Deno.test("what the user can change comes with a hint", () => {
  for (const code of ["ENOSPC", "EACCES", "EPERM", "EISDIR", "EROFS"]) {
    assert.ok(diskFailure("Cannot open x", "x", systemError(code)).hint, code);
  }
});

Deno.test("what forbids going on with an open file is the disk's failure, and keeps its words and hint", () => {
  for (const code of ["EROFS", "EPERM", "EACCES"]) {
    const usage = diskFailure("Cannot write x", "x", systemError(code));
    const failure = openFileFailure("Cannot write x", "x", systemError(code));
    assert.equal(failure.constructor, DiskError, code);
    assert.equal(failure.message, usage.message);
    assert.equal(failure.hint, usage.hint);
  }
  assert.equal(openFileFailure("Cannot write x", "x", systemError("ENOSPC")).constructor, DiskFullError);
});

Deno.test("a file that becomes read-only while it is open fails to be written, cut and synced by its disk", () =>
  inTempDir(async (dir) => {
    using file = systemHost().disk.create(`${dir}/Data.fs`);
    const { writeSync, ftruncateSync, fsync } = fs;
    const refuse = () => {
      throw systemError("EROFS");
    };
    const refuseLater: unknown = (_: number, done: (error: Error) => void) => done(systemError("EROFS"));
    try {
      fs.writeSync = refuse;
      fs.ftruncateSync = refuse;
      fs.fsync = refuseLater as typeof fs.fsync;
      const isDiskError = (error: unknown) => error instanceof DiskError;
      assert.throws(() => file.writeAt(new Uint8Array(1), 0), isDiskError);
      assert.throws(() => file.truncate(0), isDiskError);
      await assert.rejects(file.sync(), isDiskError);
    } finally {
      Object.assign(fs, { writeSync, ftruncateSync, fsync });
    }
  }));
