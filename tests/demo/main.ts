/**
 * `deno task demo [DATA_FS]`: replicates a sample database, or a copy of the given one, before your eyes.
 * Takes about a quarter of a minute; the given file is only read, and nothing is left behind.
 */
import { object } from "@optique/core/constructs";
import { runParserSync } from "@optique/core/facade";
import { message } from "@optique/core/message";
import { optional, withDefault } from "@optique/core/modifiers";
import { argument, flag } from "@optique/core/primitives";
import { path } from "@optique/run/valueparser";
import { exitCodeOf } from "../../lib/cli/exit_codes.ts";
import { formatFailure } from "../../lib/cli/failure.ts";
import { ZrsError } from "../../lib/errors.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { TempDirectory } from "../kit/temp.ts";
import { ACTS, conclude, perform } from "./demo.ts";
import { formatBytes, formatCount } from "./format.ts";
import { Screen } from "./screen.ts";
import { copyGiven, makeSample, surveyFile } from "./source.ts";

/** Ended by a signal, as by Ctrl-C. */
class Interrupted extends Error {
  constructor(readonly code: number) {
    super("Interrupted");
  }
}

const SIGNALS = [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const;

const parser = object({
  dataFs: optional(argument(path({ metavar: "DATA_FS", type: "file" }), {
    description: message`Replicate a copy of this database, instead of a sample.`,
  })),
  yes: withDefault(
    flag("--yes", { description: message`Copy it also when it is larger than 1 GB.` }),
    false,
  ),
});

interface Options {
  readonly dataFs: string | undefined;
  readonly yes: boolean;
}

/** @throws ZrsError, Error, Interrupted */
async function demonstrate({ dataFs, yes }: Options, signal: AbortSignal): Promise<void> {
  const host = systemHost();
  const { disk } = host;
  const screen = new Screen(host.out, host.isTerminal("out") ? host.columns() ?? 80 : undefined);
  await using directory = await TempDirectory.make();
  const source = directory.join("Data.fs");
  if (dataFs === undefined) {
    await makeSample(disk, source);
  } else {
    const ask = host.isTerminal("out") && Deno.stdin.isTerminal() ? confirm : undefined;
    await copyGiven(disk, dataFs, source, yes, ask);
  }
  signal.throwIfAborted();
  const survey = surveyFile(disk, source);
  const what = dataFs === undefined ? "A sample database" : `A copy of ${dataFs}`;
  screen.event(
    `${what} is the source: ${formatCount(survey.transactions)} transactions, ${formatBytes(survey.end)}`,
  );
  if (survey.unfinishedBytes > 0) {
    screen.event(`${formatBytes(survey.unfinishedBytes)} behind its last finished transaction are left out`);
  }
  if (survey.blobRecords > 0) {
    screen.event(
      `BLOBS ARE LEFT OUT (--blobs none): it has ${formatCount(survey.blobRecords)} revisions of blobs, ` +
        "of which only the records are replicated",
    );
  }
  const outcome = await perform({
    disk,
    screen,
    directory: directory.path,
    source,
    survey,
    acts: ACTS,
    signal,
  });
  screen.line("");
  for (const line of conclude(outcome, survey.blobRecords)) screen.line(line);
}

/** @returns the exit code */
async function main(args: readonly string[]): Promise<number> {
  const interruption = new AbortController();
  for (const [signal, code] of SIGNALS) {
    Deno.addSignalListener(signal, () => interruption.abort(new Interrupted(code)));
  }
  const options = runParserSync(parser, "deno task demo", args, {
    help: { option: { names: ["-h", "--help"] }, onShow: () => Deno.exit(0) },
    onError: () => Deno.exit(2),
  });
  try {
    await demonstrate(options, interruption.signal);
    return 0;
  } catch (error) {
    // A server that ended in the meantime did so by the same Ctrl-C.
    const cause: unknown = interruption.signal.aborted ? interruption.signal.reason : error;
    if (cause instanceof Interrupted) {
      console.error("Interrupted: all processes have been ended, all files removed");
      return cause.code;
    }
    if (cause instanceof ZrsError) {
      console.error(formatFailure("demo", cause));
      return exitCodeOf(cause);
    }
    console.error(cause instanceof Error ? cause.message : cause);
    return 1;
  }
}

// `deno task demo -- FILE` passes the dashes on.
Deno.exit(await main(Deno.args[0] === "--" ? Deno.args.slice(1) : Deno.args));
