/** What a source sends is what a secondary hears, however it is cut; what is changed on the way does not count. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { ProtocolError } from "../../lib/errors.ts";
import { encodeAcknowledgement, NativeDecoder, NativeEncoder } from "../../lib/native/mod.ts";
import { dataFs } from "../kit/data_fs.ts";
import { bytesOf, hex } from "../kit/hex.ts";
import {
  acknowledgement,
  compressed,
  content,
  control,
  framesOf,
  type NativeEvent,
  NativeReader,
  NativeWriter,
} from "../kit/native_wire.ts";
import { join } from "../kit/zrs_wire.ts";
import { decodePieces, encodeSteps, Recorder, type Step } from "./kit.ts";

const DOCUMENT = Deno.readTextFileSync(new URL("../../docs/native_protocol.md", import.meta.url));
const TID = 0x03f5_9458_1777_7777n;
const FILE = dataFs([
  { tid: TID, user: "u", records: [{ oid: 1n, data: "one" }] },
  { tid: TID + 1n, status: "u", records: [{ oid: 1n, data: "cancelled" }] },
]).bytes.subarray(4);
const BEAT = { type: "beat", lastTid: "03f5945817777777", end: 4, time: 1_700_000_000_000 };

/** Both forms, by the naive writer. */
function sample(): Uint8Array {
  const writer = new NativeWriter();
  return join(
    control(BEAT),
    writer.run({ bytes: FILE, tid: TID, count: 2, frameBytes: 50 }),
    writer.transaction({
      tid: TID + 2n,
      status: "p",
      user: "né",
      description: "d",
      extension: "}",
      records: [{ oid: 1n, dataTid: TID, data: "one" }, { oid: 2n, data: "" }],
    }),
    control({ type: "complete", lastTid: "03f5945817777779", end: 300 }),
  );
}

/** The transaction of docs/native_protocol.md, "Runs". */
const EXAMPLE = `
    00000014 54 03f5945817777777 20 0001 0001 0002 75 64 7d2e
    00000021 52 0000000000000001 03f5945817777777 0000000000000000 0000000000000003
    00000004 44 6f6e65
    00000005 43 9b12d1f3
`;

Deno.test("a transaction goes over the wire as the document's example shows it", () => {
  const writer = new NativeWriter();
  const transaction = {
    tid: TID,
    user: "u",
    description: "d",
    extension: "}.",
    records: [{ oid: 1n, data: "one" }],
  };
  const naive = writer.transaction(transaction);
  const step: Step = {
    kind: "transaction",
    transaction: {
      tid: TID,
      status: " ",
      user: "u",
      description: "d",
      extension: bytesOf("7d2e"),
      records: [{ oid: 1n, data: bytesOf("6f6e65") }],
    },
  };
  const ours = encodeSteps(new NativeEncoder(), [step], 4096);
  assert.equal(hex(ours), hex(naive));
  assert.equal(hex(ours), EXAMPLE.replaceAll(/\s/g, ""));
  assert(DOCUMENT.includes(EXAMPLE));
  assert.equal(writer.sum.bytes, 20 + 33 + 3);
});

Deno.test("an acknowledgement has the layout of the document", () => {
  assert.equal(
    hex(encodeAcknowledgement({ received: TID + 1n, durable: TID, bytes: 57, checksum: 0xdead_beef })),
    hex(acknowledgement({ receivedTid: TID + 1n, durableTid: TID, bytes: 57, checksum: 0xdead_beef })),
  );
});

const bytes = (maxLength: number) => fc.uint8Array({ maxLength });
const text = fc.string({ maxLength: 20, unit: "grapheme-ascii" });
const PLAIN = { noNullPrototype: true };
const record = fc.record({
  oid: fc.bigInt(0n, 2n ** 64n - 1n),
  dataTid: fc.option(fc.bigInt(1n, 2n ** 64n - 1n), { nil: undefined }),
  data: bytes(3_000),
}, PLAIN);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constant("run" as const),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 10_000 }),
    tid: fc.bigInt(0n, 2n ** 64n - 1n),
    count: fc.nat(),
  }, PLAIN),
  fc.record({
    kind: fc.constant("transaction" as const),
    transaction: fc.record({
      tid: fc.bigInt(1n, 2n ** 64n - 1n),
      status: fc.constantFrom(" " as const, "p" as const),
      user: text,
      description: text,
      extension: bytes(300),
      records: fc.array(record, { maxLength: 4 }),
    }, PLAIN),
  }, PLAIN),
);

