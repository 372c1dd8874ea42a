/** Errors of the system, sorted by what happens next. */

import assert from "node:assert/strict";
import { DiskError, DiskFullError, NotFoundError, UsageError } from "../../lib/errors.ts";
import { diskFailure } from "../../lib/host/failure.ts";

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
