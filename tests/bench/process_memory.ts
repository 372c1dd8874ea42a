/** What a process holds in memory, as Linux tells. */

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
