/** Packing with a blob directory: which files go, which stay, and that none is ever missing. */
import assert from "node:assert/strict";
import { ZrsError } from "../../lib/errors.ts";
import { BlobDirectory, packStorage, Storage } from "../../lib/filestorage/mod.ts";
import { systemHost } from "../../lib/host/mod.ts";
import type { Disk } from "../../lib/ports/mod.ts";
import { dataFs, type RecordDescription } from "../kit/data_fs.ts";
import { MemoryDisk, type Operation } from "../kit/memory_disk.ts";
import { CAN_MOUNT, withSmallDisk } from "../kit/small_disk.ts";
import { TempDirectory } from "../kit/temp.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { walk } from "../kit/walk.ts";
import { data, history } from "./pack_kit.ts";
import { tidAt } from "./random_history.ts";

const PATH = "/data/Data.fs";
const BLOBS = "/data/blobs";

/** Nothing refers to it. */
const GARBAGE = 9n;

/** What ZODB pickles for every blob. */
function bytesOfBlob(): Uint8Array {
  const text = "cZODB.blob\nBlob\nq\x00.";
  return new Uint8Array([0x80, 3, ...new TextEncoder().encode(text), 0x80, 3, 0x4e, 0x2e]);
}

const blob = (oid: bigint): RecordDescription => ({ oid, data: bytesOfBlob() });

/** 1: rewritten; 2: stays; 3: undone later to what it was; 9: garbage. */
const FILE = dataFs(history(
  [{ oid: 0n, data: data([1, 2, 3]) }, blob(1n), blob(2n), blob(3n), blob(GARBAGE)],
  [blob(1n), blob(3n)],
  [blob(1n), blob(GARBAGE)],
  [{ oid: 3n, backPointer: [0, 3] }, blob(1n)],
));

function findReferences(bytes: Uint8Array, found: (oidHigh: number, oidLow: number) => void): void {
  const text = new TextDecoder("latin1").decode(bytes);
  if (text.includes("|")) { for (const each of text.split("|")[0]!.split(",")) found(0, Number(each)); }
}

/** The names of the blobs whose records are in a file. */
function blobsIn(bytes: Uint8Array): string[] {
  const names = transactionsOf(bytes).flatMap(({ records }) =>
    records.filter(({ data }) => new TextDecoder("latin1").decode(data!).includes("ZODB.blob"))
      .map(({ oid, tid }) => `0x0${oid}/0x0${tid.toString(16)}.blob`)
  );
  return [...new Set(names)].sort();
}

function filesIn(disk: MemoryDisk, directory: string): string[] {
  return disk.paths().filter((path) => path.startsWith(`${directory}/`) && path.endsWith(".blob"))
    .map((path) => path.slice(directory.length + 1)).sort();
}

function diskWithBlobs(): MemoryDisk {
  const disk = new MemoryDisk();
  disk.put(PATH, FILE.bytes);
  disk.put(`${BLOBS}/.layout`, new TextEncoder().encode("lawn"));
  for (const name of blobsIn(FILE.bytes)) disk.put(`${BLOBS}/${name}`, new TextEncoder().encode(name));
  return disk;
}

async function pack(disk: MemoryDisk, keepOld: boolean, gc = true) {
  return await packAt(disk, PATH, BLOBS, keepOld, gc);
}

async function packAt(disk: Disk, path: string, blobs: string, keepOld: boolean, gc = true) {
  const told: string[] = [];
  await using storage = await Storage.open(disk, path);
  const report = await packStorage(disk, storage, {
    stop: tidAt(2),
    findReferences: gc ? findReferences : undefined,
    keepOld,
    blobs: BlobDirectory.open(disk, blobs),
    patience: {},
    warn: (message) => told.push(message),
  });
  return { report, told };
}

Deno.test("the blobs of revisions that a pack drops go, and no others", async () => {
  for (const gc of [true, false]) {
    const disk = diskWithBlobs();
    const all = filesIn(disk, BLOBS);
    const { report, told } = await pack(disk, false, gc);
    assert.deepEqual(filesIn(disk, BLOBS), blobsIn(disk.bytes(PATH)), `gc: ${gc}`);
    assert.equal(report.blobsDropped, all.length - filesIn(disk, BLOBS).length);
    assert.ok(report.blobsDropped > 0);
    assert.deepEqual(told, []);
    assert.deepEqual(filesIn(disk, `${BLOBS}.old`), []);
  }
});

Deno.test("with the unpacked file its blobs are kept, in a directory of its layout; an older one makes place", async () => {
  const disk = diskWithBlobs();
  disk.put(`${BLOBS}.old/.layout`, new TextEncoder().encode("bushy"));
  disk.put(`${BLOBS}.old/0x01/0x01.blob`, new Uint8Array(1));
  disk.put(`${BLOBS}.old/notes.txt`, new Uint8Array(1));
  const { told } = await pack(disk, true);
  assert.deepEqual(told, []);
  assert.deepEqual(filesIn(disk, BLOBS), blobsIn(disk.bytes(PATH)));
  assert.deepEqual(filesIn(disk, `${BLOBS}.old`), blobsIn(disk.bytes(`${PATH}.old`)));
  assert.equal(new TextDecoder().decode(disk.bytes(`${BLOBS}.old/.layout`)), "lawn");
  for (const name of filesIn(disk, `${BLOBS}.old`)) {
    assert.equal(new TextDecoder().decode(disk.bytes(`${BLOBS}.old/${name}`)), name);
  }
  assert.ok(disk.paths().includes(`${BLOBS}.old/notes.txt`), "somebody else's file is none of ours");
});

