/** Streams over the loopback interface and Unix sockets. */

import assert from "node:assert/strict";
import { equalBytes } from "../../lib/bytes/mod.ts";
import { UnavailableError, UsageError } from "../../lib/errors.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { formatAddress } from "../../lib/ports/mod.ts";
import type { Address, Connection, Listener } from "../../lib/ports/mod.ts";
import { inTempDir, linesOf, spawnDeno } from "./kit.ts";

const { network, disk } = systemHost();
const loopback: Address = { transport: "tcp", host: "127.0.0.1", port: 0 };

async function pairOn(listener: Listener): Promise<[client: Connection, server: Connection]> {
  const [client, server] = await Promise.all([network.connect(listener.address), listener.accept()]);
  assert.ok(server !== null);
  return [client, server];
}

async function withPair(use: (client: Connection, server: Connection) => Promise<void>): Promise<void> {
  using listener = await network.listen(loopback);
  const [client, server] = await pairOn(listener);
  using _client = client;
  using _server = server;
  await use(client, server);
}

async function readAll(from: Connection): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  const into = new Uint8Array(1 << 16);
  for (let count; (count = await from.read(into)) !== null;) chunks.push(into.slice(0, count));
  const all = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

function hasIPv6(): boolean {
  try {
    Deno.listen({ hostname: "::1", port: 0 }).close();
    return true;
  } catch {
    return false;
  }
}

Deno.test("a write larger than every buffer on the way arrives whole, then the end", () =>
  withPair(async (client, server) => {
    const sent = new Uint8Array(20 << 20);
    for (let i = 0; i < sent.length; i += 4) sent[i] = i >> 8;
    const received = readAll(server);
    await client.write(sent);
    client.close();
    assert.ok(equalBytes(await received, sent));
  }));

Deno.test("a listener on all interfaces is reached by both versions of IP, and names peers plainly", async () => {
  using listener = await network.listen({ transport: "tcp", host: "::", port: 0 });
  assert(listener.address.transport === "tcp");
  const { port } = listener.address;
  for (const host of hasIPv6() ? ["127.0.0.1", "::1"] : ["127.0.0.1"]) {
    const address = { transport: "tcp", host, port } as const;
    const [client, server] = await Promise.all([network.connect(address), listener.accept()]);
    assert.match(server!.peer, host === "::1" ? /^\[::1\]:\d+$/ : /^127\.0\.0\.1:\d+$/);
    client.close();
    server!.close();
  }
});

Deno.test("both ends name each other by the addresses they have", async () => {
  using listener = await network.listen(loopback);
  const [client, server] = await pairOn(listener);
  using _client = client;
  using _server = server;
  assert.equal(client.peer, formatAddress(listener.address));
  assert.match(server.peer, /^127\.0\.0\.1:\d+$/);
  assert.notEqual(server.peer, client.peer);
});

Deno.test("closing ends a pending read and a pending write at once with UnavailableError", () =>
  withPair(async (client, server) => {
    const closedHere = (error: unknown) => {
      return error instanceof UnavailableError && error.facts.peer === client.peer &&
        error.message.endsWith("the connection was closed at this end");
    };
    const reading = assert.rejects(client.read(new Uint8Array(1)), closedHere);
    // The peer reads nothing, so the rest of this stays pending.
    const writing = assert.rejects(client.write(new Uint8Array(64 << 20)), closedHere);
    // What has arrived there shows that the write has begun.
    await server.read(new Uint8Array(1));
    client.close();
    client.close();
    await Promise.all([reading, writing]);
    await assert.rejects(client.read(new Uint8Array(1)), closedHere);
    await assert.rejects(client.write(new Uint8Array(1)), closedHere);
  }));

Deno.test("writing to a peer that has gone is UnavailableError in the end", () =>
  withPair(async (client, server) => {
    server.close();
    assert.equal(await client.read(new Uint8Array(1)), null);
    await assert.rejects(async () => {
      for (;;) await client.write(new Uint8Array(1 << 16));
    }, UnavailableError);
  }));

Deno.test("closing a listener ends a pending accept with null", async () => {
  const listener = await network.listen(loopback);
  const accepted = listener.accept();
  listener.close();
  listener.close();
  assert.equal(await accepted, null);
  assert.equal(await listener.accept(), null);
});

Deno.test("a port where nobody listens is UnavailableError: connection refused", async () => {
  const listener = await network.listen(loopback);
  listener.close();
  await assert.rejects(network.connect(listener.address), (error: unknown) => {
    const peer = formatAddress(listener.address);
    return error instanceof UnavailableError && error.facts.peer === peer &&
      error.message === `Cannot connect to ${peer}: connection refused`;
  });
});

Deno.test("an unknown host is UnavailableError to connect to, and UsageError to listen on", async () => {
  const nowhere: Address = { transport: "tcp", host: "no-such-host.invalid", port: 5000 };
  // Without a name server the words are the resolver's; the class is what servers decide by.
  await assert.rejects(network.connect(nowhere), UnavailableError);
  await assert.rejects(network.listen(nowhere), UsageError);
});

Deno.test("an aborted signal ends a connection attempt and leaves no socket open", async () => {
  using listener = await network.listen(loopback);
  const reason = new DOMException("too slow", "TimeoutError");
  for (const [given, words] of [[undefined, "the attempt was given up"], [reason, "timed out"]] as const) {
    const before = AbortSignal.abort(given);
    const message = `Cannot connect to ${formatAddress(listener.address)}: ${words}`;
    await assert.rejects(network.connect(listener.address, { signal: before }), { message });
    const during = new AbortController();
    const attempt = network.connect(listener.address, { signal: during.signal });
    during.abort(given);
    await assert.rejects(attempt, (error: unknown) => {
      return error instanceof UnavailableError && error.message === message;
    });
  }
});

