/** Packing: a file of which half is garbage, from the page cache, each time in a new process. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Bench, type Case, roundsOf } from "./bench.ts";
import { removeCopy } from "./data_files.ts";
import { assertSameBytes, warm } from "./file_end.ts";
import { pythonInterpreter } from "./latency_peers.ts";
import type { Measurement } from "./measurement.ts";
import { median } from "./statistics.ts";

const USUAL_ROUNDS = 3;
const OBJECTS = 100_000;
const OURS = fileURLToPath(new URL("./pack_file.ts", import.meta.url));
const PYTHON = fileURLToPath(new URL("./python/pack.py", import.meta.url));
const GARBAGE = fileURLToPath(new URL("./python/garbage.py", import.meta.url));

/** What one process tells; amounts in bytes. */
interface Round {
  readonly tookMs: number;
  readonly read: number;
  readonly written: number;
  readonly peakMiB: number;
}

export const pack: Case = {
  name: "pack",
  about: "packing a file of which half is garbage",
  async run(bench) {
    const file = await halfGarbage(bench);
    const [ours, python] = [join(bench.target, "ours.fs"), join(bench.target, "python.fs")];
    const rounds: { ours: Round[]; python: Round[] } = { ours: [], python: [] };
    try {
      for (let round = 0; round < roundsOf(bench.options, USUAL_ROUNDS); round++) {
        for (const path of [ours, python]) await copyAnew(file, path);
        warm(ours);
        rounds.ours.push(await runRound(Deno.execPath(), ["run", "--allow-all", OURS, ours]));
        warm(python);
        rounds.python.push(await runRound(pythonInterpreter(), ["-B", PYTHON, python]));
        assertSameBytes(python, ours);
        bench.say(
          `pack: ${rounds.ours.at(-1)!.tookMs.toFixed(0)} ms, ${rounds.python.at(-1)!.tookMs.toFixed(0)} ms`,
        );
      }
    } finally {
      for (const path of [ours, python]) {
        await removeCopy(path);
        await removeCopy(`${path}.old`);
      }
    }
    const size = `${Math.round(Deno.statSync(file).size / 1e6)} MB`;
    const ratio = median(rounds.python.map(({ tookMs }) => tookMs)) /
      median(rounds.ours.map(({ tookMs }) => tookMs));
    return [
      { ...measurement(`${size}: ours`, rounds.ours), compared: { ratio, of: "as fast as Python" } },
      measurement(`${size}: Python`, rounds.python),
    ];
  },
};

/** The file, made by real ZODB when it is not there. */
async function halfGarbage({ files, options, say }: Bench): Promise<string> {
  const objects = options.quick ? OBJECTS / 100 : OBJECTS;
  const path = join(files.directory, `garbage-${objects}.fs`);
  if (existsSync(path)) return path;
  say(`Making ${path} with ZODB`);
  const unfinished = `${path}.making`;
  const { success } = await new Deno.Command(pythonInterpreter(), {
    args: [GARBAGE, unfinished, String(objects)],
  })
    .output();
  if (!success) throw new Error(`Cannot make ${path}: ${GARBAGE} has failed`);
  await Deno.rename(`${unfinished}.index`, `${path}.index`);
  await Deno.rename(unfinished, path); // last: with it all is there
  await removeCopy(unfinished);
  return path;
}

async function copyAnew(from: string, to: string): Promise<void> {
  await removeCopy(to);
  await removeCopy(`${to}.old`);
  await Deno.copyFile(from, to);
  await Deno.copyFile(`${from}.index`, `${to}.index`);
}

async function runRound(command: string, args: string[]): Promise<Round> {
  const output = await new Deno.Command(command, { args, stdin: "null", stderr: "inherit" }).output();
  if (!output.success) throw new Error(`Cannot pack: ${command} ended with exit code ${output.code}`);
  return JSON.parse(new TextDecoder().decode(output.stdout));
}

function measurement(what: string, rounds: readonly Round[]): Measurement {
  const megabytes = (amount: (round: Round) => number) => Math.round(median(rounds.map(amount)) / 1e6);
  return {
    case: "pack",
    what,
    rounds: rounds.map(({ tookMs }) => tookMs),
    unit: "ms",
    detail: `${megabytes(({ read }) => read)} MB read, ${megabytes(({ written }) => written)} MB written, ` +
      `${Math.round(median(rounds.map(({ peakMiB }) => peakMiB)))} MiB`,
  };
}
