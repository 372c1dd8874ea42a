/**
 * What a replica with a delay has received: its Data.fs as far as it goes, and then the pending segments beside it,
 * watched as one file. Restates what docs/filestorage_format.md says of segments. It watches the Data.fs by itself,
 * too: nothing may get there before it is due, and nothing may wait for long that is.
 */
import { timeOfTid } from "../../lib/zodb/mod.ts";
import { hex, type Report } from "./checkers.ts";
import { endOf, FileView, sameBytes } from "./file_view.ts";
import type { Inode } from "./inode.ts";
import type { SimulatedMachine } from "./machine.ts";
import { MAGIC } from "./source_format.ts";
import { Tracked, TrackedFile } from "./tracked_file.ts";

const SEGMENT = /\.pending\.([0-9a-f]{16})$/;
const HEADER = 28;
const NOTHING: Uint8Array = new Uint8Array(0);
const PAGE = 4096;

/** What was decided by the time of day is done so soon, also where the clock has been set back meanwhile. */
const DONE_MS = 5_000;
/** A clock that was set may be noticed so late, and then there is the work. */
const NOTICED_MS = 15_000;

/** The Data.fs as far as it goes, and what continues it. @param files by path */
export function joined(
  dataFs: FileView,
  data: Uint8Array,
  files: Iterable<[string, Uint8Array]>,
): Uint8Array {
  const segments = [...files].flatMap(([path, bytes]) => {
    const base = parseInt(SEGMENT.exec(path)?.[1] ?? "", 16);
    return isSegment(bytes, base) ? [{ base, end: base + bytes.length - HEADER, bytes }] : [];
  }).sort((a, b) => a.base - b.base);
  const parts: Uint8Array[] = [];
  let { end } = dataFs;
  for (const { base, end: segmentEnd, bytes } of segments) {
    if (base > end) break; // a gap: what lies behind it does not count
    if (segmentEnd <= end) continue;
    parts.push(bytes.subarray(HEADER + end - base));
    end = segmentEnd;
  }
  if (parts.length === 0 || data.length === 0) return data;
  const all = new Uint8Array(end);
  all.set(MAGIC); // which a new file need not have on the platter
  all.set(data.subarray(MAGIC.length, dataFs.end), MAGIC.length);
  let at = dataFs.end;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function isSegment(bytes: Uint8Array, base: number): boolean {
  if (Number.isNaN(base) || bytes.length < HEADER) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return view.getUint32(0) === 0x5a52_5350 && Number(view.getBigUint64(8)) === base;
}

export class ReceivedFile extends Tracked {
  /** The Data.fs. */
  readonly applied: TrackedFile;
  readonly #machine: SimulatedMachine;
  readonly #delayMs: number;
  readonly #report: Report;
  /** What has been found in the Data.fs before, or was put there by the operator. */
  readonly #known = new Set<bigint>();
  #live = NOTHING;
  #durable = NOTHING;

  constructor(machine: SimulatedMachine, dataFs: string, delayMs: number, report: Report) {
    super(machine.disk);
    this.#machine = machine;
    this.#delayMs = delayMs;
    this.#report = report;
    this.applied = new TrackedFile(machine.disk, dataFs);
    this.applied.onLive = (unchanged) => {
      this.#checkDue(unchanged);
      this.#look();
    };
    this.applied.onDurable = () => this.#look();
    const look = (path: string) => {
      if (SEGMENT.test(path)) this.#look();
    };
    machine.disk.observers.add({ changed: look, settled: look, renamed: look, crashed: () => this.#look() });
    this.#look();
  }

  override get exists(): boolean {
    return this.applied.exists;
  }

  override get existsDurably(): boolean {
    return this.applied.existsDurably;
  }

  /** The operator puts a file there. */
  placed(view: FileView): void {
    for (const { tid } of view.transactions) this.#known.add(tid);
  }

  /** In calm weather what is due is applied. */
  checkAtRest(): void {
    const { name, clock } = this.#machine;
    const late = this.live.transactions.find(({ tid }) =>
      !this.applied.live.has(tid) && timeOfTid(tid) + this.#delayMs + NOTICED_MS < clock.now()
    );
    if (late !== undefined) {
      this.#report("DelayChecker", `${name} has not applied ${hex(late.tid)}, long due`);
    }
  }

  /** How many transactions at the end of what has been received wait. */
  get waiting(): number {
    const { end } = this.applied.live;
    return this.live.transactions.filter((each) => endOf(each) > end).length;
  }

  #checkDue(unchanged: number): void {
    const { name, clock } = this.#machine;
    for (const { tid } of this.applied.live.transactions.slice(unchanged)) {
      if (this.#known.has(tid)) continue;
      this.#known.add(tid);
      const earlyMs = timeOfTid(tid) + this.#delayMs - clock.latest(DONE_MS);
      if (earlyMs > 0) {
        this.#report("DelayChecker", `${name} applies ${hex(tid)} ${earlyMs} ms before it is due`);
      }
    }
  }

  #look(): void {
    const { applied, disk: { names } } = this;
    const live = segmentsIn(names.entries(), (inode) => inode.cache.view());
    this.#seeLive(joined(applied.live, names.get(applied.path)?.cache.view() ?? NOTHING, live));
    const durable = segmentsIn(names.durableEntries(), (inode) => inode.durableView());
    this.#seeDurable(joined(applied.durable, names.durable(applied.path)?.durableView() ?? NOTHING, durable));
  }

  #seeLive(bytes: Uint8Array): void {
    const from = firstDifference(this.#live, bytes);
    if (from === undefined) return;
    this.#live = bytes.slice();
    this.onLive(this.updateLive(this.#live, from));
  }

  #seeDurable(bytes: Uint8Array): void {
    const from = firstDifference(this.#durable, bytes);
    if (from === undefined) return;
    this.#durable = bytes.slice();
    this.onDurable(this.updateDurable(this.#durable, from));
  }
}

function segmentsIn(
  entries: Iterable<[string, Inode]>,
  bytesOf: (inode: Inode) => Uint8Array,
): [string, Uint8Array][] {
  return [...entries].filter(([path]) => SEGMENT.test(path)).map(([path, inode]) => [path, bytesOf(inode)]);
}

/** About where two files begin to differ; undefined when they are the same. */
function firstDifference(a: Uint8Array, b: Uint8Array): number | undefined {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at += PAGE) {
    const end = Math.min(length, at + PAGE);
    if (!sameBytes(a.subarray(at, end), b.subarray(at, end))) return at;
  }
  return a.length === b.length ? undefined : length;
}
