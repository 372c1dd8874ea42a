/** Two copies compared, and digests, as people and scripts see them. */
import assert from "node:assert/strict";
import { run } from "../../lib/cli/mod.ts";
import { verifyDigest } from "../../lib/cli/verify/verify_digest.ts";
import { verifyOther, type VerifyOtherOptions } from "../../lib/cli/verify/verify_other.ts";
import { CorruptError, UnavailableError, UsageError } from "../../lib/errors.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { startPrimary } from "../kit/node.ts";
import { ScriptedHost } from "./scripted_host.ts";

const COPY = "/data/copy.fs";
const SOURCE = "/data/source.fs";
const TID = 0x03f5945800000000n;
const TIME = "2024-01-02T03:04:00.000Z";

const HISTORY: TransactionDescription[] = Array.from({ length: 30 }, (_, at) => ({
  tid: TID + BigInt(at),
  user: "bob",
  description: `number ${at}`,
  records: [{ oid: BigInt(at % 3), data: `data ${at}` }],
}));

function changed(at: number, by: Partial<TransactionDescription>): TransactionDescription[] {
  return HISTORY.map((each, index) => index === at ? { ...each, ...by } : each);
}

function hostOf(copy: Uint8Array, source: Uint8Array): ScriptedHost {
  const disk = new MemoryDisk();
  disk.put(COPY, copy);
  disk.put(SOURCE, source);
  return new ScriptedHost(disk);
}

async function verify(
  copy: readonly TransactionDescription[],
  source: readonly TransactionDescription[],
  options: Partial<VerifyOtherOptions> = {},
) {
  const host = hostOf(dataFs(copy).bytes, dataFs(source).bytes);
  const result = await verifyOther({ dataFs: COPY, other: SOURCE, ...options }, host);
  assert.equal(host.written.err, "");
  return { result, out: host.written.out, lines: host.written.out.trimEnd().split("\n") };
}

Deno.test("copies that are the same as far as they go are told so", async () => {
  const { result, lines } = await verify(HISTORY.slice(0, 20), HISTORY);
  assert.deepEqual([result.differences, result.isComplete, result.hasNewer], [0, true, true]);
  assert.deepEqual(lines, [
    `20 transactions the same in ${COPY} and ${SOURCE}, the last of them 03f5945800000013 (${TIME})`,
    `${SOURCE} has newer transactions, which ${COPY} does not have yet`,
    "No differences",
  ]);
});

Deno.test("a difference is one line with both positions, and controls in texts are harmless", async () => {
  const other = changed(4, { user: "eve\n\u001b[31m", records: [{ oid: 1n, data: "data!4" }] });
  const { result, lines } = await verify(other.map((each) => ({ ...each, user: "eve\n\u001b[31m" })), other);
  assert.equal(result.differences, 20);
  assert(!result.isComplete);
  assert.equal(lines.length, 22);
  const one = await verify(HISTORY, changed(4, { records: [{ oid: 1n, data: "data!4" }] }));
  const position = dataFs(HISTORY).transactions[4]!.position;
  const record = dataFs(HISTORY).transactions[4]!.records[0]!.position;
  assert.equal(
    one.lines[0],
    `DIFFERENT transaction 03f5945800000004 (${TIME}), at ${position} in ${COPY}, at ${position} in ${SOURCE}: ` +
      `the 6 bytes of data of object 0000000000000001 differ from byte 4 on ` +
      `(records at ${record} in ${COPY}, at ${record} in ${SOURCE}) [bob: number 4]`,
  );
  assert.deepEqual(one.lines.slice(1), [
    `29 transactions the same in ${COPY} and ${SOURCE}, the last of them 03f594580000001d (${TIME})`,
    "1 difference",
  ]);
  const hostile = await verify([{ ...HISTORY[0]!, user: "\n\u001b[31m" }], [{ ...HISTORY[0]!, tid: 1n }]);
  assert(!hostile.out.includes("\u001b"));
});

