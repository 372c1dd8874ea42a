/** An old primary that went on for a moment becomes a replica of the one that took over, as processes and with real ZODB. */
import assert from "node:assert/strict";
import { OpenCheck, peerTest, ZodbWriter, ZrsPrimary } from "../kit/peers.ts";
import { runZrs } from "../kit/process.ts";
import { TempDirectory } from "../kit/temp.ts";
import { sizeOf, waitForChanges, ZrsProcess } from "./processes.ts";
import { assertSameDatabase, assertSameFile } from "./sameness.ts";

/** Commits to a file that nobody else has open. */
async function commitTo(path: string, count: number, size: number): Promise<void> {
  await using writer = await ZodbWriter.start("zodb55", { path });
  await writer.commitMany({ count, size, objects: 3, keys: 10 });
  await writer.undo([1]);
  await writer.close();
}

/** Waits until a secondary's file is as long as its source's. */
async function hasCaughtUp(directory: TempDirectory, copy: string, source: string): Promise<void> {
  await waitForChanges(`${copy} to catch up`, directory.path, () => sizeOf(copy) === sizeOf(source));
}

/** Two machines that were replicas of each other until each went on alone: 8 transactions here, 6 there. */
async function failOver(directory: TempDirectory): Promise<{ old: string; next: string }> {
  const [old, next] = [directory.join("old.fs"), directory.join("next.fs")];
  await commitTo(old, 50, 200);
  {
    await using primary = await ZrsProcess.start(directory, "primary", old, "--replicate-to", "0");
    const from = ["--replicate-from", primary.address];
    await using secondary = await ZrsProcess.start(directory, "secondary", next, ...from);
    await hasCaughtUp(directory, next, old);
    assert.equal(await secondary.stop(), 0);
    assert.equal(await primary.stop(), 0);
  }
  await commitTo(old, 7, 300);
  await commitTo(next, 5, 100);
  return { old, next };
}

for (const how of ["zrs rewind --from", "--rewind auto"] as const) {
  peerTest(`an old primary follows the new one after ${how}`, ["zodb55"], async () => {
    await using directory = await TempDirectory.make();
    const { old, next } = await failOver(directory);
    await using primary = await ZrsProcess.start(directory, "primary", next, "--replicate-to", "0");
    const from = ["--replicate-from", primary.address, "--retry-max", "0.1"];
    if (how === "zrs rewind --from") {
      await using refused = await ZrsProcess.start(directory, "secondary", old, ...from);
      await refused.process.stderr.waitFor("a refusal", (line) => /refuses this replica: forked/.test(line));
      await refused.stop();
      const { code, out, err } = await runZrs("rewind", old, "--from", primary.address, "--yes");
      assert.deepEqual([code, err], [0, ""]);
      assert.match(
        out,
        /says: forked: .*\nRewinding .* takes back 8 transactions, [^]*; 8 transactions saved in /,
      );
      const again = await runZrs("rewind", old, "--from", primary.address, "--yes");
      assert.equal(again.code, 0);
      assert.match(again.out, /would go on behind that: there is nothing to take back$/);
    }
    const auto = how === "--rewind auto" ? ["--rewind", "auto"] : [];
    await using secondary = await ZrsProcess.start(directory, "secondary", old, ...from, ...auto);
    await hasCaughtUp(directory, old, next);
    await commitTo(next, 20, 500);
    await hasCaughtUp(directory, old, next);
    assert.equal(await secondary.stop(), 0);
    const complaints = secondary.log.filter((line) => / (WARNING|ERROR) /.test(line));
    assert.equal(complaints.length, auto.length / 2, complaints.join("\n"));
    assert(complaints.every((line) => /Rewound .* 8 transactions taken back/.test(line)));

    await assertSameFile(old, next);
    await using zodb = await OpenCheck.start("zodb55");
    await assertSameDatabase(zodb, old, next);
    assert.equal((await zodb.check(old, { readOnly: false })).usedIndex, true);
    const saved = [...Deno.readDirSync(directory.path)].filter(({ name }) =>
      /^old\.fs\.rewound-[0-9a-f]{16}$/.test(name)
    );
    assert.equal(saved.length, 1);
    const { fstest, transactions } = await zodb.check(directory.join(saved[0]!.name));
    assert.deepEqual([fstest, transactions!.length], [null, 8]);
  });
}

peerTest("a primary of zc.zrs cannot say to what to rewind, and nothing is done", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const { old, next } = await failOver(directory);
  const before = sizeOf(old);
  await using python = await ZrsPrimary.start({ path: next, replicateTo: "127.0.0.1:0" });
  const { code, err } = await runZrs("rewind", old, "--from", python.address, "--yes");
  assert.equal(code, 4);
  assert.match(err, /^zrs rewind: Cannot compare with .*: it does not answer in zrs's native stream/);
  assert.equal(sizeOf(old), before);
  await python.close();
});
