/** Blobs by the native stream, at each of its ends: what is sent, what is taken, and what is gone on with. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { dataFs } from "../kit/data_fs.ts";
import { latin1 } from "../kit/hex.ts";
import { content, hello, type NativeWire, type ReadBlob, welcome } from "../kit/native_wire.ts";
import { startSecondary } from "../kit/node.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { attach, bytesOf, digestOf, sceneWith, tidText, welcomed } from "./native_kit.ts";
import { COPY, HERE, Scene, type ScriptedPrimary } from "./scene.ts";

const BLOB = latin1("\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.");
const TID = 0x036c_9000_0000_0001n;
const BLOB_TID = TID + 1n;
const OID = 7n;
const FIRST = { tid: TID, records: [{ oid: 0n, data: "root" }] };
const FILE = dataFs([
  FIRST,
  { tid: BLOB_TID, records: [{ oid: OID, data: BLOB }, { oid: 0n, data: "more" }] },
  { tid: TID + 2n, records: [{ oid: 0n, data: "last" }] },
]);
const CONTENT = Uint8Array.from({ length: 300 }, (_, at) => at % 251);
const KEY = { oid: OID, tid: BLOB_TID };
const NAME = `0x00/0x00/0x00/0x00/0x00/0x00/0x00/0x07/0x${tidText(BLOB_TID)}.blob`;
const SOURCE_BLOBS = "/source/blobs";
const COPY_BLOBS = "/copy/blobs";
const SUPPLY = { blobs: "replicate", blobDir: SOURCE_BLOBS } as const;
const TAKING = { blobs: "replicate", blobDir: COPY_BLOBS, protocol: "native" } as const;
const BUFFERS = { readBytes: 64, runBytes: 4_096, sendBytes: 1_024 };

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** What a secondary has of the blob, as its hello says it. */
function begun(bytes: number, fields: Record<string, unknown> = {}) {
  return {
    oid: tidText(OID),
    tid: tidText(BLOB_TID),
    bytes,
    digest: sha256(CONTENT.subarray(0, bytes)),
    ...fields,
  };
}

function sourceScene(content: Uint8Array | undefined = CONTENT, bytes = FILE.bytes): Scene {
  const scene = sceneWith(bytes);
  scene.disk.put(`${SOURCE_BLOBS}/.layout`, latin1("bushy"));
  if (content !== undefined) scene.disk.put(`${SOURCE_BLOBS}/${NAME}`, content);
  return scene;
}

/** What comes up to the end, or until all has been sent. */
async function receiveAll(
  wire: NativeWire,
): Promise<{ blobs: readonly ReadBlob[]; tids: bigint[]; last: Record<string, unknown> | undefined }> {
  const { blobs } = wire.reader;
  const tids: bigint[] = [];
  for (;;) {
    const event = await wire.receiveEvent();
    if (event === null) return { blobs, tids, last: undefined };
    if (event.kind === "message") return { blobs, tids, last: event.message };
    tids.push(event.kind === "run" ? event.tid : event.transaction.tid);
  }
}

