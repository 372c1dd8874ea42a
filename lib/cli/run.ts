/** The program: one command, its exit code, and one line on standard error when it fails. */

import type { Host } from "../host/mod.ts";
import { type Command, parseArguments, programOf } from "./arguments.ts";
import { EXIT, type ExitCode, exitCodeOf } from "./exit_codes.ts";
import { formatFailure } from "./failure.ts";
import { runLog } from "./log.ts";
import { runPrimary } from "./primary.ts";
import { runRewind } from "./rewind.ts";
import { runSecondary } from "./secondary.ts";

/**
 * Runs the command that the arguments name, until it is done. Never throws.
 * @param args the arguments after the program's name
 * @returns the exit code
 */
export async function run(args: readonly string[], host: Host): Promise<ExitCode> {
  try {
    const command = parseArguments(args, host);
    if (command !== undefined) await runCommand(command, host);
    return EXIT.ok;
  } catch (error) {
    host.err(`${formatFailure(programOf(args), error)}\n`);
    return exitCodeOf(error);
  }
}

function runCommand(command: Command, host: Host): Promise<void> {
  switch (command.command) {
    case "primary":
      return runPrimary(command, host);
    case "secondary":
      return runSecondary(command, host);
    case "log":
      return runLog(command, host);
    case "rewind":
      return runRewind(command, host);
  }
}
