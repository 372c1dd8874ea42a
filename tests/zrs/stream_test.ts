import assert from "node:assert/strict";
import fc from "fast-check";
import { ProtocolError } from "../../lib/errors.ts";
import {
  MAX_TRANSACTION_MESSAGE,
  StreamDecoder,
  StreamEncoder,
  transactionMessageRoom,
} from "../../lib/zrs/mod.ts";
import { bytesOf, hex, latin1 } from "../kit/hex.ts";
import {
  concatenate,
  decodePieces,
  encodeStream,
  expectedEvents,
  Recorder,
  type SampleTransaction,
} from "./kit.ts";
import extensions from "../fixtures/pickle/extensions.json" with { type: "json" };

/** One transaction as a real primary sent it: T, S, data, C (docs/zrs_protocol.md, "Test vector"). */
const VECTOR = [
  `2858010000005428635f636f646563730a656e636f64650a28580900000003c3b000000000000158060000006c6174696e31745258010000002063
   5f5f6275696c74696e5f5f0a62797465730a2952635f636f646563730a656e636f64650a2858050000006ec383c2a958060000006c6174696e317452
   7d58010000006b4b017374742e`,
  `2858010000005328635f636f646563730a656e636f64650a285808000000000000000000000158060000006c6174696e317452635f636f6465
   63730a656e636f64650a28580900000003c3b000000000000158060000006c6174696e31745258000000004e74742e`,
  "80034e2e80034e2e",
  `2858010000004328635f636f646563730a656e636f64650a285815000000c3a5c2a6183104020943105fc2b9c3b24f52c2941c58060000006c61
   74696e31745274742e`,
].map(bytesOf);

/** The extension that ZODB stores for `{'k': 1}`. */
const EXTENSION = bytesOf("80037d710058010000006b71014b01732e");

const SAMPLE: SampleTransaction = {
  tid: 0x03f0000000000001n,
  description: new TextEncoder().encode("né"),
  extension: bytesOf("7d58010000006b4b01732e"), // without PROTO, so that it is spliced as a real primary writes it
  records: [{ oid: 1n, data: bytesOf("80034e2e80034e2e") }],
};

function framed(bodies: readonly Uint8Array[]): Uint8Array {
  return concatenate(bodies.flatMap((body) => {
    const prefix = new Uint8Array(4);
    new DataView(prefix.buffer).setUint32(0, body.length);
    return [prefix, body];
  }));
}

Deno.test("a transaction is written as a real primary writes it", () => {
  assert.deepEqual(VECTOR.map(({ length }) => length), [132, 104, 8, 67]);
  assert.equal(hex(encodeStream(0n, [SAMPLE])), hex(framed(VECTOR)));
});

Deno.test("a transaction from a real primary is read, its extension in the form that ZODB stores", () => {
  const events = decodePieces(0n, [framed(VECTOR)]);
  assert.deepEqual(events, expectedEvents([{ ...SAMPLE, extension: EXTENSION }]));
});

Deno.test("hundreds of transaction messages from a real primary are read in its own form", () => {
  const objects = /uuid|dict within|ordered dict|default dict|class|bytearrays/;
  for (const { name, sent, kept } of extensions) {
    const [event] = decodePieces(0n, [framed([bytesOf(sent)])]);
    if (!objects.test(name)) assert.ok(event?.endsWith(` ,,${kept} kept`), name);
    else assert.match(event!, / kept$/, name);
  }
});

Deno.test("every start tid has a digest of its own", () => {
  assert.throws(() => decodePieces(1n, [framed(VECTOR)]), {
    name: "ProtocolError",
    message: /its digest is wrong/,
  });
  const later = { ...SAMPLE, tid: 0x03f0000000000002n };
  const both = encodeStream(0n, [SAMPLE, later]);
  const second = encodeStream(SAMPLE.tid, [later]);
  assert.notEqual(hex(both.subarray(both.length - second.length)), hex(second));
  assert.equal(decodePieces(SAMPLE.tid, [second]).at(-1), "commit");
});

