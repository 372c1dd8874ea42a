import assert from "node:assert/strict";
import fc from "fast-check";
import { DiskError, UsageError } from "../../lib/errors.ts";
import { checkIndex, readIndexFile, writeIndexFile } from "../../lib/filestorage/index/index_file.ts";
import { ObjectIndex } from "../../lib/filestorage/index/object_index.ts";
import { FailingDisk } from "./failing_disk.ts";

const PATH = "/db/Data.fs";
const INDEX_PATH = `${PATH}.index`;
const TEMPORARY_PATH = `${PATH}.index.index_tmp`;
const FIVE_GIB = 5 * 2 ** 30;
const FIXTURES = new URL("../fixtures/index/", import.meta.url);
const ZODB_VERSIONS = ["zodb5.5.1", "zodb6.4"];

type Entries = (readonly [oid: bigint, position: number])[];

/** What make.py puts into wide.index. */
const WIDE: Entries = [
  [0n, 4],
  [1n, 0xff],
  [0xffn, 0x100],
  [0x100n, 0xffff],
  [0xffffn, 0x1_0000],
  [0x1_0000n, 0x7fff_ffff],
  [2n ** 32n, 0x8000_0000],
  [2n ** 32n + 1n, 0xffff_ffff],
  [2n ** 48n + 5n, 2 ** 32],
  [2n ** 53n + 1n, FIVE_GIB],
  [2n ** 63n + 1n, 2 ** 47],
  [2n ** 64n - 1n, 2 ** 48 - 1],
];

/** What make.py and make_python2.py put into the oldest forms. */
const OLD: Entries = [
  [0n, 4],
  [1n, 300],
  [0x27n, 70_000],
  [0x0a0d_5c22_275c_6en, FIVE_GIB - 1],
  [2n ** 63n + 1n, 2 ** 32],
];

function fixture(name: string): Uint8Array {
  return Deno.readFileSync(new URL(name, FIXTURES));
}

function indexOf(entries: Iterable<readonly [bigint, number]>): ObjectIndex {
  const index = new ObjectIndex();
  for (const [oid, position] of entries) index.set(Number(oid >> 32n), Number(oid & 0xffff_ffffn), position);
  return index;
}

function entriesOf(index: ObjectIndex): Entries {
  const entries: [bigint, number][] = [];
  index.forEach((high, low, position) => entries.push([(BigInt(high) << 32n) | BigInt(low), position]));
  return entries;
}

function read(bytes: Uint8Array): ReturnType<typeof readIndexFile> {
  const disk = new FailingDisk();
  disk.put(INDEX_PATH, bytes);
  return readIndexFile(disk, PATH);
}

function readGood(bytes: Uint8Array): { index: ObjectIndex; position: number } {
  const result = read(bytes);
  assert.equal(result.kind, "read", result.kind === "absent" ? result.reason : "");
  assert.ok(result.kind === "read");
  return result;
}

async function written(index: ObjectIndex, position: number): Promise<Uint8Array> {
  const disk = new FailingDisk();
  await writeIndexFile(disk, PATH, index, position);
  assert.deepEqual(disk.names, [INDEX_PATH]);
  return disk.bytesOf(INDEX_PATH)!;
}

/** A data file's bytes, as a file. */
function dataFile(bytes: Uint8Array): ReturnType<FailingDisk["openRead"]> {
  const disk = new FailingDisk();
  disk.put(PATH, bytes);
  return disk.openRead(PATH);
}