Deno.test("what our encoder writes a reader by the document reads back, whatever the buffers", () => {
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 6 }),
      fc.integer({ min: 1, max: 4_096 }),
      (steps, bufferBytes) => {
        const reader = new NativeReader();
        const events = framesOf(encodeSteps(new NativeEncoder(), steps, bufferBytes))
          .map((each) => reader.push(each))
          .filter((event) => event !== undefined);
        const expected = steps.map((step): NativeEvent => {
          if (step.kind === "run") return step;
          const { transaction } = step;
          const records = transaction.records.map((each) => ({
            ...each,
            tid: transaction.tid,
            dataTid: each.dataTid ?? 0n,
          }));
          return { kind: "transaction", transaction: { ...transaction, records } };
        });
        assert.deepEqual(events, expected);
      },
    ),
  );
});

Deno.test("content tells the same in few frames, in many, and compressed", () => {
  const told = (stream: Uint8Array) => decodePieces([stream]).counted;
  const whole = (frames: Uint8Array) => {
    const writer = new NativeWriter();
    const run = writer.run({ bytes: FILE, tid: TID, count: 2 });
    return join(frames, run.subarray(-29)); // W with its length
  };
  const expected = told(whole(content(FILE)));
  assert.equal(expected.length, 2);
  assert.deepEqual(told(whole(content(FILE, 1))), expected);
  assert.deepEqual(told(whole(join(compressed(FILE.subarray(0, 30)), content(FILE.subarray(30))))), expected);
});

Deno.test("a decoder tells the same however the stream is cut", () => {
  const stream = sample();
  const { counted, events } = decodePieces([stream]);
  assert.equal(counted.length, 10, "a beat; raw, whole; transaction, 2 records with data and end, commit");
  assert.equal(events.length, 1);
  for (let first = 0; first <= stream.length; first++) {
    const cut = decodePieces([stream.subarray(0, first), stream.subarray(first)]);
    assert.deepEqual([cut.counted, cut.events], [counted, events], `cut at ${first}`);
  }
  const single = decodePieces(Array.from(stream, (_, at) => stream.subarray(at, at + 1)));
  assert.deepEqual([single.counted, single.events], [counted, events]);
});

Deno.test("a decoder is idle exactly between two runs and two frames", () => {
  const stream = sample();
  const idle = [];
  const decoder = new NativeDecoder();
  for (let at = 0; at < stream.length; at++) {
    decoder.push(stream, at, at + 1, new Recorder());
    if (decoder.idle) idle.push(at + 1);
  }
  const writer = new NativeWriter();
  const beat = control(BEAT).length;
  const run = beat + writer.run({ bytes: FILE, tid: TID, count: 2, frameBytes: 50 }).length;
  const complete = control({ type: "complete", lastTid: "03f5945817777779", end: 300 }).length;
  assert.deepEqual(idle, [beat, run, stream.length - complete, stream.length]);
});

Deno.test("a byte that was changed on the way is found before anything of its run counts", () => {
  const writer = new NativeWriter();
  const run = writer.run({ bytes: FILE, tid: TID, count: 2, frameBytes: 50 });
  const transaction = writer.transaction({
    tid: TID + 2n,
    user: "né",
    records: [{ oid: 1n, dataTid: TID, data: "one" }, { oid: 2n, data: "" }],
  });
  const stream = join(run, transaction);
  const expected = decodePieces([stream]).counted;
  // What stands beside the checksum is compared with what has come (native_intake.ts) or only told.
  const isBeside = (at: number) =>
    at >= run.length - 24 && at < run.length - 4 && !(at >= run.length - 16 && at < run.length - 8);
  for (let at = 0; at < stream.length; at++) {
    for (const change of [0x01, 0x80, 0xff]) {
      const changed = stream.slice();
      changed[at]! ^= change;
      const recorder = new Recorder();
      let isFound = false;
      try {
        decodePieces([changed], recorder);
      } catch (error) {
        assert(error instanceof ProtocolError, `byte ${at}: ${error}`);
        isFound = true;
      }
      if (isBeside(at)) {
        assert.match(recorder.counted[1]!, /^whole /);
        assert.deepEqual(recorder.counted.toSpliced(1, 1), expected.toSpliced(1, 1));
        continue;
      }
      assert.deepEqual(recorder.counted, expected.slice(0, recorder.counted.length), `byte ${at}`);
      // A frame whose length grew waits for more; nothing of it has counted.
      assert(isFound || recorder.counted.length < expected.length, `byte ${at} was taken as ${changed[at]}`);
    }
  }
});
