/** Opening: how long until a file can be used, with a saved index and by a scan. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Bench, type Case, roundsOf } from "./bench.ts";
import { type DataFile, removeCopy, removeIfThere, type Shape, TEN_MILLION } from "./data_files.ts";
import { warm } from "./file_end.ts";
import { pythonInterpreter } from "./latency_peers.ts";
import { atLeast, type Measurement } from "./measurement.ts";
import type { Maker } from "./options.ts";
import { median } from "./statistics.ts";

export const MILLION: Shape = { name: "million", transactions: 100_000, records: 10, bytes: 100 };
const SMALL_48_MB: Shape = { name: "48mb", transactions: 5_000, records: 10, bytes: 900 };

const USUAL_ROUNDS = 5;
const MAKERS: readonly Maker[] = ["ours", "python"];
const OURS = fileURLToPath(new URL("./open_storage.ts", import.meta.url));
const PYTHON = fileURLToPath(new URL("./python/open_storage.py", import.meta.url));

export const opening: Case = {
  name: "opening",
  about: "until a file can be used, each time in a new process",
  async run(bench) {
    const measurements: Measurement[] = [];
    for (const shape of [MILLION, SMALL_48_MB]) {
      const file = await bench.files.get(shape);
      for (const indexed of [false, true]) measurements.push(...await measureFile(bench, file, indexed));
    }
    measurements.push(...await measureFile(bench, await bench.files.get(TEN_MILLION), true));
    return measurements;
  },
};

async function measureFile(bench: Bench, file: DataFile, indexed: boolean): Promise<Measurement[]> {
  const path = join(bench.target, "opened.fs");
  await removeCopy(path);
  await Deno.copyFile(file.path, path);
  if (indexed) await Deno.copyFile(`${file.path}.index`, `${path}.index`);
  await sync(path); // our open waits until the file is on disk
  warm(path);
  const times: Record<Maker, number[]> = { ours: [], python: [] };
  for (let round = 0; round < roundsOf(bench.options, USUAL_ROUNDS); round++) {
    for (const maker of MAKERS) times[maker].push(await open(maker, path, indexed));
  }
  await removeCopy(path);
  await removeIfThere(`${path}.index`);
  return MAKERS.map((maker) => describe(file, indexed, maker, times));
}

async function sync(path: string): Promise<void> {
  using file = await Deno.open(path);
  await file.sync();
}

/** @returns milliseconds */
async function open(maker: Maker, path: string, indexed: boolean): Promise<number> {
  const [command, args] = maker === "ours"
    ? [Deno.execPath(), ["run", "--allow-all", OURS, path]]
    : [pythonInterpreter(), ["-B", PYTHON, path]];
  const output = await new Deno.Command(command, { args, stdin: "null", stderr: "inherit" }).output();
  if (!output.success) throw new Error(`Cannot open ${path}: ${command} ended with exit code ${output.code}`);
  const { tookMs, usedIndex } = JSON.parse(new TextDecoder().decode(output.stdout));
  if (usedIndex !== indexed) {
    throw new Error(`Cannot measure: ${command} must ${indexed ? "" : "not "}use the index`);
  }
  return tookMs;
}

function describe(
  file: DataFile,
  indexed: boolean,
  maker: Maker,
  times: Readonly<Record<Maker, readonly number[]>>,
): Measurement {
  const objects = file.transactions * file.records;
  const ratio = median(times.python) / median(times.ours);
  const size = `${objects.toLocaleString("en")} objects, ${Math.round(file.size / 1e6)} MB`;
  return {
    case: "opening",
    what: `${size}, ${indexed ? "with" : "without"} an index: ${maker === "ours" ? "ours" : "Python"}`,
    rounds: times[maker],
    unit: "ms",
    ...(maker === "ours" && {
      compared: { ratio, of: "as fast as Python" },
      aim: atLeast(indexed ? 1 : 5, ratio),
    }),
  };
}
