/** Measurements as a table for people, or as JSON. */
import { cpus } from "node:os";
import { type Measurement, type Unit, valueOf } from "./measurement.ts";

const DIGITS: Readonly<Record<Unit, number>> = { s: 2, ms: 2, kB: 1, MiB: 0, "MB/s": 0 };

const HEADINGS = ["", "median", "rounds", "", "compared", "aim", ""];

/** One case's measurements as lines of a table. @param judged whether to say which aims are met */
export function formatTable(measurements: readonly Measurement[], judged: boolean): string {
  const rows = [HEADINGS, ...measurements.map((each) => rowOf(each, judged))];
  const widths = HEADINGS.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd())
    .join("\n");
}

/** Everything, with what is needed to judge it. */
export function formatJson(measurements: readonly Measurement[]): string {
  const results = measurements.map((each) => ({ ...each, median: valueOf(each) }));
  return JSON.stringify({ machine: describeMachine(), measurements: results }, null, 2);
}

function rowOf(measurement: Measurement, judged: boolean): string[] {
  const { what, rounds, unit, detail, compared, aim } = measurement;
  const spread = rounds.length < 2 ? "" : `${format(Math.min(...rounds), unit)}…${
    format(
      Math.max(...rounds),
      unit,
    )
  }`;
  return [
    what,
    `${format(valueOf(measurement), unit)} ${unit}`,
    rounds.length < 2 ? "1" : `${rounds.length}: ${spread}`,
    detail ?? "",
    compared === undefined ? "" : `${formatRatio(compared.ratio)} ${compared.of}`,
    aim === undefined ? "" : `aim ${aim.words}`,
    aim === undefined || !judged ? "" : aim.met ? "met" : "MISSED",
  ];
}

function format(value: number, unit: Unit): string {
  return value.toFixed(DIGITS[unit]);
}

function formatRatio(ratio: number): string {
  return `${ratio.toFixed(ratio < 10 ? 2 : 1)}×`;
}

/** The machine, without names: figures are of this run only. */
export function describeMachine(): Readonly<Record<string, string | number>> {
  return {
    cores: navigator.hardwareConcurrency,
    processor: cpus()[0]?.model ?? "unknown",
    memoryGiB: Math.round(Deno.systemMemoryInfo().total / 2 ** 30),
    system: `${Deno.build.os} ${Deno.osRelease()}`,
    deno: Deno.version.deno,
  };
}
