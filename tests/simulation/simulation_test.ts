import assert from "node:assert/strict";
import { runSeeds } from "./campaign.ts";
import { simulate } from "./world.ts";

const SEEDS = 500;

Deno.test(`every promise holds in ${SEEDS} worlds`, async () => {
  const tally = await runSeeds(Array.from({ length: SEEDS }, (_, i) => i + 1));
  assert.equal(tally.failures.length, 0, tally.failures.map(({ message }) => message).join("\n\n"));
  // A simulator in which nothing happens keeps every promise, too.
  for (
    const name of [
      "blobs",
      "converged",
      "found right: ahead",
      "found right: beyond the pack",
      "found right: forked",
      "packs",
      "refused as ahead",
      "refused as forked",
      "refused for the secret",
      "replica crashes",
      "replicas killed",
      "rewinds",
      "rollbacks of the source",
      "source crashes",
      "waiting at the end",
    ]
  ) assert.ok((tally.counts[name] ?? 0) >= SEEDS / 50, `${name}: ${tally.counts[name]}`);
});

Deno.test("a seed tells the same story each time", async () => {
  for (const seed of [1, 2, 3, 4, 5]) {
    const first = await simulate({ seed });
    assert.deepEqual(await simulate({ seed }), first, `seed ${seed}`);
  }
});

Deno.test("other seeds tell other stories", async () => {
  const hashes = new Set<string>();
  for (const seed of [1, 2, 3, 4, 5]) hashes.add((await simulate({ seed })).hash);
  assert.equal(hashes.size, 5);
});
