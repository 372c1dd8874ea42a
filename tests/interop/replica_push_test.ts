/** `zrs replica-sync --push` over a real ssh: from here to a copy on another machine, by the real command there. */
import assert from "node:assert/strict";
import { dataFs } from "../kit/data_fs.ts";
import { beforeDeadline } from "../kit/feed.ts";
import { OpenCheck, peerTest, ZodbWriter } from "../kit/peers.ts";
import { endOf, startZrs } from "../kit/process.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { NO_SSHD, type SshdOptions, sshTest } from "../kit/sshd.ts";
import { sizeOf, waitForChanges } from "./processes.ts";
import { assertSameDatabase, assertSameFile } from "./sameness.ts";
import { BYTES, changedAt, FIRST_TID, history, HUNDRED, LAST, Scene, TRANSACTIONS } from "./ssh_scene.ts";

/** What is here is {@link BYTES}, and nothing is there. */
async function sceneOfPush(options: SshdOptions = {}): Promise<Scene> {
  const scene = await Scene.make("zrs", options);
  Deno.renameSync(scene.far, scene.near);
  return scene;
}

sshTest("pushed over ssh: first copy, catch-up, nothing missing", async () => {
  await using scene = await sceneOfPush({ banner: "No trespassing\n" });
  const { near, far, source: target } = scene;
  Deno.writeFileSync(near, HUNDRED);
  const first = await scene.push();
  assert.deepEqual(
    [first.complete, first.source, first.dataFs, first.created, first.protocol, first.restsOn],
    [true, near, target, true, "native", "said"],
  );
  assert.deepEqual([first.durableThere, first.transactions, first.before.tid], [true, 100, null]);
  assertSameBytes(Deno.readFileSync(far), HUNDRED);

  Deno.writeFileSync(near, BYTES);
  const { code, out, err } = await scene.run("--push", near, target);
  assert.deepEqual([code, err], [0, ""]);
  assert.match(
    out,
    /^Replica complete: 127\.0\.0\.1:.*far\.fs has all of .*near\.fs, .*; 200 transactions, /,
  );
  assertSameBytes(Deno.readFileSync(far), BYTES);
  assert.deepEqual(scene.filesOf("far.fs"), ["far.fs", "far.fs.index", "far.fs.lock"]);
  assert.deepEqual(scene.beside, ["near.fs"]); // nothing is written to a source, nor beside it

  const none = await scene.push("--compress", "on", "--bwlimit", "10M");
  assert.deepEqual([none.created, none.transactions, none.bytes, none.after.tid], [false, 0, 0, LAST]);
  assert.deepEqual(await scene.run("--push", near, target, "-q"), { code: 0, out: "", err: "" });
});

sshTest("pushed over ssh: up to a time, and what would be done", async () => {
  await using scene = await sceneOfPush();
  const { near, far, source: target } = scene;
  const until = (FIRST_TID + 149n).toString(16).padStart(16, "0");
  const bytes = BYTES.length - 4;
  const check = { kind: "quick", transactions: 0, obstacle: null };
  const dry = { dryRun: true, source: near, dataFs: target, would: "append", until: LAST, bytes, check };
  assert.deepEqual(await scene.push("--dry-run"), dry);
  assert.deepEqual(scene.filesOf("far.fs"), []);
  assert.equal((await scene.push("--until", until)).after.tid, until);
  assertSameBytes(Deno.readFileSync(far), BYTES.subarray(0, TRANSACTIONS[149]!.end));
  const would = await scene.run("--push", near, target, "--dry-run");
  assert.match(would.out, /^Would append to 127\.0\.0\.1:.*far\.fs what it lacks of .*near\.fs, up to /);
  await scene.push();
  assertSameBytes(Deno.readFileSync(far), BYTES);
  const done = await scene.run("--push", near, target, "--dry-run");
  assert.match(done.out, /far\.fs has all of .*near\.fs, .*: nothing would be copied$/);
});

