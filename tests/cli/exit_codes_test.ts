import assert from "node:assert/strict";
import { exitCodeOf } from "../../lib/cli/exit_codes.ts";
import { formatFailure } from "../../lib/cli/failure.ts";
import * as errors from "../../lib/errors.ts";

const CODES: Readonly<Record<string, number>> = {
  UsageError: 2,
  NotFoundError: 2,
  DivergedError: 3,
  ProtocolError: 4,
  UnavailableError: 4,
  RefusedError: 4,
  LockedError: 5,
  DiskError: 6,
  DiskFullError: 6,
  CorruptError: 7,
  // Whoever reads a pickle says what a bad one means; one that gets here has been forgotten.
  PickleError: 70,
};

Deno.test("each kind of failure has its exit code", () => {
  const { ZrsError: _, ...kinds } = errors;
  assert.deepEqual(Object.keys(kinds).sort(), Object.keys(CODES).sort());
  for (const [name, Kind] of Object.entries(kinds)) {
    assert.equal(exitCodeOf(new Kind("Cannot do")), CODES[name], name);
  }
});

Deno.test("what is not a failure of ours is a bug of ours", () => {
  for (const error of [new Error("oops"), new TypeError("oops"), "oops", undefined, null]) {
    assert.equal(exitCodeOf(error), 70);
  }
});

Deno.test("a failure while closing down does not hide what went wrong first", () => {
  const first = new errors.CorruptError("Cannot read");
  const both = new SuppressedError(new Error("close"), new SuppressedError(new Error("sync"), first));
  assert.equal(exitCodeOf(both), 7);
  assert.equal(formatFailure("zrs secondary", both), formatFailure("zrs secondary", first));
});

Deno.test("a failure is one line: the command, the message, and what to do", () => {
  const table: readonly (readonly [unknown, string])[] = [
    [
      new errors.UsageError("Cannot open x", { hint: "Name a file" }),
      "zrs primary: Cannot open x; name a file",
    ],
    [new errors.UsageError("Cannot open x"), "zrs primary: Cannot open x"],
    [new errors.UsageError("Bad", { hint: "DATA_FS is a path" }), "zrs primary: Bad; DATA_FS is a path"],
    [new errors.LockedError("Cannot lock a\nb\x1b[2J"), "zrs primary: Cannot lock a\\x0ab\\x1b[2J"],
    [
      new TypeError("x is not a function"),
      "zrs primary: Stopped by a bug of ours: TypeError: x is not a function; please report it with the log",
    ],
    ["text", "zrs primary: Stopped by a bug of ours: text; please report it with the log"],
  ];
  for (const [error, line] of table) assert.equal(formatFailure("zrs primary", error), line);
});
