/**
 * Comparing the blobs of a copy with those of what it should be a copy of: for each record of a blob in the copy's
 * file, both must have the same content. What the other end has not is no fault of the copy's: a pack there takes
 * away blobs with their records. Memory is bounded.
 */
import { type BlobDirectory, type BlobKey, revisionName } from "../blobs/blob_directory.ts";
import { digestBlob, type FoundBlob } from "../blobs/blob_digest.ts";
import { BlobFinder, blobKeyOf } from "../blobs/blob_finder.ts";
import type { Difference, Whereabouts } from "./difference.ts";
import { type Readable, startOf } from "../history.ts";
import { forEachRecord } from "../raw_run.ts";
import { STATUS } from "../../zodb/mod.ts";
import { TransactionReader } from "../transaction.ts";
import { Window } from "../window.ts";

/** So many are asked for at once. */
export const MAX_BLOBS_ASKED = 64;

/** What was compared of blobs, besides the differences found. */
export interface BlobFacts {
  /** How many are the same at both ends. */
  readonly same: number;
  /** Of how many only the copy has a file that can be read; and of how many neither end. */
  readonly onlyHere: number;
  readonly neither: number;
}

/** Tells what the other end has of each blob, in the same order. */
export type AskBlobs = (keys: readonly BlobKey[]) => Promise<readonly FoundBlob[]>;

export interface BlobComparisonOptions {
  /** Only transactions with this tid or a later one. */
  readonly since?: bigint | undefined;
  /** Those that the copy is known to lack. */
  readonly marked?: readonly BlobKey[];
  /** Lets other work run. @throws to end the comparison */
  readonly pause: () => Promise<void>;
  /** Called now and then with how far the copy has been compared, in bytes of its file. */
  readonly progress?: ((position: number) => void) | undefined;
}

interface Place {
  readonly key: BlobKey;
  readonly where: Whereabouts;
}

export class BlobComparison {
  readonly #copy: Readable;
  readonly #directory: BlobDirectory;
  readonly #ask: AskBlobs;
  readonly #options: BlobComparisonOptions;
  readonly #marked: ReadonlySet<string>;
  readonly #facts = { same: 0, onlyHere: 0, neither: 0 };

  constructor(copy: Readable, directory: BlobDirectory, ask: AskBlobs, options: BlobComparisonOptions) {
    this.#copy = copy;
    this.#directory = directory;
    this.#ask = ask;
    this.#options = options;
    this.#marked = new Set((options.marked ?? []).map(revisionName));
  }

  get facts(): BlobFacts {
    return this.#facts;
  }

  /** @throws CorruptError where the copy's file cannot be read; DiskError; what `ask` and `pause` throw */
  async *differences(): AsyncGenerator<Difference> {
    const { file, end } = this.#copy;
    const reader = new TransactionReader(new Window(file, end));
    const finder = new BlobFinder(file);
    let places = new Map<string, Place>();
    for (
      let position = await startOf(this.#copy, this.#options.since);
      position < end;
      position = reader.end
    ) {
      const state = reader.read(position);
      if (state !== "whole") throw reader.notWhole(state);
      if (reader.status === STATUS.undone) continue;
      const found: BlobKey[] = [];
      await forEachRecord(reader, this.#options.pause, () => {
        if (!finder.isBlob(reader)) return;
        const key = blobKeyOf(reader);
        if (key.tid === reader.tid) found.push(key); // another tid is told as a difference of the records
      });
      if (found.length === 0) continue;
      const { tid, user, description } = reader.head();
      const where = {
        tid,
        user: user.slice(),
        description: description.slice(),
        here: position,
        there: undefined,
      };
      // As a source is asked: in the order of tids, then of oids, and for none twice.
      for (const key of found.sort(byOid)) {
        places.set(revisionName(key), { key, where });
        if (places.size < MAX_BLOBS_ASKED) continue;
        yield* this.#compare([...places.values()]);
        places = new Map();
      }
      this.#options.progress?.(position);
    }
    yield* this.#compare([...places.values()]);
  }

  async *#compare(places: readonly Place[]): AsyncGenerator<Difference> {
    if (places.length === 0) return;
    const asked = this.#ask(places.map(({ key }) => key));
    asked.catch(() => {}); // awaited below, where reading ours has not failed
    const ours: FoundBlob[] = [];
    for (const { key } of places) ours.push(await digestBlob(this.#directory, key, this.#options.pause));
    const theirs = await asked;
    for (const [at, place] of places.entries()) {
      const difference = this.#judge(place, ours[at]!, theirs[at]!);
      if (difference !== undefined) yield difference;
    }
  }

  #judge({ key, where }: Place, here: FoundBlob, there: FoundBlob): Difference | undefined {
    const facts = this.#facts;
    if (typeof there === "string") {
      if (typeof here === "string") facts.neither++;
      else facts.onlyHere++;
      return undefined;
    }
    if (typeof here !== "string" && here.bytes === there.bytes && here.digest.startsWith(there.digest)) {
      facts.same++;
      return undefined;
    }
    return {
      ...where,
      kind: "blob",
      oid: key.oid,
      blobHere: typeof here === "string" ? here : here.bytes,
      blobThere: there.bytes,
      marked: here === "missing" && this.#marked.has(revisionName(key)),
    };
  }
}

function byOid(a: BlobKey, b: BlobKey): number {
  return a.oid < b.oid ? -1 : a.oid > b.oid ? 1 : 0;
}