Deno.test("a copy that is ahead is a finding, and its source is not", async () => {
  const ahead = await verify(HISTORY, HISTORY.slice(0, 20));
  assert.equal(ahead.result.differences, 1);
  assert.match(
    ahead.lines[0]!,
    /only \/data\/copy\.fs has it and what follows, up to 03f594580000001d \([^)]*\); \S+ ends with 03f5945/,
  );
  const empty = await verify(HISTORY, []);
  assert.match(empty.lines[0]!, /has it and what follows, up to 03f594580000001d \([^)]*\); \S+ is empty/);
});

Deno.test("programs get a line of JSON for each difference, and one for all", async () => {
  const { lines } = await verify(HISTORY, changed(4, { description: "other" }).slice(0, 29), { json: true });
  const position = dataFs(HISTORY).transactions[4]!.position;
  assert.deepEqual(lines.map((line) => JSON.parse(line)), [
    {
      difference: "metadata",
      tid: "03f5945800000004",
      time: TIME,
      user: "bob",
      description: "number 4",
      positionHere: position,
      positionThere: position,
      fields: ["description"],
    },
    {
      difference: "ahead",
      tid: "03f594580000001d",
      time: TIME,
      user: "bob",
      description: "number 29",
      positionHere: dataFs(HISTORY).transactions[29]!.position,
      positionThere: dataFs(changed(4, { description: "other" }).slice(0, 29)).end,
      lastTid: "03f594580000001d",
      lastTidThere: "03f594580000001c",
    },
    {
      same: 28,
      packedThere: 0,
      packedHere: 0,
      rewritten: 0,
      hasNewer: false,
      differences: 2,
      isComplete: true,
      lastSame: "03f594580000001c",
    },
  ]);
});

Deno.test("a record with another tid than its transaction, as no application should get it, is a difference", async () => {
  const [record] = HISTORY[4]!.records;
  const damaged = changed(4, { records: [{ ...record!, damage: { tid: TID + 7n } }] });
  const { lines, result } = await verify(damaged, HISTORY, { json: true });
  assert.equal(result.differences, 1);
  const { difference, oid, recordTidHere, recordTidThere } = JSON.parse(lines[0]!);
  assert.deepEqual({ difference, oid, recordTidHere, recordTidThere }, {
    difference: "record-tid",
    oid: "0000000000000001",
    recordTidHere: "03f5945800000007",
    recordTidThere: "03f5945800000004",
  });
});

Deno.test("damage of the other file is a finding that says so, not a copy that is ahead", async () => {
  const damaged = changed(10, { damage: { trailer: 5n } });
  const { result, lines } = await verify(HISTORY, damaged);
  assert.deepEqual([result.differences, result.isComplete, result.same], [1, false, 10]);
  assert.match(lines[0]!, /source\.fs is damaged: .*trailing length/);
});

Deno.test("byte by byte, a copy that was written anew differs", async () => {
  const moved = [{ tid: 1n, status: "u" as const, records: [] }, ...HISTORY];
  assert.equal((await verify(moved, HISTORY)).result.differences, 0);
  const { lines } = await verify(moved, HISTORY, { bytes: true });
  assert.match(lines[0]!, /byte \d+ is 0x[0-9a-f]{2} in \/data\/copy\.fs and 0x[0-9a-f]{2} in/);
  assert.equal((await verify(HISTORY, HISTORY, { bytes: true })).result.differences, 0);
});

