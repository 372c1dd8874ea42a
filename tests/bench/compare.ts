/** Comparing: two files, a file with a running primary, and digests; from the page cache, beside cmp and SHA-256. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Bench, type Case, roundsOf } from "./bench.ts";
import { BIG, type DataFile, removeCopy, removeIfThere, type Shape, SMALL } from "./data_files.ts";
import { startPrimary } from "./ends.ts";
import { warm } from "./file_end.ts";
import type { Measurement } from "./measurement.ts";
import { MILLION } from "./opening.ts";
import { cpuSecondsOf, cpuSecondsOfChildren } from "./process_usage.ts";
import { writeShifted } from "./shifted_file.ts";
import { median } from "./statistics.ts";

const USUAL_ROUNDS = 3;
const OURS = fileURLToPath(new URL("./compare_files.ts", import.meta.url));

interface Round {
  readonly tookMs: number;
  /** Processor time: it hardly changes when the machine is busy with other things. */
  readonly cpuMs: number;
}

/** One thing that is measured, and beside which other one. */
interface Work {
  readonly name: string;
  readonly beside?: string;
  readonly run: () => Promise<Round>;
}

export const compare: Case = {
  name: "compare",
  about: "two copies compared and digested from the page cache, each time in a new process",
  async run(bench) {
    const measurements: Measurement[] = [];
    for (const shape of [BIG, SMALL, MILLION]) measurements.push(...await measureFile(bench, shape));
    return measurements;
  },
};

async function measureFile(bench: Bench, shape: Shape): Promise<Measurement[]> {
  const { target: directory, options: { profile } } = bench;
  const file = await bench.files.get(shape);
  const [same, shifted] = [join(directory, "same.fs"), join(directory, "shifted.fs")];
  await removeCopy(same);
  await Deno.copyFile(file.path, same);
  writeShifted(file.path, shifted);
  for (const path of [file.path, same, shifted]) warm(path);
  await using primary = await startPrimary("ours", { path: same, directory, profile });
  const ours = (what: string, other = "") => runOurs(bench, [what, file.path, other]);
  const works: Work[] = [
    { name: "cmp", run: () => runCmp(file.path, same) },
    { name: "two files, equal", beside: "cmp", run: () => ours("files", same) },
    { name: "two files, positions shifted", beside: "cmp", run: () => ours("files", shifted) },
    { name: "SHA-256 of the file", run: () => ours("sha256") },
    { name: "digest", beside: "SHA-256 of the file", run: () => ours("digest") },
    {
      name: "with a running primary, both ends",
      beside: "SHA-256 of the file",
      run: async () => {
        const before = cpuSecondsOf(primary.pid);
        const round = await ours("node", primary.address!);
        return { ...round, cpuMs: round.cpuMs + (cpuSecondsOf(primary.pid) - before) * 1000 };
      },
    },
  ];
  const found = new Map(works.map(({ name }) => [name, [] as Round[]]));
  for (let round = 0; round < roundsOf(bench.options, USUAL_ROUNDS); round++) {
    for (const { name, run } of works) found.get(name)!.push(await run());
  }
  await primary.close();
  await removeCopy(same);
  await removeIfThere(shifted);
  return works.map((work) => measurementOf(file, work, found));
}

function measurementOf(file: DataFile, { name, beside }: Work, found: Map<string, Round[]>): Measurement {
  const cpuOf = (name: string) => median(found.get(name)!.map(({ cpuMs }) => cpuMs));
  const cpuMs = cpuOf(name);
  return {
    case: "compare",
    what: `${file.name}, ${Math.round(file.size / 1e6)} MB: ${name}`,
    rounds: found.get(name)!.map(({ tookMs }) => tookMs),
    unit: "ms",
    detail: `CPU ${Math.round(cpuMs)} ms, ${Math.round(file.size / 1e3 / cpuMs)} MB/s of CPU`,
    ...(beside !== undefined && {
      compared: { ratio: cpuMs / cpuOf(beside), of: `the CPU time of ${beside}` },
    }),
  };
}

async function runOurs({ options: { profile } }: Bench, args: readonly string[]): Promise<Round> {
  const profiling = profile === undefined ? [] : [
    "--cpu-prof",
    `--cpu-prof-dir=${profile}`,
    `--cpu-prof-name=compare-${args[0]}-${crypto.randomUUID()}.cpuprofile`,
  ];
  return JSON.parse(await run(Deno.execPath(), ["run", "--allow-all", ...profiling, OURS, ...args]));
}

async function runCmp(path: string, other: string): Promise<Round> {
  const [start, before] = [performance.now(), cpuSecondsOfChildren()];
  await run("cmp", [path, other]);
  return { tookMs: performance.now() - start, cpuMs: (cpuSecondsOfChildren() - before) * 1000 };
}

async function run(command: string, args: string[]): Promise<string> {
  const output = await new Deno.Command(command, { args, stdin: "null", stderr: "inherit" }).output();
  if (!output.success) throw new Error(`Cannot compare: ${command} ended with exit code ${output.code}`);
  return new TextDecoder().decode(output.stdout);
}
