/** A short history as a file and in parts of it, for the tests of the native stream's two ends. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { formatTid } from "../../lib/zodb/mod.ts";
import { type BuiltFile, dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { type NativeMessage, type NativeTransaction, NativeWire, welcome } from "../kit/native_wire.ts";
import { eight, join } from "../kit/zrs_wire.ts";
import type { ScriptedPrimary } from "./scene.ts";

export const TID = 0x036c_9000_0000_0001n;

/** The third transaction is cancelled: it lies in the file and does not count. */
export const HISTORY: readonly TransactionDescription[] = [
  { tid: TID, description: "initial", records: [{ oid: 0n, data: "one" }] },
  { tid: TID + 1n, user: "jim", records: [{ oid: 1n, data: "x" }, { oid: 0n, data: "two" }] },
  { tid: TID + 2n, status: "u", records: [{ oid: 0n, data: "never" }] },
  { tid: TID + 3n, records: [{ oid: 0n, backPointer: [0, 0] }, { oid: 1n, data: "y" }] },
];
export const FILE = dataFs(HISTORY);

/** The transactions from one to another one, both included, as they lie in a file. */
export function bytesOf(file: BuiltFile, first: number, last: number = first): Uint8Array {
  return file.bytes.subarray(file.transactions[first]!.position, file.transactions[last]!.end);
}

/** The beginning of a file, up to the end of so many transactions. */
export function beginningOf(file: BuiltFile, count: number): Uint8Array {
  return file.bytes.slice(0, count === 0 ? 4 : file.transactions[count - 1]!.end);
}

/** The transactions of {@link HISTORY} that count, one by one. */
export const TRANSACTIONS: readonly NativeTransaction[] = [
  { tid: TID, description: "initial", records: [{ oid: 0n, data: "one" }] },
  { tid: TID + 1n, user: "jim", records: [{ oid: 1n, data: "x" }, { oid: 0n, data: "two" }] },
  { tid: TID + 3n, records: [{ oid: 0n, dataTid: TID, data: "one" }, { oid: 1n, data: "y" }] },
];

/** What such transactions become in a file of their own. */
export const RESTORED = dataFs([
  ...HISTORY.slice(0, 2),
  { tid: TID + 3n, records: [{ oid: 0n, backPointer: [0, 0] }, { oid: 1n, data: "y" }] },
]);

/** The digest of a transaction's content, for one whose records all have data of their own. */
export function digestOf({ tid, user, description, records }: TransactionDescription): string {
  const texts = [user ?? "", description ?? "", ""].map((text) => new TextEncoder().encode(text.toString()));
  const lengths = texts.map(({ length }) => new Uint8Array([length >> 8, length]));
  const parts = records.flatMap((record) => {
    assert("data" in record);
    const data = new TextEncoder().encode(record.data.toString());
    return [eight(record.oid), eight(BigInt(data.length)), data];
  });
  return createHash("sha256").update(join(eight(tid), ...lengths, ...texts, ...parts)).digest("hex").slice(
    0,
    32,
  );
}

/** The secondary's next connection, its hello heard and answered. */
export async function welcomed(
  primary: ScriptedPrimary,
  fields: Record<string, unknown> = {},
): Promise<{ wire: NativeWire; hello: NativeMessage }> {
  const wire = await primary.acceptNative();
  const hello = await wire.receiveMessage("hello");
  await wire.sendMessage(welcome(fields));
  return { wire, hello };
}

export function tidText(tid: bigint): string {
  return formatTid(tid);
}
