/** Memory: what processes hold, and the most that they ever held, while they do what grows others. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { encodeGreeting } from "../../lib/zrs/mod.ts";
import { ZodbWriter } from "../kit/peers.ts";
import { freePort } from "../kit/process.ts";
import type { Bench, Case } from "./bench.ts";
import { BIG, type DataFile, removeCopy, type Shape, TEN_MILLION } from "./data_files.ts";
import { type End, startPrimary, startSecondary } from "./ends.ts";
import { lastTidsOf, waitUntilWritten } from "./file_end.ts";
import { pythonInterpreter } from "./latency_peers.ts";
import { type Aim, atMost, type Measurement } from "./measurement.ts";
import type { Maker } from "./options.ts";
import { memoryOf } from "./process_usage.ts";

const HUGE: Shape = { name: "huge", transactions: 1, records: 2_000, bytes: 1_000_000 };
const SLOW_SECONDARIES = 20;
const SETTLE_MS = 5_000;

const PYTHON = fileURLToPath(new URL("./python/open_storage.py", import.meta.url));

/** Tens of megabytes, beyond what an idle process takes. */
const BOUNDED_MIB = 100;
const BOUNDED = "tens of MB more than idle";

export const memory: Case = {
  name: "memory",
  about: "resident memory of processes",
  async run(bench) {
    const idle = await idleMemory(bench);
    return [
      ...describeIdle(idle),
      ...await measureObjects(bench),
      await measureSlow(bench, idle.primary),
      ...await measureCatchUp(bench, BIG, ["ours", "python"], idle),
      ...bench.options.huge ? await measureCatchUp(bench, HUGE, ["ours"], idle) : [],
    ];
  },
};

interface Idle {
  readonly primary: number;
  readonly secondary: number;
}

/** MiB of processes that have done nothing yet, with an empty file. */
async function idleMemory(bench: Bench): Promise<Idle> {
  const { target: directory } = bench;
  const [path, copy] = [join(directory, "source.fs"), join(directory, "copy.fs")];
  await Deno.writeTextFile(path, "FS30");
  await using primary = await startPrimary("ours", { path, directory, profile: undefined });
  const start = { path: copy, directory, profile: undefined };
  await using secondary = await startSecondary("ours", primary.address!, false, start);
  const found = { primary: memoryOf(primary.pid).resident, secondary: memoryOf(secondary.pid).resident };
  await secondary.close();
  await primary.close();
  await removeCopy(path);
  await removeCopy(copy);
  return found;
}

function describeIdle(idle: Idle): Measurement[] {
  return [
    measured("idle primary, empty file: ours", idle.primary),
    measured("idle secondary, empty file: ours", idle.secondary),
  ];
}

/** A secondary that has opened a file with its index; its primary is away. */
async function measureObjects(bench: Bench): Promise<Measurement[]> {
  const { target: directory } = bench;
  const file = await bench.files.get(TEN_MILLION);
  const path = join(directory, "copy.fs");
  await removeCopy(path);
  for (const suffix of ["", ".index"]) await Deno.copyFile(file.path + suffix, path + suffix);
  const start = { path, directory, profile: undefined };
  await using secondary = await startSecondary("ours", `127.0.0.1:${freePort()}`, false, start);
  await settle();
  const { resident, peak } = memoryOf(secondary.pid);
  await secondary.close();
  const python = await pythonMemory(path);
  await removeCopy(path);
  const what = `index of ${(file.transactions * file.records).toLocaleString("en")} objects loaded`;
  return [
    measured(`${what}: our secondary`, resident, {
      detail: `peak ${peak.toFixed(0)} MiB`,
      compared: { ratio: resident / python, of: "of Python" },
      aim: atMost(200e6 / 2 ** 20, resident, "< 200 MB"),
    }),
    measured(`${what}: Python, FileStorage alone`, python),
  ];
}

