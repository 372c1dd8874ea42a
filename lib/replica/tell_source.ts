/** What a secondary's log says of a source that does not send it what it wants. */
import { UnavailableError, type ZrsError } from "../errors.ts";
import { SecretError } from "../native/mod.ts";
import type { Log } from "../ports/mod.ts";
import { describeTid, formatTid } from "../zodb/mod.ts";
import { sentence } from "./feed.ts";
import { isDivergence } from "./histories.ts";
import { UnwantedError } from "./incoming.ts";

/** @param lastTid the replica's last transaction */
export function tellRefusal(log: Log, source: string, lastTid: bigint, failure: ZrsError): void {
  const message = sentence(failure);
  if (failure instanceof SecretError) return log.error(`${source}: ${message}`);
  log.error(
    isDivergence(message)
      ? `${source} refuses this replica: ${message}; nothing was changed. ` +
        `Compare the last transactions of both files (zrs log); zrs rewind takes back those that the source ` +
        `lacks, or begin anew with an empty replica`
      : `${source} cannot go on behind ${describeTid(lastTid)}: ${message}`,
    { tid: formatTid(lastTid) },
  );
}

/** @param count so many connections in a row have brought nothing */
export function tellFruitless(
  log: Log,
  source: string,
  lastTid: bigint,
  count: number,
  failure: ZrsError,
): void {
  const why = failure instanceof UnavailableError && !(failure instanceof UnwantedError)
    ? `It may not know that transaction (this replica is ahead or forked; its log may say TidTooHigh), or be ` +
      `unable to send the next one`
    : `What follows there cannot be taken`;
  log.error(
    `${source} has ended ${count} connections in a row without sending a transaction after ` +
      `${describeTid(lastTid)}. ${why}. Look into the log of the source`,
    { tid: formatTid(lastTid), count },
  );
}
