import assert from "node:assert/strict";
import fc from "fast-check";
import { CorruptError } from "../../lib/errors.ts";
import { type ByteSource, ContentDigester, TransactionReader, Window } from "../../lib/filestorage/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { bytesOf } from "../kit/hex.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { readerOf, sourceOf } from "./bytes_source.ts";
import { digestsOf } from "./digests_of.ts";
import { naiveDigest, naiveRecordDigest } from "./naive_digest.ts";
import { randomHistory, tidAt } from "./random_history.ts";

const TID = 0x03f5_9458_1777_7777n;

Deno.test("a transaction's digests are what another program computes from the same description", async () => {
  const { bytes } = dataFs([{
    tid: TID,
    user: "bob",
    description: "first",
    extension: bytesOf("80037d2e"),
    records: [{ oid: 1n, data: "one." }, { oid: 2n ** 64n - 2n, undone: true }],
  }]);
  // Computed by Python's hashlib and struct.
  assert.deepEqual((await digestsOf(bytes)).get(TID), {
    digest: "d787f1b7564c11081a857593a37f1ab0b6b7d245c0e50995fb6783fcd7e4649f",
    body: "a4eca822e0ddcb0cb9a2cb45a47c5205acc51e0e64047f0f9602a8a525bc6f39",
    records: 2,
    each: [
      [1n, "34e47fda34644a9eddd17e99b12bf67d9d65ea94e8f88825c6bdb94dc1217a73"],
      [2n ** 64n - 2n, "b35253812b10223998447bcf401fa1538b2f4c17b5418e2803efdedcbb89b9bb"],
    ],
  });
});

Deno.test("digests of any history are the naive ones, and the same in a copy at other positions", async () => {
  await fc.assert(
    fc.asyncProperty(randomHistory, async (history) => {
      const { bytes } = dataFs(history);
      const read = transactionsOf(bytes);
      const digests = await digestsOf(bytes);
      assert.deepEqual(
        digests,
        new Map(read.map((transaction) => [transaction.tid, {
          ...naiveDigest(transaction),
          each: transaction.records.map((record) => [record.oid, naiveRecordDigest(record)]),
        }])),
      );

      // Behind another transaction, all of one status, unlinked, and every back pointer's data written out.
      const copy: TransactionDescription[] = read.map(({ tid, user, description, extension, records }) => ({
        tid,
        status: "p",
        user,
        description,
        extension,
        records: records.map(({ oid, data }) => data === null ? { oid, undone: true } : { oid, data }),
      }));
      const first = { tid: 1n, records: [{ oid: 0n, data: "moves what follows" }] };
      const copied = await digestsOf(dataFs([first, ...copy]).bytes);
      copied.delete(1n);
      assert.deepEqual(copied, digests);
    }),
    { numRuns: 200 },
  );
});

Deno.test("every change of content changes the digest", async () => {
  const plain: TransactionDescription = {
    tid: tidAt(1),
    user: "ab",
    description: "c",
    extension: bytesOf("80"),
    records: [{ oid: 1n, data: "12" }, { oid: 2n, data: "3" }],
  };
  const changed: TransactionDescription[] = [
    { ...plain, tid: tidAt(2) },
    { ...plain, user: "a", description: "bc" },
    { ...plain, description: "" },
    { ...plain, extension: new Uint8Array() },
    { ...plain, records: [{ oid: 1n, data: "12" }] },
    { ...plain, records: [{ oid: 2n, data: "3" }, { oid: 1n, data: "12" }] },
    { ...plain, records: [{ oid: 1n, data: "1" }, { oid: 2n, data: "23" }] },
    { ...plain, records: [{ oid: 1n, data: "12" }, { oid: 3n, data: "3" }] },
    { ...plain, records: [{ oid: 1n, data: "12" }, { oid: 2n, undone: true }] },
    { ...plain, records: [] },
  ];
  const digests = new Set<string>();
  for (const transaction of [plain, ...changed]) {
    for (const { digest } of (await digestsOf(dataFs([transaction]).bytes)).values()) digests.add(digest);
  }
  assert.equal(digests.size, 1 + changed.length);
});

Deno.test("a record of any size is read through a buffer, and others run meanwhile", async () => {
  const data = new Uint8Array(20_000_000).map((_, at) => at * at);
  const { bytes, transactions } = dataFs([
    { tid: tidAt(1), records: [{ oid: 1n, data }] },
    { tid: tidAt(2), records: [{ oid: 1n, data: "other" }, { oid: 1n, backPointer: [0, 0] }] },
  ]);
  const whole = sourceOf(bytes);
  let largest = 0;
  const source: ByteSource = {
    readAt(into, position) {
      largest = Math.max(largest, into.length);
      return whole.readAt(into, position);
    },
  };
  let pauses = 0;
  const digester = new ContentDigester(source, () => Promise.resolve(void pauses++));
  const reader = new TransactionReader(new Window(source, bytes.length, 8192));
  const read = transactionsOf(bytes);
  for (const [at, { position }] of transactions.entries()) {
    reader.read(position);
    assert.deepEqual(await digester.transaction(reader), naiveDigest(read[at]!));
  }
  assert.ok(largest <= 65_536, `${largest} bytes at once`);
  assert.ok(pauses >= 2, `${pauses} pauses`);
});

Deno.test("a damaged record has no digest", async () => {
  const tid = tidAt(1);
  const damaged: TransactionDescription[][] = [
    // Its data would reach into the record that points at it.
    [
      { tid, records: [{ oid: 1n, data: "short", damage: { dataLength: 200n } }] },
      { tid: tidAt(2), records: [{ oid: 1n, backPointer: [0, 0] }] },
    ],
    // A back pointer to another object.
    [
      { tid, records: [{ oid: 1n, data: "one" }] },
      { tid: tidAt(2), records: [{ oid: 2n, backPointer: [0, 0] }] },
    ],
  ];
  for (const transactions of damaged) {
    const built = dataFs(transactions);
    const reader = readerOf(built.bytes);
    const digester = new ContentDigester(sourceOf(built.bytes), () => Promise.resolve());
    assert.equal(reader.read(built.transactions[1]!.position), "whole");
    await assert.rejects(digester.transaction(reader), CorruptError);
  }
});
