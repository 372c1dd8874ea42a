import assert from "node:assert/strict";
import fc from "fast-check";
import { ObjectIndex } from "../../lib/filestorage/index/object_index.ts";

const MAX_POSITION = 2 ** 48 - 1;
const MAX_OID = 2n ** 64n - 1n;

function set(index: ObjectIndex, oid: bigint, position: number): number {
  return index.set(Number(oid >> 32n), Number(oid & 0xffff_ffffn), position);
}

function get(index: ObjectIndex, oid: bigint): number {
  return index.get(Number(oid >> 32n), Number(oid & 0xffff_ffffn));
}

function remove(index: ObjectIndex, oid: bigint): void {
  index.delete(Number(oid >> 32n), Number(oid & 0xffff_ffffn));
}

function entriesOf(index: ObjectIndex): [bigint, number][] {
  const entries: [bigint, number][] = [];
  index.forEach((high, low, position) => entries.push([(BigInt(high) << 32n) | BigInt(low), position]));
  return entries;
}

function sortedEntries(oracle: Map<bigint, number>): [bigint, number][] {
  return [...oracle].sort(([a], [b]) => a < b ? -1 : 1);
}

function assertSame(index: ObjectIndex, oracle: Map<bigint, number>): void {
  const expected = sortedEntries(oracle);
  assert.equal(index.count, expected.length);
  assert.equal(index.greatest, expected.at(-1)?.[0]);
  assert.deepEqual(entriesOf(index), expected);
  for (const [oid, position] of oracle) {
    assert.equal(get(index, oid), position);
    for (const neighbour of [oid - 1n, oid + 1n, oid ^ (1n << 63n), oid ^ 0x100n, oid ^ 0x1_0000n]) {
      if (neighbour >= 0n && neighbour <= MAX_OID) {
        assert.equal(get(index, neighbour), oracle.get(neighbour) ?? 0);
      }
    }
  }
}

/** What is done to `count` oids from `first`, `step` apart; a seed in place of a step shuffles the oids. */
interface Deed {
  readonly remove: boolean;
  readonly first: bigint;
  readonly count: number;
  readonly step: bigint;
  readonly position: number;
}

const CLUSTERS = [0n, 0x200n, 0xff00n, 0xffff_ff00n, 2n ** 48n, 2n ** 53n - 128n, 2n ** 63n, MAX_OID - 700n];

function deeds(first: fc.Arbitrary<bigint>, maxCount: number, maxStep: bigint): fc.Arbitrary<Deed[]> {
  const deed = fc.record({
    remove: fc.boolean(),
    first,
    count: fc.integer({ min: 1, max: maxCount }),
    step: fc.bigInt({ min: 1n, max: maxStep }),
    position: fc.integer({ min: 1, max: MAX_POSITION - 1_000_000 }),
  });
  return fc.array(deed, { minLength: 1, maxLength: 40, size: "max" });
}

function obey(list: readonly Deed[]): void {
  const index = new ObjectIndex();
  const oracle = new Map<bigint, number>();
  for (const deed of list) {
    for (let i = 0; i < deed.count; i++) {
      const oid = deed.first + BigInt(i) * deed.step;
      if (oid > MAX_OID) break;
      if (deed.remove) {
        remove(index, oid);
        oracle.delete(oid);
      } else {
        const before = set(index, oid, deed.position + i);
        assert.equal(before, oracle.get(oid) ?? 0);
        oracle.set(oid, deed.position + i);
      }
    }
    assert.equal(index.count, oracle.size);
  }
  assertSame(index, oracle);
}

Deno.test("ObjectIndex agrees with a Map on dense oids", () => {
  const first = fc.bigInt({ min: 0n, max: 2000n });
  fc.assert(fc.property(deeds(first, 600, 1n), obey), { numRuns: 60 });
});

Deno.test("ObjectIndex agrees with a Map on oids with gaps", () => {
  const first = fc.bigInt({ min: 0n, max: 1000n });
  fc.assert(fc.property(deeds(first, 300, 9n), obey), { numRuns: 60 });
});