for (const version of ZODB_VERSIONS) {
  Deno.test(`what ${version} wrote is read, and written again byte for byte`, async () => {
    const names = [...Deno.readDirSync(new URL(version, FIXTURES))].map((entry) => entry.name)
      .filter((name) => /^(wide|pages|scattered|position-.*|Data\.fs)\.?.*\.index$/.test(name));
    assert.equal(names.length, 13);
    for (const name of names) {
      const bytes = fixture(`${version}/${name}`);
      const { index, position } = readGood(bytes);
      assert.deepEqual(await written(index, position), bytes, name);
      assert.deepEqual(await written(indexOf(entriesOf(index).reverse()), position), bytes, name);
    }
  });

  Deno.test(`an index made by us is byte for byte the one that ${version} makes`, async () => {
    assert.deepEqual(await written(indexOf(WIDE), 2 ** 48), fixture(`${version}/wide.index`));
    for (const position of [0xff, 0x100, 0xffff, 2 ** 16, 2 ** 31 - 1, 2 ** 31, FIVE_GIB, 2 ** 39, 2 ** 47]) {
      const expected = fixture(`${version}/position-${position.toString(16)}.index`);
      assert.deepEqual(await written(indexOf([[1n, 4]]), position), expected);
    }
  });

  Deno.test(`every size of oid and position is read from what ${version} wrote`, () => {
    const { index, position } = readGood(fixture(`${version}/wide.index`));
    assert.equal(position, 2 ** 48);
    assert.deepEqual(entriesOf(index), WIDE);
  });

  Deno.test(`the oldest form, a plain dict, is read in every protocol of ${version}`, () => {
    for (const protocol of [0, 1, 2, 3]) {
      const { index, position } = readGood(fixture(`${version}/dict-${protocol}.index`));
      assert.equal(position, FIVE_GIB);
      assert.deepEqual(entriesOf(index), OLD, `protocol ${protocol}`);
    }
  });

  Deno.test(`a dict with an instance, written by ${version}, counts as absent`, () => {
    assert.equal(read(fixture(`${version}/instance.index`)).kind, "absent");
  });
}

Deno.test("what ZODB 3 wrote on Python 2 is read", () => {
  for (const name of ["buckets", "buckets-long", "dict-0", "dict-1", "dict-2"]) {
    const { index, position } = readGood(fixture(`python2/${name}.index`));
    assert.equal(position, FIVE_GIB);
    assert.deepEqual(entriesOf(index), OLD, name);
  }
});

Deno.test("what is written is read again, whatever the oids", async () => {
  const oid = fc.oneof(
    fc.bigInt({ min: 0n, max: 300n }),
    fc.bigInt({ min: 0n, max: 0x3_0000n }),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  );
  const entries = fc.uniqueArray(fc.tuple(oid, fc.integer({ min: 1, max: 2 ** 48 - 1 })), {
    selector: ([key]) => key,
    minLength: 1,
    maxLength: 600,
    size: "max",
  });
  await fc.assert(
    fc.asyncProperty(entries, async (list) => {
      const result = readGood(await written(indexOf(list), 2 ** 48));
      assert.equal(result.index.count, list.length);
      assert.deepEqual(entriesOf(result.index), list.toSorted(([a], [b]) => a < b ? -1 : 1));
    }),
    { numRuns: 60 },
  );
});

Deno.test("buckets that fill the buffer several times over are written and read whole", async () => {
  const index = new ObjectIndex();
  for (let oid = 0; oid < 0x4_0000; oid++) if (oid % 70_000 !== 69_999) index.set(9, oid, oid + 4);
  for (let oid = 0; oid < 0x2_0000; oid++) index.set(oid, 0x8000_0000, oid + 4);
  const { index: again } = readGood(await written(index, 2 ** 40));
  assert.equal(again.count, index.count);
  let different = 0;
  index.forEach((high, low, position) => {
    if (again.get(high, low) !== position) different++;
  });
  assert.equal(different, 0);
});

Deno.test("an index that was read takes changes like any other", () => {
  const { index } = readGood(fixture("zodb5.5.1/pages.index"));
  const oracle = new Map(entriesOf(index));
  for (let i = 0; i < 4000; i++) {
    const oid = BigInt((i % 11 << 20) | (i * 7 & 0x3ff));
    index.set(0, Number(oid), 4 + i);
    oracle.set(oid, 4 + i);
  }
  assert.equal(index.greatest, [...oracle.keys()].reduce((a, b) => a > b ? a : b));
  assert.deepEqual(entriesOf(index), [...oracle].sort(([a], [b]) => a < b ? -1 : 1));
});

Deno.test("bytes behind the end mark do not matter", () => {
  const bytes = fixture("zodb5.5.1/wide.index");
  const longer = new Uint8Array(bytes.length + 3).fill(0xff);
  longer.set(bytes);
  assert.deepEqual(entriesOf(readGood(longer).index), WIDE);
});

