/** A source that was told to refuse blobs sends none, in whatever form its secondary takes transactions. */
import assert from "node:assert/strict";
import { type BuiltFile, dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { latin1 } from "../kit/hex.ts";
import { hello, type NativeMessage } from "../kit/native_wire.ts";
import { attach, digestOf, sceneWith, TID, tidText } from "./native_kit.ts";
import type { Scene } from "./scene.ts";

const BLOB = latin1("\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.");

const FIRST: TransactionDescription = { tid: TID, records: [{ oid: 0n, data: "one" }] };
const WITH_BLOB: TransactionDescription = {
  tid: TID + 1n,
  records: [{ oid: 0n, data: "two" }, { oid: 1n, data: BLOB }],
};
const WITHOUT: TransactionDescription = { tid: TID + 2n, records: [{ oid: 1n, data: "no blob any more" }] };
/** Makes the object what it was in the second transaction. */
const UNDONE: TransactionDescription = { tid: TID + 3n, records: [{ oid: 1n, backPointer: [1, 1] }] };
/** More than is in memory at once, with the blob behind it. */
const LARGE: TransactionDescription = {
  tid: TID + 1n,
  records: [
    { oid: 2n, data: "x".repeat(700_000) },
    ...Array.from({ length: 9_000 }, (_, at) => ({ oid: BigInt(at + 3), data: "y".repeat(50) })),
    { oid: 1n, data: BLOB },
  ],
};

interface Case {
  readonly what: string;
  readonly file: BuiltFile;
  /** How many transactions the secondary has already. */
  readonly has: number;
  readonly refused: bigint;
}

const CASES: readonly Case[] = [
  { what: "a blob", file: dataFs([FIRST, WITH_BLOB, WITHOUT]), has: 0, refused: TID + 1n },
  {
    what: "a blob in a transaction that is not in memory at once",
    file: dataFs([FIRST, LARGE]),
    has: 0,
    refused: TID + 1n,
  },
  {
    what: "a link to a blob that the secondary has",
    file: dataFs([FIRST, WITH_BLOB, WITHOUT, UNDONE]),
    has: 3,
    refused: TID + 3n,
  },
];

function helloFor({ file, has }: Case, capabilities: string[]): NativeMessage {
  const last = has === 0 ? undefined : WITHOUT;
  if (last === undefined) return hello({ capabilities });
  const end = file.transactions[has - 1]!.end;
  return hello({ capabilities, lastTid: tidText(last.tid), digest: digestOf(last), end });
}

/** What comes before the end. @returns the tids of whole transactions, and the last message */
async function receiveAll(
  scene: Scene,
  message: NativeMessage,
): Promise<{ tids: bigint[]; last: Record<string, unknown> | undefined }> {
  const { wire } = await attach(scene, message);
  const tids: bigint[] = [];
  for (;;) {
    const event = await wire.receiveEvent();
    if (event === null) return { tids, last: undefined };
    if (event.kind === "message") return { tids, last: event.message };
    tids.push(event.kind === "run" ? event.tid : event.transaction.tid);
  }
}

for (const each of CASES) {
  for (const capabilities of [["raw"], []]) {
    const form = capabilities.length > 0 ? "as it lies" : "record by record";
    Deno.test(`a source that refuses blobs does not send ${each.what}: ${form}`, async () => {
      const scene = sceneWith(each.file.bytes);
      await using primary = await scene.startPrimary({ blobs: "refuse" });
      const { tids, last } = await receiveAll(scene, helloFor(each, capabilities));
      assert.deepEqual(tids, each.has === 0 ? [TID] : []);
      assert.deepEqual([last?.type, last?.code], ["bye", "trouble"]);
      const why = new RegExp(`transaction ${tidText(each.refused)} .*it is a blob.*--blobs none`);
      assert.match(`${last?.reason}`, why);
      await primary.log.waitFor(why);
    });

    Deno.test(`a source that leaves out blobs' files sends the record of ${each.what}: ${form}`, async () => {
      const scene = sceneWith(each.file.bytes);
      await using _primary = await scene.startPrimary({ blobs: "none" });
      const { tids, last } = await receiveAll(scene, { ...helloFor(each, capabilities), blobs: "nothing" });
      assert(tids.at(-1)! >= each.refused);
      assert.equal(last?.type, "complete");
    });
  }
}
