/** What is said of a copy whose history is not its source's. */
import { DivergedError } from "../errors.ts";
import { listTransactions, type Storage, type TransactionEntry } from "../filestorage/mod.ts";
import { describeTid, NO_TID } from "../zodb/mod.ts";

export interface Divergence {
  /** As messages name it. */
  readonly source: string;
  /** What the comparison has found. */
  readonly words: string;
  /** The last transaction known to be common; undefined for none, `unknown` where nothing was told. */
  readonly common: bigint | undefined | "unknown";
  readonly cause?: unknown;
}

/** The failure, which also names the first transaction that only the copy has. */
export async function divergedError(storage: Storage, divergence: Divergence): Promise<DivergedError> {
  const { path, lastTid } = storage;
  const { source, words, common, cause } = divergence;
  const first = common === "unknown" ? undefined : await firstBehind(storage, common);
  const own = first === undefined ? "" : `; the first that only ${path} has is ${describeEntry(first)}`;
  return new DivergedError(
    `Cannot copy from ${source}: the histories differ, nothing was written. It says: ${words}${own}`,
    {
      path,
      tid: lastTid,
      cause,
      hint:
        "compare both by zrs log; zrs rewind takes back what the source lacks, or begin with an empty replica",
    },
  );
}

/** The transaction that follows the last common one. */
async function firstBehind(
  storage: Storage,
  common: bigint | undefined,
): Promise<TransactionEntry | undefined> {
  const since = (common ?? NO_TID) + 1n;
  for await (const entry of listTransactions(storage, { since })) return entry;
  return undefined;
}

/** A transaction with all that tells people which one it is. */
function describeEntry({ tid, user, description }: TransactionEntry): string {
  const decoder = new TextDecoder();
  const words = [user, description].map((bytes) => decoder.decode(bytes)).filter((text) => text !== "").join(
    ": ",
  );
  return words === "" ? describeTid(tid) : `${describeTid(tid)} ${JSON.stringify(words)}`;
}
