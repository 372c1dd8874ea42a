/** `zrs verify`: everything that is wrong with a database, a line each. */

import { object } from "@optique/core/constructs";
import { commandLine, lineBreak, message } from "@optique/core/message";
import { optional } from "@optique/core/modifiers";
import { argument, command, constant, option } from "@optique/core/primitives";
import { UnavailableError, UsageError } from "../../errors.ts";
import { gravityOf, Verification } from "../../filestorage/mod.ts";
import type { Host } from "../../host/mod.ts";
import { pauser } from "../../replica/mod.ts";
import { EXIT, type ExitCode } from "../exit_codes.ts";
import { askingOptions, readDataFs, type TlsOptions, toggle } from "../options.ts";
import { commitWait } from "../open_history.ts";
import { ProgressLine } from "../progress_line.ts";
import { isSourceUrl } from "../sync/source_url.ts";
import { file, tid, wholeNumber } from "../values.ts";
import { verifyDigest } from "./verify_digest.ts";
import { verifyOther } from "./verify_other.ts";
import { FindingLines } from "./verify_text.ts";
import { tellWaiting } from "../waiting_note.ts";

export interface VerifyCommand extends TlsOptions {
  readonly command: "verify";
  readonly dataFs: string;
  /** What it is to be compared with. */
  readonly other?: string | undefined;
  readonly pickles: boolean;
  readonly refs: boolean;
  readonly blobDir?: string | undefined;
  /** The blob directory of the other, where that is a file. */
  readonly otherBlobDir?: string | undefined;
  readonly maxFindings?: number | undefined;
  readonly json: boolean;
  readonly bytes: boolean;
  readonly digest: boolean;
  /** Compare or digest from this transaction on, and digest up to that one. */
  readonly since?: bigint | undefined;
  readonly to?: bigint | undefined;
  readonly authFile?: string | undefined;
}

/** Nobody reads more; a program that does says so. */
const DEFAULT_MAX_FINDINGS = 1000;

const DOING = {
  structure: "checking structure",
  records: "looking into records",
  blobs: "comparing blobs",
} as const;

export const verifyParser = command(
  "verify",
  object({
    command: constant("verify"),
    dataFs: readDataFs,
    other: optional(argument(file("OTHER"), {
      description:
        message`Compare DATA_FS, a copy, with this, which it should be a copy of: a file, or a running primary or secondary as zrs://host:port or zrs+unix:PATH.`,
    })),
    pickles: toggle("--pickles", message`Read all data, too: every record must be two well-formed pickles.`),
    refs: toggle(
      "--refs",
      message`Follow the references between objects: all that are referred to must be there. Counts what cannot be reached.`,
    ),
    blobDir: optional(option("--blob-dir", file("DIR"), {
      description:
        message`Compare the blob directory with the records, both ways; with OTHER, the content of each blob of DATA_FS with that of OTHER.`,
    })),
    otherBlobDir: optional(option("--other-blob-dir", file("DIR"), {
      description: message`The blob directory of OTHER, where that is a file; a running node knows its own.`,
    })),
    maxFindings: optional(option("--max-findings", wholeNumber(), {
      description:
        message`Show the first N findings, and only count the others; 1000 unless told otherwise. With OTHER, stop after N; 20 unless told otherwise.`,
    })),
    bytes: toggle("--bytes", message`With OTHER, a file: every byte must be the same.`),
    digest: toggle(
      "--digest",
      message`Only print a digest of the history, short enough to be read to another site.`,
    ),
    since: optional(option("--since", tid(), {
      description: message`With OTHER or --digest: only this transaction and later ones.`,
    })),
    to: optional(option("--to", tid(), {
      description: message`With --digest: up to this transaction, which must be there.`,
    })),
    json: toggle("--json", message`Write one JSON object per finding, a line each, and a summary.`),
    ...askingOptions("running node"),
  }),
  {
    brief: message`Check a database for damage, or compare two.`,
    description:
      message`Checks every transaction and record of DATA_FS and the index file beside it, goes on behind damage, and says what is lost. Reads only, takes no lock, and can stand beside whoever writes the database. Exits with 1 when something was found. Without --pickles the data itself is not looked at: the file has no checksums. With OTHER, DATA_FS is not checked but compared: what replication and packs explain is no finding.`,
    footer: message`Example:${lineBreak()}  ${
      commandLine("zrs verify /srv/zope/var/Data.fs --pickles --refs")
    }${lineBreak()}  ${commandLine("zrs verify /srv/replica/Data.fs zrs://db1.example.com:5000")}`,
    usageLine: [{
      type: "sequence",
      terms: [
        { type: "argument", metavar: "DATA_FS" },
        { type: "optional", terms: [{ type: "argument", metavar: "OTHER" }] },
        { type: "multiple", min: 0, terms: [{ type: "argument", metavar: "OPTION" }] },
      ],
    }],
  },
);

