/** The control socket among bad clients, and the asking of nodes that do not answer: bounded, dropped, told. */
import assert from "node:assert/strict";
import { ask } from "../../lib/cli/control/control_client.ts";
import { ControlServer } from "../../lib/cli/control/control_server.ts";
import { ProtocolError, UnavailableError } from "../../lib/errors.ts";
import type { Connection } from "../../lib/ports/mod.ts";
import { CollectedLog } from "../kit/collected_log.ts";
import { beforeDeadline } from "../kit/feed.ts";
import { ManualClock } from "../kit/manual_clock.ts";
import { type MemoryConnection, MemoryNetwork } from "../kit/memory_network.ts";

const PATH = "/run/node.zrs";
const SOCKET = { transport: "unix", path: PATH } as const;
const REQUEST = `{"request":"status"}\n`;
const KIB = 1024;

class World {
  readonly clock = new ManualClock();
  readonly log = new CollectedLog();
  readonly network: MemoryNetwork;
  asked = 0;

  constructor(capacity?: number) {
    this.network = new MemoryNetwork(capacity);
  }

  async listen(answer: Readonly<Record<string, unknown>> = { fine: true }): Promise<ControlServer> {
    return await ControlServer.listen(this, PATH, {
      status: () => {
        this.asked++;
        return answer;
      },
    });
  }

  async connect(): Promise<MemoryConnection> {
    return await this.network.connect(SOCKET);
  }

  /** What a client of good manners gets. */
  async ask(): Promise<unknown> {
    return await beforeDeadline("an answer", ask(this, PATH, { request: "status" }));
  }
}

async function send(connection: Connection, text: string | Uint8Array): Promise<void> {
  await connection.write(typeof text === "string" ? new TextEncoder().encode(text) : text);
}

/** The lines that come until the other end closes. */
async function receiveAll(connection: Connection): Promise<string[]> {
  const decoder = new TextDecoder();
  const chunk = new Uint8Array(KIB);
  let text = "";
  for (;;) {
    const count = await beforeDeadline("the end of the connection", connection.read(chunk));
    if (count === null) break;
    text += decoder.decode(chunk.subarray(0, count), { stream: true });
  }
  assert(text === "" || text.endsWith("\n"));
  return text.split("\n").slice(0, -1);
}

async function receiveLine(connection: Connection): Promise<string> {
  const byte = new Uint8Array(1);
  let text = "";
  while (!text.endsWith("\n")) {
    assert.equal(await beforeDeadline("a line", connection.read(byte)), 1);
    text += String.fromCharCode(byte[0]!);
  }
  return text.slice(0, -1);
}

