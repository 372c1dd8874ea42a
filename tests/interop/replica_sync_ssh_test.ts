/** `zrs replica-sync` from another machine, over a real ssh: with zrs there, and with nothing but its own tools. */
import assert from "node:assert/strict";
import { dataFs } from "../kit/data_fs.ts";
import { beforeDeadline } from "../kit/feed.ts";
import { OpenCheck, peerTest, ZodbWriter } from "../kit/peers.ts";
import { ChildProcess, endOf, startZrs } from "../kit/process.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { NO_SSHD, sshTest } from "../kit/sshd.ts";
import { TempDirectory } from "../kit/temp.ts";
import { sizeOf, waitForChanges } from "./processes.ts";
import { assertSameDatabase, assertSameFile } from "./sameness.ts";
import {
  BYTES,
  changedAt,
  FIRST_TID,
  history,
  HUNDRED,
  LAST,
  MAIN,
  Scene,
  THERE,
  TRANSACTIONS,
} from "./ssh_scene.ts";

/** Whether there is the program that gives others a terminal. */
function hasScript(): boolean {
  return new Deno.Command("sh", { args: ["-c", "script --version"] }).outputSync().success;
}

for (const there of THERE) {
  sshTest(`over ssh, with ${there} there: first copy, catch-up, nothing missing`, async () => {
    await using scene = await Scene.make(there, { banner: "No trespassing\n" });
    Deno.writeFileSync(scene.far, HUNDRED);
    const first = await scene.sync();
    assert.deepEqual(
      [first.complete, first.created, first.protocol, first.restsOn, first.durableThere, first.transactions],
      [true, true, there === "zrs" ? "native" : "tools", "said", true, 100],
    );
    assertSameBytes(scene.copied, HUNDRED);
    Deno.writeFileSync(scene.far, BYTES);
    const { code, out, err } = await scene.run(scene.source, scene.near);
    assert.deepEqual([code, err], [0, ""]);
    assert.match(
      out,
      /^Replica complete: .*near\.fs has all of 127\.0\.0\.1:.*far\.fs, .*; 200 transactions, /,
    );
    assertSameBytes(scene.copied, BYTES);
    const none = await scene.sync();
    assert.deepEqual([none.created, none.transactions, none.bytes, none.after.tid], [false, 0, 0, LAST]);
    assert.deepEqual(await scene.run(scene.source, scene.near, "-q"), { code: 0, out: "", err: "" });
    assert.deepEqual(scene.beside, ["near.fs", "near.fs.index", "near.fs.lock"]);
  });

  sshTest(`over ssh, with ${there} there: up to a time, and what would be done`, async () => {
    await using scene = await Scene.make(there);
    const until = (FIRST_TID + 149n).toString(16).padStart(16, "0");
    const dry = await scene.run(scene.source, scene.near, "--dry-run", "--json");
    assert.equal(dry.code, 0, dry.err);
    assert.deepEqual(JSON.parse(dry.out), {
      dryRun: true,
      source: scene.source,
      dataFs: scene.near,
      would: "append",
      until: LAST,
      bytes: BYTES.length - 4,
      check: { kind: "quick", transactions: 0, obstacle: null },
    });
    assert.deepEqual(scene.beside, []);
    for (let run = 0; run < 2; run++) {
      assert.equal((await scene.sync("--until", until)).after.tid, until);
      assertSameBytes(scene.copied, BYTES.subarray(0, TRANSACTIONS[149]!.end));
    }
    await scene.sync();
    assertSameBytes(scene.copied, BYTES);
    const done = await scene.run(scene.source, scene.near, "--dry-run");
    assert.match(done.out, /has all of .*: nothing would be copied$/);
  });

  sshTest(`over ssh, with ${there} there: a copy with other history is left alone`, async () => {
    await using scene = await Scene.make(there);
    const { bytes } = dataFs([
      ...history(100),
      { tid: FIRST_TID + 100n, description: "only here", records: [{ oid: 1n, data: "other" }] },
    ]);
    Deno.writeFileSync(scene.near, bytes);
    for (const args of [[], ["--repack"], ["--dry-run"]]) {
      const { code, out, err } = await scene.run(scene.source, scene.near, ...args);
      assert.deepEqual([code, out], [3, ""], err);
      assert.match(err, /the histories differ.*forked: .*the last common one is 03f5945817777763/);
      if (!args.includes("--dry-run")) {
        assert.match(err, /then \S*near\.fs has 03f5945817777764 \(.*\) "only here"/);
      }
    }
    const failed = await scene.run(scene.source, scene.near, "--json");
    const { complete, exitCode } = JSON.parse(failed.out);
    assert.deepEqual([complete, exitCode], [false, 3]);
    assertSameBytes(scene.copied, bytes);
  });

  sshTest(
    `over ssh, with ${there} there: all of the copy's past is compared where that is asked for`,
    async () => {
      await using scene = await Scene.make(there);
      Deno.writeFileSync(scene.near, HUNDRED);
      const well = await scene.run(scene.source, scene.near, "--check", "full");
      assert.deepEqual([well.code, well.err], [0, ""]);
      assert.match(
        well.out,
        /before, all of it(s bytes were compared| was compared: 100 transactions the same)$/,
      );
      const changed = changedAt(50);
      for (const args of [[], ["--dry-run"]]) {
        Deno.writeFileSync(scene.near, changed);
        const { code, out, err } = await scene.run(scene.source, scene.near, "--check", "full", ...args);
        assert.deepEqual([code, out], [there === "zrs" ? 3 : 2, ""], err);
        assert.match(
          err,
          there === "zrs"
            ? /near\.fs differs from it, nothing was written: transaction 03f5945817777732 /
            : /Cannot compare all of /,
        );
        assert.doesNotMatch(err, /zrs verify/); // which compares with files of one machine, and running nodes
        assertSameBytes(scene.copied, changed);
      }
    },
  );

  sshTest(`over ssh, with ${there} there: killed half way, it goes on; no faster than it may`, async () => {
    await using scene = await Scene.make(there);
    const { bytes, transactions } = dataFs(history(5000, "large", 10_000));
    Deno.writeFileSync(scene.far, bytes);
    for (const signal of ["SIGKILL", "SIGTERM"] as const) {
      const reached = sizeOf(scene.near);
      await using process = scene.start(scene.source, scene.near, "--bwlimit", "10M");
      const ended = process.exited.then(() => {});
      await waitForChanges(
        "the copy to grow",
        scene.directory.path,
        () => sizeOf(scene.near) > reached + 3_000_000,
        ended,
      );
      process.kill(signal);
      const { code, err } = await endOf(process);
      assert.equal(code, signal === "SIGKILL" ? 137 : 143, err);
      if (signal === "SIGKILL") continue;
      assert.match(err, /Stopped before the copy was complete; what had come whole is kept/);
      const copied = scene.copied;
      assert.ok(transactions.some(({ end }) => end === copied.length));
      assertSameBytes(copied, bytes.subarray(0, copied.length));
    }
    const last = await scene.sync();
    assert.ok(last.before.bytes > 6_000_000, `${last.before.bytes} bytes were there`);
    assertSameBytes(scene.copied, bytes);
  });

  sshTest(`over ssh, with ${there} there: what hinders has its exit code, and leaves the copy`, async () => {
    await using scene = await Scene.make(there);
    Deno.writeFileSync(scene.near, HUNDRED);
    const { sshd, near, source, directory } = scene;
    Deno.writeTextFileSync(directory.join("text"), "no database at all");
    const table: readonly (readonly [args: string[], code: number, words: RegExp])[] = [
      [[sshd.at(directory.join("none")), near], 2, /there is no such file there/],
      [[sshd.at(directory.path), near], 2, /it is a directory/],
      [[sshd.at(directory.join("text")), near], 2, /is not a FileStorage/],
      [["no-such-host.invalid:Data.fs", near], 4, /no-such-host\.invalid.*[Cc]ould not resolve/],
      [[source, near, "--ssh", sshd.sshWith({ key: "other" })], 4, /Permission denied \(publickey\)/],
      [[source, near, "--ssh", "no-such-program"], 2, /Cannot run no-such-program/],
      [
        [source, near, "--far-zrs", "/opt/no-such-zrs"],
        4,
        /there is no \/opt\/no-such-zrs.*; install it there/,
      ],
      [[source, near, "--protocol", "zrs2"], 2, /nothing there speaks it/],
      [[source, near, "--auth-file", directory.join("text")], 2, /it is not a running node/],
      [["db1:", near], 2, /names no file/],
    ];
    for (const [args, code, words] of table) {
      const from = args.includes("--ssh") ? startZrs(["replica-sync", ...args]) : scene.start(...args);
      await using process = from;
      const ended = await endOf(process);
      assert.deepEqual([ended.code, ended.out], [code, ""], `${args}: ${ended.err}`);
      assert.match(ended.err, words);
      assert.match(ended.err, /^zrs replica-sync: [^\n]*$/);
    }
    assertSameBytes(scene.copied, HUNDRED);
    const created = await scene.run(sshd.at(directory.join("none")), directory.join("new.fs"));
    assert.deepEqual([created.code, sizeOf(directory.join("new.fs"))], [2, 0]);
    assert.throws(() => Deno.statSync(directory.join("new.fs")), Deno.errors.NotFound);
    const locked = directory.join("locked.fs");
    await using first = scene.start(source, locked, "--bwlimit", "50K");
    await waitForChanges("the copy to be locked", directory.path, () => sizeOf(`${locked}.lock`) > 0);
    const second = await scene.run(source, locked);
    assert.equal(second.code, 5, second.err);
    await first.stop("SIGTERM");
  });
}

