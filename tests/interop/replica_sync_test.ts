/** `zrs replica-sync` as a process, with real ZODB, ZEO and zc.zrs: writers that go on and pack, kills, and exit codes. */
import assert from "node:assert/strict";
import { type LogEnd, OpenCheck, peerTest, ZodbWriter } from "../kit/peers.ts";
import { endOf, startZrs } from "../kit/process.ts";
import { TempDirectory } from "../kit/temp.ts";
import { sizeOf, sync, syncWell, waitForChanges, ZrsProcess } from "./processes.ts";
import { assertCurrentState, assertSameDatabase, assertSameFile, assertSameStretch } from "./sameness.ts";

/** Small transactions, of a few objects. @returns the end */
async function commitSome(writer: ZodbWriter, count: number): Promise<LogEnd> {
  return await writer.commitMany({ count, size: 500, objects: 3, keys: 10 });
}

/** Has a database written, which then nobody has open. */
async function writeFile(path: string, write: (writer: ZodbWriter) => Promise<unknown>): Promise<void> {
  await using writer = await ZodbWriter.start("zodb55", { path });
  await write(writer);
  await writer.close();
}

peerTest(
  "a writer's file is copied while it commits, and Python takes the copy with its index",
  ["zodb55"],
  async () => {
    await using directory = await TempDirectory.make();
    const [source, copy] = [directory.join("Data.fs"), directory.join("copy.fs")];
    await using writer = await ZodbWriter.start("zodb55", { path: source });
    await writer.commitMany({ count: 300, size: 2000, objects: 3, keys: 20 });
    const committing = writer.commitMany({ count: 300, size: 2000, objects: 3, keys: 20 });
    const first = await syncWell(source, copy);
    assert.deepEqual([first.created, first.restsOn, first.newCopy], [true, "said", false]);
    assert.equal(sizeOf(copy), first.after.bytes);
    await assertSameStretch(copy, source, first.after.bytes);
    await committing;
    await writer.undo([1]);
    await syncWell(source, copy);
    await assertSameFile(copy, source);
    await using zodb = await OpenCheck.start("zodb55");
    await assertSameDatabase(zodb, copy, source);
    assert.equal((await zodb.check(copy, { readOnly: false })).usedIndex, true);
    await writer.close();
  },
);

peerTest(
  "a pack that leaves what is missing is gone on behind, any other makes a new copy",
  ["zodb55"],
  async () => {
    await using directory = await TempDirectory.make();
    const [source, copy] = [directory.join("Data.fs"), directory.join("copy.fs")];
    await using writer = await ZodbWriter.start("zodb55", { path: source });
    await using zodb = await OpenCheck.start("zodb55");
    const more = async () => await commitSome(writer, 30);
    const { tid } = await more();
    await more();
    await syncWell(source, copy);
    await more();
    await writer.pack({ tid });
    const appended = await syncWell(source, copy);
    assert.deepEqual([appended.newCopy, appended.transactions], [false, 30]);
    await assertCurrentState(zodb, copy, source);

    await more();
    await writer.pack();
    await more();
    const { code, out, err } = await sync(source, copy, "-q", "--keep-old");
    assert.deepEqual([code, out], [0, ""]);
    assert.match(err, /WARNING .* has been packed since .*; making a complete new copy$/);
    await assertSameFile(copy, source);
    await assertSameDatabase(zodb, copy, source);
    assert.equal((await zodb.check(copy, { readOnly: false })).usedIndex, true);
    assert.equal((await zodb.check(`${copy}.old`)).fstest, null);
    await more();
    assert.deepEqual((await syncWell(source, copy)).newCopy, false);
    await assertSameFile(copy, source);
    await writer.close();
  },
);

