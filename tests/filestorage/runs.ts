/** Small files to be appended in runs and in parts, for tests of what is left when that goes wrong. */
import assert from "node:assert/strict";
import { Appender, FIRST_POSITION, type Run, TRANSACTION } from "../../lib/filestorage/mod.ts";
import { type BuiltFile, dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import type { CrashFile } from "./crash_file.ts";
import { tidAt } from "./random_history.ts";

/** A file whose first transaction ends at `end`, and some small ones behind it. */
export function fileFrom(end: number, ...lengths: number[]): BuiltFile {
  const padding = end - (FIRST_POSITION + 23 + 42 + 8);
  const first: TransactionDescription = {
    tid: tidAt(0),
    records: [{ oid: 0n, data: new Uint8Array(padding).fill(0x72) }],
  };
  const file = dataFs([
    first,
    ...lengths.map((length, at) => ({
      tid: tidAt(at + 1),
      user: "bob",
      records: [{ oid: BigInt(at % 2), data: new Uint8Array(length).fill(0x61 + at) }],
    })),
  ]);
  assert.equal(file.transactions[0]!.end, end);
  return file;
}

/** The transactions from `first` up to `last`, both included, as a run. */
export function runOf(file: BuiltFile, first: number, last = first): Run {
  const position = file.transactions[first]!.position;
  return {
    position,
    bytes: file.bytes.slice(position, file.transactions[last]!.end),
    transactions: last - first + 1,
    firstTid: tidAt(first),
    lastTid: tidAt(last),
  };
}

export function beginningOf(file: BuiltFile): Uint8Array {
  return file.bytes.slice(0, file.transactions[0]!.end);
}

export function appenderOn(file: CrashFile): Appender {
  return new Appender(file, file.size(), tidAt(0));
}

/** Appends transactions 1 to 3 as two runs, the second being known of while the first is written. */
export async function appendTwoRuns(
  file: BuiltFile,
  target: CrashFile,
  appender = appenderOn(target),
): Promise<void> {
  await appender.append(runOf(file, 1, 2), () => true);
  target.tell(appender.end);
  await appender.append(runOf(file, 3), () => false);
  target.tell(appender.end);
}

/** Writes transaction 1 in two parts, of which the second has been laid down anew. */
export async function appendLarge(
  file: BuiltFile,
  target: CrashFile,
  appender = appenderOn(target),
): Promise<void> {
  const { position, bytes } = runOf(file, 1);
  const from = TRANSACTION.size;
  const middle = bytes.length >> 1;
  await appender.beginLarge();
  appender.writePart(bytes.subarray(from, middle), position + from);
  appender.writePart(new Uint8Array(bytes.length).fill(0x7a), position + middle);
  await appender.beginLarge();
  appender.writePart(bytes.subarray(middle), position + middle);
  await appender.finishLarge(bytes.slice(0, from), position + bytes.length, () => false);
  target.tell(appender.end);
}
