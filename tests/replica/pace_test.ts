/** Whether a link is worth compressing for is told by what it takes as a whole. */
import assert from "node:assert/strict";
import { Pace } from "../../lib/replica/sending/pace.ts";
import { ManualClock } from "../kit/manual_clock.ts";

const WRITE_BYTES = 256 * 1024;

/** Writes, each of which takes so long. @returns after how many of them content is compressed, in a list */
async function compressedAfter(tookMs: readonly number[]): Promise<boolean[]> {
  const clock = new ManualClock();
  const pace = new Pace(clock, "auto");
  const compressed = [];
  for (const ms of tookMs) {
    const { promise, resolve } = Promise.withResolvers<void>();
    const measured = pace.measure(WRITE_BYTES, promise);
    clock.advance(ms);
    resolve();
    await measured;
    compressed.push(pace.isCompressing);
  }
  return compressed;
}

/** So many times the same. */
function repeated(count: number, tookMs: readonly number[]): number[] {
  return Array.from({ length: count }, () => tookMs).flat();
}

Deno.test("content is compressed on a slow link, also where buffers on the way take most writes at once", async () => {
  const even = await compressedAfter(repeated(60, [26]));
  const bursts = await compressedAfter(repeated(12, [0, 0, 0, 0, 131]));
  for (const found of [even, bursts]) assert.deepEqual(found.slice(40), Array(20).fill(true));
});

Deno.test("content is not compressed on a fast link where the receiver waits for its disk now and then", async () => {
  const found = await compressedAfter(repeated(6, [...repeated(40, [1]), 60]));
  assert(!found.includes(true));
});
