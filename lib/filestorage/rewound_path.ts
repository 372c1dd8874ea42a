/** The files that hold what was rewound: `Data.fs.rewound-<first tid>`, with a number where that is taken. */
import type { Disk } from "../ports/mod.ts";
import { formatTid } from "../zodb/mod.ts";

/** The first free name for what is taken back from a transaction on. */
export function rewoundPath(disk: Disk, path: string, firstTid: bigint): string {
  const name = nameOf(path, firstTid);
  if (disk.status(name) === undefined) return name;
  let number = 1;
  while (disk.status(`${name}.${number}`) !== undefined) number++;
  return `${name}.${number}`;
}

/** Whether there is a file with what was, or was to be, taken back from a transaction on. */
export function isRewound(disk: Disk, path: string, firstTid: bigint): boolean {
  return disk.status(nameOf(path, firstTid)) !== undefined;
}

function nameOf(path: string, firstTid: bigint): string {
  return `${path}.rewound-${formatTid(firstTid)}`;
}
