import assert from "node:assert/strict";
import { decodePickle, extensionToSend, extensionToStore } from "../../lib/pickle/mod.ts";
import { bytesOf, hex, latin1 } from "../kit/hex.ts";
import extensions from "../fixtures/pickle/extensions.json" with { type: "json" };

const MAX = 65_535;

/** Where the extension stands in a T message without user and description: behind the two calls of `bytes`. */
function spanOf(message: Uint8Array): Uint8Array {
  const empty = latin1("c__builtin__\nbytes\n)R");
  const text = Array.from(message, (byte) => String.fromCharCode(byte)).join("");
  const from = text.indexOf(String.fromCharCode(...empty).repeat(2)) + 2 * empty.length;
  return message.subarray(from, message.length - 3);
}

const OBJECTS = ["uuid", "ordered dict", "default dict", "ordered dict within", "class", "bytearrays"];

Deno.test("an extension from a real primary is stored as a real secondary stores it", () => {
  for (const { name, sent, kept } of extensions) {
    if (OBJECTS.includes(name)) continue;
    const span = spanOf(bytesOf(sent));
    const { note, stored } = extensionToStore(span, 0, span.length, MAX);
    assert.equal(note, "kept", name);
    assert.equal(hex(stored), kept, name);
  }
});

Deno.test("objects from a real primary are stored as they came", () => {
  for (const { name, sent } of extensions.filter(({ name }) => OBJECTS.includes(name))) {
    const span = spanOf(bytesOf(sent));
    const { note, stored } = extensionToStore(span, 0, span.length, MAX);
    assert.equal(note, "kept", name);
    assert.equal(hex(stored), hex(span) + "2e", name);
  }
});

Deno.test("what ZODB stored is spliced, and a receiver like ours gets it back byte for byte", () => {
  for (const { name, stored } of extensions) {
    const extension = bytesOf(stored);
    const sent = extensionToSend(extension, 3 * MAX);
    if (["trailing junk", "value below", "mark below", "number", "list", "falsy"].includes(name)) continue;
    assert.equal(sent.carriage, "spliced", name);
    if (!stored.startsWith("80")) continue;
    const received = extensionToStore(sent.bytes, 0, sent.bytes.length, MAX);
    assert.equal(hex(received.stored), stored, name);
  }
});

/** Stored pickles that load alone but would wreck the message they are put into, and what travels instead. */
const TRAVELS: Readonly<Record<string, readonly [carriage: string, opcodes: string]>> = {
  "": ["spliced", "}"],
  "}.": ["spliced", "}"],
  "\x80\x03}q\x00X\x01\x00\x00\x00kK\x01s.": ["spliced", "\x80\x03}q\x00X\x01\x00\x00\x00kK\x01s"],
  "\x80\x03}q\x00.junk": ["spliced", "\x80\x03}q\x00"],
  "}q\x00X\x01\x00\x00\x00kh\x00s.": ["spliced", "}q\x00X\x01\x00\x00\x00kh\x00s"],
  "\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00}.": [
    "spliced",
    "\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00}",
  ],
  "ccollections\nOrderedDict\n)R.": ["spliced", "ccollections\nOrderedDict\n)R"],
  // More than one value, or an open MARK, would shift the message's own tuple.
  "K\x01}.": ["rewritten", "}"],
  "(}.": ["rewritten", "}"],
  "(K\x01}X\x01\x00\x00\x00kNs.": ["rewritten", "}X\x01\x00\x00\x00kNs"],
  // A frame that goes on behind the pickle's end.
  "\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00}.junk": ["rewritten", "}"],
  // Strings of Python 2 that Python 3 could not read.
  "}U\x01kU\x01\xe9q\x01s.": [
    "rewritten",
    "}U\x01kc_codecs\nencode\n(X\x02\x00\x00\x00\xc3\xa9X\x06\x00\x00\x00latin1tRq\x01s",
  ],
  "(dS'\\xe9'\np1\nNs.": [
    "rewritten",
    "(dc_codecs\nencode\n(X\x02\x00\x00\x00\xc3\xa9X\x06\x00\x00\x00latin1tRp1\nNs",
  ],
  "K\x01}X\x01\x00\x00\x00k\x96\x01\x00\x00\x00\x00\x00\x00\x00as.": [
    "rewritten",
    "}X\x01\x00\x00\x00kc__builtin__\nbytearray\n(c_codecs\nencode\n(X\x01\x00\x00\x00aX\x06\x00\x00\x00latin1tRtRs",
  ],
  "N.": ["rewritten", "}"],
  // What no receiver could load, or would take for something else.
  "junk": ["left_out", "}"],
  "}": ["left_out", "}"],
  "\x80\x03}h\x00.": ["left_out", "}"],
  "}X\x01\x00\x00\x00kPid\ns.": ["left_out", "}"],
  "}X\x01\x00\x00\x00kNQs.": ["left_out", "}"],
  "}X\x01\x00\x00\x00k\x82\x01s.": ["left_out", "}"],
  "C\x01a.": ["left_out", "}"],
  "K\x05.": ["left_out", "}"],
  "}]Ns.": ["left_out", "}"],
  "K\x01}q\x00X\x01\x00\x00\x00kh\x00s.": ["left_out", "}"],
};

Deno.test("a stored extension travels only in a form that every receiver can load", () => {
  for (const [stored, [carriage, opcodes]] of Object.entries(TRAVELS)) {
    const sent = extensionToSend(latin1(stored), MAX);
    assert.equal(sent.carriage, carriage, JSON.stringify(stored));
    assert.equal(hex(sent.bytes), hex(latin1(opcodes)), JSON.stringify(stored));
  }
});

Deno.test("an extension that is nested too deep or would grow too long is left out", () => {
  const nested = latin1("}Nk".slice(0, 2) + "]".repeat(600) + "a".repeat(599) + "s.");
  decodePickle(nested);
  assert.equal(extensionToSend(nested, MAX).carriage, "left_out");
  const strings = latin1("}(" + Array.from({ length: 200 }, () => "U\x01\xe9N").join("") + "u.");
  assert.equal(extensionToSend(strings, 10_000).carriage, "rewritten");
  assert.equal(extensionToSend(strings, 5_000).carriage, "left_out");
});

Deno.test("an extension that has lost what it shared and so does not fit any more is declared", () => {
  const text = `X${String.fromCharCode(0, 0x40, 0, 0)}${"x".repeat(0x4000)}`;
  const span = latin1(
    "}(" + Array.from({ length: 5 }, (_, i) => `K${String.fromCharCode(i)}${text}`).join("") + "u",
  );
  assert.deepEqual(extensionToStore(span, 0, span.length, MAX), {
    note: "too long",
    stored: new Uint8Array(0),
  });
  const object = latin1("}K\x00ca\nB\n)Rs" + `K\x01${text}s`.repeat(5));
  assert.equal(extensionToStore(object, 0, object.length, MAX).note, "too long");
  const many = latin1("](" + "N".repeat(500_000) + "e");
  assert.equal(extensionToStore(many, 0, many.length, MAX).note, "too long");
});

Deno.test("falsy values are stored as nothing", () => {
  for (const span of ["}", "N", "K\x00", ")", "]", "I00\n", "X\x00\x00\x00\x00", "c__builtin__\nbytes\n)R"]) {
    assert.equal(extensionToStore(latin1(span), 0, span.length, MAX).stored.length, 0, span);
  }
});