sshTest("pushed over ssh: a copy with other history is left alone", async () => {
  await using scene = await sceneOfPush();
  const { near, far, source: target } = scene;
  const { bytes } = dataFs([
    ...history(100),
    {
      tid: FIRST_TID + 100n,
      description: `only there ${"\x01".repeat(60_000)}`,
      records: [{ oid: 1n, data: "x" }],
    },
  ]);
  Deno.writeFileSync(far, bytes);
  for (const args of [[], ["--repack"], ["--dry-run"]]) {
    const { code, out, err } = await scene.run("--push", near, target, ...args);
    assert.deepEqual([code, out], [3, ""], err);
    assert.match(
      err,
      /^zrs replica-sync: Cannot push \S+ to 127\.0\.0\.1:\S*far\.fs: the histories differ.*forked: /,
    );
    assert.match(err, /the last common one is 03f5945817777763/);
  }
  const failed = await scene.run("--push", near, target, "--json");
  const { complete, exitCode, source, dataFs: there, divergence } = JSON.parse(failed.out);
  assert.deepEqual([complete, exitCode, source, there], [false, 3, near, target]);
  // What the source has instead cannot be asked for: there is one conversation.
  const tids = [divergence.common.tid, divergence.here.tid, divergence.there];
  assert.deepEqual(tids, ["03f5945817777763", "03f5945817777764", null]);
  assert.match(divergence.here.description, /^only there /);
  assertSameBytes(Deno.readFileSync(far), bytes);
});

sshTest("pushed over ssh: the copy's past is compared first", async () => {
  await using scene = await sceneOfPush();
  const { near, far, source: target } = scene;
  Deno.writeFileSync(far, HUNDRED);
  const quick = await scene.push();
  assert.deepEqual(quick.check, { kind: "quick", transactions: 16, obstacle: null });
  const well = await scene.run("--push", near, target, "--check", "full");
  assert.match(well.out, /before, all of it was compared: 300 transactions the same$/);
  const changed = changedAt(50);
  Deno.writeFileSync(far, changed);
  const { code, out, err } = await scene.run("--push", near, target, "--check", "full");
  assert.deepEqual([code, out], [3, ""], err);
  assert.match(
    err,
    /^zrs replica-sync: Cannot push .*far\.fs differs from it, nothing was written: transaction 03f5945817777732 /,
  );
  assert.doesNotMatch(err, /zrs verify/); // which compares with files of one machine, and running nodes
  assertSameBytes(Deno.readFileSync(far), changed);
});

sshTest("pushed over ssh: what does not fit byte by byte comes record by record", async () => {
  await using scene = await sceneOfPush();
  const { near, far } = scene;
  const described = history(300);
  const [record] = described[150]!.records;
  // It says that another object's record is the one before.
  const damage = { previous: BigInt(TRANSACTIONS[101]!.records[0]!.position) };
  const { bytes } = dataFs(described.with(150, { ...described[150]!, records: [{ ...record!, damage }] }));
  Deno.writeFileSync(near, bytes);
  const report = await scene.push();
  assert.deepEqual([report.complete, report.newCopy, report.after.tid], [true, false, LAST]);
  assertSameBytes(Deno.readFileSync(far), BYTES); // whose links are right
});

sshTest("pushed over ssh: killed half way, the next one goes on; no faster than it may", async () => {
  await using scene = await sceneOfPush();
  const { near, far, source: target, directory } = scene;
  const { bytes, transactions } = dataFs(history(5000, "large", 10_000));
  Deno.writeFileSync(near, bytes);
  for (const signal of ["SIGKILL", "SIGTERM"] as const) {
    const reached = sizeOf(far);
    await using process = scene.start("--push", near, target, "--bwlimit", "10M", "--compress", "off");
    const ended = process.exited.then(() => {});
    await waitForChanges("the copy to grow", directory.path, () => sizeOf(far) > reached + 3_000_000, ended);
    process.kill(signal);
    const { code, err } = await endOf(process);
    assert.equal(code, signal === "SIGKILL" ? 137 : 143, err);
    if (signal === "SIGTERM") assert.match(err, /Stopped before the copy was complete/);
    await waitUntilFree(scene);
    const copied = Deno.readFileSync(far);
    assert.ok(copied.length < bytes.length && transactions.some(({ end }) => end === copied.length));
    assertSameBytes(copied, bytes.subarray(0, copied.length));
  }
  const last = await scene.push();
  assert.ok(last.before.bytes > 6_000_000, `${last.before.bytes} bytes were there`);
  assertSameBytes(Deno.readFileSync(far), bytes);
});

