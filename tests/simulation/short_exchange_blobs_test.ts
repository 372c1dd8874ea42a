/**
 * A short exchange with blobs, with anything going wrong once, at every place where it can: whenever a blob's record
 * counts at the replica, also after a loss of power, its content is there and whole.
 */
import assert from "node:assert/strict";
import { dataFs } from "../kit/data_fs.ts";
import { latin1 } from "../kit/hex.ts";
import type { BlockFile, Disk } from "../../lib/ports/mod.ts";
import { BLOB_DIRECTORY, type SimulatedBlob } from "./blobs.ts";
import { DisguisedDisk, DisguisedFile } from "./disguise.ts";
import { exchange } from "./short_exchange.ts";

const BLOB = latin1("\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.");
const TID = 0x036c_9000_0000_0001n;

const SOURCE = dataFs([
  { tid: TID, records: [{ oid: 0n, data: "root" }] },
  { tid: TID + 16n, records: [{ oid: 1n, data: BLOB }, { oid: 2n, data: BLOB }] },
  { tid: TID + 32n, records: [{ oid: 1n, data: BLOB }] },
  { tid: TID + 48n, records: [{ oid: 1n, backPointer: [1, 0] }, { oid: 0n, data: "undone" }] },
]).bytes;

function blob(oid: number, number: number, length: number): SimulatedBlob {
  const tid = TID + 16n * BigInt(number);
  const digits = tid.toString(16).padStart(16, "0");
  const content = Uint8Array.from({ length }, (_, at) => (at * 7 + number) % 251);
  return { oid: BigInt(oid), tid, path: `${"0x00/".repeat(7)}0x0${oid}/0x${digits}.blob`, content };
}

const scene = {
  before: SOURCE.subarray(0, 4),
  source: SOURCE,
  replica: undefined,
  blobs: [blob(1, 1, 700), blob(2, 1, 0), blob(1, 2, 300), blob(1, 3, 700)],
};

for (const protocol of ["native", "zrs2"] as const) {
  Deno.test(`blobs arrive with their records although the link is cut behind every third byte: ${protocol}`, async () => {
    const whole = await exchange({ ...scene, protocol, seed: "whole" });
    assert(whole.bytes > 1_700);
    for (let cutBehind = 0; cutBehind < whole.bytes; cutBehind += 3) {
      const { befell } = await exchange({ ...scene, protocol, seed: `cut ${cutBehind}`, cutBehind });
      assert(befell || cutBehind > whole.bytes / 2, `nothing was cut behind ${cutBehind}`);
    }
  });

  for (const kind of ["killed", "power lost", "disk full", "disk error"] as const) {
    Deno.test(`blobs arrive with their records although the replica meets "${kind}" at any change of its disk: ${protocol}`, async () => {
      let skip = 0;
      for (let befell = true; befell; skip++) {
        ({ befell } = await exchange({
          ...scene,
          protocol,
          seed: `${kind} ${skip}`,
          death: { skip, kind },
        }));
      }
      assert(skip > 40, `only ${skip} changes`);
    });
  }
}

const marked = {
  ...scene,
  blobs: scene.blobs.map((each, at) => at === 0 || at === 2 ? { ...each, content: undefined } : each),
};

for (const kind of ["killed", "power lost", "disk full", "disk error"] as const) {
  Deno.test(`blobs that the source lacks are on the list before their records count, although the replica meets "${kind}" at any change of its disk`, async () => {
    let skip = 0;
    for (let befell = true; befell; skip++) {
      ({ befell } = await exchange({ ...marked, seed: `marked ${kind} ${skip}`, death: { skip, kind } }));
    }
    assert(skip > 40, `only ${skip} changes`);
  });
}

/** A disk that lies about having synced the files or directories of blobs, or the list of those that are missing. */
class Liar extends DisguisedDisk {
  readonly #what: "files" | "directories" | "list";

  constructor(disk: Disk, what: "files" | "directories" | "list") {
    const suffix = { files: ".part", directories: undefined, list: ".missing-blobs" }[what];
    super(
      disk,
      (file) => suffix !== undefined && file.path.endsWith(suffix) ? new Unsynced(file) : file as BlockFile,
    );
    this.#what = what;
  }

  override async syncDirectory(directory: string): Promise<void> {
    if (this.#what === "directories" && directory.startsWith(`${BLOB_DIRECTORY}/0x`)) return;
    await super.syncDirectory(directory);
  }
}

class Unsynced extends DisguisedFile {
  override async sync(): Promise<void> {}
}

Deno.test("it would be found if the list of missing blobs were not synced before their records count", async () => {
  let found = 0;
  for (let skip = 20; skip < 80 && found === 0; skip++) {
    const planted = { ...marked, seed: `list ${skip}`, disguise: (disk: Disk) => new Liar(disk, "list") };
    await exchange({ ...planted, death: { skip, kind: "power lost" } }).catch((error) => {
      assert.match(`${error.cause}`, /BlobsChecker: after a power loss.*is not on the list/);
      found++;
    });
  }
  assert.equal(found, 1);
});

for (const what of ["files", "directories"] as const) {
  Deno.test(`it would be found if the ${what} of blobs were not synced before their records count`, async () => {
    let found = 0;
    for (let seed = 0; seed < 20 && found === 0; seed++) {
      const planted = { ...scene, seed: `planted ${seed}`, disguise: (disk: Disk) => new Liar(disk, what) };
      await exchange({ ...planted, death: { skip: 60, kind: "power lost" } }).catch((error) => {
        assert.match(`${error.cause}`, /BlobsChecker: after a power loss/);
        found++;
      });
    }
    assert.equal(found, 1);
  });
}
