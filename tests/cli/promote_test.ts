/** `zrs promote` as people and scripts see it, and what other commands say of what waits. */
import assert from "node:assert/strict";
import { run } from "../../lib/cli/mod.ts";
import { DelayedStorage } from "../../lib/filestorage/mod.ts";
import { replay } from "../filestorage/replay.ts";
import { dataFs } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { ScriptedHost } from "./scripted_host.ts";

const PATH = "/data/Data.fs";
const TIDS = ["03f5945800000000", "03f5945900000000", "03f5945a00000000", "03f5945b00000000"] as const;
const TIMES = ["03:04", "03:05", "03:06", "03:07"].map((time) => `2024-01-02T${time}:00.000Z`);
const FILE = dataFs(TIDS.map((tid, at) => ({
  tid: BigInt(`0x${tid}`),
  description: `number ${at + 1}`,
  records: [{ oid: BigInt(at % 2), data: "data" }],
})));
const SAVED = `${PATH}.rewound-${TIDS[2]}`;

interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  readonly disk: MemoryDisk;
}

/** One transaction is applied, three wait. */
async function waitingDisk(segmentBytes = 100, file = FILE): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  disk.put(PATH, file.bytes.slice(0, file.transactions[0]!.end));
  await using storage = await DelayedStorage.open(disk, PATH, { segmentBytes });
  await replay(file.bytes, storage.received, { after: storage.received.lastTid, runBytes: () => 1 });
  return disk;
}

async function zrs(disk: MemoryDisk, args: readonly string[], answers?: string[]): Promise<Outcome> {
  const host = new ScriptedHost(disk);
  host.answers = answers;
  return { code: await run(args, host), ...host.written, disk };
}

async function promote(options: readonly string[], answers?: string[]): Promise<Outcome> {
  return await zrs(await waitingDisk(), ["promote", PATH, ...options], answers);
}

function otherFiles(disk: MemoryDisk): string[] {
  return disk.paths().filter((path) => ![PATH, `${PATH}.lock`].includes(path));
}

Deno.test("what comes before a transaction, or a time, is applied, and the rest is kept", async () => {
  for (const before of [TIDS[2], "2024-01-02T03:05:30Z", TIMES[2]!]) {
    const { code, out, err, disk } = await promote(["--before", before]);
    assert.deepEqual([code, err], [0, ""]);
    assert.deepEqual(out.split("\n"), [
      `To be applied: 1 transaction, 85 bytes, from ${TIDS[1]} (${TIMES[1]}) on`,
      "Not to be applied: 2 transactions, 170 bytes:",
      "TID               TIME (UTC)                RECORDS       BYTES  USER: DESCRIPTION",
      `${TIDS[2]}  ${TIMES[2]}        1           85  number 3`,
      `${TIDS[3]}  ${TIMES[3]}        1           85  number 4`,
      `They will be saved in ${SAVED}`,
      `${PATH} ends with ${TIDS[1]} (${
        TIMES[1]
      }), and is ready to be opened; 2 transactions saved in ${SAVED}`,
      "",
    ]);
    assertSameBytes(disk.bytes(PATH), FILE.bytes.slice(0, FILE.transactions[1]!.end));
    assert.deepEqual(
      transactionsOf(disk.bytes(SAVED)).map(({ tid }) => tid),
      TIDS.slice(2).map((t) => BigInt(`0x${t}`)),
    );
    assert.deepEqual(otherFiles(disk), [`${PATH}.index`, SAVED]);
  }
});

Deno.test("all is applied with --all, with --yes, and when the answer is yes", async () => {
  for (const [options, answers] of [[["--all"], []], [["--yes"], []], [[], ["y"]]] as const) {
    const { code, disk } = await promote(options, [...answers]);
    assert.equal(code, 0);
    assertSameBytes(disk.bytes(PATH), FILE.bytes);
    assert.deepEqual(otherFiles(disk), [`${PATH}.index`]);
  }
});

Deno.test("without a word of how far, it asks, and where nobody can answer changes nothing", async () => {
  const original = await waitingDisk();
  for (const answers of [undefined, ["n"], [""]]) {
    const { code, out, err, disk } = await promote([], answers);
    assert.equal(code, 2);
    assert.match(out, /^To be applied: 3 transactions, 255 bytes/);
    assert.match(
      err,
      answers === undefined ? /give --all, or --before/ : /nothing has been changed; give --before/,
    );
    for (const path of original.paths().filter((each) => !/lock|index/.test(each))) {
      assertSameBytes(disk.bytes(path), original.bytes(path));
    }
  }
});

Deno.test("--dry-run shows the same, also of a file in use, and writes nothing", async () => {
  const disk = await waitingDisk();
  using _lock = disk.lock(`${PATH}.lock`);
  disk.performed.length = 0;
  const { code, out } = await zrs(disk, ["promote", PATH, "--before", TIDS[2], "--dry-run"]);
  assert.equal(code, 0);
  assert.match(out, /^To be applied: 1 transaction, [^]*number 3\n[^]*would be saved in /);
  assert.deepEqual(new Set(disk.performed.map(({ operation }) => operation)), new Set(["open", "read"]));
});

Deno.test("a file that is in use is named as such, exit code 5; one that is not there, 2", async () => {
  const disk = await waitingDisk();
  using _lock = disk.lock(`${PATH}.lock`);
  const { code, err } = await zrs(disk, ["promote", PATH, "--all"]);
  assert.equal(code, 5);
  assert.match(err, /Cannot promote \/data\/Data\.fs: .*; stop whoever has it, as a rule zrs secondary/);
  assert.equal((await zrs(new MemoryDisk(), ["promote", PATH, "--all"])).code, 2);
});

