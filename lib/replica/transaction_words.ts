/** Transactions in words for people: which one it is, what its writer said of it, how many there are. */
import { describeTid } from "../zodb/mod.ts";

/** User and description; UTF-8 by custom, and others' words: they may hold anything. */
interface Words {
  readonly user: Uint8Array;
  readonly description: Uint8Array;
}

const MAX_CHARACTERS = 160;

/** ` "user: description"`, with escapes; empty where both are. */
export function describeWords({ user, description }: Words): string {
  const decoder = new TextDecoder();
  const words = [user, description].map((bytes) => decoder.decode(bytes)).filter((text) => text !== "")
    .join(": ");
  return words === "" ? "" : ` ${JSON.stringify(words.slice(0, MAX_CHARACTERS))}`;
}

/** Tid, time, user and description. */
export function describeTransaction(transaction: Words & { readonly tid: bigint }): string {
  return describeTid(transaction.tid) + describeWords(transaction);
}

/** "1 transaction", "2 transactions". */
export function countOf(transactions: number): string {
  return transactions === 1 ? "1 transaction" : `${transactions} transactions`;
}
