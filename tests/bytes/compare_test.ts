import assert from "node:assert/strict";
import { commonLength, viewOf } from "../../lib/bytes/mod.ts";

Deno.test("the first byte that differs is found, wherever both stretches begin and however long they are", () => {
  const room = new Uint8Array(700);
  const [a, b] = [room.slice(), room.slice()];
  const [x, y] = [viewOf(a), viewOf(b)];
  for (const length of [0, 1, 15, 16, 17, 33, 511, 512, 530, 577]) {
    for (let aOffset = 0; aOffset < 5; aOffset++) {
      for (let bOffset = 0; bOffset < 5; bOffset++) {
        a.fill(1).fill(7, aOffset, aOffset + length); // what lies around them is not the same
        b.fill(2).fill(7, bOffset, bOffset + length);
        assert.equal(commonLength(x, aOffset, y, bOffset, length), length);
        for (let at = 0; at < length; at++) {
          b[bOffset + at] = 0x87;
          assert.equal(commonLength(x, aOffset, y, bOffset, length), at);
          b[bOffset + at] = 7;
        }
      }
    }
  }
});

Deno.test("stretches of views that begin anywhere in their buffers are compared", () => {
  const buffer = new Uint8Array(2048).map((_, at) => at % 251);
  for (let start = 0; start < 9; start++) {
    const view = viewOf(buffer.subarray(start));
    const copy = viewOf(buffer.slice(start, start + 1000));
    assert.equal(commonLength(view, 3, copy, 3, 900), 900);
    assert.equal(commonLength(view, 4, copy, 3, 900), 0);
  }
});
