/** Comparing a database with what it should be a copy of, another file or a running node, for `zrs verify`. */

import { UsageError } from "../../errors.ts";
import {
  type AskBlobs,
  BlobComparison,
  BlobDirectory,
  type BlobFacts,
  type Comparison,
  describeDifference,
  type Difference,
  digestBlob,
  FileComparison,
  type FoundBlob,
  type History,
  type Names,
  readMissingBlobs,
  type RecordSpot,
} from "../../filestorage/mod.ts";
import type { Host } from "../../host/mod.ts";
import type { Address } from "../../ports/mod.ts";
import {
  ComparedSource,
  NotNativeError,
  pauser,
  SourceComparison,
  StreamComparison,
} from "../../replica/mod.ts";
import { describeTid, formatOidDigits, formatTid, formatTidTime, NO_TID } from "../../zodb/mod.ts";
import { AuthFile } from "../auth_file.ts";
import { escapeControls, textOf } from "../listing.ts";
import { openHistory } from "../open_history.ts";
import type { TlsOptions } from "../options.ts";
import { ProgressLine } from "../progress_line.ts";
import { networkFor } from "../secure_network.ts";
import { isSourceUrl, parseSourceUrl } from "../sync/source_url.ts";
import { parseSshTarget } from "../sync/ssh_source.ts";
import { readSourceName } from "../sync/sync_source_option.ts";
import { SOFTWARE } from "../version.ts";

export interface VerifyOtherOptions extends TlsOptions {
  /** The copy. */
  readonly dataFs: string;
  /** What it should be a copy of: a path, or a URL of a running node. */
  readonly other: string;
  /** The blob directory of the copy: blobs are compared, too. */
  readonly blobDir?: string | undefined;
  /** That of the other, where that is a file. */
  readonly otherBlobDir?: string | undefined;
  /** Byte by byte; files only. */
  readonly bytes?: boolean | undefined;
  /** Only transactions with this tid or a later one. */
  readonly since?: bigint | undefined;
  /** JSON lines in place of words. */
  readonly json?: boolean | undefined;
  /** Comparing ends after so many differences; default 20. */
  readonly limit?: number | undefined;
  /** Holds the secret of all nodes. */
  readonly authFile?: string | undefined;
}

/** What came of it. */
export interface VerifiedOther extends Comparison {
  /** Undefined where blobs were not compared. */
  readonly blobs?: BlobFacts | undefined;
  /** How many differences were found, `limit` at most. */
  readonly differences: number;
  /** Whether all was compared: neither the limit nor damage ended it. */
  readonly isComplete: boolean;
}

const DEFAULT_LIMIT = 20;

/**
 * Compares, and writes each difference and then a summary to standard output.
 * @throws UsageError (also the files of TLS and the secret), NotFoundError, UnavailableError and ProtocolError about a
 * running node, CorruptError where the copy cannot be read while it is compared with one, DiskError
 */
export async function verifyOther(options: VerifyOtherOptions, host: Host): Promise<VerifiedOther> {
  refuseNode(options.dataFs, host);
  refuseFar(options.other, host);
  using copy = await openHistory(host, options.dataFs);
  using line = new ProgressLine(host, { comparison: "comparing" });
  return isSourceUrl(options.other)
    ? await verifyWithNode(options, copy, host, line)
    : await verifyWithFile(options, copy, host, line);
}

/** @throws UsageError about a node in place of the copy */
function refuseNode(dataFs: string, { disk }: Host): void {
  if (!isSourceUrl(dataFs) || disk.status(dataFs) !== undefined) return;
  throw new UsageError(`Cannot compare ${dataFs}: the first must be a file of this machine`, {
    hint: "Name the copy first, and then what it should be a copy of",
  });
}

/** @throws UsageError about a file of another machine, as replica-sync takes it */
function refuseFar(other: string, { disk }: Host): void {
  if (readSourceName(other).kind !== "ssh" || disk.status(other) !== undefined) return;
  parseSshTarget(other); // says it better where it is not even that
  throw new UsageError(`Cannot compare with ${other}: there is no such file on this machine`, {
    hint: "Copy it here and compare then, or run zrs primary there and name it as zrs://HOST:PORT",
  });
}

async function verifyWithFile(
  options: VerifyOtherOptions,
  copy: History,
  host: Host,
  line: ProgressLine<"comparison">,
): Promise<VerifiedOther> {
  const { since, bytes } = options;
  if (bytes && since !== undefined) {
    throw new UsageError("Cannot use both --bytes and --since: byte by byte is from the beginning on");
  }
  using other = await openHistory(host, options.other);
  if (other.file.identity() === copy.file.identity()) {
    throw new UsageError(`Cannot compare ${options.dataFs} with ${options.other}: they are the same file`);
  }
  const progress = progressOf(copy, line);
  const comparison = new FileComparison(copy, other, { since, bytes, progress, pause: pauser(host.clock) });
  const { otherBlobDir } = options;
  if (otherBlobDir === undefined) return await report(options, host, comparison, other, line);
  const directory = BlobDirectory.open(host.disk, otherBlobDir);
  const ask: AskBlobs = async (keys) => {
    const found: FoundBlob[] = [];
    for (const key of keys) found.push(await digestBlob(directory, key, pauser(host.clock)));
    return found;
  };
  return await report(options, host, comparison, other, line, blobsOf(options, copy, host, line, ask));
}

