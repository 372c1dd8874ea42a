/** Running many worlds, and adding up what happened in them. */
import { SimulationFailure } from "./scheduler.ts";
import { simulate, type Summary } from "./world.ts";

export interface Failure {
  readonly seed: number;
  readonly message: string;
}

export interface Tally {
  seeds: number;
  simulatedMs: number;
  events: number;
  readonly counts: Record<string, number>;
  readonly failures: Failure[];
}

export function emptyTally(): Tally {
  return { seeds: 0, simulatedMs: 0, events: 0, counts: {}, failures: [] };
}

/** Runs the worlds of some seeds one after the other. */
export async function runSeeds(
  seeds: Iterable<number>,
  ran: (tally: Tally) => void = () => {},
): Promise<Tally> {
  const tally = emptyTally();
  for (const seed of seeds) {
    try {
      add(tally, await simulate({ seed }));
    } catch (error) {
      tally.failures.push({ seed, message: describe(error, seed) });
    }
    tally.seeds++;
    ran(tally);
  }
  return tally;
}

/** Puts what another has counted into a tally. */
export function merge(tally: Tally, other: Tally): void {
  tally.seeds += other.seeds;
  tally.simulatedMs += other.simulatedMs;
  tally.events += other.events;
  for (const [name, count] of Object.entries(other.counts)) addTo(tally.counts, name, count);
  tally.failures.push(...other.failures);
}

/** One line for each kind of thing that happened. */
export function formatTally(tally: Tally): string {
  const hours = (tally.simulatedMs / 3_600_000).toFixed(1);
  const lines = Object.entries(tally.counts).sort(([a], [b]) => a < b ? -1 : 1)
    .map(([name, count]) => `${String(count).padStart(10)}  ${name}`);
  return [
    `${tally.seeds} seeds, ${hours} hours of simulated time, ${tally.events} events, ` +
    `${tally.failures.length} failures`,
    ...lines,
  ].join("\n");
}

/** What went wrong, the last steps, and how to see it again. */
export function describe(error: unknown, seed: number): string {
  const message = error instanceof SimulationFailure || !(error instanceof Error) ? error : error.stack;
  const text = error instanceof SimulationFailure ? error.message : String(message);
  return `seed ${seed}: ${text}\nreplay: deno task simulate --seed ${seed}`;
}

function add(tally: Tally, summary: Summary): void {
  tally.simulatedMs += summary.simulatedMs;
  tally.events += summary.events;
  for (const [name, count] of Object.entries(summary.counts)) addTo(tally.counts, name, count);
}

function addTo(counts: Record<string, number>, name: string, count: number): void {
  counts[name] = (counts[name] ?? 0) + count;
}
