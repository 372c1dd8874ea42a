import assert from "node:assert/strict";
import type { ServerOptions } from "../../lib/cli/options.ts";
import { type Node, serve } from "../../lib/cli/server.ts";
import { DivergedError, LockedError, UsageError } from "../../lib/errors.ts";
import type { NodeStatus, Ports } from "../../lib/replica/mod.ts";
import { type SecureNetwork, systemHost } from "../../lib/host/mod.ts";
import type { Address, Network } from "../../lib/ports/mod.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { Exited, ScriptedHost } from "./scripted_host.ts";

const READY = "/run/zrs.ready";
const LOCAL: Address = { transport: "tcp", host: "127.0.0.1", port: 5000 };

/** A node that runs until it is told to stop, or fails when the test says. */
class TestNode implements Node {
  closed = false;
  readonly running: Promise<void>;
  readonly #running = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<void>();
  readonly stopping = Promise.withResolvers<void>();

  /** @param stopsAtOnce whether the signal ends the run, or only {@link end} does */
  constructor(readonly address: Address | undefined, readonly stopsAtOnce = true) {
    this.running = this.#running.promise;
  }

  run(signal: AbortSignal): Promise<void> {
    this.#running.resolve();
    const stop = () => {
      this.stopping.resolve();
      if (this.stopsAtOnce) this.#ended.resolve();
    };
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop);
    return this.#ended.promise;
  }

  status(): NodeStatus {
    return {
      role: "primary",
      path: "/data/Data.fs",
      lastTid: 0x3f0000000000001n,
      bytes: 4711,
      blobs: "refuse",
      missingBlobs: undefined,
      problem: undefined,
      delay: undefined,
      source: undefined,
      peers: [],
    };
  }

  end(): void {
    this.#ended.resolve();
  }

  fail(error: unknown): void {
    this.#ended.reject(error);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }
}

interface Served {
  readonly host: ScriptedHost;
  readonly disk: MemoryDisk;
  readonly ended: Promise<void>;
}

function start(
  open: (ports: Ports, signal: AbortSignal) => Promise<Node>,
  given: Partial<ServerOptions> = {},
  secure?: SecureNetwork,
): Served {
  const disk = new MemoryDisk();
  disk.addDirectory("/run");
  const host = new ScriptedHost(disk, secure);
  const options = { dataFs: "/data/Data.fs", readyFile: READY, quiet: false, verbose: false, ...given };
  return { host, disk, ended: serve("zrs test", options, host, "followed", open) };
}

function startNode(node: TestNode, given: Partial<ServerOptions> = {}): Served {
  return start(() => Promise.resolve(node), given);
}

function readyFile(disk: MemoryDisk): unknown {
  if (disk.status(READY) === undefined) return undefined;
  return JSON.parse(new TextDecoder().decode(disk.bytes(READY)));
}

Deno.test("a server is ready when its node is open, and leaves nothing behind when it stops", async () => {
  const opened = Promise.withResolvers<Node>();
  const { host, disk, ended } = start(() => opened.promise);
  assert.equal(readyFile(disk), undefined);
  assert.deepEqual(host.notified, []);

  const node = new TestNode(LOCAL);
  opened.resolve(node);
  await node.running;
  assert.deepEqual(readyFile(disk), { pid: host.pid, replicateTo: "127.0.0.1:5000" });
  assert.deepEqual(host.notified, ["READY=1"]);

  host.signal("SIGTERM");
  await ended;
  assert.equal(node.closed, true);
  assert.deepEqual(disk.paths(), []);
  assert.deepEqual(host.notified, ["READY=1", "STOPPING=1"]);
  assert.equal(host.listens, false);
});

Deno.test("a node that nobody connects to has no address in its ready file", async () => {
  const node = new TestNode(undefined);
  const { host, disk, ended } = startNode(node);
  await node.running;
  assert.deepEqual(readyFile(disk), { pid: host.pid });
  host.signal("SIGINT");
  await ended;
});

