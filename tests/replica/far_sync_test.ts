/** Bringing a copy up to date from a file that is reached through a shell. */
import assert from "node:assert/strict";
import { UnavailableError, UsageError } from "../../lib/errors.ts";
import { FarDamagedError } from "../../lib/replica/far/far_runs.ts";
import { FarReplacedError } from "../../lib/replica/far/far_shell.ts";
import { UnwantedError } from "../../lib/replica/receiving/incoming.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { OpenCheck, peerTest, ZodbWriter } from "../kit/peers.ts";
import { CollectedLog } from "../kit/collected_log.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { TempDirectory } from "../kit/temp.ts";
import { breakingAfter, sync } from "./far_kit.ts";

const FIRST_TID = 0x03f5945817777700n;
const SMALL = { readBytes: 4096, runBytes: 64 * 1024, sendBytes: 4096 };

function transaction(at: number, more: Partial<TransactionDescription> = {}): TransactionDescription {
  const tid = FIRST_TID + BigInt(at);
  const size = 1 + (at * 7919) % 4000;
  return { tid, records: [{ oid: BigInt(at % 50), data: `${at} `.padEnd(size, "x") }], ...more };
}

function history(count: number): TransactionDescription[] {
  return Array.from({ length: count }, (_, at) => transaction(at));
}

class Place implements AsyncDisposable {
  readonly far: string;
  readonly copy: string;

  constructor(readonly directory: TempDirectory) {
    this.far = directory.join("Data.fs");
    this.copy = directory.join("copy.fs");
  }

  static async make(far: Uint8Array, copy?: Uint8Array): Promise<Place> {
    const place = new Place(await TempDirectory.make());
    Deno.writeFileSync(place.far, far);
    if (copy !== undefined) Deno.writeFileSync(place.copy, copy);
    return place;
  }

  get copied(): Uint8Array {
    return Deno.readFileSync(this.copy);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.directory[Symbol.asyncDispose]();
  }
}

Deno.test("a copy that has none, some or all of a file gets the rest, and is the same", async () => {
  const { bytes, transactions } = dataFs(history(400));
  assert.ok(bytes.length > 700_000);
  for (const had of [undefined, 0, 4, transactions[0]!.end, transactions[250]!.end, bytes.length]) {
    for (const buffers of [SMALL, undefined]) {
      for (const full of [false, true]) {
        await using place = await Place.make(bytes, had === undefined ? undefined : bytes.subarray(0, had));
        const start = Math.max(4, had ?? 0);
        const missing = transactions.filter(({ position }) => position >= start).length;
        const result = await sync(place.far, place.copy, { full, ...(buffers && { buffers }) });
        assert.deepEqual(result, {
          kind: "complete",
          transactions: missing,
          bytes: bytes.length - start,
          unfinishedBytes: 0,
          isDurableThere: true,
        });
        assertSameBytes(place.copied, bytes);
      }
    }
  }
});

Deno.test("a transaction larger than every buffer comes whole, between others", async () => {
  const large = transaction(2, { records: [{ oid: 1n, data: "x".repeat(3_000_000) }] });
  const { bytes } = dataFs([transaction(0), transaction(1), large, transaction(3)]);
  await using place = await Place.make(bytes);
  const result = await sync(place.far, place.copy, { buffers: SMALL });
  assert.equal(result.kind, "complete");
  assertSameBytes(place.copied, bytes);
});

Deno.test("what is not finished at the end is left, however much of it there is", async () => {
  const whole = dataFs(history(20));
  const tails = [
    dataFs([...history(20), transaction(20, { status: "c" })]).bytes,
    dataFs([...history(20), transaction(20, { status: "c" }), transaction(21)]).bytes,
  ];
  const next = dataFs(history(21)).bytes;
  for (let length = whole.end + 1; length < next.length; length += 211) tails.push(next.subarray(0, length));
  for (const bytes of tails) {
    for (const had of [0, whole.end]) {
      await using place = await Place.make(bytes, whole.bytes.subarray(0, had));
      const result = await sync(place.far, place.copy);
      assert.ok(result.kind === "complete");
      assert.equal(result.unfinishedBytes, bytes.length - whole.end);
      assertSameBytes(place.copied, whole.bytes);
    }
  }
});

