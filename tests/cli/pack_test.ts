/** `zrs pack` as people and scripts see it. */
import assert from "node:assert/strict";
import { run } from "../../lib/cli/mod.ts";
import { dataFs } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { ScriptedHost } from "./scripted_host.ts";

const PATH = "/data/Data.fs";

/** A root without references, as ZODB pickles it: its class, and an empty state. */
const ROOT = new Uint8Array([0x80, 3, ...new TextEncoder().encode("cm\nC\n"), 0x2e, 0x80, 3, 0x7d, 0x2e]);
/** 2024-01-02T03:04:00Z, and a unit later each. */
const FIRST = 0x03f5945800000000n;

const FILE = dataFs(
  Array.from({ length: 3 }, (_, at) => ({ tid: FIRST + BigInt(at), records: [{ oid: 0n, data: ROOT }] })),
);
/** What is left when all is packed. */
const PACKED = dataFs([{ tid: FIRST + 2n, status: "p", records: [{ oid: 0n, data: ROOT }] }]);

async function pack(options: readonly string[], bytes: Uint8Array = FILE.bytes) {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  const host = new ScriptedHost(disk);
  return { code: await run(["pack", PATH, ...options], host), ...host.written, disk };
}

Deno.test("a pack says what is left, and where the unpacked file is", async () => {
  const { code, out, err, disk } = await pack([]);
  assert.deepEqual([code, err], [0, ""]);
  assert.equal(
    out,
    `${PATH} is packed up to 03f5945800000002 (2024-01-02T03:04:00.000Z): 89 bytes of 259 bytes are left, ` +
      `66 % less, in 1 of 3 transactions; the unpacked file is kept as ${PATH}.old\n`,
  );
  assert.deepEqual(disk.bytes(PATH), PACKED.bytes);
  assert.deepEqual(disk.bytes(`${PATH}.old`), FILE.bytes);
});

Deno.test("--no-keep-old keeps nothing, -q says nothing, and --json tells programs", async () => {
  const { code, out, err, disk } = await pack(["--no-keep-old", "-q"]);
  assert.deepEqual([code, out, err], [0, "", ""]);
  assert.deepEqual(disk.paths().filter((path) => /\.(old|pack)$/.test(path)), []);
  assert.deepEqual(JSON.parse((await pack(["--json", "--to", "03f5945800000001"])).out), {
    path: PATH,
    packed: true,
    tid: "03f5945800000001",
    time: "2024-01-02T03:04:00.000Z",
    bytesBefore: 259,
    bytesAfter: 174,
    transactionsBefore: 3,
    transactionsAfter: 2,
    keptAs: `${PATH}.old`,
    blobsDropped: null,
    keptFor: null,
  });
});

Deno.test("a pack says how many blobs it has dropped", async () => {
  const blob = new Uint8Array([
    0x80,
    3,
    ...new TextEncoder().encode("cZODB.blob\nBlob\n."),
    0x80,
    3,
    0x4e,
    0x2e,
  ]);
  const { bytes } = dataFs(
    [0n, 1n, 2n].map((at) => ({
      tid: FIRST + at,
      records: [{ oid: 0n, data: ROOT }, { oid: 1n, data: blob }],
    })),
  );
  for (const [to, words] of [[FIRST + 1n, "1 blob dropped"], [FIRST + 2n, "2 blobs dropped"]] as const) {
    const disk = new MemoryDisk();
    disk.put(PATH, bytes);
    disk.put("/data/blobs/.layout", new TextEncoder().encode("lawn"));
    for (const at of [0n, 1n, 2n]) {
      disk.put(`/data/blobs/0x01/0x0${(FIRST + at).toString(16).replace(/^0/, "")}.blob`, new Uint8Array(1));
    }
    const host = new ScriptedHost(disk);
    const options = ["--no-gc", "--to", to.toString(16).padStart(16, "0"), "--blob-dir", "/data/blobs"];
    assert.equal(await run(["pack", PATH, ...options], host), 0, host.written.err);
    assert.ok(host.written.out.includes(`; ${words};`), host.written.out);
  }
});

