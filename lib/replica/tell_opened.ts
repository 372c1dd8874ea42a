/** What an administrator is told when a replica's file has been opened. */
import type { OpenReport, Storage } from "../filestorage/mod.ts";
import type { Log } from "../ports/mod.ts";
import { describeTid, NO_TID } from "../zodb/mod.ts";

/** Logs in what state a replica's file was. */
export function tellOpened(log: Log, { path, report, lastTid }: Storage): void {
  tellCut(log, path, report);
  if (report.indexReason !== undefined && !report.created && lastTid !== NO_TID) {
    log.info(`${path}: scanned ${report.scanned} transactions: ${report.indexReason}`);
  }
  const what = report.created ? "Created" : "Opened";
  log.info(`${what} ${path}, ${lastTid === NO_TID ? "empty" : `last transaction ${describeTid(lastTid)}`}`);
}

/** Logs what was cut off at the file's end, if anything was. @param name what the file is called */
export function tellCut(log: Log, name: string, { cut }: OpenReport): void {
  if (cut === undefined) return;
  const saved = cut.savedTo === undefined ? "" : `; they are saved in ${cut.savedTo}`;
  log.warning(`${name}: cut ${cut.bytes} bytes that were no whole transaction${saved}`);
}
