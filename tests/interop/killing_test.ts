/** Our processes are killed again and again under a writer that never rests. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { type LogEnd, OpenCheck, peerTest, ZodbWriter } from "../kit/peers.ts";
import { freePort } from "../kit/process.ts";
import { TempDirectory } from "../kit/temp.ts";
import { sizeOf, waitForChanges, ZrsProcess } from "./processes.ts";
import { assertSameFile, commonLength } from "./sameness.ts";

/** The length of a transaction's header: a tail of no more is not worth saving. */
const BARE_HEADER = 23;

/** Commits without a pause, of all sizes, until stopped. */
class BusyWriter {
  readonly #writer: ZodbWriter;
  readonly #working: Promise<LogEnd>;
  #stopped = false;

  constructor(writer: ZodbWriter) {
    this.#writer = writer;
    this.#working = this.#work();
    this.#working.catch(() => {}); // told to whoever stops it
  }

  /** @returns the end of the file, once it grows no more */
  async stop(): Promise<LogEnd> {
    this.#stopped = true;
    return await this.#working;
  }

  async #work(): Promise<LogEnd> {
    for (let round = 0; !this.#stopped; round++) {
      await this.#writer.commitMany({ count: 20, size: 300, objects: 3, keys: 300 });
      await this.#writer.undo([1]);
      if (round % 20 === 0) await this.#writer.commit([["big", 700_000]]);
    }
    return await this.#writer.commit([["last", 1]]);
  }
}

peerTest(
  "a secondary that is killed at any moment leaves a prefix, and goes on from it",
  ["zodb55"],
  async () => {
    await using ready = await TempDirectory.make();
    await using source = await TempDirectory.make();
    await using place = await TempDirectory.make();
    const [original, copy] = [source.join("Data.fs"), place.join("Data.fs")];
    await using writer = await ZodbWriter.start("zodb55", { path: original, fsync: false });
    await using primary = await ZrsProcess.start(
      source,
      "primary",
      original,
      "--replicate-to",
      "127.0.0.1:0",
    );
    const replicate = ["secondary", copy, "--replicate-from", primary.address, "--retry-max", "1"];
    await using zodb = await OpenCheck.start("zodb55");
    const busy = new BusyWriter(writer);
    let saved = 0;
    for (const changes of fc.sample(fc.integer({ min: 1, max: 60 }), { seed: 7, numRuns: 10 })) {
      await using secondary = await ZrsProcess.start(ready, ...replicate);
      await waitForChanges("the copy to grow", place.path, (count) => count >= changes);
      await secondary.kill();

      const found = await zodb.check(copy, { transactions: false });
      const bytes = await Deno.readFile(copy);
      const whole = bytes.subarray(0, found.size);
      assert.equal(commonLength(whole, await Deno.readFile(original)), whole.length);
      const tail = bytes.subarray(found.size);
      await using again = await ZrsProcess.start(ready, ...replicate);
      if (tail.length > BARE_HEADER) {
        assert.deepEqual(await Deno.readFile(`${copy}.tr${saved}`), tail);
        saved++;
      }
      assert.equal(sizeOf(`${copy}.tr${saved}`), 0);
      await again.kill();
    }
    await using secondary = await ZrsProcess.start(ready, ...replicate);
    const end = await busy.stop();
    await waitForChanges("the copy to catch up", place.path, () => sizeOf(copy) >= end.size);
    assert.equal(await secondary.stop(), 0);
    await assertSameFile(copy, original);
    const found = await zodb.check(copy, { fsrefs: true, transactions: false });
    assert.deepEqual([found.usedIndex, found.fstest, found.fsrefs], [true, null, null]);

    await using again = await ZrsProcess.start(ready, ...replicate);
    assert.deepEqual(again.log.filter((line) => /scanned|cut/.test(line)), []);
    assert.equal(await again.stop(), 0);
  },
);

peerTest("a primary that is killed at any moment is found again by its secondaries", ["zodb55"], async () => {
  await using ready = await TempDirectory.make();
  await using source = await TempDirectory.make();
  await using place = await TempDirectory.make();
  await using second = await TempDirectory.make();
  const [original, copy, chained] = [source.join("Data.fs"), place.join("Data.fs"), second.join("Data.fs")];
  await using writer = await ZodbWriter.start("zodb55", { path: original, fsync: false });
  const follow = ["primary", original, "--replicate-to", `127.0.0.1:${freePort()}`];
  let primary = await ZrsProcess.start(ready, ...follow);
  await using secondary = await ZrsProcess.start(
    ready,
    ...["secondary", copy, "--replicate-from", primary.address, "--retry-max", "0.2"],
    ...["--replicate-to", ready.join("chain")],
  );
  await using last = await ZrsProcess.start(
    ready,
    ...["secondary", chained, "--replicate-from", secondary.address, "--retry-max", "0.2"],
  );
  const busy = new BusyWriter(writer);
  for (const changes of fc.sample(fc.integer({ min: 1, max: 60 }), { seed: 8, numRuns: 10 })) {
    await waitForChanges("the copy to grow", place.path, (count) => count >= changes);
    await primary.kill();
    primary = await ZrsProcess.start(ready, ...follow);
  }
  const end = await busy.stop();
  await waitForChanges("the copy to catch up", place.path, () => sizeOf(copy) >= end.size);
  await waitForChanges("the chained copy to catch up", second.path, () => sizeOf(chained) >= end.size);
  for (const each of [last, secondary, primary]) assert.equal(await each.stop(), 0);
  await assertSameFile(copy, original);
  await assertSameFile(chained, original);
  const left = [...Deno.readDirSync(source.path)].map(({ name }) => name).sort();
  assert.deepEqual(left, ["Data.fs", "Data.fs.index", "Data.fs.lock", "Data.fs.tmp"]);
});
