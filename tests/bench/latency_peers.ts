/** The Python processes that commit and observe with one clock. Times are nanoseconds of that clock. */
import { fileURLToPath } from "node:url";
import { findInterpreter } from "../kit/environments.ts";
import { Peer, startPeer } from "../kit/peer.ts";

const PROGRAMS = fileURLToPath(new URL("./python/", import.meta.url));

/** @throws Error when the environment has not been made */
export function pythonInterpreter(): string {
  const found = findInterpreter("zodb55");
  if (found === undefined) throw new Error("Cannot measure: the environment with zc.zrs is missing");
  return found;
}

export interface WriterReady {
  readonly tid: string;
  /** In bytes. */
  readonly size: number;
  readonly replicateTo: string | null;
}

/** A ZODB writer that says when it committed. */
export class LatencyWriter extends Peer<WriterReady> {
  /** @param replicateTo the address of a zc.zrs primary in the same process */
  static async start(path: string, replicateTo: string | undefined): Promise<LatencyWriter> {
    const options = { path, create: true, ...(replicateTo !== undefined && { replicateTo }) };
    return new LatencyWriter(await startPeer(pythonInterpreter(), `${PROGRAMS}latency_writer.py`, options));
  }

  /** @returns tid, when tpc_finish was called, and when it returned */
  async commit(
    options: { count: number; size: number; pauseMs: number },
  ): Promise<[string, number, number][]> {
    const { times } = await this.ask<{ times: [string, number, number][] }>("commit", options);
    return times;
  }

  async close(): Promise<void> {
    await this.askToClose();
  }
}

/** Sees transactions arrive. */
export class LatencyObserver extends Peer<Record<string, never>> {
  static async start(): Promise<LatencyObserver> {
    return new LatencyObserver(await startPeer(pythonInterpreter(), `${PROGRAMS}latency_observer.py`, {}));
  }

  /** When each of `count` transactions behind `position` became final in the file, by tid. */
  async watch(path: string, position: number, count: number): Promise<Map<string, number>> {
    return new Map((await this.ask<{ times: [string, number][] }>("watch", { path, position, count })).times);
  }

  /** When each of `count` transactions after `tid` came from the address, by tid. */
  async follow(address: string, tid: string, count: number): Promise<Map<string, number>> {
    return new Map((await this.ask<{ times: [string, number][] }>("follow", { address, tid, count })).times);
  }
}
