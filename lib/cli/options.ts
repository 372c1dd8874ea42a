/** The options that several commands have, and what is checked about them before anything is touched. */

import { type Message, message, text } from "@optique/core/message";
import { optional, withDefault } from "@optique/core/modifiers";
import { argument, flag, option } from "@optique/core/primitives";
import { choice, string } from "@optique/core/valueparser";
import type { OptionName, Usage } from "@optique/core/usage";
import { UsageError } from "../errors.ts";
import { directoryOf } from "../filestorage/mod.ts";
import type { LogOptions, TlsFiles } from "../host/mod.ts";
import type { Disk } from "../ports/mod.ts";
import type { BlobOptions, Compress } from "../replica/mod.ts";
import { controlPathOf } from "./control/control_place.ts";
import { file, rate, wholeNumber } from "./values.ts";

/** What is said about encryption: the paths of three files, and whose certificate the other end shows. */
export interface TlsOptions {
  readonly tlsCert?: string | undefined;
  readonly tlsKey?: string | undefined;
  readonly tlsCa?: string | undefined;
  readonly tlsName?: string | undefined;
}

/** What all server commands are told. Paths are as the user wrote them. */
export interface ServerOptions extends TlsOptions {
  readonly dataFs: string;
  readonly readyFile?: string | undefined;
  readonly logFile?: string | undefined;
  /** Where the control socket is to be, in place of the usual. */
  readonly control?: string | undefined;
  /** Holds the secret of all nodes. */
  readonly authFile?: string | undefined;
  readonly quiet: boolean;
  readonly verbose: boolean;
}

/** The argument DATA_FS: what must be there, and what is said of it. */
export function dataFsArgument(what: "database" | "copy", description: Message) {
  return argument(file("DATA_FS"), {
    description,
    errors: { endOfInput: message`Missing DATA_FS, the path of the ${text(what)}` },
  });
}

/** DATA_FS, for whoever only looks at it. */
export const readDataFs = dataFsArgument(
  "database",
  message`The database. It is only ever read, and may be in use.`,
);

/** An option that is true where it is given. */
export function toggle(names: OptionName | readonly [OptionName, OptionName], description: Message) {
  const [name, ...others] = typeof names === "string" ? [names] as const : names;
  return withDefault(flag(name, ...others, { description }), false);
}

/** Parsers for what stands at the end of every server command's help. */
export const serverOptions = {
  authFile: optional(option("--auth-file", file("FILE"), {
    description:
      message`Talk only to nodes of zrs that have the same secret, the first line of FILE; it encrypts nothing. SIGHUP reads it anew.`,
  })),
  tlsCert: optional(option("--tls-cert", file("FILE"), {
    description:
      message`Encrypt all connections, and show this certificate; SIGHUP reads it, key and authority anew.`,
  })),
  tlsKey: optional(option("--tls-key", file("FILE"), {
    description: message`The certificate's private key.`,
  })),
  tlsCa: optional(option("--tls-ca", file("FILE"), {
    description: message`Talk only to those whose certificate is signed by this authority.`,
  })),
  readyFile: optional(option("--ready-file", file("FILE"), {
    description: message`Write process id and addresses to FILE as JSON once all is open, remove it at exit.`,
  })),
  logFile: optional(option("--log-file", file("FILE"), {
    description: message`Append the log to FILE, opened anew on SIGHUP and SIGUSR2; standard error without.`,
  })),
  quiet: toggle(["-q", "--quiet"], message`Log warnings and errors only.`),
  verbose: toggle(["-v", "--verbose"], message`Log details too.`),
};

/** `--tls-name`, for whoever connects to a primary. */
export const tlsNameOption = optional(option("--tls-name", string({ metavar: "NAME" }), {
  description: message`The primary's certificate is for NAME, instead of the host we connect to.`,
}));

/**
 * What somebody who asks a running node is told of secret and encryption.
 * @param node who that is
 */
export function askingOptions(node: "source" | "running node") {
  return {
    authFile: optional(option("--auth-file", file("FILE"), {
      description: message`The ${text(node)} has the same secret, the first line of FILE.`,
    })),
    tlsName: tlsNameOption,
    tlsCert: optional(option("--tls-cert", file("FILE"), {
      description: message`Encrypt the connection to the ${text(node)}, and show this certificate.`,
    })),
    tlsKey: serverOptions.tlsKey,
    tlsCa: serverOptions.tlsCa,
  };
}

