/** The demo itself, in a hurry. */
import assert from "node:assert/strict";
import { UsageError } from "../../lib/errors.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { dataFs } from "../kit/data_fs.ts";
import { ChildProcess } from "../kit/process.ts";
import { TempDirectory } from "../kit/temp.ts";
import { conclude, perform } from "./demo.ts";
import { Screen } from "./screen.ts";
import { copyGiven, makeSample, surveyFile } from "./source.ts";

const { disk } = systemHost();
const MAIN = new URL("./main.ts", import.meta.url).pathname;
const BRIEFLY = { together: 200, apart: 200, togetherAgain: 200 };

Deno.test("the demo ends with three identical files, and says so", async () => {
  await using directory = await TempDirectory.make();
  const source = directory.join("Data.fs");
  await makeSample(disk, source);
  const survey = surveyFile(disk, source);
  let text = "";
  const outcome = await perform({
    disk,
    screen: new Screen((part) => text += part, undefined),
    directory: directory.path,
    source,
    survey,
    acts: BRIEFLY,
    signal: new AbortController().signal,
  });
  assert(outcome.transactions > survey.transactions);
  assert.deepEqual(outcome.bytesDiffer, new Map());
  const bytes = await Deno.readFile(source);
  for (const name of ["secondary.fs", "chained.fs"]) {
    assert.deepEqual(await Deno.readFile(directory.join(name)), bytes, name);
  }
  assert.match(text, /got SIGKILL[^]*is back[^]*has caught up/);
  assert.match(conclude(outcome, 0)[0]!, /identical, byte for byte: /);
});

Deno.test("an interrupted demo leaves no process and no file, and exits with 130", async () => {
  await using directory = await TempDirectory.make();
  await using demo = ChildProcess.start(Deno.execPath(), ["run", "--allow-all", MAIN], {
    env: { TMPDIR: directory.path },
  });
  await demo.stdout.waitFor("the source to be written", (line) => line.includes("is committed to"));
  const pids = demo.stdout.items.join("\n").match(/(?<=\(process )\d+/g)!.map(Number);
  assert.equal(pids.length, 3);
  assert.equal((await demo.stop("SIGINT")).code, 130);
  assert.deepEqual(await Array.fromAsync(Deno.readDir(directory.path)), []);
  assert.deepEqual(pids.filter((pid) => systemHost().isRunning(pid)), []);
  assert.match(demo.stderr.items.join("\n"), /^Interrupted/);
});

Deno.test("what is no database is refused in one line, and nothing is left", async () => {
  await using directory = await TempDirectory.make();
  await using temporary = await TempDirectory.make();
  await Deno.writeTextFile(directory.join("text"), "no database");
  await Deno.writeFile(directory.join("python2"), dataFs([], { magic: "FS21" }).bytes);
  const table: readonly (readonly [string, RegExp])[] = [
    [directory.join("missing"), /^demo: Cannot copy .*missing: there is no such file; check the path$/],
    [directory.path, /^demo: Cannot open .*directory; name a file$/],
    [directory.join("text"), /^demo: Cannot use .*text: it is not a FileStorage/],
    [directory.join("python2"), /^demo: Cannot replicate .*python2: it was written by Python 2; zodbupdate/],
  ];
  for (const [path, expected] of table) {
    await using demo = ChildProcess.start(Deno.execPath(), ["run", "--allow-all", MAIN, path], {
      env: { TMPDIR: temporary.path },
    });
    assert.equal((await demo.exited).code, 2);
    assert.match(demo.stderr.items.join("\n"), expected);
    assert.deepEqual(await Array.fromAsync(Deno.readDir(temporary.path)), []);
  }
});

Deno.test("a large database is copied only if somebody agrees", async () => {
  await using directory = await TempDirectory.make();
  const large = directory.join("large.fs");
  await Deno.writeTextFile(large, "FS30");
  await Deno.truncate(large, 1024 ** 3 + 1);
  const copy = directory.join("copy.fs");
  await assert.rejects(
    copyGiven(disk, large, copy, false, undefined),
    (error) =>
      error instanceof UsageError && /1\.0 GB/.test(error.message) && error.hint === "agree with --yes",
  );
  const asked: string[] = [];
  function refuse(question: string): boolean {
    asked.push(question);
    return false;
  }
  await assert.rejects(copyGiven(disk, large, copy, false, refuse), UsageError);
  assert.match(asked.join(), /^.*large\.fs has 1\.0 GB.*Go on\?$/);
  assert.equal(disk.status(copy), undefined);
});
