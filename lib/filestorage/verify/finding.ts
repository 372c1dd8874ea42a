/**
 * What verifying a database can find: facts for programs, and one sentence each for people.
 *
 * Positions and lengths are in bytes. `position` is where the damage is, in the data file; a finding about an
 * object as a whole has its oid instead.
 */
import { describeTid, formatOid } from "../../zodb/mod.ts";

/** Where in the file, and in which transaction. */
interface Place {
  readonly position: number;
  readonly tid: bigint;
}

/** A data record. */
interface RecordPlace extends Place {
  readonly oid: bigint;
}

/** The chain of transactions, and their headers. */
export type TransactionFinding =
  /** A writer died, or is at work: what is there does not count, and whoever opens the file cuts it off. */
  | {
    readonly kind: "torn-tail";
    readonly position: number;
    readonly tid: bigint | undefined;
    readonly bytes: number;
    readonly why: "short" | "voted" | "beyond" | "garbage" | "rewound";
  }
  /** Status 'c', and whole transactions behind it, which do not count therefore. */
  | Place & { readonly kind: "unfinished"; readonly bytes: number }
  | Place & { readonly kind: "bad-status"; readonly found: number }
  /** The length stands at both ends of a transaction; `right` is the one that leads from end to end. */
  | Place & {
    readonly kind: "length-mismatch";
    readonly header: number;
    /** Undefined where there is none, behind the end of the file. */
    readonly trailer: number | undefined;
    readonly right: "header" | "trailer" | "neither";
  }
  /** Header with user, description and extension; `expected` is undefined where only the transaction's end is known. */
  | Place & {
    readonly kind: "metadata-length";
    readonly expected: number | undefined;
    readonly found: number;
  }
  | Place & { readonly kind: "tid-order"; readonly before: bigint }
  /** Nothing can be made of the bytes from `position` to `end`. */
  | {
    readonly kind: "lost";
    readonly position: number;
    readonly end: number;
    /** The last transaction before, 0 for none. */
    readonly before: bigint;
    /** The first transaction behind; undefined at the end of the file. */
    readonly behind: bigint | undefined;
  };

/** Data records within their transaction, and their links. */
export type RecordFinding =
  /** So many of a transaction's records, the first of them at `position`, name `found` as its tid. */
  | RecordPlace & {
    readonly kind: "tid-mismatch";
    readonly found: bigint;
    readonly records: number;
    readonly of: number;
  }
  | RecordPlace & {
    readonly kind: "wrong-transaction";
    readonly expected: number;
    readonly found: number;
  }
  /** `expected` is undefined where only the end of the transaction contradicts. */
  | RecordPlace & {
    readonly kind: "record-length";
    readonly expected: number | undefined;
    readonly found: number;
  }
  /** Within a transaction: nothing can be made of the bytes from `position` to `end`. */
  | Place & { readonly kind: "lost-records"; readonly end: number }
  /** A feature of ZODB before 3.9, which today's cannot read. */
  | RecordPlace & { readonly kind: "version" }
  | RecordPlace & {
    readonly kind: "previous";
    /** Where the object's last record before this is; 0 for none. */
    readonly expected: number;
    readonly found: number;
  }
  | RecordPlace & { readonly kind: "back-pointer"; readonly found: number; readonly why: string };

/** Data.fs.index against the data. */
export type IndexFinding =
  | { readonly kind: "index-unreadable"; readonly why: string }
  /** It covers the file up to a position that is no transaction's end. */
  | { readonly kind: "index-position"; readonly found: number; readonly end: number }
  /** Positions of an object's current record; 0 where it has none. */
  | { readonly kind: "index-entry"; readonly oid: bigint; readonly expected: number; readonly found: number }
  /** So many entries more are wrong. */
  | { readonly kind: "index-further"; readonly entries: number };

/** What is in the records: pickles, references, blobs. */
export type ContentFinding =
  | RecordPlace & { readonly kind: "pickle"; readonly offset: number; readonly why: string }
  | RecordPlace & {
    readonly kind: "reference";
    readonly target: bigint;
    readonly why: "missing" | "undone" | "unreadable";
  }
  /** The object is there and cannot be reached from the root. That is no damage: a pack removes it. */
  | RecordPlace & { readonly kind: "unreachable" }
  /** `marked`: its source had none either, as the list of missing blobs says. */
  | RecordPlace & { readonly kind: "blob-missing"; readonly path: string; readonly marked?: true }
  /** So many are on the list of missing blobs, and there was no directory to look into. */
  | { readonly kind: "blobs-marked"; readonly blobs: number; readonly path: string }
  | RecordPlace & { readonly kind: "blob-mode"; readonly path: string; readonly mode: number }
  | RecordPlace & { readonly kind: "blob-not-a-file"; readonly path: string; readonly found: string }
  | {
    readonly kind: "blob-extra";
    readonly path: string;
    readonly oid: bigint | undefined;
    readonly tid: bigint | undefined;
  };

export type Finding = TransactionFinding | RecordFinding | IndexFinding | ContentFinding;

/**
 * How much a finding matters: `damage` is wrong, `torn` is what a crash leaves and the next open mends, and a
 * `note` is nothing to be done about.
 */
export function gravityOf(finding: Finding): "damage" | "torn" | "note" {
  if (finding.kind === "torn-tail") return "torn";
  return finding.kind === "unreachable" ? "note" : "damage";
}