Deno.test("a cancelled transaction is copied as it lies", async () => {
  const { bytes } = dataFs([...history(5), transaction(5, { status: "u" }), transaction(6)]);
  await using place = await Place.make(bytes);
  assert.equal((await sync(place.far, place.copy)).kind, "complete");
  assertSameBytes(place.copied, bytes);
});

Deno.test("an empty database is a whole one", async () => {
  for (const bytes of [new Uint8Array(), dataFs([]).bytes]) {
    await using place = await Place.make(bytes);
    assert.equal((await sync(place.far, place.copy)).kind, "complete");
    assert.equal(new TextDecoder().decode(place.copied), "FS30");
  }
});

Deno.test("what is no FileStorage is refused before anything is copied", async () => {
  for (const text of ["FS", "hello world", "FS21"]) {
    await using place = await Place.make(new TextEncoder().encode(text));
    await assert.rejects(sync(place.far, place.copy), UsageError);
    assert.equal(place.copied.length, 4);
  }
});

Deno.test("a copy that is ahead or forked is left as it is, and the last common transaction named", async () => {
  const common = history(40);
  const other = (at: number) => transaction(at, { records: [{ oid: 1n, data: "other" }] });
  const cases: [
    far: TransactionDescription[],
    copy: TransactionDescription[],
    words: RegExp,
    last: number,
  ][] = [
    [common, [...common, transaction(40), transaction(41)], /^ahead: /, 39],
    [[...common, transaction(40)], [...common, other(40)], /^forked: /, 39],
    [
      [...common, transaction(41), transaction(50)],
      [...common, transaction(40), transaction(45)],
      /^forked: /,
      39,
    ],
    [[], common, /^ahead: .*empty/, -1],
    [common.map((_, at) => other(at)), common, /^forked: /, -1],
  ];
  for (const [far, copy, words, last] of cases) {
    const { bytes } = dataFs(copy);
    await using place = await Place.make(dataFs(far).bytes, bytes);
    const result = await sync(place.far, place.copy);
    assert.ok(result.kind === "diverged", `${result.kind} is not ${words}`);
    assert.match(result.words, words);
    assert.equal(result.common, last < 0 ? undefined : FIRST_TID + BigInt(last));
    assert.equal(result.isExact, true);
    assertSameBytes(place.copied, bytes);
  }
});

Deno.test("a fork is told also while a commit is under way there", async () => {
  const { bytes } = dataFs([...history(40), transaction(41)]);
  const far = dataFs([...history(40), transaction(40), transaction(42)]).bytes;
  await using place = await Place.make(far.subarray(0, far.length - 100), bytes);
  const result = await sync(place.far, place.copy);
  assert.ok(result.kind === "diverged");
  assert.equal(result.common, FIRST_TID + 39n);
});

Deno.test("only a full comparison sees one byte that differs far from the samples", async () => {
  const { bytes } = dataFs(history(1500));
  const changed = bytes.slice();
  const at = 20 * 64 * 1024 + 1000;
  changed[at]! ^= 1;
  for (const [full, kind] of [[false, "complete"], [true, "packed"]] as const) {
    await using place = await Place.make(bytes, changed);
    const result = await sync(place.far, place.copy, { full });
    assert.equal(result.kind, kind);
    assertSameBytes(place.copied, changed);
  }
});

Deno.test("damage there is told, and what lies before it is copied", async () => {
  const good = history(30);
  const { transactions, bytes } = dataFs([...good, transaction(30), transaction(31), transaction(32)]);
  const end = transactions[30]!.position;
  const header = bytes.slice();
  header[end + 16] = 0x78; // no status
  const trailer = bytes.slice();
  trailer[transactions[30]!.end - 1]! ^= 1;
  const link = bytes.slice();
  link[transactions[30]!.records[0]!.position + 31]! ^= 1; // the transaction's position
  for (const damaged of [header, trailer, link]) {
    await using place = await Place.make(damaged, bytes.subarray(0, transactions[3]!.end));
    await assert.rejects(sync(place.far, place.copy), FarDamagedError);
    assertSameBytes(place.copied, bytes.subarray(0, end));
  }
});

