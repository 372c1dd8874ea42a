import assert from "node:assert/strict";
import { UnavailableError, UsageError } from "../../lib/errors.ts";
import type { Connection, Network } from "../../lib/ports/mod.ts";
import { RUBBISH } from "./connection.ts";
import { Life } from "./life.ts";
import { SimulatedNetwork } from "./network.ts";
import { SeededRandom } from "./random.ts";
import { Scheduler, SimulationFailure } from "./scheduler.ts";

const SEEDS = 100;
const ADDRESS = { transport: "tcp", host: "b", port: 5000 } as const;

interface Bench extends AsyncDisposable {
  readonly scheduler: Scheduler;
  readonly network: SimulatedNetwork;
  readonly a: Network;
  readonly b: Network;
  readonly lifeA: Life;
  readonly lifeB: Life;
  done<T>(promise: Promise<T>): Promise<T>;
  /** A connection from a to b, both ends. */
  join(): Promise<[Connection, Connection]>;
}

function bench(seed: number): Bench {
  const random = new SeededRandom(seed);
  const scheduler = new Scheduler(random);
  const network = new SimulatedNetwork(scheduler, random);
  const lifeA = new Life("a/test#1");
  const lifeB = new Life("b/test#1");
  const a = network.port(lifeA, "a");
  const b = network.port(lifeB, "b");
  async function done<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const both = promise.finally(() => settled = true);
    both.catch(() => {});
    await scheduler.runUntil(() => settled);
    return await both;
  }
  return {
    scheduler,
    network,
    a,
    b,
    lifeA,
    lifeB,
    done,
    async join() {
      const listener = await b.listen(ADDRESS);
      const accepted = listener.accept();
      const client = await done(a.connect(ADDRESS));
      const server = await done(accepted);
      listener.close();
      return [client, server!];
    },
    [Symbol.asyncDispose]: () => scheduler[Symbol.asyncDispose](),
  };
}

/** Reads to the end or to an error. */
async function readAll(
  connection: Connection,
  size = 5_000,
): Promise<{ bytes: number[]; sizes: number[]; end: string }> {
  const bytes: number[] = [];
  const sizes: number[] = [];
  for (;;) {
    const into = new Uint8Array(size);
    try {
      const count = await connection.read(into);
      if (count === null) return { bytes, sizes, end: "eof" };
      sizes.push(count);
      bytes.push(...into.subarray(0, count));
    } catch (error) {
      assert.ok(error instanceof UnavailableError);
      return { bytes, sizes, end: "error" };
    }
  }
}

async function writeAll(
  connection: Connection,
  bytes: Uint8Array,
  piece: number,
): Promise<"written" | "error"> {
  try {
    for (let at = 0; at < bytes.length; at += piece) await connection.write(bytes.subarray(at, at + piece));
    return "written";
  } catch (error) {
    assert.ok(error instanceof UnavailableError);
    return "error";
  }
}

/** Whatever an observed promise has come to. */
function watch<T>(promise: Promise<T>): { value: T | undefined; error: unknown; settled: boolean } {
  const seen: { value: T | undefined; error: unknown; settled: boolean } = {
    value: undefined,
    error: undefined,
    settled: false,
  };
  promise.then((value) => Object.assign(seen, { value, settled: true }), (error) => {
    Object.assign(seen, { error, settled: true });
  });
  return seen;
}

Deno.test("bytes arrive whole and in order in both directions, however they are cut and merged", async () => {
  const cuts = { apart: 0, together: 0 };
  for (let seed = 0; seed < SEEDS; seed++) {
    await using b = bench(seed);
    const [client, server] = await b.join();
    const up = new SeededRandom(seed).bytes(20_000);
    const down = new SeededRandom(seed + 1).bytes(3_000);
    const received = Promise.all([readAll(server), readAll(client)]);
    const written = writeAll(client, up, 1_000);
    assert.equal(await b.done(writeAll(server, down, 700)), "written");
    assert.equal(await b.done(written), "written");
    await b.scheduler.runFor(60_000);
    client.close();
    const there = await b.done(
      received.then(([atServer]) => atServer).catch(() => undefined).then((it) => it),
    );
    assert.deepEqual(there!.bytes, [...up], `seed ${seed}`);
    assert.equal(there!.end, "eof");
    if (there!.sizes.some((size) => size < 1_000)) cuts.apart++;
    if (there!.sizes.some((size) => size > 1_000)) cuts.together++;
    const [, back] = await received;
    assert.deepEqual(back.bytes, [...down], `seed ${seed}`);
  }
  assert.ok(cuts.apart > 10 && cuts.together > 10, JSON.stringify(cuts));
});

