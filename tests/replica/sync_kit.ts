/** Bringing a copy up to date in a scene: from the original by a node's stream, or as a file. */
import {
  networkSource,
  openFileSource,
  type Ports,
  type SyncOptions,
  syncReplica,
  type SyncReport,
  type SyncSource,
} from "../../lib/replica/mod.ts";
import { CollectedLog } from "../kit/collected_log.ts";
import type { TransactionDescription } from "../kit/data_fs.ts";
import { COPY, HERE, ORIGINAL, type Scene } from "./scene.ts";

/** A moment in 2024, and those a little later. */
export const TID = 0x04c9_1f00_0000_0001n;

export interface Sync {
  readonly report: SyncReport | undefined;
  readonly failure: unknown;
  readonly log: CollectedLog;
}

/** A history of so many transactions that touch three objects over and over. */
export function history(
  count: number,
  { from = 0, name = "shared", status = " " }: { from?: number; name?: string; status?: " " | "p" } = {},
): TransactionDescription[] {
  return Array.from({ length: Math.max(0, count - from) }, (_, at) => ({
    tid: TID + BigInt(from + at),
    status,
    user: "jim",
    description: `${name} ${from + at}`,
    records: [{ oid: BigInt((from + at) % 3), data: `${name} ${from + at}` }],
  }));
}

export function portsOf(scene: Scene, log: CollectedLog): Ports {
  const { disk, network, clock, random } = scene;
  return { disk, network, clock, random, log };
}

/** One run, to its end. */
export async function syncFrom(
  scene: Scene,
  source: "file" | "node" | ((ports: Ports) => Promise<SyncSource>),
  options: Partial<SyncOptions> = {},
  signal: AbortSignal = new AbortController().signal,
): Promise<Sync> {
  const log = new CollectedLog();
  const ports = portsOf(scene, log);
  try {
    await using opened = source === "file"
      ? await openFileSource(ports, { path: ORIGINAL, blobs: "refuse" })
      : source === "node"
      ? networkSource(ports, HERE)
      : await source(ports);
    const all: SyncOptions = { path: COPY, blobs: "refuse", ...options };
    return { report: await syncReplica(ports, opened, all, signal), failure: undefined, log };
  } catch (failure) {
    return { report: undefined, failure, log };
  }
}
