/** What commands that look at a Data.fs alone say of what has been received and waits beside it. */
import { ZrsError } from "../errors.ts";
import { pendingBytes } from "../filestorage/mod.ts";
import type { Host } from "../host/mod.ts";
import { formatBytes } from "./quantities.ts";

/**
 * Whoever asked for what has been applied has got it, whatever can be said of the rest.
 * @param end where the Data.fs ends
 * @param remark behind how much it is
 */
export function tellWaiting(host: Host, dataFs: string, end: number, remark: string): void {
  try {
    const waiting = pendingBytes(host.disk, dataFs, end);
    if (waiting > 0) host.err(`${formatBytes(waiting)} more wait to be applied; ${remark}\n`);
  } catch (error) {
    if (!(error instanceof ZrsError)) throw error;
    host.err(`Cannot tell whether more waits to be applied: ${error.message}\n`);
  }
}
