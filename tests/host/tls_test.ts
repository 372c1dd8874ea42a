/** Who may talk with whom over TLS, and what is said of those who may not. */

import assert from "node:assert/strict";
import { UnavailableError } from "../../lib/errors.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { type Address, formatAddress } from "../../lib/ports/mod.ts";
import { Authority } from "../kit/certificates.ts";
import { beforeDeadline } from "../kit/feed.ts";
import { ManualClock, othersHaveRun } from "../kit/manual_clock.ts";
import { ChildProcess, freePort } from "../kit/process.ts";
import { ask, Echo, LOOPBACK, secure, tlsTest } from "./tls_kit.ts";

const { network: plain } = systemHost();

/** The message of the UnavailableError that asking ends with, without the address. */
async function failureOf(asking: Promise<unknown>, address: Address): Promise<string> {
  const error = await beforeDeadline(
    "a failure",
    asking.then(() => assert.fail("It was answered"), (error) => error),
  );
  assert.ok(error instanceof UnavailableError, `${error}`);
  assert.equal(error.facts.peer, formatAddress(address));
  return error.message.replaceAll(formatAddress(address), "@");
}

tlsTest("two ends with certificates of one authority talk, over TCP and a Unix socket", async (made) => {
  const { network } = await secure(made.client);
  const unix: Address = { transport: "unix", path: made.directory.join("socket") };
  for (const at of [LOOPBACK, { ...LOOPBACK, host: "localhost" }, unix]) {
    await using echo = await Echo.start(made.server, { at });
    assert.equal(await ask(network, echo.address), "hello");
    assert.deepEqual(echo.refusals.items, []);
  }
});

tlsTest("a client without a certificate is refused", async (made) => {
  await using echo = await Echo.start(made.server);
  const args = ["s_client", "-connect", `127.0.0.1:${echo.port}`, "-CAfile", made.authority.ca];
  await using client = ChildProcess.start("openssl", args);
  assert.equal(await echo.refusal(), "it presented no certificate");
  await beforeDeadline("the end", client.exited);
  assert.equal(await ask((await secure(made.client)).network, echo.address), "hello");
});

tlsTest("a client with the certificate of another authority is refused", async (made) => {
  const other = await Authority.make(made.directory.path, "other");
  await using echo = await Echo.start(made.server);
  const { network } = await secure({ ...await other.sign("stranger"), ca: made.authority.ca });
  const failure = await failureOf(ask(network, echo.address), echo.address);
  assert.match(failure, /^Cannot (read from|write to) @: .* at once: it may not accept our certificate/);
  assert.equal(await echo.refusal(), "its certificate is not signed by our authority");
  assert.equal(await ask((await secure(made.client)).network, echo.address), "hello");
});

tlsTest("a client whose certificate has expired is refused", async (made) => {
  const { cert, key } = await made.authority.sign("old", { isExpired: true });
  await using echo = await Echo.start(made.server);
  const args = ["s_client", "-connect", `127.0.0.1:${echo.port}`, "-cert", cert, "-key", key];
  await using _client = ChildProcess.start("openssl", args);
  assert.equal(await echo.refusal(), "its certificate has expired on 2021-01-01T00:00:00.000Z");
});

tlsTest("a certificate is taken only for what it is for", async (made) => {
  const [serving, using] = [
    await made.authority.sign("serving", { use: "serverAuth" }),
    await made.authority.sign("using", { use: "clientAuth" }),
  ].map((each) => ({ ...each, ca: made.authority.ca }));
  await using echo = await Echo.start(serving!);
  assert.equal(await ask((await secure(using!)).network, echo.address), "hello");
  await failureOf(ask((await secure(serving!)).network, echo.address), echo.address);
  assert.match(await echo.refusal(), /^its certificate is not for this use/);
  await using wrong = await Echo.start(using!);
  const failure = await failureOf(ask((await secure(made.client)).network, wrong.address), wrong.address);
  assert.match(failure, /^Cannot connect to @ by TLS: its certificate is not for this use/);
});

