import assert from "node:assert/strict";
import { systemHost } from "../../lib/host/mod.ts";
import { ChildProcess } from "../kit/process.ts";

const HOST = new URL("../../lib/host/mod.ts", import.meta.url).href;

/** Runs a script that has `host`. */
function start(script: string): ChildProcess {
  const text = `import { systemHost } from ${JSON.stringify(HOST)}; const host = systemHost(); ${script}`;
  return ChildProcess.start(Deno.execPath(), ["eval", text]);
}

Deno.test("what nobody catches is reported in place of ending the process, until that is disposed of", async () => {
  for (
    const thrown of [`setTimeout(() => { throw new Error("lost"); })`, `Promise.reject(new Error("lost"))`]
  ) {
    await using process = start(`
      const uncaught = host.onUncaught((error) => {
        host.out("caught " + error.message + "\\n");
        uncaught[Symbol.dispose]();
        setTimeout(() => { throw new Error("fatal"); });
      });
      ${thrown};`);
    const { code } = await process.exited;
    assert.deepEqual([process.stdout.items, code], [["caught lost"], 1]);
    assert.match(process.stderr.items.join("\n"), /fatal/);
  }
});

Deno.test("exit ends the process at once, with its code", async () => {
  await using process = start(`
    setInterval(() => {}, 1000);
    queueMicrotask(() => host.out("too late"));
    host.exit(70);`);
  assert.equal((await process.exited).code, 70);
  assert.deepEqual(process.stdout.items, []);
});

Deno.test("a process is running until it has ended", async () => {
  const host = systemHost();
  assert.equal(host.isRunning(host.pid), true);
  assert.equal(host.isRunning(1), true);
  const ended = start("");
  await ended.exited;
  assert.equal(host.isRunning(ended.pid), false);
});
