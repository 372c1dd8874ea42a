/** What no primary sends. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { ProtocolError, RefusedError } from "../../lib/errors.ts";
import { StreamDecoder } from "../../lib/zrs/mod.ts";
import { bytesOf, latin1 } from "../kit/hex.ts";
import { concatenate, decodePieces, encodeStream, Recorder, type SampleTransaction } from "./kit.ts";

const TID = 0x03f0000000000001n;
const RECORD = { oid: 1n, data: bytesOf("80034e2e80034e2e") };
const SAMPLE: SampleTransaction = {
  tid: TID,
  extension: bytesOf("80037d71004b014b02732e"),
  records: [RECORD, { oid: 2n, data: bytesOf("01"), blob: bytesOf("0203") }],
};

function framed(body: string): Uint8Array {
  const prefix = new Uint8Array(4);
  new DataView(prefix.buffer).setUint32(0, body.length);
  return concatenate([prefix, latin1(body)]);
}

/** T in the usual form. */
function transaction(
  fields: { tid?: string; status?: string; user?: string; extension?: string } = {},
): Uint8Array {
  const { tid = "abcdefgh", status = "X\x01\0\0\0 ", user = "U\0", extension = "}" } = fields;
  return framed(`(X\x01\0\0\0T(U${String.fromCharCode(tid.length)}${tid}${status}${user}U\0${extension}tt.`);
}

function record(fields: { oid?: string; version?: string; dataTxn?: string } = {}): Uint8Array {
  const { oid = "U\x08ABCDEFGH", version = "X\0\0\0\0", dataTxn = "N" } = fields;
  return concatenate([transaction(), framed(`(X\x01\0\0\0S(${oid}U\x08abcdefgh${version}${dataTxn}tt.`)]);
}

const long = (length: number) =>
  `B${String.fromCharCode(length & 255, length >> 8 & 255, length >> 16, 0)}${"u".repeat(length)}`;

const REFUSED: readonly (readonly [what: string, stream: Uint8Array, reason: RegExp])[] = [
  [
    "an HTTP server",
    latin1("HTTP/1.1 400 Bad Request\r\n"),
    /16777216 bytes.*looks like the answer of an HTTP server/,
  ],
  [
    "a TLS alert",
    bytesOf("15030300020228"),
    /looks like a TLS connection: both ends must use TLS, or neither/,
  ],
  ["an SSH server", latin1("SSH-2.0-OpenSSH_9.2p1\r\n"), /looks like an SSH connection/],
  ["a ZEO server", framed("M5"), /looks like a ZEO server/],
  ["a ZEO server of old", framed("Z309"), /looks like a ZEO server/],
  ["4 GiB before anything", bytesOf("ffffffff"), /at most 16777216 bytes, current value is 4294967295/],
  ["an empty message", framed(""), /current value is empty/],
  ["random bytes", framed("no pickle at all"), /Cannot read message/],
  ["bytes behind the pickle", framed("(U\x01T(tt.N"), /behind its end/],
  ["a number", framed("K\x01."), /its kind and its fields/],
  ["a transaction without fields", framed("(U\x01T(tt."), /must have 5 fields, current value is 0/],
  ["a record first", framed("(U\x01S(NNNNtt."), /kind must be T, current value is "S"/],
  ["a short tid", transaction({ tid: "abc" }), /tid must have 8 bytes, current value is 3/],
  ["a status of c", transaction({ status: "U\x01c" }), /status must be ' ' or 'p', current value is "c"/],
  ["a status of several characters", transaction({ status: "U\x02pp" }), /something else/],
  ["a status that is no text", transaction({ status: "N" }), /something else/],
  ["a user that is no text", transaction({ user: "N" }), /user must be bytes/],
  [
    "a user that is too long",
    transaction({ user: long(65_536) }),
    /user must be at most 65535 bytes, current value is 65536/,
  ],
  ["a persistent id for an extension", transaction({ extension: "Pid\n" }), /refers to what is not in it/],
  ["two extensions", transaction({ extension: "}}" }), /must have 5 fields, current value is 6/],
  [
    "an unknown message within a transaction",
    concatenate([transaction(), framed("(U\x01X(tt.")]),
    /kind must be S, B or C/,
  ],
  [
    "a transaction within a transaction",
    concatenate([transaction(), transaction()]),
    /kind must be S, B or C/,
  ],
  ["an empty message within a transaction", concatenate([transaction(), framed("")]), /Cannot read message/],
  [
    "a long head",
    concatenate([transaction(), bytesOf("00001001")]),
    /at most 4096 bytes, current value is 4097/,
  ],
  ["a version", record({ version: "U\x01v" }), /version must be empty/],
  ["a short oid", record({ oid: "U\x01A" }), /oid must have 8 bytes/],
  [
    "an oid of other characters",
    record({ oid: "X\x08\0\0\0\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9" }),
    /oid must be bytes/,
  ],
  ["a data_txn that is a number", record({ dataTxn: "K\x01" }), /data_txn must be bytes/],
  [
    "a negative count of blocks",
    concatenate([transaction(), framed("(U\x01B(U\x08ABCDEFGHU\x08abcdefghU\0NJ\xff\xff\xff\xfftt.")]),
    /count of its blocks/,
  ],
  [
    "a digest of other length",
    concatenate([transaction(), framed("(U\x01C(U\x01atT.".replace("T", "t"))]),
    /digest is wrong/,
  ],
  [
    "a wrong digest",
    concatenate([transaction(), framed(`(U\x01C(U\x10${"d".repeat(16)}tt.`)]),
    /digest is wrong/,
  ],
];

