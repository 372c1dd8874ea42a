import assert from "node:assert/strict";
import fc from "fast-check";
import { CorruptError } from "../../lib/errors.ts";
import { FIRST_POSITION, RECORD } from "../../lib/filestorage/mod.ts";
import { dataFs, type RecordDamage } from "../kit/data_fs.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { readerOf } from "./bytes_source.ts";
import { randomHistory, tidAt } from "./random_history.ts";

/** Large enough for every header; everything else must pass through. */
const SMALLEST_WINDOW = 64;

Deno.test("a reader sees the same through a window of any size, in either direction", () => {
  fc.assert(
    fc.property(randomHistory, fc.integer({ min: SMALLEST_WINDOW, max: 5000 }), (history, windowBytes) => {
      const { bytes } = dataFs(history);
      const expected = transactionsOf(bytes);
      const reader = readerOf(bytes, windowBytes);
      let position = FIRST_POSITION;
      for (const transaction of expected) {
        assert.equal(reader.read(position), "whole");
        assert.equal(reader.tid, transaction.tid);
        assert.equal(String.fromCharCode(reader.status), transaction.status);
        for (const record of transaction.records) {
          const at = reader.nextRecord();
          assert.equal(reader.oid, record.oid);
          assert.equal(reader.recordPosition, record.position);
          assert.equal(reader.previous, record.previous);
          assert.equal(reader.backPointer, record.backPointer ?? 0);
          assert.equal(reader.dataLength, record.backPointer === null ? record.data!.length : 0);
          assert.equal(reader.window.view.getBigUint64(at + RECORD.tid), record.tid);
        }
        assert.equal(reader.nextRecord(), -1);
        position = reader.end;
        assert.equal(position, transaction.end);
      }
      assert.equal(reader.read(position), "end");
      for (const transaction of expected.toReversed()) {
        position = reader.startOf(position);
        assert.equal(position, transaction.position);
        assert.equal(reader.read(position), "whole");
      }
    }),
    { numRuns: 200 },
  );
});

Deno.test("records can be gone through again", () => {
  const { bytes } = dataFs([{
    tid: tidAt(0),
    records: [{ oid: 1n, data: "one" }, { oid: 2n, data: "two" }],
  }]);
  const reader = readerOf(bytes);
  reader.read(FIRST_POSITION);
  const oids = () => {
    const found: bigint[] = [];
    while (reader.nextRecord() >= 0) found.push(reader.oid);
    return found;
  };
  assert.deepEqual(oids(), [1n, 2n]);
  assert.deepEqual(oids(), []);
  reader.rewindRecords();
  assert.deepEqual(oids(), [1n, 2n]);
});

Deno.test("metadata of any length is read as it is, and stays when the window moves on", () => {
  const longest = (byte: number) => new Uint8Array(65_535).fill(byte);
  for (
    const [user, description, extension] of [
      [longest(1), longest(2), longest(3)],
      [new Uint8Array(), longest(2), new Uint8Array([9])],
      [new Uint8Array(), new Uint8Array(), new Uint8Array()],
    ] as const
  ) {
    const { bytes } = dataFs([
      { tid: tidAt(0), status: "p", user, description, extension, records: [{ oid: 1n, data: "one" }] },
      { tid: tidAt(1), records: [] },
    ]);
    const reader = readerOf(bytes);
    assert.equal(reader.read(FIRST_POSITION), "whole");
    const head = reader.head();
    reader.read(reader.end);
    assert.deepEqual(head, { tid: tidAt(0), status: 0x70, user, description, extension });
  }
});

Deno.test("a damaged record is told with position and tid, and never read beyond its transaction", () => {
  const damages: [RecordDamage, RegExp][] = [
    [{ transaction: 5n }, /its transaction must be at 4, found 5$/],
    [{ versionLength: 1 }, /it belongs to a version/],
    [{ dataLength: 4n }, /its data of 4 bytes reaches beyond the transaction$/],
    [{ dataLength: 0xffff_ffff_ffff_ffffn }, /reaches beyond the transaction$/],
    [{ dataLength: 1n << 63n }, /reaches beyond the transaction$/],
    [{ dataLength: 0n }, /its data of 0 bytes reaches beyond the transaction$/],
  ];
  for (const [damage, message] of damages) {
    const { bytes, transactions } = dataFs([{ tid: tidAt(3), records: [{ oid: 1n, data: "one", damage }] }]);
    const reader = readerOf(bytes);
    assert.equal(reader.read(FIRST_POSITION), "whole");
    assert.throws(() => reader.nextRecord(), (error) => {
      assert(error instanceof CorruptError);
      assert.match(error.message, message);
      assert.equal(error.facts.position, transactions[0]!.records[0]!.position);
      assert.equal(error.facts.tid, tidAt(3));
      return true;
    });
  }
});

Deno.test("an inverted byte in a length, status, trailer or transaction position is seen by a reader", () => {
  const { bytes, transactions } = dataFs([
    { tid: tidAt(0), user: "bob", records: [{ oid: 0n, data: "root" }, { oid: 1n, data: "one" }] },
    { tid: tidAt(1), records: [{ oid: 1n, backPointer: [0, 1] }] },
  ]);
  const seen = new Set<number>();
  for (let at = FIRST_POSITION; at < bytes.length; at++) {
    const flipped = bytes.slice();
    flipped[at]! ^= 0xff;
    const reader = readerOf(flipped);
    try {
      let position = FIRST_POSITION;
      for (let state = reader.read(position); state !== "end"; state = reader.read(position)) {
        if (state !== "whole") throw reader.corrupt(state);
        while (reader.nextRecord() >= 0);
        position = reader.end;
      }
    } catch (error) {
      assert(error instanceof CorruptError);
      seen.add(at);
    }
  }
  // Every length, status, trailer and transaction position is checked by another field.
  const first = transactions[0]!;
  const checked = [
    ...range(first.position + 8, first.position + 23),
    ...range(first.records[0]!.position + 24, first.records[0]!.position + 42),
    ...range(first.end - 8, first.end),
  ];
  assert.deepEqual(checked.filter((at) => !seen.has(at)), []);
});

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, at) => from + at);
}
