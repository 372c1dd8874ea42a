/** What is wrong with a node, by the limits of whoever watches it. */
import { formatBytes, formatDuration } from "../quantities.ts";
import type { LagAnswer, StatusAnswer } from "./status_answer.ts";

export interface Limits {
  readonly seconds: number | undefined;
  readonly bytes: number | undefined;
}

export interface Finding {
  /** The limit that is passed, as it was given; all of them, where no lag can tell. */
  readonly limit: string;
  readonly words: string;
}

/**
 * Everything that is wrong. A secondary is measured by its own lag, a primary by those of the secondaries that
 * are attached. Whatever cannot be up to date passes every limit: a secondary without its source, a node with a
 * problem, a lag that is not known.
 */
export function findings(status: StatusAnswer, limits: Limits): Finding[] {
  const { problem, source, peers } = status;
  const limit = formatLimits(limits);
  const found: Finding[] = [];
  if (problem !== null) found.push({ limit, words: `the ${status.role} cannot go on: ${problem}` });
  if (source !== null && !source.connected) {
    const why = source.lastError === null ? "" : `: ${source.lastError.words}`;
    found.push({ limit, words: `not connected to ${source.address} since ${source.since}${why}` });
  }
  if (source !== null) found.push(...lagFindings(status.path, source.lag, limits));
  else for (const { address, lag } of peers) found.push(...lagFindings(address, lag, limits));
  return found;
}

/** Whether there is a limit to keep. */
export function isLimited({ seconds, bytes }: Limits): boolean {
  return seconds !== undefined || bytes !== undefined;
}

function* lagFindings(who: string, lag: LagAnswer, { seconds, bytes }: Limits): Generator<Finding> {
  if (seconds !== undefined && (lag.seconds === null || lag.seconds > seconds)) {
    yield {
      limit: formatLimits({ seconds, bytes: undefined }),
      words: `${who} is ${formatLag(lag.seconds, formatDuration)}`,
    };
  }
  if (bytes !== undefined && (lag.bytes === null || lag.bytes > bytes)) {
    yield {
      limit: formatLimits({ seconds: undefined, bytes }),
      words: `${who} is ${formatLag(lag.bytes, formatBytes)}`,
    };
  }
}

function formatLimits({ seconds, bytes }: Limits): string {
  return [
    ...(seconds === undefined ? [] : [`--max-lag ${seconds}`]),
    ...(bytes === undefined ? [] : [`--max-lag-bytes ${bytes}`]),
  ].join(" ");
}

/** Where nothing has been sent yet, or histories are being compared, there is no number. */
function formatLag(value: number | null, format: (value: number) => string): string {
  return value === null ? "behind, by what is not known" : `${format(value)} behind`;
}
