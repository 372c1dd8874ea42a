import assert from "node:assert/strict";
import { ChildProcess, freePort, waitForReadyFile } from "./process.ts";
import { TempDirectory } from "./temp.ts";

const evaluate = (program: string) => ChildProcess.start(Deno.execPath(), ["eval", program]);

Deno.test("a child's lines come whole and in order, also the last without an end", async () => {
  await using child = evaluate(
    `console.log("a\\n\\u00e9"); console.error("to stderr"); Deno.stdout.write(new Uint8Array([98]));`,
  );
  assert.equal(await child.stdout.waitFor("line b", (line) => line === "b"), "b");
  assert.ok((await child.exited).success);
  assert.deepEqual(child.stdout.items, ["a", "é", "b"]);
  assert.deepEqual(child.stderr.items, ["to stderr"]);
});

Deno.test("waiting for a line that never comes ends with the child, and tells what it said", async () => {
  await using child = evaluate(`console.error("no room"); Deno.exit(3);`);
  await assert.rejects(child.stdout.waitFor("line x", () => false), /exit code 3:\nno room/);
  await assert.rejects(child.stdout.waitFor("line x", () => false), /exit code 3/);
});

Deno.test("a ready file is waited for, read whole, and missed when the child ends before", async () => {
  await using directory = await TempDirectory.make();
  const path = directory.join("ready.json");
  await using child = evaluate(`
    Deno.writeTextFileSync(${JSON.stringify(path)}, '{"pid":');
    Deno.writeTextFileSync(${JSON.stringify(path)}, '{"pid":1}');
    await new Promise(() => setInterval(() => {}, 1000));`);
  assert.deepEqual(await waitForReadyFile(path, child), { pid: 1 });
  assert.equal((await child.stop("SIGKILL")).signal, "SIGKILL");
  await using other = evaluate(`Deno.exit(4)`);
  await assert.rejects(waitForReadyFile(directory.join("never.json"), other), /exit code 4/);
});

Deno.test("disposing of a child ends it, and a free port can be listened on", async () => {
  let ended: Promise<Deno.CommandStatus>;
  {
    await using child = evaluate(`await new Promise(() => setInterval(() => {}, 1000));`);
    ended = child.exited;
  }
  assert.equal((await ended).signal, "SIGKILL");
  using listener = Deno.listen({ hostname: "127.0.0.1", port: freePort() });
  assert.ok(listener.addr.port > 0);
});
