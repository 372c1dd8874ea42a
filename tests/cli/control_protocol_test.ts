/** The language of the control socket: lines however they are cut, and an answer to whatever is said. */
import assert from "node:assert/strict";
import { answerTo, type Handlers, LineDecoder, refusal } from "../../lib/cli/control/control_protocol.ts";
import { ProtocolError, UsageError } from "../../lib/errors.ts";
import { CollectedLog } from "../kit/collected_log.ts";

const encoder = new TextEncoder();

/** All lines of a text that comes in pieces of so many bytes. */
function linesIn(bytes: Uint8Array, pieceBytes: number, limit: number): string[] {
  const decoder = new LineDecoder(limit);
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    decoder.push(bytes.subarray(at, at + pieceBytes));
    for (let line = decoder.next(); line !== undefined; line = decoder.next()) lines.push(line);
  }
  return lines;
}

Deno.test("lines are the same however the bytes are cut", () => {
  const lines = ["", "one", "zweite – ü", "x".repeat(1_000), "y".repeat(50), "z".repeat(5_000), "", "{}"];
  const bytes = encoder.encode(lines.map((line) => `${line}\n`).join("") + "not whole");
  for (const pieceBytes of [1, 2, 3, 7, 1_000, 1_024, 4_096, bytes.length]) {
    assert.deepEqual(linesIn(bytes, pieceBytes, 5_000), lines, `pieces of ${pieceBytes}`);
  }
});

Deno.test("a line beyond the limit is refused, whole or not, and one at the limit is taken", () => {
  const tooLong = { name: "ProtocolError", message: "Cannot take a line of more than 10 bytes" };
  assert.deepEqual(linesIn(encoder.encode(`${"x".repeat(10)}\n${"y".repeat(10)}\n`), 3, 10), [
    "x".repeat(10),
    "y".repeat(10),
  ]);
  for (const text of [`${"x".repeat(11)}\n`, "x".repeat(11), `ok\n${"x".repeat(11)}`]) {
    for (const pieceBytes of [1, 100]) {
      assert.throws(() => linesIn(encoder.encode(text), pieceBytes, 10), tooLong);
    }
  }
});

Deno.test("a line that is not UTF-8 is refused", () => {
  const bytes = new Uint8Array([0x22, 0xff, 0xfe, 0x22, 0x0a]);
  assert.throws(() => linesIn(bytes, 1, 100), /not UTF-8/);
});

async function say(line: string, handlers: Handlers, log = new CollectedLog()) {
  const { line: bytes, last } = await answerTo(line, handlers, log);
  const text = new TextDecoder().decode(bytes);
  assert.equal(text.indexOf("\n"), text.length - 1, "an answer is one line");
  assert.equal(last, false);
  return JSON.parse(text);
}

Deno.test("a known request is answered by its handler, which sees all of it", async () => {
  const handlers: Handlers = {
    echo: (request) => ({ got: request }),
    later: () => Promise.resolve({ n: 1 }),
  };
  assert.deepEqual(await say(`{"request":"echo","x":[1]}`, handlers), { got: { request: "echo", x: [1] } });
  assert.deepEqual(await say(`{"request":"later"}`, handlers), { n: 1 });
});

Deno.test("an unknown request is answered with what is known, and what all objects have is not known", async () => {
  const handlers: Handlers = { status: () => ({}), other: () => ({}) };
  for (const name of [`"promote"`, `"toString"`, `"__proto__"`, `""`, "7", "null", `["status"]`]) {
    const answer = await say(`{"request":${name}}`, handlers);
    assert.deepEqual(answer, { error: `Unknown request ${name}; known here: status, other` });
  }
  assert.deepEqual(await say("{}", handlers), {
    error: "Unknown request without a name; known here: status, other",
  });
});

Deno.test("a failure is answered in words, with what can be done; a bug is logged, and not told", async () => {
  const log = new CollectedLog();
  const bug = new TypeError("secret of the implementation");
  const handlers: Handlers = {
    usage: () => {
      throw new UsageError("Cannot do that", { hint: "do this" });
    },
    bug: () => Promise.reject(bug),
  };
  assert.deepEqual(await say(`{"request":"usage"}`, handlers, log), {
    error: "Cannot do that",
    hint: "do this",
    exitCode: 2,
  });
  assert.deepEqual(log.complaints(), []);
  const { error, exitCode } = await say(`{"request":"bug"}`, handlers, log);
  assert.match(error, /a bug of ours/);
  assert.equal(exitCode, 70);
  assert(!error.includes("secret"));
  assert.deepEqual(log.lines.items.map(({ level, facts }) => [level, facts["error"]]), [["error", bug]]);
});

Deno.test("what is no JSON object ends the conversation, with a reason", async () => {
  for (const line of ["", "GET / HTTP/1.1", "{", "7", "null", "[]", `"status"`, `{"request":"status"} x`]) {
    const error: unknown = await answerTo(line, { status: () => ({}) }, new CollectedLog()).catch((e) => e);
    assert(error instanceof ProtocolError, line);
    const answer = refusal(error);
    assert.equal(answer.last, true);
    assert.match(JSON.parse(new TextDecoder().decode(answer.line)).error, /^Cannot take a line that is not/);
  }
  assert.throws(() => refusal(new TypeError("a bug")), TypeError);
});
