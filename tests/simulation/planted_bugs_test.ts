import assert from "node:assert/strict";
import { PromiseBroken } from "./checkers.ts";
import { PLANTED_BUGS, type PlantedBug } from "./planted_bugs.ts";
import { PLANTED_DELAY_BUGS } from "./planted_delay_bugs.ts";
import { PLANTED_NATIVE_BUGS } from "./planted_native_bugs.ts";
import { SimulationFailure } from "./scheduler.ts";
import { simulate } from "./world.ts";

/** A bug that takes more worlds to show is not found in the 500 of the test command for sure. */
const MOST_SEEDS = 150;

/** So many worlds in which a check that a bug leaves out has something to find. */
const SURVIVED_SEEDS = 30;

/** A world with a bug in it, or with what the check that it leaves out is for. */
async function simulateWith(bug: PlantedBug, seed: number): Promise<void> {
  await simulate({
    seed,
    ...(bug.plan === undefined ? {} : { plan: bug.plan }),
    disguise: (ports, node, scheduler) =>
      (node === "primary") === (bug.node === "primary") ? bug.plant(ports, scheduler) : ports,
  });
}

/** The first seed whose world shows a bug, and who found it. */
async function hunt(bug: PlantedBug): Promise<{ seed: number; finder: string; message: string } | undefined> {
  using _patch = bug.patch?.();
  for (let seed = 1; seed <= MOST_SEEDS; seed++) {
    try {
      await simulateWith(bug, seed);
    } catch (error) {
      if (!(error instanceof SimulationFailure)) throw error;
      const finder = error.cause instanceof PromiseBroken ? error.cause.checker : "world";
      return { seed, finder, message: error.message.split("\n", 1)[0]! };
    }
  }
  return undefined;
}

/** The bug in worlds in which everything is applied at once. */
function withoutDelay(bug: PlantedBug): PlantedBug {
  return {
    ...bug,
    plan: (drawn) => {
      const plan = bug.plan?.(drawn) ?? drawn;
      return { ...plan, replicas: plan.replicas.map((each) => ({ ...each, applyDelayMs: 0 })) };
    },
  };
}

const BUGS = [...PLANTED_BUGS, ...PLANTED_NATIVE_BUGS].map(withoutDelay);

for (const bug of [...BUGS, ...PLANTED_DELAY_BUGS]) {
  Deno.test(`found when planted: ${bug.name}`, async () => {
    const found = await hunt(bug);
    assert.ok(found !== undefined, `not found in ${MOST_SEEDS} worlds`);
    assert.ok(bug.foundBy.includes(found.finder), `seed ${found.seed}: ${found.message}`);
  });
}

for (const bug of PLANTED_NATIVE_BUGS.map(withoutDelay).filter(({ patch }) => patch !== undefined)) {
  Deno.test(`nothing is broken by what the check is for: ${bug.name}`, async () => {
    for (let seed = 1; seed <= SURVIVED_SEEDS; seed++) await simulateWith(bug, seed);
  });
}
