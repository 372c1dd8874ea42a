/**
 * Catch-up by the native stream over links that are not plain: through a proxy that lets only so many bytes a second
 * pass, with and without compression, and over TLS beside plain TCP in the same run.
 */
import { join } from "node:path";
import { Authority } from "../kit/certificates.ts";
import { type Bench, type Case, roundsOf } from "./bench.ts";
import { type DataFile, removeCopy, type Shape, SMALL } from "./data_files.ts";
import { startPrimary, startSecondary } from "./ends.ts";
import { assertSameBytes, lastTidsOf, waitUntilWritten, warm } from "./file_end.ts";
import type { Measurement } from "./measurement.ts";
import { cpuSecondsOf } from "./process_usage.ts";
import { SlowLink } from "./slow_link.ts";
import { median } from "./statistics.ts";

/** Fewer bytes than for catch-up: at this rate they take five seconds. */
const SLOW: Shape = { name: "48mb", transactions: 5_000, records: 10, bytes: 900 };
const LINK_BYTES_PER_SECOND = 10_000_000;

interface Way {
  readonly name: string;
  readonly bytesPerSecond?: number;
  /** For both ends. */
  readonly options: readonly string[];
}

interface Round {
  readonly took: number;
  readonly cpu: number;
}

export const link: Case = {
  name: "link",
  about: "catch-up over a slow link with compression, and over TLS",
  async run(bench) {
    const slow = ["off", "auto", "on"].map((when) => ({
      name: `10 MB/s, --compress ${when}`,
      bytesPerSecond: LINK_BYTES_PER_SECOND,
      options: ["--compress", when],
    }));
    const { cert, key, ca } = await certificates(bench.target);
    const open = [
      { name: "plain", options: [] },
      { name: "TLS", options: ["--tls-cert", cert, "--tls-key", key, "--tls-ca", ca] },
    ];
    return [
      ...await measureWays(bench, await bench.files.get(SLOW), slow),
      ...await measureWays(bench, await bench.files.get(SMALL), open),
    ];
  },
};

async function certificates(directory: string): Promise<{ cert: string; key: string; ca: string }> {
  const authority = await Authority.make(directory, "bench");
  return { ...await authority.sign("end"), ca: authority.ca };
}

/** The first way is what the others are held against. */
async function measureWays(bench: Bench, file: DataFile, ways: readonly Way[]): Promise<Measurement[]> {
  const found = ways.map((): Round[] => []);
  for (let round = 0; round < roundsOf(bench.options, 3); round++) {
    for (const [at, way] of ways.entries()) {
      const one = await measureRound(bench, file, way);
      found[at]!.push(one);
      bench.say(`link ${file.name}, ${way.name}: ${one.took.toFixed(2)} s`);
    }
  }
  const first = median(found[0]!.map(({ took }) => took));
  return ways.map(({ name }, at) => {
    const rounds = found[at]!.map(({ took }) => took);
    const cpu = median(found[at]!.map((each) => each.cpu));
    const took = median(rounds);
    return {
      case: "link",
      what: `${file.name}: ${name}`,
      rounds,
      unit: "s",
      detail: `${Math.round(file.size / 1e6 / took)} MB/s, CPU of both ends ${cpu.toFixed(1)} s`,
      ...(at > 0 && { compared: { ratio: first / took, of: `as fast as ${ways[0]!.name}` } }),
    };
  });
}

async function measureRound(bench: Bench, file: DataFile, way: Way): Promise<Round> {
  const { target: directory, options: { profile } } = bench;
  const copy = join(directory, "copy.fs");
  await removeCopy(copy);
  const { last } = lastTidsOf(file.path);
  warm(file.path);
  const { options } = way;
  await using primary = await startPrimary("ours", { path: file.path, directory, profile, options });
  using proxy = way.bytesPerSecond === undefined
    ? undefined
    : new SlowLink(primary.address!, way.bytesPerSecond);
  const from = proxy?.address ?? primary.address!;
  await using secondary = await startSecondary("ours", from, false, {
    ...{ path: copy, directory, profile, options },
    protocol: "native",
  });
  const ends = [primary.pid, secondary.pid];
  const cpuOf = () => ends.reduce((sum, pid) => sum + cpuSecondsOf(pid), 0);
  const [start, cpuBefore] = [performance.now(), cpuOf()];
  await waitUntilWritten(copy, file.size, last);
  const round = { took: (performance.now() - start) / 1000, cpu: cpuOf() - cpuBefore };
  await secondary.close();
  await primary.close();
  assertSameBytes(file.path, copy);
  await removeCopy(copy);
  return round;
}