/** How a command's help shows it in short: its name, DATA_FS, the options it needs, and that there are more. */
export function usageLine(...needed: readonly (readonly [`--${string}`, "ADDR" | "TID"])[]): Usage {
  const terms: Usage = [
    { type: "argument", metavar: "DATA_FS" },
    ...needed.map(([name, metavar]) => ({ type: "option", names: [name], metavar } as const)),
    { type: "multiple", min: 0, terms: [{ type: "argument", metavar: "OPTION" }] },
  ];
  return [{ type: "sequence", terms }];
}

/** `--control`, for a node that owns its file, or follows one. */
export function controlOption(use: "owned" | "followed") {
  return optional(option("--control", file("PATH"), {
    description: use === "owned"
      ? message`Listen for ${text("zrs status")} on the Unix socket PATH; without, on DATA_FS.zrs.`
      : message`Listen for ${text("zrs status")} on the Unix socket PATH; without, on none.`,
  }));
}

/** `--control`, for whoever asks the node that has a database open. */
export function askedControlOption() {
  return optional(option("--control", file("PATH"), {
    description: message`The node that has it open listens on PATH, as its own ${text("--control")} says.`,
  }));
}

/** What is said about blobs, the same for both ends of a stream. */
export interface BlobsCommand {
  readonly blobDir?: string | undefined;
  readonly blobs?: "replicate" | "shared" | "none" | undefined;
}

/** `--blob-dir` and `--blobs`. */
export const blobsOptions = {
  blobDir: optional(option("--blob-dir", file("DIR"), {
    description:
      message`The directory of the database's blobs; without it the first blob ends the replication.`,
  })),
  blobs: optional(option("--blobs", choice(["replicate", "shared", "none"], { metavar: "MODE" }), {
    description: message`What to do with blobs: ${text("replicate")} them (the default with ${
      text("--blob-dir")
    }), look for them in a directory ${text("shared")} by both ends, or ${
      text("none")
    } at all: records only.`,
  })),
};

/** `--missing-blobs`, of who receives blobs. */
export const missingBlobsOption = optional(
  option("--missing-blobs", choice(["fail", "mark"], { metavar: "MODE" }), {
    description: message`What to do where the source has no file for a blob, or cannot read it: ${
      text("fail")
    }, the default, goes no further; ${
      text("mark")
    } takes the record alone and puts the blob on a list that zrs status and zrs verify tell of.`,
  }),
);

/** @throws UsageError where missing blobs are to be marked, and none are replicated */
export function checkMissingBlobs(missingBlobs: "fail" | "mark" | undefined, { blobs }: BlobOptions): void {
  if (missingBlobs !== "mark" || blobs === "replicate") return;
  throw new UsageError("Cannot mark missing blobs where none are replicated", {
    hint: "Give --missing-blobs mark with --blob-dir, and neither --blobs none nor --blobs shared",
  });
}

/** @throws UsageError when they contradict each other */
export function blobOptions({ blobs, blobDir }: BlobsCommand): BlobOptions {
  if (blobDir === undefined && (blobs === "replicate" || blobs === "shared")) {
    const what = blobs === "shared" ? "share blobs" : "replicate blobs";
    throw new UsageError(`Cannot ${what} without --blob-dir`, { hint: "Name the directory of the blobs" });
  }
  if (blobDir !== undefined && blobs === "none") {
    throw new UsageError("Cannot use --blob-dir with --blobs none: that leaves the blobs' files out", {
      hint: "Give one of them",
    });
  }
  return { blobs: blobs ?? (blobDir === undefined ? "refuse" : "replicate"), blobDir };
}

/** What is said about serving secondaries. */
export interface SendingOptions {
  readonly maxSecondaries: number;
  readonly compress: Compress;
  /** In bytes a second. */
  readonly bwlimit?: number | undefined;
}

