/** The process we run in: its streams, signals, environment and service manager. */

import assert from "node:assert/strict";
import { UnavailableError } from "../../lib/errors.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { inTempDir, linesOf, runDeno, spawnDeno } from "./kit.ts";

const host = systemHost();

Deno.test("results go to standard output and talk to standard error, whole and in order", async () => {
  const { stdout, stderr, success } = await runDeno(
    `import { systemHost } from "host";
     const { out, err, isTerminal, columns } = systemHost();
     out("größe\\n"); err("talk\\n"); out("x".repeat(1 << 20));
     err([isTerminal("out"), isTerminal("err"), columns()].join());`,
  );
  assert.ok(success);
  assert.equal(new TextDecoder().decode(stdout), "größe\n" + "x".repeat(1 << 20));
  assert.equal(new TextDecoder().decode(stderr), "talk\nfalse,false,");
});

Deno.test("a reader that has gone is UnavailableError for results, and nothing for talk", async () => {
  const child = spawnDeno(
    `import { systemHost } from "host";
     const { out, err } = systemHost();
     await Deno.stdin.read(new Uint8Array(1));
     err("unheard");
     try { for (;;) out("result"); } catch (error) { Deno.exit(error.name === ${
      JSON.stringify(UnavailableError.name)
    } ? 42 : 1); }`,
  );
  await Promise.all([child.stdout.cancel(), child.stderr.cancel()]);
  await child.stdin.close();
  assert.equal((await child.status).code, 42);
});

Deno.test("a signal calls back until disposed of, then does what it does by itself", async () => {
  const child = spawnDeno(
    `import { systemHost } from "host";
     const { onSignal, out } = systemHost();
     const alive = setInterval(() => {}, 1000);
     for (const name of ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2"]) {
       const subscription = onSignal(name, () => { subscription[Symbol.dispose](); out(name + "\\n"); });
     }
     out("ready\\n");`,
  );
  const lines = linesOf(child.stdout);
  assert.equal((await lines.next()).value, "ready");
  for (const name of ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2"] as const) {
    child.kill(name);
    assert.equal((await lines.next()).value, name);
  }
  child.kill("SIGTERM");
  await Promise.all([child.stderr.cancel(), child.stdin.close().catch(() => {})]);
  assert.equal((await child.status).signal, "SIGTERM");
  await lines.return(undefined);
});

Deno.test("environment variables are there or undefined, and the process id is ours", () => {
  assert.equal(host.env("PATH"), Deno.env.get("PATH"));
  assert.equal(host.env("ZRS_TEST_NO_SUCH_VARIABLE"), undefined);
  assert.equal(host.pid, Deno.pid);
});

Deno.test("the service manager is told at the socket it names, by path or abstract name", () =>
  inTempDir(async (dir) => {
    const abstract = `zrs-test-${crypto.randomUUID()}`;
    for (const [bind, named] of [[`${dir}/notify`, `${dir}/notify`], [`\0${abstract}`, `@${abstract}`]]) {
      const manager = Deno.listenDatagram({ transport: "unixpacket", path: bind! });
      await withNotifySocket(named!, () => host.notifySystemd("READY=1\nSTATUS=Following"));
      const [datagram] = await manager.receive();
      assert.equal(new TextDecoder().decode(datagram), "READY=1\nSTATUS=Following");
      manager.close();
    }
  }));

Deno.test("without a service manager, or with one that has gone, telling it does nothing", () =>
  inTempDir(async (dir) => {
    await withNotifySocket(undefined, () => host.notifySystemd("READY=1"));
    await withNotifySocket(`${dir}/none`, () => host.notifySystemd("READY=1"));
  }));

async function withNotifySocket(value: string | undefined, use: () => Promise<void>): Promise<void> {
  const before = Deno.env.get("NOTIFY_SOCKET");
  setOrDelete(value);
  try {
    await use();
  } finally {
    setOrDelete(before);
  }
}

function setOrDelete(value: string | undefined): void {
  if (value === undefined) Deno.env.delete("NOTIFY_SOCKET");
  else Deno.env.set("NOTIFY_SOCKET", value);
}
