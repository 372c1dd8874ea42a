/** `zrs verify`: everything that is wrong with a database, a line each. */

import { object } from "@optique/core/constructs";
import { commandLine, lineBreak, message } from "@optique/core/message";
import { optional, withDefault } from "@optique/core/modifiers";
import { argument, command, constant, flag, option } from "@optique/core/primitives";
import { UnavailableError, UsageError } from "../errors.ts";
import { gravityOf, Verification } from "../filestorage/mod.ts";
import type { Host } from "../host/mod.ts";
import { EXIT, type ExitCode } from "./exit_codes.ts";
import { usageLine } from "./options.ts";
import { ProgressLine } from "./progress_line.ts";
import { file, wholeNumber } from "./values.ts";
import { openScanner } from "./verify_scanner.ts";
import { FindingLines } from "./verify_text.ts";

export interface VerifyCommand {
  readonly command: "verify";
  readonly dataFs: string;
  /** What it is to be compared with. */
  readonly other?: string | undefined;
  readonly pickles: boolean;
  readonly refs: boolean;
  readonly blobDir?: string | undefined;
  readonly maxFindings: number;
  readonly json: boolean;
}

/** Nobody reads more; a program that does says so. */
const DEFAULT_MAX_FINDINGS = 1000;

/** A commit takes milliseconds, as a rule. */
const COMMIT_WAIT_MS = 50;

export const verifyParser = command(
  "verify",
  object({
    command: constant("verify"),
    dataFs: argument(file("DATA_FS"), {
      description: message`The database. It is only ever read, and may be in use.`,
      errors: { endOfInput: message`Missing DATA_FS, the path of the database` },
    }),
    other: optional(argument(file("OTHER"), {
      description: message`Another copy, to compare with; not in this version.`,
    })),
    pickles: withDefault(
      flag("--pickles", {
        description: message`Read all data, too: every record must be two well-formed pickles.`,
      }),
      false,
    ),
    refs: withDefault(
      flag("--refs", {
        description:
          message`Follow the references between objects: all that are referred to must be there. Counts what cannot be reached.`,
      }),
      false,
    ),
    blobDir: optional(option("--blob-dir", file("DIR"), {
      description: message`Compare the blob directory with the records, both ways.`,
    })),
    maxFindings: withDefault(
      option("--max-findings", wholeNumber(), {
        description: message`Show the first N findings, and only count the others.`,
      }),
      DEFAULT_MAX_FINDINGS,
      { message: message`1000` },
    ),
    json: withDefault(
      flag("--json", {
        description: message`Write one JSON object per finding, a line each, and a summary.`,
      }),
      false,
    ),
  }),
  {
    brief: message`Check a database for damage.`,
    description:
      message`Checks every transaction and record of DATA_FS and the index file beside it, goes on behind damage, and says what is lost. Reads only, takes no lock, and can stand beside whoever writes the database. Exits with 1 when something was found. Without --pickles the data itself is not looked at: the file has no checksums.`,
    footer: message`Example:${lineBreak()}  ${
      commandLine("zrs verify /srv/zope/var/Data.fs --pickles --refs --blob-dir /srv/zope/var/blobstorage")
    }`,
    usageLine: usageLine(),
  },
);

/** Writes the findings and a summary. @throws ZrsError where the file cannot be verified */
export async function runVerify(options: VerifyCommand, host: Host): Promise<ExitCode> {
  const { dataFs, other, pickles, refs, blobDir } = options;
  if (other !== undefined) {
    throw new UsageError(`Cannot compare ${dataFs} with ${other}: this version verifies one database only`, {
      hint: "Give one DATA_FS; comparing comes with a later version",
    });
  }
  using verification = Verification.open(host.disk, dataFs);
  await using scanner = openScanner(host, dataFs, verification.file);
  const lines = new FindingLines(host, options);
  const progress = new ProgressLine(host);
  const wait = (ms: number) => new Promise<void>((resolve) => void host.clock.schedule(ms, resolve));
  let isDamaged = false;
  try {
    const findings = verification.findings({
      pickles,
      references: refs,
      blobDir,
      scanner,
      pause: async () => {
        progress.show(verification.progress);
        lines.flush();
        await wait(0);
      },
      wait: () => wait(COMMIT_WAIT_MS),
    });
    for await (const finding of findings) {
      progress.hide();
      lines.add(finding);
      isDamaged ||= gravityOf(finding) !== "note";
    }
    progress.hide();
    lines.summarize(dataFs, verification.verified);
  } catch (error) {
    // Whoever reads the findings has seen enough, as in `| head`; that there were some is told.
    if (!(error instanceof UnavailableError)) throw error;
  } finally {
    progress.hide();
    lines.flush();
  }
  return isDamaged ? EXIT.checkFailed : EXIT.ok;
}
