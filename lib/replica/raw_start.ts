/**
 * Where a source begins to send its file as it lies: behind what the secondary's file has, if that is a prefix of
 * ours (docs/native_protocol.md, "Runs").
 */
import { LOCATE_WINDOW_BYTES, type LogView, TransactionReader, Window } from "../filestorage/mod.ts";
import { STATUS } from "../zodb/mod.ts";

/**
 * Whether the secondary's file can end where it says that it does, `end`: behind its last transaction, or behind
 * cancelled ones that follow. These are no transactions to it, but they lie in its file if they came as bytes.
 * @param view whose generation the caller holds
 * @param position the end in our file of the secondary's last transaction
 */
export function isPrefixEnd(view: LogView, position: number, end: number): boolean {
  if (end > view.end) return false;
  const reader = new TransactionReader(new Window(view.generation.file, end, LOCATE_WINDOW_BYTES));
  let at = position;
  while (at < end && reader.read(at) === "whole" && reader.status === STATUS.undone) at = reader.end;
  return at === end;
}
