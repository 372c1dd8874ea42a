/** The end of a file's last whole transaction, sought from its end. */
import assert from "node:assert/strict";
import { findEndBackwards, FIRST_POSITION } from "../../lib/filestorage/mod.ts";
import { NO_TID } from "../../lib/zodb/mod.ts";
import { dataFs } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";

const PATH = "/data/Data.fs";
const REACH = 1 << 20;

function endOf(bytes: Uint8Array, reach = REACH) {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  using file = disk.openRead(PATH);
  return findEndBackwards(file, reach);
}

const nested = dataFs([1n, 2n, 3n].map((tid) => ({ tid, records: [{ oid: tid, data: "inside" }] }))).bytes;
const { bytes, transactions } = dataFs([
  { tid: 10n, records: [{ oid: 0n, data: "root" }, { oid: 1n, data: "one" }] },
  { tid: 20n, user: "somebody", records: [{ oid: 1n, data: "more" }] },
  { tid: 30n, records: [{ oid: 2n, data: nested }] },
  { tid: 40n, records: [{ oid: 2n, data: "last" }] },
]);

Deno.test("wherever a file was cut off, the transactions before are its end, not those in an object's data", () => {
  for (let size = FIRST_POSITION; size <= bytes.length; size++) {
    const last = transactions.findLastIndex(({ end }) => end <= size);
    const expected = last < 0
      ? { end: FIRST_POSITION, lastTid: NO_TID }
      : { end: transactions[last]!.end, lastTid: BigInt(last + 1) * 10n };
    assert.deepEqual(endOf(bytes.subarray(0, size)), expected, `cut at ${size}`);
  }
});

Deno.test("a transaction that is not finished is not the end, nor is what lies behind it", () => {
  const head = [{ tid: 10n, records: [{ oid: 0n, data: "root" }] }];
  const voted = { tid: 20n, status: "c" as const, records: [{ oid: 0n, data: "voted" }] };
  const behind = { tid: 30n, records: [{ oid: 0n, data: "behind" }] };
  const { end } = dataFs(head);
  for (const tail of [[voted], [voted, behind]]) {
    assert.deepEqual(endOf(dataFs([...head, ...tail]).bytes), { end, lastTid: 10n });
  }
});

Deno.test("an end farther away than the reach is not found", () => {
  const torn = bytes.subarray(0, transactions[3]!.end - 1);
  assert.equal(endOf(torn, 10), undefined);
});
