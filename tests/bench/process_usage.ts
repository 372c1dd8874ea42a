/** What a process holds in memory and has computed, as Linux tells. */

/** In MiB. */
export interface ProcessMemory {
  /** Resident now. */
  readonly resident: number;
  /** The most that was ever resident. */
  readonly peak: number;
}

/** @throws Error where there is no /proc */
export function memoryOf(pid: number): ProcessMemory {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  return { resident: readField(status, "VmRSS"), peak: readField(status, "VmHWM") };
}

function readField(status: string, name: string): number {
  const found = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status);
  if (found === null) throw new Error(`Cannot read ${name} of a process: /proc does not tell`);
  return Number(found[1]) / 1024;
}

/** Linux counts a process's time in hundredths of a second, whatever the kernel's own clock. */
const TICKS_PER_SECOND = 100;
/** The places of user and system time among the fields behind the command's name; then of all children that ended. */
const USER_TIME = 11;
const SYSTEM_TIME = 12;
const CHILDREN_USER_TIME = 13;
const CHILDREN_SYSTEM_TIME = 14;

/** Seconds of processor time that all its threads have used, in the program and in the kernel. */
export function cpuSecondsOf(pid: number): number {
  return sumOf(pid, USER_TIME, SYSTEM_TIME);
}

/** As {@link cpuSecondsOf}, of all processes that this one has started and that have ended. */
export function cpuSecondsOfChildren(): number {
  return sumOf(Deno.pid, CHILDREN_USER_TIME, CHILDREN_SYSTEM_TIME);
}

function sumOf(pid: number, ...places: readonly number[]): number {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return places.reduce((sum, place) => sum + Number(fields[place]), 0) / TICKS_PER_SECOND;
}

/** Nanoseconds of processor time by thread, of those that are there: for what takes little. */
export function threadTimesOf(pid: number): ReadonlyMap<string, number> {
  const times = new Map<string, number>();
  for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
    const schedstat = Deno.readTextFileSync(`/proc/${pid}/task/${name}/schedstat`);
    times.set(name, Number(schedstat.split(" ", 1)[0]));
  }
  return times;
}

/** Seconds between two such moments; threads that have ended meanwhile, for want of work, do not count. */
export function secondsBetween(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): number {
  let nanoseconds = 0;
  for (const [thread, time] of after) nanoseconds += time - (before.get(thread) ?? 0);
  return nanoseconds / 1e9;
}

/** Bytes that a process has read and written by system calls, from caches as well as from disks. */
export function transferredBy(pid: number): { readonly read: number; readonly written: number } {
  const io = Deno.readTextFileSync(`/proc/${pid}/io`);
  const amount = (name: string) => Number(new RegExp(`^${name}: (\\d+)$`, "m").exec(io)![1]);
  return { read: amount("rchar"), written: amount("wchar") };
}
