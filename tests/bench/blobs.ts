/**
 * Blobs: an empty secondary receives a database that is mostly blobs. Measured from the moment it begins to connect
 * until its Data.fs is complete. Our secondary then has every blob on disk; Python's syncs none of them.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ZodbWriter } from "../kit/peers.ts";
import { walk } from "../kit/walk.ts";
import { type Bench, type Case, roundsOf } from "./bench.ts";
import { removeCopy } from "./data_files.ts";
import { startPrimary, startSecondary } from "./ends.ts";
import { assertSameBytes, lastTidsOf, waitUntilWritten, warm } from "./file_end.ts";
import { atLeast, type Measurement } from "./measurement.ts";
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

/** `transactions` of `blobs` new blobs each, of `bytes` random bytes. */
interface Shape {
  readonly name: string;
  readonly transactions: number;
  readonly blobs: number;
  readonly bytes: number;
}

const SHAPES: readonly Shape[] = [
  { name: "small blobs", transactions: 200, blobs: 10, bytes: 20_000 },
  { name: "big blobs", transactions: 8, blobs: 1, bytes: 50_000_000 },
];

const ROUNDS = 3;

export const blobs: Case = {
  name: "blobs",
  about: "an empty secondary receives a database that is mostly blobs",
  async run(bench) {
    const measurements: Measurement[] = [];
    for (const shape of SHAPES) measurements.push(...await measureShape(bench, shape));
    return measurements;
  },
};

/** A Data.fs, and its blob directory. */
interface Source {
  readonly path: string;
  readonly blobDir: string;
  /** Of all blobs together. */
  readonly bytes: number;
}

async function measureShape(bench: Bench, wanted: Shape): Promise<Measurement[]> {
  const transactions = bench.options.quick ? Math.ceil(wanted.transactions / 100) : wanted.transactions;
  const shape = { ...wanted, transactions };
  const source = await make(bench, shape);
  const routes = routesOf(bench.options);
  const rounds = new Map(routes.map((route) => [route, [] as Round[]]));
  for (let round = 0; round < roundsOf(bench.options, ROUNDS); round++) {
    for (const route of routes) {
      const one = await measureRound(bench, source, route);
      rounds.get(route)!.push(one);
      bench.say(`blobs, ${shape.name}, ${route.name}: ${one.took.toFixed(2)} s`);
    }
  }
  const python = rounds.get(PYTHON);
  return routes.map((route) => describe(shape, source, route, rounds.get(route)!, python));
}

async function measureRound(bench: Bench, source: Source, { pair, protocol }: Route): Promise<Round> {
  const { target: directory, options: { profile } } = bench;
  const [copy, copyBlobs] = [join(directory, "copy.fs"), join(directory, "copy-blobs")];
  await remove(copy, copyBlobs);
  const { last } = lastTidsOf(source.path);
  const size = Deno.statSync(source.path).size;
  warm(source.path);
  for (const name of await walk(source.blobDir)) warm(join(source.blobDir, name));
  await using primary = await startPrimary(pair[0], {
    path: source.path,
    directory,
    profile,
    blobDir: source.blobDir,
  });
  await using secondary = await startSecondary(pair[1], primary.address!, false, {
    path: copy,
    directory,
    profile,
    protocol,
    blobDir: copyBlobs,
  });
  const round = await roundOf(primary, secondary, () => waitUntilWritten(copy, size, last));
  await secondary.close();
  await primary.close();
  assertSameBytes(source.path, copy);
  for (const name of await walk(source.blobDir)) {
    if (name.endsWith(".blob")) assertSameBytes(join(source.blobDir, name), join(copyBlobs, name));
  }
  await remove(copy, copyBlobs);
  return round;
}

/** Made by ZODB when it is not there. */
async function make(bench: Bench, { name, transactions, blobs, bytes }: Shape): Promise<Source> {
  const directory = join(
    bench.files.directory,
    `${name.replace(" ", "-")}-${transactions}x${blobs}x${bytes}`,
  );
  const source = {
    path: join(directory, "Data.fs"),
    blobDir: join(directory, "blobs"),
    bytes: transactions * blobs * bytes,
  };
  if (existsSync(directory)) return source;
  bench.say(`Making ${directory} with ZODB`);
  const unfinished = `${directory}.making`;
  if (existsSync(unfinished)) await Deno.remove(unfinished, { recursive: true });
  await Deno.mkdir(unfinished);
  await using writer = await ZodbWriter.start("zodb55", {
    path: join(unfinished, "Data.fs"),
    blobDir: join(unfinished, "blobs"),
    create: true,
  });
  for (let made = 0; made < transactions; made++) {
    await writer.commitBlobs(
      Array.from({ length: blobs }, (_, at) => [`blob ${made} ${at}`, bytes] as const),
    );
  }
  await writer.close();
  await Deno.rename(unfinished, directory); // last: with it all is there
  return source;
}

async function remove(copy: string, blobDir: string): Promise<void> {
  await removeCopy(copy);
  if (existsSync(blobDir)) await Deno.remove(blobDir, { recursive: true });
}

function describe(
  shape: Shape,
  { bytes }: Source,
  route: Route,
  rounds: readonly Round[],
  python: readonly Round[] | undefined,
): Measurement {
  const middle = medianOf(rounds);
  const { took } = middle;
  const isOurs = !route.pair.includes("python");
  const ratio = python === undefined ? undefined : medianOf(python).took / took;
  return {
    case: "blobs",
    what: `${shape.name}: ${route.name}`,
    rounds: rounds.map((round) => round.took),
    unit: "s",
    detail: `${Math.round(bytes / 1e6 / took)} MB/s, ${
      Math.round(shape.transactions * shape.blobs / took)
    } blobs/s, ${cpuWords(middle)}`,
    ...comparedWithPython(route, ratio),
    ...(ratio !== undefined && isOurs && { aim: atLeast(1, ratio) }),
  };
}