/** @throws UsageError, NotFoundError about the directory */
function blobsOf(
  { dataFs, blobDir, since }: VerifyOtherOptions,
  copy: History,
  host: Host,
  line: ProgressLine<"comparison">,
  ask: AskBlobs,
): BlobComparison | undefined {
  if (blobDir === undefined) return undefined;
  return new BlobComparison(copy, BlobDirectory.open(host.disk, blobDir), ask, {
    since,
    marked: readMissingBlobs(host.disk, dataFs),
    pause: pauser(host.clock),
    progress: progressOf(copy, line),
  });
}

async function verifyWithNode(
  options: VerifyOtherOptions,
  copy: History,
  host: Host,
  line: ProgressLine<"comparison">,
): Promise<VerifiedOther> {
  const { other, since, authFile } = options;
  const address = parseSourceUrl(other);
  if (options.bytes) {
    throw new UsageError(`Cannot compare with ${other} byte by byte: a node tells contents, not bytes`, {
      hint: "Leave --bytes out, or name a file",
    });
  }
  const { disk, clock, random } = host;
  const secret = authFile === undefined ? undefined : AuthFile.open(disk, authFile);
  const network = await networkFor(options, host);
  const settings = { software: SOFTWARE, secret };
  const how = { since, progress: progressOf(copy, line), pause: pauser(host.clock) };
  const source = await connectOrNot({ network, clock, random }, address, settings);
  if (options.blobDir !== undefined && source?.hasBlobs !== true) {
    await source?.[Symbol.asyncDispose]();
    throw new UsageError(`Cannot compare blobs with ${other}: it does not tell of them`, {
      hint: "start it with --blob-dir, as a zrs of this version, or leave --blob-dir out here",
    });
  }
  if (source === undefined) {
    const note = `${other} does not answer in zrs's native stream: receiving all that it has, by zrs2`;
    if (host.isTerminal("err")) host.err(`${note}\n`);
    using stream = await StreamComparison.connect({ network, clock }, address, copy, how);
    return await report(options, host, stream, undefined, line);
  }
  await using compared = source;
  const comparison = new SourceComparison(copy, compared.end, compared.ask.bind(compared), how);
  const blobs = blobsOf(options, copy, host, line, compared.blobs.bind(compared));
  return await report(options, host, comparison, undefined, line, blobs);
}

/** @returns undefined where it most likely is zc.zrs: a node with a secret must be one of ours */
async function connectOrNot(
  ports: Parameters<typeof ComparedSource.connect>[0],
  address: Address,
  settings: Parameters<typeof ComparedSource.connect>[2],
): Promise<ComparedSource | undefined> {
  try {
    return await ComparedSource.connect(ports, address, settings);
  } catch (error) {
    if (error instanceof NotNativeError && settings.secret === undefined) return undefined;
    throw error;
  }
}

function progressOf({ end }: History, line: ProgressLine<"comparison">): (position: number) => void {
  return (position) => line.show({ doing: "comparison", done: position, total: end });
}

interface AnyComparison {
  readonly result: Comparison;
  differences(): AsyncGenerator<Difference>;
}

async function report(
  options: VerifyOtherOptions,
  host: Host,
  comparison: AnyComparison,
  other: History | undefined,
  line: ProgressLine<"comparison">,
  blobs?: BlobComparison,
): Promise<VerifiedOther> {
  const { json, limit = DEFAULT_LIMIT } = options;
  const names: Names = { here: options.dataFs, there: options.other };
  let differences = 0;
  let isComplete = true;
  const tell = (difference: Difference) => {
    differences++;
    line.hide();
    host.out(`${json ? JSON.stringify(factsOf(difference)) : lineOf(difference, names)}\n`);
  };
  const all = async function* () {
    yield* comparison.differences();
    if (blobs !== undefined && isComplete) yield* blobs.differences();
  };
  for await (const difference of all()) {
    if (differences === limit) {
      isComplete = false;
      break;
    }
    // What looks ahead of a damaged file may well be behind its damage.
    const isHidden = difference.kind === "ahead" && other?.damage !== undefined;
    if (!isHidden) tell(difference);
    if (difference.kind === "damaged" && difference.final) isComplete = false;
  }
  if (other?.damage !== undefined) {
    tell(damageOf(other));
    isComplete = false;
  }
  line.hide();
  const found = { ...comparison.result, differences, isComplete };
  const result = blobs === undefined ? found : { ...found, blobs: blobs.facts };
  if (json) host.out(`${JSON.stringify(summaryFacts(result))}\n`);
  else for (const line of summaryLines(result, names)) host.out(`${line}\n`);
  return result;
}

