/** Bringing one file up to date, once, in whatever way its source can be read. */
import type { Storage } from "../../filestorage/mod.ts";
import { CatchUp, type CatchUpOptions, type Demand } from "./catch_up.ts";
import { FarCatchUp } from "../far/far_catch_up.ts";
import { FarFileSource } from "../far/far_source.ts";
import type { Completeness } from "../receiving/intake.ts";
import type { Ports } from "../ports.ts";
import type { SyncSource } from "./sync_source.ts";

/** What a copy can be made of, once it has been reached. */
export type ReachedSource = SyncSource | FarFileSource;

export interface OneCatchUp {
  /** By which protocol it came. */
  readonly protocol: string;
  /** Transactions that have come and are durable, cancelled ones included. */
  readonly transactions: number;
  /** Whether the source had on its disk what it sent; false where nothing there could see to that. */
  readonly isDurableThere: boolean;
  /** As {@link CatchUp.run}. */
  run(signal: AbortSignal): Promise<Completeness>;
}

export function catchUpFrom(
  ports: Ports,
  source: ReachedSource,
  storage: Storage,
  options: CatchUpOptions,
  demand: Demand,
): OneCatchUp {
  return source instanceof FarFileSource
    ? new FarCatchUp(ports, source, storage, options, demand)
    : new CatchUp(ports, source, storage, options, demand);
}
