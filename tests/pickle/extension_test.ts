import assert from "node:assert/strict";
import { extensionToSend, extensionToStore } from "../../lib/pickle/mod.ts";
import { bytesOf, hex, latin1 } from "./kit.ts";
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
