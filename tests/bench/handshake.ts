/**
 * The handshake of the native stream on a large file: from the moment a secondary's connection is accepted until the
 * source sends the first frame of a run, or refuses it.
 */
import { join } from "node:path";
import { FIRST_POSITION, TransactionReader, Window } from "../../lib/filestorage/mod.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { type Bench, type Case, roundsOf } from "./bench.ts";
import { type DataFile, removeCopy, type Shape } from "./data_files.ts";
import { startPrimary, startSecondary } from "./ends.ts";
import { warm } from "./file_end.ts";
import { atMost, type Measurement } from "./measurement.ts";
import { median } from "./statistics.ts";
import { Tap, type Watcher } from "./tap.ts";

const GIGABYTE: Shape = { name: "gigabyte", transactions: 110_000, records: 10, bytes: 900 };
const MOST_MS = 1_000;

type Ending = "run" | "refused";

/** A secondary, by what its file has of the source's. */
interface Standing {
  readonly name: string;
  readonly ending: Ending;
  /** Makes the secondary's file of a copy of the source's. */
  readonly prepare: (path: string, size: number) => void;
}

const STANDINGS: readonly Standing[] = [
  {
    name: "one transaction behind",
    ending: "run",
    prepare: (path, size) => cutAt(path, lastBefore(path, size)),
  },
  { name: "99 % behind", ending: "run", prepare: (path, size) => cutAt(path, firstAfter(path, size / 100)) },
  { name: "forked in the middle", ending: "refused", prepare: (path, size) => fork(path, size / 2) },
];

export const handshake: Case = {
  name: "handshake",
  about: "from a secondary's connection to the first frame of a run, or the refusal, on a file of 1 GB",
  async run(bench) {
    const file = await bench.files.get(GIGABYTE);
    const measurements: Measurement[] = [];
    for (const standing of STANDINGS) measurements.push(await measureStanding(bench, file, standing));
    return measurements;
  },
};

async function measureStanding(bench: Bench, file: DataFile, standing: Standing): Promise<Measurement> {
  const rounds: number[] = [];
  let asked = 0;
  for (let round = 0; round < roundsOf(bench.options, 3); round++) {
    const found = await measureRound(bench, file, standing);
    rounds.push(found.tookMs);
    asked = found.asked;
    bench.say(`handshake ${file.name}, ${standing.name}: ${found.tookMs.toFixed(1)} ms`);
  }
  return {
    case: "handshake",
    what: `${Math.round(file.size / 1e6)} MB, ${file.transactions} transactions: ${standing.name}`,
    rounds,
    unit: "ms",
    detail: `${standing.ending === "run" ? "until a run begins" : "until it is refused"}, ${asked} questions`,
    aim: atMost(MOST_MS, median(rounds), "within 1 s"),
  };
}

async function measureRound(
  bench: Bench,
  file: DataFile,
  { ending, prepare }: Standing,
): Promise<Outcome> {
  const { target: directory, options: { profile } } = bench;
  const path = join(directory, "copy.fs");
  await removeCopy(path);
  await Deno.copyFile(file.path, path);
  prepare(path, file.size);
  warm(path);
  warm(file.path);
  await using primary = await startPrimary("ours", { path: file.path, directory, profile });
  const stopwatch = new Stopwatch();
  using tap = new Tap(primary.address!, stopwatch);
  const start = { path, directory, profile, protocol: "native" } as const;
  await using secondary = await startSecondary("ours", tap.address, false, start);
  const found = await stopwatch.stopped;
  if (found.ending !== ending) throw new Error(`Cannot measure: expected ${ending}, found ${found.ending}`);
  await secondary.close();
  await primary.close();
  await removeCopy(path);
  return found;
}

interface Outcome {
  readonly tookMs: number;
  /** How many questions the source has asked. */
  readonly asked: number;
  readonly ending: Ending;
}

/** Stops at the first frame that ends a handshake. */
class Stopwatch implements Watcher {
  readonly #outcome = Promise.withResolvers<Outcome>();
  #startMs: number | undefined;
  #asked = 0;
  /** What has come from the source and is no whole frame yet; undefined once it has stopped. */
  #rest: Uint8Array | undefined = new Uint8Array(0);

  get stopped(): Promise<Outcome> {
    return this.#outcome.promise;
  }

  connected(): void {
    this.#startMs ??= performance.now();
  }

  passing(bytes: Uint8Array, fromSource: boolean): void {
    if (!fromSource || this.#rest === undefined) return;
    this.#rest = Uint8Array.from([...this.#rest, ...bytes]);
    const ending = this.#read();
    if (ending === undefined) return;
    this.#rest = undefined;
    this.#outcome.resolve({ tookMs: performance.now() - this.#startMs!, asked: this.#asked, ending });
  }

  #read(): Ending | undefined {
    let rest = this.#rest!;
    while (rest.length > 4) {
      const length = new DataView(rest.buffer, rest.byteOffset).getUint32(0);
      if ("DZT".includes(String.fromCharCode(rest[4]!))) return "run";
      if (rest.length < 4 + length) break;
      const { type } = JSON.parse(new TextDecoder().decode(rest.subarray(4, 4 + length)));
      if (type === "refused") return "refused";
      if (type === "ask") this.#asked++;
      rest = rest.subarray(4 + length);
    }
    this.#rest = rest;
    return undefined;
  }
}

function lastBefore(path: string, size: number): number {
  using file = systemHost().disk.openRead(path);
  return new TransactionReader(new Window(file, size)).startOf(size);
}

/** The end of the first transaction that ends at `position` or later. */
function firstAfter(path: string, position: number): number {
  using file = systemHost().disk.openRead(path);
  const reader = new TransactionReader(new Window(file, file.size()));
  let at = FIRST_POSITION;
  while (at < position && reader.read(at) === "whole") at = reader.end;
  return at;
}

function cutAt(path: string, end: number): void {
  Deno.truncateSync(path, end);
}

/** Changes the last byte of the last record of every transaction from `position` on. */
function fork(path: string, position: number): void {
  const { disk } = systemHost();
  using file = disk.openRead(path);
  using changed = Deno.openSync(path, { write: true });
  const size = file.size();
  const reader = new TransactionReader(new Window(file, size));
  const byte = new Uint8Array(1);
  for (let at = firstAfter(path, position); at < size && reader.read(at) === "whole"; at = reader.end) {
    file.readAt(byte, reader.recordsEnd - 1);
    byte[0]! ^= 1;
    changed.seekSync(reader.recordsEnd - 1, Deno.SeekMode.Start);
    changed.writeSync(byte);
  }
}
