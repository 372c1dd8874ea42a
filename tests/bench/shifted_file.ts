/** A copy at other positions: behind an empty transaction, which a comparison allows to be lacking. */
import { dataFs } from "../kit/data_fs.ts";
import {
  DEFAULT_WINDOW_BYTES,
  FIRST_POSITION,
  RECORD,
  TransactionReader,
  Window,
} from "../../lib/filestorage/mod.ts";
import { systemHost } from "../../lib/host/mod.ts";

/** @throws Error for a file in which records link to others: those of the benchmarks do not */
export function writeShifted(path: string, shifted: string): void {
  using file = systemHost().disk.openRead(path);
  using copy = Deno.openSync(shifted, { write: true, create: true, truncate: true });
  const first = dataFs([{ tid: 1n, records: [] }]).bytes;
  copy.writeSync(first);
  const shift = first.length - FIRST_POSITION;
  const end = file.size();
  const reader = new TransactionReader(new Window(file, end, DEFAULT_WINDOW_BYTES));
  for (let position = FIRST_POSITION; position < end; position = reader.end) {
    if (reader.read(position) !== "whole") throw new Error(`Cannot shift ${path}: it is damaged`);
    const bytes = new Uint8Array(reader.end - position);
    file.readAt(bytes, position);
    const view = new DataView(bytes.buffer);
    while (reader.nextRecord() >= 0) {
      const { recordPosition, previous, backPointer } = reader;
      if (previous !== 0 || backPointer !== 0) throw new Error(`Cannot shift ${path}: it has links`);
      view.setBigUint64(recordPosition - position + RECORD.transaction, BigInt(position + shift));
    }
    for (let done = 0; done < bytes.length;) done += copy.writeSync(bytes.subarray(done));
  }
}