Deno.test("a writer whose peer does not read is blocked after a bounded number of bytes", async () => {
  for (let seed = 0; seed < 20; seed++) {
    await using b = bench(seed);
    const [client, server] = await b.join();
    let written = 0;
    void (async () => {
      for (;; written += 1_000) await client.write(new Uint8Array(1_000));
    })().catch(() => {});
    await b.scheduler.runFor(600_000);
    assert.ok(written <= 262_144, `seed ${seed}: ${written}`);
    const blocked = written;
    await b.done(server.read(new Uint8Array(2_000)));
    await b.done(server.read(new Uint8Array(2_000)));
    await b.scheduler.runFor(60_000);
    assert.ok(written > blocked, `seed ${seed}`);
    client.close();
  }
});

Deno.test("nobody listening refuses, an unknown host is an error, a host that is off times out", async () => {
  await using b = bench(1);
  await assert.rejects(b.done(b.a.connect(ADDRESS)), /refused/);
  await assert.rejects(b.done(b.a.connect({ transport: "tcp", host: "nowhere", port: 1 })), /unknown host/);
  await assert.rejects(b.done(b.a.connect({ transport: "unix", path: "/run/none" })), /refused/);
  b.network.switchOff("b");
  const before = b.scheduler.nowMs;
  await assert.rejects(b.done(b.a.connect(ADDRESS)), /timed out/);
  assert.ok(b.scheduler.nowMs - before > 60_000);
});

Deno.test("connecting can be given up", async () => {
  await using b = bench(1);
  b.network.partition("a", "b");
  const abort = new AbortController();
  const connecting = watch(b.a.connect(ADDRESS, { signal: abort.signal }));
  await b.scheduler.runFor(1_000);
  assert.equal(connecting.settled, false);
  abort.abort();
  await b.scheduler.runFor(0);
  assert.match(String(connecting.error), /aborted/);
  await assert.rejects(b.done(b.a.connect(ADDRESS, { signal: abort.signal })), /aborted/);
});

Deno.test("listening takes an address of the host that is free, and gives a port for port 0", async () => {
  await using b = bench(1);
  const listener = await b.b.listen({ transport: "tcp", host: "0.0.0.0", port: 0 });
  assert.ok(listener.address.transport === "tcp" && listener.address.port > 0);
  await assert.rejects(b.b.listen(listener.address), UsageError);
  await assert.rejects(b.b.listen({ transport: "tcp", host: "a", port: 1 }), UsageError);
  const accepted = listener.accept();
  const client = await b.done(b.a.connect({ ...listener.address, host: "b" }));
  assert.equal(client.peer, `b:${listener.address.port}`);
  assert.match((await b.done(accepted))!.peer, /^a:\d+$/);
  const waiting = listener.accept();
  listener.close();
  assert.equal(await b.done(waiting), null);
  assert.equal(await listener.accept(), null);
  await b.b.listen(listener.address);
});

Deno.test("connections that came before they were accepted wait, and are broken when the listener closes", async () => {
  await using b = bench(1);
  const listener = await b.b.listen(ADDRESS);
  const client = await b.done(b.a.connect(ADDRESS));
  await b.done(b.a.connect(ADDRESS));
  assert.notEqual(await b.done(listener.accept()), null);
  listener.close();
  await b.scheduler.runFor(1_000);
  assert.equal(await b.done(client.write(new Uint8Array(1)).then(() => "written")), "written");
});

Deno.test("a Unix socket connects processes of one host", async () => {
  await using b = bench(1);
  const address = { transport: "unix", path: "/run/zrs" } as const;
  const listener = await b.b.listen(address);
  const accepted = listener.accept();
  const other = b.network.port(new Life("b/other#1"), "b");
  const client = await b.done(other.connect(address));
  await b.done(client.write(new Uint8Array([1, 2])));
  const into = new Uint8Array(4);
  assert.equal(await b.done((await accepted)!.read(into)), 2);
  await assert.rejects(b.done(b.a.connect(address)), /refused/);
});

Deno.test("closing ends pending reads and writes at once, and the peer reads to the end", async () => {
  await using b = bench(3);
  const [client, server] = await b.join();
  const reading = watch(client.read(new Uint8Array(10)));
  await b.done(client.write(new Uint8Array([1, 2, 3])));
  const writing = watch(client.write(new Uint8Array(1_000_000)));
  client.close();
  client.close();
  await b.scheduler.runFor(0);
  assert.ok(reading.error instanceof UnavailableError);
  assert.ok(writing.error instanceof UnavailableError);
  await assert.rejects(client.read(new Uint8Array(1)), UnavailableError);
  await assert.rejects(client.write(new Uint8Array(1)), UnavailableError);
  const { bytes, end } = await b.done(readAll(server));
  assert.deepEqual(bytes.slice(0, 3), [1, 2, 3]);
  assert.ok(bytes.length < 1_000_000);
  assert.equal(end, "eof");
});

Deno.test("writing to a peer that has closed ends in an error", async () => {
  for (let seed = 0; seed < SEEDS; seed++) {
    await using b = bench(seed);
    const [client, server] = await b.join();
    const writing = writeAll(client, new Uint8Array(5_000_000), 5_000);
    await b.scheduler.runFor(seed % 10);
    server.close();
    assert.equal(await b.done(writing), "error", `seed ${seed}`);
  }
});

