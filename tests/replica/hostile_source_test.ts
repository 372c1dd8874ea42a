/** Whatever a source sends, a secondary keeps what was whole, says what was wrong, and tries again. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { latin1 } from "../kit/hex.ts";
import { othersHaveRun } from "../kit/manual_clock.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { framed, join, messagesOf, type Wire, type WireTransaction } from "../kit/zrs_wire.ts";
import { COPY, Scene } from "./scene.ts";

const BLOB_RECORD = latin1("\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.");

const GOOD: WireTransaction = { tid: 0x036c_9000_0000_0001n, records: [{ oid: 0n, data: "good" }] };
const NEXT: WireTransaction = { tid: 0x036c_9000_0000_0002n, records: [{ oid: 1n, data: "next" }] };

/** A length of 4 GiB - 1. */
const LONGEST = new Uint8Array([0xff, 0xff, 0xff, 0xff]);

/** A reason in place of a message. */
function refusal(reason: string): Uint8Array {
  const words = latin1(`refused: ${reason}`);
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, words.length, true);
  return framed(join(latin1("(X"), length, words, latin1(")t.")));
}

/** All that is sent behind a good transaction, and what the log must say then. */
const ATTACKS: readonly {
  readonly what: string;
  readonly send: (wire: Wire) => Promise<void>;
  readonly says: RegExp;
}[] = [
  {
    what: "the answer of an HTTP server",
    send: (wire) => wire.send("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
    says: /looks like the answer of an HTTP server/,
  },
  { what: "a TLS alert", send: (wire) => wire.send(latin1("\x15\x03\x01\x00\x02\x02\x50")), says: /TLS/ },
  { what: "a ZEO greeting", send: (wire) => wire.send(framed("Z310")), says: /looks like a ZEO server/ },
  { what: "a message of 4 GiB", send: (wire) => wire.send(LONGEST), says: /at most 16777216 bytes/ },
  {
    what: "a head of 4 GiB within a transaction",
    send: async (wire) => {
      await wire.sendMessages(messagesOf(NEXT)[0]!);
      await wire.send(LONGEST);
    },
    says: /at most 4096 bytes/,
  },
  {
    what: "an empty message",
    send: (wire) => wire.sendMessages(new Uint8Array()),
    says: /current value is empty/,
  },
  {
    what: "bytes that are no pickle",
    send: (wire) => wire.send(framed("no pickle at all")),
    says: /Cannot read message/,
  },
  {
    what: "an unknown message",
    send: (wire) => wire.send(framed(latin1("(X\x01\0\0\0Z(tt."))),
    says: /its kind must be T, current value is "Z"/,
  },
  {
    what: "a record without a transaction",
    send: (wire) => wire.sendMessages(messagesOf(NEXT)[1]!),
    says: /its kind must be T, current value is "S"/,
  },
  {
    what: "a transaction within a transaction",
    send: (wire) => wire.sendMessages(messagesOf(NEXT)[0]!, messagesOf(NEXT)[0]!),
    says: /its kind must be S, B or C, current value is "T"/,
  },
  {
    what: "a wrong digest",
    send: async (wire) => {
      await wire.sendMessages(...messagesOf(NEXT));
      await wire.sendCommit(new Uint8Array(16));
    },
    says: /digest is wrong/,
  },
  {
    what: "a short digest",
    send: async (wire) => {
      await wire.sendMessages(...messagesOf(NEXT));
      await wire.sendCommit(new Uint8Array(15));
    },
    says: /digest is wrong/,
  },
  {
    what: "the same tid again",
    send: (wire) => wire.sendTransaction({ ...NEXT, tid: GOOD.tid }),
    says: /its tid must be greater than the last/,
  },
  {
    what: "a tid before the last",
    send: (wire) => wire.sendTransaction({ ...NEXT, tid: GOOD.tid - 1n }),
    says: /its tid must be greater than the last/,
  },
  ...["c", "u", "x", ""].map((status) => ({
    what: `the status ${JSON.stringify(status)}`,
    send: (wire: Wire) => wire.sendTransaction({ ...NEXT, status }),
    says: /its status must be ' ' or 'p'/,
  })),
  {
    what: "a record in a version",
    send: (wire) => wire.sendTransaction({ ...NEXT, records: [{ oid: 1n, data: "x", version: "v" }] }),
    says: /version must be empty/,
  },
  {
    what: "a user of 65,536 bytes",
    send: (wire) => wire.sendTransaction({ ...NEXT, user: "u".repeat(65_536) }),
    says: /its user must be at most 65535 bytes/,
  },
  {
    what: "a blob with its blocks",
    send: (wire) =>
      wire.sendTransaction({
        ...NEXT,
        records: [{ oid: 1n, data: BLOB_RECORD, blocks: [new Uint8Array(65_536), new Uint8Array(1)] }],
      }),
    says: /it is a blob, and there is no directory for blobs; give --blob-dir/,
  },
  {
    what: "a blob as a record",
    send: (wire) => wire.sendTransaction({ ...NEXT, records: [{ oid: 1n, data: BLOB_RECORD }] }),
    says: /it is a blob/,
  },
  {
    what: "a pickle that would be executed",
    send: (wire) => wire.sendMessages(latin1("cos\nsystem\n(X\x04\0\0\0exittR.")),
    says: /Cannot read message/,
  },
  {
    what: "the end",
    send: (wire) => Promise.resolve(wire.close()),
    says: /The source has closed the connection/,
  },
  {
    what: "half a length and the end",
    send: async (wire) => {
      await wire.send(new Uint8Array(2));
      wire.close();
    },
    says: /The source has closed the connection/,
  },
];

for (const { what, send, says } of ATTACKS) {
  Deno.test(`a secondary survives ${what} from its source`, async () => {
    const scene = new Scene();
    using primary = await scene.listen();
    await using secondary = await scene.startSecondary();
    const wire = await primary.accept();
    await wire.receiveGreeting();
    await wire.sendTransaction(GOOD);
    await secondary.waitForTid(GOOD.tid);
    const before = scene.disk.bytes(COPY);
    // The secondary may hang up before all of it is sent.
    await send(wire).catch(() => {});
    const { level } = await secondary.log.waitFor(says);
    assert.equal(level, "warning");

    scene.clock.advance(await scene.clock.waitForTimer(1, 1_000));
    const again = await primary.accept();
    assert.equal((await again.receiveGreeting()).tid, GOOD.tid);
    assertSameBytes(scene.disk.bytes(COPY), before);
    await again.sendTransaction(NEXT);
    await secondary.waitForTid(NEXT.tid);
    assert.deepEqual(scene.copied().map(({ tid }) => tid), [GOOD.tid, NEXT.tid]);
  });
}

for (
  const half of ["half a length", "half a head", "half of the data", "a transaction without its end"] as const
) {
  Deno.test(`a source that stops after ${half} is dropped, one that is silent between is not`, async () => {
    const scene = new Scene();
    using primary = await scene.listen();
    await using secondary = await scene.startSecondary({ peerTimeoutMs: 20_000, keepAliveMs: 0 });
    const wire = await primary.accept();
    await wire.receiveGreeting();
    await wire.sendTransaction(GOOD);
    await secondary.waitForTid(GOOD.tid);
    scene.clock.advance(24 * 3_600_000); // nothing happens in a day

    const [head, record, data] = messagesOf(NEXT);
    if (half === "half a length") await wire.send(new Uint8Array(2));
    else if (half === "half a head") await wire.send(framed(head!).subarray(0, 20));
    else if (half === "half of the data") {
      await wire.send(framed(head!), framed(record!), framed(data!).subarray(0, 6));
    } else await wire.send(...[head!, record!, data!].map(framed));
    await scene.clock.waitForTimer(20_000);
    scene.clock.advance(20_000);
    await secondary.log.waitFor(/the source stopped in the middle of a transaction for 20 s/);
    await wire.receiveEnd();
    scene.clock.advance(await scene.clock.waitForTimer(1, 1_000));
    assert.equal((await (await primary.accept()).receiveGreeting()).tid, GOOD.tid);
  });
}

Deno.test("data of 4 GiB that is announced and never comes takes no memory and leaves nothing", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({
    peerTimeoutMs: 20_000,
    buffers: { readBytes: 4_096, runBytes: 16_384, sendBytes: 4_096 },
  });
  const wire = await primary.accept();
  await wire.receiveGreeting();
  await wire.sendTransaction(GOOD);
  await secondary.waitForTid(GOOD.tid);
  const before = scene.disk.bytes(COPY);
  await wire.sendMessages(...messagesOf(NEXT).slice(0, 2));
  await wire.send(LONGEST, new Uint8Array(300_000));
  // What comes is put aside, behind a header that does not count; the time begins anew with each piece of it.
  const dropped = secondary.log.waitFor(/stopped in the middle of a transaction/);
  let largest = 0;
  for (let left = true; left;) {
    left = await Promise.race([dropped.then(() => false), scene.clock.waitForTimer(20_000).then(() => true)]);
    await othersHaveRun();
    largest = Math.max(largest, scene.disk.bytes(COPY).length);
    if (left) scene.clock.advance(20_000);
  }
  assert.ok(largest > before.length + 200_000 && largest < before.length + 300_100, `${largest}`);
  await scene.clock.waitForTimer(1, 1_000);
  assertSameBytes(scene.disk.bytes(COPY), before);
});