Deno.test("a second signal ends a server that is still stopping, with the signal's code", async () => {
  for (const [second, code] of [["SIGTERM", 143], ["SIGINT", 130]] as const) {
    const node = new TestNode(LOCAL, false);
    const { host, disk, ended } = startNode(node);
    await node.running;
    host.signal("SIGTERM");
    await node.stopping.promise;
    assert.notEqual(readyFile(disk), undefined);
    assert.throws(() => host.signal(second), (error) => error instanceof Exited && error.code === code);
    assert.equal(readyFile(disk), undefined);
    node.end();
    await ended;
  }
});

Deno.test("a signal that comes while the node opens stops it as soon as it is open", async () => {
  const opened = Promise.withResolvers<Node>();
  const { host, ended } = start(() => opened.promise);
  host.signal("SIGTERM");
  const node = new TestNode(LOCAL);
  opened.resolve(node);
  await ended;
  assert.equal(node.closed, true);
  assert.deepEqual(host.notified, ["STOPPING=1"]);
});

Deno.test("a node that gives up opening at the signal ends the server in good order", async () => {
  const { host, disk, ended } = start((_ports, signal) =>
    new Promise((_resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
    })
  );
  host.signal("SIGTERM");
  await ended;
  assert.equal(readyFile(disk), undefined);
  assert.deepEqual(host.notified, ["STOPPING=1"]);
  assert.equal(host.listens, false);
});

Deno.test("a failure to open is told also when the signal came before it", async () => {
  const opened = Promise.withResolvers<Node>();
  const { host, ended } = start(() => opened.promise);
  host.signal("SIGTERM");
  opened.reject(new LockedError("Cannot open: locked", {}));
  await assert.rejects(ended, LockedError);
});

Deno.test("SIGHUP and SIGUSR2 reopen the log and stop nothing", async () => {
  const node = new TestNode(LOCAL);
  const { host, ended } = startNode(node, { logFile: "/run/zrs.log" });
  await node.running;
  assert.deepEqual(host.logOptions, { level: "info", file: "/run/zrs.log" });
  host.signal("SIGHUP");
  host.signal("SIGUSR2");
  assert.equal(host.reopened, 2);
  assert.equal(node.closed, false);
  host.signal("SIGTERM");
  await ended;
});

Deno.test("a listener that others can reach is warned of, one on this machine is not", async () => {
  const table: readonly (readonly [Address | undefined, string[]])[] = [
    [LOCAL, []],
    [{ transport: "unix", path: "/run/zrs.sock" }, []],
    [undefined, []],
    [{ transport: "tcp", host: "0.0.0.0", port: 5000 }, ["0.0.0.0:5000"]],
    [{ transport: "tcp", host: "::", port: 5000 }, ["[::]:5000"]],
    [{ transport: "tcp", host: "192.0.2.7", port: 5000 }, ["192.0.2.7:5000"]],
  ];
  for (const [address, expected] of table) {
    const node = new TestNode(address);
    const { host, ended } = startNode(node);
    await node.running;
    const warned = host.logged.items.filter(({ level }) => level === "warning");
    assert.deepEqual(warned.map(({ facts }) => facts["address"]), expected);
    for (const { message } of warned) assert.match(message, /whole database/);
    host.signal("SIGTERM");
    await ended;
  }
});

/** A network that has shown its certificates, and reads them as the test says. */
class TestSecureNetwork implements SecureNetwork {
  readonly warnings = ["The key can be read by everybody"];
  readonly connect = systemHost().network.connect;
  readonly listen = systemHost().network.listen;
  failure: Error | undefined;

  reload(): Promise<void> {
    return this.failure === undefined ? Promise.resolve() : Promise.reject(this.failure);
  }
}

