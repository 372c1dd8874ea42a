import assert from "node:assert/strict";
import { formatCounts, Tally } from "./tally.ts";

function tallyOf(...lines: string[]): Tally {
  const tally = new Tally();
  for (const line of lines) tally.line(line);
  return tally;
}

Deno.test("the tally takes the counts of the summary line, colors and steps aside", () => {
  const tally = tallyOf(
    "a ... ok (2ms)",
    "\u001b[0m\u001b[31mFAILED\u001b[0m | 12 passed (3 steps) | 4 failed (1 step) | 2 ignored (1 step) | 5 filtered out \u001b[90m(7ms)\u001b[0m",
    "",
  );
  assert.equal(formatCounts(tally.counts(false)), "12 passed, 4 failed, 2 skipped");
});

Deno.test("without a summary the tally counts what it saw, and the interruption as a failure", () => {
  const tally = tallyOf(
    "running 5 tests from ./a_test.ts",
    "one ... ok (1ms)",
    "  step ... ok (0ms)",
    "./a_test.ts => two ... FAILED (1s)",
    "three ... ignored (0ms)",
    "Uncaught error from ./b_test.ts FAILED",
    "four ...",
  );
  assert.deepEqual(tally.counts(false), { passed: 1, failed: 3, skipped: 1 });
});

Deno.test("a bad end is a failure whatever the summary says", () => {
  const summary = "ok | 2 passed | 0 failed (4ms)";
  assert.deepEqual(tallyOf(summary).counts(true), { passed: 2, failed: 0, skipped: 0 });
  assert.deepEqual(tallyOf(summary).counts(false), { passed: 2, failed: 1, skipped: 0 });
  assert.deepEqual(tallyOf().counts(false), { passed: 0, failed: 1, skipped: 0 });
});
