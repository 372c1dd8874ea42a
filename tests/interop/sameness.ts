/** What it means that a copy is right. */
import assert from "node:assert/strict";
import { assertSameHistory, type History } from "../kit/history.ts";
import type { OpenCheck } from "../kit/peers.ts";

/** Asserts that two files have the same bytes; tells where they begin to differ. */
export async function assertSameFile(actual: string, expected: string): Promise<void> {
  const [one, other] = [Deno.statSync(actual).size, Deno.statSync(expected).size];
  await assertSameStretch(actual, expected, Math.min(one, other));
  assert.equal(one, other, `${actual} must be as long as ${expected}`);
}

/** Asserts that two files begin with the same bytes, `length` of them. */
export async function assertSameStretch(actual: string, expected: string, length: number): Promise<void> {
  using one = await Deno.open(actual);
  using other = await Deno.open(expected);
  const blocks = [new Uint8Array(1 << 20), new Uint8Array(1 << 20)] as const;
  for (let position = 0; position < length;) {
    const count = Math.min(length - position, blocks[0].length);
    const [a, b] = [blocks[0].subarray(0, count), blocks[1].subarray(0, count)];
    await readFull(one, a);
    await readFull(other, b);
    const same = a.findIndex((byte, at) => byte !== b[at]);
    assert.equal(same, -1, `${actual} must equal ${expected}: they differ at ${position + same}`);
    position += count;
  }
}

async function readFull(file: Deno.FsFile, into: Uint8Array): Promise<void> {
  for (let filled = 0; filled < into.length;) {
    const count = await file.read(into.subarray(filled));
    assert(count !== null, "The file ends early");
    filled += count;
  }
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
