/** `syncReplica`: a copy is brought up to date once, to an end that is fixed at the beginning. */
import assert from "node:assert/strict";
import { DiskFullError, DivergedError, LockedError, UnavailableError } from "../../lib/errors.ts";
import { Storage } from "../../lib/filestorage/mod.ts";
import { networkSource, type SyncProgress, type SyncSource } from "../../lib/replica/mod.ts";
import { formatTid, NO_TID } from "../../lib/zodb/mod.ts";
import { type BuiltFile, dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { othersHaveRun } from "../kit/manual_clock.ts";
import type { MemoryDisk } from "../kit/memory_disk.ts";
import { startSecondary } from "../kit/node.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { COPY, HERE, ORIGINAL, Scene } from "./scene.ts";
import { history, syncFrom, TID } from "./sync_kit.ts";

const SOURCES = ["file", "node"] as const;

/** The beginning of a file, up to the end of so many transactions. */
function beginningOf(file: BuiltFile, count: number): Uint8Array {
  return file.bytes.slice(0, count === 0 ? 4 : file.transactions[count - 1]!.end);
}

/** A scene with an original, and a copy unless it is to be made. */
function sceneOf(
  original: readonly TransactionDescription[],
  copy?: readonly TransactionDescription[],
): Scene {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, dataFs(original).bytes);
  if (copy !== undefined) scene.disk.put(COPY, dataFs(copy).bytes);
  return scene;
}

/** Runs it against a node of ours where the source is not the file itself. */
async function sync(scene: Scene, source: typeof SOURCES[number], options = {}) {
  if (source === "file") return await syncFrom(scene, source, options);
  await using _primary = await scene.startPrimary();
  return await syncFrom(scene, source, options);
}

/** Asserts that whoever opens the file finds an index that is right, and the last transaction. */
async function assertOpens(disk: MemoryDisk, tid: bigint): Promise<void> {
  await using storage = await Storage.open(disk, COPY);
  assert.deepEqual([storage.report.indexReason, storage.report.cut], [undefined, undefined]);
  assert.equal(storage.lastTid, tid);
}