Deno.test("a client may ask again and again, also before it has read an answer", async () => {
  const world = new World();
  await using _server = await world.listen();
  using client = await world.connect();
  await send(client, REQUEST);
  assert.equal(await receiveLine(client), `{"fine":true}`);
  await send(client, REQUEST.repeat(3));
  for (let i = 0; i < 3; i++) assert.equal(await receiveLine(client), `{"fine":true}`);
  await send(client, `{"request":"pack"}\n${REQUEST}`);
  assert.match(await receiveLine(client), /^\{"error":"Unknown request/);
  assert.equal(await receiveLine(client), `{"fine":true}`);
});

const GARBAGE: readonly (readonly [what: string, sent: string | Uint8Array, told: RegExp])[] = [
  ["speaks HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", /not JSON/],
  ["sends bytes that are no text", new Uint8Array([0xff, 0x00, 0x0a]), /not UTF-8/],
  ["sends JSON that is no object", `[${REQUEST.trim()}]\n`, /not a JSON object/],
  ["sends a line without end", new Uint8Array(65 * KIB).fill(0x20), /more than 65536 bytes/],
  ["sends a line of 65537 bytes", REQUEST.padStart(65_538), /more than 65536 bytes/],
];

for (const [what, sent, told] of GARBAGE) {
  Deno.test(`a client that ${what} is told, and dropped; the next is served`, async () => {
    const world = new World(128 * KIB);
    await using _server = await world.listen();
    using client = await world.connect();
    await send(client, sent);
    const [line, ...more] = await receiveAll(client);
    assert.match(JSON.parse(line!).error, told);
    assert.deepEqual(more, []);
    assert.deepEqual(await world.ask(), { fine: true });
    assert.deepEqual(world.log.complaints(), []);
  });
}

Deno.test("a request of 64 KiB is taken", async () => {
  const world = new World(128 * KIB);
  await using _server = await world.listen();
  using client = await world.connect();
  await send(client, REQUEST.padStart(65_537));
  assert.equal(await receiveLine(client), `{"fine":true}`);
});

Deno.test("a client that never reads is asked no more of, and dropped after 10 s", async () => {
  const world = new World(KIB);
  await using _server = await world.listen({ long: "x".repeat(600) });
  using client = await world.connect();
  const sending = send(client, REQUEST.repeat(1_000)).then(() => "sent", () => "dropped");
  await world.clock.waitForTimer(10_000);
  assert.deepEqual(await world.ask(), { long: "x".repeat(600) }, "others are served meanwhile");
  const asked = world.asked;
  assert(asked < 5, `${asked} requests were answered`);
  world.clock.advance(10_000);
  assert.equal(await beforeDeadline("the drop", sending), "dropped");
  await world.log.waitFor(/^Dropped a client/);
});

Deno.test("a client that says nothing, or its request too slowly, is dropped after 60 s", async () => {
  const world = new World();
  await using _server = await world.listen();
  using silent = await world.connect();
  using slow = await world.connect();
  for (let i = 0; i < 5; i++) {
    await send(slow, REQUEST[i]!);
    await world.clock.waitForTimer(60_000);
    world.clock.advance(11_000);
  }
  world.clock.advance(5_000);
  assert.deepEqual(await receiveAll(silent), []);
  assert.deepEqual(await receiveAll(slow), []);
  assert.deepEqual(await world.ask(), { fine: true });
});

Deno.test("no more than 16 clients are attended to, and there is room again when some go", async () => {
  const world = new World();
  await using _server = await world.listen();
  const clients: MemoryConnection[] = [];
  for (let i = 0; i < 16; i++) {
    const client = await world.connect();
    clients.push(client);
    await send(client, REQUEST);
    await receiveLine(client);
  }
  await assert.rejects(world.ask(), (error: unknown) => {
    assert(error instanceof UnavailableError);
    return true;
  });
  using late = await world.connect();
  assert.deepEqual(await receiveAll(late), []);
  for (const client of clients) {
    await send(client, REQUEST);
    assert.equal(await receiveLine(client), `{"fine":true}`);
    client.close();
  }
  await world.log.waitFor(/Closed a connection .* 16 are open already/);
  assert.deepEqual(await world.ask(), { fine: true });
});

Deno.test("closing the server ends its connections, and twice is harmless", async () => {
  const world = new World();
  const server = await world.listen();
  using client = await world.connect();
  await send(client, REQUEST);
  await receiveLine(client);
  await server[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  assert.deepEqual(await receiveAll(client), []);
  await assert.rejects(world.ask(), UnavailableError);
});

Deno.test("asking a node that never answers ends after 10 s", async () => {
  const world = new World();
  using _listener = await world.network.listen(SOCKET); // as of a process that is stopped
  const asking = assert.rejects(world.ask(), (error: unknown) => {
    assert(error instanceof UnavailableError);
    assert.equal(error.message, `The node at ${PATH} did not answer: it took more than 10 s`);
    assert.match(error.hint!, /stopped/);
    return true;
  });
  await world.clock.waitForTimer(10_000);
  world.clock.advance(10_000);
  await asking;
});

const WRONG_ANSWERS: readonly (readonly [says: string, sent: string, error: unknown])[] = [
  ["closes without a word", "", UnavailableError],
  ["closes within its answer", `{"role":`, UnavailableError],
  ["is no zrs", "220 mail.example.com ESMTP\r\n", ProtocolError],
  ["answers for ever", "x".repeat(4 * KIB * KIB + 1), ProtocolError],
  ["refuses", `{"error":"Unknown request \\"status\\""}\n`, UnavailableError],
];

for (const [says, sent, expected] of WRONG_ANSWERS) {
  Deno.test(`asking what ${says} fails by that name`, async () => {
    const world = new World();
    using listener = await world.network.listen(SOCKET);
    const answering = (async () => {
      using connection = (await listener.accept())!;
      await connection.read(new Uint8Array(KIB));
      await send(connection, sent).catch(() => {}); // whoever has heard enough may go
    })();
    await assert.rejects(world.ask(), (error: unknown) => {
      assert(typeof expected === "function" && error instanceof expected, String(error));
      assert(error instanceof Error && error.message.includes(PATH));
      return true;
    });
    await answering;
  });
}

Deno.test("who is being answered when the node stops still gets the answer, and others are let go", async () => {
  const world = new World();
  const { promise, resolve } = Promise.withResolvers<{ done: true }>();
  const asked = Promise.withResolvers<void>();
  const server = await ControlServer.listen(world, PATH, {
    promote: () => {
      asked.resolve();
      return promise;
    },
  });
  using idle = await world.connect();
  const answer = ask(world, PATH, { request: "promote" }, { timeoutMs: Infinity });
  await asked.promise;
  const closing = server[Symbol.asyncDispose]();
  assert.deepEqual(await receiveAll(idle), []);
  world.clock.advance(1_000_000);
  resolve({ done: true });
  assert.deepEqual(await beforeDeadline("the answer", answer), { done: true });
  await beforeDeadline("the end", closing);
});
