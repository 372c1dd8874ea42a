import assert from "node:assert/strict";
import { NO_TID } from "../../lib/zodb/mod.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { Application, importCommit, initialCommit } from "./application.ts";
import { type Change, type Commit, SourceWriter } from "./source_writer.ts";

const PATH = "/data/Data.fs";
const NO_PAUSE = () => Promise.resolve();
const encoder = new TextEncoder();

function disk(): MemoryDisk {
  const disk = new MemoryDisk();
  disk.addDirectory("/data");
  return disk;
}

function commit(tid: bigint, ...changes: Change[]): Commit {
  return { tid, user: "user", description: "description", extension: encoder.encode("}."), changes };
}

function data(oid: bigint, text: string): Change {
  return { oid, data: encoder.encode(text) };
}

Deno.test("what is committed reads back, links and all", async () => {
  const memory = disk();
  using writer = SourceWriter.create(memory, PATH);
  const commits = [
    commit(1n, data(1n, "a"), data(2n, "b")),
    commit(2n, data(1n, "a2")),
    commit(3n, { oid: 1n, undo: true }),
    commit(4n, { oid: 2n, undo: true }),
  ];
  for (const each of commits) {
    await writer.vote(each, NO_PAUSE);
    await writer.finish();
  }
  const read = transactionsOf(memory.bytes(PATH));
  assert.deepEqual(read.map(({ tid, status }) => [tid, status]), [[1n, " "], [2n, " "], [3n, " "], [
    4n,
    " ",
  ]]);
  assert.deepEqual([read[0]!.user, read[0]!.extension], [encoder.encode("user"), encoder.encode("}.")]);
  const [first, second, undone, gone] = read.map(({ records }) => records);
  assert.equal(second![0]!.previous, first![0]!.position);
  assert.deepEqual([undone![0]!.backPointer, undone![0]!.data], [first![0]!.position, encoder.encode("a")]);
  assert.equal(undone![0]!.previous, second![0]!.position);
  assert.deepEqual([gone![0]!.backPointer, gone![0]!.data], [0, null]);
});

Deno.test("a voted transaction stands behind the end with status c until it is finished or taken back", async () => {
  const memory = disk();
  using writer = SourceWriter.create(memory, PATH);
  await writer.vote(commit(1n, data(1n, "a")), NO_PAUSE);
  await writer.finish();
  const before = memory.bytes(PATH);

  await writer.vote(commit(2n, data(1n, "b")), NO_PAUSE);
  assert.deepEqual(transactionsOf(memory.bytes(PATH)).map(({ status }) => status), [" ", "c"]);
  writer.abort();
  assert.deepEqual(memory.bytes(PATH), before);

  await writer.vote(commit(3n, data(1n, "c")), NO_PAUSE);
  await writer.finish();
  const read = transactionsOf(memory.bytes(PATH));
  assert.deepEqual(read.map(({ tid }) => tid), [1n, 3n]);
  assert.equal(read[1]!.records[0]!.previous, read[0]!.records[0]!.position);
});

Deno.test("a transaction is synced when it is finished, after its status was written", async () => {
  const memory = disk();
  using writer = SourceWriter.create(memory, PATH);
  await writer.vote(commit(1n, data(1n, "a")), NO_PAUSE);
  memory.performed.length = 0;
  await writer.finish();
  assert.deepEqual(memory.performed.map(({ operation }) => operation), ["write", "sync"]);
});

Deno.test("going on with a file cuts off what was never finished", async () => {
  const memory = disk();
  let end: number;
  {
    using writer = SourceWriter.create(memory, PATH);
    await writer.vote(commit(1n, data(1n, "a")), NO_PAUSE);
    await writer.finish();
    end = memory.bytes(PATH).length;
    await writer.vote(commit(2n, data(1n, "lost")), NO_PAUSE);
  }
  using writer = SourceWriter.open(memory, PATH, end);
  await writer.vote(commit(3n, data(2n, "b")), NO_PAUSE);
  await writer.finish();
  assert.deepEqual(transactionsOf(memory.bytes(PATH)).map(({ tid }) => tid), [1n, 3n]);
});

Deno.test("whatever the application commits is a regular file", async () => {
  const memory = disk();
  using writer = SourceWriter.create(memory, PATH);
  const application = new Application(1n);
  for (let tid = NO_TID + 1n; tid <= 300n; tid++) {
    const next = tid === 1n
      ? initialCommit(tid)
      : tid === 100n
      ? importCommit(tid, 1n << 40n, 2)
      : application.commit(tid, 0);
    await writer.vote(next, NO_PAUSE);
    await writer.finish({ sync: false });
  }
  const read = transactionsOf(memory.bytes(PATH));
  assert.equal(read.length, 300);
  assert(read.some(({ records }) => records.some(({ backPointer }) => backPointer !== null)));
});