for (const capabilities of [["raw"], []]) {
  const form = capabilities.length > 0 ? "as it lies" : "record by record";

  Deno.test(`a source sends the content of a blob with its record: ${form}`, async () => {
    const scene = sourceScene();
    await using _primary = await scene.startPrimary(SUPPLY);
    const { wire } = await attach(scene, hello({ capabilities, blobs: "content" }));
    const { blobs, tids, last } = await receiveAll(wire);
    assert.deepEqual(blobs, [{ ...KEY, length: CONTENT.length, from: 0, content: CONTENT }]);
    assert.equal(tids.at(-1), TID + 2n);
    assert.equal(last?.type, "complete");
  });

  Deno.test(`a source goes on behind what a secondary has of a blob, if that is its beginning: ${form}`, async () => {
    const scene = sourceScene();
    await using _primary = await scene.startPrimary(SUPPLY);
    const claims = [
      ...[1, 150, 299, 300].map((bytes) => ({ claim: begun(bytes), from: bytes })),
      { claim: begun(150, { digest: sha256(CONTENT) }), from: 0 },
      { claim: begun(301), from: 0 },
      { claim: begun(0), from: 0 },
      { claim: begun(150, { oid: tidText(8n) }), from: 0 },
      { claim: begun(150, { tid: tidText(TID) }), from: 0 },
    ];
    for (const { claim, from } of claims) {
      const { wire } = await attach(scene, hello({ capabilities, blobs: "content", begunBlobs: [claim] }));
      const { blobs } = await receiveAll(wire);
      assert.deepEqual(blobs, [{ ...KEY, length: CONTENT.length, from, content: CONTENT.subarray(from) }]);
      wire.close();
    }
  });

  Deno.test(`a blob that has two records in a transaction is gone on with once, and taken: ${form}`, async () => {
    const records = [{ oid: OID, data: BLOB }, { oid: OID, data: BLOB }];
    const scene = sourceScene(CONTENT, dataFs([FIRST, { tid: BLOB_TID, records }]).bytes);
    await using _primary = await scene.startPrimary(SUPPLY);
    const left = `${COPY_BLOBS}/tmp/zrs-${tidText(OID)}-${tidText(BLOB_TID)}.part`;
    scene.disk.put(`${COPY_BLOBS}/.layout`, latin1("bushy"));
    scene.disk.put(left, CONTENT.subarray(0, 150));
    {
      const { wire } = await attach(
        scene,
        hello({ capabilities, blobs: "content", begunBlobs: [begun(150)] }),
      );
      const { blobs } = await receiveAll(wire);
      assert.equal(blobs[0]!.from, 150);
      assert(blobs.slice(1).every(({ from }) => from === 0));
      wire.close();
    }
    await using secondary = await startSecondary({ path: COPY, replicateFrom: HERE, ...TAKING }, scene);
    await secondary.waitForTid(BLOB_TID);
    assertSameBytes(scene.disk.bytes(`${COPY_BLOBS}/${NAME}`), CONTENT);
  });

  for (const blobs of ["content", "presence"]) {
    Deno.test(`a source whose file is missing ends the stream before the record, and says which: ${blobs}, ${form}`, async () => {
      const scene = sourceScene();
      scene.disk.remove(`${SOURCE_BLOBS}/${NAME}`);
      await using primary = await scene.startPrimary(SUPPLY);
      const { wire } = await attach(scene, hello({ capabilities, blobs }));
      const { tids, last } = await receiveAll(wire);
      assert.deepEqual(tids, [TID]);
      assert.deepEqual([last?.type, last?.code], ["bye", "trouble"]);
      const which = `object 0x07 of transaction ${tidText(BLOB_TID)} .*: its file is missing`;
      assert.match(`${last?.reason}`, new RegExp(`${which} \\(${NAME} in its blob directory\\)`));
      assert(!`${last?.reason}`.includes(SOURCE_BLOBS), "paths of the source are nobody's business");
      await primary.log.waitFor(new RegExp(`${which} \\(${SOURCE_BLOBS}/${NAME}\\)`));
    });
  }

  Deno.test(`a source whose file cannot be read ends the stream, and says which: ${form}`, async () => {
    const scene = sourceScene();
    await using primary = await scene.startPrimary(SUPPLY);
    scene.disk.fail({ operation: "read", path: NAME, lasting: true });
    const { wire } = await attach(scene, hello({ capabilities, blobs: "content" }));
    const { last } = await receiveAll(wire);
    assert.match(`${last?.reason}`, /its file cannot be read/);
    await primary.log.waitFor(new RegExp(`its file cannot be read \\(${SOURCE_BLOBS}/${NAME}\\)`));
  });

  Deno.test(`a source without the file says so to who marks that, and sends the record: ${form}`, async () => {
    const scene = sourceScene();
    scene.disk.remove(`${SOURCE_BLOBS}/${NAME}`);
    await using primary = await scene.startPrimary(SUPPLY);
    const { wire } = await attach(scene, hello({ capabilities, blobs: "content", missingBlobs: "mark" }));
    const { blobs, tids, last } = await receiveAll(wire);
    assert.deepEqual(blobs, [{ ...KEY, length: 2 ** 64, from: 0, content: new Uint8Array() }]);
    assert.deepEqual([tids.at(-1), last?.type], [TID + 2n, "complete"]);
    await primary.log.waitFor(/object 0x07 .*its file is missing.*the secondary marks it as missing/);
  });

  Deno.test(`a source whose file turns out to be unreadable says so in the next connection to who marks that: ${form}`, async () => {
    const scene = sourceScene();
    await using _primary = await scene.startPrimary(SUPPLY);
    const marking = hello({ capabilities, blobs: "content", missingBlobs: "mark" });
    const receive = async () => await receiveAll((await attach(scene, marking)).wire);
    scene.disk.fail({ operation: "read", path: NAME });
    assert.match(`${(await receive()).last?.reason}`, /its file cannot be read/);
    assert.deepEqual((await receive()).blobs.map(({ length }) => length), [CONTENT.length], "it can again");
    scene.disk.fail({ operation: "read", path: NAME, lasting: true });
    assert.match(`${(await receive()).last?.reason}`, /its file cannot be read/);
    const { blobs, last } = await receive();
    assert.deepEqual(blobs.map(({ length }) => length), [2 ** 64]);
    assert.equal(last?.type, "complete");
  });

  for (const blobs of ["presence", "nothing"]) {
    Deno.test(`a source with blobs sends no contents to who wants ${blobs}: ${form}`, async () => {
      const scene = sourceScene();
      await using _primary = await scene.startPrimary(SUPPLY);
      const { wire } = await attach(scene, hello({ capabilities, blobs }));
      const all = await receiveAll(wire);
      assert.deepEqual([all.blobs, all.last?.type], [[], "complete"]);
    });
  }
}