Deno.test("nothing arrives over a silent link, and all of it when it heals", async () => {
  for (let seed = 0; seed < 20; seed++) {
    await using b = bench(seed);
    const [client, server] = await b.join();
    b.network.silence("a", "b");
    const reading = watch(server.read(new Uint8Array(10)));
    const back = watch(client.read(new Uint8Array(10)));
    await b.done(client.write(new Uint8Array([1])));
    await b.done(server.write(new Uint8Array([2])));
    await b.scheduler.runFor(3_600_000);
    assert.equal(reading.settled, false);
    assert.equal(back.value, 1);
    b.network.heal("a", "b");
    await b.scheduler.runFor(1_000);
    assert.equal(reading.value, 1);
  }
});

Deno.test("a cut connection gives both ends a prefix of what was sent, and then an end or an error", async () => {
  const seen = { eof: 0, error: 0, whole: 0, part: 0 };
  for (let seed = 0; seed < SEEDS; seed++) {
    await using b = bench(seed);
    const [client, server] = await b.join();
    const sent = new SeededRandom(seed).bytes(4_000);
    const reading = [readAll(server), readAll(client)];
    const writing = [writeAll(client, sent, 100), writeAll(server, sent, 100)];
    await b.scheduler.runFor(new SeededRandom(seed).unit() * 60);
    b.network.cut("a", "b");
    await b.done(Promise.all(writing.map((each) => each)));
    for (const { bytes, end } of await b.done(Promise.all(reading))) {
      assert.deepEqual(bytes, [...sent.subarray(0, bytes.length)], `seed ${seed}`);
      seen[end as "eof" | "error"]++;
      seen[bytes.length === sent.length ? "whole" : "part"]++;
    }
    assert.equal(await b.done(writeAll(client, new Uint8Array(100_000_000), 1_000_000)), "error");
  }
  for (const [what, count] of Object.entries(seen)) assert.ok(count > 10, `${what}: ${count}`);
});

Deno.test("a killed process closes its connections and listeners, and hears nothing more", async () => {
  for (let seed = 0; seed < SEEDS; seed++) {
    await using b = bench(seed);
    const [client, server] = await b.join();
    await b.b.listen(ADDRESS);
    const theirs = watch(server.read(new Uint8Array(10)));
    const ours = readAll(client);
    b.lifeB.end();
    assert.match((await b.done(ours)).end, /eof|error/);
    assert.throws(() => server.read(new Uint8Array(10)), /dead/);
    await b.scheduler.runFor(10_000);
    assert.equal(theirs.settled, false);
    await assert.rejects(b.done(b.a.connect(ADDRESS)), /refused/);
  }
});

Deno.test("a host that is switched off goes silent or resets, and resets what it does not know when it is back", async () => {
  const seen = { silent: 0, reset: 0 };
  for (let seed = 0; seed < SEEDS; seed++) {
    await using b = bench(seed);
    const [client] = await b.join();
    const reading = watch(client.read(new Uint8Array(10)));
    b.network.switchOff("b");
    b.lifeB.end();
    await b.scheduler.runFor(600_000);
    seen[reading.settled ? "reset" : "silent"]++;
    if (reading.settled) continue;
    await b.done(client.write(new Uint8Array(10)));
    await b.scheduler.runFor(600_000);
    assert.equal(reading.settled, false, `seed ${seed}`);
    b.network.switchOn("b");
    await b.scheduler.runFor(1_000);
    assert.ok(reading.error instanceof UnavailableError, `seed ${seed}`);
  }
  assert.ok(seen.silent > 20 && seen.reset > 10, JSON.stringify(seen));
});

Deno.test("a buffer that is changed while it is written fails the run", async () => {
  await using b = bench(1);
  const [client] = await b.join();
  const buffer = new Uint8Array(100);
  const writing = client.write(buffer);
  buffer[50] = 1;
  await assert.rejects(b.done(writing), SimulationFailure);
});

Deno.test("a buffer that is read into holds rubbish until the read resolves, and using it fails the run", async () => {
  await using b = bench(1);
  const [client, server] = await b.join();
  const into = new Uint8Array(10);
  const reading = server.read(into);
  assert.ok(into.every((byte) => byte === RUBBISH));
  await b.done(client.write(new Uint8Array([1, 2])));
  assert.equal(await b.done(reading), 2);
  assert.deepEqual([...into.subarray(0, 3)], [1, 2, RUBBISH]);
  const again = server.read(into);
  into[0] = 3;
  await assert.rejects(b.done(client.write(new Uint8Array([1])).then(() => again)), SimulationFailure);
});

Deno.test("two reads at a time fail the run", async () => {
  await using b = bench(1);
  const [client] = await b.join();
  void client.read(new Uint8Array(1));
  void client.read(new Uint8Array(1));
  await assert.rejects(b.scheduler.runFor(1), SimulationFailure);
});