Deno.test("ObjectIndex agrees with a Map on oids in clusters at every power of two that matters", () => {
  const first = fc.tuple(fc.constantFrom(...CLUSTERS), fc.bigInt({ min: 0n, max: 300n })).map(([a, b]) =>
    a + b
  );
  fc.assert(fc.property(deeds(first, 300, 3n), obey), { numRuns: 60 });
});

Deno.test("ObjectIndex agrees with a Map on random oids of 64 bits", () => {
  const first = fc.bigInt({ min: 0n, max: MAX_OID });
  fc.assert(fc.property(deeds(first, 30, 2n ** 60n), obey), { numRuns: 60 });
});

Deno.test("ObjectIndex keeps every object when single ones are set and removed in random order", () => {
  const deed = fc.record({
    remove: fc.boolean(),
    first: fc.bigInt({ min: 0n, max: 700n }),
    count: fc.constant(1),
    step: fc.constant(1n),
    position: fc.integer({ min: 1, max: MAX_POSITION }),
  });
  const list = fc.array(deed, { minLength: 500, maxLength: 3000, size: "max" });
  fc.assert(fc.property(list, obey), { numRuns: 30 });
});

Deno.test("ObjectIndex passes over pages that another index has too, and visits whatever differs", () => {
  type Change = (index: ObjectIndex) => void;
  for (const perPage of [1, 3, 100, 190, 256]) {
    const oids = Array.from(
      { length: 40 * perPage },
      (_, at) => Math.floor(at / perPage) * 256 + at % perPage,
    );
    const make = (change?: Change) => {
      const index = new ObjectIndex();
      for (const oid of oids) index.set(7, oid, oid + 1);
      change?.(index);
      return index;
    };
    const last = oids.at(-1)!;
    const same: Change[] = [() => {}, (index) => index.set(8, 0, 1)];
    const other: Change[] = [(index) => index.set(7, last, 2 ** 47), (index) => index.delete(7, last)];
    if (perPage < 256) other.push((index) => index.set(7, last + 1, 1));
    for (const change of [...same, ...other]) {
      const visited: number[] = [];
      const passed = make().forEachUnlike(make(change), (high, low, position) => {
        assert.deepEqual([high, position], [7, low + 1]);
        visited.push(low);
      });
      assert.deepEqual(visited, same.includes(change) ? [] : oids.slice(-perPage));
      assert.equal(passed, oids.length - visited.length);
    }
  }
});

Deno.test("ObjectIndex refuses positions that are not 1 to 2^48 - 1 and stays as it is", () => {
  const index = new ObjectIndex();
  index.set(0, 7, MAX_POSITION);
  for (const position of [0, -1, 2 ** 48, 2 ** 53, NaN, Infinity]) {
    assert.throws(() => index.set(0, 7, position), RangeError);
    assert.throws(() => index.set(0, 8, position), RangeError);
  }
  assert.deepEqual(entriesOf(index), [[7n, MAX_POSITION]]);
});

Deno.test("ObjectIndex holds positions beyond 4 GiB and beyond 2^32 exactly", () => {
  const index = new ObjectIndex();
  const positions = [1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 5 * 2 ** 30 + 1, 2 ** 40 + 3, MAX_POSITION];
  positions.forEach((position, i) => set(index, BigInt(i) * 2n ** 53n + 1n, position));
  positions.forEach((position, i) => assert.equal(get(index, BigInt(i) * 2n ** 53n + 1n), position));
});

Deno.test("ObjectIndex knows the greatest oid also after the greatest was removed", () => {
  const index = new ObjectIndex();
  assert.equal(index.greatest, undefined);
  for (const oid of [5n, 2n ** 63n + 1n, 2n ** 63n, 300n]) set(index, oid, 4);
  assert.equal(index.greatest, 2n ** 63n + 1n);
  remove(index, 2n ** 63n + 1n);
  assert.equal(index.greatest, 2n ** 63n);
  remove(index, 2n ** 63n);
  set(index, 301n, 4);
  assert.equal(index.greatest, 301n);
  for (const oid of [301n, 300n, 5n, 77n]) remove(index, oid);
  assert.equal(index.greatest, undefined);
});

