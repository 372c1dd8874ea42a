import assert from "node:assert/strict";
import fc from "fast-check";
import {
  FIRST_POSITION,
  Generation,
  type LogView,
  TransactionReader,
  Window,
} from "../../lib/filestorage/mod.ts";
import { compareHistories, refusalReason } from "../../lib/replica/lineage/histories.ts";
import { NO_TID } from "../../lib/zodb/mod.ts";
import { type BuiltFile, dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";

const PATH = "/data/Data.fs";
const noPause = () => Promise.resolve();

/** Transactions of the given tids; what stands before a tid is its status: " 10", "p20", "u30". */
function source(...described: string[]): { built: BuiltFile; view: LogView; reader: TransactionReader } {
  const transactions = described.map((text): TransactionDescription => ({
    tid: BigInt(text.slice(1)),
    status: text[0] as " " | "p" | "u",
    records: [{ oid: 0n, data: text }],
  }));
  const built = dataFs(transactions);
  const disk = new MemoryDisk();
  disk.put(PATH, built.bytes);
  const file = disk.openRead(PATH);
  const lastTid = transactions.findLast(({ status }) => status !== "u")?.tid ?? NO_TID;
  const view = { generation: new Generation(0, file), end: built.end, lastTid };
  return { built, view, reader: new TransactionReader(new Window(file, built.end)) };
}

async function compare(tid: bigint, ...described: string[]) {
  const { built, view, reader } = source(...described);
  const comparison = await compareHistories(reader, view, tid, noPause);
  const position = "position" in comparison ? comparison.position : undefined;
  const next = position === undefined
    ? undefined
    : position === built.end
    ? "the end"
    : described[built.transactions.findIndex((each) => each.position === position)];
  return { kind: comparison.kind, next, comparison };
}

Deno.test("a secondary whose last transaction is in the source goes on behind it", async () => {
  const histories: [tid: bigint, next: string | undefined, ...string[]][] = [
    [10n, " 20", " 10", " 20", " 30"],
    [20n, " 30", " 10", " 20", " 30"],
    [30n, "the end", " 10", " 20", " 30"],
    [10n, "u15", " 10", "u15", " 20"],
    [10n, "p20", "p10", "p20", " 30"],
    [20n, " 30", "p10", "p20", " 30"],
  ];
  for (const [tid, next, ...described] of histories) {
    const found = await compare(tid, ...described);
    assert.deepEqual({ kind: found.kind, next: found.next }, { kind: "shared", next });
  }
});

Deno.test("an empty secondary gets everything, also from an empty source", async () => {
  assert.equal((await compare(NO_TID, " 10", " 20")).next, " 10");
  assert.equal((await compare(NO_TID, "p10", " 20")).next, "p10");
  const { comparison } = await compare(NO_TID);
  assert.deepEqual(comparison, { kind: "shared", position: FIRST_POSITION });
});

Deno.test("a secondary that is later than the source is ahead", async () => {
  for (const described of [[], [" 10"], ["p5", " 10"], [" 10", "u20"], ["u5"]]) {
    assert.equal((await compare(20n, ...described)).kind, "ahead", described.join());
  }
});

Deno.test("a secondary whose last transaction is missing from unpacked history is forked", async () => {
  const histories: [tid: bigint, before: bigint | undefined, after: bigint, ...string[]][] = [
    [5n, undefined, 10n, " 10", " 20"],
    [15n, 10n, 20n, " 10", " 20", " 30"],
    [25n, 20n, 30n, "p10", " 20", " 30"],
    [15n, 10n, 20n, " 10", "u15", " 20"],
    [15n, 10n, 30n, " 10", "u20", "u25", " 30"],
  ];
  for (const [tid, before, after, ...described] of histories) {
    const { comparison } = await compare(tid, ...described);
    assert(comparison.kind === "forked", described.join());
    assert.equal(comparison.before?.tid, before);
    assert.equal(comparison.after.tid, after);
  }
});

Deno.test("a secondary whose last transaction may have been packed away goes on with what is later", async () => {
  const histories: [tid: bigint, next: string, ...string[]][] = [
    [5n, "p10", "p10", " 20"],
    [15n, "p20", "p10", "p20", " 30"],
    // Between the last packed and the first other: the transaction of the pack's time had only garbage.
    [25n, " 30", "p10", "p20", " 30"],
    [25n, "the end", "p10", "p20"],
    [15n, "u17", "p10", "u17", " 20"],
  ];
  for (const [tid, next, ...described] of histories) {
    const found = await compare(tid, ...described);
    assert.deepEqual({ kind: found.kind, next: found.next }, { kind: "beyond the pack", next });
  }
});

Deno.test("every comparison follows from the tids and statuses", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.integer({ min: 1, max: 60 }), { maxLength: 15 }),
      fc.nat(15),
      fc.array(fc.boolean(), { minLength: 15, maxLength: 15 }),
      fc.integer({ min: 1, max: 61 }),
      async (tids, packed, cancelled, asked) => {
        const described = tids
          .sort((a, b) => a - b)
          .map((tid, at) => `${at < packed ? "p" : cancelled[at] ? "u" : " "}${tid}`);
        const { kind, next } = await compare(BigInt(asked), ...described);
        const counted = described.filter((each) => each[0] !== "u");
        const tidOf = (each: string) => Number(each.slice(1));
        const later = counted.filter((each) => tidOf(each) > asked);
        const before = counted.filter((each) => tidOf(each) < asked).at(-1);
        const isThere = counted.some((each) => tidOf(each) === asked);
        const isPacked = (before ?? later[0])?.[0] === "p";
        assert.equal(
          kind,
          isThere ? "shared" : isPacked ? "beyond the pack" : later.length === 0 ? "ahead" : "forked",
        );
        if (next === undefined) return;
        // From there on, everything later follows and nothing else that counts.
        const from = next === "the end" ? described.length : described.indexOf(next);
        assert.deepEqual(described.slice(from).filter((each) => each[0] !== "u"), later);
      },
    ),
    { numRuns: 500 },
  );
});

Deno.test("a refusal names both sides' transactions with their times", async () => {
  const ahead = await compare(20n, " 10");
  assert(ahead.comparison.kind === "ahead");
  assert.match(
    refusalReason(ahead.comparison, 20n, 10n),
    /^ahead: your last transaction is 0{14}14 \(1900-01-01T.*this source ends with 0{15}a \(/,
  );
  assert.match(refusalReason(ahead.comparison, 20n, NO_TID), /this source is empty$/);
  const forked = await compare(15n, " 10", " 20");
  assert(forked.comparison.kind === "forked");
  assert.match(
    refusalReason(forked.comparison, 15n, 20n),
    /^forked: .*0{15}f .*does not have; the last that can be common to both is 0{15}a .*followed by 0{14}14 /,
  );
  const before = await compare(5n, " 10");
  assert(before.comparison.kind === "forked");
  assert.match(refusalReason(before.comparison, 5n, 10n), /no transaction can be common to both/);
});
