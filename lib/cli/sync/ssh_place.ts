/** From what the command line says to what leads to another machine. */

import type { Host } from "../../host/mod.ts";
import type { FarPlace } from "../../replica/mod.ts";
import { formatSshTarget, splitCommand, sshArguments, type SshTarget } from "./ssh_source.ts";

/**
 * Whether somebody is there to type a password, or to say yes to an unknown host's key: ssh asks on the terminal
 * itself. From cron nobody is.
 */
export function mayAsk(host: Pick<Host, "isTerminal">): boolean {
  return host.isTerminal("err");
}

/**
 * What to start, and how messages name it.
 * @param ssh the command of `--ssh`, with options of its own
 * @throws UsageError about that command
 */
export function farPlaceOf(target: SshTarget, ssh: string, host: Pick<Host, "isTerminal">): FarPlace {
  const [program, ...args] = splitCommand(ssh);
  return {
    host: target.user === undefined ? target.host : `${target.user}@${target.host}`,
    name: formatSshTarget(target),
    path: target.path,
    command: [program, ...args, ...sshArguments(target, { mayAsk: mayAsk(host) })],
  };
}