const MANY = 300_000;

/** A permutation of 0 … MANY-1 that jumps about: the multiplier has no divisor in common with MANY. */
function shuffled(i: number): number {
  return Math.floor((i * 179_424_673) % MANY);
}

Deno.test("ObjectIndex takes at most 7.5 bytes an object for oids in a row, set in ascending order", () => {
  const index = new ObjectIndex();
  for (let oid = 0; oid < MANY; oid++) index.set(0, oid, 4 + oid);
  assert.ok(index.memoryBytes <= 7.5 * MANY, `${index.memoryBytes / MANY} bytes`);
});

Deno.test("ObjectIndex takes at most 9 bytes an object for oids in a row, set in any order", () => {
  const index = new ObjectIndex();
  for (let i = 0; i < MANY; i++) index.set(0, shuffled(i), 4 + i);
  assert.equal(index.count, MANY);
  assert.ok(index.memoryBytes <= 9 * MANY, `${index.memoryBytes / MANY} bytes`);
  for (let i = 0; i < MANY; i++) assert.equal(index.get(0, shuffled(i)), 4 + i);
});

Deno.test("ObjectIndex takes at most 9 bytes an object whatever part of the oids exists", () => {
  for (const percent of [30, 50, 62, 75, 90, 99]) {
    const index = new ObjectIndex();
    for (let i = 0; i < MANY; i++) index.set(0, Math.floor(i * 100 / percent), 4 + i);
    assert.equal(index.count, MANY);
    assert.ok(index.memoryBytes <= 9 * MANY, `${index.memoryBytes / MANY} bytes at ${percent} %`);
  }
});

Deno.test("ObjectIndex takes at most 48 bytes for an oid that has no neighbours", () => {
  const index = new ObjectIndex();
  for (let i = 0; i < MANY; i++) index.set(shuffled(i), Math.imul(i, 0x9e37_79b1) >>> 0, 4 + i);
  assert.equal(index.count, MANY);
  assert.ok(index.memoryBytes <= 48 * MANY, `${index.memoryBytes / MANY} bytes`);
});

Deno.test("ObjectIndex gives memory that removed objects had to others", () => {
  const index = new ObjectIndex();
  for (let oid = 0; oid < MANY; oid++) index.set(0, oid, 4);
  const before = index.memoryBytes;
  for (let oid = 0; oid < MANY; oid++) index.delete(0, oid);
  assert.equal(index.count, 0);
  for (let oid = 0; oid < MANY; oid++) index.set(1, oid, 4);
  assert.ok(index.memoryBytes <= before, `${index.memoryBytes} bytes after ${before}`);
});

Deno.test("ObjectIndex keeps every object while pages grow, shrink and are gathered", () => {
  const index = new ObjectIndex();
  const oracle = new Uint32Array(MANY);
  const setOrRemove = (oid: number, position: number) => {
    oracle[oid] = position;
    if (position === 0) index.delete(oid >>> 17, oid & 0x1_ffff);
    else index.set(oid >>> 17, oid & 0x1_ffff, position);
  };
  for (let round = 1; round <= 4; round++) {
    for (let i = 0; i < MANY; i++) {
      const oid = shuffled(i);
      const isKept = (oid >>> 7) % (round + 1) !== 0 && oid % 5 !== round;
      setOrRemove(oid, isKept ? i + round : 0);
    }
    let expected = 0;
    let wrong = 0;
    for (let oid = 0; oid < MANY; oid++) {
      if (oracle[oid] !== 0) expected++;
      if (index.get(oid >>> 17, oid & 0x1_ffff) !== oracle[oid]) wrong++;
    }
    let visited = 0;
    index.forEach((high, low, position) => {
      if (oracle[(high << 17) + low] === position) visited++;
    });
    assert.deepEqual({ wrong, visited, count: index.count }, {
      wrong: 0,
      visited: expected,
      count: expected,
    });
    assert.ok(index.memoryBytes <= 12 * expected, `${index.memoryBytes / expected} bytes`);
  }
});
