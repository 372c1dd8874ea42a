/** Cleaning up behind a failure. */
import { ZrsError } from "../errors.ts";
import type { Disk } from "../ports/mod.ts";

/** The failure that is being reported says more than one of cleaning up. */
export function removeIfPossible(disk: Disk, path: string): void {
  try {
    disk.remove(path);
  } catch (error) {
    if (!(error instanceof ZrsError)) throw error;
  }
}
