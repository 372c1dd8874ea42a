/** The blobs of two copies compared: of two files, or of a file and a running node. */
import assert from "node:assert/strict";
import { verifyOther, type VerifyOtherOptions } from "../../lib/cli/verify/verify_other.ts";
import { ProtocolError, UsageError } from "../../lib/errors.ts";
import { BlobDirectory, Generation } from "../../lib/filestorage/mod.ts";
import { CompareAnswers } from "../../lib/replica/compare/compare_answers.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { latin1 } from "../kit/hex.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { ANY_PORT, startPrimary } from "../kit/node.ts";
import { ScriptedHost } from "./scripted_host.ts";

const COPY = "/data/copy.fs";
const SOURCE = "/data/source.fs";
const COPY_BLOBS = "/data/copy";
const SOURCE_BLOBS = "/data/source";
const BLOB = latin1("\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.");
const TID = 0x03f5945800000000n;
const COUNT = 70;

/** Two blobs in each transaction, and in the last one a record that shares the data of another. */
const HISTORY: TransactionDescription[] = [
  ...Array.from({ length: COUNT }, (_, at) => ({
    tid: TID + BigInt(at),
    user: "bob",
    records: [{ oid: 9n, data: BLOB }, { oid: 0n, data: `root ${at}` }, { oid: 7n, data: BLOB }],
  })),
  { tid: TID + BigInt(COUNT), user: "bob", records: [{ oid: 7n, backPointer: [0, 2] as const }] },
];
const KEYS = HISTORY.flatMap(({ tid, records = [] }) =>
  records.flatMap((each) => "data" in each && each.data !== BLOB ? [] : [{ oid: each.oid as bigint, tid }])
);
const FILE = dataFs(HISTORY).bytes;

function pathOf(directory: string, oid: bigint, tid: bigint): string {
  return `${directory}/${"0x00/".repeat(7)}0x0${oid}/0x${tid.toString(16).padStart(16, "0")}.blob`;
}

/** Two copies that are the same. */
function twins(): MemoryDisk {
  const disk = new MemoryDisk();
  for (const [path, blobs] of [[COPY, COPY_BLOBS], [SOURCE, SOURCE_BLOBS]] as const) {
    disk.put(path, FILE);
    disk.put(`${blobs}/.layout`, latin1("bushy"));
    for (const { oid, tid } of KEYS) disk.put(pathOf(blobs, oid, tid), latin1(`content ${oid} ${tid}`));
  }
  return disk;
}

type By = "file" | "node";

async function compare(disk: MemoryDisk, by: By, options: Partial<VerifyOtherOptions> = {}) {
  const host = new ScriptedHost(disk);
  const blobs = { blobs: "replicate", blobDir: SOURCE_BLOBS } as const;
  await using primary = by === "file"
    ? undefined
    : await startPrimary({ path: SOURCE, replicateTo: ANY_PORT, ...blobs }, host);
  const other = primary === undefined ? SOURCE : `zrs://${primary.address}`;
  const otherBlobDir = by === "file" ? SOURCE_BLOBS : undefined;
  const result = await verifyOther(
    { dataFs: COPY, other, blobDir: COPY_BLOBS, otherBlobDir, ...options },
    host,
  );
  return {
    result,
    lines: host.written.out.trimEnd().split("\n").map((line) => line.replaceAll(other, "OTHER")),
  };
}

const [oid, tid] = [7n, TID + 30n];
const CASES: readonly {
  readonly what: string;
  readonly change: (disk: MemoryDisk) => void;
  readonly said: RegExp;
  readonly same?: number;
}[] = [
  {
    what: "another byte",
    change: (disk) => disk.put(pathOf(COPY_BLOBS, oid, tid), latin1(`Content ${oid} ${tid}`)),
    said: /^DIFFERENT transaction 03f594580000001e .* the 28 bytes of blob 0000000000000007 differ \[bob\]$/,
  },
  {
    what: "a file that is too short",
    change: (disk) => disk.put(pathOf(COPY_BLOBS, oid, tid), latin1("content")),
    said: /blob 0000000000000007 has 7 bytes in \S+copy\.fs and 28 bytes in OTHER/,
  },
  {
    what: "a file that is missing",
    change: (disk) => disk.remove(pathOf(COPY_BLOBS, oid, tid)),
    said: /copy\.fs lacks the file of blob 0000000000000007; it has 28 bytes in OTHER/,
  },
  {
    what: "a file that is missing, and on the list",
    change: (disk) => {
      disk.remove(pathOf(COPY_BLOBS, oid, tid));
      disk.put(`${COPY}.missing-blobs`, latin1(`0x07 0x${tid.toString(16).padStart(16, "0")}\n`));
    },
    said: /lacks the file of blob 0000000000000007, as its list says; it has 28 bytes/,
  },
  {
    what: "the last one, which shares its record's data",
    change: (disk) => disk.remove(pathOf(COPY_BLOBS, 7n, TID + BigInt(COUNT))),
    said: /^DIFFERENT transaction 03f5945800000046 .* lacks the file of blob 0000000000000007/,
  },
];

