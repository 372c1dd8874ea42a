/** `zrs replica-sync`: brings a copy of a database up to date once, as from cron. */

import { object } from "@optique/core/constructs";
import { commandLine, lineBreak, message, text } from "@optique/core/message";
import { optional, withDefault } from "@optique/core/modifiers";
import { argument, command, constant, flag, option } from "@optique/core/primitives";
import { choice, string } from "@optique/core/valueparser";
import { UsageError, ZrsError } from "../errors.ts";
import type { Host, SystemLog } from "../host/mod.ts";
import type { Address } from "../ports/mod.ts";
import {
  askLastTid,
  type Compress,
  limitedSource,
  type Ports,
  type Secret,
  type SyncProgress,
  syncReplica,
  type SyncSource,
} from "../replica/mod.ts";
import { AuthFile } from "./auth_file.ts";
import { EXIT, type ExitCode, exitCodeOf, originOf } from "./exit_codes.ts";
import {
  blobsOption,
  checkOutputs,
  compressOption,
  serverOptions,
  tlsFiles,
  tlsNameOption,
  type TlsOptions,
} from "./options.ts";
import { type Progress, ProgressLine } from "./progress_line.ts";
import { planSync } from "./replica_sync_plan.ts";
import { describeReport, failureFacts, reportFacts } from "./replica_sync_report.ts";
import { networkFor } from "./secure_network.ts";
import { openSource, pathOfSource } from "./sync_source_option.ts";
import { address, type Blobs, file, moment, rate, seconds } from "./values.ts";
import { SOFTWARE } from "./version.ts";

export interface ReplicaSyncCommand extends TlsOptions {
  readonly command: "replica-sync";
  readonly source: string;
  readonly dataFs: string;
  /** Nothing later is copied. */
  readonly until?: bigint | undefined;
  /** A ZEO server that knows the last transaction of a source that does not tell it. */
  readonly askZeo?: Address | undefined;
  /** In seconds. */
  readonly settle: number;
  readonly repack: boolean;
  readonly keepOld: boolean;
  /** How much of the copy is compared before anything is written. */
  readonly check: "quick" | "full";
  readonly dryRun: boolean;
  readonly json: boolean;
  readonly protocol: "auto" | "native" | "zrs2";
  readonly compress: Compress;
  /** In bytes a second. */
  readonly bwlimit?: number | undefined;
  readonly blobs: Blobs;
  readonly authFile?: string | undefined;
  readonly logFile?: string | undefined;
  readonly quiet: boolean;
  readonly verbose: boolean;
}