peerTest("killed again and again, it completes the copy in the end", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const [source, copy] = [directory.join("Data.fs"), directory.join("copy.fs")];
  await writeFile(source, (writer) => writer.fill({ transactions: 3000, records: 5, size: 3000 }));
  await using primary = await ZrsProcess.start(directory, "primary", source, "--replicate-to", "0");
  await using zodb = await OpenCheck.start("zodb55");
  let kills = 0;
  for (let reached = 4;;) {
    await using process = startZrs(["replica-sync", `zrs://${primary.address}`, copy, "--bwlimit", "40M"]);
    const ended = process.exited.then(() => {});
    // Killed as soon as it has got a little further.
    await waitForChanges("the copy to grow", directory.path, () => sizeOf(copy) > reached + 4_000_000, ended);
    process.kill("SIGKILL");
    const { code } = await process.exited;
    if (code === 0) break;
    kills++;
    reached = sizeOf(copy);
    // What was on its way is behind what Python sees.
    if (reached > 4) await assertSameStretch(copy, source, (await zodb.check(copy)).size);
  }
  assert(kills >= 2, `killed ${kills} times`);
  await assertSameFile(copy, source);
  assert.equal(await primary.stop(), 0);
});

peerTest(
  "two runs at once: the second leaves with 5; SIGTERM ends the first in order",
  ["zodb55"],
  async () => {
    await using directory = await TempDirectory.make();
    const [source, copy] = [directory.join("Data.fs"), directory.join("copy.fs")];
    await writeFile(source, (writer) => writer.fill({ transactions: 2000, records: 5, size: 3000 }));
    await using first = startZrs(["replica-sync", source, copy, "--json", "--bwlimit", "2M"]);
    await waitForChanges(
      "the copy to begin",
      directory.path,
      () => sizeOf(copy) > 0,
      first.exited.then(() => {}),
    );
    const second = await sync(source, copy);
    assert.equal(second.code, 5, second.err);
    first.kill("SIGTERM");
    const { code, out, err } = await endOf(first);
    assert.equal(code, 143);
    assert.match(err, /^zrs replica-sync: Stopped before the copy was complete; what had come whole is kept/);
    const { complete, exitCode, error } = JSON.parse(out);
    assert.deepEqual([complete, exitCode, `zrs replica-sync: ${error}`], [false, 143, err]);
    await syncWell(source, copy);
    await assertSameFile(copy, source);
  },
);

peerTest(
  "a primary of zc.zrs is complete when it is quiet, or has sent what was to come last",
  ["zodb55"],
  async () => {
    await using directory = await TempDirectory.make();
    const [source, copy] = [directory.join("Data.fs"), directory.join("copy.fs")];
    await using writer = await ZodbWriter.start("zodb55", { path: source, replicateTo: "127.0.0.1:0" });
    const { tid: early } = await commitSome(writer, 50);
    const { tid: last } = await commitSome(writer, 50);
    const url = `zrs://${writer.address}`;
    const until = await syncWell(url, copy, "--until", early);
    assert.deepEqual([until.restsOn, until.after.tid, until.protocol], ["reached", early, "zrs2.1"]);
    const quiet = await sync(url, copy, "--settle", "1");
    assert.equal(quiet.code, 0, quiet.err);
    assert.match(
      quiet.out,
      /^Replica complete: .*\(it does not say when it has sent all, and was silent for 1 s\), .*; 50 transactions, /,
    );
    await using zodb = await OpenCheck.start("zodb55");
    await assertSameDatabase(zodb, copy, source);
    const dry = await sync(url, copy, "--dry-run");
    assert.deepEqual([dry.code, dry.out], [4, ""]);
    assert.equal((await syncWell(url, copy, "--settle", "0.5")).after.tid, last);

    await writer.pack();
    await commitSome(writer, 5);
    await syncWell(url, copy, "--settle", "0.5"); // it had all that was packed
    await commitSome(writer, 5);
    await writer.pack();
    const packed = await sync(url, copy, "--settle", "0.5");
    assert.equal(packed.code, 0, packed.err);
    assert.match(packed.err, /has been packed since .*; making a complete new copy/);
    await assertSameDatabase(zodb, copy, source);
    await writer.close();
  },
);

