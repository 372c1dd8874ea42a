/**
 * Counts what `deno test` reports on its way, so that there is a count also when it is killed half way.
 * The summary line at its end, where there is one, is what counts.
 */

/** How many tests (steps of tests do not count) ended how. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

// Built from text, for a literal with a control character in it looks like a mistake.
const COLORS = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, "g");
const SUMMARY =
  /^(?:ok|FAILED) \| (\d+) passed(?: \([^)]*\))? \| (\d+) failed(?: \([^)]*\))?(?: \| (\d+) ignored)?/;
const OUTCOME = /^\S.* \.\.\. (ok|FAILED|ignored) \(/;
const UNCAUGHT = /^Uncaught error from .* FAILED$/;

export class Tally {
  #seen = { passed: 0, failed: 0, skipped: 0 };
  #summary: Counts | undefined;

  /** A line that `deno test` printed, colors and all. */
  line(text: string): void {
    const plain = text.replace(COLORS, "").trimEnd();
    const summary = SUMMARY.exec(plain);
    if (summary !== null) {
      this.#summary = {
        passed: Number(summary[1]),
        failed: Number(summary[2]),
        skipped: Number(summary[3] ?? 0),
      };
      return;
    }
    const outcome = OUTCOME.exec(plain)?.[1];
    if (outcome === "ok") this.#seen.passed++;
    else if (outcome === "ignored") this.#seen.skipped++;
    else if (outcome === "FAILED" || UNCAUGHT.test(plain)) this.#seen.failed++;
  }

  /**
   * The counts at the end.
   * @param success whether `deno test` itself ended well; if not, at least one failure counts: a file that
   * does not compile, or a process killed in the middle, is in no count of its own
   */
  counts(success: boolean): Counts {
    const counts = this.#summary ?? this.#seen;
    const interrupted = this.#summary === undefined && !success;
    const failed = counts.failed + (interrupted ? 1 : 0);
    return { ...counts, failed: success ? failed : Math.max(failed, 1) };
  }
}

/** `3 passed, 0 failed, 1 skipped`. */
export function formatCounts(counts: Counts): string {
  return `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`;
}
