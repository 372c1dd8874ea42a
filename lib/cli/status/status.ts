/** `zrs status`: what a running node says of itself, for people, programs and monitors. */

import { object } from "@optique/core/constructs";
import { commandLine, lineBreak, message, text } from "@optique/core/message";
import { optional } from "@optique/core/modifiers";
import { argument, command, constant, option } from "@optique/core/primitives";
import { UnavailableError, UsageError, ZrsError } from "../../errors.ts";
import { segmentPaths } from "../../filestorage/mod.ts";
import type { Host } from "../../host/mod.ts";
import type { Disk } from "../../ports/mod.ts";
import { ask } from "../control/control_client.ts";
import { controlPathOf, findSocket } from "../control/control_place.ts";
import { EXIT, type ExitCode } from "../exit_codes.ts";
import { nagiosReport } from "./nagios.ts";
import { oneLine } from "../quantities.ts";
import { readAnswer } from "./status_answer.ts";
import { findings, isLimited } from "./status_findings.ts";
import { formatStatus } from "./status_text.ts";
import { toggle } from "../options.ts";
import { file, lagSeconds, size } from "../values.ts";

export interface StatusCommand {
  readonly command: "status";
  /** The database of the node, or the path of its control socket. */
  readonly place: string;
  readonly json: boolean;
  readonly nagios: boolean;
  /** In seconds. */
  readonly maxLag?: number | undefined;
  readonly maxLagBytes?: number | undefined;
}

export const statusParser = command(
  "status",
  object({
    command: constant("status"),
    place: argument(file("DATA_FS|SOCKET"), {
      description: message`The file of a running secondary, or the control socket of any node (${
        text("--control")
      }).`,
      errors: { endOfInput: message`Missing DATA_FS or SOCKET, the path of a node's file or control socket` },
    }),
    json: toggle("--json", message`Print one JSON object; docs/control_protocol.md describes it.`),
    maxLag: optional(option("--max-lag", lagSeconds(), {
      description: message`Fail when the node's copy, or one of a primary's secondaries, is farther behind.`,
    })),
    maxLagBytes: optional(option("--max-lag-bytes", size(), {
      description: message`The same in bytes; ${text("K")}, ${text("M")} and ${text("G")} may follow.`,
    })),
    nagios: toggle(
      "--nagios",
      message`Print one line as Nagios takes it, and exit with 0, 2 (critical) or 3 (unknown).`,
    ),
  }),
  {
    brief: message`Show what a running node says of itself.`,
    description:
      message`Asks a running node how it is: its file, its source, the secondaries that it serves, and how far they are behind. With a limit it is a check: it exits with 1 when the limit is passed, or when a secondary is not connected to its source.`,
    footer: message`Example:${lineBreak()}  ${
      commandLine("zrs status /srv/replica/Data.fs --max-lag 60")
    }${lineBreak()}A secondary is measured against what its source has; by zrs2 against what it has received, for such a source does not tell what else it has. Exit code 4 says that no node answers.`,
    usageLine: [{
      type: "sequence",
      terms: [
        { type: "argument", metavar: "DATA_FS|SOCKET" },
        { type: "multiple", min: 0, terms: [{ type: "argument", metavar: "OPTION" }] },
      ],
    }],
  },
);

/** Whether the arguments ask for a Nagios plug-in, which has to answer in its own way even when it fails. */
export function isNagiosCheck(args: readonly string[]): boolean {
  return args[0] === "status" && args.includes("--nagios");
}

/** @throws UnavailableError when no node answers, UsageError, ProtocolError */
export async function runStatus(options: StatusCommand, host: Host): Promise<ExitCode> {
  const { json, nagios, maxLag, maxLagBytes } = options;
  if (json && nagios) {
    throw new UsageError("Cannot print both JSON and a line for Nagios", {
      hint: "Give one of --json and --nagios",
    });
  }
  const limits = { seconds: maxLag, bytes: maxLagBytes };
  const answer = await ask(host, socketOf(options.place, host.disk), { request: "status" });
  const status = readAnswer(answer);
  const found = nagios || isLimited(limits) ? findings(status, limits) : [];
  if (nagios) {
    const { line, code } = nagiosReport(status, found, limits);
    host.out(line);
    return code;
  }
  host.out(json ? `${JSON.stringify(answer)}\n` : formatStatus(status));
  for (const { limit, words } of found) host.err(oneLine(`zrs status: ${limit} passed: ${words}`) + "\n");
  return found.length === 0 ? EXIT.ok : EXIT.checkFailed;
}

/** @throws UnavailableError when there is no control socket, UsageError when it may not be looked for */
function socketOf(place: string, disk: Disk): string {
  const found = findSocket(place, disk);
  if (found !== undefined) return found;
  const waiting = hasPending(disk, place)
    ? "; what has been received and not applied waits beside it (zrs log --pending)"
    : "";
  throw new UnavailableError(
    `Cannot ask about ${place}: no node listens at ${controlPathOf(place)}${waiting}`,
    {
      path: place,
      hint: "start zrs secondary, which listens there once it has opened its file; a node that was given " +
        "--control PATH, as a zrs primary needs it, is asked by that path",
    },
  );
}

/** That no node answers says more than why nobody may look what lies there. */
function hasPending(disk: Disk, place: string): boolean {
  try {
    return segmentPaths(disk, place).length > 0;
  } catch (error) {
    if (!(error instanceof ZrsError)) throw error;
    return false;
  }
}
