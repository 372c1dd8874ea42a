/** `zrs verify` as people and programs see it. */
import assert from "node:assert/strict";
import { run } from "../../lib/cli/mod.ts";
import { UnavailableError } from "../../lib/errors.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { latin1 } from "../kit/hex.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { ScriptedHost } from "./scripted_host.ts";

const PATH = "/data/Data.fs";

const HISTORY: readonly TransactionDescription[] = [
  { tid: 0x03f5945817777777n, records: [{ oid: 0n, data: "root" }, { oid: 1n, data: "one" }] },
  { tid: 0x03f594581aaaaaaan, records: [{ oid: 1n, data: "two" }] },
];
const FILE = dataFs(HISTORY);

async function verify(bytes: Uint8Array, ...options: string[]) {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  const host = new ScriptedHost(disk);
  return { code: await run(["verify", PATH, ...options], host), ...host.written };
}

function damaged(at: number, byte: number): Uint8Array {
  const bytes = FILE.bytes.slice();
  bytes[at] = byte;
  return bytes;
}

Deno.test("a sound file is summed up in a line, with exit code 0", async () => {
  assert.deepEqual(await verify(FILE.bytes), {
    code: 0,
    out: "/data/Data.fs: 2 transactions, 3 records, 2 objects, 202 bytes up to 03f594581aaaaaaa " +
      "(2024-01-02T03:04:06.250Z): no findings\n",
    err: "",
  });
});

Deno.test("a finding is a line with position, tid, time, what was expected and what is there; exit code 1", async () => {
  const { code, out } = await verify(damaged(20, 0x21));
  assert.equal(code, 1);
  assert.deepEqual(out.split("\n"), [
    "at 4, transaction 03f5945817777777 (2024-01-02T03:04:05.500Z): its status must be ' ', 'p' or 'u', found byte 0x21",
    "/data/Data.fs: 2 transactions, 3 records, 2 objects, 202 bytes up to 03f594581aaaaaaa " +
    "(2024-01-02T03:04:06.250Z): 1 finding",
    "",
  ]);
});

Deno.test("a torn tail is a finding, and is said to be no damage", async () => {
  const { code, out } = await verify(FILE.bytes.slice(0, -10));
  assert.equal(code, 1);
  assert.match(
    out,
    /^at 126, transaction 03f594581aaaaaaa \(.*\): torn tail: .*; the last 66 bytes do not count/,
  );
  assert.match(out, /: no damage, but a torn tail\n$/);
  const one = await verify(new Uint8Array([...FILE.bytes, 1]));
  assert.match(one.out, /; the last 1 byte does not count, and is cut off when /);
});

Deno.test("--json gives an object a line, and a summary", async () => {
  const { code, out } = await verify(damaged(20, 0x21), "--json");
  assert.equal(code, 1);
  assert.deepEqual(out.trimEnd().split("\n").map((line) => JSON.parse(line)), [
    {
      kind: "bad-status",
      position: 4,
      tid: "03f5945817777777",
      time: "2024-01-02T03:04:05.500Z",
      found: 0x21,
      gravity: "damage",
      message: "its status must be ' ', 'p' or 'u', found byte 0x21",
    },
    {
      kind: "summary",
      path: PATH,
      transactions: 2,
      records: 3,
      objects: 2,
      lastTid: "03f594581aaaaaaa",
      lastTime: "2024-01-02T03:04:06.250Z",
      end: 202,
      replaced: false,
      findings: 1,
      damage: 1,
      tornTail: false,
      hidden: 0,
    },
  ]);
});

Deno.test("findings beyond --max-findings are counted, and count", async () => {
  const { code, out } = await verify(FILE.bytes, "--pickles", "--max-findings", "1");
  assert.equal(code, 1);
  assert.equal(out.split("\n").length, 3);
  assert.match(out, /: 3 findings \(2 not shown\)\n$/);
});

Deno.test("what cannot be verified is exit code 2", async () => {
  const cases: [Uint8Array, string[], RegExp][] = [
    [latin1("PK\x03\x04"), [], /it is not a FileStorage/],
    [FILE.bytes, ["/data/Other.fs"], /Cannot open \/data\/Other\.fs: there is no such file/],
    [FILE.bytes, ["--blob-dir", "/none"], /there is no such directory/],
    [FILE.bytes, ["--max-findings", "0"], /Expected a whole number/],
  ];
  for (const [bytes, options, message] of cases) {
    const { code, err } = await verify(bytes, ...options);
    assert.equal(code, 2, err);
    assert.match(err, message);
  }
  assert.equal(await run(["verify", "/none/Data.fs"], new ScriptedHost(new MemoryDisk())), 2);
});

Deno.test("objects that cannot be reached are counted, and no damage", async () => {
  const state = (text: string) => latin1(`\x80\x03cm\nC\nq\x00.\x80\x03${text}.`);
  const file = dataFs([{
    tid: 1n << 60n,
    records: [{ oid: 0n, data: state("N") }, { oid: 1n, data: state("N") }],
  }]);
  const { code, out } = await verify(file.bytes, "--refs", "--pickles");
  assert.equal(code, 0);
  assert.match(out, /: no findings; 1 object cannot be reached from the root, which a pack removes\n$/);
  const json = await verify(file.bytes, "--refs", "--json");
  assert.equal(json.code, 0);
  assert.match(json.out, /^\{"kind":"unreachable",.*"oid":"0000000000000001"/);
});

Deno.test("what was not looked at, because nobody reads on, is not said to be sound", async () => {
  const none = latin1("\x80\x03cm\nC\nq\x00.\x80\x03N.");
  const records = Array.from({ length: 3000 }, (_, at) => ({ oid: BigInt(at), data: none }));
  const disk = new MemoryDisk();
  disk.put(PATH, dataFs([{ tid: 1n << 60n, records }]).bytes);
  const host = new ScriptedHost(disk);
  const out = () => {
    throw new UnavailableError("Cannot write to standard output: its reader has gone");
  };
  // Nothing but notes has been found until then, and no blob has been looked for.
  const code = await run(["verify", PATH, "--refs", "--json"], Object.assign(host, { out }));
  assert.equal(code, 4);
});

Deno.test("nothing is ever written to the disk", async () => {
  const disk = new MemoryDisk();
  disk.put(PATH, FILE.bytes.slice(0, -10));
  await run(["verify", PATH, "--pickles", "--refs"], new ScriptedHost(disk));
  assert.deepEqual([...new Set(disk.performed.map(({ operation }) => operation))].sort(), ["open", "read"]);
  assert.deepEqual(disk.paths(), [PATH]);
});

Deno.test("progress is drawn on a terminal only, after a second, and taken away before anything else", async () => {
  for (const isTerminal of [true, false]) {
    const disk = new MemoryDisk();
    disk.put(PATH, FILE.bytes);
    const host = new ScriptedHost(disk);
    let now = 0;
    const clock = {
      ...host.clock,
      monotonic: () => now += 1500,
      schedule: host.clock.schedule.bind(host.clock),
    };
    Object.assign(host, { clock, isTerminal: () => isTerminal });
    assert.equal(await run(["verify", PATH, "--pickles"], host), 1); // the data is no pickle
    const parts = host.written.err.split("\r\x1b[K");
    assert.equal(parts.at(-1), "");
    assert.equal(parts.some((part) => /^looking into records: (.+) of \1/.test(part)), isTerminal);
  }
});
