/**
 * Two histories that differ, for whoever has to decide: the last transaction that both have, and the first different
 * one of either, as far as they can be read and asked.
 */
import { DivergedError, type Facts, RefusedError, ZrsError } from "../../errors.ts";
import { listTransactions, type Readable } from "../../filestorage/mod.ts";
import type { Secret } from "../../native/mod.ts";
import { formatTid, NO_TID, parseTid } from "../../zodb/mod.ts";
import { checkContentAnswer } from "../compare/compare_messages.ts";
import { ComparedSource } from "../compare/compare_query.ts";
import type { Ports } from "../ports.ts";
import { HistoryRefusedError } from "../lineage/refusal.ts";
import type { SyncSource } from "./sync_source.ts";
import { describeTransaction } from "../transaction_words.ts";
import { END_OF_TIME } from "./until.ts";

/** A transaction, as either end has it. */
export interface NamedTransaction {
  readonly tid: bigint;
  readonly user: Uint8Array;
  readonly description: Uint8Array;
}

/** Each undefined where there is none, or nobody can tell. */
export interface Divergence {
  /** The last transaction that both have; later ones may be common too, where packs have removed what would tell. */
  readonly common: NamedTransaction | undefined;
  /** What follows it in the copy, and in the source. */
  readonly here: NamedTransaction | undefined;
  readonly there: NamedTransaction | undefined;
}

export class HistoriesDifferError extends DivergedError {
  readonly divergence: Divergence;

  constructor(message: string, divergence: Divergence, facts: Facts) {
    super(message, facts);
    this.divergence = divergence;
  }
}

/**
 * The failure that a source's refusal is, with what both have of it.
 * @param refusal about the histories
 * @param copied how many transactions had come from the source by then
 * @throws CorruptError, DiskError about the copy; the signal's reason
 */
export async function divergenceOf(
  ports: Ports,
  source: SyncSource,
  copy: Readable,
  refusal: RefusedError,
  options: { readonly software: string; readonly secret?: Secret | undefined },
  signal: AbortSignal,
  copied = 0,
): Promise<HistoriesDifferError> {
  const divergence = refusal instanceof HistoryRefusedError
    ? await explore(ports, source, copy, refusal, options, signal)
    : { common: undefined, here: undefined, there: undefined };
  return describeDivergence(source, copy, copied, refusal.message, divergence, refusal);
}

/**
 * The failure that a comparison with a file there has found, where nobody can say what that has instead.
 * @param found the last transaction known to be common; undefined for none
 * @param copied as in {@link divergenceOf}
 * @throws CorruptError, DiskError about the copy
 */
export async function divergenceFound(
  source: Pick<SyncSource, "name">,
  copy: Readable,
  found: { readonly words: string; readonly common: bigint | undefined },
  copied = 0,
): Promise<HistoriesDifferError> {
  const [common, here] = await firstTwo(copy, found.common);
  return describeDivergence(source, copy, copied, found.words, { common, here, there: undefined });
}

function describeDivergence(
  source: Pick<SyncSource, "name">,
  { path, lastTid }: Readable,
  copied: number,
  words: string,
  divergence: Divergence,
  cause?: unknown,
): HistoriesDifferError {
  const { common, here, there } = divergence;
  const parts = [
    common === undefined ? "" : `; the last common one is ${describeTransaction(common)}`,
    here === undefined ? "" : `; then ${path} has ${describeTransaction(here)}`,
    there === undefined ? "" : `; then ${source.name} has ${describeTransaction(there)}`,
  ];
  return new HistoriesDifferError(
    `Cannot copy from ${source.name}: the histories differ, ${
      copied === 0 ? "nothing was written" : "what had come before that was noticed is kept"
    }. It says: ${words}` +
      parts.join(""),
    divergence,
    {
      path,
      tid: lastTid,
      cause,
      hint:
        "compare both by zrs log; zrs rewind takes back what the source lacks, or begin with an empty replica",
    },
  );
}

async function explore(
  ports: Ports,
  source: SyncSource,
  copy: Readable,
  { common, code }: HistoryRefusedError,
  options: { readonly software: string; readonly secret?: Secret | undefined },
  signal: AbortSignal,
): Promise<Divergence> {
  const [own, here] = await firstTwo(copy, common);
  // A source that is behind has nothing there.
  const there = code === "ahead" ? undefined : await askFirst(ports, source, common, options, signal);
  return { common: own, here, there };
}

/** The copy's transaction with this tid, and the one that follows. */
async function firstTwo(
  copy: Readable,
  tid: bigint | undefined,
): Promise<[NamedTransaction | undefined, NamedTransaction | undefined]> {
  let common: NamedTransaction | undefined;
  for await (const entry of listTransactions(copy, { since: tid ?? NO_TID })) {
    if (entry.tid !== tid) return [common, entry];
    common = entry;
  }
  return [common, undefined];
}

/** The source's first transaction that is later than a tid; undefined also where it does not answer. */
async function askFirst(
  ports: Ports,
  source: SyncSource,
  after: bigint | undefined,
  options: { readonly software: string; readonly secret?: Secret | undefined },
  signal: AbortSignal,
): Promise<NamedTransaction | undefined> {
  try {
    await using compared = await ComparedSource.over(ports, source, options, signal);
    const question = {
      kind: "content",
      after: after === undefined ? null : formatTid(after),
      through: formatTid(END_OF_TIME),
      records: false,
      skip: 0,
    } as const;
    const [first] = checkContentAnswer(await compared.ask(question), question).transactions;
    if (first === undefined) return undefined;
    const encoder = new TextEncoder();
    return {
      tid: parseTid(first.tid),
      user: encoder.encode(first.user),
      description: encoder.encode(first.description),
    };
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof ZrsError)) throw error;
    ports.log.debug(`${source.name} does not say what it has instead: ${error.message}`);
    return undefined;
  }
}
