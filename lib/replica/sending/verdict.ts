/**
 * Comparing a secondary's history with a log until the verdict stands, by either protocol: the source's file may be
 * behind what is on its disk, another one by the time that all is compared, or a replica that merely lags.
 */
import type { LogView, TransactionLog } from "../../filestorage/mod.ts";
import type { Ports } from "../ports.ts";
import { type Line, waitUntilReached } from "./service.ts";

export interface Compared<Found> {
  readonly found: Found;
  /** What was compared; its generation is held for the caller, whatever the verdict. */
  readonly view: LogView;
}

/**
 * @param tid the secondary's last
 * @param chained the log is itself a replica: a secondary ahead of it waits until it has caught up
 * @throws what `compare` throws, and why the connection has ended
 */
export async function compareUntilSettled<Found extends { readonly kind: string }>(
  tid: bigint,
  { ports, log, line, chained }: {
    readonly ports: Ports;
    readonly log: TransactionLog;
    readonly line: Line;
    readonly chained: boolean;
  },
  compare: (view: LogView) => Promise<Found>,
): Promise<Compared<Found>> {
  let lookedAgain = false;
  for (;;) {
    const { view } = log;
    const generation = view.generation.hold();
    let isHeld = true;
    try {
      const found = await compare(view);
      if (log.view.generation !== generation) continue; // another file, perhaps another verdict
      // What a chained node lacks at its end is not packed away there, however that looks: it has yet to come.
      const waits = chained && found.kind !== "forked" && tid > view.lastTid;
      const isGood = !waits && found.kind !== "ahead" && found.kind !== "forked";
      if (!isGood && !lookedAgain) {
        lookedAgain = true;
        await line.lookAgain();
        continue;
      }
      isHeld = false;
      if (!waits) return { found, view }; // held by the caller
      generation.release(); // it may be long, and a pack put another file there meanwhile
      await waitUntilReached(tid, log, line, ports.log);
    } finally {
      if (isHeld) generation.release();
    }
  }
}
