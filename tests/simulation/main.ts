/**
 * `deno task simulate`: runs worlds from seeds and says what happened in them. Ends with exit code 1 when a
 * promise was broken.
 */
import { parseArgs } from "node:util";
import { describe, emptyTally, type Failure, formatTally, merge, type Tally } from "./campaign.ts";
import { formatStep } from "./trace.ts";
import { simulate } from "./world.ts";

/** What a worker is asked, and what it answers after every few seeds. */
export interface Job {
  readonly seeds: readonly number[];
}

const SEEDS_AT_ONCE = 20;

const USAGE = `deno task simulate -- [options]

  --seeds N        run so many worlds (default: 1000)
  --from S         beginning with this seed (default: 1)
  --workers N      on so many cores (default: all)
  --seed S         run one world: what happened in it, or how it failed
  --trace          and every step of it
  --help`;

async function runOne(seed: number, trace: boolean): Promise<number> {
  try {
    const summary = await simulate(
      trace ? { seed, trace: (step) => console.log(formatStep(step)) } : { seed },
    );
    const tally: Tally = { ...emptyTally(), ...summary, counts: { ...summary.counts }, seeds: 1 };
    console.log(formatTally(tally));
    console.log(`trace ${summary.hash}`);
    return 0;
  } catch (error) {
    console.log(describe(error, seed));
    for (let cause = error; cause instanceof Error; cause = cause.cause) console.log(`\n${cause.stack}`);
    return 1;
  }
}

async function runMany(from: number, count: number, workers: number): Promise<number> {
  const tally = emptyTally();
  const total = from + count;
  let next = from;
  const begin = performance.now();
  let told = begin;
  const take = (): Job | undefined => {
    if (next >= total) return undefined;
    const seeds = Array.from({ length: Math.min(SEEDS_AT_ONCE, total - next) }, (_, i) => next + i);
    next += seeds.length;
    return { seeds };
  };
  await Promise.all(Array.from({ length: workers }, () =>
    work(take, (part) => {
      merge(tally, part);
      for (const failure of part.failures) tellFailure(failure);
      if (performance.now() - told < 10_000) return;
      told = performance.now();
      const rate = tally.seeds / ((told - begin) / 1000);
      console.error(
        `${tally.seeds} of ${count} seeds, ${rate.toFixed(0)} a second, ` +
          `${tally.failures.length} failures`,
      );
    })));
  console.log(formatTally(tally));
  for (const { seed } of tally.failures) console.log(`failed: deno task simulate --seed ${seed}`);
  return tally.failures.length === 0 ? 0 : 1;
}

function tellFailure({ message }: Failure): void {
  console.error(message.slice(0, message.indexOf("\n")));
}

/** Keeps one worker busy until nothing is left to do. */
function work(take: () => Job | undefined, done: (part: Tally) => void): Promise<void> {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  return new Promise<void>((resolve, reject) => {
    const next = () => {
      const job = take();
      if (job === undefined) resolve();
      else worker.postMessage(job);
    };
    worker.onmessage = ({ data }: MessageEvent<Tally>) => {
      done(data);
      next();
    };
    worker.onerror = (event) => reject(new Error(event.message));
    next();
  }).finally(() => worker.terminate());
}

function wholeNumber(text: string, option: string): number {
  const number = Number(text);
  if (Number.isSafeInteger(number) && number >= 0) return number;
  console.error(`--${option} takes a whole number, found ${text}`);
  Deno.exit(2);
}

/** @throws TypeError for what cannot be understood, in words for the user */
function readOptions() {
  return parseArgs({
    args: Deno.args[0] === "--" ? Deno.args.slice(1) : Deno.args,
    options: {
      seeds: { type: "string", default: "1000" },
      from: { type: "string", default: "1" },
      seed: { type: "string" },
      trace: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
      workers: { type: "string", default: String(navigator.hardwareConcurrency) },
    },
  }).values;
}

function optionsOrUsage(): ReturnType<typeof readOptions> {
  try {
    return readOptions();
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n\n${USAGE}`);
    Deno.exit(2);
  }
}

const values = optionsOrUsage();
if (values.help) {
  console.log(USAGE);
  Deno.exit(0);
}
Deno.exitCode = values.seed !== undefined
  ? await runOne(wholeNumber(values.seed, "seed"), values.trace)
  : await runMany(
    wholeNumber(values.from, "from"),
    wholeNumber(values.seeds, "seeds"),
    Math.max(1, wholeNumber(values.workers, "workers")),
  );
