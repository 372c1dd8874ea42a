/** `zrs log` as people and programs see it. */
import assert from "node:assert/strict";
import { UnavailableError } from "../../lib/errors.ts";
import { run } from "../../lib/cli/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { latin1 } from "../kit/hex.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { ScriptedHost } from "./scripted_host.ts";

const PATH = "/data/Data.fs";
const ROOT = latin1("\x80\x03cpersistent.mapping\nPersistentMapping\nq\x00.state");

const HISTORY: readonly TransactionDescription[] = [
  {
    tid: 0x03f5945817777777n,
    status: "p",
    user: "bob",
    description: "first\nand \x1b[31mé",
    records: [{ oid: 0n, data: ROOT }, { oid: 0x123456n, data: "BB." }],
  },
  { tid: 0x03f594581aaaaaaan, description: new Uint8Array([0x6e, 0xff]), records: [{ oid: 1n, data: "C" }] },
  {
    tid: 0x03f594581dddddddn,
    records: [{ oid: 0n, backPointer: [0, 0] }, { oid: 0x123456n, undone: true }],
  },
];

function hostWith(bytes: Uint8Array): ScriptedHost {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  return new ScriptedHost(disk);
}

async function log(
  bytes: Uint8Array,
  ...options: string[]
): Promise<{ code: number; out: string; err: string }> {
  const host = hostWith(bytes);
  return { code: await run(["log", PATH, ...options], host), ...host.written };
}

Deno.test("a line tells a transaction, and control characters cannot leave it", async () => {
  assert.deepEqual(await log(dataFs(HISTORY).bytes), {
    code: 0,
    out: [
      "TID               TIME (UTC)                RECORDS       BYTES  USER: DESCRIPTION",
      "03f5945817777777  2024-01-02T03:04:05.500Z        2          186  [packed] bob: first\\nand \\x1b[31mé",
      "03f594581aaaaaaa  2024-01-02T03:04:06.250Z        1           76  n\ufffd",
      "03f594581ddddddd  2024-01-02T03:04:07.000Z        2          131  [undo]",
      "",
    ].join("\n"),
    err: "",
  });
});

Deno.test("on a terminal a line is as long as that is wide", async () => {
  for (const columns of [70, 0, undefined]) {
    const host = hostWith(dataFs(HISTORY).bytes);
    const { out } = await log(dataFs(HISTORY).bytes);
    Object.assign(host, { isTerminal: () => true, columns: () => columns });
    assert.equal(await run(["log", PATH], host), 0);
    const expected = out.split("\n").map((line) => line.length > 70 ? `${line.slice(0, 69)}…` : line);
    assert.deepEqual(host.written.out, columns === 70 ? expected.join("\n") : out);
  }
});

Deno.test("--records adds a line for each record", async () => {
  const { out } = await log(dataFs(HISTORY).bytes, "--records", "--last", "3");
  assert.deepEqual(out.split("\n").filter((line) => line.startsWith(" ")), [
    "  0000000000000000  persistent.mapping.PersistentMapping  48 bytes",
    "  0000000000123456  unknown class  3 bytes",
    "  0000000000000001  unknown class  1 byte",
    "  0000000000000000  persistent.mapping.PersistentMapping  48 bytes  as in 03f5945817777777",
    "  0000000000123456  its creation was undone, or it was deleted",
  ]);
});

Deno.test("--json gives an object a line, with the records if they are wanted", async () => {
  const lines = async (...options: string[]) =>
    (await log(dataFs(HISTORY).bytes, "--json", ...options)).out.trimEnd().split("\n")
      .map((line) => JSON.parse(line));
  const facts = [
    {
      tid: "03f5945817777777",
      time: "2024-01-02T03:04:05.500Z",
      status: "packed",
      user: "bob",
      description: "first\nand \x1b[31mé",
      position: 4,
      bytes: 186,
      records: 2,
      undo: false,
    },
    {
      tid: "03f594581aaaaaaa",
      time: "2024-01-02T03:04:06.250Z",
      status: "committed",
      user: "",
      description: "n\ufffd",
      position: 190,
      bytes: 76,
      records: 1,
      undo: false,
    },
  ];
  assert.deepEqual((await lines()).slice(0, 2), facts);
  assert.deepEqual((await lines("--records")).map(({ objects }) => objects), [
    [
      { oid: "0000000000000000", class: "persistent.mapping.PersistentMapping", length: 48 },
      { oid: "0000000000123456", length: 3 },
    ],
    [{ oid: "0000000000000001", length: 1 }],
    [
      {
        oid: "0000000000000000",
        class: "persistent.mapping.PersistentMapping",
        length: 48,
        dataTid: "03f5945817777777",
      },
      { oid: "0000000000123456", creationUndone: true },
    ],
  ]);
  const empty = dataFs([{ tid: 1n << 56n, records: [] }]).bytes;
  assert.deepEqual(JSON.parse((await log(empty, "--json", "--records")).out).objects, []);
});

