/** What no node of ours sends. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { zstdCompressSync } from "node:zlib";
import { ProtocolError } from "../../lib/errors.ts";
import { NativeDecoder, protocolOf } from "../../lib/native/mod.ts";
import { bytesOf, latin1 } from "../kit/hex.ts";
import {
  compressed,
  content,
  control,
  frame,
  hello,
  LONGEST_CONTENT,
  NativeWriter,
  welcome,
} from "../kit/native_wire.ts";
import { join } from "../kit/zrs_wire.ts";
import { decodePieces, Recorder } from "./kit.ts";

const TID = 0x03f5_9458_1777_7777n;
const HEAD = new NativeWriter().transaction({ tid: TID, records: [] }).subarray(0, -9);
const RECORD = join(HEAD, frame("R", new Uint8Array(31), bytesOf("03")));
/** A control message as it is written here. */
const CONTROL = (text: string) => frame("{", text.slice(1));

/** A length in 4 bytes. */
function prefix(length: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, length);
  return bytes;
}

const REFUSED: readonly (readonly [what: string, stream: Uint8Array, reason: RegExp])[] = [
  ["an HTTP server", latin1("HTTP/1.1 400 Bad Request\r\n"), /looks like the answer of an HTTP server/],
  [
    "a TLS alert",
    bytesOf("15030300020228"),
    /looks like a TLS connection: both ends must use TLS, or neither/,
  ],
  ["an SSH server", latin1("SSH-2.0-OpenSSH_9.2p1\r\n"), /looks like an SSH connection/],
  ["a length of 4 GiB", prefix(0xffff_ffff), /at most 1048581 bytes, current value is 4294967295/],
  ["a length one too large", prefix(1_048_582), /at most 1048581 bytes/],
  ["an empty frame", prefix(0), /it is empty/],
  ["content of one byte too many", join(prefix(1_048_578), latin1("D")), /kind "D" cannot stand here/],
  ["a control message of one byte too many", join(prefix(65_537), latin1("{")), /at most 65536 bytes/],
  ["an unknown kind", frame("Q"), /kind "Q" cannot stand here/],
  ["a kind that is no letter", join(prefix(1), new Uint8Array(1)), /kind byte 0 cannot stand here/],
  ["the end of no run", frame("W", new Uint8Array(24)), /kind "W" cannot stand here \(between\)/],
  ["a record of no transaction", frame("R", new Uint8Array(32)), /kind "R" cannot stand here/],
  ["the end of no transaction", frame("C", new Uint8Array(4)), /kind "C" cannot stand here/],
  ["a transaction in a run", join(content("x"), HEAD), /kind "T" cannot stand here \(raw\)/],
  ["a transaction in a transaction", join(HEAD, HEAD), /kind "T" cannot stand here \(transaction\)/],
  [
    "an acknowledgement in a run",
    join(content("x"), frame("A", new Uint8Array(28))),
    /kind "A" cannot stand/,
  ],
  ["content of no record", join(HEAD, content("x")), /kind "D" cannot stand here/],
  ["more data than the record has", join(RECORD, content("xxxx")), /the record has only 3 bytes more/],
  [
    "a record before the data are whole",
    join(RECORD, content("x"), frame("R", new Uint8Array(32))),
    /\(data\)/,
  ],
  ["an end before the data are whole", join(RECORD, content("x"), frame("C", new Uint8Array(4))), /\(data\)/],
  [
    "data beyond any number",
    join(HEAD, frame("R", new Uint8Array(24), bytesOf("ffffffffffffffff"))),
    /"R" cannot/,
  ],
  ["a short head", frame("T", new Uint8Array(14)), /kind "T" cannot stand here/],
  [
    "a head whose texts are too short",
    frame("T", new Uint8Array(8), " ", bytesOf("000100000000")),
    /"T" cannot/,
  ],
  ["a head with more behind its texts", frame("T", new Uint8Array(8), " ", new Uint8Array(7)), /"T" cannot/],
  ["a status of c", frame("T", new Uint8Array(8), "c", new Uint8Array(6)), /its status must be ' ' or 'p'/],
  ...[23, 25].map((length) =>
    [
      `an end of a run of ${length} bytes`,
      join(content("x"), frame("W", new Uint8Array(length))),
      /"W" cannot/,
    ] as const
  ),
  [
    "a run of another length",
    new NativeWriter().run({ bytes: latin1("x"), tid: TID, count: 1, length: 2 }),
    /it must have 2 bytes, and has 1/,
  ],
  [
    "a run with a wrong checksum",
    new NativeWriter().run({ bytes: latin1("x"), tid: TID, count: 1, checksum: 1 }),
    /its checksum is wrong/,
  ],
  [
    "a transaction with a wrong checksum",
    new NativeWriter().transaction({ tid: TID, records: [] }, 1),
    /checksum/,
  ],
  ["a brace alone", frame("{"), /it is not JSON/],
  ["no UTF-8", join(prefix(9), latin1('{"\xff":""} ')), /it is not JSON/],
  ["a deep message", CONTROL(`{"type":${"[".repeat(60_000)}`), /it is not JSON/],
  ["a message without a type", control({}), /its field type must be text/],
  ["a type that is inherited", CONTROL('{"__proto__":{"type":"beat"}}'), /its field type must be text/],
  ["a type that is no text", control({ type: 1 }), /its field type must be text/],
  [
    "what must be understood",
    control({ type: "teleport", mustUnderstand: true }),
    /Cannot understand message teleport: it comes from a later version/,
  ],
];

