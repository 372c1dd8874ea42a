/** Histories that have parted: refused in words that both kinds of copies log, and nothing is changed. */
import assert from "node:assert/strict";
import { startPrimary, startSecondary } from "../kit/node.ts";
import { OpenCheck, peerTest, ZodbWriter, ZrsPrimary, ZrsSecondary } from "../kit/peers.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { TempDirectory } from "../kit/temp.ts";
import { assertSameFile } from "./sameness.ts";

/** A source with some transactions, and a copy of it. @returns the last tid */
async function makeSourceAndCopies(source: string, ...copies: string[]): Promise<string> {
  await using writer = await ZodbWriter.start("zodb55", { path: source });
  await writer.commitMany({ count: 10, size: 100, objects: 3 });
  const { tid } = await writer.close();
  for (const copy of copies) await Deno.copyFile(source, copy);
  return tid;
}

/** Commits to a file that nobody else has open. @returns the last tid */
async function commitAlone(path: string, key: string): Promise<string> {
  await using writer = await ZodbWriter.start("zodb55", { path });
  await writer.commit([[key, 100]]);
  return (await writer.close()).tid;
}

peerTest("a forked copy is refused in words, with where it parted, and left alone", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const path = (name: string) => directory.join(name);
  const common = await makeSourceAndCopies(path("Data.fs"), path("ours.fs"), path("python.fs"));
  const forks = [await commitAlone(path("ours.fs"), "fork"), await commitAlone(path("python.fs"), "fork")];
  const after = await commitAlone(path("Data.fs"), "not fork");
  const before = [await Deno.readFile(path("ours.fs")), await Deno.readFile(path("python.fs"))];

  await using primary = await startPrimary({ path: path("Data.fs") });
  await using ours = await startSecondary({ path: path("ours.fs"), replicateFrom: primary.address });
  await using python = await ZrsSecondary.start({ path: path("python.fs"), replicateFrom: primary.address });
  const reason = (tid: string) => new RegExp(`forked: .*${tid}.*common.*${common}.*followed by ${after}`);
  const { level, message, facts } = await ours.log.waitFor(/refuses this replica: .*forked/);
  assert.equal(level, "error");
  assert.match(message, reason(forks[0]!));
  assert.match(message, /nothing was changed/);
  assert.equal(facts["tid"], forks[0]);
  assert.match((await python.waitForLog(/refused: forked/)).message, reason(forks[1]!));
  for (const fork of forks) await primary.log.waitFor(reason(fork));
  await ours.stop();
  await python.close();
  assertSameBytes(await Deno.readFile(path("ours.fs")), before[0]!);
  assertSameBytes(await Deno.readFile(path("python.fs")), before[1]!);
});

peerTest("a copy that is ahead is refused in words, and left alone", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const path = (name: string) => directory.join(name);
  const last = await makeSourceAndCopies(path("Data.fs"), path("ours.fs"), path("python.fs"));
  const ahead = [await commitAlone(path("ours.fs"), "more"), await commitAlone(path("python.fs"), "more")];
  const before = [await Deno.readFile(path("ours.fs")), await Deno.readFile(path("python.fs"))];

  await using primary = await startPrimary({ path: path("Data.fs") });
  await using ours = await startSecondary({ path: path("ours.fs"), replicateFrom: primary.address });
  await using python = await ZrsSecondary.start({ path: path("python.fs"), replicateFrom: primary.address });
  const reason = (tid: string) => new RegExp(`ahead: .*${tid}.*ends with ${last}`);
  assert.match((await ours.log.waitFor(/refuses this replica/)).message, reason(ahead[0]!));
  assert.match((await python.waitForLog(/refused: ahead/)).message, reason(ahead[1]!));
  for (const each of ahead) await primary.log.waitFor(reason(each));
  await ours.stop();
  await python.close();
  assertSameBytes(await Deno.readFile(path("ours.fs")), before[0]!);
  assertSameBytes(await Deno.readFile(path("python.fs")), before[1]!);
});

