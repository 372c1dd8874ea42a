import assert from "node:assert/strict";
import { ProtocolError } from "../../lib/errors.ts";
import { encodeGreeting, GreetingDecoder, KEEP_ALIVE } from "../../lib/zrs/mod.ts";
import { bytesOf, hex, latin1 } from "../kit/hex.ts";
import { concatenate } from "./kit.ts";

const TID = 0x03f5945817777777n;

Deno.test("a secondary says its version and its tid", () => {
  assert.equal(
    hex(encodeGreeting("zrs2.1", TID)),
    `00000006${hex(latin1("zrs2.1"))}0000000803f5945817777777`,
  );
  assert.equal(hex(KEEP_ALIVE), "00000000");
});

Deno.test("a greeting is understood however it is cut, with keep-alives behind it", () => {
  for (const version of ["zrs2.0", "zrs2.1"] as const) {
    const said = concatenate([encodeGreeting(version, TID), KEEP_ALIVE, KEEP_ALIVE]);
    for (let at = 0; at <= said.length; at++) {
      const decoder = new GreetingDecoder();
      decoder.push(said.subarray(0, at));
      assert.equal(decoder.greeting === undefined, at < 22);
      decoder.push(said, at, said.length);
      assert.deepEqual(decoder.greeting, { version, startTid: TID });
      assert.equal(decoder.keepAlives, 2);
    }
  }
});

const greeting = (...parts: (string | Uint8Array)[]) =>
  concatenate(parts.map((part) => typeof part === "string" ? latin1(part) : part));

const REFUSED: readonly (readonly [what: string, bytes: Uint8Array, reason: RegExp])[] = [
  ["HTTP", greeting("GET / HTTP/1.1\r\n"), /at most 8 bytes.*looks like an HTTP request/],
  ["HTTP/2", greeting("PRI * HTTP/2.0\r\n"), /looks like an HTTP request/],
  ["TLS", bytesOf("16030102000100"), /looks like a TLS connection: both ends must use TLS, or neither/],
  ["HAProxy", greeting("PROXY TCP4 192.0.2.1"), /looks like a PROXY protocol header/],
  ["no framing", greeting("zrs2.1"), /looks like a greeting without its length/],
  ["4 GiB", bytesOf("ffffffff"), /at most 8 bytes, current value is 4294967295$/],
  [
    "an older version",
    greeting("\0\0\0\x06zrs1.0"),
    /must be "zrs2.0" or "zrs2.1", current value is "zrs1.0"/,
  ],
  ["a newline", greeting("\0\0\0\x07zrs2.1\n"), /current value is "zrs2.1\\n"/],
  ["capitals", greeting("\0\0\0\x06ZRS2.1"), /current value is "ZRS2.1"/],
  ["nothing", KEEP_ALIVE, /current value is ""/],
  [
    "a keep-alive before the tid",
    greeting("\0\0\0\x06zrs2.1", KEEP_ALIVE),
    /start tid: its length must be 8 bytes, current value is 0/,
  ],
  [
    "a long tid",
    greeting("\0\0\0\x06zrs2.1\0\0\0\x09"),
    /start tid: its length must be 8 bytes, current value is 9/,
  ],
  [
    "words after the tid",
    greeting(encodeGreeting("zrs2.0", 0n), "\0\0\0\x01"),
    /behind the greeting: its length must be at most 0/,
  ],
];

Deno.test("what no secondary says is refused in words", () => {
  for (const [what, bytes, reason] of REFUSED) {
    assert.throws(
      () => new GreetingDecoder().push(bytes),
      (error) => error instanceof ProtocolError && reason.test(error.message),
      what,
    );
  }
});