Deno.test("with --blobs none the records of blobs are kept, and their blocks passed over", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ blobs: "none" });
  await secondary.log.waitFor(/will have the records of blobs, not their files/);
  const wire = await primary.accept();
  await wire.receiveGreeting();
  await wire.sendTransaction({
    ...GOOD,
    records: [
      { oid: 1n, data: BLOB_RECORD, blocks: [new Uint8Array(65_536).fill(7), new Uint8Array(1)] },
      { oid: 2n, data: BLOB_RECORD, blocks: [] },
      { oid: 3n, data: BLOB_RECORD, blocks: [new Uint8Array()] },
      { oid: 4n, data: BLOB_RECORD },
      { oid: 5n, data: "no blob" },
    ],
  });
  await secondary.waitForTid(GOOD.tid);
  const data = scene.copied()[0]?.records.map((record) => record.data);
  assert.deepEqual(data, [BLOB_RECORD, BLOB_RECORD, BLOB_RECORD, BLOB_RECORD, latin1("no blob")]);
});

Deno.test("words of a refusal are logged, however long they are, and cannot pretend to be log lines", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ retryMaxMs: 30_000 });
  const wire = await primary.accept();
  await wire.receiveGreeting();
  await wire.send(refusal(`ahead: no\nERROR all is lost\x1b[31m ${"x".repeat(5_000)}`));
  const { level, message } = await secondary.log.waitFor(
    /refuses this replica: ahead: no\?ERROR all is lost\?\[31m x+/,
  );
  assert.equal(level, "error");
  assert.ok(message.length < 2_000);
  // Asking again soon would change nothing.
  await scene.clock.waitForTimer(15_000);
});