/** zrs there ends when it sees that nobody pushes any more. */
async function waitUntilFree({ far }: Scene): Promise<void> {
  using lock = Deno.openSync(`${far}.lock`, { read: true, write: true });
  await beforeDeadline("zrs there to end", lock.lock(true));
}

sshTest("pushed over ssh: what hinders has its exit code, and leaves the copy", async () => {
  await using scene = await sceneOfPush();
  const { sshd, near, far, source: target, directory } = scene;
  Deno.writeFileSync(far, HUNDRED);
  const [text, damaged] = [directory.join("text"), directory.join("damaged.fs")];
  Deno.writeTextFileSync(text, "no database at all");
  const bytes = HUNDRED.slice();
  bytes.fill(0xff, TRANSACTIONS[50]!.end - 8, TRANSACTIONS[50]!.end);
  Deno.writeFileSync(damaged, bytes);
  const nowhere = directory.join("no", "copy.fs");
  const table: readonly (readonly [args: string[], code: number, words: RegExp])[] = [
    [[directory.join("none"), target], 2, /none: no such file|none: there is no such file|no such file/],
    [[text, target], 2, /it is not a FileStorage/],
    [[near, sshd.at(directory.path)], 2, /is a directory/],
    [[near, sshd.at(nowhere)], 2, /there is no directory/],
    [[near, sshd.at(text)], 2, /is not a FileStorage/],
    [[near, sshd.at(damaged)], 7, /Cannot push .*damaged\.fs: cannot read transaction 03f5945817777732 /],
    [[near, "no-such-host.invalid:Data.fs"], 4, /no-such-host\.invalid.*[Cc]ould not resolve/],
    [[near, target, "--ssh", sshd.sshWith({ key: "other" })], 4, /Permission denied \(publickey\)/],
    [[near, target, "--ssh", "no-such-program"], 2, /Cannot run no-such-program/],
    [[near, target, "--far-zrs", "no-such-zrs"], 4, /there is no no-such-zrs on its PATH; install it there/],
    [[near, directory.join("copy.fs")], 2, /it names no file of another machine/],
    [["zrs://127.0.0.1:1", target], 2, /it is no file of this machine/],
    [[target, near], 2, /it is no file of this machine/],
    [[near, target, "--ask-zeo", "127.0.0.1:1"], 2, /Cannot use --ask-zeo/],
    [[near, target, "--protocol", "zrs2"], 2, /Cannot use .*--protocol zrs2/],
    [[near, target, "--auth-file", text], 2, /Cannot use --auth-file/],
    [[near, target, "--step", "copy"], 2, /Cannot use --step/],
  ];
  for (const [args, code, words] of table) {
    const ssh = args.includes("--ssh") ? [] : ["--ssh", sshd.ssh];
    await using process = startZrs(["replica-sync", "--push", ...args, ...ssh]);
    const ended = await endOf(process);
    assert.deepEqual([ended.code, ended.out], [code, ""], `${args}: ${ended.err}`);
    assert.match(ended.err, words);
    assert.match(ended.err, /^zrs replica-sync: [^\n]*$/);
  }
  const forgotten = await scene.run(near, target);
  assert.equal(forgotten.code, 2);
  assert.match(forgotten.err, /a copy is made on this machine; give --push /);
  {
    using lock = Deno.openSync(`${far}.lock`, { read: true, write: true, create: true });
    await lock.lock(true);
    const { code, err } = await scene.run("--push", near, target);
    assert.equal(code, 5, err);
    assert.match(err, /Cannot push \S+ to 127\.0\.0\.1:.*lock/);
  }
  assertSameBytes(Deno.readFileSync(far), HUNDRED);
});

sshTest("without zrs there nothing is pushed, and that is said", async () => {
  await using scene = await Scene.make("tools");
  Deno.renameSync(scene.far, scene.near);
  const { code, out, err } = await scene.run("--push", scene.near, scene.source);
  assert.deepEqual([code, out], [4, ""]);
  assert.match(
    err,
    /Cannot use zrs on 127\.0\.0\.1: there is no zrs on its PATH; install it there, or name it/,
  );
  assert.deepEqual(scene.filesOf("far.fs"), []);
});