tlsTest("a server is refused for its authority, its name, its date and for speaking no TLS", async (made) => {
  const other = await Authority.make(made.directory.path, "other");
  const elsewhere = await made.authority.sign("elsewhere", {
    names: "DNS:db1.example.com,DNS:*.zope.example",
  });
  const { network } = await secure(made.client);
  const connecting = "Cannot connect to @ by TLS: ";
  {
    await using echo = await Echo.start(made.server);
    const { network } = await secure({ ...made.client, ca: other.ca });
    const expected = `${connecting}its certificate is not signed by our authority`;
    assert.equal(await failureOf(ask(network, echo.address), echo.address), expected);
  }
  {
    await using echo = await Echo.start({ ...elsewhere, ca: made.authority.ca });
    const names = "DNS:db1.example.com, DNS:*.zope.example";
    // The last is the subject of the certificate, which is no host's name.
    for (const name of [undefined, "db2.example.com", "a.b.zope.example", "::1", "elsewhere"]) {
      const { network } = await secure(made.client, name === undefined ? {} : { name });
      const expected = `${connecting}its certificate is for ${names}, not for ${name ?? "127.0.0.1"}`;
      assert.equal(await failureOf(ask(network, echo.address), echo.address), expected);
    }
    for (const name of ["db1.example.com", "DB1.example.com", "www.zope.example"]) {
      assert.equal(await ask((await secure(made.client, { name })).network, echo.address), "hello");
    }
  }
  {
    const { cert, key } = await made.authority.sign("old", { isExpired: true });
    await using server = await OpensslServer.start(["-cert", cert, "-key", key]);
    const expected = `${connecting}its certificate has expired on 2021-01-01T00:00:00.000Z`;
    assert.equal(await failureOf(ask(network, server.address), server.address), expected);
  }
  for (const answer of ["zrs2.1 or anything else", ""]) {
    using listener = await plain.listen(LOOPBACK);
    const asking = failureOf(ask(network, listener.address), listener.address);
    using connection = (await listener.accept())!;
    await connection.read(new Uint8Array(10_000));
    await connection.write(new TextEncoder().encode(answer));
    connection.close();
    assert.match(await asking, /^Cannot connect to @ by TLS: .*it (may )?speaks? no TLS/);
  }
});

tlsTest("what a server has against our certificate is passed on", async (made) => {
  const other = await Authority.make(made.directory.path, "other");
  const { cert, key } = made.server;
  const { network } = await secure(made.client);
  for (
    const [version, action] of [["-tls1_2", "connect to @ by TLS"], ["-tls1_3", "(read from|write to) @"]]
  ) {
    const demand = ["-Verify", "1", "-verify_return_error", "-CAfile", other.ca];
    await using server = await OpensslServer.start(["-cert", cert, "-key", key, ...demand, version!]);
    const expected = new RegExp(
      `^Cannot ${action}: it does not accept our certificate: it is of another authority$`,
    );
    assert.match(await failureOf(ask(network, server.address), server.address), expected);
  }
});

tlsTest("versions of TLS before 1.2 are refused", async (made) => {
  await using echo = await Echo.start(made.server);
  const { cert, key } = made.client;
  const args = ["s_client", "-connect", `127.0.0.1:${echo.port}`, "-cert", cert, "-key", key];
  await using _client = ChildProcess.start("openssl", [...args, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]);
  assert.match(await echo.refusal(), /^it speaks no TLS as we know it, 1.2 or 1.3: /);
});

tlsTest("a server that forges a certificate in the authority's name is refused", async (made) => {
  // Deno's own check takes a certificate of version 1 by the name of its issuer alone.
  const impostor = await Authority.make(made.directory.path, "impostor", "authority");
  const { network } = await secure(made.client);
  for (const [authority, name] of [[impostor, "forged"], [made.authority, "stolen"]] as const) {
    const { cert, key } = await authority.signVersion1(name);
    await using server = await OpensslServer.start(["-cert", cert, "-key", key]);
    const expected = "Cannot connect to @ by TLS: its certificate is of version 1, which proves nothing";
    assert.equal(await failureOf(ask(network, server.address), server.address), expected);
  }
  const { cert, key } = await impostor.sign("newer");
  await using server = await OpensslServer.start(["-cert", cert, "-key", key]);
  const expected = "Cannot connect to @ by TLS: its certificate is not signed by our authority";
  assert.equal(await failureOf(ask(network, server.address), server.address), expected);
});