async function pythonMemory(path: string): Promise<number> {
  const command = new Deno.Command(pythonInterpreter(), { args: ["-B", PYTHON, path], stdin: "null" });
  return JSON.parse(new TextDecoder().decode((await command.output()).stdout)).residentMiB;
}

/** A primary whose secondaries ask for everything and take nothing, while the file grows. */
async function measureSlow(bench: Bench, idle: number): Promise<Measurement> {
  const { target: directory } = bench;
  const file = await bench.files.get(BIG);
  const path = join(directory, "source.fs");
  await removeCopy(path);
  for (const suffix of ["", ".index"]) await Deno.copyFile(file.path + suffix, path + suffix);
  await using writer = await ZodbWriter.start("zodb55", { path, fsync: true });
  await using primary = await startPrimary("ours", { path, directory, profile: undefined });
  using stack = new DisposableStack();
  const [hostname, port] = primary.address!.split(":") as [string, string];
  for (let i = 0; i < SLOW_SECONDARIES; i++) {
    const connection = stack.adopt(
      await Deno.connect({ hostname, port: Number(port) }),
      (each) => each.close(),
    );
    await connection.write(encodeGreeting("zrs2.1", 0n));
  }
  await writer.fill({ transactions: 200, records: 10, size: 15_000, firstOid: "0000000200000000" });
  await settle();
  const { peak } = memoryOf(primary.pid);
  stack.dispose();
  await primary.close();
  await writer.close();
  await removeCopy(path);
  return measured(
    `primary with ${SLOW_SECONDARIES} secondaries that take nothing: ours`,
    peak,
    bounded(peak, idle),
  );
}

/** Peaks of both ends after a catch-up. */
async function measureCatchUp(
  bench: Bench,
  shape: Shape,
  makers: readonly Maker[],
  idle: Idle,
): Promise<Measurement[]> {
  const file = await bench.files.get(shape);
  const measurements: Measurement[] = [];
  for (const maker of makers) {
    const peaks = await catchUpPeaks(bench, file, maker);
    const name = maker === "ours" ? "ours" : "zc.zrs";
    const what =
      `catch-up of ${Math.round(file.size / 1e6)} MB in ${file.transactions.toLocaleString("en")}` +
      ` transaction${file.transactions === 1 ? "" : "s"}, peak`;
    for (const end of ["primary", "secondary"] as const) {
      measurements.push(
        measured(
          `${what}: ${name}, ${end}`,
          peaks[end],
          maker === "ours" ? bounded(peaks[end], idle[end]) : {},
        ),
      );
    }
  }
  return measurements;
}

async function catchUpPeaks(bench: Bench, file: DataFile, maker: Maker): Promise<Idle> {
  const { target: directory } = bench;
  const copy = join(directory, "copy.fs");
  await removeCopy(copy);
  await using primary = await startPrimary(maker, { path: file.path, directory, profile: undefined });
  const start = { path: copy, directory, profile: undefined };
  await using secondary = await startSecondary(maker, primary.address!, false, start);
  await waitUntilWritten(copy, file.size, lastTidsOf(file.path).last);
  const found = { primary: memoryOf(primary.pid).peak, secondary: memoryOf(secondary.pid).peak };
  await closeAll([secondary, primary]);
  await removeCopy(copy);
  return found;
}

async function closeAll(ends: readonly End[]): Promise<void> {
  for (const end of ends) await end.close();
}

function bounded(peak: number, idle: number): { readonly detail: string; readonly aim: Aim } {
  const more = peak - idle;
  return { detail: `${more.toFixed(0)} MiB more than idle`, aim: atMost(BOUNDED_MIB, more, BOUNDED) };
}

function measured(what: string, mib: number, more: Partial<Measurement> = {}): Measurement {
  return { case: "memory", what, rounds: [mib], unit: "MiB", ...more };
}

/** Memory goes on growing for a moment after the work is done; what is left then is what is measured. */
async function settle(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
}
