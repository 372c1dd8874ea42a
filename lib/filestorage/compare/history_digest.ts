/**
 * The digest of a stretch of history: SHA-256 over what its transactions say (content_feed.ts), oldest first, each
 * followed by its length in 8 bytes. Two stretches with the same digest have the same transactions, wherever they
 * lie; a pack changes it, for it removes transactions and records. Cancelled transactions do not count.
 *
 * The lengths stand behind, so that read from the end there is one way only to take it apart, and what comes needs
 * not be measured before it is digested. It is one digest and not a digest of digests, because to begin one for
 * each of many small transactions costs several times what digesting them does.
 */
import { createHash } from "node:crypto";
import { NO_TID, STATUS } from "../../zodb/mod.ts";
import { ContentFeed } from "./content_feed.ts";
import { TransactionReader } from "../transaction.ts";
import { type ByteSource, Window } from "../window.ts";

export interface HistoryDigest {
  /** 64 lower-case hexadecimal digits. */
  readonly digest: string;
  /** How many transactions it covers, the first and the last of them; NO_TID where there is none. */
  readonly transactions: number;
  readonly firstTid: bigint;
  readonly lastTid: bigint;
  /** Whether a pack has copied one of them. */
  readonly isPacked: boolean;
  /**
   * The first transaction from which on none has been packed, so that a pack can have removed none of those that
   * follow; NO_TID where there is none.
   */
  readonly unpackedSince: bigint;
  /** Where the stretch ends. */
  readonly end: number;
}

export interface Stretch {
  /** Where its first transaction begins. */
  readonly from: number;
  /** The last tid that belongs to it. */
  readonly through: bigint;
  /** It ends earlier where it would become longer, in bytes; but it has one transaction at least. */
  readonly maxBytes?: number;
}

/** @param pause lets other work run; it is told how far in the file the digest is. @throws CorruptError, DiskError; what `pause` throws */
export async function digestHistory(
  log: { readonly file: ByteSource; readonly end: number },
  { from, through, maxBytes = Infinity }: Stretch,
  pause: (position: number) => Promise<void>,
): Promise<HistoryDigest> {
  const reader = new TransactionReader(new Window(log.file, log.end));
  const feed = new ContentFeed(log.file);
  const hash = createHash("sha256");
  feed.direct(hash);
  let transactions = 0;
  let firstTid = NO_TID;
  let lastTid = NO_TID;
  let isPacked = false;
  let unpackedSince = NO_TID;
  let position = from;
  while (position < log.end && (transactions === 0 || lastTid < through)) {
    const state = reader.read(position);
    if (state !== "whole") throw reader.notWhole(state);
    if (reader.status !== STATUS.undone) {
      const { tid } = reader;
      if (tid > through || transactions > 0 && reader.end - from > maxBytes) break;
      const begin = feed.length;
      feed.putTid(reader);
      feed.putTexts(reader);
      feed.beginRecords(reader);
      while (!feed.run()) await pause(position);
      feed.putLength(feed.length - begin);
      if (reader.status === STATUS.packed) {
        isPacked = true;
        unpackedSince = NO_TID;
      } else if (unpackedSince === NO_TID) {
        unpackedSince = tid;
      }
      if (transactions++ === 0) firstTid = tid;
      lastTid = tid;
    }
    position = reader.end;
  }
  feed.flush();
  return {
    digest: hash.digest("hex"),
    transactions,
    firstTid,
    lastTid,
    isPacked,
    unpackedSince,
    end: position,
  };
}

/** Letters and digits that nobody takes for one another (Crockford's base 32). */
const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const SPOKEN_BITS = 80n;

/**
 * The first 80 bits of a digest as people read them to each other: four groups of four, as `7ZK0-94QD-1M3X-F8RT`. By
 * chance two histories have the same in one of 10^24 cases; against somebody who makes both it is no proof.
 */
export function spokenDigest(digest: string): string {
  const bits = BigInt(`0x${digest}`) >> (256n - SPOKEN_BITS);
  let text = "";
  for (let at = SPOKEN_BITS - 5n; at >= 0n; at -= 5n) {
    text += ALPHABET[Number((bits >> at) & 31n)];
    if (at % 20n === 0n && at > 0n) text += "-";
  }
  return text;
}
