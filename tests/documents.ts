/**
 * The documents as data: their sections, links and byte vectors, and what comments in the source cite of them.
 *
 * A byte vector is a fenced block whose info string is `hex <subject>-vector <name>`; in it a `#` begins a
 * comment, and blanks mean nothing.
 */
import { bytesOf } from "./kit/hex.ts";
import { splitSource } from "./source_text.ts";

/** One line of a vector: its bytes, where they begin in the whole, and what stands behind the `#`. */
export interface VectorLine {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly comment: string;
}

export interface Vector {
  readonly bytes: Uint8Array;
  readonly lines: readonly VectorLine[];
}

/** Something that a text points at; `section` is a title, or in a link its anchor. */
export interface Reference {
  /** The file's name; empty for the text's own. */
  readonly document: string;
  readonly section: string | undefined;
}

const FENCED = /^```([^\n]*)\n(.*?)^```$/gms;

/** The titles of a document's sections, of every level. */
export function sectionsOf(markdown: string): Set<string> {
  const prose = markdown.replaceAll(FENCED, "");
  return new Set([...prose.matchAll(/^#+ +(.+?) *$/gm)].map(([, title]) => title!));
}

/** The name by which a link reaches a section. */
export function anchorOf(title: string): string {
  return title.toLowerCase().replaceAll(/[^\p{L}\p{N}_ -]/gu, "").replaceAll(" ", "-");
}

/** The byte vectors of a document, by subject and name, such as `zrs T-python2`. */
export function vectorsOf(markdown: string): Map<string, Vector> {
  const vectors = new Map<string, Vector>();
  for (const [, info, body] of markdown.matchAll(FENCED)) {
    const [, subject, name] = /^hex (\w+)-vector (\S+)$/.exec(info!) ?? [];
    if (subject === undefined) continue;
    const key = `${subject} ${name}`;
    if (vectors.has(key)) throw new Error(`There are two vectors ${key}`);
    vectors.set(key, parseVector(key, body!));
  }
  return vectors;
}

function parseVector(key: string, body: string): Vector {
  const lines: VectorLine[] = [];
  let offset = 0;
  for (const line of body.trimEnd().split("\n")) {
    const [digits = "", ...comment] = line.split("#");
    if (!/^([0-9a-f]{2}|\s)*$/.test(digits)) throw new Error(`Not hexadecimal, in vector ${key}: ${line}`);
    const bytes = bytesOf(digits);
    lines.push({ offset, bytes, comment: comment.join("#").trim() });
    offset += bytes.length;
  }
  return { bytes: bytesOf(lines.map(({ bytes }) => Array.from(bytes, twoDigits).join("")).join("")), lines };
}

function twoDigits(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}

/** The rows of all tables, without their headings, as cells without the marks of code and emphasis. */
export function tableRows(markdown: string): string[][] {
  const rows = markdown.split("\n").filter((line) => line.startsWith("|"));
  return rows.map((row) => row.split("|").slice(1, -1).map((cell) => cell.replaceAll(/[`*]/g, "").trim()));
}

/** Where the links of a document lead, those to other sites left out, and which sections it cites behind them. */
export function linksOf(markdown: string): Reference[] {
  const prose = markdown.replaceAll(FENCED, "").replaceAll(/\s+/g, " ");
  const references: Reference[] = [];
  for (const [, target, cited] of prose.matchAll(/\]\(([^)\s]+)\)(?:, "([^"]+)")?/g)) {
    if (/^[a-z]+:/.test(target!)) continue;
    const [document = "", anchor] = target!.split("#");
    references.push({ document, section: anchor });
    if (cited !== undefined) references.push({ document, section: anchorOf(cited) });
  }
  return references;
}

/** The documents that comments of TypeScript source cite, and the sections: titles in quotes behind the file's name. */
export function citationsIn(source: string): Reference[] {
  const citations: Reference[] = [];
  const pattern = /([\w-]+\.md)\b((?:,?(?: and| or)? "[^"]+")*)/g;
  for (const [, document, titles] of commentsOf(source).matchAll(pattern)) {
    citations.push({ document: document!, section: undefined });
    for (const [, section] of titles!.matchAll(/"([^"]+)"/g)) {
      citations.push({ document: document!, section });
    }
  }
  return citations;
}

/** The text of all comments, each on one line. */
function commentsOf(source: string): string {
  const { withoutComments } = splitSource(source);
  let text = "";
  for (let i = 0; i < source.length; i++) {
    const isCode = source[i] === withoutComments[i] && source[i] !== "\n";
    text += isCode ? " " : source[i];
  }
  return text.replaceAll(/\n\s*(?:\*(?!\/)|\/\/)\s*/g, " ").replaceAll(/[^\S\n]+/g, " ");
}