Deno.test("a source with blobs ends the stream at the first for who says nothing of blobs", async () => {
  const scene = sourceScene();
  await using _primary = await scene.startPrimary(SUPPLY);
  const { wire } = await attach(scene);
  const { tids, last } = await receiveAll(wire);
  assert.deepEqual(tids, [TID]);
  assert.match(`${last?.reason}`, /it is a blob, and the secondary takes none/);
});

Deno.test("a source that has left out the blobs' files serves nobody who wants them", async () => {
  const scene = sourceScene();
  await using _primary = await scene.startPrimary({ blobs: "none" });
  for (const blobs of ["content", "presence", null]) {
    const wire = await scene.connectNative();
    await wire.sendMessage(hello({ blobs }));
    const { code, reason } = await wire.receiveMessage("refused");
    assert.equal(code, "blobs");
    assert.match(`${reason}`, /--blobs none/);
  }
});

Deno.test("by zrs2, too, it serves a secondary that wants none, and in words refuses any other", async () => {
  const scene = sourceScene();
  await using _primary = await scene.startPrimary({ blobs: "none" });
  const options = { path: COPY, replicateFrom: HERE, protocol: "zrs2", retryMaxMs: 60_000 } as const;
  {
    scene.disk.addDirectory(COPY_BLOBS);
    await using wanting = await startSecondary(
      { ...options, blobs: "replicate", blobDir: COPY_BLOBS },
      scene,
    );
    await wanting.log.waitFor(/the records of blobs and not their files \(--blobs none\)/);
    assert.equal(wanting.lastTid, 0n);
  }
  await using secondary = await startSecondary({ ...options, blobs: "none" }, scene);
  await secondary.waitForTid(TID + 2n);
  assert.equal(secondary.node.status().source?.protocol, "zrs2.0");
});

/** A secondary that has the first transaction, and so much of the blob when the connection ends, waits to come again. */
async function interrupted(scene: Scene, primary: ScriptedPrimary, cut: number): Promise<number> {
  const { wire, hello } = await welcomed(primary);
  assert.equal(hello.blobs, "content");
  await wire.send(wire.writer.run({ bytes: bytesOf(FILE, 0), tid: TID, count: 1 }));
  await wire.receiveDurable(TID);
  await wire.send(wire.writer.blob({ ...KEY, content: CONTENT.subarray(0, cut), length: CONTENT.length }));
  wire.close();
  return await scene.clock.waitForTimer(1, 1_000);
}

async function sendRest(wire: NativeWire, from: number): Promise<void> {
  const { writer } = wire;
  await wire.send(
    writer.blob({ ...KEY, content: CONTENT, from, frameBytes: 50 }),
    writer.run({ bytes: bytesOf(FILE, 1, 2), tid: TID + 2n, count: 2 }),
  );
  const { bytes, checksum } = await wire.receiveDurable(TID + 2n);
  assert.deepEqual([bytes, checksum], [writer.sum.bytes, writer.sum.value]);
}

function assertCopied({ disk }: Scene): void {
  assertSameBytes(disk.bytes(COPY), FILE.bytes);
  assertSameBytes(disk.bytes(`${COPY_BLOBS}/${NAME}`), CONTENT);
  assert.equal(disk.status(`${COPY_BLOBS}/${NAME}`)!.mode, 0o444);
  assert.deepEqual(disk.list(`${COPY_BLOBS}/tmp`), []);
}