/** `--compress`, for both ends of a stream. */
export const compressOption = withDefault(
  option("--compress", choice(["auto", "on", "off"], { metavar: "WHEN" }), {
    description: message`Compress what goes between nodes of zrs: ${text("on")}, ${
      text("off")
    }, or on slow links.`,
  }),
  "auto" as const,
  { message: message`${text("auto")}` },
);

/** `--bwlimit`, for every node that serves secondaries. */
export const bwlimitOption = optional(option("--bwlimit", rate(), {
  description: message`Send no more than RATE bytes a second to all of them; ${text("K")}, ${text("M")} and ${
    text("G")
  } may follow.`,
}));

/** `--max-secondaries`, for every node that serves some. */
export const maxSecondariesOption = withDefault(
  option("--max-secondaries", wholeNumber(), {
    description: message`Serve so many at once; more are refused, in words.`,
  }),
  100,
  { message: message`${text("100")}` },
);

/** @throws UsageError when both --quiet and --verbose were given */
export function logOptions({ quiet, verbose, logFile }: ServerOptions): LogOptions {
  if (quiet && verbose) {
    throw new UsageError("Cannot be both quiet and verbose", { hint: "Give one of -q and -v" });
  }
  const level = quiet ? "warning" : verbose ? "debug" : "info";
  return { level, ...(logFile !== undefined && { file: logFile }) };
}

/** What stands beside a database and belongs to it, the control socket included. */
const DATABASE_FILES =
  /^(|\.index|\.index\.index_tmp|\.lock|\.tmp|\.pack|\.old|\.tr\d+|\.zrs|\.sync.*|\.rewound-.*|\.pending\..*|(\.missing-blobs|\.secondaries)(\.new)?)$/;

/** @throws UsageError when only some of the files that belong together were given */
export function tlsFiles({ tlsCert, tlsKey, tlsCa, tlsName }: TlsOptions): TlsFiles | undefined {
  if (tlsCert !== undefined && tlsKey !== undefined && tlsCa !== undefined) {
    return { cert: tlsCert, key: tlsKey, ca: tlsCa };
  }
  const files = [["--tls-cert", tlsCert], ["--tls-key", tlsKey], ["--tls-ca", tlsCa]] as const;
  const missing = files.flatMap(([name, value]) => value === undefined ? [name] : []);
  if (missing.length === files.length && tlsName === undefined) return undefined;
  throw new UsageError(`Cannot encrypt without ${missing.join(" and ")}`, {
    hint: "Give all of --tls-cert, --tls-key and --tls-ca, or none",
  });
}

/** Whether a path, however its directory is written, is that of a file which belongs to the database. */
function isBesideDatabase(path: string, dataFs: string, disk: Disk): boolean {
  const [name, database] = [nameOf(path), nameOf(dataFs)];
  if (!name.startsWith(database) || !DATABASE_FILES.test(name.slice(database.length))) return false;
  const [directory, own] = [directoryOf(path), directoryOf(dataFs)];
  const identity = disk.status(own)?.identity;
  return directory === own || identity !== undefined && identity === disk.status(directory)?.identity;
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/**
 * Sees to it that no log line, ready file or socket lands in the database, also through links.
 * @throws UsageError
 */
export function checkOutputs(
  { dataFs, logFile, readyFile, control }: Pick<
    ServerOptions,
    "dataFs" | "logFile" | "readyFile" | "control"
  >,
  disk: Disk,
): void {
  const database = disk.status(dataFs)?.identity;
  const outputs = [["--log-file", logFile], ["--ready-file", readyFile], ["--control", control]] as const;
  for (const [option, path] of outputs) {
    if (path === undefined || (option === "--control" && nameOf(path) === nameOf(controlPathOf(dataFs)))) {
      continue;
    }
    const belongs = isBesideDatabase(path, dataFs, disk);
    const identity = disk.status(path)?.identity;
    if (!belongs && (identity === undefined || identity !== database)) continue;
    throw new UsageError(`Cannot use ${path} for ${option}: it belongs to the database ${dataFs}`, {
      path,
      hint: "Name a file of its own",
    });
  }
  if (logFile !== undefined && logFile === readyFile) {
    throw new UsageError(`Cannot use ${logFile} both as log and as ready file`, {
      path: logFile,
      hint: "Name two files",
    });
  }
}
