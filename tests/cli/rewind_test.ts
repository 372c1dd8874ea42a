/** `zrs rewind` as people and scripts see it. */
import assert from "node:assert/strict";
import { run } from "../../lib/cli/mod.ts";
import { dataFs } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { startPrimary } from "../kit/node.ts";
import { ScriptedHost } from "./scripted_host.ts";

const PATH = "/data/Data.fs";
const FIRST = "03f5945800000000";
const SECOND = "03f5945800000001";
const THIRD = "03f5945800000002";

const FILE = fileOf(3);
const SAVED = `${PATH}.rewound-${SECOND}`;

function fileOf(count: number) {
  return dataFs(Array.from({ length: count }, (_, at) => ({
    tid: 0x03f5945800000000n + BigInt(at),
    description: `number ${at + 1}`,
    records: [{ oid: BigInt(at % 2), data: "data" }],
  })));
}

interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  readonly disk: MemoryDisk;
}

async function rewind(
  options: readonly string[],
  { bytes = FILE.bytes, answers, disk = new MemoryDisk() }: {
    bytes?: Uint8Array;
    answers?: string[];
    disk?: MemoryDisk;
  } = {},
): Promise<Outcome> {
  disk.put(PATH, bytes);
  const host = new ScriptedHost(disk);
  host.answers = answers;
  return { code: await run(["rewind", PATH, ...options], host), ...host.written, disk };
}

const TIME = "2024-01-02T03:04:00.000Z";
const LIST = [
  "TID               TIME (UTC)                RECORDS       BYTES  USER: DESCRIPTION",
  `${SECOND}  ${TIME}        1           85  number 2`,
  `${THIRD}  ${TIME}        1           85  number 3`,
];

Deno.test("what goes is shown, asked about, saved, and gone", async () => {
  for (const answer of ["y", "Yes"]) {
    const { code, out, err, disk } = await rewind(["--to", FIRST], { answers: [answer] });
    assert.deepEqual([code, err], [0, `Rewind ${PATH}? [y/N] `]);
    assert.deepEqual(out.split("\n"), [
      `Rewinding ${PATH} to ${FIRST} (${TIME}) takes back 2 transactions, 170 bytes: ` +
      `${SECOND} (${TIME}) to ${THIRD} (${TIME})`,
      ...LIST,
      `They will be saved in ${SAVED}`,
      `${PATH} ends with ${FIRST} (${TIME}); 2 transactions saved in ${SAVED}`,
      "",
    ]);
    assert.deepEqual(disk.bytes(PATH), FILE.bytes.slice(0, FILE.transactions[0]!.end));
    const host = new ScriptedHost(disk);
    assert.equal(await run(["log", SAVED], host), 0);
    assert.deepEqual(host.written.out.trimEnd().split("\n"), LIST);
  }
});

Deno.test("any other answer changes nothing, and exits with 2", async () => {
  for (const answer of ["", "n", "no", "yess"]) {
    const { code, err, disk } = await rewind(["--to", FIRST], { answers: [answer] });
    assert.equal(code, 2);
    assert.match(
      err,
      /\[y\/N\] zrs rewind: Did not rewind .*: the answer was no, and nothing has been changed\n$/,
    );
    assert.deepEqual(disk.bytes(PATH), FILE.bytes);
    assert.deepEqual(disk.paths(), [PATH, `${PATH}.lock`]);
  }
});

Deno.test("where nobody can answer it needs --yes", async () => {
  const refused = await rewind(["--to", FIRST]);
  assert.equal(refused.code, 2);
  assert.match(
    refused.err,
    /^zrs rewind: Cannot ask whether to rewind .*; give --yes to rewind it as shown\n$/,
  );
  assert(refused.out.includes(LIST.join("\n")), refused.out);
  assert.deepEqual(refused.disk.bytes(PATH), FILE.bytes);
  assert.deepEqual(refused.disk.paths(), [PATH, `${PATH}.lock`]);

  const done = await rewind(["--to", `0x${SECOND}`, "--yes"]);
  assert.deepEqual([done.code, done.err], [0, ""]);
  assert.deepEqual(done.disk.bytes(PATH), FILE.bytes.slice(0, FILE.transactions[1]!.end));
});

