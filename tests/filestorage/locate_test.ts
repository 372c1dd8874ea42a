import assert from "node:assert/strict";
import fc from "fast-check";
import { CorruptError } from "../../lib/errors.ts";
import { FIRST_POSITION, locateTid, type Location, TidMap } from "../../lib/filestorage/mod.ts";
import { countedBefore, lastTidAt } from "../../lib/filestorage/locate.ts";
import { NO_TID } from "../../lib/zodb/mod.ts";
import { type BuiltFile, dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { readerOf } from "./bytes_source.ts";
import { tidAt } from "./random_history.ts";

const noPause = () => Promise.resolve();

/** Transactions of 31 to 200 bytes with growing gaps between their tids, some of them cancelled. */
const file = fc
  .array(fc.record({ gap: fc.integer({ min: 2, max: 1000 }), size: fc.nat(100), status: fc.nat(9) }), {
    maxLength: 40,
  })
  .map((specs) => {
    let tid = tidAt(0);
    const transactions = specs.map(({ gap, size, status }, at): TransactionDescription => {
      tid += BigInt(gap);
      return {
        tid,
        status: status < 3 ? "u" : at < 5 ? "p" : " ",
        records: size === 0 ? [] : [{ oid: BigInt(at), data: new Uint8Array(size).fill(1) }],
      };
    });
    return { transactions, built: dataFs(transactions) };
  });

/** As locateTid, by looking at every transaction. */
function locateSlowly(
  { transactions, built }: { transactions: readonly TransactionDescription[]; built: BuiltFile },
  end: number,
  tid: bigint,
): Location {
  const places = transactions.flatMap(({ tid, status }, at) => {
    const place = built.transactions[at]!;
    return status === "u" || place.end > end
      ? []
      : [{ tid, position: place.position, end: place.end, status: status!.charCodeAt(0) }];
  });
  const place = places.find((each) => each.tid === tid);
  if (place !== undefined) return { kind: "found", place };
  return {
    kind: "between",
    before: places.findLast((each) => each.tid < tid),
    after: places.find((each) => each.tid > tid),
  };
}

Deno.test("a tid is found, or its neighbours are, as by looking at every transaction", async () => {
  let found = 0;
  await fc.assert(
    fc.asyncProperty(
      file,
      fc.array(fc.tuple(fc.nat(), fc.integer({ min: -1, max: 1 }), fc.nat()), {
        minLength: 1,
        maxLength: 30,
      }),
      fc.nat(400),
      async (subject, questions, spacing) => {
        const { transactions, built } = subject;
        const reader = readerOf(built.bytes, 256);
        const map = new TidMap(spacing); // one for all questions: what one learns the next one uses
        for (const [choice, offset, seen] of questions) {
          const base = transactions[choice % (transactions.length || 1)]?.tid ?? tidAt(0);
          const tid = base + BigInt(offset);
          // Some who ask see less of the file than the map knows.
          const boundaries = [FIRST_POSITION, ...built.transactions.map((each) => each.end)];
          const end = seen % 3 === 0 ? boundaries[seen % boundaries.length]! : built.end;
          reader.window.limit = end;
          const location = await locateTid(reader, end, tid, map, noPause);
          assert.deepEqual(location, locateSlowly(subject, end, tid));
          if (location.kind === "found") found++;
        }
      },
    ),
    { numRuns: 500 },
  );
  assert(found > 400, `only ${found} were found`);
});

Deno.test("a walk goes from the nearer end, and later walks begin where earlier ones have been", async () => {
  const transactions = Array.from({ length: 1000 }, (_, at): TransactionDescription => ({
    tid: tidAt(at),
    records: [{ oid: BigInt(at), data: new Uint8Array(1000) }],
  }));
  const built = dataFs(transactions);
  let bytesRead = 0;
  const reader = readerOf(built.bytes, 2048);
  const { source } = reader.window;
  reader.window.reset({
    readAt(into, position) {
      bytesRead += into.length;
      return source.readAt(into, position);
    },
  }, built.end);
  const map = new TidMap(20_000);
  const costOf = async (index: number) => {
    bytesRead = 0;
    const location = await locateTid(reader, built.end, tidAt(index), map, noPause);
    assert.equal(location.kind, "found");
    return bytesRead;
  };
  const near = 40_000;
  assert(await costOf(3) < near);
  assert(await costOf(997) < near);
  assert(await costOf(500) > 500_000);
  assert(await costOf(480) < 100_000, "what was passed on the way is remembered");
  assert(await costOf(505) < 100_000 || await costOf(495) < 100_000);
});

Deno.test("a long walk lets others run", async () => {
  const transactions = Array.from({ length: 45_000 }, (_, at) => ({ tid: tidAt(at, 1n), records: [] }));
  const built = dataFs(transactions);
  for (const tid of [tidAt(22_000, 1n), tidAt(23_000, 1n)]) {
    let pauses = 0;
    const pause = () => Promise.resolve(void pauses++);
    await locateTid(readerOf(built.bytes), built.end, tid, new TidMap(), pause);
    assert.equal(pauses, 1);
  }
});

Deno.test("damage on the way is told with its position", async () => {
  const transactions = Array.from({ length: 9 }, (_, at): TransactionDescription => ({
    tid: tidAt(at),
    records: [{ oid: 0n, data: "data" }],
    ...(at === 4 ? { damage: { trailer: 1000n } } : {}),
  }));
  const built = dataFs(transactions);
  // From the front the damaged one is met itself; from the end, the one behind it has no way back.
  for (const index of [4, 5]) {
    const asked = tidAt(index) - 1n;
    await assert.rejects(
      locateTid(readerOf(built.bytes), built.end, asked, new TidMap(), noPause),
      (error) => {
        assert(error instanceof CorruptError);
        assert.equal(error.facts.position, built.transactions[index]!.position);
        return true;
      },
    );
  }
});

Deno.test("the transaction that counts before a position is found behind cancelled ones", () => {
  const built = dataFs([
    { tid: tidAt(0), records: [{ oid: 0n, data: "root" }] },
    { tid: tidAt(1), status: "u", records: [{ oid: 0n, data: "never" }] },
    { tid: tidAt(2), status: "u", records: [] },
  ]);
  const reader = readerOf(built.bytes);
  assert.equal(countedBefore(reader, built.end)?.tid, tidAt(0));
  assert.equal(countedBefore(reader, built.transactions[1]!.position)?.tid, tidAt(0));
  assert.equal(countedBefore(reader, FIRST_POSITION), undefined);
});

Deno.test("the last tid before every boundary is found, and none elsewhere", () => {
  fc.assert(
    fc.property(file, ({ transactions, built }) => {
      const reader = readerOf(built.bytes);
      const boundaries = new Map<number, bigint>([[FIRST_POSITION, NO_TID]]);
      let last = NO_TID;
      built.transactions.forEach(({ end }, at) => {
        if (transactions[at]!.status !== "u") last = transactions[at]!.tid;
        boundaries.set(end, last);
      });
      for (let end = FIRST_POSITION; end <= built.end; end++) {
        assert.equal(lastTidAt(reader, end), boundaries.get(end), `at ${end}`);
      }
    }),
    { numRuns: 30 },
  );
});

Deno.test("a whole database stored as data does not pass for the end of the one around it", () => {
  const inner = dataFs([
    { tid: tidAt(7), records: [] },
    { tid: tidAt(8), records: [{ oid: 0n, data: "root" }] },
    { tid: tidAt(9), records: [] },
  ]);
  const outer = dataFs([
    { tid: tidAt(0), records: [{ oid: 0n, data: "root" }] },
    { tid: tidAt(1), records: [{ oid: 1n, data: inner.bytes }] },
  ]);
  const innerEnd = outer.end - 8;
  assert.deepEqual(outer.bytes.slice(innerEnd - inner.bytes.length, innerEnd), inner.bytes);
  assert.equal(lastTidAt(readerOf(outer.bytes), innerEnd), undefined);
  assert.equal(lastTidAt(readerOf(outer.bytes.slice(0, innerEnd)), innerEnd), undefined);
});