for (const source of SOURCES) {
  Deno.test(`a copy that is any part of its source becomes the same file, from a ${source}`, async () => {
    const file = dataFs(history(6));
    for (let count = -1; count <= 6; count++) {
      const scene = sceneOf(history(6), count < 0 ? undefined : history(6).slice(0, count));
      const { report, failure, log } = await sync(scene, source);
      assert.equal(failure, undefined);
      assertSameBytes(scene.disk.bytes(COPY), file.bytes, `the copy of ${count}`);
      const start = count <= 0 ? 4 : file.transactions[count - 1]!.end;
      assert.deepEqual(report, {
        created: count < 0,
        newCopy: undefined,
        keptAs: undefined,
        before: { lastTid: count <= 0 ? NO_TID : TID + BigInt(count - 1), end: start },
        after: { lastTid: TID + 5n, end: file.end },
        transactions: 6 - Math.max(0, count),
        bytes: file.end - start,
        blobs: undefined,
        protocol: "native",
        isDurableThere: true,
        restsOn: "said",
        check: { kind: "quick", transactions: Math.max(0, count), obstacle: undefined },
      });
      assert.deepEqual(log.complaints(), []);
      assert.deepEqual(
        scene.disk.paths().filter((path) => path.startsWith("/copy")),
        [COPY, `${COPY}.index`, `${COPY}.lock`],
      );
      await assertOpens(scene.disk, TID + 5n);
    }
  });

  Deno.test(`nothing later than asked for is copied, from a ${source}`, async () => {
    const file = dataFs(history(6));
    for (const has of [0, 2, 5]) {
      for (let until = 0; until <= 7; until++) {
        const scene = sceneOf(history(6), history(6).slice(0, has));
        const { report, failure } = await sync(scene, source, { until: TID + BigInt(until) - 1n });
        assert.equal(failure, undefined);
        const count = Math.max(has, Math.min(until, 6));
        assertSameBytes(scene.disk.bytes(COPY), beginningOf(file, count), `up to ${until}, having ${has}`);
        assert.equal(report?.restsOn, "said");
      }
    }
  });

  Deno.test(`what is committed meanwhile waits for the next run, from a ${source}`, async () => {
    const scene = sceneOf(history(6), history(3));
    let grown = false;
    const onProgress = () => {
      if (!grown) scene.disk.put(ORIGINAL, dataFs(history(9)).bytes);
      grown = true;
    };
    const { report } = await sync(scene, source, { onProgress });
    assert.equal(report?.after.lastTid, TID + 5n);
    assertSameBytes(scene.disk.bytes(COPY), dataFs(history(6)).bytes);
    assert.equal((await sync(scene, source)).report?.transactions, 3);
    assertSameBytes(scene.disk.bytes(COPY), dataFs(history(9)).bytes);
  });

  Deno.test(`histories that differ are named and left alone, from a ${source}`, async () => {
    const table: readonly (readonly [TransactionDescription[], RegExp])[] = [
      [
        history(8),
        /ahead: .* common one is 04c91f0000000006 \(.*\) "jim: shared 5"; then \/copy\/Data.fs has 04c91f0000000007 \(.*\) "jim: shared 6"$/,
      ],
      [
        [...history(3), ...history(5, { from: 3, name: "fork" })],
        /forked: .*; the last common one is 04c91f0000000003 \(.*\) "jim: shared 2"; then \/copy\/Data.fs has 04c91f0000000004 \(.*\) "jim: fork 3"; then .* has 04c91f0000000004 \(.*\) "jim: shared 3"$/,
      ],
      [
        history(2, { name: "other" }),
        /no transaction is common to both.* "jim: other 0"; then .* has .* "jim: shared 0"$/,
      ],
    ];
    for (const [copy, message] of table) {
      const scene = sceneOf(history(6), copy);
      const before = scene.disk.bytes(COPY);
      const { failure } = await sync(scene, source);
      assert(failure instanceof DivergedError, String(failure));
      assert.match(failure.message, message);
      assertSameBytes(scene.disk.bytes(COPY), before);
    }
  });

  Deno.test(`what a pack has left is appended where all of it is there, from a ${source}`, async () => {
    // Packed up to the third; the copy has the fifth.
    const packed = [history(3, { status: "p" })[2]!, ...history(8, { from: 3 })];
    const scene = sceneOf(packed, history(5));
    const { report, failure, log } = await sync(scene, source);
    assert.deepEqual([failure, report?.newCopy, report?.transactions], [undefined, undefined, 3]);
    assert.deepEqual(log.complaints(), []);
    assert.deepEqual(scene.copied().map(({ tid }) => tid), history(8).map(({ tid }) => tid));
  });

  for (const keepOld of [false, true]) {
    const kept = keepOld ? ", and the one before is kept" : "";
    Deno.test(`a pack that has taken what is missing makes a new copy${kept}, from a ${source}`, async () => {
      const packed = [...history(5, { status: "p" }).slice(2), ...history(8, { from: 5 })];
      const scene = sceneOf(packed, history(4));
      const old = scene.disk.bytes(COPY);
      scene.disk.put(`${COPY}.index`, new TextEncoder().encode("of the old file"));
      const { report, failure, log } = await sync(scene, source, { keepOld });
      assert.equal(failure, undefined);
      assert.match(report?.newCopy ?? "", /has been packed since 04c91f0000000004/);
      assertSameBytes(scene.disk.bytes(COPY), dataFs(packed).bytes);
      assert.match(
        log.complaints().join("\n"),
        /^warning: .* has been packed since .*; making a complete new copy$/,
      );
      await assertOpens(scene.disk, TID + 7n);
      const names = scene.disk.paths().filter((path) => path.startsWith("/copy"));
      assert.deepEqual(names, [COPY, `${COPY}.index`, `${COPY}.lock`, ...keepOld ? [`${COPY}.old`] : []]);
      if (keepOld) assertSameBytes(scene.disk.bytes(`${COPY}.old`), old);
      // It is the same file now, so what comes next is appended again.
      scene.disk.put(ORIGINAL, dataFs([...packed, ...history(9, { from: 8 })]).bytes);
      const next = await sync(scene, source);
      assert.deepEqual([next.failure, next.report?.newCopy, next.report?.transactions], [
        undefined,
        undefined,
        1,
      ]);
    });
  }

  Deno.test(`--repack makes a new copy unless that would be the same file, from a ${source}`, async () => {
    const packed = [history(3, { status: "p" })[2]!, ...history(8, { from: 3 })];
    const scene = sceneOf(packed, history(5));
    assert.match(
      (await sync(scene, source, { repack: true })).report?.newCopy ?? "",
      /packed, or lies differently/,
    );
    assertSameBytes(scene.disk.bytes(COPY), dataFs(packed).bytes);
    assert.equal((await sync(scene, source, { repack: true })).report?.newCopy, undefined);
  });

  Deno.test(`a pack that leaves nothing to compare replaces no copy by itself, from a ${source}`, async () => {
    // What the copy has may never have been there.
    const packed = history(3, { status: "p" });
    const scene = sceneOf(packed, [...packed.slice(0, 2), ...history(6, { from: 3, status: "p" })]);
    const before = scene.disk.bytes(COPY);
    const { failure } = await sync(scene, source);
    assert(failure instanceof DivergedError, String(failure));
    assert.match(failure.hint ?? "", /--repack|zrs log/);
    assertSameBytes(scene.disk.bytes(COPY), before);
  });
}