for (const isRestarted of [false, true]) {
  const when = isRestarted ? ", also by a process started anew" : "";
  Deno.test(`a blob that broke off behind any byte is gone on with from there${when}`, async () => {
    for (let cut = 1; cut <= CONTENT.length; cut += isRestarted ? 13 : 1) {
      const scene = new Scene();
      using primary = await scene.listen();
      let secondary = await scene.startSecondary({ ...TAKING, buffers: BUFFERS });
      try {
        const waitsMs = await interrupted(scene, primary, cut);
        if (isRestarted) {
          await secondary.stop();
          secondary = await scene.startSecondary({ ...TAKING, buffers: BUFFERS });
        } else {
          scene.clock.advance(waitsMs);
        }
        const { wire, hello } = await welcomed(primary);
        const [told] = hello.begunBlobs as ReturnType<typeof begun>[];
        assert.deepEqual(told, begun(told!.bytes));
        assert(told!.bytes > cut - 64, "all but what came last");
        assert.equal(secondary.lastTid, TID, "what has come in part does not count");
        assert.equal(scene.disk.status(`${COPY_BLOBS}/${NAME}`), undefined);
        await sendRest(wire, told!.bytes);
        assertCopied(scene);
      } finally {
        await secondary.stop();
      }
    }
  });
}

Deno.test("a large transaction with a blob goes on in its middle, and the blob is still there", async () => {
  const large = dataFs([
    FIRST,
    { tid: BLOB_TID, records: [{ oid: OID, data: BLOB }, { oid: 0n, data: "0".repeat(500) }] },
  ]);
  const scene = new Scene();
  using primary = await scene.listen();
  await using _secondary = await scene.startSecondary({ ...TAKING, buffers: { ...BUFFERS, runBytes: 200 } });
  const { wire } = await welcomed(primary);
  await wire.send(wire.writer.run({ bytes: bytesOf(large, 0), tid: TID, count: 1 }));
  await wire.receiveDurable(TID);
  const bytes = bytesOf(large, 1);
  await wire.send(wire.writer.blob({ ...KEY, content: CONTENT }), content(bytes.subarray(0, 400)));
  wire.close();
  scene.clock.advance(await scene.clock.waitForTimer(1, 1_000));
  const again = await primary.acceptNative();
  const hello = await again.receiveMessage("hello");
  const resumeAt = (hello.begun as { bytes: number }).bytes;
  await again.sendMessage(welcome({ resumeAt }));
  await again.send(again.writer.run({ bytes: bytes.subarray(resumeAt), tid: BLOB_TID, count: 1 }));
  await again.receiveDurable(BLOB_TID);
  assertSameBytes(scene.disk.bytes(COPY), large.bytes);
  assertSameBytes(scene.disk.bytes(`${COPY_BLOBS}/${NAME}`), CONTENT);
});

Deno.test("a blob that the source begins anew is taken anew", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using _secondary = await scene.startSecondary({ ...TAKING, buffers: BUFFERS });
  scene.clock.advance(await interrupted(scene, primary, 200));
  const { wire } = await welcomed(primary);
  await sendRest(wire, 0);
  assertCopied(scene);
});

Deno.test("what was left of blobs is taken away once their transactions are here", async () => {
  const scene = new Scene();
  scene.disk.put(`${COPY_BLOBS}/.layout`, latin1("bushy"));
  const stale = `${COPY_BLOBS}/tmp/zrs-0000000000000009-${tidText(TID)}.part`;
  scene.disk.put(stale, CONTENT);
  scene.disk.put(COPY, FILE.bytes);
  await using _secondary = await scene.startSecondary(TAKING);
  assert.equal(scene.disk.status(stale), undefined);
});

/** What a source may do to a secondary that has the first transaction, and what the secondary says then. */
const LIES: readonly { what: string; send: (wire: NativeWire) => Uint8Array[]; says: RegExp }[] = [
  {
    what: "sends a blob's record without its content, as it lies",
    send: ({ writer }) => [writer.run({ bytes: bytesOf(FILE, 1), tid: BLOB_TID, count: 1 })],
    says: /object 0x07 .*the source has sent the record without the content/,
  },
  {
    what: "sends a blob's record without its content, record by record",
    send: ({ writer }) => [writer.transaction({ tid: BLOB_TID, records: [{ oid: OID, data: BLOB }] })],
    says: /object 0x07 .*the source has sent the record without the content/,
  },
  {
    what: "sends the content of another transaction's blob",
    send: ({ writer }) => [
      writer.blob({ oid: OID, tid: TID, content: CONTENT }),
      writer.run({ bytes: bytesOf(FILE, 1), tid: BLOB_TID, count: 1 }),
    ],
    says: /object 0x07 .*the source has sent the record without the content/,
  },
  {
    what: "says that there is no file to who marks nothing",
    send: ({ writer }) => [
      writer.blob({ ...KEY, content: new Uint8Array(), length: 0xffff_ffff_ffff_ffffn }),
      writer.run({ bytes: bytesOf(FILE, 1), tid: BLOB_TID, count: 1 }),
    ],
    says: /Cannot take blob 0x07 .*the source has no file for it/,
  },
  {
    what: "goes on behind what nobody has",
    send: ({ writer }) => [writer.blob({ ...KEY, content: CONTENT, from: 100 })],
    says: /goes on behind 100 bytes, this end has 0/,
  },
  {
    what: "sends more than it said",
    send: ({ writer }) => [writer.blob({ ...KEY, content: CONTENT, length: 200 })],
    says: /the blob has only 200 bytes more/,
  },
  {
    what: "says that more of it is left out than there is",
    send: ({ writer }) => [writer.blob({ ...KEY, content: CONTENT, from: 300, length: 200 })],
    says: /kind "B" cannot stand here/,
  },
];