/** The finding in one sentence: what was expected and what is there, without where that is. */
export function describe(finding: Finding): string {
  switch (finding.kind) {
    case "torn-tail":
      return `torn tail: ${TORN[finding.why]}; the last ${countOf(finding.bytes, "byte")} ${
        finding.bytes === 1 ? "does" : "do"
      } not count, and ${finding.bytes === 1 ? "is" : "are"} cut off when the file is opened for writing`;
    case "unfinished":
      return `its status says that it was never finished, but ${
        countOf(finding.bytes, "byte")
      } of transactions follow, which do not count therefore`;
    case "bad-status":
      return `its status must be ' ', 'p' or 'u', found byte 0x${hex(finding.found)}`;
    case "length-mismatch":
      return describeLengths(finding);
    case "metadata-length":
      return `its header with user, description and extension must ${
        finding.expected === undefined ? "end within it" : `have ${finding.expected} bytes`
      }, found ${finding.found}`;
    case "tid-order":
      return `its tid must be later than the one before, ${describeTid(finding.before)}`;
    case "lost":
      return `${countOf(finding.end - finding.position, "byte")} lost: no whole transaction from here to ${
        finding.behind === undefined
          ? `the end of the file at ${finding.end}`
          : `${finding.end}, where ${describeTid(finding.behind)} begins`
      }; the last one before is ${describeTid(finding.before)}`;
    case "tid-mismatch":
      return finding.records === finding.of
        ? `its ${countOf(finding.records, "record")} must have its tid, found ${describeTid(finding.found)}`
        : `${finding.records} of its ${countOf(finding.of, "record")}, first that of object ${
          formatOid(finding.oid)
        }, must have its tid, found ${describeTid(finding.found)}`;
    case "wrong-transaction":
      return `the record of object ${
        formatOid(finding.oid)
      } must name ${finding.expected} as its transaction's position, found ${finding.found}`;
    case "record-length":
      return `the data of object ${formatOid(finding.oid)} must ${
        finding.expected === undefined ? "end within the transaction" : `have ${finding.expected} bytes`
      }, found a length of ${finding.found}`;
    case "lost-records":
      return `${
        countOf(finding.end - finding.position, "byte")
      } lost within the transaction: no record from here to ${finding.end}`;
    case "version":
      return `the record of object ${
        formatOid(finding.oid)
      } belongs to a version, a feature of ZODB before 3.9 that today's cannot read`;
    case "previous":
      return `the record of object ${formatOid(finding.oid)} must name ${
        finding.expected === 0 ? "no previous record" : `the record at ${finding.expected} as its previous`
      }, found ${finding.found}`;
    case "back-pointer":
      return `the back pointer of object ${
        formatOid(finding.oid)
      } must lead to an earlier record of it, and leads to ${finding.found}: ${finding.why}`;
    case "index-unreadable":
      return `the index file cannot be used: ${finding.why}`;
    case "index-position":
      return `the index file must end with a transaction, and ends at ${finding.found}; the file's last ends at ${finding.end}`;
    case "index-entry":
      return `the index file must have object ${formatOid(finding.oid)} ${
        finding.expected === 0 ? "nowhere" : `at ${finding.expected}`
      }, found ${finding.found === 0 ? "nothing" : finding.found}`;
    case "index-further":
      return `${countOf(finding.entries, "further entry", "further entries")} of the index file ${
        finding.entries === 1 ? "is" : "are"
      } wrong`;
    case "pickle":
      return `the data of object ${
        formatOid(finding.oid)
      } must be two pickles; at byte ${finding.offset} of it: ${finding.why}`;
    case "reference":
      return `object ${formatOid(finding.oid)} refers to object ${formatOid(finding.target)}, ${
        REFERENCE[finding.why]
      }`;
    case "unreachable":
      return `object ${formatOid(finding.oid)} cannot be reached from the root`;
    case "blob-missing":
      return `the blob of object ${formatOid(finding.oid)} must be at ${finding.path}, and nothing is there${
        finding.marked ? "; the source had no file for it either (--missing-blobs mark)" : ""
      }`;
    case "blobs-marked":
      return `${countOf(finding.blobs, "blob")} ${
        finding.blobs === 1 ? "is" : "are"
      } missing for which the source had no file, as ${finding.path} lists; --blob-dir tells whether they still are`;
    case "blob-mode":
      return `the blob at ${finding.path} must be readable and not writable, found mode ${
        finding.mode.toString(8).padStart(4, "0")
      }`;
    case "blob-not-a-file":
      return `the blob at ${finding.path} must be a file, and is a ${finding.found}`;
    case "blob-extra":
      return `no record of a blob belongs to ${finding.path}`;
  }
}

const TORN = {
  short: "fewer bytes than a header has",
  voted: "a transaction that was not finished",
  beyond: "a transaction that would end behind the end of the file",
  garbage: "what a crash leaves in place of a transaction",
  rewound: "transactions that were being taken back, and have been saved",
} as const;

const REFERENCE = {
  missing: "which does not exist",
  undone: "which was deleted, or its creation undone",
  unreadable: "which cannot be read",
} as const;

function describeLengths(finding: Extract<Finding, { kind: "length-mismatch" }>): string {
  const { header, trailer, right } = finding;
  const end = trailer === undefined ? "its trailer would be behind the end of the file" : `found ${trailer}`;
  if (right === "header") return `its trailing length must be ${header}, ${end}`;
  if (right === "trailer") {
    return `its length must be ${trailer}, as its records and trailer say, found ${header}`;
  }
  return `its length must be repeated in its last 8 bytes: the header has ${header}, ${end}`;
}

function countOf(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}