peerTest("bad input has its exit code, and leaves the copy as it is", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const [source, copy] = [directory.join("Data.fs"), directory.join("copy.fs")];
  await writeFile(source, (writer) => commitSome(writer, 20));
  await syncWell(source, copy);
  const [text, alias, damaged, other] = ["text", "alias.fs", "damaged.fs", "other.fs"].map((name) =>
    directory.join(name)
  ) as [string, string, string, string];
  Deno.writeTextFileSync(text, "no database at all");
  Deno.symlinkSync(copy, alias);
  const bytes = Deno.readFileSync(source);
  const firstLength = Number(new DataView(bytes.buffer).getBigUint64(4 + 8));
  bytes.fill(0xff, 4 + firstLength, 4 + firstLength + 8);
  Deno.writeFileSync(damaged, bytes);
  await writeFile(other, (writer) => commitSome(writer, 5));
  const before = Deno.readFileSync(copy);
  const table: readonly (readonly [args: string[], code: number, words: RegExp])[] = [
    [[text, copy], 2, /it is not a FileStorage/],
    [[directory.path, copy], 2, /is a directory/],
    [[directory.join("none"), copy], 2, /no such file/],
    [[alias, copy], 2, /both are the same file/],
    [[copy, alias], 2, /both are the same file/],
    [[source, directory.path], 2, /is a directory/],
    [[source, directory.join("no", "copy.fs")], 2, /there is no directory/],
    [["zrs://127.0.0.1:1", copy], 4, /Cannot connect to 127\.0\.0\.1:1/],
    [["zrs://nowhere.invalid:5000", copy], 4, /nowhere\.invalid/],
    [["zrs://127.0.0.1", copy], 2, /it has no port/],
    [[source, damaged], 7, /Cannot open .*damaged\.fs/],
    [[other, copy], 3, /the histories differ, nothing was written/],
    [[source, copy, "-q", "-v"], 2, /both quiet and verbose/],
  ];
  for (const [args, code, words] of table) {
    const ended = await sync(...args);
    assert.deepEqual([ended.code, ended.out], [code, ""], `${args}: ${ended.err}`);
    assert.match(ended.err, words);
    assert.match(ended.err, /^zrs replica-sync: [^\n]*$/);
  }
  assert.deepEqual(Deno.readFileSync(copy), before);
  const failed = await sync(other, copy, "--json");
  assert.deepEqual([failed.code, JSON.parse(failed.out).complete, JSON.parse(failed.out).exitCode], [
    3,
    false,
    3,
  ]);
  assert.deepEqual(await sync(source, copy, "-q"), { code: 0, out: "", err: "" });
});

peerTest(
  "a ZEO server says how much a primary of zc.zrs must send, also while it commits",
  ["zodb55"],
  async () => {
    await using directory = await TempDirectory.make();
    const [source, copy] = [directory.join("Data.fs"), directory.join("copy.fs")];
    await using writer = await ZodbWriter.start("zodb55", {
      path: source,
      replicateTo: "127.0.0.1:0",
      zeo: true,
    });
    const url = `zrs://${writer.address}`;
    const args = [url, copy, "--ask-zeo", writer.zeoAddress, "--settle", "600"];
    for (let round = 0; round < 2; round++) {
      const { tid } = await commitSome(writer, 50);
      const { restsOn, after } = await syncWell(...args);
      assert.deepEqual([restsOn, after.tid], ["reached", tid]);
    }
    const committing = commitSome(writer, 300);
    const { after } = await syncWell(...args);
    await committing;
    await assertSameStretch(copy, source, after.bytes);
    // Nothing new: the source says nothing, and need not be waited for.
    const { tid } = await writer.commitMany({ count: 1, size: 500 });
    await syncWell(...args);
    assert.deepEqual([(await syncWell(...args)).transactions, (await syncWell(...args)).after.tid], [0, tid]);
    const wrong = await sync(url, copy, "--ask-zeo", writer.address);
    assert.equal(wrong.code, 4, wrong.err);
    assert.match(wrong.err, /Cannot (ask|take the answer of) .*/);
  },
);
