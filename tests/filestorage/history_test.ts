import assert from "node:assert/strict";
import { CorruptError } from "../../lib/errors.ts";
import {
  History,
  listRecords,
  listTransactions,
  type RecordEntry,
  type Selection,
} from "../../lib/filestorage/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { latin1 } from "../kit/hex.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";

const PATH = "/data/Data.fs";
const TID = 0x03f0000000000000n;

function diskWith(bytes: Uint8Array): MemoryDisk {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  return disk;
}

/** The tids of what is listed, counted from {@link TID}, and what ended the list. */
async function listed(
  bytes: Uint8Array,
  selection: Selection,
): Promise<{ tids: number[]; failure: unknown }> {
  using history = await History.open(diskWith(bytes), PATH);
  const tids: number[] = [];
  try {
    for await (const { tid } of listTransactions(history, selection)) tids.push(Number(tid - TID));
    return { tids, failure: history.damage };
  } catch (failure) {
    return { tids, failure };
  }
}

/** Transactions 1 … count: number n changes object n % 3, and object 7 at every fifth. */
function someTransactions(count: number): TransactionDescription[] {
  return Array.from({ length: count }, (_, at) => ({
    tid: TID + BigInt(at + 1),
    records: [
      { oid: BigInt((at + 1) % 3), data: `revision ${at + 1}` },
      ...((at + 1) % 5 === 0 ? [{ oid: 7n, data: "seven" }] : []),
    ],
  }));
}

Deno.test("any selection is what filtering all transactions gives", async () => {
  const { bytes } = dataFs(someTransactions(12));
  const all = Array.from({ length: 12 }, (_, at) => at + 1);
  for (const last of [undefined, 1, 2, 5, 11, 12, 13, 1000]) {
    for (const since of [undefined, 0, 1, 6, 12, 13]) {
      for (const oid of [undefined, 0n, 2n, 7n, 9n]) {
        const fitting = all.filter((n) =>
          n >= (since ?? 0) &&
          (oid === undefined || BigInt(n % 3) === oid || (oid === 7n && n % 5 === 0))
        );
        const expected = last === undefined ? fitting : fitting.slice(-last);
        const selection = { last, since: since === undefined ? undefined : TID + BigInt(since), oid };
        assert.deepEqual(await listed(bytes, selection), { tids: expected, failure: undefined });
      }
    }
  }
});

Deno.test("the newest transactions of a large file are found without reading the rest of it", async () => {
  const big = dataFs([
    { tid: TID + 1n, records: [{ oid: 0n, data: new Uint8Array(3_000_000) }] },
    ...someTransactions(40).map((each) => ({ ...each, tid: each.tid + 1n })),
  ]);
  const disk = diskWith(big.bytes);
  const openRead = disk.openRead.bind(disk);
  let read = 0;
  disk.openRead = (path) => {
    const file = openRead(path);
    const readAt = file.readAt.bind(file);
    return Object.assign(file, {
      readAt: (into: Uint8Array, position: number) => {
        const count = readAt(into, position);
        read += count;
        return count;
      },
    });
  };
  using history = await History.open(disk, PATH);
  const entries = await Array.fromAsync(listTransactions(history, { last: 20 }));
  assert.deepEqual(
    entries.map(({ tid }) => Number(tid - TID)),
    Array.from({ length: 20 }, (_, at) => at + 22),
  );
  assert(read < 1_000_000, `${read} bytes were read`);
});

Deno.test("a commit under way in a large file is waited for, and not for ever", async () => {
  const first = { tid: TID + 1n, records: [{ oid: 0n, data: new Uint8Array(17_000_000) }] };
  const last = { tid: TID + 2n, records: [{ oid: 1n, data: "new" }] };
  const voted = dataFs([first, { ...last, status: "c" }]).bytes;
  for (const finishedAfter of [3, Infinity]) {
    const disk = diskWith(voted);
    let waits = 0;
    using history = await History.open(disk, PATH, () => {
      if (++waits === finishedAfter) disk.put(PATH, dataFs([first, last]).bytes);
      return Promise.resolve();
    });
    assert.equal(history.lastTid, finishedAfter === 3 ? TID + 2n : TID + 1n);
    assert(finishedAfter === 3 ? waits === 3 : waits > 3 && waits < 100);
  }
});