export const replicaSyncParser = command(
  "replica-sync",
  object({
    command: constant("replica-sync"),
    source: argument(string({ metavar: "SOURCE" }), {
      description:
        message`What to copy: the path of a Data.fs, which may be in use, or a running node, ${"zrs://HOST:PORT"} or ${"zrs+unix:PATH"}.`,
      errors: { endOfInput: message`Missing SOURCE, what to copy` },
    }),
    dataFs: argument(file("DATA_FS"), {
      description: message`The copy, which is made if there is none. Nobody may have it open for writing.`,
      errors: { endOfInput: message`Missing DATA_FS, the path of the copy` },
    }),
    until: optional(option("--until", moment(), {
      description: message`Copy nothing later than this time, ISO 8601, or this tid.`,
    })),
    repack: withDefault(
      flag("--repack", {
        description:
          message`Where the source has been packed, make a complete new copy of it, even if what is missing could be appended.`,
      }),
      false,
    ),
    keepOld: withDefault(
      flag("--keep-old", {
        description: message`When a complete new copy is made, keep the one before as DATA_FS.old.`,
      }),
      false,
    ),
    check: withDefault(
      option("--check", choice(["quick", "full"], { metavar: "HOW" }), {
        description: message`How much of DATA_FS to compare with SOURCE before anything is written: ${
          text("quick")
        }, its end and a few transactions spread over it, or ${text("full")}, all of it.`,
      }),
      "quick" as const,
      { message: message`${text("quick")}` },
    ),
    dryRun: withDefault(
      flag("--dry-run", { description: message`Compare both, say what would be done, and write nothing.` }),
      false,
    ),
    askZeo: optional(option("--ask-zeo", address("connect"), {
      description:
        message`Ask this ZEO server for the last transaction, for a primary of zc.zrs, which does not tell it.`,
    })),
    settle: withDefault(
      option("--settle", seconds(), {
        description: message`Without ${
          text("--ask-zeo")
        }, take a primary of zc.zrs for complete when it has been silent for so long.`,
      }),
      3,
      { message: message`${text("3")}` },
    ),
    protocol: withDefault(
      option("--protocol", choice(["auto", "native", "zrs2"], { metavar: "NAME" }), {
        description: message`What to speak with the source: ${text("native")}, which only zrs does, ${
          text("zrs2")
        }, or whichever it speaks.`,
      }),
      "auto" as const,
      { message: message`${text("auto")}` },
    ),
    compress: compressOption,
    bwlimit: optional(option("--bwlimit", rate(), {
      description: message`Copy no more than RATE bytes a second; ${text("K")}, ${text("M")} and ${
        text("G")
      } may follow.`,
    })),
    blobs: blobsOption,
    json: withDefault(
      flag("--json", { description: message`Write what has been done as one JSON object.` }),
      false,
    ),
    authFile: serverOptions.authFile,
    tlsName: tlsNameOption,
    tlsCert: serverOptions.tlsCert,
    tlsKey: serverOptions.tlsKey,
    tlsCa: serverOptions.tlsCa,
    logFile: serverOptions.logFile,
    quiet: withDefault(
      flag("-q", "--quiet", { description: message`Say nothing unless something is wrong.` }),
      false,
    ),
    verbose: withDefault(
      flag("-v", "--verbose", { description: message`Say what is done, step by step.` }),
      false,
    ),
  }),
  {
    brief: message`Bring a copy of a database up to date once, as from cron.`,
    description:
      message`Appends to DATA_FS every transaction of SOURCE that it lacks, and makes it a complete new copy where SOURCE has been packed so that it must be one. Ends with 0 if and only if DATA_FS is a complete copy then. Killed at any moment it leaves a valid one, with which the next run goes on.`,
    footer: message`Example:${lineBreak()}  ${
      commandLine("zrs replica-sync /srv/zope/var/Data.fs /backup/Data.fs")
    }${lineBreak()}  ${commandLine("zrs replica-sync -q zrs://db1.example.com:5000 /srv/replica/Data.fs")}`,
    usageLine: [{
      type: "sequence",
      terms: [
        { type: "argument", metavar: "SOURCE" },
        { type: "argument", metavar: "DATA_FS" },
        { type: "multiple", min: 0, terms: [{ type: "argument", metavar: "OPTION" }] },
      ],
    }],
  },
);

/** Brings the copy up to date, and says so. @throws ZrsError, unless it is told as JSON */
export async function runReplicaSync(options: ReplicaSyncCommand, host: Host): Promise<ExitCode> {
  checkOptions(options, host);
  const { quiet, verbose, logFile } = options;
  // Only trouble is worth a mail; a log file is read by whoever wants to know.
  const level = verbose ? "debug" : logFile === undefined || quiet ? "warning" : "info";
  using log = host.openLog({ level, ...(logFile !== undefined && { file: logFile }) });
  const stop = new AbortController();
  let stopped: ExitCode | undefined;
  using signals = new DisposableStack();
  for (const [signal, code] of [["SIGTERM", EXIT.terminated], ["SIGINT", EXIT.interrupted]] as const) {
    signals.use(host.onSignal(signal, () => {
      if (stopped !== undefined) host.exit(code);
      stopped = code;
      stop.abort(new Stopped());
    }));
  }
  try {
    await sync(options, host, log, stop.signal);
    return EXIT.ok;
  } catch (error) {
    const isStopped = stopped !== undefined && stop.signal.reason === originOf(error);
    if (!isStopped && !(originOf(error) instanceof ZrsError)) throw error;
    const code = isStopped ? stopped! : exitCodeOf(error);
    if (options.json) host.out(`${JSON.stringify(failureFacts(options, originOf(error) as Error, code))}\n`);
    if (!isStopped) throw error;
    host.err(`zrs replica-sync: ${stop.signal.reason.message}\n`);
    return code;
  }
}

