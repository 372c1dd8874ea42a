/** The options that every server command has, and what is checked about them before anything is touched. */

import { message, text } from "@optique/core/message";
import { optional, withDefault } from "@optique/core/modifiers";
import { flag, option } from "@optique/core/primitives";
import type { Usage } from "@optique/core/usage";
import { UsageError } from "../errors.ts";
import type { LogOptions } from "../host/mod.ts";
import type { Disk } from "../ports/mod.ts";
import { blobs, file, wholeNumber } from "./values.ts";

/** What all server commands are told. Paths are as the user wrote them. */
export interface ServerOptions {
  readonly dataFs: string;
  readonly readyFile?: string | undefined;
  readonly logFile?: string | undefined;
  readonly quiet: boolean;
  readonly verbose: boolean;
}

/** Parsers for what stands at the end of every server command's help. */
export const serverOptions = {
  readyFile: optional(option("--ready-file", file("FILE"), {
    description: message`Write process id and addresses to FILE as JSON once all is open, remove it at exit.`,
  })),
  logFile: optional(option("--log-file", file("FILE"), {
    description: message`Append the log to FILE, opened anew on SIGHUP and SIGUSR2; standard error without.`,
  })),
  quiet: withDefault(
    flag("-q", "--quiet", { description: message`Log warnings and errors only.` }),
    false,
  ),
  verbose: withDefault(
    flag("-v", "--verbose", { description: message`Log details too.` }),
    false,
  ),
};

/** How a command's help shows it in short: its name, DATA_FS, the options it needs, and that there are more. */
export function usageLine(...needed: readonly (readonly [`--${string}`, "ADDR" | "TID"])[]): Usage {
  const terms: Usage = [
    { type: "argument", metavar: "DATA_FS" },
    ...needed.map(([name, metavar]) => ({ type: "option", names: [name], metavar } as const)),
    { type: "multiple", min: 0, terms: [{ type: "argument", metavar: "OPTION" }] },
  ];
  return [{ type: "sequence", terms }];
}

/** `--blobs`, the same for both ends of a stream. */
export const blobsOption = withDefault(
  option("--blobs", blobs(), {
    description: message`What to do about blobs: ${text("none")} leaves them out.`,
  }),
  "refuse",
  { message: message`the first blob ends the replication` },
);

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

/** What stands beside a database and belongs to it. */
const DATABASE_FILES = /^(|\.index|\.index\.index_tmp|\.lock|\.tmp|\.pack|\.old|\.tr\d+|\.rewound-.*)$/;

/**
 * Sees to it that no log line or ready file lands in the database, also through links.
 * @throws UsageError
 */
export function checkOutputs({ dataFs, logFile, readyFile }: ServerOptions, disk: Disk): void {
  const database = disk.status(dataFs)?.identity;
  for (const [option, path] of [["--log-file", logFile], ["--ready-file", readyFile]] as const) {
    if (path === undefined) continue;
    const belongs = path.startsWith(dataFs) && DATABASE_FILES.test(path.slice(dataFs.length));
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
