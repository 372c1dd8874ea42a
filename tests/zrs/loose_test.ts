/** Messages in other forms than today's ends write: from Python 2, in other protocols, with a memo. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { ProtocolError, RefusedError } from "../../lib/errors.ts";
import { encodeRefusal } from "../../lib/zrs/mod.ts";
import { bytesOf, hex, latin1 } from "../kit/hex.ts";
import { concatenate, decodePieces } from "./kit.ts";
import heads from "../fixtures/pickle/heads.json" with { type: "json" };

const TID = "03f5945817777778";
const TID_BYTES = "\x03\xf5\x94X\x17wwx";

function framed(body: Uint8Array): Uint8Array {
  const message = new Uint8Array(4 + body.length);
  new DataView(message.buffer).setUint32(0, body.length);
  message.set(body, 4);
  return message;
}

/** These messages as a stream, with a commit written by `commitOf` from the digest so far. */
function streamOf(bodies: readonly Uint8Array[], commitOf: (digest: string) => string): Uint8Array {
  const chain = createHash("md5").update(new Uint8Array(8));
  for (const body of bodies) chain.update(body);
  const digest = String.fromCharCode(...chain.digest());
  return concatenate([...bodies, latin1(commitOf(digest))].map(framed));
}

/** As Python 2 writes them: every str as U or T. */
const PYTHON2 = {
  transaction: (extension: string) =>
    latin1(`(U\x01T(U\x08${TID_BYTES}U\x01 U\x00U\x19initial database creation${extension}tt.`),
  commit: (digest: string) => `(U\x01C(U\x10${digest}tt.`,
};

Deno.test("the messages of a primary on Python 2 are read", () => {
  const stream = streamOf([
    PYTHON2.transaction("}"),
    latin1(`(U\x01S(U\x08\0\0\0\0\0\0\0\x80U\x08${TID_BYTES}U\x00Ntt.`),
    latin1("data"),
    latin1(`(U\x01B(U\x08ABCDEFGHU\x08${TID_BYTES}U\x00U\x08${TID_BYTES}L2L\ntt.`),
    latin1("blob"),
    latin1("1"),
    latin1("23"),
  ], PYTHON2.commit);
  const description = hex(latin1("initial database creation"));
  assert.deepEqual(decodePieces(0n, [stream]), [
    `transaction ${TID.slice(1)} ' ' ,${description}, kept`,
    `record 80 ${TID.slice(1)} undefined 4 bytes, undefined blocks`,
    `data ${hex(latin1("data"))} blob `,
    `record 4142434445464748 ${TID.slice(1)} ${TID.slice(1)} 4 bytes, 2 blocks`,
    `data ${hex(latin1("blob"))} blob ${hex(latin1("123"))}`,
    "commit",
  ]);
});

Deno.test("an extension from Python 2 is stored so that Python 3 reads the same in it", () => {
  const stream = streamOf(
    [PYTHON2.transaction("}(U\x01kU\x01\xe9U\x01lX\x02\0\0\0\xc3\xa9u")],
    PYTHON2.commit,
  );
  const stored = latin1(
    "\x80\x03}q\0(X\x01\0\0\0kq\x01C\x01\xe9q\x02X\x01\0\0\0lq\x03X\x02\0\0\0\xc3\xa9q\x04u.",
  );
  assert.ok(decodePieces(0n, [stream])[0]!.endsWith(`,${hex(stored)} kept`));
});

Deno.test("messages in every pickle protocol, with a memo, are read", () => {
  for (let protocol = 0; protocol <= 5; protocol++) {
    const head = (kind: keyof typeof heads) => bytesOf(heads[kind][protocol]!);
    const stream = streamOf([
      head("T"),
      head("S"),
      latin1("one"),
      head("undo"),
      latin1(""),
    ], PYTHON2.commit);
    const events = decodePieces(0n, [stream]);
    const extension = hex(latin1("\x80\x03}q\0X\x01\0\0\0kq\x01K\x01h\x01\x86q\x02s."));
    assert.ok(
      events[0]!.startsWith(`transaction ${TID.slice(1)} 'p' ${hex(latin1("bob"))},6ec3a9,${extension}`),
      `protocol ${protocol}: ${events[0]}`,
    );
    assert.deepEqual(events.slice(1), [
      `record 81 ${TID.slice(1)} undefined 3 bytes, undefined blocks`,
      `data ${hex(latin1("one"))} blob `,
      `record 41 ${TID.slice(1)} ${TID.slice(1)} 0 bytes, undefined blocks`,
      "data  blob ",
      "commit",
    ], `protocol ${protocol}`);
  }
});

/** T with this in place of the extension, and how it is written into the file. */
const SPANS: Readonly<Record<string, readonly [text: string, stored: string, note: string]>> = {
  "an extension spliced by a primary like ours": [
    "\x80\x03}q\0K\x01K\x02s",
    "\x80\x03}q\0K\x01K\x02s.",
    "kept",
  ],
  "an object that only Python could make": ["}K\x01ca\nB\n)Rs", "}K\x01ca\nB\n)Rs.", "kept"],
  "an object that refers to what came before it": ["}K\x01(h\x05ca\nB\n)Rts", "", "fails"],
  "a value that refers to what came before it": [
    "}K\x01h\x05s",
    "\x80\x03}q\0K\x01X\x01\0\0\0 q\x01s.",
    "rewritten",
  ],
};

Deno.test("an extension is taken out of its message if it can stand alone, and else written anew", () => {
  for (const [what, [span, stored, note]] of Object.entries(SPANS)) {
    // The status is remembered as number 5, so that the usual form does not fit.
    const message = latin1(`(X\x01\0\0\0T(U\x08${TID_BYTES}X\x01\0\0\0 q\x05U\0U\0${span}tt.`);
    const decode = () => decodePieces(0n, [streamOf([message], PYTHON2.commit)])[0]!;
    if (note === "fails") assert.throws(decode, ProtocolError, what);
    else assert.ok(decode().endsWith(`,${hex(latin1(stored))} ${note}`), `${what}: ${decode()}`);
  }
});

Deno.test("an extension in a message of protocol 4 is stored in protocol 3, which ZODB can read", () => {
  // Number 0 is the kind, number 1 the tid, as MEMOIZE counts.
  const spans = { "}\x94\x8c\x01k\x94h\x01s": "rewritten", "}\x8c\x01kh\x01s": "rewritten" };
  const stored = latin1(`\x80\x03}q\0X\x01\0\0\0kq\x01C\x08${TID_BYTES}q\x02s.`);
  for (const [span, note] of Object.entries(spans)) {
    const message = latin1(
      `\x80\x04\x8c\x01T\x94(C\x08${TID_BYTES}\x94\x8c\x01 \x94C\0\x94C\0\x94${span}t\x86.`,
    );
    const [event] = decodePieces(0n, [streamOf([message], PYTHON2.commit)]);
    assert.ok(event!.endsWith(`,${hex(stored)} ${note}`), event);
  }
});

Deno.test("a refusal in place of a transaction is told in the primary's words", () => {
  assert.equal(
    hex(encodeRefusal("no such tid")),
    hex(framed(latin1("(X\x14\0\0\0refused: no such tid)t."))),
  );
  const forms = [encodeRefusal("no such tid"), ...heads.refusal.map((pickle) => framed(bytesOf(pickle)))];
  for (const refusal of forms) {
    assert.throws(
      () => decodePieces(0n, [refusal]),
      (error) => error instanceof RefusedError && /no such tid$/.test(error.message),
    );
  }
});
