/** What was rewound, and what was taken back, as real ZODB sees it; and how a rewound replica goes on. */
import assert from "node:assert/strict";
import { Appender } from "../../lib/filestorage/mod.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { NO_TID, parseTid } from "../../lib/zodb/mod.ts";
import { CrashFile } from "../filestorage/crash_file.ts";
import { tidAt } from "../filestorage/random_history.ts";
import { fileFrom } from "../filestorage/runs.ts";
import type { EnvironmentName } from "../kit/environments.ts";
import { assertSameHistory, type History } from "../kit/history.ts";
import { startPrimary, startSecondary } from "../kit/node.ts";
import { OpenCheck, peerTest, ZodbWriter } from "../kit/peers.ts";
import { rewind } from "../kit/rewind.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { TempDirectory } from "../kit/temp.ts";
import { assertSameDatabase, assertSameFile } from "./sameness.ts";

const { disk } = systemHost();

/** A file with everything: packed and unpacked, extensions, undo and redo, a creation undone, a deletion. */
async function writeEverything(environment: EnvironmentName, path: string): Promise<void> {
  await using writer = await ZodbWriter.start(environment, { path });
  await writer.commitMany({ count: 8, size: 60, objects: 2, keys: 5 });
  await writer.pack();
  await writer.commit([["a", 500], ["b", 20]], { user: "zoë", description: "after the pack" });
  await writer.commit([["a", 30]], { extension: { request_type: "web", numbers: [1, 2, 3] } });
  await writer.undo([1], { description: "back to the 500" });
  await writer.undo([1]);
  await writer.commit([["c", 70]]);
  await writer.undo([1]);
  await writer.store([{ records: [{ oid: "0000000000abcdef", size: 99 }] }]);
  await writer.store([{ records: [{ oid: "0000000000abcdef", delete: true }] }]);
  await writer.commitMany({ count: 3, size: 60, objects: 4, keys: 5 });
  await writer.close();
}

/** Without links to what is not there, and to no object. */
function linkedWithin(history: History): History {
  const tids = new Set(history.map(({ tid }) => tid));
  return history.map((transaction) => ({
    ...transaction,
    records: transaction.records.map((record) => ({
      ...record,
      dataTxn: record.dataTxn !== null && record.length !== null && tids.has(record.dataTxn)
        ? record.dataTxn
        : null,
    })),
  }));
}

for (const environment of ["zodb55", "zodb6"] satisfies EnvironmentName[]) {
  peerTest(`${environment} opens what was rewound, and what was taken back`, [environment], async () => {
    await using directory = await TempDirectory.make();
    const original = directory.join("Data.fs");
    await writeEverything(environment, original);
    await using zodb = await OpenCheck.start(environment);
    const { transactions: history = [] } = await zodb.check(original);
    assert(history.length > 12);
    for (let kept = 0; kept < history.length; kept++) {
      const path = directory.join(`${kept}.fs`);
      await Deno.copyFile(original, path);
      await Deno.copyFile(`${original}.index`, `${path}.index`);
      const tid = kept === 0 ? NO_TID : parseTid(history[kept - 1]!.tid);
      const { savedTo, end } = await rewind(disk, path, tid);
      assertSameBytes(await Deno.readFile(path), (await Deno.readFile(original)).slice(0, end));

      const scanned = directory.join("scanned.fs");
      await Deno.copyFile(path, scanned);
      const expected = await zodb.check(scanned);
      const found = await zodb.check(path, { readOnly: false });
      assert.equal(found.fstest, null);
      assert.equal(found.usedIndex, kept > 0);
      assert.deepEqual(found.savedTails, []);
      assert.deepEqual([found.objects, found.current], [expected.objects, expected.current]);
      assert.deepEqual(found.transactions, history.slice(0, kept));

      const saved = await zodb.check(savedTo, { readOnly: false });
      assert.equal(saved.fstest, null);
      assertSameHistory(linkedWithin(saved.transactions ?? []), linkedWithin(history.slice(kept)));
    }
  });

  peerTest(`${environment} opens what a crash leaves of a rewind, whole or cut`, [environment], async () => {
    await using directory = await TempDirectory.make();
    await using check = await OpenCheck.start(environment);
    let images = 0;
    for (const end of [488, 491, 495, 497, 500, 505, 512]) {
      const file = fileFrom(end, 300, 400, 500);
      const target = new CrashFile(file.bytes);
      await new Appender(target, file.end, tidAt(3)).takeBack(end, tidAt(0));
      for (const { bytes } of target.crashImages()) {
        const path = directory.join(`${images++}.fs`);
        await Deno.writeFile(path, bytes);
        const { size } = await check.check(path, { readOnly: false, transactions: false });
        assert([end, file.end].includes(size), `from ${end}: ${size}`);
        assertSameBytes(await Deno.readFile(path), file.bytes.slice(0, size));
      }
    }
    assert(images > 50, `only ${images} images`);
  });
}

peerTest("a replica that is refused goes on when it is rewound to where it says", ["zodb55"], async () => {
  for (const how of ["ahead", "forked"] as const) {
    await using directory = await TempDirectory.make();
    const [source, copy] = [directory.join("Data.fs"), directory.join("copy.fs")];
    await using writer = await ZodbWriter.start("zodb55", { path: source });
    await writer.commitMany({ count: 10, size: 100, objects: 3 });
    await Deno.copyFile(source, copy);
    {
      await using other = await ZodbWriter.start("zodb55", { path: copy });
      await other.commitMany({ count: 3, size: 100, objects: 2 });
      await other.undo([2]);
      await other.close();
    }
    if (how === "forked") await writer.commitMany({ count: 4, size: 50, objects: 2 });

    await using primary = await startPrimary({ path: source });
    let refusal: string;
    {
      await using refused = await startSecondary({ path: copy, replicateFrom: primary.address });
      refusal = (await refused.log.waitFor(/refuses this replica/)).message;
    }
    const said = how === "ahead" ? /source ends with ([0-9a-f]{16})/ : /last common one is ([0-9a-f]{16})/;
    const { transactions, savedTo } = await rewind(disk, copy, parseTid(said.exec(refusal)![1]!));
    assert.equal(transactions, 4);

    await using secondary = await startSecondary({ path: copy, replicateFrom: primary.address });
    const { tid } = await writer.commitMany({ count: 5, size: 80, objects: 3 });
    await secondary.waitForTid(tid);
    await secondary.stop();
    await primary.stop();
    await writer.close();
    await assertSameFile(copy, source);
    await using zodb = await OpenCheck.start("zodb55");
    await assertSameDatabase(zodb, copy, source);
    assert.equal((await zodb.check(copy, { readOnly: false })).usedIndex, true);
    assert.equal((await zodb.check(savedTo)).transactions!.length, 4);
  }
});

peerTest("whoever follows a file that is rewound is told, and goes on with it", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const path = directory.join("Data.fs");
  await writeEverything("zodb55", path);
  await using zodb = await OpenCheck.start("zodb55");
  const history = (await zodb.check(path)).transactions!;
  await using primary = await startPrimary({ path });
  await using copy = await startSecondary({
    path: directory.join("copy.fs"),
    replicateFrom: primary.address,
  });
  const last = history.at(-1)!.tid;
  const kept = history.at(-4)!.tid;
  await copy.waitForTid(last);
  await rewind(disk, path, parseTid(kept));
  await primary.log.waitFor(new RegExp(`rolled back: it had transactions up to ${last}`));
  assert.match((await copy.log.waitFor(/refuses this replica/)).message, new RegExp(`ends with ${kept}`));
});