/** Not a failure: somebody wanted it. */
class Stopped extends Error {
  constructor() {
    super(
      "Stopped before the copy was complete; what had come whole is kept, and the next run goes on with it",
    );
  }
}

async function sync(
  options: ReplicaSyncCommand,
  host: Host,
  log: SystemLog,
  signal: AbortSignal,
): Promise<void> {
  const { disk, clock, random } = host;
  const isFile = pathOfSource(options.source) !== undefined;
  const network = isFile ? host.network : await networkFor(options, host);
  const ports: Ports = { disk, network, clock, random, log };
  const secret = isFile || options.authFile === undefined ? undefined : openSecret(options.authFile, ports);
  await using opened = await openSource(options.source, ports, options);
  const source = options.bwlimit === undefined ? opened : limitedSource(ports, opened, options.bwlimit);
  if (options.dryRun) return await planSync(options, source, secret, { ...ports, host }, signal);
  const report = await copy(options, host, ports, source, secret, signal);
  if (options.json) host.out(`${JSON.stringify(reportFacts(options, report))}\n`);
  else if (!options.quiet) host.out(`${describeReport(options, report)}\n`);
}

const DOING = { comparison: "comparing", copy: "copying" } as const;

function copied({ end, startEnd, goalEnd }: SyncProgress): Progress<"copy"> {
  return {
    doing: "copy",
    done: end - startEnd,
    total: goalEnd === undefined ? undefined : goalEnd - startEnd,
  };
}

async function copy(
  options: ReplicaSyncCommand,
  host: Host,
  ports: Ports,
  source: SyncSource,
  secret: Secret | undefined,
  signal: AbortSignal,
) {
  const { askZeo } = options;
  using progress = new ProgressLine(host, DOING);
  return await syncReplica(ports, source, {
    path: options.dataFs,
    model: pathOfSource(options.source),
    blobs: options.blobs,
    until: options.until,
    repack: options.repack,
    keepOld: options.keepOld,
    protocol: options.protocol,
    compress: options.compress,
    secret,
    software: SOFTWARE,
    settleMs: options.settle * 1000,
    askLastTid: askZeo === undefined ? undefined : () => askLastTid(ports, askZeo, signal),
    check: options.check,
    onCheck: (done, total) => progress.show({ doing: "comparison", done, total }),
    onProgress: (state) => progress.show(copied(state)),
  }, signal);
}

function openSecret(path: string, { disk, log }: Ports): Secret {
  const file = AuthFile.open(disk, path);
  for (const warning of file.warnings) log.warning(warning);
  return file;
}

/** @throws UsageError about options that do not go together */
function checkOptions(options: ReplicaSyncCommand, host: Host): void {
  const { source, authFile, protocol, quiet, verbose, tlsCert, tlsKey, tlsCa, tlsName } = options;
  if (quiet && verbose) {
    throw new UsageError("Cannot be both quiet and verbose", { hint: "Give one of -q and -v" });
  }
  if (authFile !== undefined && protocol === "zrs2") {
    throw new UsageError("Cannot use --auth-file with --protocol zrs2: that protocol knows no secrets", {
      hint: "Leave out one of them",
    });
  }
  const isSecured = [authFile, tlsCert, tlsKey, tlsCa, tlsName].some((each) => each !== undefined);
  if (isSecured && pathOfSource(source) !== undefined) {
    throw new UsageError(`Cannot use --auth-file or --tls-… to copy ${source}: there is no connection`, {
      hint: "Give them with zrs://HOST:PORT only",
    });
  }
  tlsFiles(options);
  checkOutputs(options, host.disk);
}
