/** Files beyond 4 GB and oids beyond 2^53: a sparse file on the real disk, which takes no room. */
import assert from "node:assert/strict";
import {
  FollowedFile,
  locateTid,
  MAGIC,
  RECORD,
  RecordReader,
  Storage,
  TRANSACTION,
  walkingReader,
} from "../../lib/filestorage/mod.ts";
import { HostDisk } from "../../lib/host/disk.ts";
import type { EnvironmentName } from "../kit/environments.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { OpenCheck, peerTest } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";
import { tidAt } from "./random_history.ts";
import { RunWriter } from "./replay.ts";

/** More than 32 bits can count, and not round. */
const HOLE_BYTES = 5 * 2 ** 32 + 12_345;
const LARGE_OID = 0xfedc_ba98_7654_3211n;
const HIGH = Number(LARGE_OID >> 32n);
const LOW = Number(LARGE_OID & 0xffff_ffffn);

/** One transaction with a record of zeros, and where it ends. */
function createSparse(path: string): number {
  const length = TRANSACTION.size + RECORD.size + HOLE_BYTES;
  const header = new Uint8Array(MAGIC.length + TRANSACTION.size + RECORD.size);
  const view = new DataView(header.buffer);
  header.set(MAGIC);
  view.setBigUint64(4 + TRANSACTION.tid, tidAt(0));
  view.setBigUint64(4 + TRANSACTION.length, BigInt(length));
  view.setUint8(4 + TRANSACTION.status, 0x20);
  const record = 4 + TRANSACTION.size;
  view.setBigUint64(record + RECORD.oid, 0n);
  view.setBigUint64(record + RECORD.tid, tidAt(0));
  view.setBigUint64(record + RECORD.transaction, 4n);
  view.setBigUint64(record + RECORD.dataLength, BigInt(HOLE_BYTES));
  const trailer = new Uint8Array(8);
  new DataView(trailer.buffer).setBigUint64(0, BigInt(length));
  using file = new HostDisk().create(path);
  file.writeAt(header, 0);
  file.writeAt(trailer, 4 + length);
  return 4 + length + 8;
}

/** Appends a record of an object with data, or with the data of another transaction. */
function append(writer: RunWriter, number: number, oid: bigint, data: string, dataTid?: bigint): void {
  const empty = new Uint8Array();
  const bytes = new TextEncoder().encode(data);
  const { restorer } = writer;
  restorer.begin({ tid: tidAt(number), status: 0x20, user: empty, description: empty, extension: empty });
  restorer.record(Number(oid >> 32n), Number(oid & 0xffff_ffffn), tidAt(number), dataTid, bytes.length);
  restorer.data(bytes, 0, bytes.length);
  restorer.endRecord();
  restorer.commit();
}

/** What the same transactions are behind a small one, moved to where they lie behind the hole. */
function expectedBehind(end: number): Uint8Array {
  const first: TransactionDescription = { tid: tidAt(0), records: [{ oid: 0n, data: "x" }] };
  const small = dataFs([
    first,
    { tid: tidAt(1), records: [{ oid: LARGE_OID, data: "one" }] },
    { tid: tidAt(2), records: [{ oid: LARGE_OID, data: "two" }] },
    { tid: tidAt(3), records: [{ oid: LARGE_OID, backPointer: [1, 0] }] },
  ]);
  const start = small.transactions[0]!.end;
  const bytes = small.bytes.slice(start);
  const view = new DataView(bytes.buffer);
  const move = (at: number) => {
    const position = view.getBigUint64(at - start);
    if (position !== 0n) view.setBigUint64(at - start, position + BigInt(end - start));
  };
  for (const { records } of small.transactions.slice(1)) {
    for (const { position } of records) {
      move(position + RECORD.previous);
      move(position + RECORD.transaction);
    }
  }
  move(small.transactions[3]!.records[0]!.position + RECORD.size);
  return bytes;
}

async function makeLarge(path: string): Promise<number> {
  const end = createSparse(path);
  await using storage = await Storage.open(new HostDisk(), path);
  assert.equal(storage.end, end);
  const writer = new RunWriter(storage, {});
  append(writer, 1, LARGE_OID, "one");
  append(writer, 2, LARGE_OID, "two");
  append(writer, 3, LARGE_OID, "one", tidAt(1));
  await writer.finish();
  await storage.saveIndex();
  return end;
}

Deno.test("a file beyond 4 GB is scanned, grows, is indexed, cut and followed", async () => {
  await using directory = await TempDirectory.make();
  const path = directory.join("Data.fs");
  const end = await makeLarge(path);
  const behind = expectedBehind(end);
  const size = end + behind.length;
  {
    using file = new HostDisk().openRead(path);
    const found = new Uint8Array(behind.length + 1);
    assert.equal(file.readAt(found, end), behind.length);
    assert.deepEqual(found.slice(0, -1), behind);
  }

  {
    await using storage = await Storage.open(new HostDisk(), path);
    assert.equal(storage.report.indexReason, undefined);
    assert.equal(storage.index.greatest, LARGE_OID);
    const record = new RecordReader(storage.file);
    record.read(storage.index.get(HIGH, LOW), HIGH, LOW);
    assert.equal(record.tid, tidAt(3));
    assert.equal(record.resolve(HIGH, LOW), true);
    assert.equal(record.tid, tidAt(1));
  }

  // The last transaction is torn; only its beginning is what is left behind the cut.
  using file = new HostDisk().openWrite(path);
  file.truncate(size - 1);
  const followed = await FollowedFile.open(new HostDisk(), path, () => Promise.resolve());
  const cutAt = size - (23 + 50 + 8);
  assert.equal(followed.view.end, cutAt);
  assert.equal(followed.view.lastTid, tidAt(2));
  const { generation } = followed.view;
  const reader = walkingReader(generation.file, cutAt);
  const location = await locateTid(reader, cutAt, tidAt(1), generation.map, () => Promise.resolve());
  assert.equal(location.kind === "found" && location.place.position, end);
  {
    await Deno.remove(`${path}.index`);
    await using storage = await Storage.open(new HostDisk(), path);
    assert.equal(storage.report.cut?.bytes, size - 1 - cutAt);
    assert.equal(storage.end, cutAt);
  }
  assert.equal(file.size(), cutAt);
  assert.deepEqual(await followed.refresh(), []);
  followed.close();
});

for (const environment of ["zodb55", "zodb6"] satisfies EnvironmentName[]) {
  peerTest(`${environment} opens a file beyond 4 GB with our index`, [environment], async () => {
    await using directory = await TempDirectory.make();
    const path = directory.join("Data.fs");
    const end = await makeLarge(path);
    await using check = await OpenCheck.start(environment);
    const opened = await check.check(path, { readOnly: false, transactions: false });
    assert.equal(opened.usedIndex, true);
    assert.equal(opened.fstest, null);
    assert.equal(opened.size, end + expectedBehind(end).length);
    assert.equal(opened.maxOid, LARGE_OID.toString(16));
    assert.equal(opened.tid, tidAt(3).toString(16).padStart(16, "0"));
  });
}