Deno.test("--dry-run shows the same, also of a file in use, and writes nothing", async () => {
  const disk = new MemoryDisk();
  disk.put(PATH, FILE.bytes);
  using _lock = disk.lock(`${PATH}.lock`);
  const { code, out, err } = await rewind(["--to", FIRST, "--dry-run"], { disk });
  assert.deepEqual([code, err], [0, ""]);
  assert.match(out, /^Rewinding .* would take back 2 transactions, 170 bytes: /);
  assert(out.includes(LIST.join("\n")), out);
  assert(out.endsWith(`They would be saved in ${SAVED}\n`));
  assert.deepEqual(
    new Set(disk.performed.map(({ operation }) => operation)),
    new Set(["open", "read"]),
  );
});

Deno.test("an unfinished transaction at the end is cut off first, and that is said", async () => {
  const bytes = new Uint8Array(FILE.end + 40);
  bytes.set(FILE.bytes);
  bytes[FILE.end + 16] = 0x63;
  const { code, err, disk } = await rewind(["--to", FIRST, "--yes"], { bytes });
  assert.equal(code, 0);
  assert.equal(err, `Cut off 40 bytes behind the last whole transaction, saved in ${PATH}.tr0\n`);
  assert.deepEqual(disk.bytes(PATH), FILE.bytes.slice(0, FILE.transactions[0]!.end));
});

Deno.test("of many the last 20 are shown, and --to 0 leaves none", async () => {
  const { code, out, disk } = await rewind(["--to", "0", "--yes"], { bytes: fileOf(30).bytes });
  assert.equal(code, 0);
  assert.match(
    out,
    /to its beginning takes back 30 transactions, .*\nThe last 20 of them:\nTID .*\n03f594580000000a /,
  );
  assert.equal(out.match(/ {2}number \d+$/gm)!.length, 20);
  assert.match(out, /has no transactions any more; 30 transactions saved in .*\n$/);
  assert.equal(new TextDecoder().decode(disk.bytes(PATH)), "FS30");
});

Deno.test("a file that ends there already is left as it is", async () => {
  for (const [to, bytes] of [[THIRD, FILE.bytes], ["0", dataFs([]).bytes]] as const) {
    const { code, out, disk } = await rewind(["--to", to], { bytes });
    assert.equal(code, 0);
    assert.match(out, /ends with .* already: there is nothing to take back\n$/);
    assert.deepEqual(disk.bytes(PATH), bytes);
  }
});

Deno.test("a locked file exits with 5, and nothing is touched", async () => {
  const disk = new MemoryDisk();
  disk.put(PATH, FILE.bytes);
  using _lock = disk.lock(`${PATH}.lock`);
  const { code, err } = await rewind(["--to", FIRST, "--yes"], { disk });
  assert.equal(code, 5);
  assert.match(err, /^zrs rewind: Cannot lock /);
  assert.deepEqual(disk.bytes(PATH), FILE.bytes);
  assert.deepEqual(disk.paths(), [PATH, `${PATH}.lock`]);
});