for (const [what, stream, reason] of REFUSED) {
  Deno.test(`a decoder refuses ${what}`, () => {
    const recorder = new Recorder();
    assert.throws(() => decodePieces([stream], recorder), (error) => {
      assert(error instanceof ProtocolError, `${error}`);
      assert.match(error.message, reason);
      return true;
    });
    assert.deepEqual(recorder.counted, []);
    const bytewise = Array.from(stream, (_, at) => stream.subarray(at, at + 1));
    assert.throws(() => decodePieces(bytewise), ProtocolError);
  });
}

Deno.test("a decoder refuses compressed content unless it was agreed on", () => {
  assert.throws(() => decodePieces([compressed("x")], new Recorder(), false), /kind "Z" cannot stand here/);
});

const BOMB = zstdCompressSync(new Uint8Array(64 * 1024 * 1024));
const COMPRESSED: readonly (readonly [what: string, stream: Uint8Array, reason: RegExp])[] = [
  ...[0, 1, 2, 3].map((length) =>
    [`content of ${length} bytes`, frame("Z", new Uint8Array(length)), /kind "Z" cannot stand here/] as const
  ),
  ["what is no zstd", frame("Z", prefix(5), "no zstd at all"), /cannot be decompressed/],
  ["a length of 4 GiB", frame("Z", prefix(0xffff_ffff), zstdCompressSync("x")), /at most 1048576 bytes/],
  ["64 MiB in few bytes", frame("Z", prefix(LONGEST_CONTENT), BOMB), /cannot be decompressed/],
  ["64 MiB said to be nothing", frame("Z", prefix(0), BOMB), /cannot be decompressed/],
  ["less than was said", frame("Z", prefix(2), zstdCompressSync("x")), /it must have 2 bytes, and has 1/],
];

for (const [what, stream, reason] of COMPRESSED) {
  Deno.test(`a decoder that takes compressed content refuses ${what}`, () => {
    const decoder = new NativeDecoder({ compressed: true });
    assert.throws(() => decoder.push(stream, 0, stream.length, new Recorder()), (error) => {
      assert(error instanceof ProtocolError, `${error}`);
      assert.match(error.message, reason);
      return true;
    });
  });
}

Deno.test("a decoder stops behind compressed content, so that a chunk of it never becomes gigabytes at once", () => {
  const frames = Array.from({ length: 20 }, () => compressed(new Uint8Array(LONGEST_CONTENT)));
  const stream = join(...frames, content("x"), content("y"));
  const decoder = new NativeDecoder({ compressed: true });
  const recorder = new Recorder();
  let at = 0;
  for (const { length } of frames) {
    const before = at;
    at = decoder.push(stream, at, stream.length, recorder);
    assert.equal(at - before, length);
    assert.equal(decoder.checksum.bytes % LONGEST_CONTENT, 0);
  }
  assert.equal(decoder.push(stream, at, stream.length, recorder), stream.length);
  assert.equal(decoder.checksum.bytes, 20 * LONGEST_CONTENT + 2);
});

Deno.test("a decoder ignores fields and messages that it does not know, deep ones too", () => {
  const expected = decodePieces([control(welcome())]).events;
  assert.equal(expected.length, 1);
  const deep = `${"[".repeat(30_000)}${"]".repeat(30_000)}`;
  const more = JSON.stringify(welcome()).replace(
    /}$/,
    `,"__proto__":{"notice":"x"},"constructor":1,"more":${deep}}`,
  );
  const unknown = [
    control({ type: "teleport", to: "the moon" }),
    control({ type: "toString" }),
    control({ type: "__proto__" }),
    CONTROL(`{"type":"deep","deep":${deep}}`),
  ];
  assert.deepEqual(decodePieces([...unknown, CONTROL(more), ...unknown]).events, expected);
});