Deno.test("a running node is compared without its file, and says what it is asked only", async () => {
  const disk = new MemoryDisk();
  disk.put(COPY, dataFs(changed(17, { records: [{ oid: 2n, data: "data!17" }] })).bytes);
  disk.put(SOURCE, dataFs(HISTORY).bytes);
  const host = new ScriptedHost(disk);
  const replicateTo = { transport: "tcp", host: "127.0.0.1", port: 0 } as const;
  await using primary = await startPrimary({ path: SOURCE, replicateTo }, host);
  const address = primary.node.address;
  assert(address.transport === "tcp");
  const other = `zrs://127.0.0.1:${address.port}`;
  const result = await verifyOther({ dataFs: COPY, other }, host);
  assert.deepEqual([result.differences, result.same], [1, 29]);
  const position = dataFs(HISTORY).transactions[17]!.position;
  assert.match(
    host.written.out,
    new RegExp(`^DIFFERENT .* at ${position} in ${COPY}, at ${position} in ${other}: `),
  );
  await assert.rejects(verifyOther({ dataFs: COPY, other, bytes: true }, host), UsageError);
  await assert.rejects(verifyOther({ dataFs: COPY, other: "zrs://127.0.0.1:1" }, host), UnavailableError);
});

Deno.test("a file is not compared with itself", async () => {
  const host = hostOf(dataFs(HISTORY).bytes, dataFs(HISTORY).bytes);
  await assert.rejects(verifyOther({ dataFs: COPY, other: COPY }, host), /they are the same file/);
});

async function digest(
  history: readonly TransactionDescription[],
  options: { since?: bigint; to?: bigint } = {},
) {
  const host = hostOf(dataFs(history).bytes, new Uint8Array());
  const found = await verifyDigest({ dataFs: COPY, ...options }, host);
  return { found, out: host.written.out };
}

