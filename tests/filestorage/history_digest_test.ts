import assert from "node:assert/strict";
import fc from "fast-check";
import { DEFAULT_WINDOW_BYTES, digestHistory, FIRST_POSITION } from "../../lib/filestorage/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { bytesOf } from "../kit/hex.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { sourceOf } from "./bytes_source.ts";
import { naiveHistoryDigest } from "./naive_digest.ts";
import { randomHistory, tidAt } from "./random_history.ts";

const LAST_TID = 2n ** 64n - 1n;

async function digestOf(bytes: Uint8Array, through = LAST_TID) {
  const log = { file: sourceOf(bytes), end: bytes.length };
  return await digestHistory(log, { from: FIRST_POSITION, through }, () => Promise.resolve());
}

Deno.test("a history's digest is what another program computes from the same description", async () => {
  const tid = 0x03f5_9458_1777_7777n;
  const { bytes } = dataFs([{
    tid,
    user: "bob",
    description: "first",
    extension: bytesOf("80037d2e"),
    records: [{ oid: 1n, data: "one." }, { oid: 2n ** 64n - 2n, undone: true }],
  }, {
    tid: tid + 1n,
    records: [{ oid: 1n, backPointer: [0, 0] }],
  }]);
  const found = await digestOf(bytes);
  assert.deepEqual([found.transactions, found.firstTid, found.lastTid], [2, tid, tid + 1n]);
  // Computed by Python's hashlib and struct.
  assert.equal(found.digest, "e0afb83712d93212bda9f9899544b0fd948fa5c4df4526e506575b0e421f644b");
});

Deno.test("the digest of any history, up to any transaction, is the naive one", async () => {
  await fc.assert(
    fc.asyncProperty(randomHistory, fc.nat(), async (history, choice) => {
      const { bytes } = dataFs(history);
      const read = transactionsOf(bytes);
      assert.equal((await digestOf(bytes)).digest, naiveHistoryDigest(read));
      const some = read.slice(0, read.length === 0 ? 0 : choice % read.length + 1);
      const found = await digestOf(bytes, some.at(-1)?.tid ?? 0n);
      assert.equal(found.digest, naiveHistoryDigest(some));
    }),
    { numRuns: 200 },
  );
});

Deno.test("a digest does not depend on where the data lie beside the pieces that are read", async () => {
  const sizes = [
    1,
    8_191,
    8_192,
    30_000,
    65_519,
    65_520,
    65_536,
    100_000,
    DEFAULT_WINDOW_BYTES + 1,
    7,
    50_000,
  ];
  const history = sizes.map((size, at): TransactionDescription => ({
    tid: tidAt(at),
    description: "d".repeat(size % 65_536),
    records: [
      { oid: 1n, data: new Uint8Array(size).map((_, offset) => offset * 31 + at) },
      { oid: 2n, data: "small" },
      // What it leads to lies in what is still at hand, or long behind.
      { oid: 1n, backPointer: [at - at % 3 + 1, 0] },
    ],
  }));
  for (const shift of [1, 2, 9, 4_000, 60_000]) {
    const first = { tid: 1n, records: [{ oid: 9n, data: new Uint8Array(shift) }] };
    const { bytes } = dataFs([first, ...history]);
    assert.equal((await digestOf(bytes)).digest, naiveHistoryDigest(transactionsOf(bytes)), `${shift}`);
  }
});

Deno.test("a record that looks like a transaction of its own is none", async () => {
  const [tid, next] = [tidAt(1), tidAt(2)];
  // Said in a row, without lengths, both would be the same bytes.
  const one = dataFs([{
    tid,
    records: [{ oid: next, data: bytesOf(`616263646566${"00".repeat(7)}0331322e`) }],
  }]);
  const two = dataFs([{ tid, records: [] }, {
    tid: next,
    records: [{ oid: 0x0011_6162_6364_6566n, data: "12." }],
  }]);
  assert.notEqual((await digestOf(one.bytes)).digest, (await digestOf(two.bytes)).digest);
});
