/**
 * A link at rest: what two ends cost while nothing happens but beats, which each says every 10 s, and the primary's
 * looks at its file. Beside it a primary without any secondary.
 */
import { join } from "node:path";
import { type Bench, type Case, roundsOf } from "./bench.ts";
import { removeCopy, type Shape } from "./data_files.ts";
import { type End, startPrimary, startSecondary } from "./ends.ts";
import { lastTidsOf, waitUntilWritten } from "./file_end.ts";
import type { Measurement } from "./measurement.ts";
import type { Options } from "./options.ts";
import { secondsBetween, threadTimesOf } from "./process_usage.ts";
import { median } from "./statistics.ts";
import { Tap } from "./tap.ts";

const FILE: Shape = { name: "48mb", transactions: 5_000, records: 10, bytes: 900 };
/** Three beats each way. */
const SILENCE_S = 30;
const QUICK_SILENCE_S = 2;
/** Code that has just run is still being compiled, and memory collected. */
const SETTLE_S = 5;

/** Per second of silence. */
interface Cost {
  readonly primary: number;
  readonly secondary: number;
  readonly bytes: number;
}

export const idle: Case = {
  name: "idle",
  about: "processor time and bytes of a link at rest, for an hour",
  async run(bench) {
    const alone: number[] = [];
    const linked: Cost[] = [];
    for (let round = 0; round < roundsOf(bench.options, 3); round++) {
      alone.push(await measureAlone(bench));
      linked.push(await measureLink(bench));
      bench.say(`idle: round ${round + 1}`);
    }
    const cpu = (what: string, seconds: readonly number[]): Measurement => ({
      case: "idle",
      what: `${what}: processor time in an hour`,
      rounds: seconds.map((each) => each * 3600),
      unit: "s",
      detail: `${(100 * median(seconds)).toFixed(2)} % of a core`,
    });
    return [
      cpu("primary without a secondary", alone),
      cpu("primary with one", linked.map((each) => each.primary)),
      cpu("secondary", linked.map((each) => each.secondary)),
      {
        case: "idle",
        what: "bytes both ways in an hour",
        rounds: linked.map((each) => each.bytes * 3600 / 1000),
        unit: "kB",
      },
    ];
  },
};

async function measureAlone(bench: Bench): Promise<number> {
  const { target: directory, options: { profile } } = bench;
  const { path } = await bench.files.get(FILE);
  await using primary = await startPrimary("ours", { path, directory, profile });
  const [cpu] = await cpuDuringSilence(bench, [primary]);
  await primary.close();
  return cpu!;
}

async function measureLink(bench: Bench): Promise<Cost> {
  const { target: directory, options: { profile } } = bench;
  const file = await bench.files.get(FILE);
  const path = join(directory, "copy.fs");
  await removeCopy(path);
  await using primary = await startPrimary("ours", { path: file.path, directory, profile });
  let bytes = 0;
  using tap = new Tap(primary.address!, { passing: (piece) => void (bytes += piece.length) });
  const start = { path, directory, profile, protocol: "native" } as const;
  await using secondary = await startSecondary("ours", tap.address, false, start);
  await waitUntilWritten(path, file.size, lastTidsOf(file.path).last);
  const [cpuOfPrimary, cpuOfSecondary] = await cpuDuringSilence(bench, [primary, secondary], () => bytes = 0);
  const bytesInSilence = bytes / silenceOf(bench.options); // before they say goodbye
  await secondary.close();
  await primary.close();
  await removeCopy(path);
  return { primary: cpuOfPrimary!, secondary: cpuOfSecondary!, bytes: bytesInSilence };
}

/**
 * Seconds of processor time that each end uses in a second of silence.
 * @param begins called when the silence begins
 */
async function cpuDuringSilence(
  { options }: Bench,
  ends: readonly End[],
  begins: () => void = () => {},
): Promise<number[]> {
  await rest(options.quick ? 1 : SETTLE_S);
  begins();
  const before = ends.map(({ pid }) => threadTimesOf(pid));
  await rest(silenceOf(options));
  return ends.map(({ pid }, at) => secondsBetween(before[at]!, threadTimesOf(pid)) / silenceOf(options));
}

function silenceOf({ quick }: Options): number {
  return quick ? QUICK_SILENCE_S : SILENCE_S;
}

function rest(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