sshTest("nobody is asked for a password from cron, even where there is a terminal", async () => {
  await using scene = await Scene.make("tools", { passwords: true });
  const { sshd, source, near, directory } = scene;
  for (const args of [["--push", near, source], [source, near]]) {
    Deno.writeFileSync(near, HUNDRED);
    const words = [Deno.execPath(), "run", "--allow-all", MAIN, "replica-sync", ...args];
    const command = [...words, "--ssh", sshd.sshWith({ key: "other" })].map((word) => `'${word}'`).join(" ");
    // `script` gives it a terminal, on which ssh would ask; what cron has of the command goes to a file.
    const errors = directory.join("errors");
    const options = ["--quiet", "--return", "--command", `${command} 2>${errors}`, "/dev/null"];
    await using process = ChildProcess.start("script", options);
    const { code } = await beforeDeadline("the end of a login that fails", process.exited);
    assert.equal(code, 4);
    assert.match(Deno.readTextFileSync(errors), /Permission denied \(publickey,password\)/);
    assert.deepEqual(process.stdout.items, []);
    assertSameBytes(scene.copied, HUNDRED);
  }
}, { ignore: !hasScript() });

sshTest("a damaged file there is copied as far as it is whole, and that is told", async () => {
  await using scene = await Scene.make("tools");
  const bytes = BYTES.slice();
  bytes.fill(0, TRANSACTIONS[200]!.position + 8, TRANSACTIONS[200]!.position + 16); // its length
  Deno.writeFileSync(scene.far, bytes);
  const { code, err } = await scene.run(scene.source, scene.near);
  assert.equal(code, 4, err);
  assert.match(err, /What 127\.0\.0\.1:.* has next cannot be taken: .*; what had come is kept, up to /);
  assertSameBytes(scene.copied, BYTES.subarray(0, TRANSACTIONS[199]!.end));
});

