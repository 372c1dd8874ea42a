/**
 * Speed and memory beside the Python originals; this is `deno task bench` (docs/performance.md).
 *
 * Each case measures both sides in the same run, round about, and gives medians and ratios: absolute figures
 * are those of the machine and the moment.
 */
import { join } from "node:path";
import { ENVIRONMENTS, prepare } from "../kit/environments.ts";
import type { Case } from "./bench.ts";
import { blobs } from "./blobs.ts";
import { catchUp } from "./catch_up.ts";
import { compare } from "./compare.ts";
import { DataFiles } from "./data_files.ts";
import { handshake } from "./handshake.ts";
import { idle } from "./idle.ts";
import { latency } from "./latency.ts";
import { link } from "./link.ts";
import type { Measurement } from "./measurement.ts";
import { memory } from "./memory.ts";
import { opening } from "./opening.ts";
import { type Options, parseOptions, USAGE } from "./options.ts";
import { describeMachine, formatJson, formatTable } from "./report.ts";
import { pack } from "./pack.ts";
import { replicaSync } from "./replica_sync.ts";
import { TemporaryDirectories } from "./temporary.ts";
import { verify } from "./verify.ts";

const CASES: readonly Case[] = [
  ...[catchUp, blobs, link, handshake, idle, latency],
  ...[opening, verify, compare, pack, replicaSync, memory],
];

async function main(options: Options): Promise<void> {
  const cases = options.cases.length === 0 ? CASES : options.cases.map(caseNamed);
  const say = (line: string) => console.error(line);
  await prepare(ENVIRONMENTS.zodb55, say);
  using temporary = new TemporaryDirectories();
  const data = options.data ?? await temporary.make();
  await Deno.mkdir(data, { recursive: true });
  using lock = await Deno.open(join(data, "lock"), { create: true, write: true });
  if (!await lock.tryLock(true)) {
    say(`Waiting for another run that uses ${data}`);
    await lock.lock(true);
  }
  const target = await temporary.make(options.target ?? data);
  const bench = { options, files: new DataFiles(data, options.quick, say), target, say };
  const measurements: Measurement[] = [];
  if (!options.json) console.log(Object.values(describeMachine()).join(" · "));
  for (const each of cases) {
    const found = await each.run(bench);
    measurements.push(...found);
    if (!options.json) console.log(`\n${each.name}: ${each.about}\n${formatTable(found, !options.quick)}`);
  }
  if (options.json) console.log(formatJson(measurements));
}

function caseNamed(name: string): Case {
  const found = CASES.find((each) => each.name === name);
  if (found !== undefined) return found;
  throw new Error(`Cannot run ${name}: the cases are ${CASES.map((each) => each.name).join(", ")}`);
}

/** Undefined for a command line that cannot be understood, after saying why. */
function readOptions(): Options | undefined {
  try {
    const options = parseOptions(Deno.args);
    options.cases.forEach(caseNamed);
    return options;
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    return undefined;
  }
}

const options = readOptions();
if (options === undefined) {
  console.error(USAGE);
  Deno.exitCode = 2;
} else if (options.help) {
  console.log(
    USAGE + `\n\nCases:\n${CASES.map(({ name, about }) => `  ${name.padEnd(15)}${about}`).join("\n")}`,
  );
} else {
  await main(options);
}
