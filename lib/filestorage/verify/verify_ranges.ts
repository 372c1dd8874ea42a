/** The file in pieces of whole, sound transactions: what is handed out for looking into the records. */

/** From a transaction's beginning to another one's end. */
export interface FileRange {
  readonly start: number;
  readonly end: number;
}

/** A piece has at least so many bytes, unless damage or the file's end comes before. */
const RANGE_BYTES = 8 * 1024 * 1024;

export class RangeList {
  readonly all: FileRange[] = [];

  /** Adds a transaction; they come in ascending order. */
  add(start: number, end: number): void {
    const last = this.all.at(-1) as { start: number; end: number } | undefined;
    if (last !== undefined && last.end === start && start - last.start < RANGE_BYTES) last.end = end;
    else this.all.push({ start, end });
  }
}