Deno.test("whatever fails, every record has its file; what is left too many is told of", async () => {
  let told = 0;
  for (const keepOld of [true, false]) {
    const operations: Operation[] = [
      "create",
      "read",
      "write",
      "sync",
      "rename",
      "link",
      "remove",
      "makeDirectory",
    ];
    operations.push("syncDirectory", "open");
    for (const operation of operations) {
      for (const lasting of [false, true]) {
        for (let nth = 1;; nth++) {
          const label = `${operation} ${nth}, keepOld: ${keepOld}, ${lasting}`;
          const disk = diskWithBlobs();
          const before = filesIn(disk, BLOBS);
          disk.performed.length = 0;
          disk.fail({ operation, nth, lasting });
          const outcome = await pack(disk, keepOld).catch((error) => error);
          if (disk.performed.filter((each) => each.operation === operation).length < nth) break;
          assert.ok(!(outcome instanceof Error) || outcome instanceof ZrsError, `${label}: ${outcome}`);
          disk.mend();
          const present = new Set(filesIn(disk, BLOBS));
          const path = disk.paths().includes(PATH) ? PATH : `${PATH}.old`;
          const needed = blobsIn(disk.bytes(path));
          assert.deepEqual(needed.filter((name) => !present.has(name)), [], label);
          if (outcome instanceof Error) assert.deepEqual([...present], before, label);
          else if (present.size > needed.length) {
            assert.match(
              outcome.told.join(),
              /^.*are left in \/data\/blobs: .*zrs verify --blob-dir lists them/,
              label,
            );
            told++;
          }
        }
      }
    }
  }
  assert.ok(told > 10, `${told}`);
});

Deno.test("where files cannot have two names, the blobs of the unpacked file stay where they are", async () => {
  const disk = diskWithBlobs();
  disk.hasLinks = false;
  const { told, report } = await pack(disk, true);
  assert.equal(report.isPacked, true);
  assert.match(told.join(), /cannot have a second name there; pack with --no-keep-old.*; zrs verify/);
  const present = filesIn(disk, BLOBS);
  assert.deepEqual(blobsIn(disk.bytes(PATH)).filter((name) => !present.includes(name)), []);
});

/** Puts the file, and a directory with its blobs, there. */
function putOnDisk(path: string, blobs: string): void {
  Deno.writeFileSync(path, FILE.bytes);
  Deno.mkdirSync(blobs, { recursive: true });
  Deno.writeTextFileSync(`${blobs}/.layout`, "lawn");
  for (const name of blobsIn(FILE.bytes)) {
    Deno.mkdirSync(`${blobs}/${name.split("/")[0]}`, { recursive: true });
    Deno.writeTextFileSync(`${blobs}/${name}`, name);
  }
}

async function filesOnDisk(directory: string): Promise<string[]> {
  return (await walk(directory)).filter((name) => name.endsWith(".blob"));
}

Deno.test("the blobs of the unpacked file lie beside the blob directory, however that is named", async () => {
  const { disk } = systemHost();
  for (const [name, real] of [["link", "elsewhere/blobs"], ["blobs/.", "blobs"], ["blobs/", "blobs"]]) {
    await using temporary = await TempDirectory.make();
    const at = (path: string) => `${temporary.path}/${path}`;
    putOnDisk(at("Data.fs"), at(real!));
    if (name === "link") Deno.symlinkSync(real!, at(name));
    const { told } = await packAt(disk, at("Data.fs"), at(name!), true);
    assert.deepEqual(told, []);
    assert.deepEqual(await filesOnDisk(at(real!)), blobsIn(Deno.readFileSync(at("Data.fs"))), name);
    assert.deepEqual(await filesOnDisk(at(`${real}.old`)), blobsIn(FILE.bytes), name);
  }
});

Deno.test({
  name: "blobs on a file system of their own stay where they are, or go without being kept, as is said",
  ignore: !CAN_MOUNT,
  fn: async () => {
    const { disk } = systemHost();
    await using temporary = await TempDirectory.make();
    const path = `${temporary.path}/Data.fs`;
    await withSmallDisk(temporary.path, 256, async (blobs) => {
      putOnDisk(path, blobs);
      const { told } = await packAt(disk, path, blobs, true);
      assert.match(
        told.join(),
        /small\.old: files of .*small cannot have a second name there; pack with --no-keep/,
      );
      assert.deepEqual(await filesOnDisk(blobs), blobsIn(FILE.bytes));
      Deno.writeFileSync(path, FILE.bytes);
      assert.deepEqual((await packAt(disk, path, blobs, false)).told, []);
      assert.deepEqual(await filesOnDisk(blobs), blobsIn(Deno.readFileSync(path)));
    });
  },
});
