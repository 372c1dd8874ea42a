/** Finding objects that a transaction holds twice: right, and with bounded work and memory. */
import assert from "node:assert/strict";
import { CorruptError } from "../../lib/errors.ts";
import type { ByteSource } from "../../lib/filestorage/mod.ts";
import { DuplicateFinder, passOf } from "../../lib/replica/sending/duplicates.ts";
import { type BuiltFile, dataFs } from "../kit/data_fs.ts";

const TID = 0x036c_9000_0000_0001n;

/** The bytes of a file, and how many of them were read. */
class CountedSource implements ByteSource {
  bytesRead = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  readAt(into: Uint8Array, position: number): number {
    const found = this.#bytes.subarray(position, position + into.length);
    into.set(found);
    this.bytesRead += found.length;
    return found.length;
  }
}

/** A file whose transactions have records of these objects. */
function fileOf(...transactions: readonly (readonly bigint[])[]): BuiltFile {
  return dataFs(transactions.map((oids, i) => ({
    tid: TID + BigInt(i),
    records: oids.map((oid) => ({ oid, data: "" + oid, previous: "none" as const })),
  })));
}

function range(count: number, step = 1n): bigint[] {
  return Array.from({ length: count }, (_, i) => BigInt(i) * step);
}

/** Asks as a sender does. */
async function ask(finder: DuplicateFinder, position: number, oid: bigint, end: number): Promise<boolean> {
  if (!finder.knows(position)) await finder.examine(position, end);
  return finder.hasSeveral(position, Number(oid >> 32n), Number(oid & 0xffff_ffffn));
}

const noPause = () => Promise.resolve();

Deno.test("objects with several records in their transaction are found, however few oids fit at once", async () => {
  for (const step of [1n, 64n, 1n << 20n, 1n << 32n]) {
    const oids = range(300, step);
    const twice = oids.filter((_, i) => i % 7 === 3);
    const often = Array.from({ length: 200 }, () => oids[0]!);
    const { bytes, transactions, end } = fileOf([...oids, ...twice, ...often]);
    const { position } = transactions[0]!;
    for (const oidsAtOnce of [8, 100, 1_000]) {
      const finder = new DuplicateFinder(new CountedSource(bytes), noPause, oidsAtOnce);
      for (const oid of oids) {
        const expected = oid === oids[0] || twice.includes(oid);
        assert.equal(await ask(finder, position, oid, end), expected, `${oid}, ${oidsAtOnce} at once`);
      }
    }
  }
});

for (const [what, repeated] of [["without", []], ["with", [5n]]] as const) {
  Deno.test(`two transactions ${what} duplicates that are asked for in turn are each read once`, async () => {
    const { bytes, transactions, end } = fileOf([...range(500), ...repeated], [...range(500), ...repeated]);
    const source = new CountedSource(bytes);
    const finder = new DuplicateFinder(source, noPause);
    for (let i = 0; i < 1_000; i++) {
      await ask(finder, transactions[i % 2]!.position, BigInt(i % 500), end);
    }
    assert.ok(source.bytesRead < 8 * bytes.length, `${source.bytesRead} of ${bytes.length} bytes were read`);
  });
}

Deno.test("a long transaction lets others run while it is gone through", async () => {
  const { bytes, transactions, end } = fileOf(range(50_000));
  let pauses = 0;
  const finder = new DuplicateFinder(new CountedSource(bytes), () => {
    pauses++;
    return Promise.resolve();
  });
  assert.equal(await ask(finder, transactions[0]!.position, 1n, end), false);
  assert.ok(pauses >= 2, `${pauses} pauses`);
});

Deno.test("a back pointer that leads to no transaction is damage", async () => {
  const { bytes, transactions, end } = fileOf([1n], [2n]);
  const finder = new DuplicateFinder(new CountedSource(bytes), noPause);
  await assert.rejects(finder.examine(transactions[1]!.position + 1, end), CorruptError);
});

Deno.test("oids are spread evenly over the passes, whatever they have in common", () => {
  const passes = 16;
  const count = 16_000;
  for (let shift = 0n; shift <= 48n; shift++) {
    const inPass = new Array<number>(passes).fill(0);
    for (let i = 0; i < count; i++) {
      const oid = BigInt.asUintN(64, BigInt(i) << shift);
      inPass[passOf(Number(oid >> 32n), Number(oid & 0xffff_ffffn), passes)]!++;
    }
    const most = Math.max(...inPass);
    assert.ok(most < 2 * count / passes, `${most} of ${count} oids that are multiples of 2^${shift}`);
  }
});
