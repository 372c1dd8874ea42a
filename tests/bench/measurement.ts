/** What the cases give back: numbers with what they are of, and what was aimed at. */
import { median } from "./statistics.ts";

export type Unit = "s" | "ms" | "kB" | "MiB" | "MB/s";

/** What a measurement is held against, another one of the same run. */
export interface Comparison {
  /** How many times faster, smaller or larger: `of` says which, and than what. */
  readonly ratio: number;
  /** Words that follow the ratio, such as "as fast as Python → Python". */
  readonly of: string;
}

/** What design asks for, as words and as the outcome. */
export interface Aim {
  readonly words: string;
  readonly met: boolean;
}

export interface Measurement {
  /** The case it belongs to. */
  readonly case: string;
  /** What was measured, with the data it was measured on. */
  readonly what: string;
  /** One value per round. */
  readonly rounds: readonly number[];
  readonly unit: Unit;
  /** The same in other units, for people. */
  readonly detail?: string;
  readonly compared?: Comparison;
  readonly aim?: Aim;
}

/** The value that stands for all rounds. */
export function valueOf(measurement: Measurement): number {
  return median(measurement.rounds);
}

/** An aim of at least `least` times. */
export function atLeast(least: number, ratio: number, words = `≥ ${least}×`): Aim {
  return { words, met: ratio >= least };
}

/** An aim of at most `most`, in whatever the value counts. */
export function atMost(most: number, value: number, words: string): Aim {
  return { words, met: value <= most };
}
