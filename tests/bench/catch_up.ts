/**
 * Catch-up: an empty secondary receives a whole file. Measured from the moment it begins to connect until its
 * file is complete and, for ours, durable (Python's syncs after every transaction, so there it is the same).
 */
import { join } from "node:path";
import type { Bench, Case } from "./bench.ts";
import { roundsOf } from "./bench.ts";
import type { DataFile, Shape } from "./data_files.ts";
import { removeIfThere } from "./data_files.ts";
import { DurableProbe } from "./durable_probe.ts";
import { type End, startPrimary, startSecondary } from "./ends.ts";
import { assertSameBytes, endsWith, lastTidsOf, warm } from "./file_end.ts";
import { type Aim, atLeast, type Measurement } from "./measurement.ts";
import { md5Rate } from "./md5_rate.ts";
import type { Pair } from "./options.ts";
import { cpuSecondsOf } from "./process_usage.ts";
import { median } from "./statistics.ts";

export const SMALL: Shape = { name: "small", transactions: 50_000, records: 10, bytes: 900 };
export const BIG: Shape = { name: "big", transactions: 5_280, records: 10, bytes: 15_000 };

const PAIRS: readonly Pair[] = [["ours", "ours"], ["ours", "python"], ["python", "ours"], [
  "python",
  "python",
]];
const PYTHON_PAIR = nameOf(["python", "python"]);

/** What one round took, in seconds. */
interface Round {
  readonly took: number;
  /** Processor time that both ends used for it: it varies less than `took` on a busy machine. */
  readonly cpu: readonly [primary: number, secondary: number];
}

/** A round with Python takes half a minute: fewer of them. */
const OUR_ROUNDS = 5;
const PYTHON_ROUNDS = 2;

const POLL_MS = 5;

export const catchUp: Case = {
  name: "catch-up",
  about: "an empty secondary receives a whole file",
  async run(bench) {
    const { options } = bench;
    const measurements: Measurement[] = [];
    for (const shape of [SMALL, BIG]) {
      if (options.size === undefined || options.size === shape.name) {
        measurements.push(...await measureFile(bench, await bench.files.get(shape)));
      }
    }
    return measurements;
  },
};

async function measureFile(bench: Bench, file: DataFile): Promise<Measurement[]> {
  const { options } = bench;
  const pairs = options.pair === undefined ? PAIRS : [options.pair];
  const found = new Map(pairs.map((pair) => [nameOf(pair), [] as Round[]]));
  const md5: number[] = [];
  const rounds = Math.max(...pairs.map((pair) => roundsFor(bench, pair)));
  for (let round = 0; round < rounds; round++) {
    md5.push(md5Rate());
    for (const pair of pairs) {
      if (round >= roundsFor(bench, pair)) continue;
      const one = await measureRound(bench, file, pair);
      found.get(nameOf(pair))!.push(one);
      bench.say(`catch-up ${file.name}, ${nameOf(pair)}: ${one.took.toFixed(2)} s`);
    }
  }
  const limit = file.size / 1e6 / median(md5);
  const python = found.get(PYTHON_PAIR)?.map(({ took }) => took);
  return [
    ...pairs.map((pair) => describe(file, pair, found.get(nameOf(pair))!, python, limit)),
    {
      case: "catch-up",
      what: `${file.name}: MD5 over so many bytes, once`,
      rounds: md5.map((rate) => file.size / 1e6 / rate),
      unit: "s",
      detail: `${Math.round(median(md5))} MB/s`,
    },
  ];
}

function roundsFor({ options }: Bench, pair: Pair): number {
  return roundsOf(options, pair.includes("python") ? PYTHON_ROUNDS : OUR_ROUNDS);
}

function nameOf([primary, secondary]: Pair): string {
  const names = { ours: "ours", python: "Python" };
  return `${names[primary]} → ${names[secondary]}`;
}

async function measureRound(bench: Bench, file: DataFile, pair: Pair): Promise<Round> {
  const { target: directory, options: { profile } } = bench;
  const [primaryMaker, secondaryMaker] = pair;
  const copy = join(directory, "copy.fs");
  await removeCopy(copy);
  const { beforeLast, last } = lastTidsOf(file.path);
  warm(file.path);
  await using primary = await startPrimary(primaryMaker, { path: file.path, directory, profile });
  const from = primary.address!;
  const ours = secondaryMaker === "ours";
  await using secondary = await startSecondary(secondaryMaker, from, ours, {
    path: copy,
    directory,
    profile,
  });
  const ends = [primary.pid, secondary.pid] as const;
  const [start, cpuBefore] = [performance.now(), ends.map(cpuSecondsOf)];
  if (ours) await waitUntilDurable(secondary, beforeLast);
  else await waitUntilWritten(copy, file.size, last);
  const took = (performance.now() - start) / 1000;
  const cpu = ([0, 1] as const).map((end) => cpuSecondsOf(ends[end]) - cpuBefore[end]!);
  await secondary.close();
  await primary.close();
  assertSameBytes(file.path, copy);
  await removeCopy(copy);
  return { took, cpu: [cpu[0]!, cpu[1]!] };
}

async function waitUntilDurable(secondary: End, beforeLast: bigint): Promise<void> {
  using probe = await DurableProbe.connect(secondary.address!, beforeLast);
  await probe.waitForLast();
}

/** Waits until the file is complete; looks now and then, so as not to slow down what is measured. */
export async function waitUntilWritten(path: string, size: number, tid: bigint): Promise<void> {
  while (!endsWith(path, size, tid)) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
}

/** Removes a Data.fs and what lies beside it. */
export async function removeCopy(path: string): Promise<void> {
  for (const suffix of ["", ".index", ".lock", ".tmp"]) await removeIfThere(path + suffix);
}

function describe(
  file: DataFile,
  pair: Pair,
  rounds: readonly Round[],
  python: readonly number[] | undefined,
  md5Seconds: number,
): Measurement {
  const seconds = rounds.map(({ took }) => took);
  const cpu = ([0, 1] as const).map((end) => median(rounds.map((round) => round.cpu[end])));
  const took = median(seconds);
  const records = file.transactions * file.records;
  const rate = `${Math.round(file.size / 1e6 / took)} MB/s, ${Math.round(records / took)} records/s`;
  const ratio = python === undefined ? undefined : median(python) / took;
  return {
    case: "catch-up",
    what: `${file.name}: ${nameOf(pair)}`,
    rounds: seconds,
    unit: "s",
    detail: `${rate}, ${Math.round(100 * md5Seconds / took)} % of MD5, CPU ${
      cpu.map((each) => each.toFixed(1)).join(" + ")
    } s`,
    ...(ratio !== undefined && nameOf(pair) !== PYTHON_PAIR &&
      { compared: { ratio, of: `as fast as ${PYTHON_PAIR}` } }),
    ...aimOf(file, pair, ratio, md5Seconds / took, cpu),
  };
}

function aimOf(
  file: DataFile,
  pair: Pair,
  ratio: number | undefined,
  ofMd5: number,
  cpu: readonly number[],
): { readonly aim?: Aim } {
  const [ours, python] = [pair.indexOf("ours"), pair.indexOf("python")];
  if (ours < 0) return {};
  if (python >= 0) return { aim: { words: "Python is the bottleneck", met: cpu[ours]! < cpu[python]! } };
  if (ratio === undefined) return {};
  if (file.name === SMALL.name) return { aim: atLeast(12, ratio) };
  return { aim: { words: "≥ 3×, ≥ 50 % of MD5", met: ratio >= 3 && ofMd5 >= 0.5 } };
}
