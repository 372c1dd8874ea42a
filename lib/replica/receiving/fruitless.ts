/** Why a source ends connection after connection without a transaction, as far as that can be known here. */
import { ProtocolError, UnavailableError, type ZrsError } from "../../errors.ts";
import { NO_TID } from "../../zodb/mod.ts";
import { sentence } from "../sending/feed.ts";
import { UnwantedError } from "./incoming.ts";
import { NoNativeError } from "./native_intake.ts";

/**
 * @param failure how the last of the connections ended
 * @param protocol what was spoken over it
 * @param lastTid what we go on behind
 * @returns a sentence without its end, for the log
 */
export function whyFruitless(failure: ZrsError, protocol: "native" | "zrs2", lastTid: bigint): string {
  const strange = failure instanceof NoNativeError ? failure.cause : failure;
  if (strange instanceof ProtocolError) return `What it sends cannot be taken: ${sentence(strange)}`;
  if (!(failure instanceof UnavailableError) || failure instanceof UnwantedError) {
    return "What follows there cannot be taken";
  }
  // By the native stream a source that refuses, or is in trouble, says so.
  if (protocol === "native") return "It has not said why";
  return lastTid === NO_TID
    ? "It may be unable to send the first one, or keep out whoever connects"
    : "It may not know that transaction (this replica is ahead or forked; its log may say TidTooHigh), or be " +
      "unable to send the next one";
}