for (const by of ["file", "node"] as const) {
  Deno.test(`copies with the same blobs are told so, with a ${by}`, async () => {
    const { result, lines } = await compare(twins(), by);
    assert.deepEqual(result.blobs, { same: KEYS.length, onlyHere: 0, neither: 0 });
    assert.deepEqual(lines.slice(-2), [`${2 * COUNT + 1} blobs the same`, "No differences"]);
    const since = await compare(twins(), by, { since: TID + 60n });
    assert.equal(since.result.blobs?.same, 21);
  });

  for (const { what, change, said } of CASES) {
    Deno.test(`${what} is a difference, with a ${by}`, async () => {
      const disk = twins();
      change(disk);
      const { result, lines } = await compare(disk, by);
      assert.deepEqual([result.differences, result.blobs?.same], [1, KEYS.length - 1]);
      assert.match(lines[0]!, said);
    });
  }

  Deno.test(`what the other has no file for is counted, and no difference, with a ${by}`, async () => {
    const disk = twins();
    disk.remove(pathOf(SOURCE_BLOBS, 9n, TID));
    for (const blobs of [SOURCE_BLOBS, COPY_BLOBS]) disk.remove(pathOf(blobs, 7n, TID));
    const { result, lines } = await compare(disk, by);
    assert.deepEqual([result.differences, result.blobs], [0, {
      same: KEYS.length - 2,
      onlyHere: 1,
      neither: 1,
    }]);
    assert.deepEqual(lines.slice(-3), [
      `1 blob only in ${COPY}: packed away in OTHER, or missing there`,
      "1 blob without a file that can be read at either end",
      "No differences",
    ]);
  });
}

Deno.test("a node without blobs, and a directory that is none, are refused in words", async () => {
  const disk = twins();
  const host = new ScriptedHost(disk);
  await using primary = await startPrimary({ path: SOURCE, replicateTo: ANY_PORT, blobs: "none" }, host);
  const other = `zrs://${primary.address}`;
  await assert.rejects(
    verifyOther({ dataFs: COPY, other, blobDir: COPY_BLOBS }, host),
    (error) => error instanceof UsageError && /it does not tell of them/.test(error.message),
  );
  assert.equal((await verifyOther({ dataFs: COPY, other }, host)).differences, 0);
  await assert.rejects(compare(disk, "file", { blobDir: "/data/none" }), /there is no such directory/);
});

Deno.test("a source answers for each blob once, in order, and for nothing that is none", async () => {
  const disk = twins();
  const file = disk.openRead(SOURCE);
  const view = { generation: new Generation(0, file), end: FILE.length, lastTid: HISTORY.at(-1)!.tid };
  const answers = () =>
    new CompareAnswers(view, () => Promise.resolve(), BlobDirectory.open(disk, SOURCE_BLOBS));
  const name = (id: bigint) => id.toString(16).padStart(16, "0");
  const blob = (oid: bigint, tid: bigint) => [name(oid), name(tid)];
  const ask = (...blobs: unknown[]) => ({ kind: "blobs", blobs });
  const one = answers();
  const known = await one.answer(ask(blob(7n, TID), blob(8n, TID), blob(9n, TID)));
  assert.deepEqual(
    (known as { blobs: readonly (readonly unknown[] | null)[] }).blobs.map((each) => each?.[0]),
    [
      28,
      undefined,
      28,
    ],
  );
  await assert.rejects(one.answer(ask(blob(9n, TID))), ProtocolError);
  for (
    const wrong of [
      ask(),
      ask(blob(9n, TID), blob(7n, TID)),
      ask(["7", name(TID)]),
      ask([name(7n), "../../../etc/x.."]),
      ask(...Array.from({ length: 65 }, (_, at) => blob(BigInt(at), TID))),
      { kind: "blobs" },
    ]
  ) await assert.rejects(answers().answer(wrong), ProtocolError, JSON.stringify(wrong));
  const none = new CompareAnswers(view, () => Promise.resolve());
  await assert.rejects(none.answer(ask(blob(7n, TID))), /no blobs are served here/);
});