for (const { what, send, says } of LIES) {
  Deno.test(`nothing counts of what a source sends that ${what}`, async () => {
    const scene = new Scene();
    using primary = await scene.listen();
    await using secondary = await scene.startSecondary(TAKING);
    const { wire } = await welcomed(primary);
    await wire.send(wire.writer.run({ bytes: bytesOf(FILE, 0), tid: TID, count: 1 }));
    await wire.receiveDurable(TID);
    await wire.send(...send(wire)).catch(() => {}); // the secondary may hang up before all of it is sent
    await secondary.log.waitFor(says);
    assert.equal(secondary.lastTid, TID);
    scene.clock.advance(await scene.clock.waitForTimer(1, 1_000));
    const again = await welcomed(primary);
    await sendRest(
      again.wire,
      (again.hello.begunBlobs as { oid: string; tid: string; bytes: number }[])
        .find(({ tid }) => tid === tidText(BLOB_TID))?.bytes ?? 0,
    );
    assertSameBytes(scene.disk.bytes(COPY), FILE.bytes);
  });
}

Deno.test("a secondary that takes no blobs refuses their contents", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ blobs: "none", protocol: "native" });
  const { wire, hello } = await welcomed(primary);
  assert.equal(hello.blobs, "nothing");
  await wire.send(wire.writer.blob({ ...KEY, content: CONTENT }));
  await secondary.log.waitFor(/Cannot take blob: it was not asked for/);
});

Deno.test("a secondary that shares the source's directory looks for each blob there, and copies none", async () => {
  const scene = new Scene();
  scene.disk.put(`${COPY_BLOBS}/.layout`, latin1("bushy"));
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({
    blobs: "shared",
    blobDir: COPY_BLOBS,
    protocol: "native",
  });
  const { wire, hello } = await welcomed(primary);
  assert.equal(hello.blobs, "presence");
  await wire.send(wire.writer.run({ bytes: bytesOf(FILE, 0, 1), tid: BLOB_TID, count: 2 }));
  await secondary.log.waitFor(new RegExp(`object 0x07 .*there is no file ${COPY_BLOBS}/${NAME}`));
  assert.equal(secondary.lastTid, TID);
  scene.disk.put(`${COPY_BLOBS}/${NAME}`, CONTENT);
  scene.clock.advance(await scene.clock.waitForTimer(1, 1_000));
  const again = await welcomed(primary);
  await again.wire.send(again.wire.writer.run({ bytes: bytesOf(FILE, 1, 2), tid: TID + 2n, count: 2 }));
  await secondary.waitForTid(TID + 2n);
  assert.deepEqual(scene.disk.paths().filter((path) => path.startsWith(COPY_BLOBS)), [
    `${COPY_BLOBS}/.layout`,
    `${COPY_BLOBS}/${NAME}`,
  ]);
});

Deno.test("a disk that runs full in the middle of a blob is waited for", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ ...TAKING, buffers: BUFFERS });
  const { wire } = await welcomed(primary);
  await wire.send(wire.writer.run({ bytes: bytesOf(FILE, 0), tid: TID, count: 1 }));
  await wire.receiveDurable(TID);
  scene.disk.fail({ operation: "write", path: ".part", nth: 2, error: "full", written: 10 });
  const sent = sendRest(wire, 0);
  await secondary.log.waitFor(/the disk is full; the replica stands still/);
  scene.clock.advance(5_000);
  await sent;
  assertCopied(scene);
});

Deno.test("the digest of what was begun is no part of a hello without blobs", async () => {
  const scene = new Scene();
  scene.disk.put(COPY, dataFs([FIRST]).bytes);
  using primary = await scene.listen();
  await using _secondary = await scene.startSecondary({ protocol: "native" });
  const { hello } = await welcomed(primary);
  assert.deepEqual([hello.digest, hello.blobs, hello.begunBlobs], [digestOf(FIRST), undefined, undefined]);
});
