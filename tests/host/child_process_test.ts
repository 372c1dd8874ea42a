/** Programs that we start: their input, output, complaints and end. */
import assert from "node:assert/strict";
import { UnavailableError, UsageError } from "../../lib/errors.ts";
import { systemHost } from "../../lib/host/mod.ts";
import type { ChildProcess } from "../../lib/ports/mod.ts";
import { beforeDeadline } from "../kit/feed.ts";

const { processes } = systemHost();

/** All that comes until the program closes its output. */
async function readAll(child: ChildProcess): Promise<string> {
  const into = new Uint8Array(1000);
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const count = await beforeDeadline("output", child.read(into));
    if (count === null) return text;
    text += decoder.decode(into.subarray(0, count), { stream: true });
  }
}

Deno.test("a program gets what is written, and what it writes is read in pieces of any size", async () => {
  using child = processes.spawn("head", ["-c", "200010"]);
  const written = new TextEncoder().encode("0123456789".repeat(20_001));
  const write = child.write(written);
  assert.equal(await readAll(child), "0123456789".repeat(20_001));
  await write;
  assert.equal(child.written, written.length);
  assert.deepEqual(await child.ended, { code: 0, signal: null });
});

Deno.test("arguments reach the program as they are", async () => {
  const args = ["-x", "a b", "'\"$(id)\n", ""];
  using child = processes.spawn("printf", ["[%s]", ...args]);
  assert.equal(await readAll(child), args.map((arg) => `[${arg}]`).join(""));
});

Deno.test("the last lines of what a program complains of are kept, and its end told", async () => {
  const script =
    `i=0; while [ $i -lt 50 ]; do echo "line $i" >&2; i=$((i+1)); done; printf 'no end' >&2; exit 7`;
  using child = processes.spawn("sh", ["-c", script]);
  assert.deepEqual(await beforeDeadline("the end", child.ended), { code: 7, signal: null });
  assert.deepEqual(child.complaints, [43, 44, 45, 46, 47, 48, 49].map((n) => `line ${n}`).concat("no end"));
});

Deno.test("a long line of complaint is kept whole, unless it is longer than any should be", async () => {
  const long = `head -c 1500000 /dev/zero | tr '\\0' x >&2; echo >&2; echo last >&2`;
  using well = processes.spawn("sh", ["-c", long]);
  await beforeDeadline("the end", well.ended);
  assert.deepEqual(well.complaints.map(({ length }) => length), [1_500_000, 4]);
  using endless = processes.spawn("sh", [
    "-c",
    "head -c 50000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo last >&2",
  ]);
  await beforeDeadline("the end", endless.ended);
  assert.deepEqual(endless.complaints, ["last"]);
});

Deno.test("the end is told also while another program holds standard error open", async () => {
  using child = processes.spawn("sh", ["-c", "sleep 1000 >/dev/null </dev/null & echo $! ; echo bad >&2"]);
  const other = Number(await readAll(child));
  try {
    assert.equal((await beforeDeadline("the end", child.ended)).code, 0);
    assert.deepEqual(child.complaints, ["bad"]);
  } finally {
    Deno.kill(other);
  }
});

Deno.test("a program that is killed ends, and whoever waits for it is told", async () => {
  using child = processes.spawn("cat", []);
  const waiting = child.read(new Uint8Array(1));
  child.kill();
  child.kill();
  await assert.rejects(beforeDeadline("the read's end", waiting), UnavailableError);
  await assert.rejects(child.write(new Uint8Array(1)), UnavailableError);
  assert.equal((await beforeDeadline("the end", child.ended)).signal, "SIGTERM");
});

Deno.test("a program whose input is closed ends as it does by itself", async () => {
  using child = processes.spawn("sh", ["-c", "cat; echo bye; exit 3"]);
  await child.write(new TextEncoder().encode("hi "));
  child.closeInput();
  child.closeInput();
  assert.equal(await readAll(child), "hi bye\n");
  assert.deepEqual(await child.ended, { code: 3, signal: null });
});

Deno.test("writing to a program that takes nothing any more fails", async () => {
  using child = processes.spawn("true", []);
  await beforeDeadline("the end", child.ended);
  await assert.rejects(
    beforeDeadline("the write's end", child.write(new Uint8Array(1_000_000))),
    UnavailableError,
  );
});

Deno.test("a program that is not there, or must not be run, is a mistake of the command line", () => {
  assert.throws(() => processes.spawn("no-such-program-here", []), (error) => {
    return error instanceof UsageError &&
      /Cannot run no-such-program-here: there is no such program/.test(error.message);
  });
  assert.throws(() => processes.spawn("/etc/passwd", []), UsageError);
});
