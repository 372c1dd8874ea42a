/** Verifying: how fast a whole file is checked, from the page cache. */
import { fileURLToPath } from "node:url";
import { type Bench, type Case, roundsOf } from "./bench.ts";
import { BIG, type DataFile, type Shape, TEN_MILLION } from "./data_files.ts";
import { warm } from "./file_end.ts";
import { pythonInterpreter } from "./latency_peers.ts";
import { type Aim, atLeast, type Measurement } from "./measurement.ts";
import { MILLION } from "./opening.ts";
import { median } from "./statistics.ts";

const USUAL_ROUNDS = 5;
const OURS = fileURLToPath(new URL("./verify_file.ts", import.meta.url));
const PYTHON = fileURLToPath(new URL("./python/fstest.py", import.meta.url));

/** What one process tells. */
interface Round {
  readonly tookMs: number;
  readonly peakMiB?: number;
}

export const verify: Case = {
  name: "verify",
  about: "checking a file from the page cache, each time in a new process",
  async run(bench) {
    return [
      ...await measureStructure(bench, MILLION, (ratio) => atLeast(10, ratio)),
      ...await measureStructure(bench, BIG, (_, rate) => atLeast(1000, rate, "≥ 1000 MB/s")),
      ...await measureStructure(bench, TEN_MILLION),
      await measureContents(bench, BIG, "pickles"),
      await measureContents(bench, MILLION, "pickles"),
      await measureContents(bench, MILLION, "references"),
    ];
  },
};

/** Ours and fstest in turns. Fstest checks less: no links, no tids of records, no index. */
async function measureStructure(
  { files, options }: Bench,
  shape: Shape,
  aim?: (ratio: number, rate: number) => Aim,
): Promise<Measurement[]> {
  const file = await files.get(shape);
  warm(file.path);
  const ours: Round[] = [];
  const python: Round[] = [];
  for (let round = 0; round < roundsOf(options, USUAL_ROUNDS); round++) {
    ours.push(await runOurs(file.path, "structure"));
    python.push(await runRound(pythonInterpreter(), ["-B", PYTHON, file.path]));
  }
  const ratio = median(times(python)) / median(times(ours));
  const rate = file.size / 1e3 / median(times(ours));
  return [
    {
      ...measurement(file, "structure: ours", ours),
      compared: { ratio, of: "as fast as fstest" },
      ...(aim !== undefined && { aim: aim(ratio, rate) }),
    },
    measurement(file, "structure: fstest", python),
  ];
}

async function measureContents(
  { files, options }: Bench,
  shape: Shape,
  what: "pickles" | "references",
): Promise<Measurement> {
  const file = await files.get(shape);
  warm(file.path);
  const rounds: Round[] = [];
  for (let round = 0; round < roundsOf(options, USUAL_ROUNDS); round++) {
    rounds.push(await runOurs(file.path, what));
  }
  return measurement(file, `structure and ${what}: ours`, rounds);
}

function runOurs(path: string, what: string): Promise<Round> {
  return runRound(Deno.execPath(), ["run", "--allow-all", OURS, path, what]);
}

async function runRound(command: string, args: string[]): Promise<Round> {
  const output = await new Deno.Command(command, { args, stdin: "null", stderr: "inherit" }).output();
  if (!output.success) throw new Error(`Cannot verify: ${command} ended with exit code ${output.code}`);
  return JSON.parse(new TextDecoder().decode(output.stdout));
}

function measurement(file: DataFile, what: string, rounds: readonly Round[]): Measurement {
  const objects = (file.transactions * file.records).toLocaleString("en");
  const peak = rounds[0]!.peakMiB === undefined ? "" : `, ${Math.round(median(peaks(rounds)))} MiB`;
  return {
    case: "verify",
    what: `${objects} records, ${Math.round(file.size / 1e6)} MB, ${what}`,
    rounds: times(rounds),
    unit: "ms",
    detail: `${Math.round(file.size / 1e3 / median(times(rounds)))} MB/s${peak}`,
  };
}

function times(rounds: readonly Round[]): number[] {
  return rounds.map(({ tookMs }) => tookMs);
}

function peaks(rounds: readonly Round[]): number[] {
  return rounds.map(({ peakMiB }) => peakMiB ?? 0);
}