const eightBytes = fc.oneof(fc.bigInt(0n, 1000n), fc.bigInt(0n, 0xffff_ffff_ffff_ffffn));
const bytes = (maxLength: number) => fc.uint8Array({ maxLength });
const extension = fc.constantFrom(
  "",
  "80037d71002e",
  hex(EXTENSION),
  "80037d71004b018a090000000000000000ff732e",
)
  .map(bytesOf);

const record = fc.record({
  oid: eightBytes,
  tid: fc.option(eightBytes, { nil: undefined, freq: 3 }),
  dataTxn: fc.option(eightBytes, { nil: undefined, freq: 2 }),
  data: bytes(60),
  blob: fc.option(
    fc.oneof(bytes(20), fc.constantFrom(65_535, 65_536, 70_000).map((n) => new Uint8Array(n).fill(7))),
    {
      nil: undefined,
      freq: 5,
    },
  ),
});

const transactions: fc.Arbitrary<SampleTransaction[]> = fc.array(
  fc.record({
    step: fc.bigInt(1n, 1n << 40n),
    status: fc.constantFrom(0x20, 0x70),
    user: bytes(20),
    description: bytes(20),
    extension,
    records: fc.array(record, { maxLength: 5 }),
  }),
  { maxLength: 4 },
).map((drafts) => {
  let tid = 0x03f5945800000000n;
  return drafts.map(({ step, ...draft }) => ({ ...draft, tid: tid += step }));
});

function cut(stream: Uint8Array, places: readonly number[]): Uint8Array[] {
  const ends = [...new Set(places.map((place) => place % (stream.length + 1)))].sort((a, b) => a - b);
  return [...ends, stream.length].map((end, i) => stream.subarray(i === 0 ? 0 : ends[i - 1], end));
}

Deno.test("decoding undoes encoding, whatever the buffers and however the stream is cut", () => {
  fc.assert(
    fc.property(
      transactions,
      fc.nat(300),
      fc.array(fc.nat(1_000_000), { maxLength: 12 }),
      (sample, buffer, places) => {
        const stream = encodeStream(0n, sample, buffer + 1);
        assert.deepEqual(decodePieces(0n, cut(stream, places)), expectedEvents(sample));
      },
    ),
    { numRuns: 200 },
  );
});

const SMALL: readonly SampleTransaction[] = [
  {
    ...SAMPLE,
    extension: EXTENSION,
    records: [{ oid: 0xff80n, dataTxn: 5n, data: bytesOf("ff00") }, { oid: 1n, data: bytesOf("") }],
  },
  {
    tid: 0x03f0000000000080n,
    status: 0x70,
    records: [{ oid: 2n, data: bytesOf("01"), blob: bytesOf("02") }],
  },
  { tid: 0x03f0000000000081n, records: [{ oid: 2n, data: bytesOf("01"), blob: bytesOf("") }] },
  { tid: 0x03f0000000000082n, records: [] },
];

Deno.test("StreamDecoder tells the same wherever a stream is cut in two", () => {
  const stream = encodeStream(0n, SMALL);
  for (let at = 0; at <= stream.length; at++) {
    assert.deepEqual(
      decodePieces(0n, [stream.subarray(0, at), stream.subarray(at)]),
      expectedEvents(SMALL),
      `at ${at}`,
    );
  }
});

Deno.test("StreamDecoder tells the same of a stream that comes byte by byte", () => {
  const stream = encodeStream(0n, SMALL);
  const single = Array.from(stream, (_, at) => stream.subarray(at, at + 1));
  assert.deepEqual(decodePieces(0n, single), expectedEvents(SMALL));
});

