/**
 * Shows what happens: events as lines, and how far each node has come, on a terminal as a table that stays below
 * the events, elsewhere as a line now and then.
 */
import { describeTid } from "../../lib/zodb/mod.ts";
import { formatBytes, formatCount } from "./format.ts";

/** How far a node has come. */
export interface Row {
  readonly name: string;
  /** What its process does. */
  readonly state: string;
  readonly lastTid: bigint;
  readonly transactions: number;
  readonly bytes: number;
  /** Transactions that the source has and this node has not yet; undefined for the source. */
  readonly behind?: number;
}

/** A line where there is no terminal comes no more often. */
const LINE_EVERY_MS = 1000;
/** A table is drawn no more often. */
const TABLE_EVERY_MS = 100;

const ESC = "\x1b[";
const WIDTHS = { name: 11, state: 22, transactions: 9, bytes: 10, behind: 8 } as const;

export class Screen {
  readonly #write: (text: string) => void;
  /** The terminal's width in characters; undefined where there is none. */
  readonly #columns: number | undefined;
  readonly #now: () => number;
  readonly #start: number;
  #drawnAt = -Infinity;
  /** Lines of the table that stands on the terminal. */
  #height = 0;

  /** @param now milliseconds since some moment */
  constructor(
    write: (text: string) => void,
    columns: number | undefined,
    now: () => number = () => performance.now(),
  ) {
    this.#write = write;
    this.#columns = columns;
    this.#now = now;
    this.#start = now();
  }

  /** Something happened. */
  event(text: string): void {
    this.#clear();
    this.#write(`${this.#clock()}  ${text}\n`);
    this.#drawnAt = -Infinity;
  }

  /** A line that is no event. */
  line(text: string): void {
    this.#clear();
    this.#write(`${text}\n`);
  }

  /** How it stands; shown when the last time was long enough ago. */
  progress(rows: readonly Row[]): void {
    const now = this.#now();
    if (now - this.#drawnAt < (this.#columns === undefined ? LINE_EVERY_MS : TABLE_EVERY_MS)) return;
    this.#drawnAt = now;
    if (this.#columns === undefined) this.#write(`${this.#clock()}  ${rows.map(describe).join("; ")}\n`);
    else this.#draw(rows, this.#columns);
  }

  #draw(rows: readonly Row[], columns: number): void {
    const head = cells("", "", "commits", "size", "behind", "last transaction");
    const lines = [
      "",
      head,
      ...rows.map((row) => {
        const behind = row.behind === undefined ? "" : formatCount(row.behind);
        return cells(
          row.name,
          row.state,
          formatCount(row.transactions),
          formatBytes(row.bytes),
          behind,
          describeTid(row.lastTid),
        );
      }),
    ];
    this.#clear();
    // A line that the terminal wraps would take two, and the next table would stand below the rest of this one.
    this.#write(lines.map((line) => `${line.slice(0, columns - 1)}\n`).join(""));
    this.#height = lines.length;
  }

  #clear(): void {
    if (this.#height > 0) this.#write(`${ESC}${this.#height}A${ESC}J`);
    this.#height = 0;
  }

  #clock(): string {
    return `${((this.#now() - this.#start) / 1000).toFixed(1).padStart(5)} s`;
  }
}

function cells(
  name: string,
  state: string,
  transactions: string,
  bytes: string,
  behind: string,
  last: string,
): string {
  return `  ${name.padEnd(WIDTHS.name)}${state.padEnd(WIDTHS.state)}${
    transactions.padStart(WIDTHS.transactions)
  }` +
    `${bytes.padStart(WIDTHS.bytes)}${behind.padStart(WIDTHS.behind)}   ${last}`;
}

function describe({ name, state, transactions, bytes, behind }: Row): string {
  const size = `${formatCount(transactions)} commits, ${formatBytes(bytes)}`;
  return behind === undefined ? `${name} ${size}` : `${name} (${state}) ${formatCount(behind)} behind`;
}
