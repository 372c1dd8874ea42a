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
import type { Line } from "./service.ts";
import { compareUntilSettled } from "./verdict.ts";

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
  const { found: lineage, view } = await compareUntilSettled(
    lastTid,
    { ports, log, line, chained },
    (present) => compareLineage(present, { lastTid, digest }, ask, pause),
  );
  const { generation } = view;
  let isHeld = true;
  try {
    const words = describeLineage(lineage, lastTid, view.lastTid);
    if (lineage.kind === "ahead" || lineage.kind === "forked") {
      return await refuse(lineage.kind, words, lineage.common, isCommonExact(lineage, view.lastTid));
    }
    const isShared = lineage.kind === "shared";
    if (!isShared) {
      // Going on behind what was never compared may mix two databases.
      const level = lineage.kind === "beyond the pack" && lineage.common === undefined ? "error" : "warning";
      repeated.tell(level, line.peer, words, { tid: formatTid(lastTid) });
    }
    const { position } = lineage;
    const isPrefix = isShared && isPrefixEnd(view, position, end);
    const notice = isShared ? undefined : words;
    const fit = isPrefix ? "prefix" : fitOf(lineage, lastTid, view.end);
    isHeld = false; // by the caller
    return { position, generation, compared: view, isPrefix, notice, fit };
  } finally {
    if (isHeld) generation.release();
  }
}
