/** Bytes in memory as what a window reads from. */
import { type ByteSource, TransactionReader, Window } from "../../lib/filestorage/mod.ts";

export function sourceOf(bytes: Uint8Array): ByteSource {
  return {
    readAt(into, position) {
      const found = bytes.subarray(Math.min(position, bytes.length), position + into.length);
      into.set(found);
      return found.length;
    },
  };
}

export function readerOf(bytes: Uint8Array, windowBytes?: number): TransactionReader {
  return new TransactionReader(new Window(sourceOf(bytes), bytes.length, windowBytes));
}