for (
  const how of ["truncated after a power loss", "replaced by a backup", "overwritten by a backup"] as const
) {
  peerTest(`copies that hold what the source lost are told and dropped: ${how}`, ["zodb55"], async () => {
    await using directory = await TempDirectory.make();
    const path = (name: string) => directory.join(name);
    const kept = await makeSourceAndCopies(path("Data.fs"), path("backup.fs"));
    await using primary = await startPrimary({ path: path("Data.fs") });
    await using ours = await startSecondary({ path: path("ours.fs"), replicateFrom: primary.address });
    await using python = await ZrsSecondary.start({
      path: path("python.fs"),
      replicateFrom: primary.address,
    });
    await using late = await startSecondary({ path: path("late.fs"), replicateFrom: primary.address });
    await late.waitForTid(kept);
    await late.stop();
    await using writer = await ZodbWriter.start("zodb55", { path: path("Data.fs") });
    await writer.commitMany({ count: 5, size: 100 });
    const lost = (await writer.close()).tid;
    await ours.waitForTid(lost);
    await python.waitFor(lost);
    const before = [await Deno.readFile(path("ours.fs")), await Deno.readFile(path("python.fs"))];

    const backup = await Deno.readFile(path("backup.fs"));
    if (how === "truncated after a power loss") await Deno.truncate(path("Data.fs"), backup.length);
    else if (how === "replaced by a backup") await Deno.rename(path("backup.fs"), path("Data.fs"));
    else await Deno.writeFile(path("Data.fs"), backup);
    await Deno.remove(path("Data.fs.index"));

    await primary.log.waitFor(new RegExp(`rolled back: it had transactions up to ${lost}`));
    assert.match((await ours.log.waitFor(/refuses this replica/)).message, new RegExp(`ahead: .*${lost}`));
    assert.match((await python.waitForLog(/refused: ahead/)).message, new RegExp(lost));
    const from = ours.log.lines.items.length;
    const other = await commitAlone(path("Data.fs"), "other");
    assert.match(
      (await ours.log.waitFor(/refuses this replica: .*forked/, { from })).message,
      new RegExp(`${lost}.*common.*${kept}.*followed by ${other}`),
    );
    await python.waitForLog(/refused: forked/);
    await using again = await startSecondary({ path: path("late.fs"), replicateFrom: primary.address });
    await again.waitForTid(other);
    await assertSameFile(path("late.fs"), path("Data.fs"));
    await ours.stop();
    await python.close();
    assertSameBytes(await Deno.readFile(path("ours.fs")), before[0]!);
    assertSameBytes(await Deno.readFile(path("python.fs")), before[1]!);
  });
}

peerTest(
  "a zc.zrs primary that drops us again and again at the same tid is recognised",
  ["zodb55"],
  async () => {
    await using directory = await TempDirectory.make();
    const path = (name: string) => directory.join(name);
    await makeSourceAndCopies(path("Data.fs"), path("ours.fs"));
    const ahead = await commitAlone(path("ours.fs"), "more");
    const before = await Deno.readFile(path("ours.fs"));
    await using primary = await ZrsPrimary.start({ path: path("Data.fs"), replicateTo: "127.0.0.1:0" });
    await using ours = await startSecondary({ path: path("ours.fs"), replicateFrom: primary.address });
    const { level, message } = await ours.log.waitFor(/ended 3 connections in a row/);
    assert.equal(level, "error");
    assert.match(message, new RegExp(`after ${ahead}.*ahead or forked.*TidTooHigh`));
    await primary.waitForLog(/TidTooHigh/);
    await ours.log.waitFor(/ended 6 connections in a row/);
    await ours.stop();
    assertSameBytes(await Deno.readFile(path("ours.fs")), before);
    await primary.close();
  },
);

peerTest("a zc.zrs primary that cannot send a transaction is recognised", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const path = (name: string) => directory.join(name);
  let before: string;
  {
    await using writer = await ZodbWriter.start("zodb55", { path: path("Data.fs"), blobDir: path("blobs") });
    before = (await writer.commit([["a", 10]])).tid;
    await writer.commitBlobs([["blob", 100]]);
    await writer.close();
  }
  // Without its blob directory it breaks off within the transaction that has the blob, at each attempt.
  await using primary = await ZrsPrimary.start({ path: path("Data.fs"), replicateTo: "127.0.0.1:0" });
  await using ours = await startSecondary({ path: path("ours.fs"), replicateFrom: primary.address });
  const { message } = await ours.log.waitFor(/ended 3 connections in a row/);
  assert.match(message, new RegExp(`after ${before}.*unable to send the next one`));
  await ours.stop();
  await using zodb = await OpenCheck.start("zodb55");
  assert.equal((await zodb.check(path("ours.fs"), { transactions: false })).tid, before);
  await primary.close();
});

peerTest("a copy that is ahead of a chained node waits for it, whoever wrote it", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const path = (name: string) => directory.join(name);
  await makeSourceAndCopies(path("Data.fs"), path("middle.fs"));
  const ahead = await commitAlone(path("Data.fs"), "more");
  await Deno.copyFile(path("Data.fs"), path("ours.fs"));
  await Deno.copyFile(path("Data.fs"), path("python.fs"));
  const next = await commitAlone(path("Data.fs"), "and more");

  // The chained node begins without its source, and so lags behind those that replicate from it.
  await using middle = await startSecondary({
    path: path("middle.fs"),
    replicateFrom: path("source-socket"),
    replicateTo: { transport: "unix", path: path("middle-socket") },
  });
  await using ours = await startSecondary({ path: path("ours.fs"), replicateFrom: middle.address });
  await using python = await ZrsSecondary.start({ path: path("python.fs"), replicateFrom: middle.address });
  await middle.log.lines.waitFor(
    "both to wait",
    () => middle.log.matching(new RegExp(`ahead of this replica: has ${ahead}.*waits`)).length === 2,
  );
  await using primary = await startPrimary({
    path: path("Data.fs"),
    replicateTo: { transport: "unix", path: path("source-socket") },
  });
  await ours.waitForTid(next);
  await python.waitFor(next);
  assert.deepEqual([...ours.log.complaints(), ...primary.log.complaints()], []);
  await python.close();
  await assertSameFile(path("ours.fs"), path("Data.fs"));
  await assertSameFile(path("python.fs"), path("Data.fs"));
});
