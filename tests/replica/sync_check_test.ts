/** `syncReplica`: what of a copy's past is compared before it is gone on with, and what is said of it. */
import assert from "node:assert/strict";
import { DivergedError, UnavailableError } from "../../lib/errors.ts";
import { HistoriesDifferError, syncReplica } from "../../lib/replica/mod.ts";
import { describeTid, formatTid } from "../../lib/zodb/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { COPY, ORIGINAL, Scene } from "./scene.ts";
import { history, syncFrom, TID } from "./sync_kit.ts";

/** The same history, where one transaction has other data of the same length. */
function changedAt(count: number, at: number): TransactionDescription[] {
  const all = history(count);
  all[at] = { ...all[at]!, records: [{ oid: BigInt(at % 3), data: `zhared ${at}` }] };
  return all;
}

async function sync(
  source: "file" | "node",
  original: readonly TransactionDescription[] | Uint8Array,
  copy: readonly TransactionDescription[],
  options: Partial<Parameters<typeof syncReplica>[2]> = {},
) {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, original instanceof Uint8Array ? original : dataFs(original).bytes);
  scene.disk.put(COPY, dataFs(copy).bytes);
  if (source === "file") return { scene, ...await syncFrom(scene, "file", options) };
  await using _primary = await scene.startPrimary();
  return { scene, ...await syncFrom(scene, "node", options) };
}

for (const source of ["file", "node"] as const) {
  for (const check of ["quick", "full"] as const) {
    Deno.test(`a change anywhere in a short past is found by the ${check} check, from a ${source}`, async () => {
      for (let at = 0; at < 10; at++) {
        const copy = changedAt(10, at);
        const { scene, failure } = await sync(source, history(12), copy, { check });
        assert(failure instanceof DivergedError, `${at}: ${failure}`);
        assertSameBytes(scene.disk.bytes(COPY), dataFs(copy).bytes, "it was written to");
        assert.match(failure.message, /nothing was written/);
        assert(failure.message.includes(COPY) && failure.message.includes(formatTid(TID + BigInt(at))));
        assert(failure.message.includes(`"jim: shared ${at}"`), failure.message);
      }
    });
  }

  Deno.test(`the quick check says how little it has seen, and the full one sees all, from a ${source}`, async () => {
    const quick = await sync(source, history(100), changedAt(90, 44));
    assert.deepEqual([quick.failure, quick.report?.check], [undefined, {
      kind: "quick",
      transactions: 16,
      obstacle: undefined,
    }]);
    const full = await sync(source, history(100), changedAt(90, 44), { check: "full" });
    assert(full.failure instanceof DivergedError, String(full.failure));
    const { position, records: [record] } = dataFs(changedAt(90, 44)).transactions[44]!;
    const here = record!.position;
    const [there, records] = source === "file"
      ? [ORIGINAL, `records at ${here} in ${COPY}, at ${here} in ${ORIGINAL}`]
      : ["here:5000", `record at ${here} in ${COPY}`];
    assert.equal(
      full.failure.message.replace(/^.*nothing was written: /, "").replace(/ from byte 0 on/, ""),
      `transaction ${
        describeTid(TID + 44n)
      } "jim: shared 44", at ${position} in ${COPY}, at ${position} in ` +
        `${there}: the 9 bytes of data of object 0000000000000002 differ (${records})`,
    );
    const same = await sync(source, history(100), history(90), { check: "full" });
    assert.deepEqual(same.report?.check, { kind: "full", transactions: 90, obstacle: undefined });
  });

  Deno.test(`a copy that lacks its beginning, which no pack explains, is not complete, from a ${source}`, async () => {
    for (const check of ["quick", "full"] as const) {
      for (const copy of [history(12, { from: 3 }), history(12, { from: 11 })]) {
        const { scene, failure } = await sync(source, history(12), copy, { check });
        assert(failure instanceof DivergedError, `${check}: ${failure}`);
        assert.match(failure.message, /"jim: shared 0", .*: \/copy\/Data\.fs lacks it$/);
        assertSameBytes(scene.disk.bytes(COPY), dataFs(copy).bytes);
      }
      const packed = [...history(5, { status: "p" }).slice(2), ...history(12, { from: 5 })];
      assert.equal((await sync(source, history(12), packed, { check })).failure, undefined);
    }
  });

  Deno.test(`what a pack has removed is no difference to the full check, from a ${source}`, async () => {
    const packed = [...history(5, { status: "p" }).slice(2), ...history(40, { from: 5 })];
    for (const [original, copy] of [[packed, history(30)], [history(40), packed.slice(0, 28)]] as const) {
      const { report, failure } = await sync(source, original, copy, { check: "full" });
      assert.deepEqual([failure, report?.check.transactions], [undefined, 28]);
      assert.equal(report?.after.lastTid, TID + 39n);
    }
  });

  Deno.test(`of histories that have parted both ends are named, from a ${source}`, async () => {
    for (const check of ["quick", "full"] as const) {
      const fork = [...history(3), ...history(6, { from: 4, name: "fork" })];
      const { failure } = await sync(source, history(8), fork, { check });
      assert(failure instanceof HistoriesDifferError, String(failure));
      const { common, here, there } = failure.divergence;
      const words = [common, here, there].map((each) =>
        each && [each.tid - TID, new TextDecoder().decode(each.description)]
      );
      assert.deepEqual(words, [[2n, "shared 2"], [4n, "fork 4"], [3n, "shared 3"]]);
    }
  });
}

Deno.test("a source with damage in its past is not taken for compared", async () => {
  const file = dataFs(history(40));
  const bytes = file.bytes.slice();
  bytes[file.transactions[20]!.position + 12] = 0xff; // its length
  const { failure } = await sync("node", bytes, history(10), { check: "full" });
  assert.equal((await sync("file", file.bytes, history(10), { check: "full" })).failure, undefined);
  assert(failure instanceof UnavailableError, String(failure));
  assert(
    (await sync("file", bytes, history(10), { check: "full" })).failure instanceof UnavailableError,
  );
});

Deno.test("by zrs2 nothing can be compared: the quick check says so, the full one is refused", async () => {
  const full = await sync("node", history(9), history(5), { check: "full", protocol: "zrs2" });
  assert(full.failure instanceof UnavailableError, String(full.failure));
  assert.match(full.failure.message, /zrs2 does not tell what is in its transactions/);
  assertSameBytes(full.scene.disk.bytes(COPY), dataFs(history(5)).bytes);
  const { report } = await sync("node", history(9), history(5), {
    protocol: "zrs2",
    until: TID + 6n,
  });
  assert.deepEqual([report?.check.transactions, report?.transactions], [0, 2]);
  assert.match(report?.check.obstacle ?? "", /zrs2/);
});

Deno.test("how far the full check is, is told", async () => {
  const seen: (readonly [number, number])[] = [];
  await sync("node", history(9), history(5), {
    check: "full",
    onCheck: (position, end) => void seen.push([position, end]),
  });
  const { end } = dataFs(history(5));
  assert.deepEqual(seen, [[end, end]]);
});