Deno.test("a list ends at the last whole transaction, whatever stands behind it", async () => {
  const transactions = someTransactions(3);
  const next = { tid: TID + 9n, status: "c", records: [{ oid: 0n, data: "voted" }] } as const;
  const voted = dataFs([...transactions, next]).bytes;
  const { end } = dataFs(transactions);
  for (let size = end; size <= voted.length; size++) {
    assert.deepEqual(await listed(voted.slice(0, size), { last: 20 }), {
      tids: [1, 2, 3],
      failure: undefined,
    });
  }
  const zeros = new Uint8Array(end + 1000);
  zeros.set(voted.subarray(0, end));
  assert.deepEqual(await listed(zeros, { last: 20 }), { tids: [1, 2, 3], failure: undefined });
});

Deno.test("an empty database has no transactions", async () => {
  for (const text of ["", "FS30"]) {
    assert.deepEqual(await listed(new TextEncoder().encode(text), { last: 20 }), {
      tids: [],
      failure: undefined,
    });
    assert.deepEqual(await listed(new TextEncoder().encode(text), { since: TID }), {
      tids: [],
      failure: undefined,
    });
  }
});

Deno.test("damage is told with its place, behind what can be read on this side of it", async () => {
  const transactions = someTransactions(6);
  const damaged = transactions.with(2, { ...transactions[2]!, damage: { trailer: 1n } });
  const { bytes, transactions: placed } = dataFs(damaged);
  const cases: [Selection, number[]][] = [
    [{ last: 3 }, [4, 5, 6]],
    [{ last: 4 }, [4, 5, 6]],
    [{ since: TID }, [1, 2]],
  ];
  for (const [selection, expected] of cases) {
    const { tids, failure } = await listed(bytes, selection);
    assert.deepEqual(tids, expected);
    if (selection.last === 3) {
      assert.equal(failure, undefined);
      continue;
    }
    assert(failure instanceof CorruptError, String(failure));
    assert.match(failure.message, /^Cannot read \/data\/Data\.fs: .* at \d+/);
    const { position, end } = placed[2]!;
    assert([position, end].includes(failure.facts.position!), String(failure.facts.position));
  }
});

Deno.test("damage that ends what can be found of a torn file is told too", async () => {
  const transactions = someTransactions(4);
  const damaged = transactions.with(1, { ...transactions[1]!, damage: { trailer: 1n } });
  const voted = { tid: TID + 9n, status: "c", records: [] } as const;
  const { tids, failure } = await listed(dataFs([...damaged, voted]).bytes, { last: 20 });
  assert.deepEqual(tids, [1]);
  assert(failure instanceof CorruptError);
  assert.match(failure.message, /trailing length must be/);
});

Deno.test("a record that does not fit its transaction is told with its place", async () => {
  const transactions = someTransactions(3);
  const record = { oid: 0n, data: "three", damage: { transaction: 99n } };
  const { bytes, transactions: placed } = dataFs(
    transactions.with(1, { ...transactions[1]!, records: [record] }),
  );
  const { tids, failure } = await listed(bytes, { last: 20 });
  assert.deepEqual(tids, [1]);
  assert(failure instanceof CorruptError);
  assert.equal(failure.facts.position, placed[1]!.records[0]!.position);
});

Deno.test("records tell what they hold, share, or undo", async () => {
  const pickle = (name: string) => latin1(`\x80\x03cpackage.module\n${name}\nq\x00.state`);
  const { bytes } = dataFs([
    {
      tid: TID + 1n,
      records: [{ oid: 0n, data: pickle("Root") }, { oid: 2n ** 40n, data: pickle("Page") }],
    },
    { tid: TID + 2n, records: [{ oid: 2n ** 40n, data: "no pickle" }] },
    {
      tid: TID + 3n,
      records: [{ oid: 2n ** 40n, backPointer: [0, 1] }, { oid: 5n, undone: true }],
    },
    { tid: TID + 4n, records: [{ oid: 2n ** 40n, backPointer: [2, 0] }, { oid: 5n, backPointer: [2, 1] }] },
  ]);
  using history = await History.open(diskWith(bytes), PATH);
  const found: RecordEntry[][] = [];
  for await (const { position, records } of listTransactions(history, {})) {
    found.push([...listRecords(history, position)]);
    assert.equal(found.at(-1)!.length, records);
  }
  const page = { oid: 2n ** 40n, className: "package.module.Page", length: pickle("Page").length };
  const gone = { oid: 5n, className: undefined, dataTid: undefined, length: undefined };
  assert.deepEqual(found, [
    [
      { oid: 0n, className: "package.module.Root", dataTid: undefined, length: pickle("Root").length },
      { ...page, dataTid: undefined },
    ],
    [{ oid: 2n ** 40n, className: undefined, dataTid: undefined, length: 9 }],
    [{ ...page, dataTid: TID + 1n }, gone],
    [{ ...page, dataTid: TID + 3n }, gone],
  ]);
});
