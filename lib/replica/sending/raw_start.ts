/**
 * Where a source begins to send its file as it lies: behind what the secondary's file has, if that is a prefix of
 * ours (docs/native_protocol.md, "Runs").
 */
import { GrowingDigest, type LogView, walkingReader } from "../../filestorage/mod.ts";
import type { Begun } from "../../native/mod.ts";
import { STATUS } from "../../zodb/mod.ts";
import type { Stretch } from "../still_there.ts";

/**
 * Whether the secondary's file can end where it says that it does, `end`: behind its last transaction, or behind
 * cancelled ones that follow. These are no transactions to it, but they lie in its file if they came as bytes.
 * @param view whose generation the caller holds
 * @param position the end in our file of the secondary's last transaction
 */
export function isPrefixEnd(view: LogView, position: number, end: number): boolean {
  if (end > view.end) return false;
  const reader = walkingReader(view.generation.file, end);
  let at = position;
  while (at < end && reader.read(at) === "whole" && reader.status === STATUS.undone) at = reader.end;
  return at === end;
}

/** A transaction of which a secondary has the beginning. */
export interface Resumption {
  readonly stretch: Stretch;
  /** How many of its bytes the secondary has. */
  readonly from: number;
}

/**
 * The transaction that a secondary has begun to receive, if it is the next for it, and the beginning is that of ours.
 * @param view whose generation the caller holds
 * @param position where the secondary's file ends
 * @param pause lets other work run, now and then
 * @returns undefined when it must come from its first byte on
 * @throws DiskError
 */
export async function findResumption(
  view: LogView,
  position: number,
  { tid, bytes, digest }: Begun,
  pause: () => Promise<void>,
): Promise<Resumption | undefined> {
  const { file } = view.generation;
  const reader = walkingReader(file, view.end);
  // What is claimed is bounded by the transaction before anything is read for it.
  if (reader.read(position) !== "whole" || reader.tid !== tid) return undefined;
  if (bytes === 0 || bytes > reader.end - position) return undefined;
  if (await new GrowingDigest(file, position).upTo(bytes, pause) !== digest) return undefined;
  const { length, recordsEnd } = reader;
  return { stretch: { position, length, recordsEnd, tid }, from: bytes };
}