Deno.test("what a secondary still needs is kept, and the last line says for whom; or not, if told so", async () => {
  const heard = new Date().toISOString();
  const secondaries = [{ name: "db2\x1b[2J", tid: "03f5945800000002", heard }];
  const packFor = async (...options: string[]) => {
    const disk = new MemoryDisk();
    disk.put(PATH, FILE.bytes);
    disk.put(`${PATH}.secondaries`, new TextEncoder().encode(JSON.stringify({ secondaries })));
    const host = new ScriptedHost(disk);
    assert.equal(await run(["pack", PATH, ...options], host), 0);
    return { out: host.written.out, bytes: disk.bytes(PATH) };
  };
  const kept = await packFor();
  assert.equal(transactionsOf(kept.bytes).length, 2);
  assert.ok(kept.out.includes(
    `; kept from 03f5945800000002 (2024-01-02T03:04:00.000Z) on for secondary db2?[2J, which had no more by ${heard}`,
  ));
  const { keptFor } = JSON.parse((await packFor("--json")).out);
  assert.deepEqual(keptFor, secondaries[0]);
  for (const options of [["--ignore-secondaries"], ["--keep-for", "0"]]) {
    const { out, bytes } = await packFor(...options);
    assert.deepEqual([bytes, out.includes("kept from")], [PACKED.bytes, false]);
  }
});

Deno.test("where there is nothing to drop nothing is changed, and that is no failure", async () => {
  const options = [["--to", "2024-01-02"], ["--to", "03f5945800000000"], ["--days", "100000"]];
  for (const each of [...options, ["--days", "99999999999"], ["--days", "1e300"]]) {
    const { code, out, disk } = await pack(each);
    assert.deepEqual([code, out], [
      0,
      `${PATH}: there is nothing to drop up to then; nothing has been changed\n`,
    ]);
    assert.deepEqual(disk.bytes(PATH), FILE.bytes);
    assert.deepEqual(disk.paths(), [PATH, `${PATH}.lock`]);
  }
});

Deno.test("what cannot be packed is named, with its exit code, and left as it is", async () => {
  const unreadable = dataFs([1n, 2n].map((tid) => ({ tid, records: [{ oid: 0n, data: "compressed" }] })));
  const cases: [readonly string[], Uint8Array, number, RegExp][] = [
    [
      ["--to", "2999-01-01"],
      FILE.bytes,
      2,
      /Cannot pack to 2999-01-01T.*: that is in the future; name a time/,
    ],
    [["--to", "2024-01-01", "--days", "1"], FILE.bytes, 2, /Cannot use both --days and --to/],
    [["--days", "-1"], FILE.bytes, 2, /number of days, 0 or more/],
    [["--days", "soon"], FILE.bytes, 2, /number of days, 0 or more/],
    [[], unreadable.bytes, 2, /what object 0{16} refers to cannot be read at .*--no-gc/],
    [[], new TextEncoder().encode("<html>"), 2, /not a FileStorage/],
  ];
  for (const [options, bytes, expected, words] of cases) {
    const { code, out, err, disk } = await pack(options, bytes);
    assert.deepEqual([code, out], [expected, ""], options.join(" "));
    assert.match(err, words);
    assert.deepEqual(disk.bytes(PATH), bytes);
    assert.deepEqual(disk.paths().filter((path) => /\.(old|pack)$/.test(path)), []);
  }
});

Deno.test("a file that is not there, or that another process has open, is not packed", async () => {
  const disk = new MemoryDisk();
  disk.addDirectory("/data");
  const host = new ScriptedHost(disk);
  assert.equal(await run(["pack", PATH], host), 2);
  assert.match(host.written.err, /Cannot pack .*: there is no such file/);
  assert.deepEqual(disk.paths(), []);
  disk.put(PATH, FILE.bytes);
  using _held = disk.lock(`${PATH}.lock`);
  assert.equal(await run(["pack", PATH], host), 5);
  assert.deepEqual(disk.bytes(PATH), FILE.bytes);
});
