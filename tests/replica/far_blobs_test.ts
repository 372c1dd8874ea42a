/** The blobs of a file that is reached through a shell: fetched with the tools that are there. */
import assert from "node:assert/strict";
import { NotFoundError, UnavailableError, UsageError } from "../../lib/errors.ts";
import { systemHost } from "../../lib/host/mod.ts";
import type { Connection } from "../../lib/ports/mod.ts";
import { openBlobs } from "../../lib/replica/receiving/blob_reception.ts";
import { assertSameBlobs, blobFilesOf } from "../kit/blob_files.ts";
import { CollectedLog } from "../kit/collected_log.ts";
import { type BuiltFile, dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { latin1 } from "../kit/hex.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { TempDirectory } from "../kit/temp.ts";
import { breakingAfter, SHELLS, sync } from "./far_kit.ts";

const BLOB = latin1("\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.");
const TID = 0x03f5945817777700n;
const SMALL = { readBytes: 4096, runBytes: 64 * 1024, sendBytes: 4096 };

/** A blob's file: of 0 to some 3,000 bytes, among them such as end lines, and lines that could be ours. */
function contentOf(oid: bigint, tid: bigint): Uint8Array {
  const size = Number((oid * 7919n + tid * 31n) % 3000n);
  return latin1(`\n${oid} ${tid}-file 5\nblobs\n`.repeat(120).slice(0, size));
}

/** Blobs, revisions of them, one that shares the data of another, ordinary records, and a cancelled transaction. */
function history(count: number): TransactionDescription[] {
  return Array.from({ length: count }, (_, at) => ({
    tid: TID + BigInt(at),
    ...(at === 5 && { status: "u" as const }),
    records: at === 7
      ? [{ oid: 1n, backPointer: [0, 1] as const }]
      : [{ oid: 0n, data: `root ${at}` }, { oid: BigInt(1 + at % 9), data: BLOB }, {
        oid: 20n,
        data: "x".repeat(at + 1),
      }],
  }));
}

class Place implements AsyncDisposable {
  readonly far: string;
  readonly copy: string;
  readonly farBlobs: string;
  readonly copyBlobs: string;

  constructor(readonly directory: TempDirectory) {
    this.far = directory.join("Data.fs");
    this.copy = directory.join("copy.fs");
    this.farBlobs = directory.join("far blobs' $HOME");
    this.copyBlobs = directory.join("copy");
  }

  /** With all files that the records need. */
  static async make(
    file: BuiltFile,
    descriptions: readonly TransactionDescription[],
    layout = "bushy",
  ): Promise<Place> {
    const place = new Place(await TempDirectory.make());
    Deno.writeFileSync(place.far, file.bytes);
    for (const directory of [place.farBlobs, place.copyBlobs]) {
      Deno.mkdirSync(directory);
      Deno.writeTextFileSync(`${directory}/.layout`, layout);
    }
    for (const { tid, status, records = [] } of descriptions) {
      if (status === "u") continue;
      for (
        const { oid, data, backPointer } of records as {
          oid: bigint;
          data?: unknown;
          backPointer?: unknown;
        }[]
      ) {
        if (data === BLOB || backPointer !== undefined) place.put(oid, tid, contentOf(oid, tid), layout);
      }
    }
    return place;
  }

  put(oid: bigint, tid: bigint, content: Uint8Array, layout = "bushy"): string {
    const path = this.blob(oid, tid, layout);
    Deno.mkdirSync(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    Deno.writeFileSync(path, content, { mode: 0o444 });
    return path;
  }

  blob(oid: bigint, tid: bigint, layout = "bushy"): string {
    const [object, transaction] = [oid, tid].map((id) => id.toString(16).padStart(16, "0"));
    const directory = layout === "bushy"
      ? object!.replace(/../g, (byte) => `0x${byte}/`)
      : `0x${object!.replace(/^(00)+(?=..)/, "")}/`;
    return `${this.farBlobs}/${directory}0x${transaction!.replace(/^(00)+(?=..)/, "")}.blob`;
  }

  /** One run. */
  async sync(
    options: Parameters<typeof sync>[2] & { marks?: boolean } = {},
  ): Promise<Awaited<ReturnType<typeof sync>>> {
    const { disk, network, clock, random } = systemHost();
    const ports = { disk, network, clock, random, log: new CollectedLog() };
    const missingBlobs = options.marks ? "mark" : "fail";
    const how = { path: this.copy, blobs: "replicate", blobDir: this.copyBlobs, missingBlobs } as const;
    const blobs = await openBlobs(ports, how, undefined);
    const result = await sync(this.far, this.copy, { blobs, blobDir: this.farBlobs, ...options });
    if (blobs.choice === "replicate") blobs.incoming.forget(0xffff_ffff_ffff_ffffn);
    return result;
  }

  get copied(): Uint8Array {
    return Deno.readFileSync(this.copy);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.directory[Symbol.asyncDispose]();
  }
}

for (const command of SHELLS) {
  Deno.test(`by ${command.join(" ")} a copy gets all blobs, in either layout`, async () => {
    for (const layout of ["bushy", "lawn"]) {
      const file = dataFs(history(40));
      await using place = await Place.make(file, history(40), layout);
      await place.sync({ command });
      assertSameBytes(place.copied, file.bytes);
      await assertSameBlobs(place.copyBlobs, place.farBlobs);
      assert.equal((await blobFilesOf(place.copyBlobs)).size, 39);
    }
  });
}

Deno.test("more blobs than are asked for at once, in more than is read at once, come with small and large buffers", async () => {
  const large = (at: number): TransactionDescription => ({
    tid: TID + BigInt(at),
    records: [
      { oid: 1n, data: BLOB },
      { oid: 30n, data: "x".repeat(5_000_000) },
      ...Array.from({ length: 130 }, (_, oid) => ({ oid: BigInt(100 + oid), data: BLOB })),
    ],
  });
  const descriptions = [...history(20), large(20), ...history(60).slice(21), large(60)];
  const file = dataFs(descriptions);
  for (const buffers of [SMALL, undefined]) {
    await using place = await Place.make(file, descriptions);
    await place.sync(buffers && { buffers });
    assertSameBytes(place.copied, file.bytes);
    await assertSameBlobs(place.copyBlobs, place.farBlobs);
  }
});

Deno.test("broken off anywhere, what counts has its blobs, and the next runs complete it", async () => {
  const descriptions = history(60);
  const file = dataFs(descriptions);
  await using place = await Place.make(file, descriptions);
  let breaks = 0;
  for (let bytes = 3_000;; bytes += 2_500) {
    try {
      await place.sync({ between: breakingAfter(bytes), buffers: SMALL });
      break;
    } catch (error) {
      assert.ok(error instanceof UnavailableError, String(error));
      assert.ok(++breaks < 200, String(error));
    }
    const end = file.transactions.findLast(({ end }) => end <= place.copied.length)?.end ?? 4;
    assertSameBytes(place.copied, file.bytes.subarray(0, end));
    const there = await blobFilesOf(place.copyBlobs);
    for (const [at, { tid, status, records = [] }] of descriptions.entries()) {
      if (file.transactions[at]!.end > end || status === "u") continue;
      const blob = records.find((each) => "backPointer" in each || ("data" in each && each.data === BLOB))!;
      const name = `${blob.oid}/0x${tid.toString(16).padStart(16, "0")}.blob`;
      assert.equal(there.get(name)?.size, contentOf(blob.oid!, tid).length, name);
    }
  }
  assert.ok(breaks > 5, `broken off ${breaks} times`);
  assertSameBytes(place.copied, file.bytes);
  await assertSameBlobs(place.copyBlobs, place.farBlobs);
});

Deno.test("a file that is missing there ends the copy before it, or is marked", async () => {
  const descriptions = history(40);
  const file = dataFs(descriptions);
  await using place = await Place.make(file, descriptions);
  Deno.removeSync(place.blob(3n, TID + 20n));
  await assert.rejects(place.sync(), (error) => {
    assert.ok(error instanceof UnavailableError);
    assert.match(error.message, /^Cannot copy blob object 0x03 of transaction .*: its file is missing there/);
    assert.match(String(error.hint), /--missing-blobs mark/);
    return true;
  });
  assertSameBytes(place.copied, file.bytes.subarray(0, file.transactions[19]!.end));
  const log = new CollectedLog();
  await place.sync({ marks: true, log });
  assertSameBytes(place.copied, file.bytes);
  await assertSameBlobs(place.copyBlobs, place.farBlobs);
  assert.equal(Deno.readTextFileSync(`${place.copy}.missing-blobs`), "0x03 0x03f5945817777714\n");
  assert.match(log.complaints().join(), /its file is missing there.*marked as missing/);
});

/** Changes a file between the moment it is looked at and the one at which it is read. */
function changing(change: () => void): (connection: Connection) => Connection {
  return (connection) => ({
    peer: connection.peer,
    get written() {
      return connection.written;
    },
    read: (into) => connection.read(into),
    write(bytes) {
      if (/^blobs \d/.test(new TextDecoder().decode(bytes.subarray(0, 20)))) change();
      return connection.write(bytes);
    },
    close: () => connection.close(),
    [Symbol.dispose]: () => connection.close(),
  });
}

Deno.test("a file that vanishes, shrinks or grows once it was looked at is not taken for a blob", async () => {
  const descriptions = history(12);
  const file = dataFs(descriptions);
  const changes: readonly (readonly [what: string, change: (path: string) => void])[] = [
    ["vanishes", (path) => Deno.removeSync(path)],
    ["shrinks", (path) => Deno.truncateSync(path, 5)],
    ["grows", (path) => Deno.writeTextFileSync(path, "more", { append: true })],
  ];
  for (const [what, change] of changes) {
    await using place = await Place.make(file, descriptions);
    const path = place.blob(4n, TID + 3n);
    Deno.chmodSync(path, 0o644);
    await assert.rejects(
      place.sync({ between: changing(() => change(path)) }),
      (error) => error instanceof UnavailableError && /it has changed while it was read/.test(error.message),
      what,
    );
    assertSameBytes(place.copied, file.bytes.subarray(0, file.transactions[2]!.end), what);
    await place.sync({ marks: true });
    assertSameBytes(place.copied, file.bytes);
  }
});

Deno.test("a file that shrinks while it is read is found out by what follows it", async () => {
  const descriptions = history(12);
  const file = dataFs(descriptions);
  await using place = await Place.make(file, descriptions);
  // What cat reads is another file than ls has told of.
  const tools = place.directory.join("tools");
  Deno.mkdirSync(tools);
  Deno.writeTextFileSync(`${tools}/cat`, `#!/bin/sh\ndd bs=1 count=3 <"$1" 2>/dev/null\n`);
  Deno.chmodSync(`${tools}/cat`, 0o755);
  const command = ["env", `PATH=${tools}:${Deno.env.get("PATH")}`, "sh"] as const;
  await assert.rejects(
    place.sync({ command }),
    (error) => error instanceof UnavailableError && /other bytes came than it has/.test(error.message),
  );
  assertSameBytes(place.copied, file.bytes.subarray(0, 4));
  assert.deepEqual([...(await blobFilesOf(place.copyBlobs)).keys()], []);
});

Deno.test("a directory there that is none, or has no layout that is known, is told before anything is read", async () => {
  const descriptions = history(12);
  await using place = await Place.make(dataFs(descriptions), descriptions);
  const none = `${place.farBlobs}/none`;
  await assert.rejects(place.sync({ blobDir: none }), NotFoundError);
  Deno.writeTextFileSync(`${place.farBlobs}/.layout`, "heap");
  await assert.rejects(
    place.sync(),
    (error) => error instanceof UsageError && /found "heap"/.test(error.message),
  );
  Deno.removeSync(`${place.farBlobs}/.layout`);
  Deno.renameSync(place.farBlobs, none.replace("/none", "2"));
  const lawn = await Place.make(dataFs(descriptions), descriptions, "lawn");
  await using _ = lawn;
  Deno.removeSync(`${lawn.farBlobs}/.layout`);
  await lawn.sync();
  assert.equal((await blobFilesOf(lawn.copyBlobs)).size, 11);
});
