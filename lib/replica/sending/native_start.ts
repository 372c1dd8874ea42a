/**
 * Where a secondary goes on in a source's log: the two histories are compared, again where the source's file was only
 * behind or has been replaced, until the secondary can be served or must be refused.
 */
import type { Generation, LogView, TransactionLog } from "../../filestorage/mod.ts";
import type { Fit, Hello, RefusalCode } from "../../native/mod.ts";
import { formatTid } from "../../zodb/mod.ts";
import { compareLineage, describeLineage, fitOf, isCommonExact, type Question } from "../lineage/lineage.ts";
import type { Ports } from "../ports.ts";
import { isPrefixEnd } from "./raw_start.ts";
import type { RepeatedLog } from "../repeated_log.ts";
import { type Line, waitUntilReached } from "./service.ts";

export interface Start {
  /** Where the secondary's last transaction ends, in the source's file. */
  readonly position: number;
  /** Held for the caller. */
  readonly generation: Generation;
  /** What was compared. */
  readonly compared: LogView;
  /** The secondary's file is a beginning of ours, byte by byte. */
  readonly isPrefix: boolean;
  /** What the secondary's administrator should know. */
  readonly notice: string | undefined;
  readonly fit: Fit;
}

/** A secondary, and what is known of its source. */
export interface Beginning {
  readonly ports: Ports;
  readonly log: TransactionLog;
  readonly line: Line;
  readonly repeated: RepeatedLog;
  /** The source is a secondary itself, which may merely lag. */
  readonly chained: boolean;
  readonly ask: (question: Question) => Promise<unknown>;
  /** Lets other work run, now and then. */
  readonly pause: () => Promise<void>;
  readonly refuse: (code: RefusalCode, reason: string, commonTid?: bigint, exact?: boolean) => Promise<never>;
}

/** @throws ZrsError what `refuse` throws, and where the connection ends or the source's file cannot be read */
export async function findStart(
  { lastTid, digest, end }: Pick<Hello, "lastTid" | "digest" | "end">,
  { ports, log, line, repeated, chained, ask, pause, refuse }: Beginning,
): Promise<Start> {
  let lookedAgain = false;
  for (;;) {
    const view = log.view;
    const generation = view.generation.hold();
    let isHeld = true;
    try {
      const compared = await compareLineage(view, { lastTid, digest }, ask, pause);
      if (log.view.generation !== generation) continue; // another file, perhaps another verdict
      // What a chained node lacks at its end is not packed away there, however that looks: it has yet to come.
      const lags = chained && compared.kind === "beyond the pack" && lastTid > view.lastTid;
      const lineage = lags ? { kind: "ahead", common: compared.common } as const : compared;
      const words = describeLineage(lineage, lastTid, view.lastTid);
      if (lineage.kind === "shared" || lineage.kind === "beyond the pack") {
        isHeld = false; // by the caller
        const isShared = lineage.kind === "shared";
        if (!isShared) {
          // Going on behind what was never compared may mix two databases.
          const level = lineage.kind === "beyond the pack" && lineage.common === undefined
            ? "error"
            : "warning";
          repeated.tell(level, line.peer, words, { tid: formatTid(lastTid) });
        }
        const { position } = lineage;
        const isPrefix = isShared && isPrefixEnd(view, position, end);
        const notice = isShared ? undefined : words;
        const fit = isPrefix ? "prefix" : fitOf(lineage, lastTid, view.end);
        return { position, generation, compared: view, isPrefix, notice, fit };
      }
      if (!lookedAgain) {
        lookedAgain = true;
        await line.lookAgain();
        continue;
      }
      if (lineage.kind === "ahead" && chained) {
        isHeld = false;
        generation.release(); // it may be long, and a pack put another file there meanwhile
        await waitUntilReached(lastTid, log, line, ports.log);
        continue;
      }
      await refuse(lineage.kind, words, lineage.common, isCommonExact(lineage, view.lastTid));
    } finally {
      if (isHeld) generation.release();
    }
  }
}
