/**
 * Latency: how long after a commit a transaction is in the replica. A real ZODB writer commits small
 * transactions, one at a time with pauses; two observers on the same clock see each become final in the
 * replica's file, and durable there: a secondary sends on only what is on disk, so the second observer is a
 * secondary's secondary.
 *
 * Counted from the return of tpc_finish: from then on the application relies on the transaction. A replica
 * that follows the file can be earlier than that, for the writer still syncs when its bytes are visible.
 */
import { join } from "node:path";
import { type Bench, type Case, roundsOf } from "./bench.ts";
import { removeCopy } from "./data_files.ts";
import { startPrimary, startSecondary } from "./ends.ts";
import { LatencyObserver, LatencyWriter } from "./latency_peers.ts";
import { type Aim, atMost, type Measurement } from "./measurement.ts";
import type { Maker } from "./options.ts";
import { median, percentile } from "./statistics.ts";

const USUAL_ROUNDS = 3;
const COMMITS = { usual: 1000, quick: 100 } as const;
/** Not counted: the first transactions find cold code everywhere. */
const WARM_UP = { usual: 500, quick: 10 } as const;
const RECORD_BYTES = 300;
const PAUSE_MS = 3;

/** Milliseconds for each commit. */
interface Lags {
  readonly written: number[];
  readonly durable: number[];
}

/** Milliseconds, one for each round. */
interface Summary {
  readonly median: number[];
  readonly ninetyNinth: number[];
}

export const latency: Case = {
  name: "latency",
  about: "from the return of a commit until the transaction is final, and durable, in the replica",
  async run(bench) {
    const makers: readonly Maker[] = bench.options.pair === undefined
      ? ["ours", "python"]
      : [bench.options.pair[1]];
    const rounds = new Map(makers.map((maker) => [maker, [] as Lags[]]));
    for (let round = 0; round < roundsOf(bench.options, USUAL_ROUNDS); round++) {
      for (const maker of makers) rounds.get(maker)!.push(await measureRound(bench, maker));
    }
    return describe(rounds);
  },
};

async function measureRound(bench: Bench, maker: Maker): Promise<Lags> {
  const { target: directory, options: { profile, quick } } = bench;
  const [path, copy] = [join(directory, "source.fs"), join(directory, "copy.fs")];
  await removeCopy(path);
  await removeCopy(copy);
  await using stack = new AsyncDisposableStack();
  const own = maker === "ours";
  const writer = stack.use(await LatencyWriter.start(path, own ? undefined : "127.0.0.1:0"));
  const commits = { count: quick ? COMMITS.quick : COMMITS.usual, size: RECORD_BYTES, pauseMs: PAUSE_MS };
  const first = await writer.commit({ ...commits, count: 1 });
  const primary = own ? stack.use(await startPrimary(maker, { path, directory, profile })) : undefined;
  const from = primary?.address ?? writer.ready.replicateTo!;
  const secondary = stack.use(await startSecondary(maker, from, true, { path: copy, directory, profile }));
  const [file, chain] = [stack.use(await LatencyObserver.start()), stack.use(await LatencyObserver.start())];

  const warmUp = quick ? WARM_UP.quick : WARM_UP.usual;
  const all = 1 + warmUp + commits.count;
  const written = file.watch(copy, 4, all);
  const durable = chain.follow(secondary.address!, first[0]![0], all - 1);
  await writer.commit({ ...commits, count: warmUp });
  const times = await writer.commit(commits);
  const [writtenAt, durableAt] = await Promise.all([written, durable]);
  const lags = {
    written: times.map(([tid, , returned]) => (writtenAt.get(tid)! - returned) / 1e6),
    durable: times.map(([tid, , returned]) => (durableAt.get(tid)! - returned) / 1e6),
  };
  const finish = median(times.map(([, began, returned]) => (returned - began) / 1e6));
  bench.say(
    `latency, ${maker}: written ${median(lags.written).toFixed(2)} ms, durable ` +
      `${median(lags.durable).toFixed(2)} ms after tpc_finish, which takes ${finish.toFixed(2)} ms`,
  );
  await secondary.close();
  await primary?.close();
  await writer.close();
  await removeCopy(path);
  await removeCopy(copy);
  return lags;
}

function describe(rounds: ReadonlyMap<Maker, readonly Lags[]>): Measurement[] {
  const measurements: Measurement[] = [];
  for (const kind of ["written", "durable"] as const) {
    const python = rounds.has("python") ? summarise(rounds.get("python")!, kind) : undefined;
    for (const [maker, lags] of rounds) {
      const own = summarise(lags, kind);
      for (const which of ["median", "ninetyNinth"] as const) {
        measurements.push(describeOne(kind, which, maker, own[which], python?.[which]));
      }
    }
  }
  return measurements;
}

function summarise(rounds: readonly Lags[], kind: keyof Lags): Summary {
  return {
    median: rounds.map((lags) => median(lags[kind])),
    ninetyNinth: rounds.map((lags) => percentile(lags[kind], 0.99)),
  };
}

function describeOne(
  kind: keyof Lags,
  which: keyof Summary,
  maker: Maker,
  rounds: readonly number[],
  python: readonly number[] | undefined,
): Measurement {
  const ours = maker === "ours";
  const value = median(rounds);
  const ratio = python === undefined ? undefined : value / median(python);
  return {
    case: "latency",
    what: `${kind}, ${which === "median" ? "median" : "99th percentile"}: ${ours ? "ours" : "zc.zrs"}`,
    rounds,
    unit: "ms",
    ...(ours && ratio !== undefined && { compared: { ratio, of: "the time of zc.zrs" } }),
    ...(ours && aimOf(kind, which, value, ratio)),
  };
}

function aimOf(
  kind: keyof Lags,
  which: keyof Summary,
  value: number,
  ratio: number | undefined,
): { readonly aim?: Aim } {
  if (kind === "durable") return which === "median" ? { aim: atMost(2, value, "< 2 ms") } : {};
  return ratio === undefined ? {} : { aim: atMost(2, ratio, "≤ 2×") };
}