sshTest("a zrs there that cannot be pushed to is told by its own words", async () => {
  await using scene = await sceneOfPush();
  const script =
    `case $1 in --version) echo "zrs 0.0.1" ;; *) echo "zrs: no such command" >&2; exit 2 ;; esac`;
  Deno.writeTextFileSync(scene.directory.join("bin", "zrs"), `#!/bin/sh\n${script}\n`);
  const { code, out, err } = await scene.run("--push", scene.near, scene.source);
  assert.deepEqual([code, out], [2, ""]);
  assert.match(err, /^zrs replica-sync: Cannot push \S+ to 127\.0\.0\.1:.*far\.fs: zrs: no such command$/);
});

sshTest("a damaged file is pushed as far as it is whole, and that is told", async () => {
  await using scene = await sceneOfPush();
  const last = TRANSACTIONS[299]!.end;
  const damages: readonly (readonly [at: number, whole: number, words: RegExp])[] = [
    [
      TRANSACTIONS[200]!.position + 8,
      200,
      /Cannot push .*: cannot read transaction 03f59458177777c8 .*; what had/,
    ],
    [last - 8, 299, /Cannot push all of .*near\.fs: .*; all before that has been pushed; .*zrs verify/],
  ];
  for (const [at, whole, words] of damages) {
    const bytes = BYTES.slice();
    bytes.fill(0, at, at + 8); // a length
    Deno.writeFileSync(scene.near, bytes);
    const { code, out, err } = await scene.run("--push", scene.near, scene.source);
    assert.deepEqual([code, out], [4, ""], err);
    assert.match(err, words);
    assert.match(err, /^zrs replica-sync: [^\n]*$/);
    assertSameBytes(Deno.readFileSync(scene.far), BYTES.subarray(0, TRANSACTIONS[whole - 1]!.end));
  }
});

peerTest("pushed over ssh while a real ZODB commits, and after packs of Python's", ["zodb55"], async () => {
  if (NO_SSHD !== undefined) return;
  await using scene = await sceneOfPush();
  const { near, far, source: target } = scene;
  Deno.removeSync(near);
  await using writer = await ZodbWriter.start("zodb55", { path: near, create: true });
  await using zodb = await OpenCheck.start("zodb55");
  const more = async () => await writer.commitMany({ count: 30, size: 500, objects: 3, keys: 10 });
  const { tid } = await more();
  await more();
  await scene.push();
  await assertSameFile(far, near);
  await writer.pack({ tid });
  const unchanged = Deno.readFileSync(far);
  assert.equal((await scene.push()).transactions, 0); // it has all that there is
  assertSameBytes(Deno.readFileSync(far), unchanged);
  await more();
  const appended = await scene.push();
  assert.deepEqual([appended.newCopy, appended.transactions], [false, 30]);
  assertSameBytes(Deno.readFileSync(far).subarray(0, unchanged.length), unchanged);

  const dry = await scene.run("--push", near, target, "--dry-run", "--repack");
  assert.match(dry.out, /^Would make 127\.0\.0\.1:.*far\.fs a complete new copy of .*near\.fs/);
  const repacked = await scene.push("--repack", "--keep-old");
  assert.deepEqual([repacked.newCopy, repacked.keptAs], [true, `${far}.old`]);
  await assertSameFile(far, near);
  await assertSameDatabase(zodb, far, near);
  assert.deepEqual(scene.filesOf("far.fs"), ["far.fs", "far.fs.index", "far.fs.lock", "far.fs.old"]);
  assert.equal((await zodb.check(far, { readOnly: false })).usedIndex, true);
  assert.equal((await scene.push("--repack")).newCopy, false);

  // Some of what is missing is not here any more: nothing but a new copy will do.
  await more();
  await writer.pack();
  await more();
  const { code, out, err } = await scene.run("--push", near, target, "-q");
  assert.deepEqual([code, out], [0, ""], err);
  assert.match(err, /WARNING .* has been packed since .*; making a complete new copy$/);
  await assertSameFile(far, near);
  await writer.close();
});
