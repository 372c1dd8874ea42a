/** The source is packed while we follow it: a copy keeps what it had, and gets what is left of the rest. */
import assert from "node:assert/strict";
import type { Primary } from "../../lib/replica/mod.ts";
import { type RunningNode, startPrimary, startSecondary } from "../kit/node.ts";
import { assertSameHistory, type History } from "../kit/history.ts";
import { OpenCheck, peerTest, ZodbWriter, ZrsSecondary } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";
import { COPIES, startCopies } from "./copies.ts";
import { sizeOf, waitForChanges } from "./processes.ts";
import { assertCurrentState, assertSameDatabase, assertSameFile } from "./sameness.ts";

/** All transactions that a source ever had, as they were before a pack took away from them. */
class EverSeen {
  readonly #transactions = new Map<string, History[number]>();

  note(history: History): void {
    for (const transaction of history) {
      if (!this.#transactions.has(transaction.tid)) this.#transactions.set(transaction.tid, transaction);
    }
  }

  get history(): History {
    return [...this.#transactions.values()];
  }
}

/** Changes, garbage, undos that reach over the next pack. @returns the last tid */
async function writeBetweenPacks(writer: ZodbWriter, round: number): Promise<string> {
  await writer.commit([["stays", 100], [`garbage ${round}`, 500], ["big", 300_000]]);
  await writer.commitMany({ count: 5, size: 200, objects: 4, keys: 10 });
  await writer.commit([["stays", 200]]);
  await writer.undo([1]);
  await writer.commit([[`garbage ${round}`, null]]);
  return (await writer.commit([["stays", round]])).tid;
}

/** Packs, and waits until the primary has gone on to the packed file. */
async function packAndNotice(
  writer: ZodbWriter,
  primary: RunningNode<Primary>,
  options: Parameters<ZodbWriter["pack"]>[0],
): Promise<void> {
  const from = primary.log.lines.items.length;
  await writer.pack(options);
  await primary.log.waitFor(/has been packed or replaced/, { from });
}

/** What our copies are told over zrs2 where the source has been packed behind what they have. */
const CANNOT_BE_KNOWN =
  /has been packed behind [0-9a-f]{16} .* goes on with [0-9a-f]{16} .*It cannot be known by zrs2 whether both have the same/;

for (const environment of ["zodb55", "zodb6"] as const) {
  peerTest(
    `a copy follows what a ZEO server commits, undoes and packs (${environment})`,
    [environment],
    async () => {
      await using directory = await TempDirectory.make();
      const [source, copy] = [directory.join("Data.fs"), directory.join("copy.fs")];
      await using writer = await ZodbWriter.start(environment, { path: source, zeo: true });
      await using primary = await startPrimary({ path: source });
      await using secondary = await startSecondary({ path: copy, replicateFrom: primary.address });
      const seen = new EverSeen();
      for (let round = 0; round < 3; round++) {
        const tid = await writeBetweenPacks(writer, round);
        seen.note(await writer.history());
        await secondary.waitForTid(tid);
        if (round === 0) await assertSameFile(copy, source);
        await packAndNotice(writer, primary, { tid });
      }
      const { tid } = await writer.commit([["stays", "to the end"]]);
      seen.note(await writer.history());
      await secondary.waitForTid(tid);
      await writer.close();
      await using zodb = await OpenCheck.start(environment);
      assertSameHistory((await zodb.check(copy)).transactions ?? [], seen.history);
      await assertCurrentState(zodb, copy, source);
      assert.deepEqual([...primary.log.complaints(), ...secondary.log.complaints()], []);
    },
  );

  peerTest(
    `copies of every kind that are attached keep their history over packs (${environment})`,
    ["zodb55", environment],
    async () => {
      await using directory = await TempDirectory.make();
      const path = (name: string) => directory.join(`${name}.fs`);
      await using writer = await ZodbWriter.start(environment, { path: path("source") });
      await using primary = await startPrimary({ path: path("source") });
      await using copies = await startCopies(primary.address, path);
      const seen = new EverSeen();
      for (let round = 0; round < 4; round++) {
        const tid = await writeBetweenPacks(writer, round);
        seen.note(await writer.history());
        await copies.waitForTid(tid);
        // Without garbage collection ZODB cannot pack what an undo behind the pack time leads back to.
        const gc = round !== 1;
        if (gc) await writer.undo([1], { description: "undone after the copy has it" });
        seen.note(await writer.history());
        await packAndNotice(writer, primary, { tid, keepOld: round % 2 === 0, gc });
      }
      const { tid } = await writer.commit([["stays", "to the end"]]);
      seen.note(await writer.history());
      await copies.waitForTid(tid);
      assert.deepEqual([...primary.log.complaints(), ...copies.complaints()], []);
      await copies.close();
      assert.equal(primary.log.matching(/has been packed or replaced/).length, 4);
      await using zodb = await OpenCheck.start(environment);
      for (const name of COPIES) {
        const found = await zodb.check(path(name), { fsrefs: true });
        assert.deepEqual([found.fstest, found.fsrefs], [null, null]);
        assertSameHistory(found.transactions ?? [], seen.history);
        await assertCurrentState(zodb, path(name), path("source"));
      }
    },
  );

  peerTest(
    `copies of every kind that are catching up go on behind a pack (${environment})`,
    ["zodb55", environment],
    async () => {
      await using directory = await TempDirectory.make();
      await using place = await TempDirectory.make();
      const source = directory.join("source.fs");
      const path = (name: string) => place.join(`${name}.fs`);
      await using writer = await ZodbWriter.start(environment, { path: source });
      await writer.commitMany({ count: 400, size: 5_000, objects: 2, keys: 40 });
      await writer.undo([1]);
      // So slow that the pack is over long before they are.
      await using primary = await startPrimary({ path: source, bytesPerSecond: 1_000_000 });
      await using copies = await startCopies(primary.address, path);
      // By the native stream a copy grows by runs, here by one that has everything.
      const begun = () => sizeOf(path("zrs2")) > 50_000 && sizeOf(path("python")) > 50_000;
      await waitForChanges("copies to begin", place.path, begun);
      const unpacked = sizeOf(source);
      assert(COPIES.every((name) => sizeOf(path(name)) < unpacked), "they are on their way");
      await packAndNotice(writer, primary, { keepOld: environment === "zodb55" });
      assert(sizeOf(source) < unpacked / 2);
      const { tid } = await writer.commit([["stays", "to the end"]]);
      await copies.waitForTid(tid);
      await copies.close();
      await writer.close();
      await using zodb = await OpenCheck.start(environment);
      for (const name of COPIES) {
        assert.equal((await zodb.check(path(name), { transactions: false })).fstest, null);
        await assertCurrentState(zodb, path(name), source);
      }
      const told = copies.zrs2.log.complaints();
      assert.equal(told.length, 1, told.join("\n"));
      assert.match(told[0]!, CANNOT_BE_KNOWN);
    },
  );

  peerTest(`a copy that begins after a pack is byte-identical (${environment})`, [environment], async () => {
    await using directory = await TempDirectory.make();
    const source = directory.join("Data.fs");
    await using writer = await ZodbWriter.start(environment, { path: source });
    await using primary = await startPrimary({ path: source });
    for (let round = 0; round < 3; round++) {
      const tid = await writeBetweenPacks(writer, round);
      await writer.undo([1]);
      await packAndNotice(writer, primary, { tid });
      const last = await writer.commit([["stays", "after"]]);
      const copy = directory.join(`copy-${round}.fs`);
      await using secondary = await startSecondary({ path: copy, replicateFrom: primary.address });
      await secondary.waitForTid(last.tid);
      await assertSameFile(copy, source);
    }
  });

  peerTest(
    `copies of every kind that were away during packs get what is left (${environment})`,
    ["zodb55", environment],
    async () => {
      await using directory = await TempDirectory.make();
      const source = directory.join("Data.fs");
      const path = (name: string) => directory.join(`${name}.fs`);
      await using writer = await ZodbWriter.start(environment, { path: source });
      await using primary = await startPrimary({ path: source });
      for (let round = 0; round < 3; round++) {
        await writeBetweenPacks(writer, round);
        const { tid } = await writer.commit([["stays", "seen by the copy"], ["short-lived", 10]]);
        {
          await using copies = await startCopies(primary.address, path);
          await copies.waitForTid(tid);
          await copies.close();
        }
        // The copy's last transaction changes nothing that is there after the pack, and so goes.
        await writer.commit([["stays", "not seen"], ["short-lived", null]]);
        const packTo = await writeBetweenPacks(writer, round + 10);
        await writer.undo([1]);
        const before = primary.log.lines.items.length;
        await writer.pack({ tid: packTo, keepOld: round !== 0 });
        await primary.log.waitFor(/has been packed or replaced/, { from: before });
      }
      const { tid } = await writer.commit([["stays", "to the end"]]);
      await using copies = await startCopies(primary.address, path);
      await copies.waitForTid(tid);
      const [native, zrs2] = [copies.native.log.complaints(), copies.zrs2.log.complaints()];
      await copies.close();
      // Contents are compared by the native stream; tids tell nothing. It is told once for both that come with these.
      assert.equal(
        primary.log.matching(/beyond the pack: .* the last that could be compared and is the same/).length,
        3,
      );
      assert.equal(primary.log.matching(/beyond the pack: .* tids alone cannot tell/).length, 3);
      assert.deepEqual([native.length, zrs2.length], [1, 1]);
      assert.match(native[0]!, /beyond the pack: .* may have been packed away here, which you will not get/);
      assert.match(zrs2[0]!, CANNOT_BE_KNOWN);
      await using zodb = await OpenCheck.start(environment);
      for (const name of COPIES) {
        assert.equal((await zodb.check(path(name), { transactions: false })).fstest, null);
        await assertCurrentState(zodb, path(name), source);
      }
    },
  );

  peerTest(
    `copies of which a pack has left nothing to compare are told so, another database's too (${environment})`,
    ["zodb55", environment],
    async () => {
      await using directory = await TempDirectory.make();
      const path = (name: string) => directory.join(`${name}.fs`);
      const other = (name: string) => path(`other ${name}`);
      await using writer = await ZodbWriter.start(environment, { path: path("source") });
      await using stranger = await ZodbWriter.start(environment, { path: path("stranger") });
      await using primary = await startPrimary({ path: path("source") });
      for (const [source, name, copy] of [[writer, "source", path], [stranger, "stranger", other]] as const) {
        const { tid } = await source.commit([["a", 10], ["b", 20]]);
        await using begins = await startPrimary({ path: path(name) });
        await using copies = await startCopies(begins.address, copy);
        await copies.waitForTid(tid);
        await copies.close();
      }
      await writer.commit([["a", 11], ["b", 21], ["c", 30]]);
      await packAndNotice(writer, primary, {});
      const { tid } = await writer.commit([["a", "after"]]);
      for (const copy of [path, other]) {
        await using copies = await startCopies(primary.address, copy);
        await copies.waitForTid(tid);
        assert.match(copies.native.log.complaints().join("\n"), /NOTHING that you have could be compared/);
        assert.match(copies.zrs2.log.complaints().join("\n"), CANNOT_BE_KNOWN);
        await copies.close();
      }
    },
  );

  peerTest(`voted transactions wait until they are finished (${environment})`, [environment], async () => {
    await using directory = await TempDirectory.make();
    const [source, copy] = [directory.join("Data.fs"), directory.join("copy.fs")];
    await using writer = await ZodbWriter.start(environment, { path: source });
    await using primary = await startPrimary({ path: source });
    await using secondary = await startSecondary({ path: copy, replicateFrom: primary.address });
    const held = (size: number) => ({ records: [{ oid: "0000000000000009", size }], description: "held" });
    for (const size of [10, 100_000, 3_000_000]) {
      await writer.commit([["a", size]]);
      await writer.hold(held(size));
      await writer.abortHeld();
      await writer.commit([["a", 1]]);
      await writer.hold(held(size + 1));
      const { tid } = await writer.finishHeld();
      await secondary.waitForTid(tid);
      await writer.hold(held(size));
      await writer.abortHeld();
      await writer.hold(held(size));
      await writer.abortHeld();
    }
    await writer.hold(held(100));
    await writer.kill();
    await using successor = await ZodbWriter.start(environment, { path: source });
    const { tid } = await successor.commit([["a", 100]]);
    await secondary.waitForTid(tid);
    await assertSameFile(copy, source);
    assert.deepEqual([...primary.log.complaints(), ...secondary.log.complaints()], []);
  });
}

peerTest(
  "transactions without records are copied, and Python's copies do without",
  ["zodb55", "zodb6"],
  async () => {
    await using directory = await TempDirectory.make();
    const path = (name: string) => directory.join(name);
    await using writer = await ZodbWriter.start("zodb6", { path: path("Data.fs") });
    await using primary = await startPrimary({ path: path("Data.fs") });
    await using ours = await startSecondary({ path: path("ours.fs"), replicateFrom: primary.address });
    await using python = await ZrsSecondary.start({
      path: path("python.fs"),
      replicateFrom: primary.address,
      reconnectDelay: 0.05,
    });
    const empty = { user: "nobody", description: "nothing", extension: { k: 1 }, records: [] };
    await writer.store([empty, empty]);
    await writer.commit([["a", 10]]);
    const { tid } = await writer.store([empty]);
    await ours.waitForTid(tid);
    await assertSameFile(path("ours.fs"), path("Data.fs"));
    await python.disconnect();
    const last = await writer.commit([["a", 20]]);
    await python.waitFor(last.tid);
    await python.close();
    await using zodb = await OpenCheck.start("zodb6");
    const expected = (await writer.history()).filter(({ records }) => records.length > 0);
    assertSameHistory((await zodb.check(path("python.fs"))).transactions ?? [], expected);
  },
);

peerTest("a zc.zrs primary is packed while we copy it, are away, or begin", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const path = (name: string) => directory.join(name);
  await using writer = await ZodbWriter.start("zodb55", {
    path: path("Data.fs"),
    replicateTo: "127.0.0.1:0",
  });
  await using attached = await startSecondary({ path: path("attached.fs"), replicateFrom: writer.address });
  const seen = new EverSeen();
  {
    await using away = await startSecondary({ path: path("away.fs"), replicateFrom: writer.address });
    const { tid } = await writer.commit([["a", 10], ["garbage", 10]]);
    await away.waitForTid(tid);
  }
  let tid = await writeBetweenPacks(writer, 0);
  seen.note(await writer.history());
  await attached.waitForTid(tid);
  await writer.pack({ tid });
  tid = (await writer.commit([["a", 30]])).tid;
  seen.note(await writer.history());
  await using away = await startSecondary({ path: path("away.fs"), replicateFrom: writer.address });
  await using begins = await startSecondary({ path: path("begins.fs"), replicateFrom: writer.address });
  for (const each of [attached, away, begins]) {
    await each.waitForTid(tid);
    await each.stop();
    const complaints = each.log.complaints();
    assert.equal(complaints.length, each === away ? 1 : 0, complaints.join("\n"));
    for (const told of complaints) assert.match(told, CANNOT_BE_KNOWN);
  }
  await using zodb = await OpenCheck.start("zodb55");
  assertSameHistory((await zodb.check(path("attached.fs"))).transactions ?? [], seen.history);
  await assertCurrentState(zodb, path("away.fs"), path("Data.fs"));
  await assertSameDatabase(zodb, path("begins.fs"), path("Data.fs"), { fsrefs: true });
  await assertSameFile(path("begins.fs"), path("Data.fs"));
});