Deno.test("of a source that loses what has been copied, nobody is told that nothing was written", async () => {
  const scene = sceneOf(history(4000), history(3));
  const onProgress = ({ end, startEnd }: SyncProgress) => {
    if (end > startEnd) scene.disk.put(ORIGINAL, dataFs(history(3)).bytes);
  };
  const buffers = { readBytes: 256, runBytes: 256, sendBytes: 256 };
  const { failure } = await syncFrom(scene, "file", { onProgress, buffers });
  assert(failure instanceof DivergedError, String(failure));
  assert.match(
    failure.message,
    /the histories differ, what had come before that was noticed is kept\. It says: ahead/,
  );
  assert(scene.copied().length > 3);
});

Deno.test("an empty source makes an empty copy", async () => {
  const scene = sceneOf([]);
  const { report } = await syncFrom(scene, "file");
  assert.equal(report?.after.lastTid, NO_TID);
  assertSameBytes(scene.disk.bytes(COPY), dataFs([]).bytes);
});

Deno.test("a copy in use is left alone", async () => {
  const scene = sceneOf(history(6), history(3));
  await using _other = await Storage.open(scene.disk, COPY);
  const { failure } = await syncFrom(scene, "file");
  assert(failure instanceof LockedError, String(failure));
  assertSameBytes(scene.disk.bytes(COPY), dataFs(history(3)).bytes);
});

Deno.test("a source that is away leaves a copy as it was, and makes none where there was none", async () => {
  for (const copy of [undefined, history(3)]) {
    const scene = sceneOf(history(6), copy);
    const { failure } = await syncFrom(scene, "node");
    assert(failure instanceof UnavailableError, String(failure));
    const bytes = copy && dataFs(copy).bytes;
    const beside = scene.disk.paths().filter((path) => path.startsWith(COPY));
    if (bytes === undefined) assert.deepEqual(beside, []);
    if (bytes !== undefined) assertSameBytes(scene.disk.bytes(COPY), bytes);
  }
});

Deno.test("a new copy has the permissions and the owner of the source, or of the copy that was", async () => {
  const scene = sceneOf(history(3));
  await syncFrom(scene, "file", { model: ORIGINAL });
  assert.deepEqual([...scene.disk.permissions], [[COPY, ORIGINAL], [`${COPY}.lock`, ORIGINAL]]);
  const packed = sceneOf([...history(5, { status: "p" }).slice(2)], history(4));
  await syncFrom(packed, "file", { model: ORIGINAL });
  assert.deepEqual([...packed.disk.permissions], [[`${COPY}.sync`, COPY]]);
});

Deno.test("permissions that a file system does not know are told, and end no run", async () => {
  const packed = [...history(5, { status: "p" }).slice(2), ...history(8, { from: 5 })];
  for (const [original, copy] of [[history(6), undefined], [packed, history(4)]] as const) {
    const scene = sceneOf(original, copy);
    scene.disk.fail({ operation: "chmod", lasting: true });
    const { failure, log } = await syncFrom(scene, "file", { model: ORIGINAL });
    assert.equal(failure, undefined);
    assertSameBytes(scene.disk.bytes(COPY), dataFs(original).bytes);
    assert.match(
      log.complaints().join("\n"),
      /^warning: Cannot chmod .*; look whether its owner and mode are/m,
    );
  }
});

Deno.test("where a file can have one name only, the copy before is kept all the same", async () => {
  const packed = [...history(5, { status: "p" }).slice(2), ...history(8, { from: 5 })];
  const scene = sceneOf(packed, history(4));
  scene.disk.hasLinks = false;
  const { report, failure } = await syncFrom(scene, "file", { keepOld: true });
  assert.deepEqual([failure, report?.keptAs], [undefined, `${COPY}.old`]);
  assertSameBytes(scene.disk.bytes(COPY), dataFs(packed).bytes);
  assertSameBytes(scene.disk.bytes(`${COPY}.old`), dataFs(history(4)).bytes);
});

