/**
 * Catch-up: an empty secondary receives a whole file. Measured from the moment it begins to connect until its
 * file is complete and, for ours, durable (Python's syncs after every transaction, so there it is the same).
 */
import { join } from "node:path";
import { type Bench, type Case, roundsOf } from "./bench.ts";
import { BIG, type DataFile, removeCopy, SMALL } from "./data_files.ts";
import { DurableProbe } from "./durable_probe.ts";
import { type End, startPrimary, startSecondary } from "./ends.ts";
import { assertSameBytes, lastTidsOf, waitUntilWritten, warm } from "./file_end.ts";
import { type Aim, atLeast, type Measurement } from "./measurement.ts";
import { md5Rate } from "./md5_rate.ts";
import {
  comparedWithPython,
  cpuWords,
  medianOf,
  PYTHON,
  type Round,
  roundOf,
  type Route,
  routesOf,
} from "./routes.ts";
import { median } from "./statistics.ts";

/** A round with Python takes half a minute: fewer of them. */
const OUR_ROUNDS = 5;
const PYTHON_ROUNDS = 2;

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
  const routes = routesOf(options);
  const found = new Map(routes.map((route) => [route, [] as Round[]]));
  const [md5, cp, synced]: [number[], number[], number[]] = [[], [], []];
  const rounds = Math.max(...routes.map((route) => roundsFor(bench, route)));
  for (let round = 0; round < rounds; round++) {
    md5.push(file.size / 1e6 / md5Rate());
    const copied = await copyByCp(bench, file);
    cp.push(copied.copied);
    synced.push(copied.synced);
    for (const route of routes) {
      if (round >= roundsFor(bench, route)) continue;
      const one = await measureRound(bench, file, route);
      found.get(route)!.push(one);
      bench.say(`catch-up ${file.name}, ${route.name}: ${one.took.toFixed(2)} s`);
    }
  }
  const peers: Peers = {
    md5: median(md5),
    cp: median(cp),
    synced: median(synced),
    python: found.has(PYTHON) ? medianOf(found.get(PYTHON)!).took : undefined,
  };
  const rate = (seconds: number) => `${Math.round(file.size / 1e6 / seconds)} MB/s`;
  return [
    ...routes.map((route) => describe(file, route, found.get(route)!, peers)),
    {
      case: "catch-up",
      what: `${file.name}: MD5 over so many bytes, once`,
      rounds: md5,
      unit: "s",
      detail: rate(peers.md5),
    },
    { case: "catch-up", what: `${file.name}: cp`, rounds: cp, unit: "s", detail: rate(peers.cp) },
    {
      case: "catch-up",
      what: `${file.name}: cp and sync of the copy`,
      rounds: synced,
      unit: "s",
      detail: rate(peers.synced),
    },
  ];
}

/** What else was measured in the same run, in seconds. */
interface Peers {
  readonly md5: number;
  readonly cp: number;
  /** `cp` until the copy is on disk, as a secondary's is. */
  readonly synced: number;
  readonly python: number | undefined;
}

function roundsFor({ options }: Bench, { pair }: Route): number {
  return roundsOf(options, pair.includes("python") ? PYTHON_ROUNDS : OUR_ROUNDS);
}

/** What the system's cp takes, which waits for no disk, and then until `sync` has the copy there; in seconds. */
export async function copyByCp(
  { target }: Bench,
  file: DataFile,
): Promise<{ readonly copied: number; readonly synced: number }> {
  const copy = join(target, "copy.fs");
  await removeCopy(copy);
  warm(file.path);
  const start = performance.now();
  await runProgram("cp", [file.path, copy]);
  const copied = (performance.now() - start) / 1000;
  await runProgram("sync", [copy]);
  const synced = (performance.now() - start) / 1000;
  await removeCopy(copy);
  return { copied, synced };
}

async function runProgram(name: string, args: readonly string[]): Promise<void> {
  const { success } = await new Deno.Command(name, { args: [...args] }).output();
  if (!success) throw new Error(`Cannot run ${name} ${args.join(" ")}: it has failed`);
}

async function measureRound(bench: Bench, file: DataFile, { pair, protocol }: Route): Promise<Round> {
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
    protocol,
  });
  const round = await roundOf(primary, secondary, async () => {
    if (ours) await waitUntilDurable(secondary, beforeLast);
    else await waitUntilWritten(copy, file.size, last);
  });
  await secondary.close();
  await primary.close();
  assertSameBytes(file.path, copy);
  await removeCopy(copy);
  return round;
}

async function waitUntilDurable(secondary: End, beforeLast: bigint): Promise<void> {
  using probe = await DurableProbe.connect(secondary.address!, beforeLast);
  await probe.waitForLast();
}

function describe(file: DataFile, route: Route, rounds: readonly Round[], peers: Peers): Measurement {
  const middle = medianOf(rounds);
  const { took } = middle;
  const records = file.transactions * file.records;
  const rate = `${Math.round(file.size / 1e6 / took)} MB/s, ${Math.round(records / took)} records/s`;
  const ratio = peers.python === undefined ? undefined : peers.python / took;
  const limit = route.protocol === "native"
    ? `${Math.round(100 * peers.cp / took)} % of cp, ${Math.round(100 * peers.synced / took)} % with sync`
    : `${Math.round(100 * peers.md5 / took)} % of MD5`;
  return {
    case: "catch-up",
    what: `${file.name}: ${route.name}`,
    rounds: rounds.map((round) => round.took),
    unit: "s",
    detail: `${rate}, ${limit}, ${cpuWords(middle)}`,
    ...comparedWithPython(route, ratio),
    ...aimOf(file, route, middle, peers),
  };
}

function aimOf(
  file: DataFile,
  { pair, protocol }: Route,
  { took, cpu }: Round,
  { md5, cp, python }: Peers,
): { readonly aim?: Aim } {
  if (protocol === "native") return { aim: atLeast(0.8, cp / took, "≥ 80 % of cp") };
  const [ours, theirs] = [pair.indexOf("ours"), pair.indexOf("python")];
  if (ours < 0) return {};
  if (theirs >= 0) return { aim: { words: "Python is the bottleneck", met: cpu[ours]! < cpu[theirs]! } };
  if (python === undefined) return {};
  const ratio = python / took;
  if (file.name === SMALL.name) return { aim: atLeast(12, ratio) };
  return { aim: { words: "≥ 3×, ≥ 50 % of MD5", met: ratio >= 3 && md5 / took >= 0.5 } };
}
