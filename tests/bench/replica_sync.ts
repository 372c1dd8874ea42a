/**
 * A copy from cron: `zrs replica-sync` of a file on the same machine, beside `cp`; each time a new process, from its
 * start to its end, when all is on disk.
 */
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { formatTid } from "../../lib/zodb/mod.ts";
import { type Bench, type Case, roundsOf } from "./bench.ts";
import { copyByCp } from "./catch_up.ts";
import { BIG, type DataFile, removeCopy, SMALL } from "./data_files.ts";
import { assertSameBytes, lastTidBefore, warm } from "./file_end.ts";
import { atLeast, type Measurement } from "./measurement.ts";
import { median } from "./statistics.ts";

const PROGRAM = fileURLToPath(new URL("../../main.ts", import.meta.url));
const USUAL_ROUNDS = 5;
/** How much of the source a copy lacks that is a day old, say. */
const MISSING = 0.01;

export const replicaSync: Case = {
  name: "replica-sync",
  about: "a copy from cron of a file on the same machine, by a process of its own",
  async run(bench) {
    const measurements: Measurement[] = [];
    for (const shape of [SMALL, BIG]) {
      if (bench.options.size === undefined || bench.options.size === shape.name) {
        measurements.push(...await measureFile(bench, await bench.files.get(shape)));
      }
    }
    return measurements;
  },
};

async function measureFile(bench: Bench, file: DataFile): Promise<Measurement[]> {
  const { target, options, say } = bench;
  const [copy, old] = [join(target, "copy.fs"), join(target, "old.fs")];
  const rounds = { start: [], cp: [], synced: [], first: [], rest: [], nothing: [] } as Record<
    string,
    number[]
  >;
  try {
    // With the index that the run before leaves.
    await replicaSyncOf(file, old, [
      "--until",
      formatTid(lastTidBefore(file.path, file.size * (1 - MISSING))),
    ]);
    for (let round = 0; round < roundsOf(options, USUAL_ROUNDS); round++) {
      rounds.start!.push(await took(["--version"]));
      const { copied, synced } = await copyByCp(bench, file);
      rounds.cp!.push(copied);
      rounds.synced!.push(synced);
      await removeCopy(copy);
      rounds.first!.push(await replicaSyncOf(file, copy));
      assertSameBytes(file.path, copy);
      rounds.nothing!.push(await replicaSyncOf(file, copy));
      await removeCopy(copy);
      for (const suffix of ["", ".index"]) await Deno.copyFile(old + suffix, copy + suffix);
      rounds.rest!.push(await replicaSyncOf(file, copy));
      assertSameBytes(file.path, copy);
      await removeCopy(copy);
      say(`replica-sync ${file.name}: ${rounds.first!.at(-1)!.toFixed(2)} s, cp ${copied.toFixed(2)} s`);
    }
  } finally {
    await removeCopy(copy);
    await removeCopy(old);
  }
  return describe(file, rounds);
}

function describe(file: DataFile, rounds: Record<string, number[]>): Measurement[] {
  const of = (name: string) => median(rounds[name]!);
  const work = of("first") - of("start");
  const [ofCp, ofSynced] = [of("cp") / work, of("synced") / work].map((ratio) =>
    `${Math.round(100 * ratio)} %`
  );
  const row = (name: string, what: string, detail?: string): Measurement => ({
    case: "replica-sync",
    what: `${file.name}: ${what}`,
    rounds: rounds[name]!,
    unit: "s",
    ...(detail !== undefined && { detail }),
  });
  const rate = (seconds: number) => `${Math.round(file.size / 1e6 / seconds)} MB/s`;
  return [
    {
      ...row(
        "first",
        "first copy",
        `${rate(work)}, ${ofCp} of cp, ${ofSynced} with sync, its start not counted`,
      ),
      aim: atLeast(0.8, of("cp") / work, "≥ 80 % of cp"),
    },
    {
      ...row("rest", `${Math.round(MISSING * 100)} % is missing`),
      compared: { ratio: of("first") / of("rest"), of: "as fast as a first copy" },
    },
    row("nothing", "nothing is missing"),
    row("start", "zrs --version", "the process's start"),
    row("cp", "cp", rate(of("cp"))),
    row("synced", "cp and sync of the copy", rate(of("synced"))),
  ];
}

async function replicaSyncOf(file: DataFile, copy: string, options: readonly string[] = []): Promise<number> {
  warm(file.path);
  return await took(["replica-sync", "--quiet", file.path, copy, ...options]);
}

/** How many seconds a process of ours takes, from its start to its end. */
async function took(args: readonly string[]): Promise<number> {
  const start = performance.now();
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--allow-all", PROGRAM, ...args],
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  });
  const { success } = await command.output();
  if (!success) throw new Error(`Cannot measure: zrs ${args.join(" ")} has failed`);
  return (performance.now() - start) / 1000;
}
