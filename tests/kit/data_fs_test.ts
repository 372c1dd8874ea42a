import assert from "node:assert/strict";
import { dataFs, type TransactionDescription } from "./data_fs.ts";
import { assertSameHistory, type History } from "./history.ts";
import { OpenCheck, peerTest, type StoredTransaction, ZodbWriter } from "./peers.ts";
import { TempDirectory } from "./temp.ts";
import { transactionsOf } from "./transactions_of.ts";

const HISTORY: readonly TransactionDescription[] = [
  {
    tid: 0x03f5945817777777n,
    user: "bob",
    description: "né",
    extension: Uint8Array.fromHex("80037d710058010000006b71014b01732e"),
    records: [{ oid: 0n, data: "AAAA." }, { oid: 0xffff_ffff_ffff_fff0n, data: "x" }],
  },
  { tid: 0x03f594581aaaaaaan, records: [{ oid: 1n, data: "BB." }, { oid: 0n, data: "second" }] },
  { tid: 0x03f594581dddddddn, records: [{ oid: 0n, backPointer: [0, 0] }, { oid: 1n, undone: true }] },
  // Two undos in one transaction: both records name the one before the transaction as the previous.
  { tid: 0x03f594581deeeeeen, records: [{ oid: 0n, backPointer: [1, 1] }, { oid: 0n, backPointer: [2, 0] }] },
];

Deno.test("the example of the format description is built byte for byte", () => {
  const { bytes, transactions, end } = dataFs([
    { ...HISTORY[0]!, description: "first", records: [{ oid: 0n, data: "AAAA." }] },
    { tid: 0x03f594581aaaaaaan, records: [{ oid: 1n, data: "BB." }, { oid: 0x123456n, data: "C." }] },
    { tid: 0x03f594581dddddddn, records: [{ oid: 1n, data: "BBBB." }] },
  ]);
  assert.deepEqual(transactions.map((each) => each.position), [0x4, 0x6b, 0xe3]);
  assert.equal(end, 305);
  const expected = `
    46533330
    03f5945817777777 000000000000005f 20 0003 0005 0011 626f62 6669727374
    80037d710058010000006b71014b01732e
    0000000000000000 03f5945817777777 0000000000000000 0000000000000004 0000 0000000000000005 414141412e
    000000000000005f
    03f594581aaaaaaa 0000000000000070 20 0000 0000 0000
    0000000000000001 03f594581aaaaaaa 0000000000000000 000000000000006b 0000 0000000000000003 42422e
    0000000000123456 03f594581aaaaaaa 0000000000000000 000000000000006b 0000 0000000000000002 432e
    0000000000000070
    03f594581ddddddd 0000000000000046 20 0000 0000 0000
    0000000000000001 03f594581ddddddd 0000000000000082 00000000000000e3 0000 0000000000000005 424242422e
    0000000000000046`;
  assert.equal(bytes.toHex(), expected.replaceAll(/\s/g, ""));
});

Deno.test("the simple reader gives back what was described", () => {
  const built = dataFs(HISTORY);
  const read = transactionsOf(built.bytes);
  assert.deepEqual(read.map(({ position, end }) => ({ position, end })), [
    ...built.transactions.map(({ position, end }) => ({ position, end })),
  ]);
  assert.deepEqual(read.map((each) => each.tid), HISTORY.map((each) => each.tid));
  const data = read.map((each) =>
    each.records.map((record) => record.data && new TextDecoder().decode(record.data))
  );
  assert.deepEqual(data, [["AAAA.", "x"], ["BB.", "second"], ["AAAA.", null], ["second", "AAAA."]]);
  assert.deepEqual(read[3]?.records.map((each) => each.dataTid), [HISTORY[1]?.tid, HISTORY[2]?.tid]);
});

