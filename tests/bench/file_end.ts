/** Looking at a Data.fs from outside while another process writes it. */
import { Buffer } from "node:buffer";
import { FIRST_POSITION, TransactionReader, Window } from "../../lib/filestorage/mod.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { NO_TID } from "../../lib/zodb/mod.ts";

const { disk } = systemHost();

const POLL_MS = 5;

/** The two last transactions of a file that nobody writes. */
export interface LastTids {
  /** 0 when there is only one. */
  readonly beforeLast: bigint;
  readonly last: bigint;
}

/** @throws Error when the file does not end with a whole transaction */
export function lastTidsOf(path: string): LastTids {
  using file = disk.openRead(path);
  const reader = new TransactionReader(new Window(file, file.size()));
  const lastStart = reader.startOf(file.size());
  const last = readTid(reader, lastStart);
  const beforeLast = lastStart === FIRST_POSITION ? NO_TID : readTid(reader, reader.startOf(lastStart));
  return { beforeLast, last };
}

function readTid(reader: TransactionReader, position: number): bigint {
  if (position > 0 && reader.read(position) === "whole") return reader.tid;
  throw new Error(`Cannot measure with ${reader.position}: no whole transaction ends there`);
}

/** The tid of the last transaction that ends at a position or before. */
export function lastTidBefore(path: string, position: number): bigint {
  using file = disk.openRead(path);
  const reader = new TransactionReader(new Window(file, file.size()));
  let tid = NO_TID;
  for (let at = FIRST_POSITION; reader.read(at) === "whole" && reader.end <= position; at = reader.end) {
    tid = reader.tid;
  }
  return tid;
}

/** Whether a file ends at `end` with a whole transaction whose tid is `tid`. */
export function endsWith(path: string, end: number, tid: bigint): boolean {
  using file = disk.openRead(path);
  if (file.size() < end) return false;
  const reader = new TransactionReader(new Window(file, end, 64));
  const start = reader.startOf(end);
  return start > 0 && reader.read(start) === "whole" && reader.tid === tid;
}

/** Waits until the file is complete; looks now and then, so as not to slow down what is measured. */
export async function waitUntilWritten(path: string, size: number, tid: bigint): Promise<void> {
  while (!endsWith(path, size, tid)) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
}

/** Reads a file once, so that the measurement finds it in the page cache. */
export function warm(path: string): void {
  using file = disk.openRead(path);
  const block = new Uint8Array(1024 * 1024);
  for (let position = 0, count = 1; count > 0; position += count) count = file.readAt(block, position);
}

/** @throws Error unless both files have the same bytes */
export function assertSameBytes(path: string, other: string): void {
  using a = disk.openRead(path);
  using b = disk.openRead(other);
  const [blockA, blockB] = [new Uint8Array(1024 * 1024), new Uint8Array(1024 * 1024)];
  for (let position = 0;;) {
    const count = a.readAt(blockA, position);
    const same = b.readAt(blockB, position) === count &&
      Buffer.compare(blockA.subarray(0, count), blockB.subarray(0, count)) === 0;
    if (!same) throw new Error(`${other} differs from ${path} at or after position ${position}`);
    if (count === 0) return;
    position += count;
  }
}
