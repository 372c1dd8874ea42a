/** Opening a database for looking at it, also while it is in use. */

import { History } from "../filestorage/mod.ts";
import type { Host } from "../host/mod.ts";
import { sleep } from "../replica/mod.ts";

/** Commits take milliseconds, as a rule. */
const COMMIT_WAIT_MS = 50;

/** @throws as {@link History.open} */
export async function openHistory(host: Host, dataFs: string): Promise<History> {
  return await History.open(host.disk, dataFs, commitWait(host));
}

/** Waits as long as a commit under way may take. */
export function commitWait({ clock }: Host): () => Promise<void> {
  return () => sleep(clock, COMMIT_WAIT_MS);
}
