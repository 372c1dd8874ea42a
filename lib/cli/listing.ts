/** Transactions and their records as lines: for people in columns, for programs as JSON (docs/checking.md, "Looking into a database"). */

import { listRecords, type Readable, type RecordEntry, type TransactionEntry } from "../filestorage/mod.ts";
import type { Host } from "../host/mod.ts";
import { formatOidDigits, formatTid, formatTidTime, STATUS } from "../zodb/mod.ts";
import { OutputPieces } from "./output_pieces.ts";

export interface ListingOptions {
  /** Each transaction's records, too. */
  readonly records: boolean;
  readonly json: boolean;
}

const HEADING = "TID               TIME (UTC)                RECORDS       BYTES  USER: DESCRIPTION";

const STATUS_WORDS: ReadonlyMap<number, string> = new Map([
  [STATUS.committed, "committed"],
  [STATUS.packed, "packed"],
  [STATUS.undone, "cancelled"],
]);

/** Writes a list to standard output, piece by piece: a single transaction may have many records. */
export class Listing {
  readonly #output: OutputPieces;
  readonly #log: Readable;
  readonly #options: ListingOptions;
  /** The longest line, where a person looks at it on a terminal. */
  readonly #width: number;
  #begun = false;

  constructor(host: Host, log: Readable, options: ListingOptions) {
    this.#output = new OutputPieces(host);
    this.#log = log;
    this.#options = options;
    // A terminal that does not know its width says 0.
    this.#width = (host.isTerminal("out") ? host.columns() : undefined) || Infinity;
  }

  /** @throws CorruptError where its records cannot be read, UnavailableError when nobody reads the list any more */
  add(entry: TransactionEntry): void {
    if (this.#options.json) return this.#addJson(entry);
    if (!this.#begun) this.#line(HEADING);
    this.#begun = true;
    this.#line(lineOf(entry));
    if (!this.#options.records) return;
    for (const record of listRecords(this.#log, entry.position)) this.#line(`  ${recordLineOf(record)}`);
  }

  /** Hands on what is left. Also before a failure is told: what could be read comes first. */
  flush(): void {
    this.#output.flush();
  }

  #addJson(entry: TransactionEntry): void {
    const facts = JSON.stringify(factsOf(entry));
    if (!this.#options.records) return this.#output.add(`${facts}\n`);
    let separator = `${facts.slice(0, -1)},"objects":[`;
    for (const record of listRecords(this.#log, entry.position)) {
      this.#output.add(`${separator}${JSON.stringify(recordFactsOf(record))}`);
      separator = ",";
    }
    this.#output.add(separator === "," ? "]}\n" : `${separator}]}\n`);
  }

  #line(text: string): void {
    this.#output.add(`${shortened(text, this.#width)}\n`);
  }
}

/** What a program is told of a transaction. */
function factsOf({ tid, status, user, description, position, bytes, records, isUndo }: TransactionEntry) {
  return {
    tid: formatTid(tid),
    time: formatTidTime(tid),
    status: STATUS_WORDS.get(status),
    user: textOf(user),
    description: textOf(description),
    position,
    bytes,
    records,
    undo: isUndo,
  };
}

function recordFactsOf({ oid, length, dataTid, className }: RecordEntry) {
  return {
    oid: formatOidDigits(oid),
    class: className,
    length,
    ...(dataTid !== undefined && { dataTid: formatTid(dataTid) }),
    ...(length === undefined && { creationUndone: true }),
  };
}

/** One transaction, in columns. */
export function lineOf(
  { tid, status, user, description, bytes, records, isUndo }: TransactionEntry,
): string {
  const columns = [
    formatTid(tid),
    formatTidTime(tid).padEnd(24),
    String(records).padStart(7),
    String(bytes).padStart(11),
  ];
  const marks = status === STATUS.committed ? [] : [`[${STATUS_WORDS.get(status)}] `];
  if (isUndo) marks.push("[undo] ");
  const words = [user, description].map(textOf).filter((text) => text !== "").join(": ");
  return `${columns.join("  ")}  ${marks.join("")}${escapeControls(words)}`.trimEnd();
}

function recordLineOf({ oid, length, dataTid, className = "unknown class" }: RecordEntry): string {
  const id = formatOidDigits(oid);
  if (length === undefined) return `${id}  its creation was undone, or it was deleted`;
  const origin = dataTid === undefined ? "" : `  as in ${formatTid(dataTid)}`;
  return `${id}  ${escapeControls(className)}  ${length} ${length === 1 ? "byte" : "bytes"}${origin}`;
}

/** Metadata are bytes, UTF-8 by custom; what is none becomes replacement characters. */
export function textOf(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

/** Texts of others must neither start a line nor talk to the terminal, nor turn what stands beside them round. */
export function escapeControls(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, (character) => {
    const code = character.charCodeAt(0);
    if (character === "\n") return "\\n";
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`;
  });
}

function shortened(text: string, width: number): string {
  if (text.length <= width) return text;
  const characters = [...text];
  return characters.length <= width ? text : `${characters.slice(0, width - 1).join("")}…`;
}