Deno.test("with certificates all goes through the secure network, which SIGHUP reads anew", async () => {
  const network = new TestSecureNetwork();
  const node = new TestNode({ transport: "tcp", host: "::", port: 5000 });
  const used: Network[] = [];
  const files = { tlsCert: "a.crt", tlsKey: "a.key", tlsCa: "ca.crt", tlsName: "db1" };
  const { host, ended } = start(
    (ports) => {
      used.push(ports.network);
      return Promise.resolve(node);
    },
    files,
    network,
  );
  await node.running;
  assert.deepEqual(used, [network]);
  const { onRefused, ...asked } = host.secureOptions!;
  assert.deepEqual(asked, { cert: "a.crt", key: "a.key", ca: "ca.crt", name: "db1" });
  const lines = () => host.logged.items.map(({ level, message }) => `${level}: ${message}`);
  assert.deepEqual(lines(), ["warning: The key can be read by everybody"]);

  for (let port = 1; port < 10; port++) onRefused(`192.0.2.1:${port}`, "it speaks no TLS");
  assert.deepEqual(lines().slice(1), ["warning: 192.0.2.1:1: dropped: it speaks no TLS"]);

  network.failure = new UsageError("Cannot read a.crt", { hint: "Look" });
  host.signal("SIGHUP");
  await host.logged.waitFor(
    "the failure",
    ({ message }) => /^Cannot read a\.crt; look\. .*stay$/.test(message),
  );
  network.failure = undefined;
  host.signal("SIGUSR2");
  host.signal("SIGHUP");
  await host.logged.waitFor("the reload", ({ message }) => message.startsWith("Read certificate"));
  assert.equal(host.reopened, 3);
  assert.equal(lines().length, 5);
  host.signal("SIGTERM");
  await ended;
  assert.equal(host.listens, false);
});

Deno.test("what ends a running node is thrown when all has been closed", async () => {
  const node = new TestNode(LOCAL);
  const { host, disk, ended } = startNode(node);
  await node.running;
  const error = new DivergedError("Cannot go on");
  node.fail(error);
  await assert.rejects(ended, error);
  assert.equal(node.closed, true);
  assert.deepEqual(disk.paths(), []);
  assert.equal(host.listens, false);
});

Deno.test("a node that does not open is never reported as ready", async () => {
  const error = new LockedError("Cannot lock", { hint: "Stop the other" });
  const { host, disk, ended } = start(() => Promise.reject(error), { logFile: "/run/zrs.log" });
  await assert.rejects(ended, error);
  assert.deepEqual(disk.performed, []);
  assert.deepEqual(host.notified, []);
  assert.deepEqual(host.logged.items, [
    { level: "error", message: "Cannot lock", facts: { hint: "Stop the other" } },
  ]);
});

Deno.test("a failure is logged only where the log is not what the command's last line is on", async () => {
  const { host, ended } = start(() => Promise.reject(new LockedError("Cannot lock")));
  await assert.rejects(ended, LockedError);
  assert.deepEqual(host.logged.items, []);
});

Deno.test("a bug is logged with its stack, wherever the log goes", async () => {
  const bug = new TypeError("x is not a function");
  const { host, ended } = start(() => Promise.reject(bug));
  await assert.rejects(ended, bug);
  assert.deepEqual(host.logged.items.map(({ level, facts }) => [level, facts["error"]]), [["error", bug]]);
});

Deno.test("an error that nobody caught ends the process with 70 and without a ready file", async () => {
  const node = new TestNode(LOCAL);
  const { host, disk, ended } = startNode(node);
  await node.running;
  const bug = new TypeError("x is not a function");
  assert.throws(() => host.uncaught(bug), (error) => error instanceof Exited && error.code === 70);
  assert.deepEqual(disk.paths(), []);
  assert.deepEqual(host.logged.items.map(({ level, facts }) => [level, facts["error"]]), [["error", bug]]);
  assert.match(
    host.written.err,
    /^zrs test: Stopped by a bug of ours: TypeError: x is not a function; .*\n$/,
  );
  host.signal("SIGTERM");
  await ended;
});

Deno.test("nothing is opened when log or ready file would land in the database", async () => {
  function open(): Promise<Node> {
    throw new Error("Opened");
  }
  for (const given of [{ logFile: "/data/Data.fs" }, { readyFile: "/data/Data.fs.index" }]) {
    await assert.rejects(start(open, given).ended, UsageError);
  }
});