/** All of the wrong type, or out of range, for a number, a tid, text or a list. */
const ABSURD = [
  "null",
  "true",
  "-1",
  "1.5",
  "1e400",
  "9007199254740992",
  `1${"0".repeat(5_000)}`,
  "[]",
  "{}",
  '"x"',
  "[1]",
];
const MESSAGES = [
  hello({ digest: "0".repeat(32) }),
  welcome({ notice: "n", packedTo: "0".repeat(16) }),
  { type: "refused", code: "busy", reason: "r", commonTid: "0".repeat(16) },
  { type: "beat", lastTid: "0".repeat(16), end: 4, time: 1 },
  { type: "complete", lastTid: "0".repeat(16), end: 4 },
  { type: "bye", code: "again", reason: "r", packedTo: "0".repeat(16) },
];
/** Where the absurd is as good as anything. */
const FITTING: Record<string, readonly string[]> = {
  software: ['"x"'],
  code: ['"x"'],
  reason: ['"x"'],
  notice: ['"x"', "null"],
  digest: ["null"],
  commonTid: ["null"],
  packedTo: ["null"],
  capabilities: ["[]"],
  required: ["[]"],
  time: ["-1", "1.5", "9007199254740992", ABSURD[6]!].filter((each) => Number.isFinite(Number(each))),
};
const OPTIONAL = ["notice", "digest", "commonTid", "packedTo"];

Deno.test("a decoder refuses every message in which a field is missing or makes no sense", () => {
  for (const message of MESSAGES) {
    assert.equal(decodePieces([control(message)]).events.length, 1, message.type);
    for (const name of Object.keys(message).filter((name) => name !== "type")) {
      const { [name]: _, ...rest } = message as Record<string, unknown>;
      const json = (value: string) => `${JSON.stringify(rest).slice(0, -1)},"${name}":${value}}`;
      if (!OPTIONAL.includes(name)) {
        assert.throws(() => decodePieces([control(rest)]), new RegExp(`field ${name} must be`));
      }
      for (const value of ABSURD) {
        if (FITTING[name]?.includes(value)) continue;
        assert.throws(
          () => decodePieces([CONTROL(json(value))]),
          (error) =>
            error instanceof ProtocolError && new RegExp(`field ${name} must be`).test(error.message),
          `${message.type}.${name}: ${value.slice(0, 30)}`,
        );
      }
    }
  }
});

Deno.test("words from a peer come without characters that would change a log", () => {
  const [event] =
    decodePieces([control({ type: "bye", code: "again", reason: `a\nb\x1b[2J${"x".repeat(9_000)}` })]).events;
  const { reason } = JSON.parse(event!);
  assert.match(reason, /^a\?b\?\[2Jx+$/);
  assert.equal(reason.length, 1_000);
});

const anyFrame = fc.tuple(fc.constantFrom(..."{DZWTRCA"), fc.uint8Array({ maxLength: 60 }))
  .map(([kind, body]) => frame(kind, body));

Deno.test("no bytes whatever make a decoder throw anything but a ProtocolError", () => {
  const push = (stream: Uint8Array, compressed: boolean) => {
    try {
      decodePieces([stream], new Recorder(), compressed);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), push), { numRuns: 2_000 });
  const frames = fc.array(anyFrame, { maxLength: 6 }).map((frames) => join(...frames));
  fc.assert(fc.property(frames, fc.boolean(), push), { numRuns: 5_000 });
});

Deno.test("no control message whatever makes a decoder throw anything but a ProtocolError", () => {
  const type = fc.constantFrom(...MESSAGES.map(({ type }) => type), "ask", "answer", "other");
  const message = fc.tuple(
    type,
    fc.dictionary(fc.constantFrom(...Object.keys(MESSAGES[0]!), "code"), fc.jsonValue()),
  );
  fc.assert(
    fc.property(message, ([type, fields]) => {
      try {
        decodePieces([control({ ...fields, type })]);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
      }
    }),
    { numRuns: 2_000 },
  );
});

Deno.test("the first five bytes tell which protocol a secondary speaks", () => {
  const told = (hex: string) => protocolOf(bytesOf(hex));
  assert.equal(told(""), undefined);
  assert.equal(told("00000009"), undefined);
  assert.equal(told("000000097b"), "native");
  assert.equal(told("000100007b"), "native");
  assert.equal(told("000100017b"), "zrs2");
  assert.equal(told("00000008"), "zrs2");
  assert.equal(told("000000067a"), "zrs2");
  assert.equal(told("000000097a"), "zrs2");
  assert.equal(told("ffffffff"), "zrs2");
});
