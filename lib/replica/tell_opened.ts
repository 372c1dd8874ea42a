/** What an administrator is told when a replica's file has been opened. */
import type { OpenReport, Storage } from "../filestorage/mod.ts";
import type { Log } from "../ports/mod.ts";
import { describeTid, NO_TID } from "../zodb/mod.ts";

/** Logs in what state a replica's file was. */
export function tellOpened(log: Log, storage: Storage): void {
  const report: OpenReport = storage.report;
  const { path, lastTid } = storage;
  if (report.cut !== undefined) {
    const saved = report.cut.savedTo === undefined ? "" : `; they are saved in ${report.cut.savedTo}`;
    log.warning(`${path}: cut ${report.cut.bytes} bytes that were no whole transaction${saved}`);
  }
  if (report.indexReason !== undefined && !report.created && lastTid !== NO_TID) {
    log.info(`${path}: scanned ${report.scanned} transactions: ${report.indexReason}`);
  }
  const what = report.created ? "Created" : "Opened";
  log.info(`${what} ${path}, ${lastTid === NO_TID ? "empty" : `last transaction ${describeTid(lastTid)}`}`);
}
