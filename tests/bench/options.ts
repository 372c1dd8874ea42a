/** The command line of the benchmarks. */
import { parseArgs } from "node:util";

/** Who is at an end of the stream. */
export type Maker = "ours" | "python";

/** Source's and replica's makers, as `--pair ours-python` names them. */
export type Pair = readonly [primary: Maker, secondary: Maker];

export interface Options {
  /** The cases to run; empty: all. */
  readonly cases: readonly string[];
  /** Small data and few rounds: shows that everything runs, measures nothing. */
  readonly quick: boolean;
  /** Undefined: what the case thinks fit. */
  readonly rounds: number | undefined;
  readonly pair: Pair | undefined;
  readonly size: "small" | "big" | undefined;
  /** Where the data files are made, and kept; undefined: in a temporary directory. */
  readonly data: string | undefined;
  /** Where replicas are written; undefined: where the data files are. */
  readonly target: string | undefined;
  readonly json: boolean;
  /** Also what takes gigabytes. */
  readonly huge: boolean;
  /** Where our processes leave CPU profiles; undefined: none are taken. */
  readonly profile: string | undefined;
  readonly help: boolean;
}

export const USAGE = `deno task bench -- [CASE]… [options]

  --pair A-B       only this pair of primary and secondary, each ours or python (catch-up, latency)
  --size SIZE      only small or big records (catch-up)
  --rounds N       so many rounds for everything
  --quick          small data, one round: shows that everything runs
  --huge           also one transaction of 2 GB (memory)
  --data DIR       keep the data files in DIR, and take them from there next time
  --target DIR     write replicas here; default: beside the data files
  --profile DIR    our processes leave CPU profiles here (tests/bench/profile.ts sums them up)
  --json           print JSON`;

/** @throws Error for what cannot be understood, in words for the user */
export function parseOptions(args: readonly string[]): Options {
  const { values, positionals } = parseArgs({
    args: args[0] === "--" ? args.slice(1) : [...args],
    allowPositionals: true,
    options: {
      quick: { type: "boolean", default: false },
      rounds: { type: "string" },
      pair: { type: "string" },
      size: { type: "string" },
      data: { type: "string" },
      target: { type: "string" },
      json: { type: "boolean", default: false },
      huge: { type: "boolean", default: false },
      profile: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  return {
    cases: positionals,
    quick: values.quick,
    rounds: values.rounds === undefined ? undefined : parseRounds(values.rounds),
    pair: values.pair === undefined ? undefined : parsePair(values.pair),
    size: values.size === undefined ? undefined : parseSize(values.size),
    data: values.data,
    target: values.target,
    json: values.json,
    huge: values.huge,
    profile: values.profile,
    help: values.help,
  };
}

function parseRounds(text: string): number {
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text);
  throw new Error(`Cannot read --rounds: expected a number from 1, found ${JSON.stringify(text)}`);
}

function parsePair(text: string): Pair {
  const [primary, secondary, ...more] = text.split("-");
  if (isMaker(primary) && isMaker(secondary) && more.length === 0) return [primary, secondary];
  throw new Error(`Cannot read --pair: expected such as ours-python, found ${JSON.stringify(text)}`);
}

function isMaker(text: string | undefined): text is Maker {
  return text === "ours" || text === "python";
}

function parseSize(text: string): "small" | "big" {
  if (text === "small" || text === "big") return text;
  throw new Error(`Cannot read --size: expected small or big, found ${JSON.stringify(text)}`);
}