Deno.test("room is looked for before anything is written", async () => {
  const packed = [...history(5, { status: "p" }).slice(2), ...history(8, { from: 5 })];
  for (
    const [original, copy] of [[history(40), history(3)], [history(40), undefined], [
      packed,
      history(4),
    ]] as const
  ) {
    const scene = sceneOf(original, copy);
    scene.disk.capacity = scene.disk.paths().reduce((total, path) =>
      total + scene.disk.bytes(path).length, 0) + 80;
    scene.disk.performed.length = 0;
    const { failure } = await syncFrom(scene, "file");
    assert(failure instanceof DiskFullError, String(failure));
    assert.match(failure.message, /bytes are needed, \d+ are free/);
    if (copy !== undefined) assertSameBytes(scene.disk.bytes(COPY), dataFs(copy).bytes);
    else assert(!scene.disk.paths().includes(COPY));
  }
});

Deno.test("a source that is damaged on the way is no complete copy, and what is before the damage is kept", async () => {
  const file = dataFs(history(6));
  const damaged = file.bytes.slice();
  damaged[file.transactions[4]!.position + 12] = 0xff; // its length
  const scene = new Scene();
  scene.disk.put(ORIGINAL, damaged);
  const { failure } = await syncFrom(scene, "file");
  assert(failure instanceof UnavailableError, String(failure));
  assert.deepEqual(scene.copied().map(({ tid }) => tid), history(4).map(({ tid }) => tid));
});

Deno.test("a replica that lags behind the copy is not waited for without end", async () => {
  const scene = sceneOf(history(6), history(6));
  const lagging = "/lagging/Data.fs";
  scene.disk.put(lagging, dataFs(history(3)).bytes);
  const from = { transport: "tcp", host: "nowhere", port: 1 } as const;
  await using _chained = await startSecondary(
    { path: lagging, replicateFrom: from, replicateTo: HERE },
    scene,
  );
  const { failure } = await whileTimePasses(scene, syncFrom(scene, "node"));
  assert(failure instanceof UnavailableError, String(failure));
  assert.match(failure.message, /lags behind this one: it ends with 04c91f0000000003/);
  assertSameBytes(scene.disk.bytes(COPY), dataFs(history(6)).bytes);
});

/** A second each time that everybody has had a turn. */
async function whileTimePasses<T>(scene: Scene, work: Promise<T>): Promise<T> {
  let done = false;
  work.finally(() => done = true);
  while (!done) {
    await othersHaveRun();
    scene.clock.advance(1_000);
  }
  return await work;
}

