import assert from "node:assert/strict";
import { OneShotWorld } from "./one_shot.ts";

const SEEDS = 150;

Deno.test(`in ${SEEDS} worlds a one-shot copy is always valid, and said to be complete only when it is`, async () => {
  const counts: Record<string, number> = {};
  for (let seed = 1; seed <= SEEDS; seed++) {
    await using world = new OneShotWorld(seed);
    try {
      await world.live();
    } catch (error) {
      throw new Error(`In the world of seed ${seed}: ${error instanceof Error ? error.message : error}`, {
        cause: error,
      });
    }
    for (const [name, count] of Object.entries(world.counts)) counts[name] = (counts[name] ?? 0) + count;
  }
  for (
    const name of [
      "blobs",
      "complete",
      "crash images",
      "created",
      "cut",
      "diverged",
      "failed: DiskError",
      "failed: DiskFullError",
      "failed: UnavailableError",
      "gone on with",
      "new copies",
    ]
  ) assert((counts[name] ?? 0) >= SEEDS / 30, `${name}: ${counts[name]}`);
});
