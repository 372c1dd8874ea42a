/** `zrs replica-sync`: brings a copy of a database up to date once, as from cron. */

import { object } from "@optique/core/constructs";
import { commandLine, lineBreak, message, text } from "@optique/core/message";
import { optional, withDefault } from "@optique/core/modifiers";
import { argument, command, constant, option } from "@optique/core/primitives";
import { choice, string } from "@optique/core/valueparser";
import { UsageError, ZrsError } from "../../errors.ts";
import type { Host, SystemLog } from "../../host/mod.ts";
import type { Address } from "../../ports/mod.ts";
import {
  askLastTid,
  type Compress,
  FarSource,
  type Ports,
  type Secret,
  type SyncProgress,
  syncReplica,
  type SyncSource,
} from "../../replica/mod.ts";
import { AuthFile } from "../auth_file.ts";
import { type ExitCode, exitCodeOf, originOf } from "../exit_codes.ts";
import { interruptible, Stopped } from "../interruptible.ts";
import {
  blobOptions,
  type BlobsCommand,
  blobsOptions,
  checkMissingBlobs,
  checkOutputs,
  compressOption,
  dataFsArgument,
  missingBlobsOption,
  serverOptions,
  tlsFiles,
  tlsNameOption,
  type TlsOptions,
  toggle,
} from "../options.ts";
import { type Progress, ProgressLine } from "../progress_line.ts";
import { pushReplica } from "./replica_push.ts";
import { planSync, tellCheck } from "./replica_sync_plan.ts";
import { describeReport, failureFacts, reportFacts } from "./replica_sync_report.ts";
import { networkFor } from "../secure_network.ts";
import { openSource, pathOfSource, readFarPlace, readSourceName, sourceBlobs } from "./sync_source_option.ts";
import { address, file, moment, rate, seconds } from "../values.ts";
import { SOFTWARE } from "../version.ts";

/**
 * Over standard input and output there is one conversation for each start: one compares, and another one copies: what
 * follows, all of that record by record, or all anew.
 */
const STEPS = ["check", "copy", "records", "anew"] as const;
export type Step = typeof STEPS[number];

export interface ReplicaSyncCommand extends BlobsCommand, TlsOptions {
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
  /** The source is here, and the copy on another machine. */
  readonly push: boolean;
  /** What the one conversation with whoever pushes is for. */
  readonly step?: Step | undefined;
  readonly json: boolean;
  readonly protocol: "auto" | "native" | "zrs2";
  readonly compress: Compress;
  /** In bytes a second. */
  readonly bwlimit?: number | undefined;
  /** The blob directory of the source, where that is a file. */
  readonly sourceBlobDir?: string | undefined;
  readonly missingBlobs?: "fail" | "mark" | undefined;
  /** The command that leads to another machine. */
  readonly ssh: string;
  /** The name or path of zrs there. */
  readonly farZrs?: string | undefined;
  readonly authFile?: string | undefined;
  readonly logFile?: string | undefined;
  readonly quiet: boolean;
  readonly verbose: boolean;
}

