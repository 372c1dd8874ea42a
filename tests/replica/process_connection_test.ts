/** A program as the other end of a connection: why it ends is told by what it complained of. */
import assert from "node:assert/strict";
import { UnavailableError } from "../../lib/errors.ts";
import type { ProcessEnd } from "../../lib/ports/mod.ts";
import { ProcessConnection } from "../../lib/replica/far/process_connection.ts";
import { ScriptedProcesses } from "../kit/scripted_processes.ts";

function connect() {
  const child = new ScriptedProcesses().spawn("ssh", ["db1"]);
  return { child, connection: new ProcessConnection(child, "db1") };
}

Deno.test("what the program says is read, and its end in good order is the connection's", async () => {
  const { child, connection } = connect();
  child.say("hello");
  const into = new Uint8Array(3);
  assert.equal(await connection.read(into), 3);
  assert.equal(new TextDecoder().decode(into), "hel");
  assert.equal(await connection.read(into), 2);
  await connection.write(new TextEncoder().encode("yes"));
  assert.deepEqual([child.input, connection.written], ["yes", 3]);
  child.end();
  assert.equal(await connection.read(into), null);
  assert.equal(await connection.end(), 0);
});

Deno.test("a program that ends badly is a connection lost, in the program's own words", async () => {
  const cases: [end: Partial<ProcessEnd>, complaints: string[], words: string][] = [
    [{ code: 255 }, ["Permission denied."], "Lost db1: ssh ended with exit code 255: Permission denied."],
    [{ code: 1 }, [], "Lost db1: ssh ended with exit code 1"],
    [{ signal: "SIGKILL" }, ["a", "b"], "Lost db1: ssh ended with SIGKILL: a; b"],
  ];
  for (const [end, complaints, message] of cases) {
    for (const way of ["read", "write"] as const) {
      const { child, connection } = connect();
      child.end(end, ...complaints);
      await assert.rejects(connection[way](new Uint8Array(1)), (error) => {
        return error instanceof UnavailableError && error.message === message;
      });
    }
  }
});

Deno.test("a connection that was closed here says so, and ends the program", async () => {
  const { child, connection } = connect();
  const reading = connection.read(new Uint8Array(1));
  connection.close();
  await assert.rejects(reading, /was closed at this end/);
  assert.equal(child.isKilled, true);
});

Deno.test("whoever closes a connection because it is lost does not hide why", async () => {
  const { child, connection } = connect();
  const reading = connection.read(new Uint8Array(1));
  child.isInputClosed = true; // it is about to end, and takes nothing any more
  const writing = connection.write(new Uint8Array(1)).finally(() => connection.close());
  child.end({ code: 2 }, "no such command");
  const words = /^UnavailableError: Lost db1: ssh ended with exit code 2: no such command$/;
  await assert.rejects(writing, words);
  await assert.rejects(reading, words);
  await assert.rejects(connection.read(new Uint8Array(1)), words);
});

Deno.test("a program that is to end in its own time is not ended", async () => {
  const { child, connection } = connect();
  connection.endInput();
  assert.deepEqual([child.isInputClosed, child.isKilled], [true, false]);
  child.end({ code: 3 }, "diverged");
  assert.deepEqual([await connection.end(), connection.complaint], [3, "diverged"]);
});