sshTest("where nothing there can write the file to disk, the report says so", async () => {
  await using tools = await TempDirectory.make();
  for (const name of ["sh", "ls", "dd", "cat"]) {
    const { stdout } = new Deno.Command("sh", { args: ["-c", `command -v ${name}`] }).outputSync();
    Deno.symlinkSync(new TextDecoder().decode(stdout).trim(), tools.join(name));
  }
  await using scene = await Scene.make("tools", { path: tools.path });
  const { code, out, err } = await scene.run(scene.source, scene.near);
  assert.deepEqual([code, err], [0, ""]);
  assert.match(out, /after a power loss there, it may lack the last of this$/);
  Deno.truncateSync(scene.near, HUNDRED.length);
  assert.equal((await scene.sync()).durableThere, false);
});

for (const there of THERE) {
  peerTest(`over ssh, with ${there} there: a pack of Python's`, ["zodb55"], async () => {
    if (NO_SSHD !== undefined) return;
    await using scene = await Scene.make(there);
    Deno.removeSync(scene.far);
    await using writer = await ZodbWriter.start("zodb55", { path: scene.far, create: true });
    await using zodb = await OpenCheck.start("zodb55");
    const more = async () => await writer.commitMany({ count: 30, size: 500, objects: 3, keys: 10 });
    const { tid } = await more();
    await more();
    await scene.sync();
    await writer.pack({ tid });
    const unchanged = Deno.readFileSync(scene.near);
    assert.equal((await scene.sync()).transactions, 0); // it has all that there is
    assertSameBytes(scene.copied, unchanged);

    // What is missing is all there, at other places: only zrs there can tell it.
    await more();
    const kept = Deno.readFileSync(scene.near);
    const appended = await scene.run(scene.source, scene.near, "--json");
    if (there === "tools") {
      assert.equal(appended.code, 2, appended.err);
      assert.match(appended.err, /has been packed, .*give --repack .*, or install zrs there/);
      assertSameBytes(scene.copied, kept);
    } else {
      assert.deepEqual([appended.code, JSON.parse(appended.out).transactions], [0, 30]);
    }
    const dry = await scene.run(scene.source, scene.near, "--dry-run", "--repack");
    assert.match(dry.out, /Would make .*near\.fs a complete new copy/);
    const repacked = await scene.sync("--repack", "--keep-old");
    assert.deepEqual([repacked.newCopy, repacked.keptAs], [true, `${scene.near}.old`]);
    await assertSameFile(scene.near, scene.far);
    assert.deepEqual(scene.beside, ["near.fs", "near.fs.index", "near.fs.lock", "near.fs.old"]);
    await assertSameDatabase(zodb, scene.near, scene.far);
    assert.equal((await zodb.check(scene.near, { readOnly: false })).usedIndex, true);
    assert.equal((await scene.sync("--repack")).newCopy, false);

    // Some of what is missing is not there any more: nothing but a new copy will do.
    await more();
    await writer.pack();
    await more();
    const { code, out, err } = await scene.run(scene.source, scene.near, "-q");
    assert.deepEqual([code, out], [0, ""], err);
    assert.match(err, /WARNING .* has been packed since .*; making a complete new copy$/);
    await assertSameFile(scene.near, scene.far);
    await writer.close();
  });
}