Deno.test("what no primary sends is refused in words", () => {
  for (const [what, stream, reason] of REFUSED) {
    assert.throws(
      () => decodePieces(0n, [stream]),
      (error) => error instanceof ProtocolError && reason.test(error.message),
      what,
    );
  }
});

Deno.test("a block of a blob may not be longer than real ends make them", () => {
  const stream = concatenate([
    transaction(),
    framed("(U\x01B(U\x08ABCDEFGHU\x08abcdefghU\0NK\x01tt."),
    framed("data"),
    bytesOf("00010001"),
  ]);
  assert.throws(() => decodePieces(0n, [stream]), /block of a blob: its length must be at most 65536 bytes/);
});

Deno.test("the length of data is limited only by the limit that was set", () => {
  const stream = concatenate([record(), bytesOf("ffffffff")]);
  assert.equal(
    decodePieces(0n, [stream]).at(-2),
    "record 4142434445464748 6162636465666768 undefined 4294967295 bytes, undefined blocks",
  );
  const decoder = new StreamDecoder(0n, { data: 1000 });
  assert.throws(
    () => decoder.push(stream, 0, stream.length, new Recorder()),
    /record data: its length must be at most 1000/,
  );
});

Deno.test("a transaction that is not later than the last is refused", () => {
  const again = encodeStream(0n, [SAMPLE, SAMPLE]);
  assert.throws(() => decodePieces(0n, [again]), (error) => {
    assert.ok(error instanceof ProtocolError);
    assert.match(error.message, /must be greater than the last, 03f0000000000001/);
    assert.equal(error.facts.tid, TID);
    return true;
  });
  assert.throws(() => decodePieces(TID, [encodeStream(TID, [SAMPLE])]), /must be greater/);
});

Deno.test("no bytes whatever make StreamDecoder fail with anything but ProtocolError", () => {
  const stream = encodeStream(0n, [SAMPLE, { ...SAMPLE, tid: TID + 1n }]);
  const lengths = [bytesOf("00000000"), bytesOf("00000005"), bytesOf("00000068")];
  const mutated = fc.array(fc.tuple(fc.nat(stream.length - 1), fc.nat(255)), { minLength: 1, maxLength: 5 })
    .map((changes) => {
      const bytes = stream.slice();
      for (const [at, value] of changes) bytes[at] = value;
      return bytes;
    });
  const spliced = fc.tuple(
    fc.nat(stream.length),
    fc.nat(stream.length),
    fc.nat(stream.length),
    fc.nat(stream.length),
  )
    .map(([a, b, c, d]) => concatenate([stream.subarray(0, a), stream.subarray(b, c), stream.subarray(d)]));
  const noise = fc.tuple(fc.constantFrom(...lengths), fc.uint8Array({ maxLength: 200 })).map(concatenate);
  fc.assert(
    fc.property(fc.oneof(mutated, spliced, noise), fc.nat(), (bytes, place) => {
      const at = place % (bytes.length + 1);
      try {
        const events = decodePieces(0n, [bytes.subarray(0, at), bytes.subarray(at)]);
        assert.ok(events.filter((event) => event === "commit").length <= 2);
      } catch (error) {
        assert.ok(error instanceof ProtocolError || error instanceof RefusedError, String(error));
      }
    }),
    { numRuns: 10_000 },
  );
});
