/** Undos of every kind, of real ZODB, arrive as they are: over both protocols, from zc.zrs and from us, live and late. */
import assert from "node:assert/strict";
import { type RunningNode, startPrimary, startSecondary } from "../kit/node.ts";
import { OpenCheck, peerTest, ZodbWriter, ZrsPrimary, ZrsSecondary } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";
import type { Secondary } from "../../lib/replica/mod.ts";
import { COPIES, startCopies } from "./copies.ts";
import { assertSameDatabase, assertSameFile } from "./sameness.ts";

interface Undone {
  /** The last transaction. */
  readonly tid: string;
  /** The undo for which ZODB had to merge what came later, and the object. */
  readonly merged: { readonly tid: string; readonly oid: string };
}

/** Chains of undos, redos, undone and redone creations and deletions, several at once, and a merged one. */
async function writeUndos(writer: ZodbWriter): Promise<Undone> {
  const oid = "0000000000000007";
  const { tids } = await writer.store(["one", "two", "three"].map((text) => ({ records: [{ oid, text }] })));
  await writer.commitMany({ count: 10, size: 50, objects: 3, keys: 12 });
  await writer.undo([1]);
  await writer.undo([1], { description: "undo of an undo" });
  await writer.undo([1], { description: "undo of an undo of an undo" });
  await writer.undo([6, 7], { description: "two at once, of different objects" });
  await writer.undo([tids[2]!]);
  await writer.undo([tids[1]!]);
  await writer.undo([tids[0]!], { description: "undo of the creation" });
  await writer.undo([1], { description: "creation again" });
  await writer.store([{ records: [{ oid, delete: true }] }]);
  await writer.undo([1], { description: "undo of a deletion" });
  await writer.undo([1], { description: "deletion again" });
  await writer.undo([1], { description: "and back" });

  await writer.count("counter", 1);
  const added = await writer.count("counter", 30);
  await writer.count("counter", 500);
  const resolved = await writer.undo([added.tid], { description: "undo that keeps what came later" });
  await writer.undo([1], { description: "redo of a merged undo" });
  await writer.undo([1], { description: "undo of that redo" });

  await writer.undo([1, 2, 3], { description: "three at once, of one object" });
  await writer.store([{ records: [{ oid, text: "first" }, { oid, text: "last counts" }] }]);
  const { tid } = await writer.store([{ records: [{ oid, text: "after" }] }]);
  return { tid, merged: { tid: resolved.tid, oid: added.oid } };
}

/** ZODB stored the merged state, of which there was none to point back to. */
async function assertMerged(zodb: OpenCheck, path: string, { tid, oid }: Undone["merged"]): Promise<void> {
  const undo = (await zodb.check(path)).transactions!.find((each) => each.tid === tid);
  const record = undo?.records.find((each) => each.oid === oid);
  assert(record !== undefined && record.length !== null, "the undo has a record of the counter");
  assert.equal(record.backPointer, null);
}

for (const environment of ["zodb55", "zodb6"] as const) {
  peerTest(`undos come from our primary byte by byte (${environment})`, ["zodb55", environment], async () => {
    await using directory = await TempDirectory.make();
    const path = (name: string) => directory.join(`${name}.fs`);
    await using writer = await ZodbWriter.start(environment, { path: path("source") });
    await using primary = await startPrimary({ path: path("source") });
    await using live = await startCopies(primary.address, (name) => path(`${name} live`));
    const { tid, merged } = await writeUndos(writer);
    await using late = await startCopies(primary.address, (name) => path(`${name} late`));
    for (const copies of [live, late]) {
      await copies.waitForTid(tid);
      await copies.close();
    }
    await writer.close();
    await using zodb = await OpenCheck.start(environment);
    await assertMerged(zodb, path("source"), merged);
    for (const name of COPIES) {
      await assertSameFile(path(`${name} live`), path("source"));
      await assertSameFile(path(`${name} late`), path("source"));
    }
    await assertSameDatabase(zodb, path("zrs2 live"), path("source"));
    assert.deepEqual(primary.log.complaints(), []);
  });

  peerTest(
    `undos come from zc.zrs byte by byte, and go on (${environment})`,
    ["zodb55", environment],
    async () => {
      await using directory = await TempDirectory.make();
      const path = (name: string) => directory.join(`${name}.fs`);
      // zc.zrs runs beside ZODB 5.5 only: what ZODB 6 wrote is served by it afterwards.
      const isLive = environment === "zodb55";
      await using writer = await ZodbWriter.start(environment, {
        path: path("source"),
        ...isLive && { replicateTo: "127.0.0.1:0" },
      });
      await using copies = new AsyncDisposableStack();
      const follow = async (replicateFrom: string, name: string) => {
        const middle: RunningNode<Secondary> = copies.use(
          await startSecondary({
            path: path(`ours ${name}`),
            replicateFrom,
            replicateTo: { transport: "tcp", host: "127.0.0.1", port: 0 },
          }),
        );
        const native = copies.use(
          await startSecondary({ path: path(`native ${name}`), replicateFrom: middle.address }),
        );
        const python = copies.use(
          await ZrsSecondary.start({ path: path(`python ${name}`), replicateFrom: middle.address }),
        );
        return async (tid: string) => {
          for (const each of [middle, native]) await each.waitForTid(tid);
          await python.waitFor(tid);
          await python.close();
          for (const kind of ["ours", "native", "python"]) {
            await assertSameFile(path(`${kind} ${name}`), path("source"));
          }
          assert.equal(middle.node.status().source?.protocol, "zrs2.1");
          assert.equal(native.node.status().source?.protocol, "native");
        };
      };
      const live = isLive ? await follow(writer.address, "live") : undefined;
      const { tid, merged } = await writeUndos(writer);
      await live?.(tid);
      await writer.close();
      await using late = await ZrsPrimary.start({ path: path("source"), replicateTo: "127.0.0.1:0" });
      await (await follow(late.address, "late"))(tid);
      await late.close();
      await using zodb = await OpenCheck.start(environment);
      await assertMerged(zodb, path("python late"), merged);
      await assertSameDatabase(zodb, path("python late"), path("source"));
    },
  );
}