Deno.test("what cannot be done is refused before anything is touched", async () => {
  const damaged = dataFs([
    { tid: 0x03f5945800000000n, records: [{ oid: 0n, data: "data" }], damage: { trailer: 1n } },
    { tid: 0x03f5945800000001n, records: [{ oid: 0n, data: "data" }] },
  ]).bytes;
  const table: [readonly string[], Uint8Array | string, number, RegExp][] = [
    [
      ["--to", "03f5945800000009"],
      FILE.bytes,
      2,
      /no such transaction; the last one is 03f5945800000002 \(.*; name a/,
    ],
    [["--to", "xyz"], FILE.bytes, 2, /`--to`: Cannot read tid "xyz": expected 16 hexadecimal digits/],
    [[], FILE.bytes, 2, /Missing option --to or --from; give the transaction that shall be the last/],
    [["--to", FIRST, "--from", "5000"], FILE.bytes, 2, /Cannot use both --to and --from; give/],
    [
      ["--to", FIRST, "--tls-name", "db1"],
      FILE.bytes,
      2,
      /Cannot use .* with --to: there is no connection; give them/,
    ],
    [["--from", "5000", "--tls-cert", "a"], FILE.bytes, 2, /Cannot encrypt without --tls-key and --tls-ca/],
    [["--from", "/none/socket", "--yes"], FILE.bytes, 4, /Cannot connect to \/none\/socket/],
    [["--to", FIRST], "no database", 2, /it is not a FileStorage/],
    [
      ["--to", "0", "--yes"],
      dataFs([{ tid: 1n << 56n, records: [] }], { magic: "FS21" }).bytes,
      2,
      /Python 2 wrote it/,
    ],
    [["--to", "0", "--yes"], damaged, 7, /Data\.fs: .* trailing length/],
  ];
  for (const [options, content, expected, line] of table) {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    const { code, err, disk } = await rewind(options, { bytes });
    assert.equal(code, expected, err);
    assert.match(err, line);
    assert.match(err, /^zrs rewind: [^\n]*\n$/);
    assert.deepEqual(disk.bytes(PATH), bytes);
    assert(!disk.paths().some((path) => path.includes("rewound")));
  }
  const empty = new MemoryDisk();
  empty.addDirectory("/none");
  const host = new ScriptedHost(empty);
  assert.equal(await run(["rewind", "/none/Data.fs", "--to", "0", "--yes"], host), 2);
  assert.match(host.written.err, /no such file/);
  assert.deepEqual(empty.paths(), [], "none is made");
});

Deno.test("a full disk exits with 6, and nothing is changed or left", async () => {
  const disk = new MemoryDisk();
  disk.capacity = FILE.bytes.length + 175; // what goes fits with the lock file, and the head of its file does not
  const { code, err } = await rewind(["--to", FIRST, "--yes"], { disk });
  assert.equal(code, 6);
  assert.match(err, /the disk is full/);
  assert.deepEqual(disk.bytes(PATH), FILE.bytes);
  assert.deepEqual(disk.paths(), [PATH, `${PATH}.lock`]);
});

Deno.test("without room for what goes nobody is asked, and nothing is written", async () => {
  const disk = new MemoryDisk();
  disk.put(PATH, FILE.bytes);
  disk.capacity = FILE.bytes.length + 100;
  const { code, err } = await rewind(["--to", FIRST], { answers: ["y"], disk });
  assert.equal(code, 6);
  assert.match(err, /Cannot save what a rewind takes back in .*: it needs about 170 bytes, and \d+ are free/);
  assert.doesNotMatch(err, /\[y\/N\]/);
  assert(!disk.performed.some(({ operation, path }) => operation === "create" && path === SAVED));
});

Deno.test("a secret that others can read is warned of when a source is asked", async () => {
  const disk = new MemoryDisk();
  disk.put("/secret", new TextEncoder().encode("0123456789abcdef\n")); // with mode 644
  const { code, err } = await rewind(["--from", "/none/socket", "--auth-file", "/secret"], { disk });
  assert.equal(code, 4);
  assert.match(err, /^\/secret can be read by others than its owner: chmod 600 it\n/);
});

/** What `--from` makes of {@link FILE}, or another one, beside a primary of these transactions. */
async function rewindFrom(
  source: Uint8Array,
  options: readonly string[],
  own: Uint8Array = FILE.bytes,
): Promise<Outcome & { readonly address: string }> {
  const disk = new MemoryDisk();
  disk.put("/source/Data.fs", source);
  await using primary = await startPrimary({ path: "/source/Data.fs" }, { disk });
  const { address } = primary;
  return { ...await rewind(["--from", address, ...options], { bytes: own }), address };
}

const OTHER = dataFs([
  { tid: 0x03f5945800000000n, description: "number 1", records: [{ oid: 0n, data: "data" }] },
  { tid: 0x03f5945800000001n, description: "number 2", records: [{ oid: 1n, data: "else" }] },
]).bytes;

Deno.test("a source is asked what is common, and that is shown, rewound to, and saved as ever", async () => {
  const ahead = fileOf(1).bytes;
  for (const [source, reason] of [[ahead, "ahead"], [OTHER, "forked"]] as const) {
    const { code, out, err, disk, address } = await rewindFrom(source, ["--yes"]);
    assert.deepEqual([code, err], [0, ""]);
    const [said, ...shown] = out.split("\n");
    assert(said!.startsWith(`${address} says: ${reason}: your last transaction is ${THIRD} `), said);
    assert.deepEqual(shown, [
      `Rewinding ${PATH} to ${FIRST} (${TIME}) takes back 2 transactions, 170 bytes: ` +
      `${SECOND} (${TIME}) to ${THIRD} (${TIME})`,
      ...LIST,
      `They will be saved in ${SAVED}`,
      `${PATH} ends with ${FIRST} (${TIME}); 2 transactions saved in ${SAVED}`,
      "",
    ]);
    assert.deepEqual(disk.bytes(PATH), ahead);
    assert(disk.paths().includes(SAVED));
  }
});

Deno.test("--from asks before it rewinds, and with --dry-run changes nothing", async () => {
  const asked = await rewindFrom(OTHER, []);
  assert.equal(asked.code, 2);
  assert.match(asked.err, /Cannot ask whether to rewind /);
  assert.deepEqual(asked.disk.bytes(PATH), FILE.bytes);
  const dry = await rewindFrom(OTHER, ["--dry-run"]);
  assert.equal(dry.code, 0);
  assert.match(dry.out, /would take back 2 transactions/);
  assert.deepEqual(dry.disk.paths(), [PATH]);
  assert.deepEqual(dry.disk.bytes(PATH), FILE.bytes);
});

Deno.test("where the source would go on there is nothing to take back", async () => {
  for (const own of [FILE.bytes, fileOf(1).bytes, dataFs([]).bytes]) {
    const { code, out, err, disk } = await rewindFrom(FILE.bytes, ["--yes"], own);
    assert.deepEqual([code, err], [0, ""]);
    assert.match(
      out,
      /^\/data\/Data\.fs .*, and 127\.0\.0\.1:\d+ would go on behind that: there is nothing to take back\n$/,
    );
    assert.deepEqual(disk.paths(), [PATH]);
    assert.deepEqual(disk.bytes(PATH), own);
  }
});

Deno.test("where nothing is common nothing is done, and it exits with 3", async () => {
  const stranger = dataFs([{ tid: 0x03f5945800000000n, records: [{ oid: 0n, data: "else" }] }]).bytes;
  for (const source of [stranger, dataFs([]).bytes]) {
    const { code, out, err, disk } = await rewindFrom(source, ["--yes"]);
    assert.deepEqual([code, out], [3, ""]);
    assert.match(
      err,
      /all would go\. 127.* says: (forked|ahead): .*; if that is what you want, give --to 0 in place/,
    );
    assert.deepEqual(disk.paths(), [PATH]);
    assert.deepEqual(disk.bytes(PATH), FILE.bytes);
  }
});

Deno.test("where packs have removed what would tell, that is said", async () => {
  const packed = dataFs([
    { tid: 0x03f5945800000000n, description: "number 1", status: "p", records: [{ oid: 0n, data: "data" }] },
    { tid: 0x03f5945800000009n, description: "number 9", records: [{ oid: 1n, data: "data" }] },
    { tid: 0x03f594580000000an, description: "number 10", records: [{ oid: 1n, data: "data" }] },
  ]).bytes;
  const forked = dataFs([
    { tid: 0x03f5945800000000n, description: "number 1", records: [{ oid: 0n, data: "data" }] },
    { tid: 0x03f594580000000an, description: "a fork", records: [{ oid: 1n, data: "of it" }] },
  ]).bytes;
  const { code, out } = await rewindFrom(packed, ["--yes"], forked);
  assert.equal(code, 0);
  assert.match(
    out,
    /\nWhether later transactions are common too is not known: packs have removed what would tell\n/,
  );
});

Deno.test("nothing is rewound to before the time of a pack, for the file lacks what was current then; to it, it is", async () => {
  const record = { oid: 0n, data: "data" };
  const packed = dataFs([
    { tid: 0x03f5945800000000n, description: "number 1", status: "p", records: [record] },
    { tid: 0x03f5945800000001n, status: "u", records: [record] },
    { tid: 0x03f5945800000002n, description: "number 3", status: "p", records: [record] },
    { tid: 0x03f5945800000003n, description: "number 4", records: [record] },
  ]).bytes;
  for (const how of [["--to", FIRST, "--yes"], ["--to", FIRST, "--dry-run"]]) {
    const { code, out, err, disk } = await rewind(how, { bytes: packed });
    assert.deepEqual([code, out], [3, ""]);
    assert.match(
      err,
      /packed to a later time, and may lack objects.*; move it away and make a new copy; or /,
    );
    assert.deepEqual(disk.paths(), [PATH]);
    assert.deepEqual(disk.bytes(PATH), packed);
  }
  assert.equal((await rewindFrom(fileOf(1).bytes, ["--yes"], packed)).code, 3);
  for (const to of [THIRD, "0"]) {
    assert.equal((await rewind(["--to", to, "--yes"], { bytes: packed })).code, 0);
  }
});