Deno.test("an index cut off anywhere is absent", () => {
  const names = [
    ...["zodb5.5.1/wide", "zodb5.5.1/Data.fs", "zodb5.5.1/position-140000000", "python2/buckets"],
    ...["zodb5.5.1/dict-0", "zodb5.5.1/dict-2", "zodb5.5.1/dict-3", "python2/dict-0", "python2/dict-1"],
  ];
  for (const name of names) {
    const bytes = fixture(`${name}.index`);
    for (let length = 0; length < bytes.length; length++) {
      assert.equal(read(bytes.subarray(0, length)).kind, "absent", `${name} cut at ${length}`);
    }
  }
});

Deno.test("any flipped byte of an index makes it absent, bad, or right for the last transaction", () => {
  const data = fixture("zodb5.5.1/Data.fs");
  const bytes = fixture("zodb5.5.1/Data.fs.index");
  const { index: whole, position: end } = readGood(bytes);
  const good = checkIndex(dataFile(data), whole, end);
  assert.ok(good.kind === "good");
  const outcomes = { absent: 0, bad: 0, good: 0 };
  for (let at = 0; at < bytes.length; at++) {
    for (let flip = 1; flip < 0x100; flip++) {
      const damaged = bytes.slice();
      damaged[at]! ^= flip;
      const result = read(damaged);
      const kind = result.kind === "absent"
        ? "absent"
        : checkIndex(dataFile(data), result.index, result.position).kind;
      outcomes[kind]++;
      if (kind !== "good" || result.kind === "absent") continue;
      // The last transaction changed the root, and made the last of three objects.
      assert.equal(result.position, end);
      assert.equal(result.index.get(0, 0), whole.get(0, 0));
      assert.equal(result.index.get(0, 2), whole.get(0, 2));
    }
  }
  assert.ok(outcomes.absent > 0 && outcomes.bad > 0 && outcomes.good > 0, JSON.stringify(outcomes));
});

Deno.test("any flipped byte of an index of whatever form is survived", () => {
  const names = [
    "zodb5.5.1/wide",
    "zodb5.5.1/dict-0",
    "zodb5.5.1/dict-3",
    "python2/dict-0",
    "python2/buckets",
  ];
  const data = dataFile(fixture("zodb5.5.1/Data.fs"));
  for (const name of names) {
    const bytes = fixture(`${name}.index`);
    for (let at = 0; at < bytes.length; at++) {
      for (const flip of [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff]) {
        const damaged = bytes.slice();
        damaged[at]! ^= flip;
        const result = read(damaged);
        if (result.kind === "absent") continue;
        assert.ok(
          entriesOf(result.index).every(([, position]) => position < result.position),
          `${name} ${at}`,
        );
        assert.equal(checkIndex(data, result.index, result.position).kind, "bad", `${name} flipped at ${at}`);
      }
    }
  }
});

Deno.test("an index that claims more than the file has is absent, and nothing is allocated for it", () => {
  const claims = [
    [0x80, 3, 0x4b, 99, 0x2e, 0x80, 3, 0x43, 6, 0, 0, 0, 0, 0, 0, 0x42, 0xff, 0xff, 0xff, 0x7f],
    [0x80, 3, 0x4b, 99, 0x2e, 0x80, 3, 0x42, 0xff, 0xff, 0xff, 0xff],
    [0x80, 3, 0x8a, 0xff, 1, 2, 3],
    [0x7d, 0x58, 0xff, 0xff, 0xff, 0xff],
  ];
  for (const claim of claims) assert.equal(read(Uint8Array.from(claim)).kind, "absent");
});

