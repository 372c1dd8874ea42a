/** The administrators' log: what a line looks like, and that none is lost. */

import assert from "node:assert/strict";
import { NotFoundError, UnavailableError } from "../../lib/errors.ts";
import { type LogLevel, systemLog } from "../../lib/host/mod.ts";
import { inTempDir, runDeno } from "./kit.ts";

async function withLog(
  level: LogLevel,
  use: (log: ReturnType<typeof systemLog>, lines: () => string[], file: string) => void,
): Promise<void> {
  await inTempDir((dir) => {
    const file = `${dir}/zrs.log`;
    using log = systemLog({ level, file });
    use(log, () => Deno.readTextFileSync(file).split("\n").slice(0, -1), file);
  });
}

/** A line without its time, which is checked to be one. */
function untimed(line: string): string {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (.*)$/.exec(line);
  assert.ok(match, line);
  assert.ok(Math.abs(Date.parse(match[1]!) - Date.now()) < 3_600_000, "the time is now, in UTC");
  return match[2]!;
}

Deno.test("a line has time, level, message and facts, and is written at once", () =>
  withLog("info", (log, lines) => {
    log.info("Secondary is up to date", { peer: "db1:5000", tid: 0x03f0_a1b2_c3d4_e5f6n, position: 52 });
    assert.deepEqual(lines().map(untimed), [
      "INFO Secondary is up to date peer=db1:5000 tid=03f0a1b2c3d4e5f6 position=52",
    ]);
    log.warning("Source is ahead", { path: "/my data/Data.fs", nothing: undefined, list: [1n, "a"] });
    assert.equal(
      untimed(lines()[1]!),
      String.raw`WARNING Source is ahead path="/my data/Data.fs" list="[\"0000000000000001\",\"a\"]"`,
    );
  }));

Deno.test("less serious messages than the level are left out", async () => {
  const levels: LogLevel[] = ["debug", "info", "warning", "error"];
  for (const [index, level] of levels.entries()) {
    await withLog(level, (log, lines) => {
      for (const each of levels) log[each](each);
      assert.deepEqual(lines().map((line) => untimed(line).split(" ")[1]), levels.slice(index));
    });
  }
});

Deno.test("whatever a message or fact contains, it stays one line that no terminal obeys", () =>
  withLog("debug", (log, lines) => {
    const hostile = "a\nb\r\x1b[31mred\x1b[0m\u009b2J\t\u2028{x} {{y}}";
    log.error(hostile, { user: hostile, error: new Error(hostile) });
    const [line, ...more] = lines();
    assert.equal(more.length, 0);
    assert.doesNotMatch(line!, /[^\P{Cc}\t]/u, "no control character but the tab");
    assert.match(line!, /\{x\} \{\{y\}\}/);
  }));

Deno.test("our own errors are told in a sentence, others with the place they came from", () =>
  withLog("info", (log, lines) => {
    log.error("Gave up", { error: new UnavailableError("Cannot connect to db1:5000: refused") });
    log.error("Gave up", { error: new TypeError("x is not y", { cause: new Error("z") }) });
    assert.equal(untimed(lines()[0]!), `ERROR Gave up error="Cannot connect to db1:5000: refused"`);
    assert.match(lines()[1]!, /TypeError: x is not y.*log_test\.ts.*because of: z/);
  }));

Deno.test("after rotation and reopen, lines go to a new file, and none is lost", () =>
  withLog("info", (log, lines, file) => {
    log.info("one");
    Deno.renameSync(file, `${file}.1`);
    log.info("two");
    log.reopen();
    log.info("three");
    assert.deepEqual(lines().map(untimed), ["INFO three"]);
    assert.match(Deno.readTextFileSync(`${file}.1`), /one\n.*two\n$/);
  }));

Deno.test("when reopening fails the log goes on in the old file and says so", () =>
  inTempDir((dir) => {
    Deno.mkdirSync(`${dir}/logs`);
    using log = systemLog({ level: "info", file: `${dir}/logs/zrs.log` });
    Deno.renameSync(`${dir}/logs`, `${dir}/old`);
    log.reopen();
    log.info("still here");
    assert.match(Deno.readTextFileSync(`${dir}/old/zrs.log`), /Cannot reopen.*\n.*still here\n$/);
  }));

Deno.test("a log file in a directory that is missing is NotFoundError", () =>
  inTempDir((dir) => {
    assert.throws(() => systemLog({ level: "info", file: `${dir}/none/zrs.log` }), NotFoundError);
  }));

Deno.test("the last line before a crash is there, and without a file lines go to standard error", async () => {
  const { stdout, stderr } = await runDeno(
    `import { systemLog } from "host";
     systemLog({ level: "info" }).error("The last words");
     Deno.kill(Deno.pid, "SIGKILL");`,
  );
  assert.match(new TextDecoder().decode(stderr), /^\S+Z ERROR The last words\n$/);
  assert.equal(stdout.length, 0);
});
