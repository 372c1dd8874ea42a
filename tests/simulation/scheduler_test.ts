import assert from "node:assert/strict";
import { ProcessDead } from "./life.ts";
import { SeededRandom } from "./random.ts";
import { Scheduler, SimulationFailure } from "./scheduler.ts";

function failsWith(pattern: RegExp) {
  return (error: unknown) => error instanceof SimulationFailure && pattern.test(error.message);
}

Deno.test("a fork of a random generator does not depend on what the generator has drawn", () => {
  const fresh = new SeededRandom(7);
  const used = new SeededRandom(7);
  for (let i = 0; i < 100; i++) used.unit();
  const draw = (random: SeededRandom) => Array.from({ length: 20 }, () => random.int(1000));
  assert.deepEqual(draw(fresh.fork("disk")), draw(used.fork("disk")));
  assert.notDeepEqual(draw(fresh.fork("disk")), draw(fresh.fork("network")));
});

Deno.test("a random generator gives every value of its range about equally often", () => {
  const random = new SeededRandom(1);
  const counts = new Map<number, number>();
  for (let i = 0; i < 60_000; i++) {
    const value = random.between(1, 6);
    counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  assert.deepEqual([...counts.keys()].sort(), [1, 2, 3, 4, 5, 6]);
  for (const count of counts.values()) assert.ok(count > 9_500 && count < 10_500, `${count}`);
});

Deno.test("events run in the order of their times, whatever order they were scheduled in", async () => {
  await using scheduler = new Scheduler(new SeededRandom(1));
  const random = new SeededRandom(2);
  const times: number[] = [];
  for (let i = 0; i < 500; i++) scheduler.after(random.int(100), () => times.push(scheduler.nowMs));
  await scheduler.runFor(100);
  assert.equal(times.length, 500);
  assert.deepEqual(times, [...times].sort((a, b) => a - b));
});

Deno.test("events of the same time run in an order that the seed decides", async () => {
  const orderOf = async (seed: number) => {
    await using scheduler = new Scheduler(new SeededRandom(seed));
    const order: number[] = [];
    for (let i = 0; i < 6; i++) scheduler.after(5, () => order.push(i));
    await scheduler.runFor(5);
    return order.join("");
  };
  const orders = new Set<string>();
  for (let seed = 0; seed < 20; seed++) {
    const order = await orderOf(seed);
    assert.equal(order, await orderOf(seed));
    orders.add(order);
  }
  assert.ok(orders.size > 10, `${orders.size} different orders`);
});

Deno.test("all that an event sets off by promises is over before the next event of the same time", async () => {
  await using scheduler = new Scheduler(new SeededRandom(1));
  const log: string[] = [];
  const chain = async (name: string) => {
    for (let i = 0; i < 50; i++) await null;
    log.push(name);
  };
  for (let i = 0; i < 5; i++) {
    scheduler.after(1, () => {
      log.push(`begin ${i}`);
      void chain(`end ${i}`);
    });
  }
  await scheduler.runFor(1);
  for (let at = 0; at < log.length; at += 2) assert.equal(log[at + 1], log[at]!.replace("begin", "end"));
});

Deno.test("a cancelled event does not run", async () => {
  await using scheduler = new Scheduler(new SeededRandom(1));
  let ran = 0;
  const timer = scheduler.after(1, () => ran++);
  scheduler.after(1, () => ran++);
  timer.cancel();
  timer.cancel();
  await scheduler.runFor(10);
  assert.equal(ran, 1);
});

Deno.test("waiting when nothing is left to happen fails the run and names the seed", async () => {
  await using scheduler = new Scheduler(new SeededRandom("seed 99"));
  scheduler.after(1, () => {});
  await assert.rejects(scheduler.runUntil(() => false), failsWith(/Nothing is left.*seed 99/));
});

Deno.test("events without end fail the run", async () => {
  await using scheduler = new Scheduler(new SeededRandom(1));
  const again = () => void scheduler.after(0, again);
  again();
  await assert.rejects(scheduler.runUntil(() => false, { events: 100 }), failsWith(/after 100 events/));
  await assert.rejects(
    (async () => {
      await using other = new Scheduler(new SeededRandom(1));
      const more = () => void other.after(0, more);
      more();
      await other.runFor(1, { events: 100 });
    })(),
    failsWith(/Time does not pass/),
  );
});

Deno.test("a condition that is not met in time fails the run", async () => {
  await using scheduler = new Scheduler(new SeededRandom(1));
  const again = () => void scheduler.after(10, again);
  again();
  await assert.rejects(
    scheduler.runUntil(() => false, { durationMs: 1_000 }),
    failsWith(/1000 simulated ms/),
  );
});

Deno.test("a rejection that nobody handles fails the run, unless its process is dead", async () => {
  await using scheduler = new Scheduler(new SeededRandom(1));
  scheduler.after(1, () => void Promise.reject(new ProcessDead("old")));
  await scheduler.runFor(2);
  scheduler.after(1, () => void Promise.reject(new Error("forgotten")));
  await assert.rejects(scheduler.runFor(2), failsWith(/forgotten/));
});

Deno.test("an exception in an event and a check that failed fail the run", async () => {
  for (
    const provoke of [
      (_: Scheduler) => {
        throw new Error("provoked");
      },
      (scheduler: Scheduler) => scheduler.fail(new Error("provoked")),
    ]
  ) {
    await using scheduler = new Scheduler(new SeededRandom(1));
    scheduler.after(1, () => provoke(scheduler));
    await assert.rejects(scheduler.runUntil(() => false), failsWith(/provoked/));
  }
});