Deno.test("a bucket that is damaged, comes twice or points beyond the position makes the index absent", () => {
  const bucket = (suffixes: number[], positions: number[]) => [
    ...[0x80, 3, 0x43, 6, 0, 0, 0, 0, 0, 0, 0x43, suffixes.length * 8],
    ...suffixes.flatMap((suffix) => [suffix >>> 8, suffix & 0xff]),
    ...positions.flatMap((position) => [0, 0, 0, 0, position >>> 8, position & 0xff]),
    ...[0x86, 0x2e],
  ];
  const file = (...buckets: number[][]) =>
    Uint8Array.from([0x80, 3, 0x4d, 0, 4, 0x2e, ...buckets.flat(), 0x80, 3, 0x4e, 0x2e]);
  assert.equal(read(file(bucket([1, 2, 0x100], [4, 5, 0x3ff]))).kind, "read");
  const wrong = {
    "suffixes descend": file(bucket([2, 1], [4, 5])),
    "a suffix comes twice": file(bucket([1, 1], [4, 5])),
    "suffixes descend over pages": file(bucket([0x101, 2], [4, 5])),
    "a position is 0": file(bucket([1, 2], [4, 0])),
    "a position is the end": file(bucket([1, 2], [4, 0x400])),
    "a bucket comes twice": file(bucket([1], [4]), bucket([2], [5])),
    "a bucket is not of entries": Uint8Array.from([
      ...[0x80, 3, 0x4b, 99, 0x2e, 0x80, 3, 0x43, 6, 0, 0, 0, 0, 0, 0, 0x43, 7, 0, 0, 0, 0, 0, 0, 4],
      ...[0x86, 0x2e, 0x80, 3, 0x4e, 0x2e],
    ]),
  };
  for (const [what, bytes] of Object.entries(wrong)) assert.equal(read(bytes).kind, "absent", what);
});

Deno.test("an index that is missing or cannot be opened is absent", () => {
  assert.equal(readIndexFile(new FailingDisk(), PATH).kind, "absent");
  const forbidden = new FailingDisk();
  forbidden.openRead = () => {
    throw new UsageError("Cannot open: no permission");
  };
  const result = readIndexFile(forbidden, PATH);
  assert.deepEqual(result, { kind: "absent", reason: "Cannot open: no permission" });
});

Deno.test("an index without objects has no file, and takes a stale one away", async () => {
  const disk = new FailingDisk();
  disk.put(INDEX_PATH, fixture("zodb5.5.1/wide.index"));
  disk.put(TEMPORARY_PATH, new Uint8Array(3));
  await writeIndexFile(disk, PATH, new ObjectIndex(), 4);
  assert.deepEqual(disk.names, []);
  await writeIndexFile(disk, PATH, new ObjectIndex(), 4);
  assert.deepEqual(disk.names, []);
});

for (const staysBroken of [false, true]) {
  const how = staysBroken ? "from then on everything fails" : "the next one succeeds";
  Deno.test(`when any operation fails and ${how}, the old or the new index is there, whole`, async () => {
    const old = fixture("zodb5.5.1/wide.index");
    const index = readGood(fixture("zodb5.5.1/pages.index")).index;
    const fresh = await written(index, 2 ** 20);
    let failures = 0;
    for (let failAt = 1;; failAt++) {
      const disk = new FailingDisk();
      disk.put(INDEX_PATH, old);
      disk.put(TEMPORARY_PATH, fresh.subarray(0, 77)); // left by a crash
      disk.failAt = failAt;
      disk.staysBroken = staysBroken;
      const outcome = await writeIndexFile(disk, PATH, index, 2 ** 20).then(
        () => undefined,
        (error) => error,
      );
      for (const state of [disk, disk.afterPowerLoss()]) {
        const found = state.bytesOf(INDEX_PATH);
        assert.ok(found !== undefined);
        const isNew = found.length === fresh.length;
        assert.deepEqual(found, isNew ? fresh : old, `operation ${failAt}`);
        if (outcome === undefined) assert.ok(isNew);
      }
      if (outcome === undefined) break;
      assert.ok(outcome instanceof DiskError, `operation ${failAt}`);
      if (!staysBroken) {
        assert.ok(!disk.names.includes(TEMPORARY_PATH) || failAt === 1, `operation ${failAt}`);
      }
      failures++;
    }
    assert.equal(failures, 6); // remove the leftover, create, write, sync, rename, sync the directory
  });
}

Deno.test("a failure that is not the disk's own is reported as a DiskError with its cause", async () => {
  const disk = new FailingDisk();
  const cause = new UsageError("Cannot create: no permission");
  disk.create = () => {
    throw cause;
  };
  await assert.rejects(writeIndexFile(disk, PATH, indexOf([[1n, 4]]), 99), (error) => {
    assert.ok(error instanceof DiskError);
    assert.equal(error.cause, cause);
    return true;
  });
});
