/** What a Connection promises, over TLS: bytes whole and in order, no more memory than a window, ends at once. */

import assert from "node:assert/strict";
import { equalBytes } from "../../lib/bytes/mod.ts";
import { UnavailableError } from "../../lib/errors.ts";
import type { Connection } from "../../lib/ports/mod.ts";
import { beforeDeadline } from "../kit/feed.ts";
import { othersHaveRun } from "../kit/manual_clock.ts";
import { MemoryNetwork } from "../kit/memory_network.ts";
import { type Certificates, LOOPBACK, secure, type SecureOptions, tlsTest } from "./tls_kit.ts";

const SIZE = 20 << 20;

async function withPair(
  made: Certificates,
  options: SecureOptions,
  use: (client: Connection, server: Connection) => Promise<void>,
): Promise<void> {
  const [there, here] = [await secure(made.server, options), await secure(made.client, options)];
  using listener = await there.network.listen(LOOPBACK);
  const [client, server] = await beforeDeadline(
    "a connection",
    Promise.all([here.network.connect(listener.address), listener.accept()]),
  );
  assert.ok(server !== null);
  using _client = client;
  using _server = server;
  await use(client, server);
}

/** The bytes at a position of a stream that never repeats within what a buffer holds. */
function fill(into: Uint8Array, position: number): void {
  for (let at = 0; at < into.length; at++) into[at] = (position + at) * 2654435761 >>> 13;
}

tlsTest("much that a slow reader takes arrives whole, and little of it is under way at any time", (made) =>
  // A network that holds little, and a reader that takes a piece a turn: a sender that ran ahead would show.
  withPair(made, { network: new MemoryNetwork(32 * 1024) }, async (client, server) => {
    let sent = 0;
    async function send(): Promise<void> {
      const buffer = new Uint8Array(100_000);
      while (sent < SIZE) {
        const part = buffer.subarray(0, SIZE - sent);
        fill(part, sent);
        await client.write(part);
        sent += part.length;
        buffer.fill(0); // it is ours again
      }
      client.close();
    }
    const sending = send();
    const [into, expected] = [new Uint8Array(50_000), new Uint8Array(50_000)];
    let received = 0;
    for (let count; (count = await beforeDeadline("more", server.read(into))) !== null;) {
      fill(expected.subarray(0, count), received);
      assert.ok(equalBytes(into.subarray(0, count), expected.subarray(0, count)), `at ${received}`);
      received += count;
      await othersHaveRun();
      assert.ok(sent - received < 500_000, `${sent - received} bytes are under way at ${received}`);
    }
    await sending;
    assert.equal(received, SIZE);
  }));

tlsTest(
  "one large write arrives whole over a real network, both ways at once",
  (made) =>
    withPair(made, {}, async (client, server) => {
      const sent = new Uint8Array(SIZE);
      fill(sent, 0);
      async function receive(connection: Connection): Promise<Uint8Array> {
        const all = new Uint8Array(SIZE);
        for (let at = 0; at < SIZE;) at += (await connection.read(all.subarray(at, at + 70_000)))!;
        return all;
      }
      const [there, back] = await beforeDeadline(
        "all",
        Promise.all([receive(server), receive(client), client.write(sent), server.write(sent)]),
      );
      assert.ok(equalBytes(there, sent) && equalBytes(back, sent));
      assert.ok(client.written >= SIZE);
    }),
);

tlsTest(
  "what has been written grows with what a slow peer takes, within one large write",
  (made) =>
    withPair(made, { network: new MemoryNetwork(4096) }, async (client, server) => {
      let done = false;
      const writing = client.write(new Uint8Array(1 << 20)).then(() => done = true);
      const into = new Uint8Array(16_384);
      const seen: number[] = [];
      for (let received = 0; received < 1 << 20;) {
        received += (await server.read(into))!;
        if (!done) seen.push(client.written);
      }
      await writing;
      assert.ok(new Set(seen).size > 20, `${seen}`);
    }),
);

tlsTest(
  "closing ends a pending read and a pending write at once with UnavailableError",
  (made) =>
    withPair(made, {}, async (client, server) => {
      const closedHere = (error: unknown) => {
        return error instanceof UnavailableError && error.facts.peer === client.peer &&
          error.message.endsWith("the connection was closed at this end");
      };
      const reading = assert.rejects(client.read(new Uint8Array(1)), closedHere);
      // The peer reads nothing more, so the rest of this stays pending.
      const writing = assert.rejects(client.write(new Uint8Array(64 << 20)), closedHere);
      await server.read(new Uint8Array(1));
      client.close();
      client.close();
      await beforeDeadline("both to end", Promise.all([reading, writing]));
      await assert.rejects(client.read(new Uint8Array(1)), closedHere);
      await assert.rejects(client.write(new Uint8Array(1)), closedHere);
      await assertBreaks(server);
    }),
);

tlsTest(
  "the end comes after everything that was written before it",
  (made) =>
    withPair(made, {}, async (client, server) => {
      await server.write(new TextEncoder().encode("hello, and goodbye"));
      server.close();
      const into = new Uint8Array(5);
      let text = "";
      for (let count; (count = await client.read(into)) !== null;) {
        text += new TextDecoder().decode(into.subarray(0, count));
      }
      assert.equal(text, "hello, and goodbye");
      assert.equal(await client.read(into), null);
      await assert.rejects(async () => {
        for (;;) await client.write(new Uint8Array(1 << 16));
      }, UnavailableError);
    }),
);

tlsTest(
  "a peer that goes while much is being written is UnavailableError",
  (made) =>
    withPair(made, {}, async (client, server) => {
      await client.write(new Uint8Array(1));
      const writing = server.write(new Uint8Array(64 << 20));
      await client.read(new Uint8Array(1));
      client.close();
      await assert.rejects(beforeDeadline("the failure", writing), (error: unknown) => {
        return error instanceof UnavailableError &&
          error.message.startsWith(`Cannot write to ${server.peer}: `);
      });
    }),
);

/** Whatever is on its way may still be read; then it is over. */
async function assertBreaks(connection: Connection): Promise<void> {
  const into = new Uint8Array(1 << 16);
  try {
    while (await beforeDeadline("the end", connection.read(into)) !== null);
  } catch (error) {
    assert.ok(error instanceof UnavailableError);
  }
}
