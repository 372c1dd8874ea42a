/** Who looks into the records' data. */

import { type RangeScanner, RecordScanner } from "../filestorage/mod.ts";
import type { Host } from "../host/mod.ts";
import type { ReadableFile } from "../ports/mod.ts";

export function openScanner(_host: Host, _path: string, file: ReadableFile): RangeScanner & AsyncDisposable {
  const scanner = new RecordScanner(file);
  return { scanAll: (ranges, wanted) => scanner.scanAll(ranges, wanted), async [Symbol.asyncDispose]() {} };
}
