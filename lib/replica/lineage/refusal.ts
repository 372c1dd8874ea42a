/** A source's refusal by the native stream: what it says for programs, beside the words for people. */
import { RefusedError } from "../../errors.ts";
import type { Refused } from "../../native/mod.ts";
import { NO_TID } from "../../zodb/mod.ts";

/** The source has compared the histories, and they differ. */
export class HistoryRefusedError extends RefusedError {
  readonly code: "ahead" | "forked";
  /** The last transaction that both have; undefined where there is none, or none is known. */
  readonly common: bigint | undefined;
  /** False where later ones may be common too, for a pack has removed what would tell. */
  readonly isExact: boolean;

  constructor(code: "ahead" | "forked", { reason, commonTid, exact }: Refused) {
    super(reason);
    this.code = code;
    this.common = commonTid === NO_TID ? undefined : commonTid;
    this.isExact = exact === true;
  }
}

/** The failure that a refusal is. */
export function refusalOf(message: Refused): RefusedError {
  const { code, reason } = message;
  return code === "ahead" || code === "forked"
    ? new HistoryRefusedError(code, message)
    : new RefusedError(reason);
}

/** A refusal that says nothing of histories, for whoever only wanted to compare them. */
export function comparisonRefused(source: string, cause: RefusedError): RefusedError {
  return new RefusedError(`Cannot compare with ${source}: refused: ${cause.message}`, { cause });
}
