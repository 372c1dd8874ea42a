/**
 * From argv to a command with typed options. Help, `--version` and completion come from the same definition of
 * the commands, and are answered here.
 */

import { bash, fish, zsh } from "@optique/core/completion";
import { or } from "@optique/core/constructs";
import { runParserSync } from "@optique/core/facade";
import {
  commandLine,
  formatMessage,
  lineBreak,
  type Message,
  message,
  optionName,
} from "@optique/core/message";
import { findSimilar } from "@optique/core/suggestion";
import { extractOptionNames } from "@optique/core/usage";
import { UsageError } from "../errors.ts";
import type { Host } from "../host/mod.ts";
import { type LogCommand, logParser } from "./log.ts";
import { type PackCommand, packParser } from "./pack/pack.ts";
import { type PrimaryCommand, primaryParser } from "./primary.ts";
import { type PromoteCommand, promoteParser } from "./promote.ts";
import { type ReplicaSyncCommand, replicaSyncParser } from "./sync/replica_sync.ts";
import { type RewindCommand, rewindParser } from "./rewind.ts";
import { type SecondaryCommand, secondaryParser } from "./secondary.ts";
import { type StatusCommand, statusParser } from "./status/status.ts";
import { type VerifyCommand, verifyParser } from "./verify/verify.ts";
import { VERSION } from "./version.ts";

/** What the user wants done. */
export type Command =
  | PrimaryCommand
  | SecondaryCommand
  | ReplicaSyncCommand
  | StatusCommand
  | LogCommand
  | RewindCommand
  | PromoteCommand
  | VerifyCommand
  | PackCommand;

const PARSERS = {
  primary: primaryParser,
  secondary: secondaryParser,
  "replica-sync": replicaSyncParser,
  status: statusParser,
  log: logParser,
  rewind: rewindParser,
  promote: promoteParser,
  verify: verifyParser,
  pack: packParser,
};

const COMPLETION = "completion";
const META_OPTIONS = ["--help", "-h", "--version", "-V"];

/** Help is as wide as the terminal, within what reads well. */
const WIDTH = { least: 60, usual: 80, most: 100 } as const;

/** `zrs COMMAND` as far as the arguments name one that exists: how failures begin. */
export function programOf(args: readonly string[]): string {
  const name = args[0];
  return name !== undefined && isCommand(name) ? `zrs ${name}` : "zrs";
}

/**
 * Reads the command line.
 * @returns the command; undefined when the answer (help, version, completion) has already been written
 * @throws UsageError
 */
export function parseArguments(args: readonly string[], host: Host): Command | undefined {
  refuseOtherBytes(args);
  const program = programOf(args);
  let answered = false;
  let wrong: Message | undefined;
  function answer(): void {
    answered = true;
  }
  const { primary, secondary, status, log, rewind, promote, verify, pack } = PARSERS;
  const replicaSync = PARSERS["replica-sync"];
  const commands = or(primary, secondary, replicaSync, status, log, rewind, promote, verify, pack, {
    errors: {
      noMatch: message`Missing command`,
      unexpectedInput: (token) => describeUnexpected(token, args[0]),
    },
  });
  const parsed = runParserSync(commands, "zrs", args, {
    help: { option: { names: ["-h", "--help"] }, onShow: answer },
    version: { option: { names: ["-V", "--version"] }, value: `zrs ${VERSION}`, onShow: answer },
    completion: { command: { names: [COMPLETION] }, shells: { bash, zsh, fish }, onShow: answer },
    brief: message`zrs keeps copies of ZODB FileStorage databases (Data.fs) current on other machines.`,
    footer: message`Each command explains itself, with an example:${lineBreak()}  ${
      commandLine("zrs primary --help")
    }`,
    aboveError: "none",
    showDefault: { prefix: " (default: ", suffix: ")" },
    usageLine: [{
      type: "sequence",
      terms: [{ type: "argument", metavar: "COMMAND" }, { type: "ellipsis" }],
    }],
    termWidth: "auto",
    maxWidth: helpWidth(host),
    colors: host.isTerminal("out") && !host.env("NO_COLOR"),
    stdout: (text) => host.out(`${text}\n`),
    stderr: () => {}, // said by whoever catches the failure, in one line
    onError: (_, error): undefined => void (wrong = error),
  });
  if (wrong !== undefined) throw toUsageError(wrong, program);
  return answered ? undefined : parsed;
}

/** The runtime has put another character for each byte that is not UTF-8: a name would be that of another file. */
function refuseOtherBytes(args: readonly string[]): void {
  const other = args.find((each) => each.includes("\ufffd"));
  if (other === undefined) return;
  throw new UsageError(`Cannot read argument ${other}: it must be UTF-8, and has other bytes`, {
    hint: "for a file of such a name, give a link to it, or to its directory",
  });
}

function isCommand(name: string): name is keyof typeof PARSERS | typeof COMPLETION {
  return Object.hasOwn(PARSERS, name) || name === COMPLETION;
}

function helpWidth(host: Host): number {
  const columns = host.columns() ?? WIDTH.usual;
  return Math.min(Math.max(columns, WIDTH.least), WIDTH.most);
}

/** The parser does not say which of a command's options was nearly meant. */
function describeUnexpected(token: string, name: string | undefined): Message {
  const parser = name !== undefined && Object.hasOwn(PARSERS, name)
    ? PARSERS[name as keyof typeof PARSERS]
    : undefined;
  const isOption = token.startsWith("-");
  const what = isOption ? "option" : parser === undefined ? "command" : "argument";
  const candidates = isOption
    ? [...(parser === undefined ? [] : extractOptionNames(parser.usage)), ...META_OPTIONS]
    : parser === undefined
    ? [...Object.keys(PARSERS), COMPLETION]
    : [];
  const similar = findSimilar(withoutValue(token), candidates, { maxSuggestions: 1 })[0];
  const unexpected = message`Unexpected ${{ type: "text", text: what }} ${optionName(token)}`;
  return similar === undefined ? unexpected : message`${unexpected}; did you mean ${optionName(similar)}?`;
}

/** `--option` of `--option=value`. */
function withoutValue(token: string): string {
  return token.split("=", 1)[0]!;
}

function toUsageError(error: Message, program: string): UsageError {
  const words = formatMessage(error, { quotes: true }).replace(/\s*\n\s*/g, " ").replace(/\.$/, "");
  return words.includes("; ")
    ? new UsageError(words) // it says already what can be done
    : new UsageError(words, { hint: `see ${program} --help` });
}