export const replicaSyncParser = command(
  "replica-sync",
  object({
    command: constant("replica-sync"),
    source: argument(file("SOURCE"), {
      description:
        message`What to copy: the path of a Data.fs, which may be in use, here or on another machine that ssh leads to, ${"[USER@]HOST:PATH"} or ${"ssh://[USER@]HOST[:PORT]/PATH"}; or a running node, ${"zrs://HOST:PORT"} or ${"zrs+unix:PATH"}.`,
      errors: { endOfInput: message`Missing SOURCE, what to copy` },
    }),
    dataFs: dataFsArgument(
      "copy",
      message`The copy, which is made if there is none. Nobody may have it open for writing.`,
    ),
    until: optional(option("--until", moment(), {
      description: message`Copy nothing later than this time, ISO 8601, or this tid.`,
    })),
    repack: toggle(
      "--repack",
      message`Where the source has been packed, make a complete new copy of it, even if what is missing could be appended.`,
    ),
    keepOld: toggle(
      "--keep-old",
      message`When a complete new copy is made, keep the one before as DATA_FS.old.`,
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
    dryRun: toggle("--dry-run", message`Compare both, say what would be done, and write nothing.`),
    push: toggle(
      "--push",
      message`The copy is on another machine, ${"[USER@]HOST:PATH"}, where zrs is installed, too.`,
    ),
    step: optional(option("--step", choice(STEPS, { metavar: "STEP" }), { hidden: true })),
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
    ...blobsOptions,
    sourceBlobDir: optional(option("--source-blob-dir", file("DIR"), {
      description:
        message`The blob directory of SOURCE, where that is a file, here or on another machine; a running node knows its own.`,
    })),
    missingBlobs: missingBlobsOption,
    ssh: withDefault(
      option("--ssh", string({ metavar: "COMMAND" }), {
        description: message`How to get to another machine, such as ${"ssh -p 2222 -i KEY"}.`,
      }),
      "ssh",
      { message: message`${text("ssh")}` },
    ),
    farZrs: optional(option("--far-zrs", string({ metavar: "PROGRAM" }), {
      description:
        message`The path of zrs on the other machine, which must be there then; default: zrs on the PATH there, or its own tools.`,
    })),
    json: toggle("--json", message`Write what has been done as one JSON object.`),
    authFile: serverOptions.authFile,
    tlsName: tlsNameOption,
    tlsCert: serverOptions.tlsCert,
    tlsKey: serverOptions.tlsKey,
    tlsCa: serverOptions.tlsCa,
    logFile: serverOptions.logFile,
    quiet: toggle(["-q", "--quiet"], message`Say nothing unless something is wrong.`),
    verbose: toggle(["-v", "--verbose"], message`Say what is done, step by step.`),
  }),
  {
    brief: message`Bring a copy of a database up to date once, as from cron.`,
    description:
      message`Appends to DATA_FS every transaction of SOURCE that it lacks, and makes it a complete new copy where SOURCE has been packed so that it must be one. Ends with 0 if and only if DATA_FS is a complete copy then. Killed at any moment it leaves a valid one, with which the next run goes on.`,
    footer: message`Example:${lineBreak()}  ${
      commandLine("zrs replica-sync /srv/zope/var/Data.fs /backup/Data.fs")
    }${lineBreak()}  ${
      commandLine("zrs replica-sync -q zrs://db1.example.com:5000 /srv/replica/Data.fs")
    }${lineBreak()}  ${
      commandLine("zrs replica-sync zope@db1.example.com:/srv/zope/var/Data.fs /backup/Data.fs")
    }`,
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
  return await interruptible(host, "zrs replica-sync", STOPPED, async (signal) => {
    try {
      await (options.push ? pushReplica : sync)(options, host, log, signal);
    } catch (error) {
      if (options.json) tellFailure(options, originOf(error), host);
      throw error;
    }
  });
}

const STOPPED =
  "Stopped before the copy was complete; what had come whole is kept, and the next run goes on with it";

/** Tells programs why the copy is not complete; of a bug of ours only people are told. */
function tellFailure(options: ReplicaSyncCommand, error: unknown, host: Host): void {
  if (!(error instanceof Stopped || error instanceof ZrsError)) return;
  const code = error instanceof Stopped ? error.exitCode : exitCodeOf(error);
  sayFor(options, host)(`${JSON.stringify(failureFacts(options, error, code))}\n`);
}

/** Where results go: not into the conversation, where standard output is one. */
function sayFor({ source }: ReplicaSyncCommand, host: Host): (text: string) => void {
  return (text) => source === "-" ? host.err(text) : host.out(text);
}

async function sync(
  options: ReplicaSyncCommand,
  host: Host,
  log: SystemLog,
  signal: AbortSignal,
): Promise<void> {
  const { disk, clock, random } = host;
  const isNode = readSourceName(options.source).kind === "node";
  const network = isNode ? await networkFor(options, host) : host.network;
  const ports: Ports = { disk, network, clock, random, log };
  const secret = options.authFile === undefined ? undefined : openSecret(options.authFile, ports);
  await using source = await openSource(options.source, ports, options, host);
  const say = sayFor(options, host);
  if (options.step === "check" && !(source instanceof FarSource)) {
    return await tellCheck(options, source, { ...ports, host }, say, signal);
  }
  if (options.dryRun) return await planSync(options, source, secret, { ...ports, host }, say, signal);
  const report = await copy(options, host, ports, source, secret, signal);
  if (options.json) say(`${JSON.stringify(reportFacts(options, report))}\n`);
  else if (!options.quiet) say(`${describeReport(options, report)}\n`);
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
  source: SyncSource | FarSource,
  secret: Secret | undefined,
  signal: AbortSignal,
) {
  const { askZeo } = options;
  using progress = new ProgressLine(host, DOING);
  return await syncReplica(ports, source, {
    path: options.dataFs,
    model: pathOfSource(options.source),
    ...blobOptions(options),
    missingBlobs: options.missingBlobs,
    until: options.until,
    repack: options.repack,
    keepOld: options.keepOld,
    anew: options.step === "anew",
    byRecord: options.step === "records",
    // Where there may be one connection only, it is not spent on asking what is spoken.
    protocol: ["ssh", "stdio"].includes(readSourceName(options.source).kind) ? "native" : options.protocol,
    compress: options.compress,
    secret,
    software: SOFTWARE,
    name: `${host.name}:${host.disk.realPath(options.dataFs)}`,
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
  const { kind } = readSourceName(source);
  if (isSecured && kind !== "node") {
    const why = kind === "file" ? "there is no connection" : "it is not a running node";
    throw new UsageError(`Cannot use --auth-file or --tls-… to copy ${source}: ${why}`, {
      hint: "Give them with zrs://HOST:PORT only",
    });
  }
  if (protocol === "zrs2" && (kind === "ssh" || kind === "stdio")) {
    throw new UsageError(`Cannot use --protocol zrs2 to copy ${source}: nothing there speaks it`, {
      hint: "Leave it out",
    });
  }
  if (options.step !== undefined && kind !== "stdio") {
    throw new UsageError("Cannot use --step: it is for zrs at the other end of --push", {
      hint: "Leave it out",
    });
  }
  tlsFiles(options);
  checkMissingBlobs(options.missingBlobs, blobOptions(options));
  sourceBlobs(source, options);
  if (options.push) return checkPush(options, host);
  const { kind: copyKind } = readSourceName(options.dataFs);
  if (copyKind === "node") {
    throw new UsageError(`Cannot copy to ${options.dataFs}: a copy is a file of this machine`, {
      hint: "Name the source first, and then the copy; a local path with a colon is ./path",
    });
  }
  if (copyKind === "ssh") {
    throw new UsageError(`Cannot copy to ${options.dataFs}: a copy is made on this machine`, {
      hint: "Give --push to bring a copy on another machine up to date; a local path with a colon is ./path",
    });
  }
  checkOutputs(options, host.disk);
}

/** @throws UsageError */
function checkPush(options: ReplicaSyncCommand, host: Host): void {
  const { source, dataFs, askZeo, protocol } = options;
  if (readSourceName(source).kind !== "file") {
    throw new UsageError(`Cannot push ${source}: it is no file of this machine`, {
      hint: "Name the path of a Data.fs, and then where the copy is: [user@]host:path",
    });
  }
  if (askZeo !== undefined || protocol === "zrs2") {
    throw new UsageError("Cannot use --ask-zeo or --protocol zrs2 with --push: both are for other sources", {
      hint: "Leave them out",
    });
  }
  readFarPlace(dataFs, options.ssh, host);
  checkOutputs({ ...options, dataFs: source }, host.disk);
}
