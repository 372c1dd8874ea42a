/** Findings as lines: for people, and for programs as JSON (docs/checking.md, "Checking a database"). */

import { describe, type Finding, gravityOf, type Verified } from "../../filestorage/mod.ts";
import type { Host } from "../../host/mod.ts";
import { describeTid, formatOidDigits, formatTid, formatTidTime } from "../../zodb/mod.ts";
import { OutputPieces } from "../output_pieces.ts";
import { formatBytes, oneLine } from "../quantities.ts";

export interface FindingLineOptions {
  readonly json: boolean;
  /** So many are shown, the others counted. */
  readonly maxFindings: number;
}

/** Writes findings to standard output, piece by piece, and counts them. */
export class FindingLines {
  readonly #output: OutputPieces;
  readonly #options: FindingLineOptions;
  #shown = 0;
  readonly #counts = { damage: 0, torn: 0, note: 0 };

  constructor(host: Host, options: FindingLineOptions) {
    this.#output = new OutputPieces(host);
    this.#options = options;
  }

  /** @throws UnavailableError when nobody reads any more */
  add(finding: Finding): void {
    const gravity = gravityOf(finding);
    this.#counts[gravity]++;
    // What is no damage is counted for people, and listed for programs.
    if (gravity === "note" && !this.#options.json) return;
    if (this.#shown === this.#options.maxFindings) return;
    this.#shown++;
    const line = this.#options.json ? JSON.stringify(factsOf(finding)) : oneLine(lineOf(finding));
    this.#output.add(`${line}\n`);
  }

  summarize(path: string, verified: Verified): void {
    const { damage, torn, note } = this.#counts;
    const { json } = this.#options;
    const hidden = damage + torn + (json ? note : 0) - this.#shown;
    const line = json
      ? JSON.stringify({
        ...summaryOf(path, verified),
        findings: damage + torn,
        damage,
        tornTail: torn > 0,
        hidden,
      })
      : oneLine(summaryLine(path, verified, damage, torn, hidden));
    this.#output.add(`${line}\n`);
    this.flush();
  }

  /** Hands on what is left. */
  flush(): void {
    this.#output.flush();
  }
}

/** `at POSITION, transaction TID (TIME): what is wrong`. */
function lineOf(finding: Finding): string {
  const where: string[] = [];
  if ("position" in finding) where.push(`at ${finding.position}`);
  if ("tid" in finding && finding.tid !== undefined) where.push(`transaction ${describeTid(finding.tid)}`);
  return where.length === 0 ? describe(finding) : `${where.join(", ")}: ${describe(finding)}`;
}

/** What a program is told: tids and oids in 16 digits, the sentence as `message`. */
function factsOf(finding: Finding): Record<string, unknown> {
  const facts: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(finding)) {
    if (value === undefined) continue;
    if (typeof value !== "bigint") facts[name] = value;
    else facts[name] = name === "oid" || name === "target" ? formatOidDigits(value) : formatTid(value);
    if (name === "tid") facts.time = formatTidTime(value);
  }
  return { ...facts, gravity: gravityOf(finding), message: describe(finding) };
}

function summaryOf(path: string, verified: Verified): Record<string, unknown> {
  const { transactions, records, objects, lastTid, end, unreachable, blobs, replaced } = verified;
  return {
    kind: "summary",
    path,
    transactions,
    records,
    objects,
    lastTid: formatTid(lastTid),
    lastTime: formatTidTime(lastTid),
    end,
    ...(unreachable !== undefined && { unreachable }),
    ...(blobs !== undefined && { blobs }),
    replaced,
  };
}

function summaryLine(path: string, verified: Verified, damage: number, torn: number, hidden: number): string {
  const { transactions, records, objects, lastTid, end, unreachable, blobs, replaced } = verified;
  const content = [
    countOf(transactions, "transaction"),
    countOf(records, "record"),
    countOf(objects, "object"),
    ...(blobs === undefined ? [] : [countOf(blobs, "blob")]),
    `${formatBytes(end)} up to ${describeTid(lastTid)}`,
  ].join(", ");
  const found = damage > 0
    ? `${countOf(damage + torn, "finding")}${hidden > 0 ? ` (${hidden} not shown)` : ""}`
    : torn > 0
    ? "no damage, but a torn tail"
    : "no findings";
  const garbage = unreachable === undefined || unreachable === 0
    ? ""
    : `; ${countOf(unreachable, "object")} cannot be reached from the root, which a pack removes`;
  const other = replaced
    ? "; the file has been replaced meanwhile, by a pack or a backup: this is the old one"
    : "";
  return `${path}: ${content}: ${found}${garbage}${other}`;
}

function countOf(count: number, what: string): string {
  return `${count} ${count === 1 ? what : `${what}s`}`;
}