tlsTest("certificates that an intermediate authority has signed are taken with it", async (made) => {
  const between = await made.authority.sign("between", { isAuthority: true });
  const below = await Authority.of(made.directory.path, between);
  const leaf = await below.sign("leaf");
  const cert = made.directory.join("chain.crt");
  await Deno.writeTextFile(
    cert,
    (await Deno.readTextFile(leaf.cert)) + await Deno.readTextFile(between.cert),
  );
  const files = { ...leaf, cert, ca: made.authority.ca };
  await using echo = await Echo.start(files);
  assert.equal(await ask((await secure(files)).network, echo.address), "hello");
});

tlsTest("who speaks no TLS is dropped, and others are served meanwhile and after", async (made) => {
  await using echo = await Echo.start(made.server);
  const { network } = await secure(made.client);
  using silent = await plain.connect(echo.address);
  const garbage = [
    "\0\0\0\x06zrs2.1\0\0\0\x08\0\0\0\0\0\0\0\0",
    "GET / HTTP/1.0\r\n\r\n",
    "\x16\x03\x01\x00\x05abcde",
    "\x80\x2e\x01\x03\x01",
    "\x17\x03\x03\x40\x00".padEnd(20_000, "x"),
  ];
  for (const [index, text] of garbage.entries()) {
    using connection = await plain.connect(echo.address);
    await connection.write(Uint8Array.from(text, (character) => character.charCodeAt(0)));
    assert.match(await echo.refusal(index), /^it speaks no TLS/, text.slice(0, 20));
    assert.equal(await ask(network, echo.address), "hello");
  }
  silent.close();
  assert.match(await echo.refusal(garbage.length), /^it closed the connection during the handshake/);
  assert.equal(echo.refusals.items.length, garbage.length + 1);
});

tlsTest("a peer that stops in the middle of the handshake is dropped after 10 s", async (made) => {
  const clock = new ManualClock();
  await using echo = await Echo.start(made.server, { clock });
  const { network } = await secure(made.client);
  // The beginning of a real greeting.
  using listener = await plain.listen(LOOPBACK);
  const asking = failureOf(ask(network, listener.address), listener.address);
  using there = (await listener.accept())!;
  const hello = new Uint8Array(1000);
  const length = (await there.read(hello))!;

  using peer = await plain.connect(echo.address);
  await peer.write(hello.subarray(0, length / 2));
  await clock.waitForTimer(10_000);
  assert.equal(await ask(network, echo.address), "hello");
  clock.advance(9_999);
  await othersHaveRun();
  assert.deepEqual(echo.refusals.items, []);
  clock.advance(1);
  assert.equal(await echo.refusal(), "the handshake has not ended within 10 s");
  await assertEnds(peer.read(new Uint8Array(1)));
  assert.deepEqual(clock.delays, []);
  there.close();
  await asking;
});

tlsTest(
  "a server that stops in the middle of the handshake is given up after 10 s, or at a signal",
  async (made) => {
    const clock = new ManualClock();
    const { network } = await secure(made.client, { clock });
    using listener = await plain.listen(LOOPBACK);
    for (
      const [words, end] of [["the handshake has not ended within 10 s", undefined], [
        "the attempt was given up",
        new AbortController(),
      ]] as const
    ) {
      const connecting = network.connect(listener.address, end && { signal: end.signal });
      const failure = failureOf(connecting, listener.address);
      using there = (await listener.accept())!;
      await there.read(new Uint8Array(1000));
      if (end === undefined) clock.advance(10_000);
      else end.abort();
      assert.equal(await failure, `Cannot connect to @ by TLS: ${words}`);
      await assertEnds(there.read(new Uint8Array(1)));
      assert.deepEqual(clock.delays, []);
    }
  },
);

tlsTest("any number of peers that say nothing keeps nobody out", async (made) => {
  await using echo = await Echo.start(made.server);
  using stack = new DisposableStack();
  for (let count = 0; count < 150; count++) stack.use(await plain.connect(echo.address));
  assert.equal(await ask((await secure(made.client)).network, echo.address), "hello");
  assert.equal(await echo.refusal(), "too many others came while it had not proved who it is");
});

