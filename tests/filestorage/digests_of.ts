/** All digests of a file's transactions that count, by tid. */
import { type ContentDigest, ContentDigester, FIRST_POSITION } from "../../lib/filestorage/mod.ts";
import { STATUS } from "../../lib/zodb/mod.ts";
import { readerOf, sourceOf } from "./bytes_source.ts";

export interface Digests extends ContentDigest {
  /** Of each record, in order, with its oid. */
  readonly each: readonly (readonly [oid: bigint, digest: string])[];
}

export async function digestsOf(bytes: Uint8Array): Promise<Map<bigint, Digests>> {
  const reader = readerOf(bytes);
  const digester = new ContentDigester(sourceOf(bytes), () => Promise.resolve());
  const digests = new Map<bigint, Digests>();
  for (let position = FIRST_POSITION; reader.read(position) === "whole"; position = reader.end) {
    if (reader.status === STATUS.undone) continue;
    const content = await digester.transaction(reader);
    const each: [bigint, string][] = [];
    reader.rewindRecords();
    while (reader.nextRecord() >= 0) each.push([reader.oid, await digester.record(reader)]);
    digests.set(reader.tid, { ...content, each });
  }
  return digests;
}
