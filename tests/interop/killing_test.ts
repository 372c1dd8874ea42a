/** Our processes are killed again and again under a writer that never rests. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { type LogEnd, OpenCheck, peerTest, ZodbWriter } from "../kit/peers.ts";
import { freePort } from "../kit/process.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { TempDirectory } from "../kit/temp.ts";
import { sizeOf, waitForChanges, ZrsProcess } from "./processes.ts";
import { assertSameFile, assertSameStretch } from "./sameness.ts";

const ROUNDS = 10;
/** The length of a transaction's header: a tail of no more is not worth saving. */
const BARE_HEADER = 23;

/** After how many changes of the copy to kill, in each round. */
function moments(seed: number): number[] {
  return fc.sample(fc.integer({ min: 1, max: 60 }), { seed, numRuns: ROUNDS });
}

/** Commits of all sizes, for as long as a round lasts, but not without end on a slow machine. */
class BusyWriter {
  readonly #writer: ZodbWriter;
  #stopped = false;
  #working: Promise<void> = Promise.resolve();

  constructor(writer: ZodbWriter) {
    this.#writer = writer;
  }

  begin(): void {
    this.#stopped = false;
    this.#working = this.#work();
    this.#working.catch(() => {}); // told to whoever ends it
  }

  /** Resolves when it has committed all that it will: changes may be fewer than hoped for. */
  get done(): Promise<void> {
    return this.#working;
  }

  async end(): Promise<void> {
    this.#stopped = true;
    await this.#working;
  }

  /** @returns the end of the file */
  async finish(): Promise<LogEnd> {
    return await this.#writer.commit([["last", 1]]);
  }

  async #work(): Promise<void> {
    await this.#writer.commit([["big", 700_000]]);
    for (let i = 0; i < 100 && !this.#stopped; i++) {
      await this.#writer.commitMany({ count: 5, size: 300, objects: 3, keys: 300 });
      await this.#writer.undo([1]);
    }
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
    await using writer = await ZodbWriter.start("zodb55", { path: original });
    await using primary = await ZrsProcess.start(ready, "primary", original, "--replicate-to", "127.0.0.1:0");
    await using zodb = await OpenCheck.start("zodb55");
    const busy = new BusyWriter(writer);
    const start = () =>
      ZrsProcess.start(ready, "secondary", copy, "--replicate-from", primary.address, "--retry-max", "1");

    let secondary = await start();
    let saved = 0;
    for (const changes of moments(7)) {
      busy.begin();
      await waitForChanges("the copy to grow", place.path, (count) => count >= changes, busy.done);
      await secondary.kill();
      await busy.end();

      const found = await zodb.check(copy, { transactions: false });
      await assertSameStretch(copy, original, found.size);
      const tail = (await Deno.readFile(copy)).subarray(found.size);
      secondary = await start();
      if (tail.length > BARE_HEADER) assertSameBytes(await Deno.readFile(`${copy}.tr${saved++}`), tail);
      assert.equal(sizeOf(`${copy}.tr${saved}`), 0);
    }
    const end = await busy.finish();
    await waitForChanges("the copy to catch up", place.path, () => sizeOf(copy) >= end.size);
    assert.equal(await secondary.stop(), 0);
    await assertSameFile(copy, original);
    const found = await zodb.check(copy, { fsrefs: true, transactions: false });
    assert.deepEqual([found.usedIndex, found.fstest, found.fsrefs], [true, null, null]);

    await using again = await start();
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
  await using writer = await ZodbWriter.start("zodb55", { path: original });
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
  for (const changes of moments(8)) {
    busy.begin();
    await waitForChanges("the copy to grow", place.path, (count) => count >= changes, busy.done);
    await primary.kill();
    await busy.end();
    primary = await ZrsProcess.start(ready, ...follow);
  }
  const end = await busy.finish();
  await waitForChanges("the copy to catch up", place.path, () => sizeOf(copy) >= end.size);
  await waitForChanges("the chained copy to catch up", second.path, () => sizeOf(chained) >= end.size);
  for (const each of [last, secondary, primary]) assert.equal(await each.stop(), 0);
  await assertSameFile(copy, original);
  await assertSameFile(chained, original);
  const left = [...Deno.readDirSync(source.path)].map(({ name }) => name).sort();
  assert.deepEqual(left, ["Data.fs", "Data.fs.index", "Data.fs.lock", "Data.fs.tmp"]);
});