Deno.test("a blob is refused unless the records alone are wanted", async () => {
  const blob = Uint8Array.fromHex("800363");
  const data = new Uint8Array([
    ...blob,
    ...new TextEncoder().encode("ZODB.blob\nBlob\nq\0."),
    0x80,
    3,
    0x4e,
    0x2e,
  ]);
  const { bytes, transactions } = dataFs([transaction(0), transaction(1, { records: [{ oid: 1n, data }] })]);
  await using place = await Place.make(bytes);
  await assert.rejects(sync(place.far, place.copy), UnwantedError);
  assertSameBytes(place.copied, bytes.subarray(0, transactions[0]!.end));
  assert.equal((await sync(place.far, place.copy, { blobs: { choice: "none" } })).kind, "complete");
  assertSameBytes(place.copied, bytes);
});

Deno.test("wherever the link drops, the copy has whole transactions, and the next time goes on", async () => {
  const { bytes, transactions } = dataFs(history(100));
  const ends = new Set([4, ...transactions.map(({ end }) => end)]);
  const seen = new Set<number>();
  for (let after = 0; after < bytes.length + 70_000; after += 23_456) {
    await using place = await Place.make(bytes, bytes.subarray(0, transactions[10]!.end));
    await assert.rejects(
      sync(place.far, place.copy, { between: breakingAfter(after), buffers: SMALL }),
      UnavailableError,
    );
    const { copied } = place;
    assert.ok(ends.has(copied.length));
    assertSameBytes(copied, bytes.subarray(0, copied.length));
    seen.add(copied.length);
    assert.equal((await sync(place.far, place.copy)).kind, "complete");
    assertSameBytes(place.copied, bytes);
  }
  assert.ok(seen.size > 2, "some of it comes before the link drops");
});

Deno.test("a file that is replaced, or made shorter, before it is read ends the copying", async () => {
  const { bytes, transactions } = dataFs(history(100));
  await using place = await Place.make(bytes);
  const replace = () => {
    Deno.writeFileSync(`${place.far}.new`, bytes);
    Deno.renameSync(`${place.far}.new`, place.far);
  };
  await assert.rejects(sync(place.far, place.copy, { onOpened: replace }), FarReplacedError);
  assert.equal(place.copied.length, 4);
  const { end } = transactions[60]!;
  const shorten = () => Deno.truncateSync(place.far, end + 10);
  await assert.rejects(sync(place.far, place.copy, { onOpened: shorten }), /become shorter/);
  assertSameBytes(place.copied, bytes.subarray(0, end));
});

Deno.test("where nothing can sync the file there, the log says what that means", async () => {
  await using place = await Place.make(dataFs(history(3)).bytes);
  const bin = place.directory.join("bin");
  Deno.mkdirSync(bin);
  for (const tool of ["dd", "ls"]) Deno.symlinkSync(`/bin/${tool}`, `${bin}/${tool}`);
  const log = new CollectedLog();
  const command = ["/usr/bin/env", `PATH=${bin}`, "/bin/sh"] as const;
  for (const full of [false, true]) {
    const result = await sync(place.far, place.copy, { command, log, full });
    assert.ok(result.kind === "complete" && !result.isDurableThere);
  }
  assert.equal(log.matching(/After a power loss there/).length, 2);
});

peerTest("a copy follows a real writer, and tells when it has packed", ["zodb55"], async () => {
  await using place = await Place.make(new Uint8Array());
  Deno.removeSync(place.far);
  await using writer = await ZodbWriter.start("zodb55", { path: place.far, create: true });
  for (let round = 0; round < 5; round++) {
    for (let n = 0; n < 20; n++) await writer.commit([[`key${n % 7}`, 1000]]);
    const result = await sync(place.far, place.copy);
    assert.ok(result.kind === "complete" && result.transactions > 0);
    assertSameBytes(place.copied, Deno.readFileSync(place.far));
  }
  await using python = await OpenCheck.start("zodb55");
  await python.check(place.copy);
  await writer.pack();
  await writer.commit([["key1", 1000]]);
  const before = place.copied;
  const result = await sync(place.far, place.copy);
  assert.equal(result.kind, "packed");
  assertSameBytes(place.copied, before);
});
