/** The program: one command, its exit code, and one line on standard error when it fails. */

import type { Host } from "../host/mod.ts";
import { type Command, parseArguments, programOf } from "./arguments.ts";
import { EXIT, type ExitCode, exitCodeOf } from "./exit_codes.ts";
import { formatFailure } from "./failure.ts";
import { runLog } from "./log.ts";
import { nagiosFailure } from "./status/nagios.ts";
import { runPack } from "./pack/pack.ts";
import { runPrimary } from "./primary.ts";
import { runPromote } from "./promote.ts";
import { runReplicaSync } from "./sync/replica_sync.ts";
import { runRewind } from "./rewind.ts";
import { runSecondary } from "./secondary.ts";

import { isNagiosCheck, runStatus } from "./status/status.ts";
import { runVerify } from "./verify/verify.ts";

/**
 * Runs the command that the arguments name, until it is done. Never throws.
 * @param args the arguments after the program's name
 * @returns the exit code
 */
export async function run(args: readonly string[], host: Host): Promise<ExitCode> {
  let command: Command | undefined;
  let code: ExitCode = EXIT.ok;
  try {
    command = parseArguments(args, host);
    if (command !== undefined) code = await runCommand(command, host);
  } catch (error) {
    if (isNagiosCheck(args)) return failNagios(error, host);
    host.err(`${formatFailure(programOf(args), error)}\n`);
    code = exitCodeOf(error);
  }
  // Nothing interrupts the reading of standard input: the process would wait for a peer that may stay for ever.
  if (command !== undefined && isOverStdio(command)) host.exit(code);
  return code;
}

function isOverStdio(command: Command): boolean {
  return command.command === "primary" && command.replicateTo.transport === "stdio" ||
    command.command === "replica-sync" && command.source === "-";
}

async function runCommand(command: Command, host: Host): Promise<ExitCode> {
  switch (command.command) {
    case "primary":
      await runPrimary(command, host);
      return EXIT.ok;
    case "secondary":
      await runSecondary(command, host);
      return EXIT.ok;
    case "replica-sync":
      return await runReplicaSync(command, host);
    case "status":
      return await runStatus(command, host);
    case "log":
      await runLog(command, host);
      return EXIT.ok;
    case "pack":
      return await runPack(command, host);
    case "rewind":
      await runRewind(command, host);
      return EXIT.ok;
    case "promote":
      await runPromote(command, host);
      return EXIT.ok;
    case "verify":
      return await runVerify(command, host);
  }
}

/** A monitor reads standard output, and codes of its own. */
function failNagios(error: unknown, host: Host): ExitCode {
  const { line, code } = nagiosFailure(error);
  try {
    host.out(line);
  } catch {
    // It does not listen any more: the code is all that is left to say.
  }
  return code;
}
