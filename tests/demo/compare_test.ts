import assert from "node:assert/strict";
import { CorruptError } from "../../lib/errors.ts";
import type { ReadableFile } from "../../lib/ports/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { differenceInHistory, firstDifference } from "./compare.ts";
import { survey } from "./survey.ts";

const HISTORY: readonly TransactionDescription[] = [
  { tid: 1n, records: [{ oid: 1n, data: "one" }, { oid: 2n, data: "two" }] },
  { tid: 2n, user: "user", records: [{ oid: 1n, data: "changed" }] },
  { tid: 3n, records: [{ oid: 1n, backPointer: [0, 0] }] },
  { tid: 4n, records: [{ oid: 2n, undone: true }] },
];

function file(bytes: Uint8Array): ReadableFile {
  const disk = new MemoryDisk();
  disk.put("/Data.fs", bytes);
  return disk.openRead("/Data.fs");
}

function history(transactions: readonly TransactionDescription[], tail = ""): ReadableFile {
  return file(dataFs(transactions, { tail }).bytes);
}

/** The history with one transaction in place of another. */
function withChange(index: number, change: Partial<TransactionDescription>): ReadableFile {
  return history(HISTORY.with(index, { ...HISTORY[index]!, ...change }));
}

Deno.test("files differ first where a byte does, or where one of them ends", () => {
  const large = new Uint8Array(3_000_000);
  for (const position of [0, 1, 1_048_575, 1_048_576, 2_999_999]) {
    assert.equal(firstDifference(file(large), file(large.with(position, 1))), position);
    assert.equal(firstDifference(file(large), file(large.subarray(0, position))), position);
    assert.equal(firstDifference(file(large.subarray(0, position)), file(large)), position);
  }
  assert.equal(firstDifference(file(large), file(large.slice())), undefined);
});

Deno.test("histories are the same wherever the data lies", () => {
  const copied = withChange(2, { records: [{ oid: 1n, data: "one" }] });
  assert.notEqual(firstDifference(history(HISTORY), copied), undefined);
  assert.equal(differenceInHistory(history(HISTORY), copied), undefined);
  const unlinked = withChange(1, { records: [{ oid: 1n, data: "changed", previous: "none" }] });
  assert.equal(differenceInHistory(history(HISTORY), unlinked), undefined);
});

Deno.test("transactions that were cancelled long ago are no part of a history", () => {
  const cancelled = history([...HISTORY, { tid: 5n, status: "u", records: [{ oid: 1n, data: "never" }] }]);
  assert.equal(differenceInHistory(cancelled, history(HISTORY)), undefined);
});

Deno.test("histories that differ are told apart, by transaction and by what", () => {
  const one = { oid: 1n, data: "one" };
  const table: readonly (readonly [ReadableFile, RegExp])[] = [
    [history(HISTORY.slice(0, 3)), /lacks transaction 0000000000000004/],
    [history(HISTORY.toSpliced(1, 1)), /lacks transaction 0000000000000002/],
    [history([...HISTORY, { tid: 9n, records: [] }]), /has transaction 0000000000000009/],
    [withChange(1, { status: "p" }), /0000000000000002 .* another status/],
    [withChange(1, { user: "other" }), /another user/],
    [withChange(1, { description: "other" }), /another description/],
    [withChange(1, { extension: new Uint8Array(3) }), /another extension/],
    [withChange(0, { records: [{ oid: 2n, data: "two" }, one] }), /another sequence of objects/],
    [
      withChange(0, { records: [one, { oid: 2n, data: "two" }, { oid: 3n, data: "3" }] }),
      /number of records/,
    ],
    [withChange(1, { records: [{ oid: 1n, data: "chanGed" }] }), /another revision of object 0x01/],
    [withChange(1, { records: [{ oid: 1n, data: "changes" }] }), /another revision of object 0x01/],
    [withChange(2, { records: [{ oid: 1n, undone: true }] }), /0000000000000003 .* revision of object 0x01/],
    [withChange(3, { records: [{ oid: 2n, data: "two" }] }), /0000000000000004 .* revision of object 0x02/],
  ];
  for (const [copy, expected] of table) {
    const difference = differenceInHistory(history(HISTORY), copy);
    assert.match(difference ?? "no difference", expected);
  }
});

Deno.test("a survey tells what there is", () => {
  const { bytes, end } = dataFs(HISTORY, { tail: "half" });
  const expected = {
    end,
    unfinishedBytes: 4,
    lastTid: 4n,
    transactions: 4,
    greatestOid: 2n,
    blobRecords: 0,
    rewritten: false,
  };
  assert.deepEqual(survey(file(bytes)), expected);
  assert.deepEqual(survey(file(dataFs([]).bytes)), {
    ...expected,
    end: 4,
    unfinishedBytes: 0,
    lastTid: 0n,
    transactions: 0,
    greatestOid: 0n,
  });
});

Deno.test("a survey counts revisions of blobs, and sees packs", () => {
  const blob = "\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.";
  const bytes = Uint8Array.from(blob, (character) => character.charCodeAt(0));
  const found = survey(history([
    { tid: 1n, status: "p", records: [{ oid: 7n, data: bytes }, { oid: 8n, data: "other" }] },
    { tid: 2n, records: [{ oid: 7n, data: bytes }] },
    { tid: 3n, records: [{ oid: 7n, backPointer: [0, 0] }] },
  ]));
  assert.deepEqual([found.blobRecords, found.rewritten, found.greatestOid], [2, true, 8n]);
});

Deno.test("a damaged file is not surveyed as if it ended there", () => {
  const damaged = withChange(1, { damage: { trailer: 1n } });
  assert.throws(() => survey(damaged), (error) => error instanceof CorruptError && error.facts.tid === 2n);
});