function damageOf({ damage, end }: History): Difference {
  return {
    tid: damage!.facts.tid ?? NO_TID,
    user: new Uint8Array(),
    description: new Uint8Array(),
    here: undefined,
    there: end,
    kind: "damaged",
    side: "there",
    problem: damage!.message,
    final: true,
  };
}

function lineOf(difference: Difference, names: Names): string {
  const words = [difference.user, difference.description].map(textOf).filter((text) => text !== "");
  const whose = words.length === 0 ? "" : ` [${words.join(": ").slice(0, 80)}]`;
  return escapeControls(`DIFFERENT ${describeDifference(difference, names)}${whose}`);
}

/** What a program is told of a difference. */
function factsOf(difference: Difference): Record<string, unknown> {
  const { tid, here, there, user, description, kind } = difference;
  const common = {
    difference: kind,
    tid: formatTid(tid),
    time: formatTidTime(tid),
    user: textOf(user),
    description: textOf(description),
    positionHere: here,
    positionThere: there,
  };
  switch (difference.kind) {
    case "ahead": {
      const { lastTid, lastTidThere } = difference;
      return { ...common, lastTid: formatTid(lastTid), lastTidThere: formatTid(lastTidThere) };
    }
    case "metadata":
      return { ...common, fields: difference.fields };
    case "bytes": {
      const { position, byteHere, byteThere } = difference;
      return { ...common, position, byteHere, byteThere };
    }
    case "damaged": {
      const { side, problem, final } = difference;
      return { ...common, side, problem, final };
    }
    case "blob": {
      const { oid, blobHere, blobThere, marked } = difference;
      return { ...common, oid: formatOidDigits(oid), blobHere, blobThere, marked };
    }
    case "record": {
      const { oidHere, oidThere, recordHere, recordThere } = difference;
      return {
        ...common,
        oidHere: oidHere === undefined ? undefined : formatOidDigits(oidHere),
        oidThere: oidThere === undefined ? undefined : formatOidDigits(oidThere),
        recordHere: spotFacts(recordHere),
        recordThere: spotFacts(recordThere),
      };
    }
    case "data": {
      const { oid, recordHere, recordThere, offset } = difference;
      return {
        ...common,
        oid: formatOidDigits(oid),
        recordHere: spotFacts(recordHere),
        recordThere: spotFacts(recordThere),
        offset,
      };
    }
    case "record-tid": {
      const { oid, recordHere, recordThere, recordTidHere, recordTidThere } = difference;
      return {
        ...common,
        oid: formatOidDigits(oid),
        recordHere: spotFacts(recordHere),
        recordThere: spotFacts(recordThere),
        recordTidHere: formatTid(recordTidHere),
        recordTidThere: formatTid(recordTidThere),
      };
    }
    default:
      return common;
  }
}

function spotFacts(spot: RecordSpot | undefined): Record<string, unknown> | undefined {
  return spot && { position: spot.position, length: spot.length ?? null };
}

function summaryFacts({ lastSame, ...facts }: VerifiedOther): Record<string, unknown> {
  return { ...facts, lastSame: lastSame === NO_TID ? null : formatTid(lastSame) };
}

function summaryLines(result: VerifiedOther, { here, there }: Names): string[] {
  const { same, lastSame, packedHere, packedThere, rewritten, hasNewer, differences, isComplete } = result;
  const lines: string[] = [];
  const until = lastSame === NO_TID ? "" : `, the last of them ${describeTid(lastSame)}`;
  lines.push(`${countOf(same, "transaction")} the same in ${here} and ${there}${until}`);
  if (packedThere > 0) {
    lines.push(`${countOf(packedThere, "transaction")} only in ${here}: packed away in ${there}`);
  }
  if (packedHere > 0) {
    lines.push(`${countOf(packedHere, "transaction")} only in ${there}: packed away in ${here}`);
  }
  if (rewritten > 0) {
    lines.push(`${countOf(rewritten, "transaction")} with an extension that says the same in other bytes`);
  }
  if (hasNewer) lines.push(`${there} has newer transactions, which ${here} does not have yet`);
  if (result.blobs !== undefined) {
    const { same, onlyHere, neither } = result.blobs;
    lines.push(`${countOf(same, "blob")} the same`);
    if (onlyHere > 0) {
      lines.push(`${countOf(onlyHere, "blob")} only in ${here}: packed away in ${there}, or missing there`);
    }
    if (neither > 0) lines.push(`${countOf(neither, "blob")} without a file that can be read at either end`);
  }
  const more = isComplete ? "" : "; not all was compared";
  lines.push(differences === 0 ? `No differences${more}` : `${countOf(differences, "difference")}${more}`);
  return lines;
}

function countOf(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}