Deno.test("reasons that are no divergence are told as the source's own trouble", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ retryMaxMs: 30_000 });
  const wire = await primary.accept();
  await wire.receiveGreeting();
  await wire.sendTransaction(GOOD);
  await wire.sendMessages(...messagesOf(NEXT));
  await wire.send(refusal("it is beyond all repair"));
  const { message } = await secondary.log.waitFor(/cannot go on/);
  assert.match(message, /cannot go on behind 036c900000000001 .*: it is beyond all repair$/);
  await scene.clock.waitForTimer(15_000);
  assert.deepEqual(scene.copied().map(({ tid }) => tid), [GOOD.tid]);
});

Deno.test("a source that ends connections at the same tid again and again is told of, an idle one is not", async () => {
  for (const afterMs of [0, 3_600_000]) {
    const scene = new Scene();
    using primary = await scene.listen();
    await using secondary = await scene.startSecondary({ keepAliveMs: 0 });
    for (let i = 1; i <= 7; i++) {
      const wire = await primary.accept();
      await wire.receiveGreeting();
      scene.clock.advance(afterMs);
      wire.close();
      scene.clock.advance(await scene.clock.waitForTimer(1, 60_000));
    }
    const told = secondary.log.matching(/in a row without sending a transaction after nothing/);
    assert(!told.some((each) => each.includes("forked")), "an empty replica is behind everybody");
    assert.deepEqual(
      told.map((each) => /ended (\d+) connections/.exec(each)?.[1]),
      afterMs === 0 ? ["3", "6"] : [],
    );
  }
});

Deno.test("a source that sends blobs again and again is not said to know us not", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary();
  for (let i = 1; i <= 3; i++) {
    const wire = await primary.accept();
    await wire.receiveGreeting();
    await wire.sendTransaction({ ...NEXT, records: [{ oid: 1n, data: BLOB_RECORD }] }).catch(() => {});
    scene.clock.advance(await scene.clock.waitForTimer(1, 60_000));
  }
  assert.match(
    (await secondary.log.waitFor(/3 connections in a row/)).message,
    /What follows there cannot be taken/,
  );
});

Deno.test("a stream with any byte changed never changes what is stored", async () => {
  const transactions: WireTransaction[] = [
    {
      ...NEXT,
      user: "user",
      description: "déscription",
      records: [{ oid: 1n, data: "one" }, { oid: 2n, data: "" }],
    },
  ];
  const sent = join(...messagesOf(transactions[0]!).map(framed));
  await fc.assert(
    fc.asyncProperty(fc.nat(sent.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const scene = new Scene();
      using primary = await scene.listen();
      await using secondary = await scene.startSecondary();
      const wire = await primary.accept();
      await wire.receiveGreeting();
      await wire.sendTransaction(GOOD);
      await secondary.waitForTid(GOOD.tid);
      const before = scene.disk.bytes(COPY);
      const bytes = sent.slice();
      bytes[at]! ^= change;
      await wire.send(bytes).catch(() => {});
      await wire.sendCommit().catch(() => {}); // the digest of what was to be sent
      wire.close();
      await scene.clock.waitForTimer(1, 1_000);
      assertSameBytes(scene.disk.bytes(COPY), before);
    }),
    { numRuns: 150 },
  );
});
