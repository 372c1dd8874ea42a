import assert from "node:assert/strict";
import fc from "fast-check";
import { type ByteSource, Window } from "../../lib/filestorage/mod.ts";
import { DiskError } from "../../lib/errors.ts";
import { sourceOf } from "./bytes_source.ts";

const BYTES = Uint8Array.from({ length: 1000 }, (_, at) => at % 251);

/** The bytes, and how much each read asked for. */
function counted(): { source: ByteSource; reads: number[] } {
  const reads: number[] = [];
  const source: ByteSource = {
    readAt(into, position) {
      reads.push(into.length);
      return sourceOf(BYTES).readAt(into, position);
    },
  };
  return { source, reads };
}

/** A question to a window: where, and for how many bytes. */
const question = fc.record({
  position: fc.integer({ min: 0, max: 1010 }),
  length: fc.integer({ min: 0, max: 64 }),
});

Deno.test("a window gives the bytes of the source below its limit, in any order", () => {
  fc.assert(
    fc.property(
      fc.array(question, { maxLength: 40 }),
      fc.integer({ min: 64, max: 300 }),
      fc.array(fc.nat(1000), { minLength: 1, maxLength: 10 }),
      fc.integer({ min: 1, max: 300 }),
      (questions, windowBytes, limits, least) => {
        const window = new Window(sourceOf(BYTES), limits[0]!, windowBytes, least);
        for (const [index, { position, length }] of questions.entries()) {
          const limit = limits[index % limits.length]!;
          window.limit = limit;
          const at = window.locate(position, length);
          assert.equal(at >= 0, position + length <= limit, `${length} at ${position} below ${limit}`);
          if (at < 0) continue;
          assert.deepEqual(window.bytes.slice(at, at + length), BYTES.slice(position, position + length));
          assert.equal(window.peek(position, length), at);
        }
      },
    ),
    { numRuns: 500 },
  );
});

Deno.test("a window gives some of a stretch that is larger than itself", () => {
  const window = new Window(sourceOf(BYTES), 900, 100);
  const collected: number[] = [];
  for (let position = 50; position < 850;) {
    const at = window.locateSome(position, 850 - position);
    assert(at >= 0 && window.located > 0);
    collected.push(...window.bytes.slice(at, at + window.located));
    position += window.located;
  }
  assert.deepEqual(collected, [...BYTES.slice(50, 850)]);
  assert.equal(window.locateSome(880, 50), -1, "beyond the limit");
  assert.equal(window.located, 0);
});

Deno.test("numbers are read at a position and before one, and are -1 where there is none", () => {
  const view = new DataView(BYTES.buffer);
  for (const windowBytes of [8, 64, 2000]) {
    const window = new Window(sourceOf(BYTES), 900, windowBytes);
    for (const end of [900, 500, 300, 8, 450]) {
      const expected = Number(view.getBigUint64(end - 8));
      assert.equal(window.readU64Before(end), expected);
      assert.equal(window.readU64(end - 8), expected);
    }
    for (const end of [0, 7, 901, -5]) assert.equal(window.readU64Before(end), -1);
    assert.equal(window.readU64(893), -1);
  }
});

Deno.test("a walk towards the beginning reads every byte about once", () => {
  const { source, reads } = counted();
  const window = new Window(source, 1000, 100);
  for (let end = 1000; end >= 8; end -= 8) window.readU64Before(end);
  const bytesRead = reads.reduce((sum, length) => sum + length, 0);
  assert(bytesRead < 1200, `${bytesRead} bytes were read`);
});

Deno.test("a window reads twice as much each time that it goes on, and little again after a jump", () => {
  const { source, reads } = counted();
  const window = new Window(source, 1000, 100, 16);
  for (let position = 0; position < 300; position += 8) window.locate(position, 8);
  assert.deepEqual(reads.splice(0), [16, 32, 64, 100, 100]);
  for (const position of [900, 600, 700]) window.locate(position, 8);
  assert.deepEqual(reads.splice(0), [16, 16, 16]);
  for (let end = 690; end > 400; end -= 10) window.readU64Before(end);
  assert.deepEqual(reads.splice(0), [32, 64, 100, 100]);
  window.locate(0, 90);
  assert.deepEqual(reads, [90], "all that is asked for");
});

Deno.test("a window that looks at another source has nothing left of the first", () => {
  const window = new Window(sourceOf(BYTES), 1000, 100);
  window.locate(0, 50);
  window.reset(sourceOf(new Uint8Array(1000).fill(7)), 500);
  const at = window.locate(0, 50);
  assert.deepEqual(window.bytes.slice(at, at + 50), new Uint8Array(50).fill(7));
  assert.equal(window.locate(490, 50), -1);
});

Deno.test("after a failed read a window is empty, not wrong", () => {
  let fails = false;
  const window = new Window(
    {
      readAt(into, position) {
        if (!fails) return sourceOf(BYTES).readAt(into, position);
        into.fill(0xee);
        throw new DiskError("input/output error");
      },
    },
    1000,
    100,
  );
  window.locate(0, 50);
  fails = true;
  assert.throws(() => window.locate(500, 50), DiskError);
  assert.equal(window.peek(0, 1), -1);
  fails = false;
  const at = window.locate(0, 50);
  assert.deepEqual(window.bytes.slice(at, at + 50), BYTES.slice(0, 50));
});

Deno.test("a source that ends before the limit says so", () => {
  const window = new Window(sourceOf(BYTES.slice(0, 100)), 1000, 64);
  assert.equal(window.locate(90, 10) >= 0, true);
  assert.equal(window.locate(90, 11), -1);
  assert.equal(window.locate(100, 1), -1);
});
