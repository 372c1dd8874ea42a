import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { type FoundTransaction, MAGIC, PACKED, scan } from "./source_format.ts";
import { SimulatedMachine } from "./machine.ts";
import { SimulatedNetwork } from "./network.ts";
import { SeededRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";
import { NaiveSource, type SourceOptions, type Work } from "./source.ts";
import { SourceHistory } from "./source_history.ts";

const PATH = "/db/Data.fs";

function bench(seed: number, options: SourceOptions = {}) {
  const random = new SeededRandom(seed);
  const scheduler = new Scheduler(random);
  const network = new SimulatedNetwork(scheduler, random);
  const machine = new SimulatedMachine({ scheduler, network, random }, "source");
  machine.disk.makeDirectory("/db");
  const history = new SourceHistory(scheduler);
  return {
    scheduler,
    machine,
    history,
    random,
    /** Opens the source in a new process and lets it do something. */
    start(task: (source: NaiveSource, signal: AbortSignal) => Promise<void>) {
      return machine.start("writer", async (ports, signal) => {
        const source = await NaiveSource.open(ports, PATH, history, options);
        await task(source, signal);
        source.close();
      });
    },
    work(work: Omit<Work, "random">) {
      return this.start((source, signal) => source.work({ ...work, random: random.fork("work") }, signal));
    },
    async finish(process: { readonly running: boolean }) {
      await scheduler.runUntil(() => !process.running);
    },
    [Symbol.asyncDispose]: () => scheduler[Symbol.asyncDispose](),
  };
}

/** What an object's record says in the end, back pointers followed. */
function stateOf(transactions: readonly FoundTransaction[], oid: bigint): Uint8Array | undefined {
  const records = new Map(
    transactions.flatMap((each) => each.records.map((record) => [record.position, record])),
  );
  let record = [...records.values()].findLast((each) => each.oid === oid);
  while (record !== undefined && "backPointer" in record.payload) {
    record = records.get(record.payload.backPointer);
  }
  return record !== undefined && "data" in record.payload ? record.payload.data : undefined;
}

Deno.test("the example of the format description is written byte for byte", async () => {
  await using b = bench(1, { pauses: { likelihood: 0, mostMs: 0 } });
  const bytes = (text: string) => new TextEncoder().encode(text);
  await b.finish(b.start(async (source) => {
    await source.commit([{ oid: 0n, data: bytes("AAAA.") }], {
      user: bytes("bob"),
      description: bytes("first"),
      extension: new Uint8Array([
        0x80,
        3,
        0x7d,
        0x71,
        0,
        0x58,
        1,
        0,
        0,
        0,
        0x6b,
        0x71,
        1,
        0x4b,
        1,
        0x73,
        0x2e,
      ]),
    });
    await source.commit([{ oid: 1n, data: bytes("BB.") }, { oid: 0x123456n, data: bytes("C.") }]);
    await source.commit([{ oid: 1n, data: bytes("BBBB.") }]);
  }));
  const file = b.machine.disk.bytes(PATH)!;
  assert.equal(file.length, 305);
  const view = new DataView(file.buffer);
  assert.deepEqual([0x0c, 0x73, 0xeb].map((at) => view.getBigUint64(at)), [0x5fn, 0x70n, 0x46n]);
  assert.equal(view.getBigUint64(0xfa + 16), 0x82n);
  assert.equal(view.getBigUint64(0xfa + 24), 0xe3n);
  assert.equal(view.getBigUint64(0x129), 0x46n);
});

Deno.test("a source that is left alone holds what its history says, with increasing tids and right links", async () => {
  const seen = { undos: 0, twice: 0, packs: 0, aborts: 0, deletions: 0, empty: 0 };
  for (let seed = 0; seed < 30; seed++) {
    await using b = bench(seed);
    await b.finish(b.work({ transactions: 40, packs: 0.05 }));
    const file = b.machine.disk.bytes(PATH)!;
    assert.deepEqual(file, b.history.bytes(), `seed ${seed}`);
    assert.deepEqual(file, b.machine.disk.durableBytes(PATH));
    const found = scan(file);
    assert.equal(found.outcome, "whole");
    assert.equal(b.history.lastTid, b.history.lastSyncedTid);
    const last = new Map<bigint, number>();
    let tid = 0n;
    for (const transaction of found.transactions) {
      assert.ok(transaction.tid > tid);
      tid = transaction.tid;
      if (transaction.records.length === 0) seen.empty++;
      for (const record of transaction.records) {
        if (transaction.status !== PACKED) {
          assert.equal(record.previous, last.get(record.oid) ?? 0, `seed ${seed}`);
        }
        if ("backPointer" in record.payload) {
          assert.ok(record.payload.backPointer < record.position);
          if (record.payload.backPointer === 0) seen.deletions++;
          else seen.undos++;
        }
      }
      if (new Set(transaction.records.map((record) => record.oid)).size < transaction.records.length) {
        seen.twice++;
      }
      for (const record of transaction.records) last.set(record.oid, record.position);
    }
    seen.packs += b.history.packs.length;
    seen.aborts += b.history.aborts;
  }
  for (const [what, count] of Object.entries(seen)) assert.ok(count > 3, `${what}: ${count}`);
});

Deno.test("a pack keeps what every object is, and marks what it copied", async () => {
  let packs = 0;
  for (let seed = 0; seed < 40; seed++) {
    await using b = bench(seed);
    await b.finish(b.work({ transactions: 30, packs: 0 }));
    const before = scan(b.machine.disk.bytes(PATH)!).transactions;
    const stop = b.random.fork("stop").pick(before).tid;
    let done = false;
    await b.finish(b.start(async (source) => {
      done = await source.pack(stop);
    }));
    const after = scan(b.machine.disk.bytes(PATH)!);
    assert.equal(after.outcome, "whole");
    if (!done) continue;
    packs++;
    assert.deepEqual(scan(b.machine.disk.bytes(`${PATH}.old`)!).transactions, before);
    assert.ok(after.transactions.every((each) => (each.status === PACKED) === (each.tid <= stop)));
    for (const oid of new Set(before.flatMap((each) => each.records.map((record) => record.oid)))) {
      assert.deepEqual(stateOf(after.transactions, oid), stateOf(before, oid), `seed ${seed}, oid ${oid}`);
    }
  }
  assert.ok(packs > 20, `${packs} packs`);
});

Deno.test("tids go on increasing when a pack has removed the last transaction", async () => {
  await using b = bench(1);
  await b.finish(b.start(async (source) => {
    b.machine.clock.step(3_600_000);
    await source.commit([{ oid: 1n, data: new Uint8Array([1]) }]);
    await source.commit([{ oid: 2n, data: new Uint8Array([2]) }]);
    const last = await source.commit([{ oid: 1n, data: undefined }]);
    b.machine.clock.step(-3_600_000);
    assert.equal(await source.pack(last), true);
    assert.ok(b.history.lastTid < last);
    assert.ok(await source.commit([{ oid: 3n, data: new Uint8Array([3]) }]) > last);
  }));
});

Deno.test("a reader sees partial, voted and aborted transactions, and never a change of a committed one", async () => {
  const seen = { short: 0, voted: 0, replaced: 0 };
  for (let seed = 0; seed < 10; seed++) {
    await using b = bench(seed);
    const process = b.work({ transactions: 40, packs: 0 });
    const committed: FoundTransaction[] = [];
    let lastUnfinished = 0n;
    while (process.running) {
      await b.scheduler.runFor(0.5);
      const file = b.machine.disk.bytes(PATH);
      if (file === undefined || file.length < MAGIC.length) continue;
      const found = scan(file);
      for (const [i, old] of committed.entries()) {
        const now = found.transactions[i]?.bytes ?? new Uint8Array(0);
        assert.equal(Buffer.compare(now, old.bytes), 0, `seed ${seed}: transaction ${i} has changed`);
      }
      committed.push(...found.transactions.slice(committed.length));
      const tail = file.subarray(found.end);
      if (tail.length === 0) continue;
      if (tail.length < 23) seen.short++;
      else {
        assert.equal(found.outcome, "torn");
        seen.voted++;
        const tid = new DataView(tail.buffer, tail.byteOffset).getBigUint64(0);
        if (lastUnfinished !== 0n && tid !== lastUnfinished) seen.replaced++;
        lastUnfinished = tid;
      }
    }
  }
  for (const [what, count] of Object.entries(seen)) assert.ok(count > 3, `${what}: ${count}`);
});

Deno.test("after a crash the source has all that was synced, and may have lost what was only visible", async () => {
  const seen = { lost: 0, kept: 0, torn: 0, damaged: 0, altered: 0 };
  for (let seed = 0; seed < 300; seed++) {
    await using b = bench(seed, { pauses: { likelihood: 0.8, mostMs: 20 } });
    b.machine.disk.syncLatencyMs = { least: 1, most: 30 };
    b.work({ transactions: 100, packs: 0 });
    await b.scheduler.runFor(200 + 1_000 * b.random.fork("when").unit());
    const synced = b.history.lastSyncedTid;
    const visible = b.history.lastTid;
    b.machine.crash();
    b.machine.restart();
    const process = b.start(async () => {});
    await b.finish(process);
    const recovery = b.history.recoveries.at(-1)!;
    const tids = b.history.transactions.map((each) => each.tid);
    assert.ok(synced === 0n || tids.includes(synced), `seed ${seed}`);
    assert.deepEqual(b.machine.disk.bytes(PATH), b.history.bytes(), `seed ${seed}`);
    for (const tid of recovery.altered) assert.ok(tid > synced, `seed ${seed}`);
    if (recovery.lost.length > 0) seen.lost++;
    else if (visible > synced) seen.kept++;
    if (recovery.outcome === "torn") seen.torn++;
    if (recovery.outcome === "damaged") seen.damaged++;
    if (recovery.altered.length > 0) seen.altered++;
    await b.finish(b.work({ transactions: 5 }));
    assert.deepEqual(b.machine.disk.bytes(PATH), b.history.bytes(), `seed ${seed}`);
  }
  for (const [what, count] of Object.entries(seen)) assert.ok(count > 0, `${what}: ${count}`);
});

Deno.test("a source killed at any change of its disk recovers to a prefix of what was visible", async () => {
  for (let skip = 0; skip < 150; skip++) {
    await using b = bench(skip);
    b.machine.disk.faults.add({ on: "change", skip, effect: () => b.machine.kill() });
    await b.finish(b.work({ transactions: 40, packs: 0.05 }));
    const visible = b.history.transactions.map((each) => each.tid);
    b.machine.disk.faults.clear();
    await b.finish(b.work({ transactions: 0 }));
    assert.deepEqual(b.machine.disk.bytes(PATH), b.history.bytes(), `after ${skip} changes`);
    if (b.history.packs.length > 0) continue;
    const tids = b.history.transactions.map((each) => each.tid);
    assert.deepEqual(tids.slice(0, visible.length), visible, `after ${skip} changes`);
    assert.ok(tids.length - visible.length <= 1);
  }
});
