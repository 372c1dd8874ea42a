import assert from "node:assert/strict";
import { UnavailableError } from "../../lib/errors.ts";
import { type Ports, SimulatedMachine, type Task } from "./machine.ts";
import { SimulatedNetwork } from "./network.ts";
import { SeededRandom } from "./random.ts";
import { Scheduler, SimulationFailure } from "./scheduler.ts";

function bench(seed: number) {
  const random = new SeededRandom(seed);
  const scheduler = new Scheduler(random);
  const network = new SimulatedNetwork(scheduler, random);
  const surroundings = { scheduler, network, random };
  const a = new SimulatedMachine(surroundings, "a");
  const b = new SimulatedMachine(surroundings, "b");
  for (const machine of [a, b]) machine.disk.makeDirectory("/db");
  return { scheduler, network, a, b, [Symbol.asyncDispose]: () => scheduler[Symbol.asyncDispose]() };
}

const sleep = (ports: Ports, ms: number) =>
  new Promise<void>((resolve) => void ports.clock.schedule(ms, resolve));

/** Ticks into a file and to the log for ever. */
const ticking: Task = async ({ disk, log, clock, random, ...rest }) => {
  const ports = { disk, log, clock, random, ...rest };
  const file = disk.create(`/db/${random.unit()}`);
  for (let i = 0;; i++) {
    try {
      file.writeAt(new Uint8Array([i]), i);
      await file.sync();
      await sleep(ports, 10);
      log.info("Tick", { i });
    } finally {
      log.debug("Tock");
    }
  }
};

Deno.test("a task ends by itself, by one of our errors, by a signal, or by being killed", async () => {
  await using b = bench(1);
  const finished = b.a.start("one", async () => {});
  const failed = b.a.start("two", () => Promise.reject(new UnavailableError("Cannot go on")));
  const stopped = b.a.start(
    "three",
    (_ports, signal) => new Promise((resolve) => signal.addEventListener("abort", () => resolve())),
  );
  const killed = b.a.start("four", ticking);
  await b.scheduler.runFor(100);
  assert.equal(finished.outcome.state, "finished");
  assert.ok(failed.outcome.state === "failed" && failed.outcome.error instanceof UnavailableError);
  assert.equal(stopped.outcome.state, "running");
  stopped.stop();
  await b.scheduler.runFor(1);
  assert.equal(stopped.outcome.state, "finished");
  assert.equal(killed.outcome.state, "running");
  killed.kill();
  assert.equal(killed.outcome.state, "killed");
});

Deno.test("a task that ends with an error that is not ours fails the run", async () => {
  await using b = bench(1);
  b.a.start("bug", () => Promise.reject(new TypeError("undefined is not a function")));
  await assert.rejects(b.scheduler.runFor(10), SimulationFailure);
});

Deno.test("timers of a killed process do not fire, not even those that touch nothing", async () => {
  await using b = bench(1);
  let fired = 0;
  const process = b.a.start("timer", async (ports) => {
    ports.clock.schedule(10, () => fired++);
    ports.clock.schedule(30, () => fired++);
    await sleep(ports, 1_000);
  });
  await b.scheduler.runFor(20);
  process.kill();
  await b.scheduler.runFor(100);
  assert.equal(fired, 1);
});

Deno.test("a killed process does not act any more, and its machine's other processes go on", async () => {
  await using b = bench(1);
  const old = b.a.start("old", ticking);
  b.a.start("other", ticking);
  await b.scheduler.runFor(200);
  old.kill();
  const count = (process: string) => b.a.log.filter((entry) => entry.process === process).length;
  const [before, others] = [count("old"), count("other")];
  assert.ok(before > 5);
  await b.scheduler.runFor(200);
  assert.equal(count("old"), before);
  assert.ok(count("other") > others);
});

Deno.test("after a crash nothing of the machine acts, and what a restarted one finds was synced", async () => {
  await using b = bench(1);
  const process = b.a.start("old", ticking);
  b.b.start("elsewhere", ticking);
  await b.scheduler.runFor(500);
  const path = b.a.disk.paths()[0]!;
  const synced = b.a.disk.durableBytes(path)!;
  const elsewhere = b.b.log.length;
  b.a.crash();
  b.a.crash();
  assert.equal(b.a.up, false);
  assert.equal(process.outcome.state, "killed");
  assert.throws(() => b.a.start("early", ticking), /switched off/);
  const events = b.a.log.length;
  await b.scheduler.runFor(500);
  assert.equal(b.a.log.length, events);
  assert.ok(b.b.log.length > elsewhere);
  b.a.restart();
  if (b.a.disk.bytes(path) !== undefined) {
    assert.deepEqual(b.a.disk.bytes(path)!.subarray(0, synced.length), synced);
  }
  const again = b.a.start("old", ticking);
  await b.scheduler.runFor(100);
  assert.equal(again.running, true);
  assert.ok(b.a.log.length > events);
});

Deno.test("the time of day can be set, and neither timers nor the monotonic time notice", async () => {
  await using b = bench(1);
  const seen: [number, number][] = [];
  b.a.start("clock", async (ports) => {
    for (let i = 0; i < 3; i++) {
      seen.push([ports.clock.now(), ports.clock.monotonic()]);
      await sleep(ports, 1_000);
    }
  });
  await b.scheduler.runFor(500);
  b.a.clock.step(-3_600_000);
  await b.scheduler.runFor(1_000);
  b.a.clock.step(7_200_000);
  await b.scheduler.runFor(1_000);
  const differences = (at: 0 | 1) => [1, 2].map((i) => Math.round(seen[i]![at] - seen[i - 1]![at]));
  assert.deepEqual(differences(0), [1_000 - 3_600_000, 1_000 + 7_200_000]);
  assert.deepEqual(differences(1), [1_000, 1_000]);
});

/** Two machines that talk, write, crash and come back; what the trace says of it. */
async function story(seed: number): Promise<string> {
  await using b = bench(seed);
  const address = { transport: "tcp", host: "b", port: 1 } as const;
  const serve: Task = async ({ network, disk, random }) => {
    const file = disk.create(`/db/${random.unit()}`);
    const listener = await network.listen(address);
    for (
      let connection = await listener.accept();
      connection !== null;
      connection = await listener.accept()
    ) {
      try {
        const into = new Uint8Array(100);
        for (
          let at = 0, count = await connection.read(into);
          count !== null;
          count = await connection.read(into)
        ) {
          file.writeAt(into.subarray(0, count), at += count);
          await file.sync();
        }
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
      }
    }
  };
  b.b.start("server", serve);
  b.a.start("client", async (ports) => {
    for (;;) {
      try {
        using connection = await ports.network.connect(address);
        for (;;) await connection.write(new Uint8Array(50));
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        await sleep(ports, 100);
      }
    }
  });
  await b.scheduler.runFor(300);
  b.b.crash();
  await b.scheduler.runFor(50);
  b.b.restart();
  b.b.start("server", serve);
  await b.scheduler.runFor(300);
  return `${b.scheduler.trace.count} ${b.scheduler.trace.hash}`;
}

Deno.test("the same seed gives the same trace, another seed another one", async () => {
  const traces = new Set<string>();
  for (let seed = 0; seed < 10; seed++) {
    const trace = await story(seed);
    assert.equal(await story(seed), trace, `seed ${seed}`);
    traces.add(trace);
  }
  assert.equal(traces.size, 10);
});
