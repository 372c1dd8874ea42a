/** Time and chance of this machine: bounds only, since nothing here is exact. */

import assert from "node:assert/strict";
import { systemHost } from "../../lib/host/mod.ts";

const { clock, random } = systemHost();

Deno.test("now is the system's time of day with a fraction, and does not go back between its steps", () => {
  let last = 0;
  let fractions = 0;
  for (let i = 0; i < 2000; i++) {
    const before = Date.now();
    const now = clock.now();
    const after = Date.now();
    assert.ok(before <= now && now < after + 1, `${before} <= ${now} < ${after} + 1`);
    assert.ok(now >= last, `${now} >= ${last}`);
    if (now % 1 !== 0) fractions++;
    last = now;
  }
  assert.ok(fractions > 1000);
});

Deno.test("a scheduled call comes once, and never early by the monotonic clock", async () => {
  for (const delayMs of [0, 0.3, 1, 1.7, 5.2]) {
    const start = clock.monotonic();
    let calls = 0;
    await new Promise<void>((resolve) => {
      clock.schedule(delayMs, () => {
        calls++;
        resolve();
      });
    });
    assert.ok(clock.monotonic() - start >= delayMs);
    assert.equal(calls, 1);
  }
});

Deno.test("a cancelled call never comes, nor does one that is weeks away", async () => {
  const called: string[] = [];
  const cancelled = clock.schedule(0, () => called.push("cancelled"));
  cancelled.cancel();
  cancelled.cancel();
  // Beyond what the runtime's timers take: they would fire at once.
  const far = [2 ** 31, 2 ** 40, Infinity].map((ms) => clock.schedule(ms, () => called.push(`after ${ms}`)));
  await new Promise<void>((resolve) => clock.schedule(2, resolve));
  assert.deepEqual(called, []);
  for (const timer of far) timer[Symbol.dispose]();
});

Deno.test("random units are at least 0, less than 1, and not all alike", () => {
  const units = Array.from({ length: 1000 }, () => random.unit());
  assert.ok(units.every((unit) => unit >= 0 && unit < 1));
  assert.equal(new Set(units).size, units.length);
  assert.ok(units.some((unit) => unit < 0.5) && units.some((unit) => unit >= 0.5));
});

Deno.test("random bytes are as many as were asked for, and others each time", () => {
  const drawn = Array.from({ length: 1000 }, () => random.bytes(32));
  assert(drawn.every((bytes) => bytes.length === 32));
  assert.equal(new Set(drawn.map((bytes) => bytes.toHex())).size, drawn.length);
  assert.equal(new Set(drawn.flatMap((bytes) => [...bytes])).size, 256);
});