Deno.test("a digest is short enough to be read aloud, and the same in every copy up to the same transaction", async () => {
  const { found, out } = await digest(HISTORY.slice(0, 20));
  assert.match(
    out,
    /^digest {8}[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){3}\nup to {9}03f5945800000013 \(/,
  );
  assert.equal(found.transactions, 20);
  const moved = [{ tid: 1n, status: "u" as const, records: [] }, ...HISTORY];
  assert.equal((await digest(moved, { to: TID + 19n })).found.digest, found.digest);
  for (const at of [0, 10, 19]) {
    const other = await digest(changed(at, { user: "eve" }), { to: TID + 19n });
    assert.notEqual(other.found.digest, found.digest);
  }
  await assert.rejects(digest(HISTORY.slice(0, 5), { to: TID + 19n }), /it has no such transaction there/);
});

Deno.test("behind a pack digests are the same, and where that is is told", async () => {
  const packed = HISTORY.slice(3).map((each, at) => at < 7 ? { ...each, status: "p" as const } : each);
  const { found, out } = await digest(packed);
  assert.equal(found.unpackedSince, TID + 10n);
  assert.match(out, /has been packed: .* --since 03f594580000000a\n$/);
  const since = TID + 10n;
  const behind = await digest(packed, { since });
  assert.equal(behind.found.digest, (await digest(HISTORY, { since })).found.digest);
  assert.doesNotMatch(behind.out, /packed/);
});

Deno.test("no digest is given of a damaged file, but for what lies before the damage", async () => {
  const damaged = changed(10, { damage: { trailer: 5n } });
  await assert.rejects(digest(damaged), CorruptError);
  const { found } = await digest(damaged, { to: TID + 9n });
  assert.equal(found.digest, (await digest(HISTORY.slice(0, 10))).found.digest);
});

Deno.test("a digest is what another program computes from the same description", async () => {
  const { found, out } = await digest([{ tid: TID, user: "bob", records: [{ oid: 1n, data: "one." }] }]);
  // Computed by Python's hashlib and struct.
  assert.equal(found.digest, "4fa22de2186591f5274135b6f244b5f4522987726c76cdb35bba4eab01ce4e70");
  assert.match(out, /^digest {8}9YH2-VRGR-CP8Z-A9T1\n/);
});

async function zrs(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const host = hostOf(dataFs(HISTORY.slice(0, 20)).bytes, dataFs(HISTORY).bytes);
  return { code: await run(["verify", ...args], host), ...host.written };
}

Deno.test("the exit code says whether there is a difference", async () => {
  assert.equal((await zrs(COPY, SOURCE)).code, 0);
  assert.equal((await zrs(SOURCE, COPY)).code, 1);
  assert.equal((await zrs(COPY, SOURCE, "--bytes")).code, 0);
  assert.match(
    (await zrs(COPY, "--digest", "--to", "03f5945800000003")).out,
    /^digest .*\nup to +03f5945800000003 /,
  );
  assert.equal((await zrs(COPY, "zrs://127.0.0.1:1")).code, 4);
});

Deno.test("options that are of no use together are refused, and so is a node that is none", async () => {
  for (
    const args of [
      [COPY, "--bytes"],
      [COPY, "--since", "03f5945800000003"],
      [COPY, SOURCE, "--to", "03f5945800000003"],
      [COPY, SOURCE, "--digest"],
      [COPY, SOURCE, "--pickles"],
      [COPY, "--digest", "--refs"],
      [COPY, SOURCE, "--auth-file", "/data/secret"],
      [COPY, SOURCE, "--bytes", "--since", "03f5945800000003"],
      [COPY, "zrs://db1"],
      [COPY, "db1:Data.fs"],
    ]
  ) {
    const { code, out, err } = await zrs(...args);
    assert.deepEqual([code, out], [2, ""], args.join(" "));
    assert.match(
      err,
      /Cannot (use|read)|Cannot compare with db1:Data\.fs: there is no such file on this machine/,
    );
  }
});

const CLEAR = "\r\x1b[K";

/** Runs the command on a terminal where each look at the clock is a second and a half later than the last. */
async function zrsOnTerminal(disk: MemoryDisk, ...args: string[]): Promise<{ drawn: string; left: string }> {
  const host = new ScriptedHost(disk);
  let drawn = "";
  let now = 0;
  const write = (text: string) => void (drawn += text);
  const clock = {
    ...host.clock,
    monotonic: () => now += 1500,
    schedule: host.clock.schedule.bind(host.clock),
  };
  Object.assign(host, { clock, isTerminal: () => true, out: write, err: write });
  await run(["verify", ...args], host);
  return { drawn, left: drawn.split("\n").map((line) => line.split(CLEAR).at(-1)).join("\n") };
}

Deno.test("how far comparing and digesting is, is drawn on a terminal and does not stay there", async () => {
  const large = new Uint8Array(20_000_000);
  const history = [
    ...HISTORY,
    ...[30n, 31n].map((at) => ({ tid: TID + at, records: [{ oid: 1n, data: large }] })),
  ];
  const disk = new MemoryDisk();
  disk.put(SOURCE, dataFs(history).bytes);
  disk.put(COPY, dataFs(history.map((each, at) => at === 31 ? { ...each, user: "eve" } : each)).bytes);
  const replicateTo = { transport: "tcp", host: "127.0.0.1", port: 0 } as const;
  await using primary = await startPrimary({ path: SOURCE, replicateTo }, new ScriptedHost(disk));
  const address = primary.node.address;
  assert(address.transport === "tcp");
  for (
    const [args, drawn, left] of [
      [[COPY, SOURCE], /\rcomparing: \d.* of \d/, /^DIFFERENT .*\n31 transactions .*\n1 difference\n$/],
      [
        [COPY, `zrs://127.0.0.1:${address.port}`],
        /\rcomparing: (\S+ \S+) of \1/,
        /^DIFFERENT .*\n31 .*\n1 difference\n$/,
      ],
      [[COPY, "--digest"], /\rdigesting: \d.* of \d/, /^digest +[0-9A-Z-]{19}\n/],
    ] as const
  ) {
    const seen = await zrsOnTerminal(disk, ...args);
    assert.match(seen.drawn.replaceAll(CLEAR, "\r"), drawn);
    assert.match(seen.left, left);
  }
});