Deno.test("what has been applied is not taken back, and that is said", async () => {
  const { code, err, disk } = await promote(["--before", TIDS[0]]);
  assert.equal(code, 2);
  assert.match(err, /has been applied; promote with --all, and then take it back with zrs rewind/);
  assert.equal(disk.bytes(PATH).length, FILE.transactions[0]!.end);
  assert.equal((await promote(["--before", TIDS[1], "--all"])).code, 2);
  const none = await promote(["--before", TIDS[1]]);
  assert.equal(none.code, 0);
  assert.match(none.out, /^To be applied: 0 transactions, 0 bytes\nNot to be applied: 3 transactions/);
  assert.equal(none.disk.bytes(PATH).length, FILE.transactions[0]!.end);
});

Deno.test("a segment that somebody has taken away is named, with what to do, and that helps", async () => {
  const disk = await waitingDisk(50);
  const [, missing, behind] = otherFiles(disk).filter((path) => path.includes(".pending."));
  disk.remove(missing!);
  for (const options of [["--all"], ["--dry-run"], ["--before", TIDS[1]]]) {
    const { code, err } = await zrs(disk, ["promote", PATH, ...options]);
    assert.equal(code, 7);
    assert(err.includes(`${missing} is missing, which has what comes before ${behind}`), err);
    assert.match(err, /put it back; or move what comes behind it away/);
  }
  await assert.rejects(DelayedStorage.open(disk, PATH), /pending\.\w+ is missing/);
  disk.remove(behind!);
  await using storage = await DelayedStorage.open(disk, PATH);
  assert.equal(storage.received.end, FILE.transactions[1]!.end);
});

Deno.test("a copy that nothing waits for is ready as it is, and gets its index", async () => {
  const disk = new MemoryDisk();
  disk.put(PATH, FILE.bytes);
  const { code, out } = await zrs(disk, ["promote", PATH]);
  assert.equal(code, 0);
  assert.match(out, /nothing waits\n.*ends with .*, and is ready to be opened\n$/);
  assertSameBytes(disk.bytes(PATH), FILE.bytes);
  assert.deepEqual(otherFiles(disk), [`${PATH}.index`]);
});

Deno.test("whatever fails while promoting, what waits is still there, and it can be done again", async () => {
  for (const operation of ["create", "write", "sync", "rename", "remove", "syncDirectory"] as const) {
    for (let nth = 1, isHit = true; isHit; nth++) {
      const disk = await waitingDisk();
      disk.performed.length = 0;
      disk.fail({ operation, nth, error: operation === "write" ? "full" : "io" });
      const { code } = await zrs(disk, ["promote", PATH, "--before", TIDS[2]]);
      isHit = disk.performed.filter((each) => each.operation === operation).length >= nth;
      const label = `${operation} ${nth}`;
      if (code === 0) continue;
      assert.equal(code, 6, label);
      const after = disk.copy();
      const again = await zrs(after, ["promote", PATH, "--before", TIDS[2]]);
      assert.deepEqual([again.code, again.err], [0, ""], label);
      assertSameBytes(after.bytes(PATH), FILE.bytes.slice(0, FILE.transactions[1]!.end));
      const saved = otherFiles(after).find((path) => path.includes(".rewound-"))!;
      assert.equal(transactionsOf(after.bytes(saved)).length, 2, label);
    }
  }
});

Deno.test("log and verify tell of what waits, log shows it with --pending; rewind and status point to it", async () => {
  const disk = await waitingDisk();
  const plain = await zrs(disk, ["log", PATH]);
  assert.equal(plain.code, 0);
  assert.equal(plain.err, "255 bytes more wait to be applied; --pending shows them\n");
  assert.deepEqual(plain.out.match(/number \d/g), ["number 1"]);
  const all = await zrs(disk, ["log", PATH, "--pending"]);
  assert.deepEqual([all.code, all.err], [0, ""]);
  assert.deepEqual(all.out.match(/number \d/g), ["number 1", "number 2", "number 3", "number 4"]);
  const verified = await zrs(disk, ["verify", PATH]);
  assert.equal(verified.code, 0);
  assert.equal(verified.err, "255 bytes more wait to be applied; they have not been verified\n");
  for (const mode of ["--dry-run", "--yes"]) {
    const rewind = await zrs(disk, ["rewind", PATH, "--to", TIDS[0], mode]);
    assert.equal(rewind.code, 2);
    assert.match(rewind.err, /wait beside it.*zrs promote/);
  }
  const status = await zrs(disk, ["status", PATH]);
  assert.equal(status.code, 4);
  assert.match(status.err, /has been received and not applied waits beside it \(zrs log --pending\)/);
});

Deno.test("a copy of a packed source is promoted as of the time of the pack, or later, but not as of an earlier one", async () => {
  const packed = dataFs(TIDS.map((tid, at) => ({
    tid: BigInt(`0x${tid}`),
    status: at <= 2 ? "p" : " ",
    records: [{ oid: BigInt(at), data: "data" }],
  })));
  const disk = await waitingDisk(100, packed);
  const early = await zrs(disk, ["promote", PATH, "--before", TIDS[2]]);
  assert.deepEqual([early.code, early.out], [2, ""]);
  assert.match(
    early.err,
    /its source had been packed to a later time.* lacks objects.*promote it to a later time/,
  );
  const { code } = await zrs(disk, ["promote", PATH, "--before", TIDS[3]]);
  assert.equal(code, 0);
  assertSameBytes(disk.bytes(PATH), packed.bytes.slice(0, packed.transactions[2]!.end));
});