Deno.test("listening where somebody listens already is UsageError with a hint", async () => {
  using listener = await network.listen(loopback);
  await assert.rejects(network.listen(listener.address), (error: unknown) => {
    return error instanceof UsageError && /in use$/.test(error.message) && error.hint !== undefined;
  });
});

Deno.test("listening on another machine's address, or on an impossible port, is UsageError", async () => {
  // 192.0.2.0/24 is reserved for documentation, so it is nobody's.
  await assert.rejects(network.listen({ transport: "tcp", host: "192.0.2.1", port: 0 }), {
    name: "UsageError",
    message: "Cannot listen on 192.0.2.1:0: it is not an address of this machine",
  });
  await assert.rejects(network.listen({ ...loopback, port: 70000 }), UsageError);
  await assert.rejects(network.connect({ ...loopback, port: 70000 }), UsageError);
});

Deno.test({
  name: "IPv6 literals work with and without brackets",
  ignore: !hasIPv6(),
  fn: async () => {
    for (const host of ["::1", "[::1]"]) {
      using listener = await network.listen({ transport: "tcp", host, port: 0 });
      const [client, server] = await pairOn(listener);
      assert.match(client.peer, /^\[::1\]:\d+$/);
      assert.match(server.peer, /^\[::1\]:\d+$/);
      client.close();
      server.close();
    }
  },
});

Deno.test("a Unix socket carries bytes, and its file is removed at close", () =>
  inTempDir(async (dir) => {
    const address: Address = { transport: "unix", path: `${dir}/socket` };
    const listener = await network.listen(address);
    assert.deepEqual(listener.address, address);
    const [client, server] = await pairOn(listener);
    assert.equal(client.peer, address.path);
    assert.equal(server.peer, address.path);
    await client.write(new TextEncoder().encode("hello"));
    client.close();
    assert.equal(new TextDecoder().decode(await readAll(server)), "hello");
    server.close();
    assert.deepEqual(disk.list(dir), ["socket"], "no other name is left in the directory");
    listener.close();
    assert.deepEqual(disk.list(dir), []);
    await assert.rejects(network.connect(address), UnavailableError);
  }));

Deno.test("a Unix socket has the mode that was asked for, and the umask stays as it was", () =>
  inTempDir(async (dir) => {
    const umask = Deno.umask();
    for (const mode of [0o600, 0o660]) {
      const path = `${dir}/socket-${mode}`;
      using _listener = await network.listen({ transport: "unix", path }, { mode });
      assert.equal(disk.status(path)?.mode, mode);
    }
    using _listener = await network.listen({ transport: "unix", path: `${dir}/socket` });
    assert.equal(disk.status(`${dir}/socket`)?.mode, 0o777 & ~umask);
    assert.equal(Deno.umask(), umask);
  }));

Deno.test("a Unix socket left by a killed process is replaced; one that answers is in use", () =>
  inTempDir(async (dir) => {
    const address: Address = { transport: "unix", path: `${dir}/socket` };
    const child = spawnDeno(
      `import { systemHost } from "host";
       const path = Deno.args[0];
       const listener = await systemHost().network.listen({ transport: "unix", path });
       console.log("listening");
       for (;;) (await listener.accept())?.close();`,
      [address.path],
    );
    const lines = linesOf(child.stdout);
    assert.equal((await lines.next()).value, "listening");
    await assert.rejects(network.listen(address), (error: unknown) => {
      return error instanceof UsageError && /in use$/.test(error.message) && error.hint !== undefined;
    });
    child.kill("SIGKILL");
    await Promise.all([child.status, child.stderr.cancel(), child.stdin.close().catch(() => {})]);
    await lines.return(undefined);
    assert.equal(disk.status(address.path)?.kind, "socket");
    using listener = await network.listen(address);
    const [client, server] = await pairOn(listener);
    client.close();
    server.close();
  }));

Deno.test("what is not a socket is never removed to listen there", () =>
  inTempDir(async (dir) => {
    const path = `${dir}/Data.fs`;
    Deno.writeTextFileSync(path, "FS21");
    await assert.rejects(network.listen({ transport: "unix", path }), UsageError);
    await assert.rejects(network.listen({ transport: "unix", path: dir }), UsageError);
    assert.equal(Deno.readTextFileSync(path), "FS21");
    assert.deepEqual(disk.list(dir), ["Data.fs"]);
  }));

Deno.test("closing a Unix listener leaves a file that another process has put in its place", () =>
  inTempDir(async (dir) => {
    const path = `${dir}/socket`;
    const listener = await network.listen({ transport: "unix", path });
    Deno.removeSync(path);
    Deno.writeTextFileSync(path, "other");
    listener.close();
    assert.equal(Deno.readTextFileSync(path), "other");
  }));

Deno.test("a Unix socket's directory must exist and its path be short enough", () =>
  inTempDir(async (dir) => {
    await assert.rejects(network.listen({ transport: "unix", path: `${dir}/none/socket` }), UsageError);
    const long = `${dir}/${"x".repeat(120)}`;
    await assert.rejects(network.listen({ transport: "unix", path: long }), UsageError);
    await assert.rejects(network.connect({ transport: "unix", path: long }), UsageError);
    assert.deepEqual(disk.list(dir), []);
  }));