Deno.test("an undo is what brings earlier data back and has none of its own", async () => {
  const record = { oid: 1n, data: "D" };
  const histories: [records: TransactionDescription["records"], undo: boolean][] = [
    [[{ oid: 1n, backPointer: [0, 0] }], true],
    [[{ oid: 1n, backPointer: [0, 0] }, { oid: 2n, undone: true }], true],
    [[{ oid: 1n, backPointer: [0, 0] }, { oid: 2n, data: "D" }], false],
    [[{ oid: 1n, undone: true }], false], // objects are also deleted like this
    [[record], false],
    [[], false],
  ];
  for (const [records, undo] of histories) {
    const { bytes } = dataFs([{ tid: 1n << 56n, records: [record] }, { tid: (1n << 56n) + 1n, records }]);
    const { out } = await log(bytes, "--json", "--last", "1");
    assert.equal(JSON.parse(out).undo, undo);
    assert.equal((await log(bytes)).out.includes("[undo]"), undo);
  }
});

Deno.test("20 are shown, or all since a moment, or as many as wanted", async () => {
  const { bytes } = dataFs(Array.from({ length: 50 }, (_, at) => ({
    tid: 0x03f5945800000000n + BigInt(at),
    records: [{ oid: BigInt(at % 2), data: "D" }],
  })));
  const count = async (...options: string[]) =>
    (await log(bytes, "--json", ...options)).out.split("\n").length - 1;
  assert.equal(await count(), 20);
  assert.equal(await count("--oid", "0000000000000001"), 20);
  assert.equal(await count("--oid", "1", "--last", "50"), 25);
  assert.equal(await count("--since", "2024-01-02T03:04:00Z"), 50);
  assert.equal(await count("--since", "03f594580000000a"), 40);
  assert.equal(await count("--since", "0x03f594580000000a", "--last", "7"), 7);
  assert.equal(await count("--since", "2024-01-02T03:05:00Z"), 0);
});

Deno.test("nothing to show is said on standard error", async () => {
  const empty = dataFs([]).bytes;
  assert.deepEqual(await log(empty), { code: 0, out: "", err: `${PATH} has no transactions\n` });
  const { bytes } = dataFs(HISTORY);
  assert.deepEqual(await log(bytes, "--oid", "77"), {
    code: 0,
    out: "",
    err: `${PATH} has no such transaction\n`,
  });
  assert.deepEqual(await log(empty, "--json"), { code: 0, out: "", err: "" });
});

Deno.test("a list that is no more read ends without a word", async () => {
  const host = hostWith(dataFs(HISTORY).bytes);
  host.out = () => {
    throw new UnavailableError("Cannot write to standard output: its reader has gone");
  };
  assert.equal(await run(["log", PATH], host), 0);
  assert.equal(host.written.err, "");
});

Deno.test("damage in the middle exits with 7, after what can be read", async () => {
  const { bytes } = dataFs(HISTORY.with(1, { ...HISTORY[1]!, damage: { trailer: 1n } }));
  const { code, out, err } = await log(bytes);
  assert.equal(code, 7);
  assert.match(out, /^TID.*\n03f594581ddddddd [^\n]*\n$/);
  assert.match(err, /^zrs log: Cannot read \/data\/Data\.fs: .*ends at 266.*\n$/);
});

Deno.test("a file that another process has locked is read, and nothing is written", async () => {
  const host = hostWith(dataFs(HISTORY).bytes);
  const disk = host.disk as MemoryDisk;
  using _lock = disk.lock(`${PATH}.lock`);
  const before = disk.paths();
  disk.performed.length = 0;
  assert.equal(await run(["log", PATH], host), 0);
  assert.deepEqual(disk.paths(), before);
  assert.deepEqual(new Set(disk.performed.map(({ operation }) => operation)), new Set(["open", "read"]));
});

Deno.test("wrong values exit with 2 and say what is accepted", async () => {
  const table: [string[], RegExp][] = [
    [["--since", "yesterday"], /`--since`: Cannot read time "yesterday"; write 2024-01-31/],
    [["--oid", "xyz"], /`--oid`: Cannot read oid "xyz": expected 16 hexadecimal digits, or a decimal number/],
    [["--oid", "18446744073709551616"], /Cannot read oid/],
    [["--last", "0"], /`--last`: Expected a whole number from 1 on/],
    [["--lst", "3"], /did you mean `--last`/],
  ];
  for (const [options, line] of table) {
    const { code, out, err } = await log(dataFs(HISTORY).bytes, ...options);
    assert.equal(code, 2, options.join(" "));
    assert.equal(out, "");
    assert.match(err, line);
  }
});
