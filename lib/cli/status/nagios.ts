/** A node's status as a monitoring plug-in of Nagios, and of what came after it, says it: one line and a code. */
import { UnavailableError } from "../../errors.ts";
import { withHint } from "../failure.ts";
import { formatDuration, oneLine } from "../quantities.ts";
import { originOf } from "../exit_codes.ts";
import type { StatusAnswer } from "./status_answer.ts";
import type { Finding, Limits } from "./status_findings.ts";

/** The exit codes that Nagios knows. */
export const NAGIOS = { ok: 0, critical: 2, unknown: 3 } as const;

export interface NagiosReport {
  /** Ends with a line feed. */
  readonly line: string;
  readonly code: typeof NAGIOS[keyof typeof NAGIOS];
}

export function nagiosReport(status: StatusAnswer, found: readonly Finding[], limits: Limits): NagiosReport {
  const words = found.length === 0
    ? summary(status)
    : found.map(({ limit, words }) => limit === "" ? words : `${words} (${limit})`).join("; ");
  const code = found.length === 0 ? NAGIOS.ok : NAGIOS.critical;
  return { line: `${formatState(code)} - ${plain(words)} | ${performance(status, limits)}\n`, code };
}

/** A node that is not there is what a monitor is to find; any other failure is one of the check itself. */
export function nagiosFailure(error: unknown): NagiosReport {
  const origin = originOf(error);
  const code = origin instanceof UnavailableError ? NAGIOS.critical : NAGIOS.unknown;
  const words = origin instanceof Error ? origin.message : String(origin);
  const hint = origin instanceof Error && "hint" in origin ? origin.hint : undefined;
  return { line: `${formatState(code)} - ${plain(withHint(words, hint as string | undefined))}\n`, code };
}

function formatState(code: NagiosReport["code"]): string {
  return `ZRS ${code === NAGIOS.ok ? "OK" : code === NAGIOS.critical ? "CRITICAL" : "UNKNOWN"}`;
}

function summary({ role, source, peers, lastTime, now }: StatusAnswer): string {
  const age = lastTime === null
    ? "no transaction yet"
    : `last transaction ${formatDuration(Math.max(0, (Date.parse(now) - Date.parse(lastTime)) / 1000))} ago`;
  if (source !== null) {
    const lag = source.lag.seconds === null ? "not known" : formatDuration(source.lag.seconds);
    const against = source.lag.against === "received" ? "behind what was received" : "behind";
    return `${role} of ${source.address}, ${lag} ${against}, ${age}`;
  }
  return `${role} with ${peers.length === 1 ? "1 secondary" : `${peers.length} secondaries`}, ${age}`;
}

/** `label=value[unit];warning;critical`, as graphs are made of; U for what is not known. */
function performance({ source, peers, bytes, lastTime, now }: StatusAnswer, limits: Limits): string {
  // Who is not connected may lag by anything.
  const own = source?.connected ? source.lag : { seconds: null, bytes: null };
  const lags = source === null ? peers.map(({ lag }) => lag) : [own];
  const values: [label: string, value: number | null, unit: string, limit?: number | undefined][] = [
    ["lag", greatest(lags.map(({ seconds }) => seconds)), "s", limits.seconds],
    ["lag_bytes", greatest(lags.map(({ bytes }) => bytes)), "B", limits.bytes],
    ["age", lastTime === null ? null : Math.max(0, (Date.parse(now) - Date.parse(lastTime)) / 1000), "s"],
    ["bytes", bytes, "B"],
    ["peers", peers.length, ""],
  ];
  return values.map(([label, value, unit, limit]) =>
    `${label}=${value === null ? "U" : `${value}${unit}`}${limit === undefined ? "" : `;;${limit}`}`
  ).join(" ");
}

function greatest(values: readonly (number | null)[]): number | null {
  return values.reduce((most, value) => most === null || value === null ? null : Math.max(most, value), 0);
}

/** A bar would begin the numbers, a line end a second line. */
function plain(text: string): string {
  return oneLine(text).replaceAll("|", "/");
}
