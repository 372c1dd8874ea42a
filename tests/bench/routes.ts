/** Who sends to whom, for the cases in which a secondary receives a whole database, and what a round of that takes. */
import type { End, Protocol } from "./ends.ts";
import type { Comparison } from "./measurement.ts";
import type { Options, Pair } from "./options.ts";
import { cpuSecondsOf } from "./process_usage.ts";
import { median } from "./statistics.ts";

export interface Route {
  readonly name: string;
  readonly pair: Pair;
  readonly protocol: Protocol;
}

const ROUTES: readonly Route[] = [
  { name: "ours → ours, native", pair: ["ours", "ours"], protocol: "native" },
  { name: "ours → ours, zrs2", pair: ["ours", "ours"], protocol: "zrs2" },
  { name: "ours → Python", pair: ["ours", "python"], protocol: "zrs2" },
  { name: "Python → ours", pair: ["python", "ours"], protocol: "zrs2" },
  { name: "Python → Python", pair: ["python", "python"], protocol: "zrs2" },
];

/** What the others are compared with. */
export const PYTHON = ROUTES.at(-1)!;

/** Those that the user wants. */
export function routesOf({ pair: only }: Options): readonly Route[] {
  return only === undefined ? ROUTES : ROUTES.filter(({ pair }) => pair.join() === only.join());
}

/** What one round took, in seconds. */
export interface Round {
  readonly took: number;
  /** Processor time that both ends used for it: it varies less than `took` on a busy machine. */
  readonly cpu: readonly [primary: number, secondary: number];
}

/** Measures what both ends need until something is done. */
export async function roundOf(primary: End, secondary: End, done: () => Promise<void>): Promise<Round> {
  const cpu = () => [cpuSecondsOf(primary.pid), cpuSecondsOf(secondary.pid)] as const;
  const [start, before] = [performance.now(), cpu()];
  await done();
  const took = (performance.now() - start) / 1000;
  const after = cpu();
  return { took, cpu: [after[0] - before[0], after[1] - before[1]] };
}

/** What stands for all rounds. */
export function medianOf(rounds: readonly Round[]): Round {
  const of = (value: (round: Round) => number) => median(rounds.map(value));
  return { took: of(({ took }) => took), cpu: [of(({ cpu }) => cpu[0]), of(({ cpu }) => cpu[1])] };
}

/** `CPU 1.2 + 3.4 s`: of the primary and of the secondary. */
export function cpuWords({ cpu }: Round): string {
  return `CPU ${cpu.map((each) => each.toFixed(1)).join(" + ")} s`;
}

/** @param ratio to what Python took at both ends; undefined where that was not measured */
export function comparedWithPython(
  route: Route,
  ratio: number | undefined,
): { readonly compared?: Comparison } {
  if (ratio === undefined || route === PYTHON) return {};
  return { compared: { ratio, of: `as fast as ${PYTHON.name}` } };
}