Deno.test("the simple reader refuses each kind of damage", () => {
  const [first, second] = [HISTORY[0]!, HISTORY[1]!];
  const inRecord = (damage: object) => [first, { ...second, records: [{ oid: 0n, data: "x", damage }] }];
  const inHeader = (damage: object) => [first, { ...second, damage }];
  const damaged: (readonly TransactionDescription[])[] = [
    inRecord({ tid: 1n }),
    inRecord({ oid: 1n }),
    inRecord({ previous: 5n }),
    inRecord({ transaction: 4n }),
    inRecord({ versionLength: 1 }),
    inRecord({ dataLength: 2n }),
    inRecord({ dataLength: 1n << 60n }),
    [first, { ...second, records: [{ oid: 1n, backPointer: [0, 0] }] }],
    [first, { ...second, records: [{ oid: 0n, undone: true, damage: { backPointer: 4n } }] }],
    inHeader({ tid: first.tid }),
    inHeader({ length: 20n }),
    inHeader({ length: 1n << 63n }),
    inHeader({ status: 0x80 }),
    inHeader({ userLength: 1 }),
    inHeader({ extensionLength: 65535 }),
    inHeader({ trailer: 1n }),
    [{ ...first, status: "c" }, second],
  ];
  for (const [index, description] of damaged.entries()) {
    assert.throws(() => transactionsOf(dataFs(description).bytes), `damage ${index}`);
  }
  assert.throws(() => transactionsOf(dataFs(HISTORY, { tail: "x" }).bytes));
  assert.throws(() => transactionsOf(dataFs(HISTORY, { magic: "FS21" }).bytes));
});

for (const environment of ["zodb55", "zodb6"] as const) {
  peerTest(`ZODB finds in a built file what was described (${environment})`, [environment], async () => {
    await using directory = await TempDirectory.make();
    const path = directory.join("Data.fs");
    const packed: readonly TransactionDescription[] = [{ ...HISTORY[0]!, status: "p" }, ...HISTORY.slice(1)];
    const built = dataFs(packed, { tail: "torn" });
    await Deno.writeFile(path, built.bytes);
    await using zodb = await OpenCheck.start(environment);
    const opened = await zodb.check(path, { readOnly: false });
    assert.equal(opened.size, built.end);
    assert.equal(opened.objects, 3);
    const log = zodb.logs.items.filter((line) => line.logger.startsWith("ZODB.FileStorage"));
    assert.deepEqual(
      log.map((line) => line.message),
      [`${path} truncated at ${built.end}`],
    );
    const read = transactionsOf(dataFs(packed).bytes);
    assert.deepEqual(
      opened.transactions?.map((each) =>
        each.records.map(({ position, previous, backPointer }) => (
          { position, previous, backPointer }
        ))
      ),
      read.map((each) =>
        each.records.map(({ position, previous, backPointer }) => (
          { position, previous, backPointer }
        ))
      ),
    );
    assert.deepEqual(opened.transactions?.map((each) => each.status), ["p", " ", " ", " "]);
    assert.equal((await zodb.check(path)).fstest, null);
  });

  peerTest(`ZODB writes the very bytes that are built (${environment})`, [environment], async () => {
    await using directory = await TempDirectory.make();
    const path = directory.join("Data.fs");
    await using writer = await ZodbWriter.start(environment, { path });
    await writer.store(HISTORY.slice(0, 2).map(toStore));
    await writer.store([{
      tid: hex(0x03f594581dddddddn),
      records: [{ oid: hex(0n), dataTxn: hex(HISTORY[0]!.tid), text: "AAAA." }, {
        oid: hex(1n),
        delete: true,
      }],
    }]);
    const history: History = await writer.history();
    await writer.close();
    const built = dataFs(HISTORY.slice(0, 3));
    assert.deepEqual(await Deno.readFile(path), built.bytes);
    await using zodb = await OpenCheck.start(environment);
    assertSameHistory((await zodb.check(path)).transactions ?? [], history);
  });
}

function toStore(transaction: TransactionDescription): StoredTransaction {
  const { user = "", description = "", extension = new Uint8Array() } = transaction;
  return {
    tid: hex(transaction.tid),
    user: String(user),
    description: String(description),
    extension: { pickle: extension.toBase64() },
    records: transaction.records.map((record) => {
      assert.ok("data" in record && typeof record.data === "string");
      return { oid: hex(record.oid), text: record.data };
    }),
  };
}

function hex(number: bigint): string {
  return number.toString(16).padStart(16, "0");
}
