/** What it means that a copy is right. */
import assert from "node:assert/strict";
import { assertSameHistory, type History } from "../kit/history.ts";
import type { OpenCheck } from "../kit/peers.ts";

/** Asserts that two files have the same bytes; tells where they begin to differ. */
export async function assertSameFile(actual: string, expected: string): Promise<void> {
  const [one, other] = [await Deno.readFile(actual), await Deno.readFile(expected)];
  const same = commonLength(one, other);
  assert.ok(
    same === one.length && same === other.length,
    `${actual} (${one.length} bytes) must equal ${expected} (${other.length} bytes): they differ at ${same}`,
  );
}

/** How many bytes from the start are the same. */
export function commonLength(one: Uint8Array, other: Uint8Array): number {
  const length = Math.min(one.length, other.length);
  let same = 0;
  while (same < length && one[same] === other[same]) same++;
  return same;
}

/**
 * Asserts that real ZODB finds nothing wrong with a copy and reads from it what it reads from the source,
 * wherever in the file each transaction lies.
 * @param options.links whether records that share data must do so in both files
 * @param options.fsrefs whether all data are pickles, and so all references can be looked at
 */
export async function assertSameDatabase(
  zodb: OpenCheck,
  copy: string,
  source: string,
  { links = true, fsrefs = false }: { links?: boolean; fsrefs?: boolean } = {},
): Promise<void> {
  const [found, expected] = [await zodb.check(copy, { fsrefs }), await zodb.check(source)];
  assert.equal(found.fstest, null);
  assert.equal(found.fsrefs, null);
  assert.equal(found.tid, expected.tid);
  const [actual, wanted] = [found.transactions ?? [], expected.transactions ?? []];
  if (links) assertSameHistory(actual, wanted);
  else assertSameHistory(withoutLinks(actual), withoutLinks(wanted));
  assert.deepEqual(found.current, expected.current);
}

/** Asserts that every object of a source has the same current revision in a copy, which may have more. */
export async function assertCurrentState(zodb: OpenCheck, copy: string, source: string): Promise<void> {
  const [found, expected] = [await zodb.check(copy), await zodb.check(source)];
  assert.equal(found.tid, expected.tid);
  const revisions = new Map(found.current?.map((each) => [each.oid, each]));
  for (const revision of expected.current ?? []) assert.deepEqual(revisions.get(revision.oid), revision);
}

function withoutLinks(history: History): History {
  return history.map((transaction) => ({
    ...transaction,
    records: transaction.records.map((record) => ({ ...record, dataTxn: null })),
  }));
}