/** A source whose connection breaks when so many bytes have come. */
function cutAfter(source: SyncSource, bytes: number): SyncSource {
  return {
    name: source.name,
    isThisMachine: source.isThisMachine,
    problem: undefined,
    [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
    async connect(signal) {
      const connection = await source.connect(signal);
      let left = bytes;
      return {
        peer: connection.peer,
        written: 0,
        async read(into) {
          if (left === 0) {
            connection.close();
            throw new UnavailableError("The connection is lost");
          }
          const count = await connection.read(into.subarray(0, left));
          left -= count ?? 0;
          return count;
        },
        write: (chunk) => connection.write(chunk),
        close: () => connection.close(),
        [Symbol.dispose]: () => connection.close(),
      };
    },
  };
}

Deno.test("wherever the link is cut, what came whole is kept and the next run goes on", async () => {
  const file = dataFs(history(12));
  const scene = sceneOf(history(12));
  const seen = new Set<number>();
  await using _primary = await scene.startPrimary();
  for (let bytes = 0;; bytes += 3) {
    scene.disk.remove(COPY);
    scene.disk.remove(`${COPY}.index`);
    // One transaction a run, so that much is kept.
    const buffers = { readBytes: 64, runBytes: 120, sendBytes: 4_096 };
    const cut = await syncFrom(
      scene,
      (ports) => Promise.resolve(cutAfter(networkSource(ports, HERE), bytes)),
      { buffers },
    );
    if (cut.failure === undefined) break;
    assert(cut.failure instanceof UnavailableError, String(cut.failure));
    const kept = scene.disk.paths().includes(COPY) ? scene.copied().length : 0;
    if (kept > 0) assertSameBytes(scene.disk.bytes(COPY), beginningOf(file, kept), `cut after ${bytes}`);
    seen.add(kept);
    const again = await syncFrom(scene, "node", { buffers });
    assert.deepEqual([again.failure, again.report?.transactions], [undefined, 12 - kept]);
    assertSameBytes(scene.disk.bytes(COPY), file.bytes, `after a cut at ${bytes}`);
  }
  assert(seen.size >= 10, `kept ${[...seen]}`);
});

Deno.test("whatever operation fails, once or from then on, the copy is whole, and the next run completes it", async () => {
  const packed = [...history(5, { status: "p" }).slice(2), ...history(8, { from: 5 })];
  const cases = [
    { original: history(8), copy: undefined },
    { original: history(8), copy: history(3) },
    { original: packed, copy: history(4) },
  ];
  const operations = [
    ...[
      "write",
      "truncate",
      "sync",
      "create",
      "open",
      "rename",
      "remove",
      "link",
      "syncDirectory",
      "read",
    ] as const,
  ];
  let hits = 0;
  for (const { original, copy } of cases) {
    const wanted = dataFs(original);
    const old = copy && dataFs(copy);
    for (const operation of operations) {
      for (const lasting of operation === "read" ? [false] : [false, true]) {
        for (let nth = 1;; nth++) {
          const scene = sceneOf(original, copy);
          scene.disk.performed.length = 0;
          scene.disk.fail({ operation, nth, lasting });
          const failed = await whileTimePasses(scene, syncFrom(scene, "file", { keepOld: true }));
          if (scene.disk.performed.filter((each) => each.operation === operation).length < nth) break;
          hits++;
          const when = `${operation} ${nth} ${lasting ? "and all later" : "alone"} (${failed.failure})`;
          // A disk whose repair nobody waited for.
          const after = new Scene({ disk: scene.disk.copy() });
          const isBegun = after.disk.paths().includes(COPY) && after.disk.bytes(COPY).length >= 4;
          if (isBegun) {
            const tids = finishedTids(after.disk.bytes(COPY));
            const lines = [wanted, old].map((each) => each === undefined ? [] : finishedTids(each.bytes));
            assert(
              lines.some((line) => tids.every((tid, at) => line[at] === tid)),
              `${when}: ${tids.map(formatTid)}`,
            );
            if (old !== undefined) assert(tids.length >= Math.min(4, finishedTids(old.bytes).length), when);
          } else assert.equal(copy, undefined, when);
          const next = await syncFrom(after, "file", { keepOld: true });
          assert.equal(next.failure, undefined, when);
          assertSameBytes(after.disk.bytes(COPY), wanted.bytes, when);
          await assertOpens(after.disk, original.at(-1)!.tid);
        }
      }
    }
  }
  assert(hits > 100, `${hits} operations failed`);
});

/** The transactions that count: whoever opens the file stops at one that is not finished. */
function finishedTids(bytes: Uint8Array): bigint[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const tids: bigint[] = [];
  for (let position = 4; position + 17 <= bytes.length;) {
    const end = position + Number(view.getBigUint64(position + 8)) + 8;
    if (bytes[position + 16] === 0x63 || end > bytes.length) break;
    tids.push(view.getBigUint64(position));
    position = end;
  }
  return tids;
}

for (const source of ["node", "file"] as const) {
  Deno.test(`a source is not copied as of a time before that of its pack, from a ${source}`, async () => {
    const packed = [...history(4, { status: "p" }), ...history(6, { from: 4 })];
    const file = dataFs(packed);
    for (const has of [0, 1, 3]) {
      for (const until of [1, 2, 3, 4, 5]) {
        const scene = sceneOf(packed, packed.slice(0, has));
        const { failure, report } = await sync(scene, source, { until: TID + BigInt(until - 1) });
        const isRefused = until > has && until < 4;
        assertSameBytes(
          scene.disk.bytes(COPY).length > 0 ? scene.disk.bytes(COPY) : beginningOf(file, 0),
          beginningOf(file, isRefused ? has : Math.max(has, until)),
          `up to ${until}, having ${has}`,
        );
        assert.equal(report === undefined, isRefused, `up to ${until}, having ${has}: ${failure}`);
        if (!isRefused) continue;
        assert(failure instanceof UnavailableError, `${failure}`);
        assert.match(
          failure.message,
          /been packed to a later time than .*, and may lack objects as they were then/,
        );
      }
    }
  });
}
