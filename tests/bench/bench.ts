/** What a benchmark case is, and what it is given. */
import type { DataFiles } from "./data_files.ts";
import type { Measurement } from "./measurement.ts";
import type { Options } from "./options.ts";

/** What all cases share. */
export interface Bench {
  readonly options: Options;
  readonly files: DataFiles;
  /** A directory for what a case writes; each leaves it empty. */
  readonly target: string;
  /** Tells what is going on. */
  readonly say: (line: string) => void;
}

export interface Case {
  readonly name: string;
  /** What it measures, in a line. */
  readonly about: string;
  run(bench: Bench): Promise<Measurement[]>;
}

/** How many rounds: what the user said, one when in a hurry, else `usual`. */
export function roundsOf(options: Options, usual: number): number {
  return options.rounds ?? (options.quick ? 1 : usual);
}
