import assert from "node:assert/strict";
import { isBlobRecord } from "../../lib/zodb/mod.ts";

/** Records as ZODB makes them: the class's pickle, then None's. Written by Python's pickle of each protocol. */
const BLOBS: readonly string[] = [
  "cZODB.blob\nBlob\np0\n.N.",
  "cZODB.blob\nBlob\nq\x00.N.",
  "\x80\x02cZODB.blob\nBlob\nq\x00.\x80\x02N.",
  "\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.",
  "\x80\x03cZODB.blob\nBlob\n.\x80\x03N.",
  "\x80\x03cZODB.blob\nBlob\nr\x00\x01\x00\x00.\x80\x03N.",
  "\x80\x04\x95\x17\x00\x00\x00\x00\x00\x00\x00\x8c\tZODB.blob\x94\x8c\x04Blob\x94\x93\x94.\x80\x04N.",
  "\x80\x04\x8c\tZODB.blob\x8c\x04Blob\x93.\x80\x04N.",
];

const OTHERS: readonly string[] = [
  "",
  "\x80",
  "\x80\x03",
  "N.",
  "\x80\x03cZODB.blob\nBlob", // cut off
  "\x80\x03cZODB.blob\nBlobby\nq\x00.\x80\x03N.",
  "\x80\x03cZODB.blob\nBlob\nq\x00N\x86q\x01.\x80\x03N.", // (class, None)
  "\x80\x03cmy.ZODB.blob\nBlob\nq\x00.\x80\x03N.",
  "\x80\x03cpersistent.mapping\nPersistentMapping\nq\x00.\x80\x03}.",
  "\x80\x04\x8c\tZODB.blob\x8c\x04Blob\x93)\x81.\x80\x04N.", // an instance
  "\x80\x03cZODB.blob\nBlob\np",
];

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

Deno.test("a blob's record is told by its class, whatever the pickle's protocol and memo", () => {
  for (const text of BLOBS) {
    const bytes = bytesOf(text);
    assert.equal(isBlobRecord(bytes, 0, bytes.length), true, JSON.stringify(text));
    const within = bytesOf(`xyz${text}${"z".repeat(80)}`);
    assert.equal(isBlobRecord(within, 3, within.length), true, JSON.stringify(text));
  }
});

Deno.test("nothing else is taken for a blob's record", () => {
  for (const text of OTHERS) {
    const bytes = bytesOf(text);
    assert.equal(isBlobRecord(bytes, 0, bytes.length), false, JSON.stringify(text));
  }
  for (const text of BLOBS) {
    const whole = bytesOf(text);
    const stop = text.indexOf(".", text.indexOf("Blob")); // the class's own STOP
    for (let end = 0; end <= stop; end++) {
      assert.equal(isBlobRecord(whole, 0, end), false, `${JSON.stringify(text)} cut at ${end}`);
    }
  }
});
