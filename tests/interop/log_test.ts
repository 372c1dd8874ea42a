/** `zrs log` of files that real ZODB wrote tells what ZODB itself finds there. */
import assert from "node:assert/strict";
import { History, listRecords, listTransactions, type TransactionEntry } from "../../lib/filestorage/mod.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { formatOidDigits, formatTid } from "../../lib/zodb/mod.ts";
import type { EnvironmentName } from "../kit/environments.ts";
import { peerTest, ZodbWriter } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";

const PERSISTENT = new Set([
  "persistent.mapping.PersistentMapping",
  "persistent.Persistent",
  "BTrees.IOBTree.IOBTree",
]);

for (const environment of ["zodb55", "zodb6"] satisfies EnvironmentName[]) {
  peerTest(`a log of a file that ${environment} writes is its history`, [environment], async () => {
    await using directory = await TempDirectory.make();
    const path = directory.join("Data.fs");
    await using writer = await ZodbWriter.start(environment, { path });
    await writer.commit([["a", 10], ["b", 20]], { user: "zoë", description: "two\nlines" });
    await writer.commitMany({ count: 10, size: 50, objects: 2, keys: 5 });
    await writer.pack();
    await writer.commit([["new", 10]], { extension: { request_type: "web", number: 3 } });
    await writer.undo([1]);
    await writer.undo([1]);
    const held = { records: [{ oid: "0000000000000000", size: 99 }] };
    await writer.hold(held); // a commit under way is not shown
    using history = await History.open(systemHost().disk, path);
    const entries: TransactionEntry[] = await Array.fromAsync(listTransactions(history, {}));
    await writer.abortHeld();
    const expected = await writer.history();
    assert.deepEqual(
      entries.map(({ tid, status, user, description, extension, position, records }) => ({
        tid: formatTid(tid),
        status: String.fromCharCode(status),
        user: user.toBase64(),
        description: description.toBase64(),
        extension: extension.toBase64(),
        position,
        records,
      })),
      expected.map(({ records, ...transaction }) => ({ ...transaction, records: records.length })),
    );
    assert(entries.some(({ status }) => status === 0x70) && entries.some(({ status }) => status === 0x20));
    // The newest two have been undone and redone; what a pack has been through is no undo any more.
    assert.deepEqual(entries.slice(-2).map(({ isUndo }) => isUndo), [true, true]);
    assert.equal(entries.filter(({ isUndo }) => isUndo).length, 2);
    let undone = 0;
    entries.forEach(({ position }, at) => {
      const records = [...listRecords(history, position)];
      assert.deepEqual(
        records.map(({ oid, length, dataTid }) => ({
          oid: formatOidDigits(oid),
          length: length ?? null,
          dataTid: dataTid === undefined ? null : formatTid(dataTid),
        })),
        expected[at]!.records.map(({ oid, length, dataTxn }) => ({
          oid,
          length,
          dataTid: length === null ? null : dataTxn,
        })),
      );
      for (const { className, length } of records) {
        if (length === undefined) undone++;
        else assert(PERSISTENT.has(className!), className);
      }
    });
    assert(undone > 0);
  });
}