tlsTest("closing a listener ends accept and the handshakes under way", async (made) => {
  const { network, refusals } = await secure(made.server);
  const listener = await network.listen(LOOPBACK);
  const accepted = listener.accept();
  using peer = await plain.connect(listener.address);
  using next = await plain.connect(listener.address);
  await othersHaveRun();
  listener.close();
  listener.close();
  assert.equal(await accepted, null);
  assert.equal(await listener.accept(), null);
  await assertEnds(peer.read(new Uint8Array(1)));
  await assertEnds(next.read(new Uint8Array(1)));
  assert.deepEqual(refusals.items, []);
});

tlsTest("after reload new connections use the new files, and old ones go on", async (made) => {
  const next = await Authority.make(made.directory.path, "next");
  const [server, client] = [await next.sign("server2"), await next.sign("client2")];
  await using echo = await Echo.start(made.server);
  const old = (await secure(made.client)).network;
  using open = await old.connect(echo.address);

  await Deno.writeTextFile(made.server.ca, "nothing");
  await assert.rejects(echo.network.reload(), { name: "UsageError", message: /there is no certificate/ });
  assert.equal(await ask(old, echo.address), "hello");

  await Deno.copyFile(server.cert, made.server.cert);
  await Deno.copyFile(server.key, made.server.key);
  await Deno.copyFile(next.ca, made.server.ca);
  await echo.network.reload();
  assert.equal(await ask((await secure({ ...client, ca: next.ca })).network, echo.address), "hello");
  await failureOf(ask(old, echo.address), echo.address);
  await open.write(new TextEncoder().encode("still here"));
  const into = new Uint8Array(20);
  assert.equal(await open.read(into), 10);
});

tlsTest(
  "a session from before reload is not resumed without a certificate of the new authority",
  async (made) => {
    const next = await Authority.make(made.directory.path, "next");
    const server = await next.sign("server2");
    const session = made.directory.join("session");
    await using echo = await Echo.start(made.server);
    const { cert, key } = made.client;
    const args = ["s_client", "-connect", `127.0.0.1:${echo.port}`, "-cert", cert, "-key", key];
    async function talk(...more: string[]): Promise<ChildProcess> {
      const client = ChildProcess.start("openssl", [...args, "-ign_eof", ...more]);
      await client.write("hello\n");
      return client;
    }
    {
      await using client = await talk("-sess_out", session);
      await client.stdout.waitFor("the echo", (line) => line.endsWith("hello"));
    }
    {
      await using client = await talk("-sess_in", session);
      await client.stdout.waitFor("the echo", (line) => line.endsWith("hello"));
      assert.ok(client.stdout.items.some((line) => line.startsWith("Reused, ")), "sessions are resumed");
    }
    await Deno.copyFile(server.cert, made.server.cert);
    await Deno.copyFile(server.key, made.server.key);
    await Deno.copyFile(next.ca, made.server.ca);
    await echo.network.reload();
    await using _client = await talk("-sess_in", session);
    assert.equal(await echo.refusal(), "its certificate is not signed by our authority");
  },
);

/** The end, or the reset that a closing with unread bytes is. */
async function assertEnds(reading: Promise<number | null>): Promise<void> {
  const outcome = await beforeDeadline("the end", reading.catch((error) => error));
  assert.ok(outcome === null || outcome instanceof UnavailableError, `${outcome}`);
}

/** `openssl s_server`, to which certificates may be given that we would not use. */
class OpensslServer implements AsyncDisposable {
  readonly address: Address;
  readonly #process: ChildProcess;

  private constructor(address: Address, process: ChildProcess) {
    this.address = address;
    this.#process = process;
  }

  static async start(args: readonly string[]): Promise<OpensslServer> {
    const port = freePort();
    const process = ChildProcess.start("openssl", ["s_server", "-accept", `127.0.0.1:${port}`, ...args]);
    await process.stdout.waitFor("openssl to listen", (line) => line === "ACCEPT");
    return new OpensslServer({ ...LOOPBACK, port }, process);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
  }
}