/** Writes the findings and a summary. @throws ZrsError where the file cannot be verified */
export async function runVerify(options: VerifyCommand, host: Host): Promise<ExitCode> {
  checkTogether(options);
  if (options.digest) {
    await verifyDigest(options, host);
    return EXIT.ok;
  }
  if (options.other !== undefined) {
    const { other, maxFindings: limit } = options;
    const { differences } = await verifyOther({ ...options, other, limit }, host);
    return differences === 0 ? EXIT.ok : EXIT.checkFailed;
  }
  const { dataFs, pickles, refs, blobDir, maxFindings = DEFAULT_MAX_FINDINGS } = options;
  using verification = Verification.open(host.disk, dataFs);
  const lines = new FindingLines(host, { ...options, maxFindings });
  using progress = new ProgressLine(host, DOING, ["blobs"]);
  const letOthersRun = pauser(host.clock);
  let isDamaged = false;
  let isDone = false;
  try {
    const findings = verification.findings({
      pickles,
      references: refs,
      blobDir,
      pause: async () => {
        progress.show(verification.progress);
        lines.flush();
        await letOthersRun();
      },
      wait: commitWait(host),
    });
    for await (const finding of findings) {
      progress.hide();
      lines.add(finding);
      isDamaged ||= gravityOf(finding) !== "note";
    }
    isDone = true;
    progress.hide();
    lines.summarize(dataFs, verification.verified);
    tellWaiting(host, dataFs, verification.verified.end, "they have not been verified");
  } catch (error) {
    // Whoever reads the findings has seen enough, as in `| head`; that there were some is told, and never that there
    // are none where not all has been looked at.
    if (!(error instanceof UnavailableError && (isDamaged || isDone))) throw error;
  } finally {
    progress.hide();
    lines.flush();
  }
  return isDamaged ? EXIT.checkFailed : EXIT.ok;
}

/** @throws UsageError for options that are of no use together */
function checkTogether(options: VerifyCommand): void {
  const { other, digest, bytes, since, to, pickles, refs, blobDir, otherBlobDir, maxFindings } = options;
  const { authFile, tlsCert, tlsKey, tlsCa, tlsName } = options;
  const given = (values: readonly unknown[]) => values.some((each) => each !== undefined && each !== false);
  const refuse = (what: string, why: string) => {
    throw new UsageError(`Cannot use ${what} ${why}`);
  };
  if (digest && given([other, maxFindings])) refuse("--digest", "with OTHER or --max-findings");
  if ((digest || other !== undefined) && given([pickles, refs])) {
    refuse("--pickles or --refs", "with OTHER or --digest: nothing is checked then");
  }
  if (digest && given([blobDir])) refuse("--blob-dir", "with --digest: blobs have none");
  const isFile = other !== undefined && !isSourceUrl(other);
  if (otherBlobDir !== undefined && !(isFile && blobDir !== undefined)) {
    refuse("--other-blob-dir", "but with --blob-dir and OTHER, a file");
  }
  if (isFile && blobDir !== undefined && otherBlobDir === undefined) {
    refuse("--blob-dir", "with OTHER, a file, without --other-blob-dir, its blob directory");
  }
  if (bytes && other === undefined) refuse("--bytes", "without OTHER");
  if (since !== undefined && !digest && other === undefined) refuse("--since", "without OTHER or --digest");
  if (to !== undefined && !digest) refuse("--to", "without --digest");
  const isNode = other !== undefined && isSourceUrl(other);
  if (!isNode && given([authFile, tlsCert, tlsKey, tlsCa, tlsName])) {
    refuse("--auth-file or --tls-…", "without a running node: there is no connection");
  }
}