Deno.test("StreamDecoder knows the last transaction committed, and whether it stands between two", () => {
  const stream = encodeStream(0n, SMALL);
  const decoder = new StreamDecoder(0n);
  const recorder = new Recorder();
  const committedAt: bigint[] = [];
  for (let at = 0; at < stream.length; at++) {
    assert.equal(
      decoder.idle,
      at === 0 || recorder.events.at(-1) === "commit" && committedAt.at(-1) === BigInt(at),
    );
    decoder.push(stream, at, at + 1, recorder);
    const commits = recorder.events.filter((event) => event === "commit").length;
    if (commits > committedAt.length) committedAt.push(BigInt(at + 1));
    assert.equal(decoder.lastTid, commits === 0 ? 0n : SMALL[commits - 1]!.tid);
  }
  assert.equal(committedAt.length, SMALL.length);
  assert.ok(decoder.idle);
});

Deno.test("any byte of a stream that is changed is found before the commit", () => {
  const stream = encodeStream(0n, SMALL.slice(0, 1));
  const untouched = expectedEvents(SMALL.slice(0, 1)).join();
  for (let at = 0; at < stream.length; at++) {
    for (const change of [1, 0x80, 0xff]) {
      const damaged = stream.slice();
      damaged[at]! ^= change;
      let events: string[] = [];
      try {
        events = decodePieces(0n, [damaged]);
      } catch (error) {
        assert.ok(error instanceof ProtocolError, `byte ${at}: ${error}`);
        continue;
      }
      // Without an error the stream must still be waiting for more: a length was changed.
      assert.equal(events.at(-1), "not idle", `byte ${at}`);
      assert.ok(!events.includes("commit") || events.join().startsWith(untouched), `byte ${at}`);
    }
  }
});

Deno.test("the longest messages fit into the room that was asked for", () => {
  const full = (length: number) => new Uint8Array(length).fill(0xff);
  const most = 0xffff_ffff_ffff_ffffn;
  const record = { oid: most, tid: most, dataTxn: most, data: full(3) };
  // A dict of Python 2 strings, of which each byte travels as 38.
  const extension = concatenate([
    latin1("}("),
    ...Array.from({ length: 1300 }, () => latin1("U\x01\xffN")),
    latin1("u."),
  ]);
  const sample = {
    tid: most,
    status: 0x20,
    user: full(65_535),
    description: full(65_535),
    extension,
    records: [record, { ...record, blob: full(300 * 65_536) }, { ...record, blob: full(0) }, record],
  };
  const stream = encodeStream(0n, [sample], 1 << 20);
  assert.ok(transactionMessageRoom(sample) <= MAX_TRANSACTION_MESSAGE);
  const decoder = new StreamDecoder(0n);
  const told: string[] = [];
  const noted = (name: string) => () => void told.push(name);
  decoder.push(stream, 0, stream.length, {
    transaction: (head) =>
      told.push(`${head.user.length} ${head.description.length} ${head.extension.length > 0}`),
    record: (...[, , , , , blocks]) => told.push(`${blocks} blocks`),
    data: () => {},
    blobBlock: () => {},
    recordEnd: noted("end"),
    commit: noted("commit"),
  });
  assert.deepEqual(told, [
    "65535 65535 true",
    ...["undefined blocks", "end", "300 blocks", "end", "1 blocks", "end", "undefined blocks", "end"],
    "commit",
  ]);
});

Deno.test("a transaction or record that is left unfinished is a bug that StreamEncoder does not cover up", () => {
  const encoder = new StreamEncoder(0n);
  const fields = new Uint8Array(16);
  encoder.attach(new Uint8Array(MAX_TRANSACTION_MESSAGE));
  const empty = new Uint8Array(0);
  const head = { tid: 1n, status: 0x20, user: empty, description: empty, extension: empty };
  assert.throws(() => encoder.commit(), /no transaction is open/);
  assert.throws(() => encoder.record(fields, 0, 8, null, 0, 1), /no transaction is open/);
  encoder.transaction(head);
  assert.throws(() => encoder.transaction(head), /still open/);
  encoder.record(fields, 0, 8, null, 0, 2);
  assert.throws(() => encoder.commit(), /data is missing/);
  assert.throws(() => encoder.data(fields, 0, 3), /more data than the record has/);
  encoder.data(fields, 0, 2);
  encoder.attach(new Uint8Array(10));
  assert.throws(() => encoder.commit(), /no room/);
});
